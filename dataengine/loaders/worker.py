"""A worker of a loader: a process of its own that makes the batches of some groups of lanes, in order, into shared memory.

It is started as a fresh interpreter (`crew.py`), so that the program that uses the loader is neither forked nor imported again. It speaks with
the loader over one pipe, and ends when that closes.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.cached_objects import CacheOptions
from dataengine.core.errors import DataEngineError, UsageError
from dataengine.loaders.batch import ALIGN_BYTES, PAD, ArraySpec, batch_layout, block_bytes, carve
from dataengine.loaders.blocks import SharedBlock
from dataengine.loaders.lanes import Shuffle
from dataengine.loaders.opened import Component, Opened, Part
from dataengine.loaders.plan import BatchPlan, Order, Plan
from dataengine.loaders.sample_reader import OnDamage, SampleReader
from dataengine.loaders.schedule import Cursors, Layout, Schedule
from dataengine.loaders.windows import Window

LOOK_AHEAD = 4  # batches of a worker for which bytes of remote stores are fetched ahead

Transform = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Work:
    """What a worker needs to know for all of its life."""

    parts: tuple[Part, ...]
    components: tuple[Component, ...]
    windows: tuple[Window, ...]
    shuffle: Shuffle
    layout: Layout
    seed: int
    order: Order
    endless: bool
    rank: int
    transforms: tuple[Transform, ...] = ()
    cache: CacheOptions | None = None
    on_damage: OnDamage = "raise"

    def plan(self, opened: Opened | None = None) -> Plan:
        """Return the plan of the batches."""
        return Plan(opened or Opened(self.parts, self.cache), list(self.components), self.shuffle, self.layout, self.seed, self.order, self.endless)


@dataclass(frozen=True)
class Begin:
    """From where on a worker makes batches: cursors, batches made before them, the first batch that is wanted, and whose batches are its own."""

    cursors: Cursors
    made: int
    first: int
    turn: int
    workers: int
    run: int


@dataclass(frozen=True)
class Made:
    """A batch in shared memory: the block, the arrays in it, and what is no array."""

    run: int
    number: int
    block: int
    size: int
    specs: tuple[ArraySpec, ...]
    rest: dict[str, Any]
    counters: dict[str, int]
    damage: dict[str, int]


class BatchMaker:
    """Makes batches of a plan in this process."""

    def __init__(self, work: Work, opened: Opened | None = None) -> None:
        self.work = work
        self.plan = work.plan(opened)
        self.reader = SampleReader(self.plan.opened, work.windows, work.on_damage)
        self.specs = batch_layout(work.windows, work.layout.batch_size)
        self.size = block_bytes(self.specs)
        self._ahead: deque[BatchPlan] = deque()

    def begin(self) -> None:
        """Forget what was read ahead: what comes next is another order."""
        self.reader.forget()
        self._ahead.clear()

    def planned(self, schedule: Schedule, numbers: Iterator[int]) -> BatchPlan | None:
        """Return the plan of the next of this process's batches, None after the last; where a store is remote, fetching begins for those that follow it."""
        reach = LOOK_AHEAD if self.plan.opened.remote else 0
        while len(self._ahead) <= reach:
            number = next(numbers, None)
            if number is None:
                break
            self._ahead.append(self.plan.batch(schedule, self.work.rank, number))
            if reach:
                self.reader.look_ahead(self.plan, self._ahead[-1])
        return self._ahead.popleft() if self._ahead else None

    def make(self, that: BatchPlan, block: Any) -> dict[str, Any]:
        """Read a batch into a block of at least `size` bytes, and transform it."""
        arrays = carve(block, self.specs)
        texts = self.reader.read_plan(self.plan, that, arrays)
        batch: dict[str, Any] = {**arrays, **texts, "epoch": that.epoch}
        for transform in self.work.transforms:
            batch = transformed(transform, batch)
        found = {name: _as_array(value) for name, value in batch.items()}
        return found if len(that.samples) == self.work.layout.batch_size else _emptied(found, len(that.samples), self.work.layout.batch_size)


class TransformFailed(DataEngineError):
    """A transform raised something that is no error of this project."""


