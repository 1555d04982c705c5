"""Functions run in child processes, so that a parser that dies, hangs or eats memory costs one task and not the job."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import psutil

from dataengine.core.errors import DataEngineError
from pipelines.scratch import Scratch

T = TypeVar("T")
R = TypeVar("R")

WATCH_S = 0.2
PARENT_S = 1.0


@dataclass(frozen=True)
class Died:
    """A task whose process did not come back: why, in words that a user understands.

    `part` is the part of its task that the process was at when it ended (see `turn_to`), None where it had named none. `stopped`: it was
    killed for going over a limit, rather than dying by itself.
    """

    reason: str
    part: int | None = None
    stopped: bool = False


@dataclass(frozen=True)
class Limits:
    """What a process may use: resident memory, and seconds for one part of its task (the whole task where it names no parts); None: no bound."""

    memory_bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class _NotBegun:
    """A process that ended before it began its task: why. The task is not to blame."""

    reason: str


class _Here:
    """Where this process stands, in memory that its parent sees: the part of its task (-1: none), when it turned to it (0: idle), whether it began."""

    state: Any = None


def turn_to(part: int) -> None:
    """Tell the parent process which part of its task this process is at from now on; its time is counted anew. Costs nothing outside a child."""
    if _Here.state is not None:
        _Here.state[0] = float(part)
        _Here.state[1] = time.monotonic()  # the same clock in all processes of a machine


def _serve(function: Callable[[Any], Any], pipe: Connection, state: Any, folder: str) -> None:
    """Run tasks from the pipe until it closes; an error travels back as itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent ends its children
    parent = os.getppid()
    threading.Thread(target=_leave_without, args=(parent,), name="parent", daemon=True).start()
    tempfile.tempdir = folder
    _Here.state = state
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        turn_to(-1)
        state[2] = 1.0
        try:
            answer: tuple[bool, Any] = (True, function(task))
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
            answer = (False, error)
        state[1] = 0.0
        try:
            pipe.send(answer)
        except (pickle.PicklingError, TypeError, AttributeError):
            pipe.send((False, RuntimeError(f"{type(answer[1]).__name__}: {answer[1]}")))
        except OSError:
            return  # the parent is gone


def _leave_without(parent: int) -> None:
    """End this process when its parent is gone, since nobody would use what it still writes."""
    while os.getppid() == parent:
        time.sleep(PARENT_S)
    os._exit(1)


class _Child(Generic[T]):
    """A process that runs one function on task after task; it has a folder for temporary files, which goes with it."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.state = context.RawArray("d", [-1.0, 0.0, 0.0])
        self.scratch = Scratch()
        self.process = context.Process(target=_serve, args=(function, theirs, self.state, str(self.scratch.folder)), daemon=True)
        self.process.start()
        theirs.close()
        self.task: int | None = None
        self.stopped: str | None = None

    def give(self, number: int, task: T) -> None:
        """Hand over a task; a process that is gone already is noticed when its answer is awaited."""
        self.task = number
        self.state[0], self.state[2] = -1.0, 0.0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(task)

    def watch(self, limits: Limits) -> None:
        """Kill the process if it is over a limit."""
        since = self.state[1]
        if self.stopped is not None or not since:
            return
        if limits.seconds is not None and time.monotonic() - since > limits.seconds:
            self.stopped = f"took longer than {limits.seconds:g} s"
        elif limits.memory_bytes is not None:
            with contextlib.suppress(psutil.Error):
                if psutil.Process(self.process.pid).memory_info().rss > limits.memory_bytes:
                    self.stopped = f"used more than {limits.memory_bytes >> 20} MiB of memory"
        if self.stopped is not None:
            self.process.kill()

    def answer(self) -> tuple[bool, Any] | Died | _NotBegun:
        """Wait for the answer to the task; where the process ends instead, it is cleared away."""
        try:
            done, value = self.pipe.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self.process.join(timeout=5)
            part = int(self.state[0])
            if not self.state[2]:
                self.end()
                return _NotBegun(_ending(self.process.exitcode))
            death = Died(self.stopped or _ending(self.process.exitcode), part if part >= 0 else None, self.stopped is not None)
            self.end()
            return death
        self.task = None
        return done, value

    def end(self) -> None:
        """Let an idle process go; kill one that is still at work."""
        self.pipe.close()
        if self.task is None:
            self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.scratch.remove()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process that read it died of {signal.Signals(-code).name}"
    return f"the process that read it ended with exit code {code}"


@contextlib.contextmanager
def _watching(children: Sequence[_Child[Any]], limits: Limits | None) -> Iterator[None]:
    """Watch children from a thread, so that limits hold also while this process is busy with something else."""
    if limits is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_S):
            for child in tuple(children):
                child.watch(limits)

    thread = threading.Thread(target=watch, name="watch-children", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def map_in_children(function: Callable[[T], R], tasks: Sequence[T], workers: int, limits: Limits | None = None) -> Iterator[tuple[int, R | Died]]:
    """Yield (task number, result) as tasks end; a task whose process died, or was stopped, yields Died, and its process is replaced.

    Raises:
        Exception: what `function` raised, if it raised.
        DataEngineError: processes end before they begin their task.
    """
    waiting = list(range(len(tasks)))
    children: list[_Child[T]] = []
    given_again: set[int] = set()
    try:
        with _watching(children, limits):
            while waiting or any(child.task is not None for child in children):
                idle = [child for child in children if child.task is None]
                while waiting and (idle or len(children) < workers):
                    if not idle:
                        children.append(_Child(function))
                        idle = [children[-1]]
                    number = waiting.pop(0)
                    idle.pop().give(number, tasks[number])
                busy = {child.pipe: child for child in children if child.task is not None}
                for ready in wait(list(busy)):
                    child = next(child for pipe, child in busy.items() if pipe is ready)
                    number = child.task if child.task is not None else -1
                    answer = child.answer()
                    if isinstance(answer, Died | _NotBegun):
                        children.remove(child)
                    if isinstance(answer, _NotBegun):
                        if number in given_again:
                            raise _cannot_start(answer)
                        given_again.add(number)
                        waiting.insert(0, number)
                        continue
                    if isinstance(answer, Died):
                        yield number, answer
                        continue
                    done, value = answer
                    if not done:
                        raise value
                    yield number, value
    finally:
        for child in children:
            child.end()


_KEPT: dict[Callable[[Any], Any], _Child[Any]] = {}


def in_kept_child(function: Callable[[T], R], task: T, limits: Limits | None = None) -> R | Died:
    """Run one task in a child of this process that is kept for the next task; Died where it does not come back."""
    child = _KEPT.pop(function, None)
    if child is not None and not child.process.is_alive():
        child.end()
        child = None
    child = child or _Child(function)
    answer = _ask(child, task, limits)
    if isinstance(answer, _NotBegun):
        child = _Child(function)
        answer = _ask(child, task, limits)
    if isinstance(answer, _NotBegun):
        raise _cannot_start(answer)
    if isinstance(answer, Died):
        return answer
    _KEPT[function] = child
    done, value = answer
    if not done:
        raise value
    result: R = value
    return result


def _ask(child: _Child[T], task: T, limits: Limits | None) -> tuple[bool, Any] | Died | _NotBegun:
    with _watching([child], limits):
        child.give(0, task)
        return child.answer()


def _cannot_start(ended: _NotBegun) -> DataEngineError:
    return DataEngineError(f"worker: expected a process that begins its task, found that it ended before ({ended.reason}); see what it said above")
