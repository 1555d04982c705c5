"""Functions run in child processes, so that a parser that dies, hangs or eats memory costs one task and not the job."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import psutil

T = TypeVar("T")
R = TypeVar("R")

WATCH_S = 0.25


@dataclass(frozen=True)
class Died:
    """A task whose process did not come back: why, in words that a user understands."""

    reason: str


@dataclass(frozen=True)
class Limits:
    """What one task may cost; None: no bound."""

    memory_bytes: int | None = None
    seconds: float | None = None


def _serve(function: Callable[[Any], Any], pipe: Connection) -> None:
    """Run tasks from the pipe until it closes; an error travels back as itself."""
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[bool, Any] = (True, function(task))
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
            answer = (False, error)
        try:
            pipe.send(answer)
        except (pickle.PicklingError, TypeError, AttributeError):
            pipe.send((False, RuntimeError(f"{type(answer[1]).__name__}: {answer[1]}")))


class _Child(Generic[T]):
    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.task: int | None = None
        self.started = 0.0

    def give(self, number: int, task: T) -> None:
        self.task, self.started = number, time.monotonic()
        self.pipe.send(task)

    def overrun(self, limits: Limits) -> str | None:
        """Return why the running task must be stopped, None while it may go on."""
        if limits.seconds is not None and time.monotonic() - self.started > limits.seconds:
            return f"took longer than {limits.seconds:g} s"
        if limits.memory_bytes is not None:
            try:
                if psutil.Process(self.process.pid).memory_info().rss > limits.memory_bytes:
                    return f"used more than {limits.memory_bytes >> 20} MiB of memory"
            except psutil.NoSuchProcess:
                return None
        return None

    def end(self) -> None:
        """Let an idle process go; kill one that is still at work."""
        self.pipe.close()
        if self.task is None:
            self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


def _death(process: Any) -> str:
    process.join(timeout=5)
    code = process.exitcode
    if code is not None and code < 0:
        import signal

        return f"the process that read it died of {signal.Signals(-code).name}"
    return f"the process that read it ended with exit code {code}"


def map_in_children(function: Callable[[T], R], tasks: Sequence[T], workers: int, limits: Limits | None = None) -> Iterator[tuple[int, R | Died]]:
    """Yield (task number, result) as tasks end; a task whose process died yields Died, and its process is replaced.

    Raises:
        Exception: what `function` raised, if it raised.
    """
    bound = limits or Limits()
    waiting = list(range(len(tasks)))
    children: list[_Child[T]] = []
    try:
        while waiting or any(child.task is not None for child in children):
            idle = [child for child in children if child.task is None]
            while waiting and (idle or len(children) < workers):
                child = idle.pop() if idle else _Child(function)
                if child not in children:
                    children.append(child)
                number = waiting.pop(0)
                child.give(number, tasks[number])
            busy = {child.pipe: child for child in children if child.task is not None}
            for ready in wait(list(busy), timeout=WATCH_S if limits is not None else None):
                child = next(child for pipe, child in busy.items() if pipe is ready)
                number = child.task if child.task is not None else -1
                try:
                    done, value = child.pipe.recv()
                except (EOFError, ConnectionResetError):
                    children.remove(child)
                    reason = _death(child.process)
                    child.end()
                    yield number, Died(reason)
                    continue
                child.task = None
                if not done:
                    raise value
                yield number, value
            for child in [child for child in children if child.task is not None]:
                reason_or_none = child.overrun(bound)
                if reason_or_none is not None:
                    children.remove(child)
                    number = child.task if child.task is not None else -1
                    child.end()
                    yield number, Died(reason_or_none)
    finally:
        for child in children:
            child.end()


_KEPT: dict[Callable[[Any], Any], _Child[Any]] = {}


def in_kept_child(function: Callable[[T], R], task: T) -> R | Died:
    """Run one task in a child of this process that is kept for the next task; Died where it does not come back."""
    child = _KEPT.pop(function, None) or _Child(function)
    try:
        child.give(0, task)
        done, value = child.pipe.recv()
    except (EOFError, ConnectionResetError, BrokenPipeError):
        reason = _death(child.process)
        child.end()
        return Died(reason)
    child.task = None
    _KEPT[function] = child
    if not done:
        raise value
    result: R = value
    return result
