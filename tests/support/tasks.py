"""What children are told to do in tests of the processes around a job: spawned processes import it from here."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from pipelines.children import turn_to


def square(number: int) -> tuple[int, int]:
    """Return a number's square, and the process that worked it out."""
    return number * number, os.getpid()


def square_or_die(number: int) -> int:
    """Return a number's square; 3 kills the process, 5 ends it with an exit code."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 5:
        os._exit(7)
    return number * number


def die_at(parts: tuple[int, int]) -> int:
    """Turn to one part after the other; die at one."""
    count, fatal = parts
    for part in range(count):
        turn_to(part)
        if part == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
    return count


def pause(parts: tuple[float, ...]) -> int:
    """Turn to one part after the other, each for so many seconds."""
    for part, seconds in enumerate(parts):
        turn_to(part)
        time.sleep(seconds)
    return len(parts)


def eat(mebibytes: int) -> int:
    """Fill memory, little by little, and hold it for a while."""
    held = []
    for _ in range(mebibytes):
        held.append(b"\x01" * (1 << 20))
        time.sleep(0.001)
    time.sleep(1.0)
    return len(held)


def fail(message: str) -> None:
    """Raise an error."""
    raise ValueError(message)


class Awkward(Exception):
    """An error that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("awkward")
        self.thing = lambda: 0


def fail_awkwardly(_: Any) -> None:
    """Raise an error that cannot travel between processes."""
    raise Awkward


def leave_a_file(kill: bool) -> str:
    """Write a temporary file and forget it; die where that is asked."""
    path = Path(tempfile.mkdtemp(prefix="forgotten-")) / "large"
    path.write_bytes(b"x" * 1000)
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    return str(path)


class Unreadable:
    """A task that ends the process that takes it out of its envelope."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def write_when_done(task: tuple[str, float]) -> None:
    """Say which process this is, work for a while, then write a file."""
    path, seconds = task
    Path(f"{path}.pid").write_text(str(os.getpid()))
    time.sleep(seconds)
    Path(path).write_text("done")
