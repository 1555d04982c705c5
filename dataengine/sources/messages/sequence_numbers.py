"""A number that a recorder keeps with each message, kept without storing what counts up by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.stream import Rows
from dataengine.sources.messages.stream_names import StreamNames
from dataengine.sources.messages.topics import Topic

_BLOCK = 1 << 16


class SequenceNumbers:
    """A number of each message of one topic, uint32: `what` says which ("sequence", "connection").

    As long as they stand still or count up by one they are two figures, `first` and `step`. From the first that breaks this on they are a stream, which goes row
    by row with the messages (also for those before the break) and has no clock. `restart` begins a run of its own: where a recording goes on in a next file,
    recorders count from anew.
    """

    def __init__(self, topic: Topic, names: StreamNames, what: str = "sequence") -> None:
        self._topic, self._names, self._what = topic, names, what
        self._runs: list[tuple[int, int, int | None]] = []  # row, first number, step
        self._count = 0
        self._stream: str | None = None
        self._new_run = True

    def restart(self) -> None:
        """Let the next message begin a run of its own."""
        self._new_run = True

    def rows(self, sequence: Array) -> Iterator[Rows]:
        """Yield what a batch of (n,) uint32 numbers adds to the stream."""
        if self._stream is None:
            if self._new_run:
                self._runs.append((self._count, int(sequence[0]), None))
                self._new_run = False
            start, first, step = self._runs[-1]
            last = self._count + len(sequence)
            if step is None and last - start > 1:
                step = 0 if int(sequence[1 if self._count == start else 0]) == first else 1
                self._runs[-1] = (start, first, step)
            if np.array_equal(sequence, _counted(first, step, self._count - start, last - start)):
                self._count = last
                return
            self._stream = self._names.take(f"{self._topic.messages}.{self._what}", f"{self._topic.messages} {self._what}")
            ends = [*(row for row, _, _ in self._runs[1:]), self._count]
            for (row, number, by), end in zip(self._runs, ends, strict=True):
                for at in range(row, end, _BLOCK):
                    yield Rows(self._stream, _counted(number, by, at - row, min(end, at + _BLOCK) - row))
        self._count += len(sequence)
        yield Rows(self._stream, sequence.astype(np.uint32))

    def facts(self) -> dict[str, Any]:
        """Return the numbers in short: {"first", "step"} (of each run where there are several), or the stream that holds them."""
        if self._stream is not None:
            return {"stream": self._stream}
        if len(self._runs) > 1:
            return {"runs": [{"row": row, "first": first, "step": step or 0} for row, first, step in self._runs]}
        _, first, step = self._runs[0] if self._runs else (0, None, None)
        return {"first": first, "step": step or 0}

    def column(self) -> Column | None:
        """Return the stream's column, None where there is no stream."""
        if self._stream is None:
            return None
        return Column(self._stream, dtype="uint32", steps=False, extra={"topic": self._topic.topic, "rows_of": self._topic.messages})


def _counted(first: int, step: int | None, start: int, end: int) -> Array:
    return (first + np.arange(start, end, dtype=np.uint64) * (step or 0)).astype(np.uint32)
