"""Folds: no episode is learned from and judged, each is judged once, and halves of one episode are named as such."""

from __future__ import annotations

from typing import Any

import pytest

from dataengine.core.errors import UnknownName, UsageError
from dataengine.evaluate.folds import folds_of


def rows(*steps: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"episode_id": f"{first + place:032x}", "steps": count} for place, count in enumerate(steps)]


def test_each_episode_is_judged_once_by_what_learned_from_the_others() -> None:
    seven = rows(*[10] * 7)
    made = folds_of("episodes", seven, [], folds=3, seed=1)
    assert sorted(len(fold.test) for fold in made) == [2, 2, 3]
    assert sorted(part.name for fold in made for part in fold.test) == sorted(row["episode_id"] for row in seven)
    for fold in made:
        assert not {part.name for part in fold.test} & {part.name for part in fold.train}
        assert len(fold.test) + len(fold.train) == 7
    again = folds_of("episodes", seven[::-1], [], folds=3, seed=1)
    assert [{part.name for part in fold.test} for fold in again] == [
        {part.name for part in fold.test} for fold in made
    ]  # whatever the order they are listed in
    other = folds_of("episodes", seven, [], folds=3, seed=2)
    assert [{part.name for part in fold.test} for fold in other] != [{part.name for part in fold.test} for fold in made]


def test_two_episodes_one_each_way() -> None:
    made = folds_of("each_episode", rows(5, 6), [])
    assert [(len(fold.train), len(fold.test)) for fold in made] == [(1, 1), (1, 1)]
    assert made[0].train[0].name == made[1].test[0].name


def test_halves_are_cut_in_time() -> None:
    first, second = folds_of("halves", rows(9, 3), [])  # three steps are too few to be cut
    assert [(part.start, part.stop) for part in first.test] == [(0, 4)]
    assert [(part.start, part.stop) for part in first.train] == [(4, 9)]
    assert second.test == first.train
    assert first.test[0].name.endswith("[0:4]")


def test_what_is_judged_must_not_be_learned_from() -> None:
    with pytest.raises(UsageError, match="1 episodes are on both sides"):
        folds_of("datasets", rows(5, 5), rows(5, 5, first=1))
    with pytest.raises(UsageError, match="two episodes or more"):
        folds_of("episodes", rows(5), [])
    with pytest.raises(UnknownName):
        folds_of("frames", rows(5, 5), [])
