"""Baselines are asked the same as the models beside them: the change over the models' gap, from pictures that show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from dataengine.core.labelling import Needs, Watched
from dataengine.evaluate.baselines import BASELINES, Setting
from dataengine.evaluate.folds import Fold, Part, whole
from dataengine.labels.targets import targets_of
from tests.support.watched_square import watched_square

DELTA = "observation.state.delta"


class Squares:
    """Opens episodes of the square by the seed in their row, as a `Viewer` opens those of a store."""

    def view(self, part: Part, needs: Needs) -> Watched:
        return watched_square(part.row["seed"])

    measured = property(lambda self: lambda part: self.view(part, Needs()))

    def views(self, parts: Sequence[Part], needs: Needs) -> Iterator[Watched]:
        return (self.view(part, needs) for part in parts)


def part(seed: int) -> Part:
    return whole({"episode_id": f"{seed:032x}", "seed": seed, "steps": 40})


def setting(gap_s: float | None, gap_steps: tuple[int, ...], train: int = 8) -> Setting:
    fold = Fold("f", tuple(map(part, range(train))), tuple(map(part, range(100, 104))))
    targets = tuple(targets_of(watched_square(0), gap_s=gap_s))
    return Setting(Squares(), fold, targets, gap_steps=gap_steps, known=targets)  # type: ignore[arg-type]


def r2(asked: Setting, name: str, column: str) -> float:
    """Return the R² of what a baseline says of a column, of the worse of two numbers."""
    say = BASELINES[name](asked)
    target = next(target for target in asked.targets if target.labels.name == column)
    truth, told = [], []
    for one in asked.fold.test:
        values, valid = target.measured(watched_square(one.row["seed"]))
        said = say(one)[column]
        truth.append(values[valid & said.valid])
        told.append(said.values[valid & said.valid])
    y, p = np.concatenate(truth), np.concatenate(told)
    return float((1 - ((y - p) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)).min())


@pytest.mark.parametrize("gap_steps", [(0, 2), (0, 1, 2)])
def test_flow_learns_the_change_over_the_gap(gap_steps: tuple[int, ...]) -> None:
    # Commands are random: who is taught the change to the next step knows half of that over two steps.
    asked = setting(0.1, gap_steps)
    assert r2(asked, "flow_ridge", DELTA) > 0.9
    assert r2(asked, "null", DELTA) < 0.2


def test_the_last_change_is_one_that_has_ended() -> None:
    asked = setting(0.1, (0, 2))
    said = BASELINES["last"](asked)(part(100))
    command, delta = asked.targets
    values, _ = delta.measured(watched_square(100))
    assert said[DELTA].values[2:] == pytest.approx(values[:-2])
    assert (said[DELTA].values[0] == said[DELTA].values[1]).all()  # the mean of training
    assert said["action"].values[1:] == pytest.approx(command.measured(watched_square(100))[0][:-1])


def test_the_measured_motion_is_read_where_commands_alone_are_judged() -> None:
    both = setting(0.1, (0, 2))
    commands = replace(both, targets=both.targets[:1])
    assert r2(commands, "finite_difference", "action") > 0.9  # all but the walls
    assert r2(commands, "finite_difference", "action") == pytest.approx(r2(both, "finite_difference", "action"))
    assert BASELINES["finite_difference"](replace(commands, known=()))(part(100)) == {}
