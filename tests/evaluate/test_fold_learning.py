"""Windows cut from parts in memory: the rows that a loader would give, each sample once an epoch, and a model that learns from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.training import FieldSpec
from dataengine.evaluate.fold_learning import PartBatches, facts_of, learner_of, parts_held_out
from dataengine.evaluate.folds import Fold, Part, whole
from dataengine.evaluate.viewing import labels_of
from tests.support.watched_square import watched_square

FIELDS = {"camera:primary": FieldSpec(seconds=(-0.05, 0.0, 0.1)), "action": FieldSpec(steps=(0, 1)), "state": FieldSpec()}


def test_windows_are_those_around_the_step_and_what_lies_beyond_is_marked() -> None:
    parts = [watched_square(1, steps=5), watched_square(2, steps=7)]
    batches = iter(PartBatches(parts, FIELDS, 4, seed=3))
    for _ in range(6):
        batch = next(batches)
        for row in range(4):
            part, step = parts[int(batch["episode"][row])], int(batch["step"][row])
            assert batch["state"][row].numpy() == pytest.approx(part.columns["state"][step])
            for place, offset in enumerate((-1, 0, 2)):
                beyond = not 0 <= step + offset < part.steps
                assert bool(batch["camera:primary_is_pad"][row, place]) is beyond
                if not beyond:
                    assert (batch["camera:primary"][row, place].numpy() == part.pictures["camera:primary"][step + offset]).all()
            assert bool(batch["action_is_pad"][row, 1]) is (step == part.steps - 1)


def test_numbers_that_a_part_lacks_are_beyond_and_pictures_must_be_there() -> None:
    part = watched_square(1, steps=5)
    silent = replace(part, columns={"state": part.columns["state"]})
    batch = next(iter(PartBatches([silent], {"action": FieldSpec(steps=(0, 1)), "state": FieldSpec()}, 4, seed=3)))
    assert batch["action"].shape == (4, 2, 1)
    assert bool(batch["action_is_pad"].all())
    assert not bool(batch["state_is_pad"].any())
    with pytest.raises(UsageError, match="has no 'camera:wrist' for the model to learn from"):
        next(iter(PartBatches([silent], {"camera:wrist": FieldSpec(steps=(0,), size=(8, 8))}, 4, seed=3)))


def test_each_sample_comes_once_an_epoch_and_the_order_is_the_seeds() -> None:
    def order(seed: int) -> list[int]:
        batches = iter(PartBatches([watched_square(1, steps=6), watched_square(2, steps=6)], {"state": FieldSpec()}, 3, seed))
        return [int(one) for _ in range(8) for one in next(batches)["sample"]]

    first = order(1)
    assert sorted(first[:12]) == sorted(first[12:]) == list(range(12))
    assert first[:12] != first[12:]
    assert first == order(1)
    assert first != order(2)


def test_statistics_are_of_what_is_learned_from_alone() -> None:
    parts = [watched_square(1, steps=6), watched_square(2, steps=9)]
    (facts,) = facts_of(parts, {"action": FieldSpec(), "camera:primary": FieldSpec()}, "s@1", 0).datasets
    together = np.concatenate([part.columns["action"] for part in parts]).astype(float)
    assert facts.statistics["action"].array("mean") == pytest.approx(together.mean(0))
    assert facts.rate_hz == 20.0
    assert set(facts.columns) == {"action"}


def test_what_a_model_is_calibrated_on_is_not_what_it_learned_from() -> None:
    def spans(parts: list[Part]) -> list[tuple[int, int, int]]:
        return [(part.row["ordinal"], part.start, part.stop) for part in parts]

    few = [Part({"ordinal": number}, 10 * number, 10 * number + steps) for number, steps in enumerate((10, 23, 4))]
    learned, held = map(spans, parts_held_out(few))
    assert learned == [(0, 0, 8), (1, 10, 29), (2, 20, 24)]
    assert held == [(0, 8, 10), (1, 29, 33)]  # a fifth of four steps is none
    learned, held = map(spans, parts_held_out([Part({"ordinal": number}, 0, 9) for number in range(10)]))
    assert [number for number, _, _ in held] == [0, 5]
    assert [number for number, _, _ in learned] == [1, 2, 3, 4, 6, 7, 8, 9]


@dataclass
class Squares:
    """Opens episodes of the square by the seed in their row."""

    def views(self, parts: tuple[Part, ...], needs: Needs) -> list[Watched]:
        return [watched_square(part.row["seed"], steps=part.stop - part.start, rate_hz=5.0) for part in parts]


def test_a_model_learns_from_a_fold_in_steps_of_its_rate() -> None:
    rows = [{"episode_id": f"{seed:032x}", "seed": seed, "steps": 40, "rate_hz": 5.0} for seed in (1, 2)]
    settings = {"fit": {"steps": 2, "batch_size": 4}, "model": {"width": 16, "depth": 1, "heads": 2}}
    learn = learner_of("idm", settings, "s@1", 0, "cpu")
    labeller = learn(Fold("f", tuple(map(whole, rows)), ()), Squares(), ("camera:primary",))  # type: ignore[arg-type]
    assert labeller.needs.after_s == pytest.approx(0.8)  # four periods of 5 Hz, as 0.2 s are of 20 Hz
    found = labels_of(labeller, watched_square(3, rate_hz=5.0))
    assert found.columns["action"].shape == (40, 2)
    with pytest.raises(UnknownName):
        learner_of("value", {}, "s@1", 0, "cpu")
