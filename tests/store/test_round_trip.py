"""What is written is what is read: any episode, on its native clocks and as a trajectory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataengine.align.align import align
from dataengine.align.config import AlignConfig
from dataengine.align.control import AlignInput
from dataengine.core.column import Column
from dataengine.core.episode import Episode, EpisodeInfo, events_of
from dataengine.core.errors import CorruptStore
from dataengine.core.objects import LocalObjects
from dataengine.core.stream import Items, Rows
from dataengine.core.trajectory import Trajectory
from dataengine.store.steps import read_steps, write_steps
from dataengine.store.store import Store, open_store
from tests.support.plain_reader import faults
from tests.support.plain_reader import read_steps as plain_steps
from tests.support.units import SourceItem, episode, ingest, new_store, times_ns

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "complex64", "complex128"]
NAMES = ["action", "observation.state", "imu/linear accel", "ünï", "_hidden", ".dot", "a~b", "x%2Fy", "reward", "topic"]


@st.composite
def episodes(draw):
    """Draw the events of an episode: some streams of numbers, texts and messages, on shared, own or no clocks, each whole or in batches."""
    kind = draw(st.sampled_from(["measured", "measured", "nominal", "unknown"]))
    shared = draw(st.integers(1, 9))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    start_ns = draw(st.sampled_from([0, -7, 1_700_000_000_000_000_000]))
    parts, columns, clocks = [], {}, {}
    for name in names:
        rows = shared if kind != "measured" else draw(st.sampled_from([shared, shared, 0, 1, 7, 40]))
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        stamps = {}
        if kind == "measured":
            period = draw(st.sampled_from([1, 5_000_000, 33_333_333]))
            stamps = {"stamp": start_ns + np.arange(rows, dtype=np.int64) * period + rng.integers(0, max(1, period // 5), rows)}
            if draw(st.booleans()):
                stamps["log"] = stamps["stamp"] + 1_000
            clocks[name] = "stamp"
        elif kind == "nominal":
            stamps = {"nominal": start_ns + times_ns(rows)}
            clocks[name] = "nominal"
        if draw(st.integers(0, 3)):
            dtype, shape = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
            values = np.frombuffer(rng.bytes(int(np.prod((rows, *shape))) * dtype.itemsize), np.uint8)
            values = (values % 2 if dtype == np.bool_ else values).view(dtype) if dtype != np.bool_ else (values % 2).astype(bool)
            values = values.reshape(rows, *shape)
            columns[name] = Column(name, dtype=dtype.name, shape=shape, align="nearest", meaning="action" if name == "action" else "other")
        else:
            values = Items([rng.bytes(int(rng.integers(0, 30))) for _ in range(rows)], "cdr")
            columns[name] = Column(name, kind="message", dtype="bytes", steps=draw(st.booleans()), encoding="cdr")
        cut = draw(st.integers(0, rows))
        for a, b in ((0, cut), (cut, rows)):
            if a < b or rows == a == b == 0:
                piece = Items(values.data[a:b], "cdr") if isinstance(values, Items) else values[a:b]
                parts.append(Rows(name, piece, {clock: times[a:b] for clock, times in stamps.items()}))
    rate_hz = 10.0 if kind == "nominal" else None
    return [
        *parts,
        EpisodeInfo("lab", columns, kind, "k", clocks, start_ns, start_ns > 0, rate_hz, tasks=("do it",), success=draw(st.sampled_from([None, True]))),
    ]


def joined(events, name):
    parts = [event for event in events[:-1] if event.stream == name]
    if isinstance(parts[0].values, Items):
        return [bytes(item) for part in parts for item in part.values.data], parts
    return np.concatenate([part.values for part in parts]), parts


def same(a, b) -> None:
    """Assert that two arrays hold the same bits (NaN included) with the same dtype and shape."""
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=episodes(), other=episodes())
def test_any_episode_reads_back_as_it_was(events, other):
    with tempfile.TemporaryDirectory() as folder:
        objects = new_store(Path(folder) / "s")
        done = ingest(objects, [SourceItem("before", episode(1)), SourceItem("a", events), SourceItem("b", other)], dataset="lab", shard_episodes=2)
        if not done.outcomes[1].episodes:
            assert done.outcomes[1].rejects[0]["check"] in ("unequal_lengths", "clock_span", "other_features"), done.outcomes[1].rejects
            return
        (row,) = done.outcomes[1].episodes
        info = events[-1]
        store = Store(objects)
        found = store.read_episode(row["episode_id"])
        assert set(found.streams) == set(info.columns)
        for name, column in info.columns.items():
            expected, parts = joined(events, name)
            stream = found.streams[name]
            assert stream.column == column
            if isinstance(expected, list):
                assert [bytes(item) for item in stream.values.data] == expected
                assert [stream.values.encoding(place) for place in range(len(expected))] == ["cdr"] * len(expected)
            else:
                same(stream.values, expected)
            clocks = {clock: np.concatenate([part.clocks[clock] for part in parts]) for clock in parts[0].clocks}
            chosen = info.stream_clocks.get(name)
            if chosen is None:
                assert stream.timestamps_ns is None
            else:
                same(stream.timestamps_ns, clocks[chosen] - info.start_ns)
            assert {clock: times.tolist() for clock, times in stream.clocks.items()} == {
                clock: times.tolist() for clock, times in clocks.items() if clock not in (chosen, "nominal")
            }
        assert (found.info.clock, found.info.tasks, found.info.success, found.info.key) == (info.clock, info.tasks, info.success, "k")
        assert found.info.stream_clocks == info.stream_clocks
        again = ingest(new_store(Path(folder) / "t"), [SourceItem("copy", events_of(found))])
        assert again.ids == [row["episode_id"]]
        assert faults(Path(folder) / "s") == []


def trajectory_of(events, config: AlignConfig) -> Trajectory:
    info = events[-1]
    inputs = {}
    for name, column in info.columns.items():
        values, parts = joined(events, name)
        chosen = info.stream_clocks.get(name)
        times = None if chosen is None else np.concatenate([part.clocks[chosen] for part in parts]) - info.start_ns
        if column.kind == "numeric" and values.dtype.kind == "c":
            column, values = Column(name, steps=False), np.zeros(len(values))
        inputs[name] = AlignInput(column, times, len(values) if isinstance(values, list) else values)
    return align(info, inputs, config)


def require_same_trajectory(found: Trajectory, made: Trajectory) -> None:
    """Columns without one fresh sample, and those without any entry in a row, are absent when read; everything else is as alignment left it."""
    assert found.steps == made.steps
    if made.steps:
        assert (found.t_ns is None) == (made.t_ns is None)
        assert made.t_ns is None or found.t_ns.tolist() == made.t_ns.tolist()
    everywhere = np.ones(made.steps, bool)
    there = {name for name, values in made.columns.items() if (made.valid.get(name, everywhere).any() or not made.steps) and values[:1].size + (not made.steps)}
    assert set(found.columns) == there
    for name in there:
        valid = made.valid.get(name, everywhere)
        same(found.valid.get(name, everywhere), valid)
        same(found.columns[name][valid], made.columns[name][valid])
        assert found.columns[name].dtype == made.columns[name].dtype
        if name in made.sampled_ns:
            same(found.sampled_ns[name], np.where(valid, made.sampled_ns[name], -1))
    seen = {name for name, frames in made.frames.items() if (frames >= 0).any()}
    assert {name for name in found.frames if made.steps} == (seen if made.steps else set())
    for name in seen:
        same(found.frames[name], made.frames[name])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=episodes(), rate_hz=st.sampled_from([None, None, 25.0]), staleness_ns=st.sampled_from([None, 0, 20_000_000]))
def test_any_trajectory_reads_back_as_alignment_left_it(events, rate_hz, staleness_ns):
    config = AlignConfig(rate_hz=rate_hz, staleness_ns=staleness_ns)
    with tempfile.TemporaryDirectory() as folder:
        objects = new_store(Path(folder) / "s")
        done = ingest(objects, [SourceItem("a", events)], align=config)
        if not done.ids:
            assert done.outcomes[0].rejects[0]["check"] in ("unequal_lengths", "clock_span", "no_clock"), done.outcomes[0].rejects
            return
        found, made = Store(objects).read_trajectory(done.ids[0]), trajectory_of(events, config)
        require_same_trajectory(found, made)
        assert (found.rate_hz, found.clock) == (made.rate_hz, events[-1].clock)
        table = plain_steps(Path(folder) / "s", Store(objects).row(done.ids[0]))
        assert table["step"].to_pylist() == list(range(made.steps))


# -- the steps file by itself


def numeric(values, valid=None, sampled=None, t_ns=None):
    values = np.asarray(values)
    return Trajectory(
        times_ns(len(values)) if t_ns is None else t_ns,
        {"x": values},
        {"x": Column("x", dtype=values.dtype.name, shape=values.shape[1:])},
        {} if valid is None else {"x": np.array(valid)},
        {} if sampled is None else {"x": np.array(sampled, dtype=np.int64)},
        steps=len(values),
    )


def through(tmp_path, *trajectories) -> list[Trajectory]:
    write_steps(tmp_path / "s.parquet", [("0" * 32, trajectory) for trajectory in trajectories])
    columns = {name: spec for trajectory in trajectories for name, spec in trajectory.specs.items()}
    return [read_steps(LocalObjects(tmp_path), "s.parquet", place, columns) for place in range(len(trajectories))]


@pytest.mark.parametrize("dtype", DTYPES[:-2])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)])
def test_every_dtype_keeps_values_and_nulls(tmp_path, dtype, shape):
    values = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 100, (4, *shape)).astype(dtype)
    for valid in (None, [True, False, True, True], [False, False, False, True]):
        (found,) = through(tmp_path, numeric(values, valid))
        there = np.ones(4, bool) if valid is None else np.array(valid)
        same(found.columns["x"][there], values[there])
        assert found.columns["x"].dtype == dtype
        assert ("x" in found.valid) == (valid is not None)
        assert valid is None or found.valid["x"].tolist() == valid


def test_nan_is_a_value_and_null_is_none(tmp_path):
    (found,) = through(tmp_path, numeric(np.array([[1.0, np.nan], [np.nan, np.nan], [np.inf, -0.0]]), [True, True, False]))
    assert found.valid["x"].tolist() == [True, True, False]
    np.testing.assert_array_equal(found.columns["x"][:2], [[1, np.nan], [np.nan, np.nan]])


def test_a_time_before_the_start_is_a_time(tmp_path):
    """Samples taken at -30 ns, never, and at -1 ns."""
    (found,) = through(tmp_path, numeric(np.arange(3.0), [True, False, True], [-30, -1, -1], np.array([-20, 0, 5], dtype=np.int64)))
    assert found.sampled_ns["x"].tolist() == [-30, -1, -1]
    assert pq.read_table(tmp_path / "s.parquet")["x.sampled_ns"].to_pylist() == [-30, None, -1]
    assert found.t_ns.tolist() == [-20, 0, 5]


def test_rows_seen_are_frames_whatever_the_stream_is(tmp_path):
    frames = {"front": np.array([0, -1, 2]), "task": np.array([0, 0, 0]), "never": np.array([-1, -1, -1])}
    specs = {"front": Column("front", kind="image"), "task": Column("task", kind="text"), "never": Column("never", kind="message")}
    (found,) = through(tmp_path, Trajectory(times_ns(3), {}, specs, {}, {"front": np.array([5, -1, 9])}, frames, steps=3))
    assert {name: rows.tolist() for name, rows in found.frames.items()} == {"front": [0, -1, 2], "task": [0, 0, 0]}
    assert found.columns == {}
    assert found.sampled_ns["front"].tolist() == [5, -1, 9]


def test_each_episode_is_a_row_group_and_lacks_what_it_lacks(tmp_path):
    first = numeric(np.arange(6.0).reshape(3, 2))
    second = Trajectory(None, {}, {"c": Column("c", kind="image")}, {}, {}, {"c": np.array([1, 0])}, steps=2)
    empty = Trajectory(None, {}, {}, steps=0)
    found = through(tmp_path, first, second, empty)
    assert [trajectory.steps for trajectory in found] == [3, 2, 0]
    assert [sorted(trajectory.columns) for trajectory in found[:2]] == [["x"], []]
    assert [sorted(trajectory.frames) for trajectory in found[:2]] == [[], ["c"]]
    assert found[1].t_ns is None
    with pytest.raises(CorruptStore, match="expected a row group 3, found 3"):
        read_steps(LocalObjects(tmp_path), "s.parquet", 3, {})


def test_an_episode_in_memory_lands_and_reads_back(tmp_path):
    """Live collection: the value that `read_episode` returns goes into another store as it is."""
    objects = new_store(tmp_path / "s")
    done = ingest(objects, [SourceItem("a", episode(3, 6))])
    live = open_store(objects.url).read_episode(done.ids[0])
    assert isinstance(live, Episode)
    other = ingest(new_store(tmp_path / "t"), [SourceItem("live", events_of(live))])
    assert other.ids == done.ids


def test_rows_whose_size_differs_between_episodes_read_back_in_their_own(tmp_path):
    made = [numeric(np.arange(6.0).reshape(3, 2)), numeric(np.arange(12.0).reshape(3, 4), [True, False, True]), numeric(np.arange(12.0).reshape(2, 2, 3))]
    found = through(tmp_path, *made)
    same(found[0].columns["x"], made[0].columns["x"])
    assert found[1].valid["x"].tolist() == [True, False, True]
    same(found[1].columns["x"][[0, 2]], made[1].columns["x"][[0, 2]])
    same(found[2].columns["x"], made[2].columns["x"])
