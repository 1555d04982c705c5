"""Parquet logs: what the mapping says becomes streams with their dtype and clocks; gaps, wrong mappings and broken files are named."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataengine.core.config import parse_config, parse_yaml
from dataengine.core.episode import Noticed, Rejected
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.protocols import Reader, ReadOptions
from dataengine.core.stream import Items
from dataengine.samples.barcode import Barcode, read_barcode
from dataengine.samples.json_mp4 import arm_rows
from dataengine.samples.parquet_log import MAPPING, ParquetLogOptions, table_of, write_parquet_log
from dataengine.sources.listing import list_source
from dataengine.sources.parquet_log import reader as parquet_log
from dataengine.sources.parquet_log.mapping import parse_mapping
from pipelines.config import IngestConfig
from pipelines.ingest import IngestJob, run
from pipelines.runtime import Runtime
from tests.support.child import run_over, run_reader, tally
from tests.support.mutate import mutants
from tests.support.reading import checks, decoded, episodes, find, read_all, trajectory

READER: Reader = parquet_log
MODULE = "dataengine.sources.parquet_log.reader"
SIMPLE = "streams: {observation.state: {columns: [a, b]}}"


def write(folder: Path, columns: dict[str, Any], mapping: str | None = SIMPLE, **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "log.parquet", **options)
    if mapping is not None:
        (folder / "log.mapping.yaml").write_text(mapping)
    return folder


def test_a_log_with_all_there_is(tmp_path: Path) -> None:
    write_parquet_log(tmp_path / "lab")
    found = find(READER, tmp_path / "lab")
    assert [(item.path, item.dataset, len(item.files)) for item in found.items] == [("arm.parquet", "lab", 4)]
    first, second = episodes(READER, tmp_path / "lab")
    assert [episode.info.key for episode in (first, second)] == ["run_0", "run_1"]
    assert (first.info.success, second.info.success, first.info.tasks, second.info.tasks) == (True, False, ("stack the blocks",), ("open the box",))
    table = table_of(ParquetLogOptions())
    for number, (episode, rows) in enumerate(((first, 12), (second, 9))):
        motion = arm_rows(rows, number)
        info, streams = episode.info, episode.streams
        assert (info.clock, info.epoch, info.start_ns, info.follow) == ("measured", True, (1_700_000_000 + 100 * number) * 10**9, "action")
        state, action = streams["observation.state"], streams["action"]
        assert isinstance(state.values, np.ndarray)
        assert isinstance(action.values, np.ndarray)
        assert (state.values.dtype, state.values.tolist()) == (np.float32, motion["joints"].astype(np.float32).tolist())
        assert (action.values.dtype, action.values.tolist()) == (np.float64, motion["pose"].tolist())
        assert state.column.dims == tuple(f"q{joint}" for joint in range(7))
        assert action.column.action_space is not None
        assert (action.column.action_space.rotation, action.column.action_source) == ("rpy", "commanded")
        assert state.timestamps_ns is not None
        assert state.timestamps_ns.tolist() == [row * 125_000_000 for row in range(rows)]
        assert (state.clocks["log"] - state.clocks["time"]).tolist() == [1_234_567] * rows
        pictures = streams["observation.images.front"].values
        assert isinstance(pictures, Items)
        expected = [row["bytes"] for row in table["front"].to_pylist()][0 if number == 0 else 12 :][:rows]
        assert (list(pictures.data), set(pictures.encodings)) == (expected, {"jpeg"})
        assert (streams["battery"].values.dtype, len(streams["battery"])) == (np.uint8, (rows + 1) // 2)  # type: ignore[union-attr]
        assert streams["front.width"].values.tolist() == [64] * rows  # type: ignore[union-attr]
        wrist = streams["observation.images.wrist"]
        assert (len(wrist), wrist.values.first) == (rows, 1)  # type: ignore[union-attr]
        steps = trajectory(episode)
        seen = decoded(tmp_path / "lab", episode, "observation.images.wrist", steps.frames["observation.images.wrist"].tolist())
        assert [read_barcode(picture) for picture in seen] == [Barcode(row + 1, 1, number) for row in range(rows)]
        assert checks(episode) == ["null_rows"]  # of the battery


def test_null_rows_are_gaps_of_their_stream(tmp_path: Path) -> None:
    write_parquet_log(tmp_path, ParquetLogOptions(gaps=(2, 3)))
    first, _ = episodes(READER, tmp_path)
    assert len(first.streams["observation.state"]) == 10
    assert len(first.streams["action"]) == 12
    times = first.streams["observation.state"].timestamps_ns
    assert times is not None
    assert times[:4].tolist() == [0, 125_000_000, 500_000_000, 625_000_000]
    assert [(problem.severity, problem.message.split(": ", 1)[1]) for problem in first.info.problems] == [
        ("warning", "nulls in 1 stream (observation.state 2): these rows are gaps of that stream"),
        ("info", "nulls in 1 stream (battery 6): these rows are gaps of that stream"),
    ]


def test_without_a_time_nothing_is_made_up(tmp_path: Path) -> None:
    columns = {"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0], "c": [1, None, 3]}
    write(tmp_path, columns)
    (episode,) = episodes(READER, tmp_path)
    assert (episode.info.clock, episode.info.rate_hz, episode.info.key) == ("unknown", None, "")
    assert not episode.info.columns["c"].steps
    assert trajectory(episode).columns["observation.state"].tolist() == [[1, 4], [2, 5], [3, 6]]
    (episode,) = episodes(READER, tmp_path, rate_hz=10.0)
    assert (episode.info.clock, episode.info.rate_hz) == ("nominal", 10.0)
    (tmp_path / "log.mapping.yaml").write_text(f"{SIMPLE}\nrate_hz: 25\nrest: leave")
    (episode,) = episodes(READER, tmp_path, rate_hz=10.0)
    assert (episode.info.rate_hz, list(episode.streams)) == (25.0, ["observation.state"])


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        (pa.array([5, 7], pa.int64()), "ms", [5_000_000, 7_000_000]),
        (pa.array([1.5, 2.25], pa.float32()), "s", [1_500_000_000, 2_250_000_000]),
        (pa.array([1_700_000_000.123456, 1_700_000_000.2], pa.float64()), "s", [1_700_000_000_123_456_001, 1_700_000_000_200_000_048]),
        (pa.array([1, 2], pa.timestamp("us")), "s", [1000, 2000]),
        (pa.array([3, 4], pa.duration("ms")), "ns", [3_000_000, 4_000_000]),
        (pa.array([9, 8], pa.uint32()), "us", [9000, 8000]),
    ],
)
def test_units_of_times(tmp_path: Path, values: Any, unit: str, expected: list[int]) -> None:
    write(tmp_path, {"a": [1.0, 2.0], "t": values}, f"time: {{column: t, unit: {unit}}}\nstreams: {{x: {{columns: [a]}}}}")
    (episode,) = episodes(READER, tmp_path)
    assert episode.streams["x"].clocks["time"].tolist() == expected
    assert episode.info.start_ns == min(expected)


def test_dtypes_lists_texts_and_bytes_are_kept(tmp_path: Path) -> None:
    columns = {
        "a": pa.array([1, 2], pa.int8()),
        "b": pa.array([3, 4], pa.int8()),
        "flag": pa.array([True, False]),
        "half": pa.array(np.array([1, 2], np.float16)),
        "fixed": pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)),
        "matrix": pa.array([[[1.0, 2.0]], [[3.0, 4.0]]], pa.list_(pa.list_(pa.float32()))),
        "word": pa.array(["x", "yö"]).dictionary_encode(),
        "blob": pa.array([b"\0\1", b""]),
        "when": pa.array([1, 2], pa.timestamp("ms")),
        "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int32())),
    }
    write(tmp_path, columns)
    notice, episode = read_all(READER, tmp_path)
    assert isinstance(notice, Noticed)
    assert (notice.problem.check, "map" in notice.problem.message) == ("column_not_kept", True)
    streams = episode.streams  # type: ignore[union-attr]
    read = {name: (stream.values.dtype.name, stream.values.tolist()) for name, stream in streams.items() if isinstance(stream.values, np.ndarray)}
    assert read == {
        "observation.state": ("int8", [[1, 3], [2, 4]]),
        "flag": ("bool", [True, False]),
        "half": ("float16", [1.0, 2.0]),
        "fixed": ("int16", [[1, 2], [3, 4]]),
        "matrix": ("float32", [[[1.0, 2.0]], [[3.0, 4.0]]]),
        "when": ("int64", [1, 2]),
    }
    assert streams["when"].column.unit == "ms"
    assert (streams["word"].values.data, streams["blob"].values.data) == ([b"x", "yö".encode()], [b"\0\1", b""])


def test_ragged_lists_reject_and_names_why(tmp_path: Path) -> None:
    write(tmp_path, {"a": [1.0, 2.0], "b": [1.0, 2.0], "c": [[1.0], [1.0, 2.0]]})
    with pytest.raises(BadRecording, match=r"c: expected lists of one length, found 1 to 2 values a row"):
        episodes(READER, tmp_path)


def test_rows_of_an_episode_must_stand_together(tmp_path: Path) -> None:
    write(tmp_path, {"a": [1.0] * 5, "b": [2.0] * 5, "e": [1, 2, 2, 1, 3]}, f"{SIMPLE}\nepisode: e", row_group_size=2)
    events = read_all(READER, tmp_path)
    assert [(event.info.key, len(event.streams["observation.state"])) for event in events if not isinstance(event, Rejected | Noticed)] == [("2", 2), ("3", 1)]
    (rejected,) = [event for event in events if isinstance(event, Rejected)]
    assert (rejected.key, rejected.problem.check) == ("1", "interleaved_episode")


def test_rows_without_time_or_episode_are_said(tmp_path: Path) -> None:
    columns = {"a": [1.0, 2.0, 3.0, 4.0], "b": [0.0] * 4, "t": [0.0, None, 2.0, 3.0], "log": [1, 2, 3, None], "e": ["x", "x", "x", None]}
    write(tmp_path, columns, f"{SIMPLE}\ntime: {{column: t}}\nepisode: e\nclocks: {{log: {{column: log, unit: ns}}}}")
    events = read_all(READER, tmp_path)
    assert [event.problem.check for event in events if isinstance(event, Noticed)] == ["clock_with_gaps", "rows_without_episode"]
    (episode,) = [event for event in events if not isinstance(event, Rejected | Noticed)]
    assert checks(episode) == ["rows_without_time"]
    assert episode.streams["observation.state"].values[:, 0].tolist() == [1.0, 3.0]  # type: ignore[index]
    assert episode.streams["log"].values.tolist() == [1, 3]  # type: ignore[union-attr]


def test_films_by_number_by_offset_and_missing(tmp_path: Path) -> None:
    films = 'observation.images.a: {video: "films/run_0.mp4"}, observation.images.b: {video: "films/run_1.mp4", offset_s: 2.0}'
    films += ', observation.images.c: {video: "films/none_{stem}.mp4"}, observation.images.d: {video: "films/{where}"}'
    write_parquet_log(tmp_path, ParquetLogOptions(mapping=None))
    (tmp_path / "arm.parquet").unlink()
    write(
        tmp_path,
        {"a": [1.0] * 12, "t": np.arange(12) / 15, "where": ["../../secret.mp4"] * 12},
        f"time: {{column: t}}\nstreams: {{x: {{columns: [a]}}, {films}}}",
    )
    (episode,) = episodes(READER, tmp_path)
    assert checks(episode) == ["frames_differ", "missing_video", "path_escapes"]
    assert (len(episode.streams["observation.images.a"]), len(episode.streams["observation.images.b"])) == (12, 11)
    times = episode.streams["observation.images.b"].timestamps_ns
    assert times is not None
    assert times[0] == 2 * 10**9


def test_a_column_that_holds_no_times_is_said_once(tmp_path: Path) -> None:
    write(tmp_path, {"a": [1.0] * 3, "b": [2.0] * 3, "e": [1, 2, 3], "t": ["x", "y", "z"]}, f"{SIMPLE}\nepisode: e\ntime: {{column: t}}")
    with pytest.raises(BadRecording, match="found a column of type string"):
        read_all(READER, tmp_path)


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ("stream: {}", "unknown key 'stream', did you mean 'streams'?"),
        ("streams: {x: {column: [a]}}", "unknown key 'streams.x.column', did you mean 'columns'?"),
        ("streams: {x: {columns: [aa]}}", "streams.x: no column 'aa', did you mean 'a'?"),
        ("streams: {x: {columns: [a], image: b}}", "exactly one of columns, image, video, text, got columns, image"),
        ("streams: {x: {image: a}}", "expected columns of bytes for the stream 'x', found a is double"),
        ("streams: {x: {columns: [a, b], dims: [one]}}", "expected 1 numbers a row for the dims"),
        ("streams: {x: {columns: [a]}}\ntime: {column: word}", "expected numbers or timestamps, found a column of type string"),
        ("streams: {x: {columns: [a]}}\ntime: {column: huge}", "times in s that int64 nanoseconds hold"),
        ("streams: {x: {video: ../a.mp4}}", "must be a path below the log's folder"),
        ("streams: {x: {columns: [a]}}\nfollow: y", "follow: must be one of the streams x, got 'y'"),
        ("a: &x [1]\nb: *x", "must not hold YAML aliases"),
        ("[", "not valid YAML"),
        ("- 1", "must be a mapping of keys to values"),
    ],
)
def test_a_wrong_mapping_says_what_to_correct(tmp_path: Path, mapping: str, expected: str) -> None:
    write(tmp_path, {"a": [1.0, 2.0], "b": [3.0, 4.0], "word": ["x", "y"], "huge": [1e300, 2.0]}, mapping)
    with pytest.raises(BadRecording) as error:
        episodes(READER, tmp_path)
    assert expected in str(error.value)


def test_which_files_are_claimed(tmp_path: Path) -> None:
    write_parquet_log(tmp_path / "bare", ParquetLogOptions(mapping=None, films=False))
    write_parquet_log(tmp_path / "lerobot" / "data", ParquetLogOptions(films=False))
    (tmp_path / "lerobot" / "meta").mkdir()
    (tmp_path / "lerobot" / "meta" / "info.json").write_text("{}")
    (tmp_path / "none.parquet").write_bytes(b"none")
    (tmp_path / "none.mapping.yaml").write_text(SIMPLE)
    assert not find(READER, tmp_path).items
    asked = parquet_log.find_asked(list_source(str(tmp_path)), {}, True)
    assert [item.path for item in asked.items] == ["bare/arm.parquet"]
    with pytest.raises(BadRecording, match=r"expected a mapping that says what the columns mean, found none; write the mapping into <name>\.mapping\.yaml"):
        list(parquet_log.read(asked.items[0], list_source(str(tmp_path)).opener, ReadOptions()))
    (tmp_path / "bare" / "dataengine.yaml").write_text("parquet_log:\n  " + MAPPING.replace("\n", "\n  "))
    assert [item.path for item in find(READER, tmp_path).items] == ["bare/arm.parquet"]
    chosen = {"mapping": parse_mapping(MAPPING, "x").model_dump(mode="json", exclude_defaults=True)}
    assert len(parquet_log.find_asked(list_source(str(tmp_path / "bare")), chosen, False).items) == 1


def test_the_mapping_of_the_configuration_and_the_format_that_was_asked(tmp_path: Path) -> None:
    write_parquet_log(tmp_path / "logs", ParquetLogOptions(mapping=None))
    mapping = parse_mapping(MAPPING, "x").model_dump(mode="json", exclude_defaults=True)
    config = IngestConfig.model_validate_json(json.dumps({"readers": {"parquet_log": {"mapping": mapping}}}))
    job = IngestJob((str(tmp_path / "logs"),), str(tmp_path / "store"), config=config)
    report = run(job, Runtime(local=True, workers=1))
    assert (report.landed, report.rejected, report.ignored) == (2, 0, 0)
    report = run(IngestJob((str(tmp_path / "logs"),), str(tmp_path / "other"), formats=("parquet_log",)), Runtime(local=True, workers=1))
    assert (report.landed, report.rejected) == (0, 1)
    assert "write the mapping into" in str(report.rejects[0])
    with pytest.raises(ConfigError, match=r"unknown key 'readers\.parquet_log\.maping', did you mean 'mapping'"):
        parse_config(IngestConfig, {"readers": {"parquet_log": {"maping": {}}}}, "job.yaml")


def test_hostile_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match="aliases"):
        parse_yaml("a: &a [x]\nb: &b [*a, *a]\n", "x.yaml")
    with pytest.raises(ConfigError, match="stands twice"):
        parse_yaml("a: 1\na: 2", "x.yaml")
    for deep in ("[" * 100_000, "- " * 100_000):
        with pytest.raises(ConfigError, match="nested deeper"):
            parse_yaml(deep, "x.yaml")


@pytest.mark.parametrize("cut", [0, 3, 40, -1, -9])
def test_a_file_that_was_cut_off(tmp_path: Path, cut: int) -> None:
    path = write_parquet_log(tmp_path, ParquetLogOptions(films=False))
    path.write_bytes(path.read_bytes()[:cut])
    if cut in (0, 3):
        assert not find(READER, tmp_path).items
        return
    with pytest.raises(BadRecording):
        episodes(READER, tmp_path)


def _mutants(tmp_path: Path, count: int, seed: int) -> None:
    path = write_parquet_log(tmp_path, ParquetLogOptions(films=False))
    data, beside = path.read_bytes(), {"arm.mapping.yaml": MAPPING.encode()}
    outcomes = run_over(
        partial(run_reader, MODULE), mutants(data, count, seed), file_name="arm.parquet", beside=beside, timeout_s=20, preload=[MODULE, "pyarrow.parquet"]
    )
    # A library in C may die of damaged bytes; the job's child process turns that into a rejection.
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected", "died", "unrecognised")], tally(outcomes)
    assert {outcome.status for outcome in outcomes} >= {"ok", "rejected"}


def test_mutants(tmp_path: Path) -> None:
    _mutants(tmp_path, 64, 1)


def test_mutants_of_the_mapping(tmp_path: Path) -> None:
    path = write_parquet_log(tmp_path, ParquetLogOptions(films=False))
    outcomes = run_over(
        partial(run_reader, MODULE),
        mutants(MAPPING.encode(), 64, 3),
        file_name="arm.mapping.yaml",
        beside={"arm.parquet": path.read_bytes()},
        preload=[MODULE, "pyarrow.parquet"],
    )
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected")], tally(outcomes)


@pytest.mark.slow
def test_many_mutants(tmp_path: Path) -> None:
    _mutants(tmp_path, 800, 2)
