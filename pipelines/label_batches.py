"""Batches that are cut across episodes, and answers that find their way back to their steps: every row carries the episode and the step it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array, require


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of n steps, arrays (n, ...), and of each row the number of its episode and its step, (n,) int64."""

    episode: Array
    step: Array
    inputs: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.step)

    def rows(self, chosen: Array) -> Batch:
        """Return some of the rows, (n,) bool or numbers."""
        return Batch(self.episode[chosen], self.step[chosen], {name: values[chosen] for name, values in self.inputs.items()})


class Cutter:
    """Fills batches of `size` rows with the inputs of one episode after the other, each row copied once at most."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._episode, self._step = np.empty(size, np.int64), np.empty(size, np.int64)
        self._inputs: dict[str, Array] = {}
        self._filled = 0

    @property
    def room(self) -> int:
        """Return how many rows the batch at hand still takes."""
        return self.size - self._filled

    def add(self, episode: int, steps: Array, inputs: Mapping[str, Array]) -> list[Batch]:
        """Take the inputs of some steps of an episode, no more than there is room for; return the batches that this completes.

        Inputs of another form than those before (other names, types or sizes) begin a batch of their own.
        """
        count = len(steps)
        require(0 < count <= self.room, f"batch: must be given 1 to {self.room} rows, got {count}")
        for name, values in inputs.items():
            require(len(values) == count, f"inputs {name!r}: must have a row for each of {count} steps, got {len(values)}")
        done = self.rest() if self._filled and not self._same_form(inputs) else []
        if count == self.size:
            return [*done, Batch(np.full(count, episode), np.asarray(steps, np.int64), dict(inputs))]
        if not self._filled:
            self._inputs = {name: np.empty((self.size, *values.shape[1:]), values.dtype) for name, values in inputs.items()}
        at = slice(self._filled, self._filled + count)
        self._episode[at], self._step[at] = episode, steps
        for name, values in inputs.items():
            self._inputs[name][at] = values
        self._filled += count
        return [*done, *(self.rest() if not self.room else ())]

    def rest(self) -> list[Batch]:
        """Return the batch at hand as far as it is filled, none where it is empty; the next begins anew."""
        filled, self._filled = self._filled, 0
        if not filled:
            return []
        batch = Batch(self._episode[:filled], self._step[:filled], {name: values[:filled] for name, values in self._inputs.items()})
        self._episode, self._step, self._inputs = np.empty(self.size, np.int64), np.empty(self.size, np.int64), {}
        return [batch]

    def _same_form(self, inputs: Mapping[str, Array]) -> bool:
        if set(inputs) != set(self._inputs):
            return False
        return all(values.dtype == self._inputs[name].dtype and values.shape[1:] == self._inputs[name].shape[1:] for name, values in inputs.items())


class Answers:
    """Answers for the T steps of one episode, each put at its step, in whatever order they come."""

    def __init__(self, steps: int) -> None:
        self._answered = np.zeros(steps, np.bool_)
        self._arrays: dict[str, Array] = {}

    @property
    def complete(self) -> bool:
        """Whether every step has its answer."""
        return bool(self._answered.all())

    def put(self, steps: Array, rows: Mapping[str, Array]) -> None:
        """Take the answers for some steps (n,), arrays (n, ...).

        Raises:
            ValueError: a step is answered twice or does not exist, or the answers are not rows of one form.
        """
        total = len(self._answered)
        require(not len(steps) or 0 <= int(steps.min()) <= int(steps.max()) < total, f"answers: must be for steps 0 to {total - 1}, got {steps.tolist()[:8]}")
        again = np.unique(steps[self._answered[steps]])
        require(
            not len(again) and len(np.unique(steps)) == len(steps), f"answers: must come once a step, came again for {again.tolist()[:8] or steps.tolist()[:8]}"
        )
        if not self._arrays:
            self._arrays = {name: np.zeros((total, *values.shape[1:]), values.dtype) for name, values in rows.items()}
        require(set(rows) == set(self._arrays), f"answers: must have the parts {sorted(self._arrays)}, got {sorted(rows)}")
        for name, values in rows.items():
            mine = self._arrays[name]
            require(
                len(values) == len(steps) and values.shape[1:] == mine.shape[1:] and values.dtype == mine.dtype,
                f"answers {name!r}: must be {len(steps)} rows of {mine.dtype} {mine.shape[1:]}, got {values.dtype} {values.shape}",
            )
            mine[steps] = values
        self._answered[steps] = True

    def arrays(self) -> dict[str, Array]:
        """Return the answers in the order of the steps, arrays (T, ...); raise ValueError where one is missing."""
        missing = np.flatnonzero(~self._answered)
        require(not len(missing), f"answers: must be there for each of {len(self._answered)} steps, missing for {len(missing)}, first {missing.tolist()[:4]}")
        return dict(self._arrays)
