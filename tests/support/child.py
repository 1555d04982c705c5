"""Run a function over broken files in child processes, and say for each what became of it.

    from tests.support.child import run_over, run_reader, tally
    from tests.support.mutate import mutants

    outcomes = run_over(partial(run_reader, "dataengine.sources.mcap.reader"), mutants(data, 200, seed=1), file_name="a.mcap")
    assert not [outcome for outcome in outcomes if outcome.status in ("hung", "memory", "error")], tally(outcomes)

Each mutant gets a folder of its own: `file_name` (may hold "/") with the mutant's bytes, and the files of `beside` (path -> bytes) as they are.
The function is called in a child with that folder's path; it must be picklable by reference (a module-level function of `tests.support`, or a
`functools.partial` of one; not a lambda, not a function of a test module). What it returns must be picklable.

`Outcome.status`:
    "ok"            the function returned; `result` is what (for `run_reader`: at least one episode landed, or nothing was wrong)
    "rejected"      BadRecording was raised, or a `Reading` (also as the first of a tuple) without any episode whose `rejected` is not empty; `detail` is the reason
    "unrecognised"  the reader claimed no file of the folder
    "died"          the child died (signal or exit code in `detail`): the job turns that into a rejection
    "hung"          no answer within `timeout_s`
    "memory"        resident memory grew by more than `memory_bytes` over what the child had at its start, or MemoryError
    "error"         any other exception (traceback in `detail`): always a fault of the reader

A child that died, hung or took too much memory is replaced by a fresh one. Children are forked from a server that has the modules
of `preload` imported, so a fresh one costs some ms.

`run_reader(module, folder)` reads everything that the reader finds below the folder as a job does and returns a `Reading`: for each episode the
digests of each stream's values and clocks, independent of how the reader cuts them into `Rows`. `array_digest`, `items_digest` give the
digest that a value read in another way must have. It also asserts what a reader promises: one dtype and row shape within a stream, a
column for each stream, clocks of the right length, an end to each episode.
"""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dataengine.core.episode import EpisodeInfo, Noticed, Rejected
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Opener, ReadOptions
from dataengine.core.stream import Buffer, Frames, Items, MediaFrames, Rows
from dataengine.sources.listing import list_source

GIB = 1 << 30


# --- one reading of a folder -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamDigest:
    """What a stream holds: kind of values ("array", "items", "frames", "media"), dtype, shape of one row, rows, digest, and each clock's digest."""

    kind: str
    dtype: str
    shape: tuple[int, ...]
    rows: int
    values: str
    clocks: Mapping[str, str]


