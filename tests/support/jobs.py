"""Ingest jobs as tests run them: small sources of every format, the command line as a process of its own, and what a store holds in comparable form."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.samples.aloha import AlohaOptions, write_aloha
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.breakage import leaked_splits
from dataengine.samples.mcap import write_mcap
from dataengine.samples.rlds import RldsOptions, write_rlds
from dataengine.samples.robomimic import write_robomimic
from dataengine.samples.video import write_video
from pipelines.children import Died, Limits
from pipelines.runtime import Runtime
from tests.support.plain_reader import catalog_rows
from tests.support.shared import REPOSITORY

T = TypeVar("T")
R = TypeVar("R")

# What may differ between two jobs that bring the same recordings in: where a shard lies, which job it was, and when.
ADDRESSES = frozenset({"shard", "ordinal", "job", "job_commit", "created_ns"})
TINY = ArmConfig(height=32, width=32, max_steps=12)
FOUND, LANDED, LEAKED = 18, 17, 1


def tiny(index: int, seed: int = 0) -> ArmRecording:
    """Return a recording of 12 steps with pictures of 32 x 32."""
    return record(seed, index, TINY)


def write_sources(folder: Path) -> Path:
    """Write 18 recordings in four formats, one of which stands in two splits; all in 0.8 MB."""
    arms = [tiny(index) for index in range(16)]
    write_rlds(folder / "rlds", leaked_splits(arms[:6]), RldsOptions(name="kitchen", shards=2))
    write_aloha(folder / "aloha-towel", arms[6:10], AlohaOptions(compress=True))
    write_aloha(folder / "aloha-raw", arms[10:11])
    write_robomimic(folder / "robo" / "demos.hdf5", arms[11:13])
    for index in (13, 14):
        write_mcap(folder / "teleop" / f"{index}.mcap", [arms[index]])
    write_video(folder / "films", arms[15:16])
    return folder


def write_config(path: Path, **more: Any) -> Path:
    """Write a configuration with units of three recordings that are committed one by one."""
    import yaml

    path.write_text(yaml.safe_dump({"units": {"recordings": 3}, "commits": {"every_s": 0}} | more))
    return path


# -- the command line


@dataclass(frozen=True)
class Called:
    """What a call of the command line ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return what it printed as JSON: stdout must hold nothing else."""
        return json.loads(self.out)


def command(*words: object) -> list[str]:
    """Return the words of a call of `dataengine` with this Python; warnings are errors, but not on Ray, which gives some of its own."""
    on_ray = bool({"ingest", "materialize", "collect", "label"} & set(words)) and "--local" not in words
    strict = [] if on_ray else ["-W", "error"]
    return [sys.executable, *strict, "-m", "pipelines.cli", *map(str, words)]


def dataengine(*words: object, environment: Mapping[str, str] | None = None, timeout_s: float = 120.0) -> Called:
    """Call `dataengine` as a process of its own, as a user does."""
    done = subprocess.run(
        command(*words), cwd=REPOSITORY, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
    )
    return Called(done.returncode, done.stdout, done.stderr)


def start(*words: object) -> subprocess.Popen[str]:
    """Start `dataengine` in a process group of its own."""
    return subprocess.Popen(
        command(*words), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, stdin=subprocess.DEVNULL
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 120.0) -> Called:
    """Wait for a process that was started."""
    out, err = process.communicate(timeout=timeout_s)
    return Called(process.returncode, out, err)


def kill_group(process: subprocess.Popen[str], after_s: float) -> bool:
    """Send SIGKILL to the whole process group after a while; return whether it was still at work."""
    try:
        process.wait(timeout=after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    process.communicate()
    return False


def require_whole(report: Mapping[str, Any]) -> None:
    """Assert what holds for every job: found = landed + skipped + rejected."""
    assert report["found"] == report["landed"] + report["skipped"] + report["rejected"]


# -- what a store holds


@dataclass(frozen=True)
class Content:
    """What a version of a store holds, without addresses, jobs and times."""

    rows: tuple[str, ...]
    streams: Mapping[tuple[str, str, str], str]
    steps: Mapping[tuple[str, str], str]

    def differences(self, other: Content) -> list[str]:
        """Return what one has and the other has not, a few lines of it."""
        found = [f"only here: {row[:600]}" for row in self.rows if row not in other.rows][:4]
        found += [f"only there: {row[:600]}" for row in other.rows if row not in self.rows][:4]
        for name in ("streams", "steps"):
            mine, theirs = getattr(self, name), getattr(other, name)
            found += [f"{name}: {key}: {mine.get(key)} against {theirs.get(key)}" for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)][:4]
        if len(self.rows) != len(other.rows):
            found.append(f"{len(self.rows)} rows against {len(other.rows)}")
        return found


def _table_digest(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def content(root: Path, version: int | None = None) -> Content:
    """Read a version of a local store, by default the newest, with tools that are not ours."""
    rows = catalog_rows(root, version)
    names = [(row["kind"], row["dataset"], row["fact"]) for row in rows]
    assert len(names) == len(set(names)), "a fact stands twice in the catalog"
    streams: dict[tuple[str, str, str], str] = {}
    steps: dict[tuple[str, str], str] = {}
    indexes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] != "episode":
            continue
        place = (row["dataset"], row["shard"])
        if place not in indexes:
            indexes[place] = pq.read_table(root / "streams" / place[0] / place[1] / "index.parquet").to_pylist()
        own = [entry for entry in indexes[place] if entry["ordinal"] == row["ordinal"]]
        assert own, f"episode {row['episode_id']} has no streams"
        for entry in own:
            assert entry["episode_id"] == row["episode_id"]
            streams[row["dataset"], row["episode_id"], entry["stream"]] = entry["digest"]
        table = pq.ParquetFile(root / "steps" / place[0] / f"{place[1]}.parquet").read_row_group(row["ordinal"])
        assert len(table) == row["steps"]
        assert set(table["episode_id"].to_pylist()) <= {row["episode_id"]}
        columns = [name for name in table.column_names if table[name].null_count < len(table) or name == "t_ns"]
        steps[row["dataset"], row["episode_id"]] = _table_digest(table.select(columns).replace_schema_metadata(None))
    plain = sorted(json.dumps({key: value for key, value in row.items() if key not in ADDRESSES}, sort_keys=True) for row in rows)
    return Content(tuple(plain), streams, steps)


def episodes(root: Path, version: int | None = None) -> list[dict[str, Any]]:
    """Return the episode rows of a version."""
    return [row for row in catalog_rows(root, version) if row["kind"] == "episode"]


def versions(root: Path) -> list[int]:
    """Return the numbers of a local store's versions."""
    return sorted(int(path.stem) for path in (root / "versions").glob("*.json"))


# -- jobs in this process


@dataclass(frozen=True)
class Inline(Runtime):
    """Runs units in this process, one after the other: for what the processes around them do not matter to."""

    local: bool = True

    def map(self, function: Callable[[T], R], tasks: Sequence[T], limits: Limits) -> Iterator[tuple[int, R | Died]]:
        """Yield (task number, result) in order."""
        return ((number, function(task)) for number, task in enumerate(tasks))


def wait_for(what: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something holds; fail where it does not in time."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, f"did not come about within {seconds} s"
        time.sleep(0.02)