def transformed(transform: Transform, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a transform makes of a batch; raise TransformFailed, which says where it broke, also when it breaks in another process."""
    try:
        found = transform(batch)
    except DataEngineError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise TransformFailed(f"transform {transform!r}: {type(error).__name__}: {error} ({last.filename}:{last.lineno}, in {last.name})") from error
    if not isinstance(found, Mapping):
        raise UsageError(f"transform {transform!r}: must return the changed batch, a dict, got {type(found).__name__}")
    return dict(found)


def _emptied(batch: dict[str, Any], count: int, size: int) -> dict[str, Any]:
    """Blank the rows that only fill a batch up, whatever the transforms made of them."""
    for name, value in batch.items():
        if isinstance(value, np.ndarray) and value.ndim and len(value) == size and name != "sample":
            batch[name] = value if value.flags.writeable else value.copy()
            batch[name][count:] = name.endswith(PAD)
    return batch


def _as_array(value: Any) -> Any:
    """Return a tensor as an array of the same memory, everything else as it is: a transform may have used torch, whose tensors do not cross the pipe."""
    torch = sys.modules.get("torch")
    return value.detach().cpu().numpy() if torch is not None and isinstance(value, torch.Tensor) else value


def packed(batch: Mapping[str, Any], block: Array, grow: Callable[[int], Array]) -> tuple[int, tuple[ArraySpec, ...], dict[str, Any]]:
    """Return where the arrays of a batch lie in its block; those that transforms made elsewhere are copied behind what is there.

    Returns:
        The bytes that are in use, the arrays, and everything that is no array.
    """
    start = block.__array_interface__["data"][0]
    specs: list[ArraySpec] = []
    rest: dict[str, Any] = {}
    strangers: list[tuple[str, Array]] = []
    end = 0
    for name, value in batch.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
            rest[name] = value
            continue
        at = value.__array_interface__["data"][0] - start
        if at >= 0 and at + value.nbytes <= len(block) and value.flags.c_contiguous:
            specs.append(ArraySpec(name, value.shape, value.dtype.str, at))
            end = max(end, at + value.nbytes)
        else:
            strangers.append((name, value))
    end = len(block)  # what transforms left out still lies there
    places = []
    for name, value in strangers:
        end = -(-end // ALIGN_BYTES) * ALIGN_BYTES
        places.append((value, ArraySpec(name, value.shape, value.dtype.str, end)))
        end += value.nbytes
    if strangers:
        whole = grow(end)
        for value, spec in places:
            carve(whole, [spec])[spec.name][...] = value
    return end, (*specs, *(spec for _, spec in places)), rest


def serve(connection: Connection, work: Work, blocks: Sequence[SharedBlock]) -> None:
    """Make batches as long as there are free blocks, and listen in between."""
    maker = BatchMaker(work)
    free = deque(range(len(blocks)))
    begin: Begin | None = None
    that: BatchPlan | None = None
    numbers: Iterator[int] = iter(())
    schedule: Schedule | None = None
    while True:
        while that is None or not free or connection.poll():
            message = connection.recv()
            if isinstance(message, Begin):
                begin, schedule = message, maker.plan.begin(message.cursors, message.made)
                numbers = own_batches(schedule, work.rank, message)
                maker.begin()
                that = maker.planned(schedule, numbers)
            else:
                free.append(int(message))
        assert schedule is not None
        assert begin is not None
        block = free.popleft()
        try:
            view = blocks[block].view(maker.size)
            used, specs, rest = packed(maker.make(that, view), view, blocks[block].view)
            connection.send(Made(begin.run, that.number, block, used, specs, rest, maker.reader.counters().as_dict(), dict(maker.reader.damage)))
        except DataEngineError as error:
            connection.send(error)
            return
        that = maker.planned(schedule, numbers)


def own_batches(schedule: Schedule, rank: int, begin: Begin) -> Iterator[int]:
    """Yield the numbers of the batches that are a worker's own."""
    number = begin.first
    while schedule.steps is None or number < schedule.steps:
        if schedule.maker(rank, number, begin.workers) == begin.turn:
            yield number
        number += 1


def main() -> None:
    """Serve the loader that started this process: argument 1 is the descriptor of the pipe, the others those of the blocks."""
    descriptor, *blocks = (int(text) for text in sys.argv[1:])
    connection = Connection(descriptor)
    try:
        import cv2

        cv2.setNumThreads(1)
        work = pickle.loads(connection.recv_bytes())  # noqa: S301  (sent by the loader that started us, nothing that was read from data)
        serve(connection, work, [SharedBlock(block) for block in blocks])
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        os._exit(0)
