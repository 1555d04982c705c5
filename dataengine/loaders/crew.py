"""The workers of a loader, from the loader's side: started, asked, listened to, and ended."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import dataengine
from dataengine.core.errors import DataEngineError, UsageError
from dataengine.loaders.batch import carve
from dataengine.loaders.blocks import SharedBlock, shared_file
from dataengine.loaders.worker import Begin, Made, Work

HELD = 2  # batches of a worker that a user may hold without slowing it down


class WorkerDied(DataEngineError):
    """A worker of a loader ended before its time."""


class _Worker:
    """One worker process and the blocks that it fills."""

    def __init__(self, work: bytes, prefetch: int) -> None:
        self.blocks = [SharedBlock(shared_file()) for _ in range(prefetch + HELD)]
        ours, theirs = Pipe(duplex=True)
        self.connection: Connection[Any, Any] = ours
        self.log = tempfile.TemporaryFile()
        descriptors = [theirs.fileno(), *(block.descriptor for block in self.blocks)]
        roots = [str(Path(dataengine.__file__).parents[1]), *sys.path]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(root for root in roots if root)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", "from dataengine.loaders.worker import main; main()", *map(str, descriptors)]
        self.process = subprocess.Popen(command, pass_fds=descriptors, env=environment, stdin=subprocess.DEVNULL, stderr=self.log)
        theirs.close()
        self.freed: deque[int] = deque()
        self.held = 0
        try:
            self.connection.send_bytes(work)
        except OSError:
            died = self.died()
            self.close()
            raise died from None

    def died(self) -> WorkerDied:
        """Return what to say of a worker that is gone."""
        code = self.process.wait()
        self.log.seek(0)
        said = self.log.read().decode("utf-8", "replace").strip().splitlines()
        why = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return WorkerDied(f"worker {self.process.pid} of the loader {why}: {said[-1] if said else 'it said nothing'}; load the loader's last state and go on")

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=0.2)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
        for block in self.blocks:
            block.close()


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.close()


class Crew:
    """The workers of a loader.

    Args:
        work: what they are told.
        count: how many there are.
        prefetch: batches that each makes ahead.
    """

    def __init__(self, work: Work, count: int, prefetch: int) -> None:
        try:
            if b"__main__" in pickle.dumps(work.transforms):  # which a worker, a program of its own, does not have
                raise AttributeError("it is of the program that runs, '__main__'")
            told = pickle.dumps(work)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(f"transforms: must be importable by a worker, got one that is not ({error}); define it in a module, or use workers=0") from None
        self._workers = [_Worker(told, prefetch) for _ in range(count)]
        self._run = 0
        self.close = weakref.finalize(self, _end, self._workers)

    def __len__(self) -> int:
        return len(self._workers)

    def begin(self, cursors: Any, made: int, first: int) -> None:
        """Let the workers make batches from a place on; what they made for an earlier place is dropped."""
        self._run += 1
        for turn, worker in enumerate(self._workers):
            self._tell(worker, Begin(cursors, made, first, turn, len(self._workers), self._run))

    @staticmethod
    def _tell(worker: _Worker, *messages: Any) -> None:
        """Send messages; one that is gone is noticed when it is listened to, after what it may have said before."""
        with contextlib.suppress(OSError):
            for message in messages:
                worker.connection.send(message)

    def take(self, turn: int, number: int) -> tuple[dict[str, Any], Made]:
        """Return a batch, which is the next that this worker makes, and what its worker says of it."""
        worker = self._workers[turn]
        freed = [worker.freed.popleft() for _ in range(len(worker.freed))]
        self._tell(worker, *freed)
        while True:
            try:
                message = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                raise worker.died() from None
            if isinstance(message, Exception):
                raise message
            if message.run == self._run:
                break
            self._tell(worker, message.block)
        if message.number != number:
            raise RuntimeError(f"loader: expected batch {number} of worker {turn}, got {message.number}")
        return self._batch(worker, message), message

    def _batch(self, worker: _Worker, made: Made) -> dict[str, Any]:
        view = worker.blocks[made.block].view(made.size)
        if worker.held >= HELD:  # the user keeps batches: give a copy, so that the worker does not run out of blocks
            arrays = carve(view.copy(), made.specs)
            worker.freed.append(made.block)
        else:
            arrays = carve(view, made.specs)
            worker.held += 1
            weakref.finalize(view, _free, worker, made.block).atexit = False
        return {**arrays, **made.rest}


def _free(worker: _Worker, block: int) -> None:
    worker.held -= 1
    worker.freed.append(block)
