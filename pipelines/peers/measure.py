"""How a reader of training samples is measured: the same lines for us and for the peers, standard library only, so that any environment runs them.

A measurement is a process of its own. CPU time, bytes read and memory are those of the process and of all processes below it, from `/proc` (Linux).
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SAMPLE_EVERY_S = 0.1


def family() -> list[int]:
    """Return this process and every process below it."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as handle:
                    parents.setdefault(int(handle.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
            except (OSError, IndexError):
                continue  # it has ended since
    found = [os.getpid()]
    for pid in found:
        found += parents.get(pid, [])
    return found


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of those of its children that have ended."""
    with open(f"/proc/{pid}/stat") as handle:
        fields = handle.read().rsplit(")", 1)[1].split()
    return sum(int(value) for value in fields[11:15]) / TICKS_PER_S


def _read_bytes(pid: int) -> int:
    """Return the bytes that a process has asked the system to read, also those that came from the page cache; mapped files do not count."""
    with open(f"/proc/{pid}/io") as handle:
        return int(handle.readline().split()[1])


def _resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as handle:
        return int(handle.read().split()[1]) * PAGE_BYTES


def each(of: Callable[[int], float]) -> list[float]:
    """Return a figure of each process of the family that is alive."""
    found = []
    for pid in family():
        try:
            found.append(of(pid))
        except (OSError, IndexError, ValueError):
            continue
    return found


class PeakMemory:
    """Watches resident memory from a thread: of the family together, and of its largest process. Shared pages count in each process that touched them."""

    def __init__(self) -> None:
        self.together, self.largest = 0.0, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY_S):
            found = each(_resident_bytes)
            self.together, self.largest = max(self.together, sum(found)), max(self.largest, *found)

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()


def over_and_over(reader: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield (batch, False) for each batch, and (None, True) at the end of each epoch, without end; a batch is handed on before the next is asked for."""
    while True:
        empty = True
        for batch in reader:
            empty = False
            yield batch, False
        if empty:
            raise RuntimeError("the reader gave no batch")
        yield None, True


def measure(
    open_reader: Callable[[], Iterable[Any]],
    size_of: Callable[[Any], int],
    warmup: int,
    batches: int,
    seconds: float,
    whole_epochs: bool = False,
    counters: Callable[[], dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Open a reader and draw batches from it.

    Args:
        open_reader: opens it and returns something that can be iterated once an epoch.
        size_of: returns the samples in a batch.
        warmup: batches that are drawn before time is taken.
        batches: how many are timed at least.
        seconds: how long at least.
        whole_epochs: warm up for one epoch and time whole epochs, with all that lies between them: what a reader decoded ahead of use then counts where it
            is used. Epochs end where they end, also after more than `batches`.
        counters: the reader's own running sums, if it has any.

    Returns:
        `samples_s`, `cpu_ms_a_sample`, `bytes_a_sample`, `peak_mb`, `peak_mb_of_one`, `first_batch_s` (from the call that opens the reader), `samples`, and
        the differences of the counters over the timed part.
    """
    memory = PeakMemory()
    started = time.perf_counter()
    drawn = over_and_over(open_reader())
    next(drawn)
    first_batch_s = time.perf_counter() - started
    count, ended = 1, False
    while not ended if whole_epochs else count < warmup:
        _, ended = next(drawn)
        count += not ended
    sums = counters() if counters is not None else {}
    cpu_s, read, began = sum(each(_cpu_s)), sum(each(_read_bytes)), time.perf_counter()
    count, samples, ended = 0, 0, False
    while count < batches or time.perf_counter() - began < seconds or (whole_epochs and not ended):
        batch, ended = next(drawn)
        if not ended:
            count, samples = count + 1, samples + size_of(batch)
    wall_s = time.perf_counter() - began
    cpu_s, read = sum(each(_cpu_s)) - cpu_s, sum(each(_read_bytes)) - read
    memory.end()
    found = {
        "samples_s": samples / wall_s,
        "cpu_ms_a_sample": 1000 * cpu_s / samples,
        "bytes_a_sample": read / samples,
        "peak_mb": memory.together / 1e6,
        "peak_mb_of_one": memory.largest / 1e6,
        "first_batch_s": first_batch_s,
        "samples": samples,
    }
    return found | ({name: value - sums[name] for name, value in counters().items()} if counters is not None else {})


def asked() -> dict[str, Any]:
    """Return what the process was asked for: JSON in its one argument."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    return spec


def answer(found: dict[str, Any]) -> None:
    """Print the result as the last line."""
    print(json.dumps(found), flush=True)