@dataclass(frozen=True)
class EpisodeDigest:
    """One episode that landed: key, length in rows and content of each stream, and the facts of its `EpisodeInfo`.

    `sources` is what each column's `extra["source"]` says: where in the recording the stream comes from.
    """

    key: str
    dataset: str
    streams: Mapping[str, StreamDigest]
    rate_hz: float | None
    clock: str
    tasks: tuple[str, ...]
    success: bool | None
    splits: tuple[str, ...]
    problems: tuple[str, ...]
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """What a reader made of a folder."""

    items: int = 0
    episodes: tuple[EpisodeDigest, ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    noticed: tuple[str, ...] = ()


def array_digest(*parts: np.ndarray[Any, Any]) -> str:
    """Return the digest of the rows of one or several arrays, one after the other."""
    running = hashlib.sha256()
    for part in parts:
        running.update(np.ascontiguousarray(part).tobytes())
    return running.hexdigest()[:32]


def _update_items(running: Any, items: Iterable[tuple[str, Buffer]]) -> None:
    for encoding, data in items:
        running.update(f"{encoding}:{len(data)}:".encode())
        running.update(data)


def items_digest(items: Iterable[tuple[str, Buffer]]) -> str:
    """Return the digest of encoded rows, each as (encoding, bytes)."""
    running = hashlib.sha256()
    _update_items(running, items)
    return running.hexdigest()[:32]


class _RunningStream:
    """Digests a stream part by part, and checks that its parts fit together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.facts: tuple[str, str, tuple[int, ...]] | None = None
        self.rows = 0
        self._values = hashlib.sha256()
        self._clocks: dict[str, Any] = {}

    def add(self, part: Rows) -> None:
        values = part.values
        if isinstance(values, Items):
            facts: tuple[str, str, tuple[int, ...]] = ("items", "bytes", ())
            _update_items(self._values, ((values.encoding(row), values.data[row]) for row in range(len(values))))
        elif isinstance(values, MediaFrames):
            facts = ("media", "video", ())
            self._values.update(f"{values.uri}:{values.track}:{values.first}:{values.count}:{values.digest}".encode())
            for column in sorted(values.index or {}):
                self._values.update(column.encode() + np.ascontiguousarray((values.index or {})[column]).tobytes())
        else:
            array = values.pixels if isinstance(values, Frames) else values
            assert array.dtype.kind in "biufc", f"stream {self.name!r}: values of dtype {array.dtype}"
            facts = ("frames" if isinstance(values, Frames) else "array", array.dtype.str, array.shape[1:])
            self._values.update(np.ascontiguousarray(array).tobytes())
        assert self.facts in (None, facts), f"stream {self.name!r}: parts of different kinds, {self.facts} and {facts}"
        assert not self.rows or set(part.clocks) == set(self._clocks), f"stream {self.name!r}: clocks {set(part.clocks)} after {set(self._clocks)}"
        self.facts = facts
        self.rows += len(values)
        for clock, stamps in part.clocks.items():
            assert (stamps.dtype.str, stamps.shape) == ("<i8", (len(values),)), f"stream {self.name!r}: clock {clock!r}"
            self._clocks.setdefault(clock, hashlib.sha256()).update(np.ascontiguousarray(stamps).tobytes())

    def digest(self) -> StreamDigest:
        kind, dtype, shape = self.facts or ("array", "", ())
        clocks = {name: running.hexdigest()[:32] for name, running in self._clocks.items()}
        return StreamDigest(kind, dtype, shape, self.rows, self._values.hexdigest()[:32], clocks)


def _episode(info: EpisodeInfo, streams: Mapping[str, _RunningStream]) -> EpisodeDigest:
    for name, stream in streams.items():
        assert name in info.columns, f"stream {name!r}: has rows and no column"
        assert not info.stream_clocks.get(name) or info.stream_clocks[name] in stream.digest().clocks or not stream.rows, (
            f"stream {name!r}: its clock is absent"
        )
    return EpisodeDigest(
        info.key,
        info.dataset,
        {name: stream.digest() for name, stream in streams.items()},
        info.rate_hz,
        info.clock,
        info.tasks,
        info.success,
        info.splits,
        tuple(problem.message for problem in info.problems),
        {name: str(info.columns[name].extra.get("source", "")) for name in streams},
    )


def run_reader(module: str, folder: str, options: ReadOptions | None = None, opener: Callable[[Opener], Opener] | None = None) -> Reading:
    """Read everything that the reader `module` finds below a folder, as the job does.

    A BadRecording that `read` raises rejects what was being read and ends that item; any other exception is the reader's fault and goes up.
    `opener` may wrap the access to the files (to read them as if they were remote, say).
    """
    reader = importlib.import_module(module)
    listing = list_source(folder)
    files: Opener = listing.opener if opener is None else opener(listing.opener)
    found = reader.find(listing)
    episodes: list[EpisodeDigest] = []
    rejected: list[tuple[str, str]] = []
    noticed: list[str] = [problem.message for problem in found.problems]
    for item in found.items:
        pending: dict[str, _RunningStream] = {}
        try:
            for event in reader.read(item, files, options or ReadOptions()):
                if isinstance(event, Rows):
                    pending.setdefault(event.stream, _RunningStream(event.stream)).add(event)
                elif isinstance(event, EpisodeInfo):
                    episodes.append(_episode(event, pending))
                    pending = {}
                elif isinstance(event, Rejected):
                    rejected.append((event.key, event.problem.message))
                    pending = {}
                else:
                    assert isinstance(event, Noticed), event
                    noticed.append(event.problem.message)
            assert not pending, f"rows of {sorted(pending)} without an end"
        except BadRecording as error:
            rejected.append(("", str(error)))
    return Reading(len(found.items), tuple(episodes), tuple(rejected), tuple(noticed))


# --- many folders, in children ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant; see the module's page for `status`. `peak_bytes` is the growth of resident memory."""

    name: str
    status: str
    detail: str = ""
    result: Any = None
    seconds: float = 0.0
    peak_bytes: int = 0


def tally(outcomes: Iterable[Outcome]) -> str:
    """Return counts by status, the extremes, and the first few names of each bad status, as one text for a test's message."""
    outcomes = list(outcomes)
    counts = Counter(outcome.status for outcome in outcomes)
    lines = [", ".join(f"{status} {count}" for status, count in counts.most_common())]
    if outcomes:
        slowest, largest = max(outcomes, key=lambda o: o.seconds), max(outcomes, key=lambda o: o.peak_bytes)
        lines.append(f"slowest {slowest.name} {slowest.seconds:.2f} s, largest {largest.name} {largest.peak_bytes / 2**20:.0f} MiB")
    for status in ("error", "hung", "memory", "died"):
        bad = [outcome for outcome in outcomes if outcome.status == status]
        lines.extend(f"{status} {outcome.name}: {outcome.detail if place == 0 else outcome.detail[-160:]}" for place, outcome in enumerate(bad[:5]))
    return "\n".join(lines)


def _status_bytes(pid: int | str, field_name: str) -> int:
    """Return a figure of /proc/<pid>/status in bytes (VmRSS, VmHWM, VmSize), 0 where it cannot be read."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field_name + ":"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0


def _reset_peak() -> None:
    """Set the peak of resident memory back to what is resident now, where the kernel can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _classify(result: Any) -> tuple[str, str]:
    if isinstance(result, tuple) and result:
        result = result[0]
    if isinstance(result, Reading) and not result.episodes:
        if result.rejected:
            return "rejected", result.rejected[0][1]
        if not result.items:
            return "unrecognised", ""
    return "ok", ""


def _serve(connection: Connection, function: Callable[[str], Any], memory_bytes: int, preload: Sequence[str]) -> None:
    """Answer each folder's path with (status, detail, result, seconds, peak) until the parent hangs up."""
    for module in preload:
        importlib.import_module(module)
    # Far above the watched limit, so that it is the watch that speaks, and the machine is safe where it is too slow.
    roof = _status_bytes("self", "VmSize") + 3 * memory_bytes + GIB
    resource.setrlimit(resource.RLIMIT_AS, (roof, roof))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            folder = connection.recv()
        except EOFError:
            return
        _reset_peak()
        before = _status_bytes("self", "VmRSS")
        started = time.monotonic()
        result: Any = None
        try:
            result = function(folder)
            status, detail = _classify(result)
        except BadRecording as error:
            status, detail = "rejected", str(error)
        except MemoryError as error:
            status, detail = "memory", f"MemoryError: {error}"
        except BaseException:  # noqa: BLE001 - the child reports whatever happens
            status, detail = "error", traceback.format_exc()[-3000:]
        seconds = time.monotonic() - started
        peak = max(_status_bytes("self", "VmHWM") - before, 0)
        if status in ("ok", "rejected", "unrecognised") and peak > memory_bytes:
            status, detail = "memory", f"grew by {peak} bytes"
        connection.send((status, detail, result, seconds, peak))


class _Child:
    """One child process and the mutant that it works on."""

    def __init__(self, context: Any, function: Callable[[str], Any], memory_bytes: int, preload: Sequence[str]) -> None:
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, function, memory_bytes, preload), daemon=True)
        self.process.start()
        theirs.close()
        self.name = ""
        self.folder = Path()
        self.since = 0.0
        self.resident = 0

    def begin(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.resident = 0
        self.connection.send(str(folder))
        self.since = time.monotonic()

    def grown(self) -> int:
        """Return how much resident memory has grown since the first look at this mutant."""
        try:
            resident = int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0
        self.resident = self.resident or resident
        return resident - self.resident

    def end(self) -> str:
        """Kill what is left of the process and return how it ended."""
        self.process.join(0.5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _place(parent: Path, index: int, data: bytes, file_name: str, beside: Mapping[str, bytes]) -> Path:
    folder = parent / f"{index:06d}"
    for path, content in {**beside, file_name: data}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@dataclass
class _Pool:
    """The children of one run, and what they have said so far."""

    start: Callable[[], _Child]
    memory_bytes: int
    timeout_s: float
    idle: list[_Child] = field(default_factory=list)
    busy: list[_Child] = field(default_factory=list)

    def collect(self) -> Iterator[Outcome]:
        """Wait a moment, then yield an outcome for each child that answered, died, hangs or grew too large."""
        ready = wait([child.connection for child in self.busy], timeout=0.05)
        for child in list(self.busy):
            spent = time.monotonic() - child.since
            if child.connection in ready:
                try:
                    status, detail, result, seconds, peak = child.connection.recv()
                except (EOFError, ConnectionError):
                    yield self._lost(child, "died", "", spent)
                    continue
                self.busy.remove(child)
                self.idle.append(child)
                shutil.rmtree(child.folder)
                yield Outcome(child.name, status, detail, result, seconds, peak)
            elif (grown := child.grown()) > self.memory_bytes:
                yield self._lost(child, "memory", f"grew by {grown} bytes and went on", spent, kill=True, peak=grown)
            elif spent > self.timeout_s:
                yield self._lost(child, "hung", f"no answer in {self.timeout_s} s", spent, kill=True)

    def _lost(self, child: _Child, status: str, detail: str, seconds: float, kill: bool = False, peak: int = 0) -> Outcome:
        if kill:
            child.process.kill()
        how = child.end()
        self.busy.remove(child)
        self.idle.append(self.start())
        shutil.rmtree(child.folder)
        return Outcome(child.name, status, detail or how, None, seconds, peak)

    def close(self) -> None:
        for child in (*self.idle, *self.busy):
            child.connection.close()
            child.process.join(2)
            if child.process.is_alive():
                child.process.kill()
                child.process.join()


def run_over(
    function: Callable[[str], Any],
    mutants: Iterable[tuple[str, bytes]],
    *,
    file_name: str,
    beside: Mapping[str, bytes] | None = None,
    workers: int = 2,
    memory_bytes: int = GIB,
    timeout_s: float = 20.0,
    preload: Sequence[str] = (),
) -> list[Outcome]:
    """Call `function(folder)` in children for each mutant; return one Outcome each, in the mutants' order.

    Args:
        function: picklable by reference; called with the path of the folder that holds the mutant.
        mutants: (name, bytes) pairs, taken one at a time.
        file_name: path of the mutant in its folder.
        beside: other files of the folder, by path, unchanged.
        workers: children at a time.
        memory_bytes: how much resident memory may grow while one mutant is read.
        timeout_s: seconds for one mutant.
        preload: modules that each child imports before its first mutant, so that importing them counts for nobody.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "psutil", "dataengine.sources.listing", "tests.support.child"])

    def start() -> _Child:
        return _Child(context, function, memory_bytes, preload)

    outcomes: dict[str, Outcome] = {}
    order: list[str] = []
    pool = _Pool(start, memory_bytes, timeout_s)
    with tempfile.TemporaryDirectory(prefix="mutants-") as parent:
        try:
            pool.idle = [start() for _ in range(workers)]
            for index, (name, data) in enumerate(mutants):
                order.append(name)
                while not pool.idle:
                    outcomes.update((outcome.name, outcome) for outcome in pool.collect())
                child = pool.idle.pop()
                pool.busy.append(child)
                child.begin(name, _place(Path(parent), index, data, file_name, beside or {}))
            while pool.busy:
                outcomes.update((outcome.name, outcome) for outcome in pool.collect())
        finally:
            pool.close()
    return [outcomes[name] for name in order]


# --- for testing the harness itself ----------------------------------------------------------------------------------------------


def misbehave(folder: str) -> int:
    """Do what the file `how` in the folder says: used by the harness's own tests."""
    how = (Path(folder) / "how").read_bytes()
    if how == b"abort":
        os.abort()
    if how == b"hang":
        time.sleep(3600)
    if how == b"grow":
        held = [np.ones(1 << 23) for _ in range(64)]
        time.sleep(3600)
        return len(held)
    if how == b"peak":
        return int(np.ones(1 << 25).sum()) * 0
    if how == b"reject":
        raise BadRecording("file", "sense", "nonsense")
    if how == b"raise":
        raise KeyError("boom")
    return len(how)
