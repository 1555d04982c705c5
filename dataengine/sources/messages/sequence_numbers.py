"""Sequence numbers of a recorder, kept without storing what counts up by itself."""

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
    """The sequence number of each message of one topic, uint32.

    As long as they stand still or count up by one they are two figures, `first` and `step`. From the first that breaks this on they are a stream, which goes row
    by row with the messages (also for those before the break) and has no clock.
    """

    def __init__(self, topic: Topic, names: StreamNames) -> None:
        self._topic, self._names = topic, names
        self._first: int | None = None
        self._step: int | None = None
        self._count = 0
        self._stream: str | None = None

    def rows(self, sequence: Array) -> Iterator[Rows]:
        """Yield what a batch of (n,) uint32 numbers adds to the stream."""
        if self._stream is None:
            if self._first is None:
                self._first = int(sequence[0])
            last = self._count + len(sequence)
            if self._step is None and last > 1:
                self._step = 0 if int(sequence[1 if self._count == 0 else 0]) == self._first else 1
            if np.array_equal(sequence, self._expected(self._count, last)):
                self._count = last
                return
            self._stream = self._names.take(f"{self._topic.messages}.sequence", f"{self._topic.messages} sequence")
            for start in range(0, self._count, _BLOCK):
                yield Rows(self._stream, self._expected(start, min(self._count, start + _BLOCK)))
        self._count += len(sequence)
        yield Rows(self._stream, sequence.astype(np.uint32))

    def _expected(self, start: int, end: int) -> Array:
        return ((self._first or 0) + np.arange(start, end, dtype=np.uint64) * (self._step or 0)).astype(np.uint32)

    def facts(self) -> dict[str, Any]:
        """Return the numbers in short: {"first", "step"}, or the stream that holds them."""
        return {"first": self._first, "step": self._step or 0} if self._stream is None else {"stream": self._stream}

    def column(self) -> Column | None:
        """Return the stream's column, None where there is no stream."""
        if self._stream is None:
            return None
        return Column(self._stream, dtype="uint32", steps=False, extra={"topic": self._topic.topic, "rows_of": self._topic.messages})
