"""What is learned from and what is judged: parts of episodes, never the same episode on both sides unless it is cut in time and that is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.randomness import hash64, text_key
from dataengine.store.row import Row

SPLITS = ("datasets", "episodes", "each_episode", "halves")


@dataclass(frozen=True, eq=False)
class Part:
    """Steps [start, stop) of an episode, given its row in the catalog."""

    row: Row
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Return the episode's id, and which steps where it is not the whole."""
        whole = self.start == 0 and self.stop == self.row["steps"]
        return str(self.row["episode_id"]) if whole else f"{self.row['episode_id']}[{self.start}:{self.stop}]"


@dataclass(frozen=True, eq=False)
class Fold:
    """One division: what is learned from, and what is judged."""

    name: str
    train: tuple[Part, ...]
    test: tuple[Part, ...]


def whole(row: Row) -> Part:
    """Return all steps of an episode."""
    return Part(row, 0, int(row["steps"]))


def folds_of(split: str, rows: Sequence[Row], learning: Sequence[Row], folds: int = 5, seed: int = 0) -> list[Fold]:
    """Return the folds of a split.

    Args:
        split: "datasets": learn from `learning`, judge `rows`. "episodes": `rows` in so many folds by a hash of the episodes' ids, each judged by what was learned
            from the others. "each_episode": a fold an episode. "halves": each episode's first half judged by what was learned from the second halves, and the
            other way round; both sides show one scene, so that it says less.
        rows: episodes that are judged.
        learning: episodes that are learned from, for "datasets".
        folds: how many.
        seed: of the hash.

    Raises:
        UsageError: there is no such split, or there are too few episodes for it.
    """
    if split == "datasets":
        both = {row["episode_id"] for row in rows} & {row["episode_id"] for row in learning}
        if both:
            raise UsageError(f"split by datasets: must not learn from what is judged, but {len(both)} episodes are on both sides, such as {min(both)}")
        return [Fold("datasets", tuple(map(whole, learning)), tuple(map(whole, rows)))]
    if split == "halves":
        cut = [(Part(row, 0, row["steps"] // 2), Part(row, row["steps"] // 2, row["steps"])) for row in rows if row["steps"] >= 4]
        first, second = tuple(one for one, _ in cut), tuple(other for _, other in cut)
        return [Fold("first half judged", second, first), Fold("second half judged", first, second)]
    if split not in ("episodes", "each_episode"):
        raise UnknownName("split", split, SPLITS)
    if len(rows) < 2:
        raise UsageError(f"split by {split}: must have two episodes or more, got {len(rows)}; with one, say --split halves")
    ids = [str(row["episode_id"]) for row in rows]
    order = np.argsort(hash64(seed, text_key("fold"), np.array([text_key(one) for one in ids], np.uint64)), kind="stable")
    count = len(rows) if split == "each_episode" else min(folds, len(rows))
    number = np.empty(len(rows), np.int64)
    number[order] = np.arange(len(rows)) % count
    return [
        Fold(
            ids[int(np.flatnonzero(number == one)[0])] if split == "each_episode" else f"fold {one + 1} of {count}",
            tuple(whole(row) for row, place in zip(rows, number, strict=True) if place != one),
            tuple(whole(row) for row, place in zip(rows, number, strict=True) if place == one),
        )
        for one in range(count)
    ]
