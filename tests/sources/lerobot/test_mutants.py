"""LeRobot files broken on purpose: each episode is rejected with a reason, or lands with exactly what pyarrow reads of the broken table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from dataengine.samples.lerobot import LerobotOptions, write_lerobot
from tests.support.child import Outcome, array_digest, run_over, run_reader, tally
from tests.support.lerobot_folder import READER, recordings
from tests.support.mutate import mutants
from tests.support.shared import shared_data

READ = partial(run_reader, READER)
PRELOAD = (READER, "pyarrow.parquet", "av")
V21, V3, PNG, TABLE = "v21", "v3", "png", "data/chunk-000/file-000.parquet"
NUMBERS = ("action", "observation.state", "next.reward", "index")

OPTIONS = {
    V21: LerobotOptions("v2.1", gr00t=True),
    V3: LerobotOptions(episodes_a_video={"front": 2}, language=True),
    PNG: LerobotOptions(pictures="image", language=True),
}


@cache
def files_of(kind: str) -> dict[str, bytes]:
    """Return the files of a small dataset by path."""
    if kind == "v1":
        root = shared_data("umi", "umi_lerobot_v1_ep0")
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    with TemporaryDirectory() as folder:
        write_lerobot(Path(folder), recordings(2, ("front",)), OPTIONS[kind])
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def compare(folder: str) -> str:
    """Read a folder; what landed must be what pyarrow reads of the tables, row group by row group."""
    reading = READ(folder)
    expected: dict[str, list[str]] = {name: [] for name in NUMBERS}
    for path in sorted([*Path(folder).rglob("data/**/*.parquet"), *Path(folder).rglob("*.arrow")]):
        for columns in _groups(path):
            for name in NUMBERS:
                if name in columns:
                    expected[name] += [array_digest(part) for part in columns[name]]
    for episode in reading.episodes:
        for name in NUMBERS:
            stream = episode.streams.get(name)
            if stream is not None and stream.kind == "array":
                assert stream.values in expected[name], f"episode {episode.key}: {name} is not what the table has"
    return "landed" if reading.episodes else "nothing"


def _groups(path: Path) -> list[dict[str, list[Any]]]:
    """Return what pyarrow reads of each row group and of all together: each column as arrays, whole and cut by episode."""
    import pyarrow as pa

    whole: list[dict[str, Any]] = []
    try:
        for part in _arrow_parts(path) if path.suffix == ".arrow" else _parquet_parts(path):
            whole.append(part)
    except (pa.ArrowException, OSError, ValueError, IndexError):
        pass  # what came before stands
    found = []
    for group in [*whole, _joined(whole)]:
        episodes = group.get("episode_index")
        cuts = [] if episodes is None or episodes.ndim != 1 else (np.flatnonzero(np.diff(episodes)) + 1).tolist()
        found.append({name: [values, *np.split(values, cuts)] for name, values in group.items() if values is not None and values.shape[:1]})
    return found


def _joined(groups: list[dict[str, Any]]) -> dict[str, Any]:
    names = [name for name in (groups[0] if groups else ()) if all(group.get(name) is not None for group in groups)]
    return {name: np.concatenate([group[name] for group in groups]) for name in names}


def _parquet_parts(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=False) as opened:
        names = opened.schema_arrow.names
        for number in range(opened.num_row_groups):
            found: dict[str, Any] = {}
            for name in names:
                try:  # a column at a time: a damaged one costs the others nothing
                    found[name] = _array(opened.read_row_group(number, columns=[name], use_threads=False)[name].combine_chunks())
                except (pa.ArrowException, OSError, ValueError, IndexError):
                    continue
            yield found


def _arrow_parts(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    for batch in pa.ipc.open_stream(path.read_bytes()):
        found: dict[str, Any] = {}
        for place, name in enumerate(batch.schema.names):
            try:
                batch.column(place).validate(full=True)
                found[name] = _array(batch.column(place))
            except (pa.ArrowException, ValueError):
                continue
        yield found


def _array(array: Any) -> Any:
    """Return an Arrow array as numpy has it; lists of one length as rows, whether their type says the length or not."""
    try:
        if hasattr(array.type, "value_type"):
            lengths = {-1 if row is None else len(row) for row in array.to_pylist()}
            # Through the flat values: a NaN keeps its bits there.
            return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), *lengths) if len(lengths) == 1 else None
        return array.to_numpy(zero_copy_only=False)
    except (ValueError, NotImplementedError, TypeError):
        return None


def trial(kind: str, name: str, count: int, seed: int, function: Any = compare) -> list[Outcome]:
    """Break one file of a dataset and read the whole; no mutant may do more than be rejected."""
    files = files_of(kind)
    beside = {path: data for path, data in files.items() if path != name}
    outcomes = run_over(function, mutants(files[name], count, seed=seed), file_name=name, beside=beside, memory_bytes=512 << 20, timeout_s=30, preload=PRELOAD)
    assert len(outcomes) == count
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected")], tally(outcomes)
    return outcomes


SIDE_FILES = [
    (V21, "meta/info.json"),
    (V21, "meta/episodes.jsonl"),
    (V21, "meta/tasks.jsonl"),
    (V21, "meta/modality.json"),
    (V3, "meta/episodes/chunk-000/file-000.parquet"),
    (V3, "meta/tasks.parquet"),
    ("v1", "meta_data/episode_data_index.safetensors"),
]
TABLES = [(V3, TABLE), (PNG, TABLE), (V21, "data/chunk-000/episode_000000.parquet"), ("v1", "train/data-00000-of-00001.arrow")]


@pytest.mark.parametrize(("kind", "name"), [SIDE_FILES[0], SIDE_FILES[4], TABLES[0], TABLES[3]])
def test_some(kind: str, name: str) -> None:
    trial(kind, name, 32, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [*SIDE_FILES, *TABLES])
def test_many(kind: str, name: str) -> None:
    trial(kind, name, 400, seed=3)


def test_the_files_as_they_are_land(tmp_path: Path) -> None:
    for kind in (V21, V3, PNG, "v1"):
        for name, data in files_of(kind).items():
            path = tmp_path / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert compare(str(tmp_path / kind)) == "landed"
        reading = READ(str(tmp_path / kind))
        assert not reading.rejected
        assert [len(episode.streams) > 8 for episode in reading.episodes] == [True] * (1 if kind == "v1" else 2)


def test_info_that_asks_for_too_much(tmp_path: Path) -> None:
    files = files_of(V21)
    info = json.loads(files["meta/info.json"])
    info["features"] |= {f"f{number}": {"dtype": "float32", "shape": [1 << 50]} for number in range(5000)}
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(info).encode() if name == "meta/info.json" else data)
    reading = READ(str(tmp_path))
    assert len(reading.episodes) == 2
    assert any(f"features by name, found '{len(info['features'])} of them'" in message for message in reading.noticed)
