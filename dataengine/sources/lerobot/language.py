"""Language columns: entries that hold for the whole episode stand in every row of the table, and become one item each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.sources.lerobot.cells import as_json

PERSISTENT = "language_persistent"
ONE_LIST = "one entry an item; the table has the whole list in each row of the episode"
MAX_TEXT_TASKS = 100
MAX_SECONDS = float(1 << 33)


@dataclass(frozen=True)
class Entries:
    """The entries of an episode's list as JSON, and their own times where each has one: {"timestamp": (N,) int64 ns}."""

    items: Sequence[bytes]
    times: Mapping[str, Array]


def entries_of(text: bytes) -> Entries | None:
    """Return the entries of a list that was written as JSON, None where it has none."""
    entries = json.loads(text) if text else []
    if not isinstance(entries, list) or not entries:
        return None
    seconds = [entry.get("timestamp") if isinstance(entry, dict) else None for entry in entries]
    known = [float(second) for second in seconds if isinstance(second, (int, float)) and abs(second) < MAX_SECONDS]
    times = {"timestamp": np.array([round(second * NS_PER_S) for second in known], dtype=np.int64)} if len(known) == len(entries) else {}
    return Entries([as_json(entry) for entry in entries], times)


class Held:
    """What is remembered from batch to batch of one episode: texts that are tasks, and language that is the same in all rows so far."""

    def __init__(self) -> None:
        self.texts: dict[str, None] = {}
        self.same: bytes | None = None
        self.rows = 0
        self._differs = False

    def hear(self, words: list[bytes]) -> None:
        """Note distinct texts."""
        if len(self.texts) < MAX_TEXT_TASKS:
            self.texts.update(dict.fromkeys(word.decode() for word in dict.fromkeys(words) if word.strip()))

    def keep(self, cells: list[bytes]) -> list[bytes] | None:
        """Take the next cells; return those that are now to be given on row by row: none while all have been the same."""
        before = self.rows
        self.rows += len(cells)
        if self._differs:
            return cells
        if self.same is None:
            self.same = cells[0]
        if all(cell == self.same for cell in cells):
            return None
        held, self.same, self._differs = self.same, None, True
        return [held] * before + cells
