"""Nulls in a LeRobot table: what is not there is a gap with a name, and costs neither the other rows, nor the kind of the stream, nor other episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dataengine.core.column import Column
from dataengine.core.stream import Items, Stream
from dataengine.sources.lerobot.cells import cell_type
from dataengine.sources.lerobot.number_rows import sort_rows
from dataengine.store.features import features_conflict
from tests.support.lerobot_folder import Reading, feature, texts, write_one, write_table

TENTH_NS = 100_000_000


def three(folder: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, row_group_size: int | None = None, **index: Any) -> Reading:
    """Read a v3 dataset of 3 episodes of 10 rows in one file."""
    rows = np.arange(30)
    every = {"timestamp": (rows % 10 / 10).astype(np.float32), "frame_index": rows % 10, "episode_index": rows // 10, "index": rows} | columns | index
    write_table(folder / "data" / "chunk-000" / "file-000.parquet", every, row_group_size)
    content = {"codebase_version": "v3.0", "fps": 10, "features": features or {}, "total_episodes": 3, "total_frames": 30}
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(content))
    return Reading(folder)


def rows_of(reading: Reading, key: str, name: str) -> tuple[list[Any], list[int], Column]:
    """Return the rows of a stream, their places by their times, and its column."""
    stream: Stream = reading.episodes[key].streams[name]
    assert stream.timestamps_ns is not None
    values = texts(stream.values) if isinstance(stream.values, Items) else np.asarray(stream.values).tolist()
    return values, (stream.timestamps_ns // TENTH_NS).tolist(), stream.column


def message(reading: Reading, key: str, check: str) -> str:
    """Return the one message of a check in an episode."""
    (found,) = [problem.message for problem in reading.episodes[key].info.problems if problem.check == check]
    return found


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 2), pa.list_(pa.float32()), pa.large_list(pa.float32())])
def test_a_null_row_is_a_gap_and_the_kind_stays(tmp_path: Path, kind: Any) -> None:
    state = [[float(row), 0.5] if row not in (4, 6) else None for row in range(30)]
    reading = three(tmp_path, {"observation.state": pa.array(state, kind)})
    values, places, column = rows_of(reading, "0", "observation.state")
    assert places == [0, 1, 2, 3, 5, 7, 8, 9]
    assert values == [[float(row), 0.5] for row in places]
    assert (column.kind, column.dtype, column.shape, column.steps) == ("numeric", "float32", (2,), True)
    assert reading.checks("0") == ["missing_values"]
    assert "found none at 2 of 10, the first row 4" in message(reading, "0", "missing_values")
    # The sound episodes go into one dataset with it, whichever of them comes first.
    columns = [{name: stream.column for name, stream in episode.streams.items()} for episode in reading.episodes.values()]
    assert [features_conflict("d", columns[0], others, "1") for others in columns[1:]] == [None, None]
    assert [reading.checks(key) for key in "12"] == [[], []]
    assert rows_of(reading, "1", "observation.state")[0] == state[10:20]


def test_a_null_row_without_a_clock_is_told_and_is_no_step(tmp_path: Path) -> None:
    columns = {"timestamp": None, "action": pa.array([[1.0], None, [3.0], [4.0]], pa.list_(pa.float32(), 1))}
    stream = Reading(write_one(tmp_path, columns, fps=None)).only.streams["action"]
    assert (np.asarray(stream.values).tolist(), stream.timestamps_ns, stream.column.steps) == ([[1.0], [3.0], [4.0]], None, False)


def test_an_episode_of_nulls_only_lands_without_the_stream(tmp_path: Path) -> None:
    state = pa.array([None if row < 10 else [1.0] for row in range(30)], pa.list_(pa.float32()))
    reading = three(tmp_path, {"observation.state": state})
    assert "observation.state" not in reading.episodes["0"].streams
    assert "none at 10 of 10, the first row 0" in message(reading, "0", "missing_values")
    assert len(reading.episodes["1"].streams["observation.state"]) == 10


def test_integers_with_nulls_inside_keep_their_numbers(tmp_path: Path) -> None:
    ids = pa.array([[1, 2, 3] if row != 4 else [1, None, 3] for row in range(30)], pa.list_(pa.int32()))
    reading = three(tmp_path, {"obs.ids": ids})
    values, places, column = rows_of(reading, "0", "obs.ids")
    assert (values, places, column.dtype) == ([[1, 2, 3]] * 9, [0, 1, 2, 3, 5, 6, 7, 8, 9], "int32")
    values, places, column = rows_of(reading, "0", "obs.ids.odd_rows")
    assert (values, places, column.kind, column.encoding) == (["[1, null, 3]"], [4], "message", "json")
    assert reading.checks("0") == ["odd_rows"]
    assert "1 of 10 of another shape or with nulls inside, the first row 4; they are kept as JSON in 'obs.ids.odd_rows'" in message(reading, "0", "odd_rows")
    assert "obs.ids.odd_rows" not in reading.episodes["1"].streams


def test_rows_of_another_shape_do_not_change_what_info_json_declares(tmp_path: Path) -> None:
    state = pa.array([[1.0, 2.0] if row not in (3, 5) else [7.5] * (row - 3) for row in range(30)], pa.list_(pa.float32()))
    reading = three(tmp_path, {"observation.state": state}, {"observation.state": feature("float32", 2)})
    values, places, column = rows_of(reading, "0", "observation.state")
    assert (len(values), places, column.kind, column.shape) == (9, [0, 1, 2, 4, 5, 6, 7, 8, 9], "numeric", (2,))
    assert rows_of(reading, "0", "observation.state.odd_rows")[:2] == (["[]"], [3])
    assert reading.checks("0") == ["odd_rows"]


def test_a_stream_of_odd_rows_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    columns = {"a": pa.array([[1, 2], [None, 2], [1, 2], [1, 2]], pa.list_(pa.int8(), 2)), "a.odd_rows": np.arange(4)}
    streams = Reading(write_one(tmp_path, columns)).only.streams
    assert np.asarray(streams["a.odd_rows"].values).tolist() == [0, 1, 2, 3]
    assert texts(streams["a.odd_rows_"].values) == ["[null, 2]"]


def test_floats_with_nulls_inside_are_nan_and_said(tmp_path: Path) -> None:
    columns = {
        "even": pa.array([[1.0, 2.0], [None, 2.0], [1.0, 2.0], [None, None]], pa.list_(pa.float32(), 2)),
        "uneven": pa.array([[1.0], [1.0, None], [1.0, 2.0, 3.0], None], pa.list_(pa.float32())),
        "nested": pa.array([[[1.0]], [[1.0], [2.0, None]], [], None], pa.list_(pa.list_(pa.float32()))),
    }
    reading = Reading(write_one(tmp_path, columns))
    streams = reading.only.streams
    assert np.isnan(np.asarray(streams["even"].values)).tolist() == [[False, False], [True, False], [False, False], [True, True]]
    uneven = streams["uneven"].values
    assert isinstance(uneven, Items)
    assert [np.nan_to_num(np.frombuffer(data, "<f4"), nan=-1).tolist() for data in uneven.data] == [[1], [1, -1], [1, 2, 3]]
    assert texts(streams["nested"].values) == ["[[1.0]]", "[[1.0], [2.0, null]]", ""]
    said = [problem.message.partition("expected ")[2] for problem in reading.only.info.problems if problem.check == "null_values"]
    assert said == [
        "a value of 'even' at each row, found 3 nulls in 2 rows, the first row 1; they are NaN",
        "a value of 'uneven' at each row, found 1 nulls in 1 rows, the first row 1; they are NaN",
    ]
    assert sum(problem.check == "missing_values" for problem in reading.only.info.problems) == 2


def test_large_rows_that_are_null_are_gaps(tmp_path: Path) -> None:
    pixels = np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3)
    cells = [part.tolist() if row != 2 else None for row, part in enumerate(pixels)]
    reading = Reading(write_one(tmp_path, {"grid": pa.array(cells, pa.list_(pa.list_(pa.list_(pa.uint8()))))}))
    values, places, _ = rows_of(reading, "0", "grid")
    assert (values, places) == (pixels[[0, 1, 3]].tolist(), [0, 1, 3])
    assert "none at 1 of 4, the first row 2" in message(reading, "0", "missing_values")


def test_every_row_is_somewhere_once() -> None:
    generator = np.random.default_rng(0)
    for trial in range(200):
        kind = pa.list_(pa.int16()) if trial % 2 else pa.list_(pa.float32())
        cells = [
            None if generator.random() < 0.2 else [None if generator.random() < 0.1 else int(generator.integers(9)) for _ in range(generator.integers(3))]
            for _ in range(generator.integers(1, 9))
        ]
        found = sort_rows(cell_type(kind), pa.array(cells, kind), [None, (1,), (2,)][trial % 3])
        assert sorted([*found.places.tolist(), *found.odd.tolist(), *found.missing.tolist()]) == list(range(len(cells)))
        assert found.missing.tolist() == [row for row, cell in enumerate(cells) if cell is None]
        assert [json.loads(data) for data in found.odd_cells] == [cells[row] for row in found.odd.tolist()]
        kept = found.values if found.values is not None else [np.frombuffer(data, cell_type(kind).dtype) for data in found.cells or ()]
        assert len(kept) == len(found.places)
        for row, values in zip(found.places.tolist(), kept, strict=True):
            cell = cells[row]
            assert cell is not None
            np.testing.assert_array_equal(values, [np.nan if value is None else value for value in cell])


# --- rows without an episode


def index_without(*rows: int) -> Any:
    """Return the episode_index of 3 episodes of 10 rows, null at some."""
    return pa.array([None if row in rows else row // 10 for row in range(30)], pa.int64())


@pytest.mark.parametrize("row_group_size", [None, 4, 1])
def test_rows_without_an_episode_inside_of_one_are_its_own(tmp_path: Path, row_group_size: int | None) -> None:
    reading = three(tmp_path, {}, row_group_size=row_group_size, episode_index=index_without(15, 16))
    indexes = {key: rows_of(reading, key, "index")[0] for key in reading.episodes}
    assert indexes == {"0": [*range(10)], "1": [*range(10, 20)], "2": [*range(20, 30)]}
    assert not reading.rejected
    assert [reading.checks(key) for key in "012"] == [[], ["joined_rows", "missing_values"], []]
    assert "found none at 2 of 10, from row 15 of the table on" in message(reading, "1", "joined_rows")


@pytest.mark.parametrize("row_group_size", [None, 4, 1])
def test_rows_without_an_episode_between_two_are_rejected_alone(tmp_path: Path, row_group_size: int | None) -> None:
    reading = three(tmp_path, {}, row_group_size=row_group_size, episode_index=index_without(0, 9, 10, 29))
    indexes = {key: rows_of(reading, key, "index")[0] for key in reading.episodes}
    assert indexes == {"0": [*range(1, 9)], "1": [*range(11, 20)], "2": [*range(20, 29)]}
    assert [problem.check for problem in reading.rejected] == ["rows_without_episode"] * 3
    assert [problem.where.rpartition(": ")[2] for problem in reading.rejected] == ["rows 0 to 0", "rows 9 to 10", "rows 29 to 29"]
    # The episodes beside them may have lost rows, and say so.
    assert [sum(problem.check == "rows_without_episode" for problem in episode.info.problems) for episode in reading.episodes.values()] == [2, 1, 1]


def test_no_row_without_an_episode_is_given_to_any(tmp_path: Path) -> None:
    reading = three(tmp_path, {}, episode_index=index_without(*range(30)))
    assert not reading.episodes
    assert [problem.check for problem in reading.rejected] == ["rows_without_episode"]
    assert "empty_file" not in reading.checks()


@pytest.mark.parametrize(("cells", "joined"), [([None, 0, 0, None], True), ([None] * 4, True), ([None, 7, 7, None], False)])
def test_a_file_named_for_an_episode_has_its_rows(tmp_path: Path, cells: list[int | None], joined: bool) -> None:
    reading = Reading(write_one(tmp_path, {"episode_index": pa.array(cells, pa.int64())}))
    assert [problem.check for problem in reading.rejected] == ([] if joined else ["rows_without_episode"] * 2)
    assert len(reading.only.streams["index"]) == (4 if joined else 2)
    assert ("joined_rows" in reading.checks(reading.only.info.key)) == joined
