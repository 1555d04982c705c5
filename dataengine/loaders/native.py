"""Samples of a stream on its own clock, for windows in seconds beside the steps: 200 Hz force over the last half second, say.

A window of step time t is the half-open interval (t + start, t + stop]: a sample at time t itself is in a window that stops at 0, one that lies exactly at its
beginning is not, windows that follow each other share no sample, and one of W seconds has rate x W of them. Only the chunks that an asked time needs are read,
so that memory follows the clip and not the episode.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

from dataengine.core.arrays import Array, require
from dataengine.core.errors import UsageError
from dataengine.core.objects import Objects
from dataengine.store.array_reader import ArrayReader
from dataengine.store.row import Row
from dataengine.store.stored_streams import array_key

NOT_IN_ORDER = "clock_not_monotonic"  # the flag of an episode one of whose clocks steps back
KEPT_CHUNKS = 4
STEPS_AT_ONCE = 128


class _Chunks:
    """Rows of an array by chunk, the last few of which are kept: neighbouring clips ask for the same ones."""

    def __init__(self, reader: ArrayReader) -> None:
        self.reader = reader
        self.rows = max(1, reader.chunk_rows)
        self._kept: OrderedDict[int, Array] = OrderedDict()

    def chunk(self, number: int) -> Array:
        """Return the rows of one chunk."""
        if number not in self._kept:
            start = number * self.rows
            self._kept[number] = self.reader.rows(start, min(start + self.rows, len(self.reader)))
            while len(self._kept) > KEPT_CHUNKS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def between(self, start: int, stop: int) -> Array:
        """Return rows [start, stop)."""
        found = np.empty((stop - start, *self.reader.shape[1:]), dtype=self.reader.dtype)
        for number in range(start // self.rows, -(-stop // self.rows) if stop > start else start // self.rows):
            first, last = max(start, number * self.rows), min(stop, (number + 1) * self.rows)
            found[first - start : last - start] = self.chunk(number)[first - number * self.rows : last - number * self.rows]
        return found

    def at(self, rows: Array) -> Array:
        """Return rows (n,) int64 in any order."""
        found = np.empty((len(rows), *self.reader.shape[1:]), dtype=self.reader.dtype)
        numbers = rows // self.rows
        for number in np.unique(numbers).tolist():
            here = numbers == number
            found[here] = self.chunk(number)[rows[here] - number * self.rows]
        return found


class NativeStream:
    """A numeric stream of one episode, read lazily.

    Rows whose clock steps back are taken in the order of time, equal times in recorded order, as alignment takes them; of such a stream all times are held.

    Args:
        objects: the store.
        row: the episode's row of the catalog.
        entry: the stream's row in the index of its shard.

    Raises:
        UsageError: the stream has no numbers, or no clock.
    """

    def __init__(self, objects: Objects, row: Row, entry: Row) -> None:
        where = f"stream {entry['stream']!r} of episode {row['episode_id']}"
        if entry["kind"] != "array":
            raise UsageError(f"{where}: must hold numbers for a window in seconds, and holds {entry['kind']}; ask for it by steps")
        if entry["clock"] is None:
            raise UsageError(f"{where}: must have a clock for a window in seconds, got none; ask for it by steps")
        key = array_key(row, entry)
        self.first, self.last = int(entry["row_start"]), int(entry["row_end"])
        self._times = _Chunks(ArrayReader(objects, f"{key}/timestamps_ns"))
        self._values = _Chunks(ArrayReader(objects, f"{key}/values"))
        self._edges: dict[int, tuple[int, int]] = {}
        self._order: tuple[Array, Array] | None = None
        if NOT_IN_ORDER in (row["flags"] or ()):
            self._put_in_order()

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the values."""
        found: np.dtype[Any] = self._values.reader.dtype
        return found

    @property
    def width(self) -> int:
        """Return how many numbers one sample has."""
        return int(np.prod(self._values.reader.shape[1:], dtype=np.int64))

    def window(self, t_ns: Array, start_ns: int, stop_ns: int, rows: int) -> tuple[Array, Array, Array]:
        """Return the samples with t + start < time <= t + stop for each of some step times; of more than `rows` the latest.

        Args:
            t_ns: (N,) int64, times of steps from the episode's start, in any order.
            start_ns: where the window begins, relative to the step; negative is before it.
            stop_ns: where it ends.
            rows: how many samples a window has room for.

        Returns:
            values: (N, rows, D) of the stream's dtype, a sample's numbers in C order, the latest sample last, zeros where padded in front.
            is_pad: (N, rows) bool.
            offset_ns: (N, rows) int64, each sample's time less the step's; 0 where padded.
        """
        require(t_ns.dtype == np.int64 and t_ns.ndim == 1, f"t_ns: must be (N,) int64, got {t_ns.shape} {t_ns.dtype}")
        require(start_ns < stop_ns, f"window: must start before it stops, got {start_ns} ns to {stop_ns} ns")
        require(rows > 0, f"window: must have room for a sample, got {rows} rows")
        values = np.zeros((len(t_ns), rows, self.width), dtype=self.dtype)
        is_pad = np.ones((len(t_ns), rows), dtype=np.bool_)
        offset_ns = np.zeros((len(t_ns), rows), dtype=np.int64)
        for at in _neighbours(t_ns, stop_ns - start_ns):
            self._fill(at, t_ns[at], start_ns, stop_ns, values, is_pad, offset_ns)
        return values, is_pad, offset_ns

    def _fill(self, at: Array, t_ns: Array, start_ns: int, stop_ns: int, values: Array, is_pad: Array, offset_ns: Array) -> None:
        """Fill in the windows at places `at`, whose times lie near each other."""
        rows = is_pad.shape[1]
        first, times = self._between(int(t_ns.min()) + start_ns, int(t_ns.max()) + stop_ns)
        if not len(times):
            return
        begin = np.searchsorted(times, t_ns + start_ns, side="right")
        end = np.searchsorted(times, t_ns + stop_ns, side="right")
        places = end[:, None] + np.arange(-rows, 0)  # (n, rows): the last of a window stands last
        there = places >= begin[:, None]
        if not there.any():
            return
        low, high = int(places[there].min()), int(places[there].max()) + 1
        samples = self._samples(first + low, first + high)
        into = np.broadcast_to(at[:, None], there.shape)[there], np.broadcast_to(np.arange(rows), there.shape)[there]
        values[into] = samples.reshape(high - low, -1)[places[there] - low]
        is_pad[at] = ~there
        offset_ns[into] = (times[np.where(there, places, 0)] - t_ns[:, None])[there]

    def _samples(self, start: int, stop: int) -> Array:
        """Return the values of places [start, stop) in the order of time."""
        if self._order is None:
            return self._values.between(self.first + start, self.first + stop)
        return self._values.at(self.first + self._order[1][start:stop])

    def _between(self, after_ns: int, until_ns: int) -> tuple[int, Array]:
        """Return which sample is the first with after < time <= until, in the order of time from 0, and the times of all of these."""
        if self._order is None:
            start, stop = (self._place(time_ns) for time_ns in (after_ns, until_ns))
            times = self._times.between(self.first + start, self.first + max(start, stop))
            if start <= stop and not bool((times[1:] < times[:-1]).any()):
                return start, times
            self._put_in_order()  # nobody said so: the episode landed without its clocks being looked at
        assert self._order is not None
        start, stop = (int(np.searchsorted(self._order[0], time_ns, side="right")) for time_ns in (after_ns, until_ns))
        return start, self._order[0][start:stop]

    def _put_in_order(self) -> None:
        times = self._times.between(self.first, self.last)
        order = np.argsort(times, kind="stable")
        self._order = times[order], order

    def _place(self, time_ns: int) -> int:
        """Return how many samples are at or before a time: by halves over the chunks' edges, then inside one chunk."""
        if not len(self):
            return 0
        low, high = self.first // self._times.rows, (self.last - 1) // self._times.rows
        while low < high:
            middle = (low + high) // 2
            if self._edge(middle)[1] <= time_ns:
                low = middle + 1
            else:
                high = middle
        start, times = self._own(low)
        return start - self.first + int(np.searchsorted(times, time_ns, side="right"))

    def _own(self, number: int) -> tuple[int, Array]:
        """Return the first row of the episode in a chunk of times, and the times that are the episode's."""
        start, stop = max(self.first, number * self._times.rows), min(self.last, (number + 1) * self._times.rows)
        return start, self._times.chunk(number)[start - number * self._times.rows : stop - number * self._times.rows]

    def _edge(self, number: int) -> tuple[int, int]:
        if number not in self._edges:
            _, times = self._own(number)
            self._edges[number] = int(times[0]), int(times[-1])
        return self._edges[number]


def _neighbours(t_ns: Array, length_ns: int) -> Iterator[Array]:
    """Yield the places of times in groups of few that lie near each other, so that what is read for a group is little more than what its windows hold."""
    order = np.argsort(t_ns, kind="stable")
    far = np.flatnonzero(np.diff(t_ns[order]) > 2 * length_ns) + 1
    for part in np.split(order, far):
        for start in range(0, len(part), STEPS_AT_ONCE):
            yield part[start : start + STEPS_AT_ONCE]
