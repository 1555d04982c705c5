from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Noticed, Rejected
from dataengine.core.errors import BadRecording, StoreError
from dataengine.core.problem import Problem
from dataengine.core.stream import Items, MediaFrames, Rows
from dataengine.store.landing import METADATA_BYTES, METADATA_STREAM, json_bytes
from dataengine.store.store import open_store
from dataengine.video.index import frame_index
from tests.support.films import number_of, numbered, write_film
from tests.support.plain_reader import faults, read_episode
from tests.support.units import Lander, SourceItem, episode, ingest, new_store, times_ns


@pytest.fixture
def objects(tmp_path):
    return new_store(tmp_path / "store")


def holds(store, episode_id: str, number: int, rows: int = 5) -> None:
    """Assert that a stored episode is `episode(number, rows)`, row by row."""
    made = {event.stream: event.values for event in episode(number, rows)[:-1]}
    found = store.read_episode(episode_id)
    np.testing.assert_array_equal(found.streams["action"].values, made["action"])
    np.testing.assert_array_equal(found.streams["observation.state"].values, made["observation.state"])
    assert list(found.streams["note"].values.data) == list(made["note"].data)
    assert found.streams["action"].timestamps_ns.tolist() == times_ns(rows).tolist()
    trajectory = store.read_trajectory(episode_id)
    np.testing.assert_array_equal(trajectory.columns["action"], made["action"])
    assert trajectory.frames["note"].tolist() == list(range(rows))


# -- one broken recording among others


def layout_change(number: int):
    rows = episode(number)
    return [rows[0], Rows("action", np.zeros((2, 9), np.float32), {"log": times_ns(2)}), *rows[1:]]


BROKEN = {
    "layout_changes": lambda: layout_change(7),
    "truncated": lambda: [*episode(7)[:2], Rejected("x", Problem("truncated", "cut off"))],
    "undescribed_stream": lambda: [Rows("extra", np.zeros(5)), *episode(7, key="x")],
    "unequal_lengths": lambda: [Rows("action", np.zeros((2, 3), np.float32)), *episode(7)],
    "no_times": lambda: [
        Rows("late", np.zeros(2)),
        *episode(7, columns={**episode(7)[-1].columns, "late": Column("late", dtype="float64")}, stream_clocks={"late": "pts"}),
    ],
    "not_numeric": lambda: [Rows("action", np.array(["a"])), *episode(7)],
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_recording_costs_no_other_of_its_item(objects, check):
    item = SourceItem("a", [*episode(1), *episode(2, 9), *BROKEN[check](), *episode(3, 2), *episode(4)])
    done = ingest(objects, [item, SourceItem("b", episode(5))])
    tally = done.committer.tally
    assert (tally.landed, tally.rejected, tally.found) == (5, 1, 6)
    assert tally.rejects[0]["check"] == check
    assert open_store(objects.url).rows("source").collect().sort("source_uri")["recordings"].to_list() == [5, 1]
    for episode_id, number, rows in zip(done.ids, (1, 2, 3, 4, 5), (5, 9, 2, 5, 5), strict=True):
        holds(open_store(objects.url), episode_id, number, rows)
    assert faults(objects.local("")) == []


@pytest.mark.parametrize(
    ("error", "check"),
    [(BadRecording("record 2", "a whole record", "half of one", "copy it again", "truncated"), "truncated"), (KeyError("steps"), "unexpected_error")],
)
def test_a_reader_that_stops_ends_its_item_and_no_other(objects, error, check):
    def events():
        yield from episode(1)
        yield from episode(2)[:2]
        raise error

    done = ingest(objects, [SourceItem("a", events()), SourceItem("b", episode(3))])
    assert (done.committer.tally.landed, done.committer.tally.rejected) == (2, 1)
    assert done.committer.tally.rejects[0]["check"] == check
    for episode_id, number in zip(done.ids, (1, 3), strict=True):
        holds(open_store(objects.url), episode_id, number)


def test_rows_without_an_end_are_named_and_do_not_run_into_the_next_item(objects):
    done = ingest(objects, [SourceItem("a", [*episode(1), *episode(2)[:-1]]), SourceItem("b", episode(3))])
    assert [(reject["source_uri"], reject["check"]) for reject in done.committer.tally.rejects] == [("src/a", "truncated")]
    holds(open_store(objects.url), done.ids[1], 3)


def test_what_the_disk_or_the_store_says_ends_the_job_instead_of_rejecting(objects):
    def events(error):
        yield from episode(1)
        raise error

    for error in (OSError("disk full"), StoreError("no bucket")):
        with pytest.raises(type(error)):
            Lander(objects).land([SourceItem("a", events(error))])


def test_problems_that_cost_no_recording_are_reported(objects):
    noticed = Noticed(Problem("missing_part", "video 3 is listed but absent", "meta/episodes.jsonl"))
    done = ingest(objects, [SourceItem("a", [noticed, *episode(1)])])
    assert [(problem["check"], problem["source"]) for problem in done.committer.tally.problems if problem["check"] == "missing_part"] == [
        ("missing_part", "src/a")
    ]


def test_duplicates_inside_one_unit_land_once(objects):
    done = ingest(objects, [SourceItem("a", [*episode(1), *episode(1, key="again")]), SourceItem("b", episode(1))])
    assert (done.committer.tally.landed, done.committer.tally.skipped) == (1, 2)
    assert [problem["check"] for problem in done.committer.tally.problems if problem["severity"] == "info"] == ["duplicate_recording"]
    holds(open_store(objects.url), done.ids[0], 1)


# -- features


def one_column(column: Column, values, key: str = "k"):
    return [Rows(column.name, values, {"log": times_ns(len(values))}), EpisodeInfo("lab", {column.name: column}, "measured", key, {column.name: "log"})]


@pytest.mark.parametrize(
    ("column", "values", "difference"),
    [
        (Column("action", dtype="float32", shape=(4,), meaning="action"), np.zeros((5, 4), np.float32), "action: shape [4] where the dataset has [3]"),
        (Column("action", dtype="float64", shape=(3,), meaning="action"), np.zeros((5, 3)), "action: dtype float64 where the dataset has float32"),
        (Column("note", dtype="float64"), np.zeros(5), "note: kind numeric where the dataset has text"),
    ],
)
def test_an_episode_with_other_features_is_rejected_with_the_difference(objects, column, values, difference):
    ingest(objects, [SourceItem("a", episode(1))])
    done = ingest(objects, [SourceItem("b", [*one_column(column, values), *episode(2)])])
    (reject,) = done.committer.tally.rejects
    assert (reject["check"], reject["found"], reject["source_key"]) == ("other_features", difference, "k")
    assert "--dataset" in reject["advice"]
    assert done.committer.tally.landed == 1


def test_an_episode_that_lacks_a_stream_lands_and_the_shard_has_nulls_there(objects):
    lacking = [event for event in episode(2) if not (isinstance(event, Rows) and event.stream == "note")]
    done = ingest(objects, [SourceItem("a", [*episode(1), *lacking, *episode(3)])])
    store = open_store(objects.url)
    assert [sorted(store.read_episode(episode_id).streams) for episode_id in done.ids][1] == ["action", "observation.state"]
    assert "note" not in store.read_trajectory(done.ids[1]).frames
    assert store.read_trajectory(done.ids[2]).frames["note"].tolist() == [0, 1, 2, 3, 4]
    holds(store, done.ids[0], 1)


def test_the_features_of_an_episode_do_not_depend_on_which_came_before(objects):
    done = ingest(objects, [SourceItem("a", [*episode(1, embodiment="aloha"), *episode(2, embodiment="widowx_250"), *episode(3, embodiment="aloha")])])
    store = open_store(objects.url)
    rows = [store.row(episode_id) for episode_id in done.ids]
    assert rows[0]["features"] == rows[2]["features"] != rows[1]["features"]
    documents = [json.loads((objects.local("") / f"datasets/lab/{row['features']}.json").read_text()) for row in rows[:2]]
    assert [document["embodiment"] for document in documents] == ["aloha", "widowx_250"]


# -- metadata


def test_metadata_too_large_for_a_row_goes_whole_into_a_stream(objects):
    large = {"operator": "ada", "log": "x" * METADATA_BYTES, "n": 3}
    many = {f"key{number}": "y" * 500 for number in range(1000)}
    done = ingest(objects, [SourceItem("a", [*episode(1, metadata=large), *episode(2, metadata={"n": 4}), *episode(3, metadata=many)])])
    store = open_store(objects.url)
    rows = [store.row(episode_id) for episode_id in done.ids]
    assert json.loads(rows[0]["metadata"]) == {"operator": "ada", "n": 3, "whole_in_stream": METADATA_STREAM}
    assert json.loads(rows[1]["metadata"]) == {"n": 4}
    small = json.loads(rows[2]["metadata"])
    assert small.pop("whole_in_stream") == METADATA_STREAM
    assert 100 < len(small) < 130
    assert small.items() < many.items()
    assert all(len(row["metadata"].encode()) <= METADATA_BYTES for row in rows)
    for episode_id, whole in ((done.ids[0], large), (done.ids[2], many)):
        (data,) = store.read_episode(episode_id).streams[METADATA_STREAM].values.data
        assert json.loads(bytes(data)) == whole
    assert METADATA_STREAM not in store.read_episode(done.ids[1]).streams
    plain = ingest(objects, [SourceItem("b", episode(1))])
    assert plain.committer.tally.skipped == 1  # metadata is no part of the identity
    assert faults(objects.local("")) == []


def test_a_stream_that_has_the_name_of_the_metadata_stream_keeps_its_rows(objects):
    column = Column(METADATA_STREAM, dtype="float64")
    rows, info = one_column(column, np.arange(4.0))
    done = ingest(
        objects, [SourceItem("a", [rows, EpisodeInfo(info.dataset, info.columns, info.clock, "", info.stream_clocks, metadata={"z": "x" * METADATA_BYTES})])]
    )
    found = open_store(objects.url).read_episode(done.ids[0])
    assert found.streams[METADATA_STREAM].values.tolist() == [0, 1, 2, 3]
    assert json.loads(bytes(found.streams[METADATA_STREAM + "_"].values.data[0])) == {"z": "x" * METADATA_BYTES}


def test_metadata_is_json_whatever_it_holds(objects):
    strange = {"nan": float("nan"), "deep": [{"inf": float("-inf")}, (1, 2.5)], "path": "a\udcff", "set": {1}, "true": True, "umlaut": "ä"}
    assert json.loads(json_bytes(strange)) == {"nan": "nan", "deep": [{"inf": "-inf"}, [1, 2.5]], "path": "a\udcff", "set": "{1}", "true": True, "umlaut": "ä"}
    done = ingest(objects, [SourceItem("a", episode(1, metadata=strange))])
    assert open_store(objects.url).read_episode(done.ids[0]).info.metadata["deep"] == [{"inf": "-inf"}, [1, 2.5]]


# -- shards


@pytest.mark.parametrize(
    ("limits", "expected"), [({"shard_episodes": 3}, [3, 3, 1]), ({"shard_bytes": 300}, [2, 2, 2, 1]), ({"shard_bytes": 1000}, [5, 2]), ({}, [7])]
)
def test_a_full_shard_is_followed_by_the_next(objects, limits, expected):
    """An episode of 5 rows holds 5 x (12 + 16) bytes of numbers and 5 x 15 of text: 215 bytes; the fifth fills a shard of 1000."""
    done = ingest(objects, [SourceItem(f"{number}", episode(number)) for number in range(7)], **limits)
    store = open_store(objects.url)
    rows = [store.row(episode_id) for episode_id in done.ids]
    assert [row["bytes"] for row in rows] == [215] * 7
    names = list(dict.fromkeys(row["shard"] for row in rows))
    assert [sum(row["shard"] == name for row in rows) for name in names] == expected
    assert [row["ordinal"] for row in rows] == [ordinal for count in expected for ordinal in range(count)]
    for number, episode_id in enumerate(done.ids):
        holds(store, episode_id, number)
    assert sorted(path.name for path in (objects.local("") / "streams/lab").iterdir()) == sorted(names)
    assert faults(objects.local("")) == []


def test_a_unit_that_lands_nothing_leaves_no_shard(objects):
    ingest(objects, [SourceItem("a", episode(1))])
    before = sorted((objects.local("") / "streams").rglob("*"))
    done = ingest(objects, [SourceItem("b", [*episode(1), *layout_change(2)])])
    assert (done.committer.tally.skipped, done.committer.tally.rejected) == (1, 1)
    assert sorted((objects.local("") / "streams").rglob("*")) == before


# -- kept video


def film_rows(path, index, first: int, count: int, stream: str = "observation.images.front"):
    facts = {"codec": "h264", "extension": "mp4", **index.as_facts()}
    values = MediaFrames(path.name, index.track, first, count, index=index.as_columns(), facts=facts)
    return Rows(stream, values, {"pts": index.pts_ns[first : first + count]})


def test_a_video_file_is_kept_once_for_all_its_episodes_and_streams(objects, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    path = write_film(source / "film.MP4", numbered(30), gop=7, b_frames=2)
    index = frame_index(str(path))
    column = Column("observation.images.front", kind="image", dtype="uint8", shape=(64, 96, 3))
    other = Column("observation.images.again", kind="image", dtype="uint8", shape=(64, 96, 3))

    def one(first, count, twice=False):
        streams = {column.name: column} | ({other.name: other} if twice else {})
        rows = [film_rows(path, index, first, count, name) for name in streams]
        return [*rows, EpisodeInfo("lab", streams, "measured", f"{first}", dict.fromkeys(streams, "pts"), int(index.pts_ns[first]))]

    done = ingest(objects, [SourceItem("a", [*one(0, 12), *one(12, 18, True), *one(0, 12)]), SourceItem("b", one(5, 3))], source=source, shard_episodes=2)
    assert (done.committer.tally.landed, done.committer.tally.skipped) == (3, 1)
    media = sorted(file.name for file in (objects.local("") / "media").iterdir())
    assert len(media) == 2
    assert (objects.local("") / "media" / next(name for name in media if name.endswith(".mp4"))).read_bytes() == path.read_bytes()
    store = open_store(objects.url)
    assert [number_of(frame) for frame in store.read_frames(done.ids[1], "observation.images.again", [17, 0, 5])] == [29, 12, 17]
    assert [number_of(frame) for frame in store.read_frames(done.ids[2], column.name, [2, 1, 0])] == [7, 6, 5]
    found = store.read_episode(done.ids[1]).streams[column.name]
    assert isinstance(found.values, MediaFrames)
    assert (found.values.first, found.values.count) == (12, 18)
    assert found.timestamps_ns.tolist() == (index.pts_ns[12:30] - index.pts_ns[12]).tolist()
    plain = read_episode(objects.local(""), store.row(done.ids[2]))[column.name]
    assert plain.rows[0].read_bytes() == path.read_bytes()
    assert plain.rows[1:] == (0, 5, 3)
    assert not store.row(done.ids[0])["lossy"]
    assert faults(objects.local("")) == []


def test_an_empty_or_missing_video_rejects_its_recording_only(objects, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    path = write_film(source / "film.mp4", numbered(5))
    index = frame_index(str(path))
    (source / "empty.mp4").write_bytes(b"")
    column = Column("observation.images.front", kind="image", dtype="uint8", shape=(64, 96, 3))
    info = EpisodeInfo("lab", {column.name: column}, "measured", "k", {column.name: "pts"})
    good = film_rows(path, index, 0, 5)
    empty = Rows(column.name, MediaFrames("empty.mp4", 0, 0, 5, index=index.as_columns()), {"pts": index.pts_ns})
    done = ingest(objects, [SourceItem("a", [empty, info, good, info])], source=source)
    assert [reject["check"] for reject in done.committer.tally.rejects] == ["empty_file"]
    assert done.committer.tally.landed == 1
    twice = ingest(objects, [SourceItem("b", [good, good, info])], source=source)
    assert [reject["check"] for reject in twice.committer.tally.rejects] == ["layout_changes"]


# -- identity


def in_batches(events, cuts: list[int], order: list[int]):
    """Cut each stream's rows at some places, and interleave the streams in another order."""
    *rows, info = events
    parts = []
    for row in rows:
        places = sorted({0, len(row.values), *(cut % (len(row.values) + 1) for cut in cuts)})
        for a, b in pairwise(places):
            values = Items(row.values.data[a:b], row.values.encodings) if isinstance(row.values, Items) else row.values[a:b]
            parts.append(Rows(row.stream, values, {name: stamps[a:b] for name, stamps in row.clocks.items()}))
    shuffled: list[Rows] = []
    queues = {name: [part for part in parts if part.stream == name] for name in dict.fromkeys(part.stream for part in parts)}
    turn = 0
    while any(queues.values()):
        names = [name for name, queue in queues.items() if queue]
        shuffled.append(queues[names[order[turn % len(order)] % len(names)]].pop(0))
        turn += 1
    return [*shuffled, info]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    objects = new_store(tmp_path_factory.mktemp("reference"))
    done = ingest(objects, [SourceItem("a", episode(1, 12))])
    return done.ids[0], open_store(objects.url).index(open_store(objects.url).row(done.ids[0]))


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 12), max_size=6), order=st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_the_identity_and_content_do_not_depend_on_batches_or_the_order_of_streams(tmp_path_factory, reference, cuts, order):
    objects = new_store(tmp_path_factory.mktemp("s"))
    outcome, _ = Lander(objects).land([SourceItem("elsewhere/b.bag", in_batches(episode(1, 12), cuts, order), ("val",), "e" * 32), SourceItem("c", [])])
    assert [row["episode_id"] for row in outcome.episodes] == [reference[0]]
    shard = next((objects.local("") / "streams/lab").iterdir())
    assert {row["stream"]: row["digest"] for row in pq.read_table(shard / "index.parquet").to_pylist()} == {
        row["stream"]: row["digest"] for row in reference[1]
    }


def id_of(events, tmp_path_factory) -> str:
    (outcome,) = Lander(new_store(tmp_path_factory.mktemp("s"))).land([SourceItem("a", events)])
    return str(outcome.episodes[0]["episode_id"])


def test_the_identity_does_not_depend_on_what_is_said_about_the_recording(tmp_path_factory, reference):
    said = episode(
        1, 12, key="other", tasks=("another task",), metadata={"a": 1}, success=True, splits=("val",), embodiment="aloha", rate_hz=10.0, origin="policy"
    )
    assert id_of(said, tmp_path_factory) == reference[0]


@settings(max_examples=40, deadline=None)
@given(stream=st.integers(0, 2), row=st.integers(0, 11), bit=st.integers(0, 22), what=st.sampled_from(["value", "time", "missing row", "name"]))
def test_the_identity_changes_with_any_value_time_and_name(tmp_path_factory, reference, stream, row, bit, what):
    *rows, info = episode(1, 12)
    old = rows[stream]
    values, clocks, name = old.values, {"log": old.clocks["log"].copy()}, old.stream
    if what == "value" and isinstance(values, Items):
        data = list(values.data)
        data[row] = bytes([data[row][0] ^ 1 << bit % 7]) + data[row][1:]
        values = Items(data, "utf-8")
    elif what == "value":
        changed = values.copy()
        changed.view(np.uint32)[row, 0] ^= np.uint32(1 << bit)
        values = changed
    elif what == "time":
        clocks["log"][row] += 1
    elif what == "missing row":
        keep = [place for place in range(12) if place != row]
        values = Items([values.data[place] for place in keep], "utf-8") if isinstance(values, Items) else values[keep]
        clocks["log"] = clocks["log"][keep]
    else:
        name = f"{name}2"
    columns = {column.name: column for column in info.columns.values()}
    columns[name] = Column(name, columns[old.stream].kind, columns[old.stream].dtype, columns[old.stream].shape)
    rows[stream] = Rows(name, values, clocks)
    new = EpisodeInfo("lab", columns, "measured", "", dict.fromkeys(columns, "log"), info.start_ns)
    assert id_of([*rows, new], tmp_path_factory) != reference[0]


def test_equal_bytes_of_another_dtype_or_shape_are_another_recording(tmp_path_factory):
    base = np.arange(12, dtype=np.int32).reshape(4, 3)
    variants = [base, base.view(np.float32), base.view(np.uint32), base.reshape(4, 3, 1), np.arange(12, dtype=np.int32).reshape(4, 1, 3)]
    ids = {id_of(one_column(Column("x", dtype=v.dtype.name, shape=v.shape[1:], steps=False), v), tmp_path_factory) for v in variants}
    assert len(ids) == 5
    assert id_of(one_column(Column("x", dtype="int32", shape=(3,), steps=False), base.astype(">i4")), tmp_path_factory) in ids


def test_items_are_told_apart_by_where_they_end(tmp_path_factory):
    column = Column("x", kind="message", dtype="bytes", steps=False)
    ids = {id_of(one_column(column, Items(data, "cdr")), tmp_path_factory) for data in ([b"ab", b"c"], [b"a", b"bc"], [b"abc", b""], [b"", b"abc"], [b"abc"])}
    assert len(ids) == 5


def test_a_nominal_clock_is_no_part_of_the_identity_and_a_measured_one_is(tmp_path_factory):
    def one(kind, step_ns):
        return [
            Rows("x", np.arange(4.0), {"nominal" if kind == "nominal" else "log": times_ns(4, 0, step_ns)}),
            EpisodeInfo("lab", {"x": Column("x", dtype="float64")}, kind, "", {"x": "nominal" if kind == "nominal" else "log"}),
        ]

    assert id_of(one("nominal", 100), tmp_path_factory) == id_of(one("nominal", 200), tmp_path_factory)
    assert id_of(one("measured", 100), tmp_path_factory) != id_of(one("measured", 200), tmp_path_factory)


def test_infinities_of_both_signs_land_with_a_flag(objects):
    values = np.array([[np.inf, 1.0], [-np.inf, np.nan], [0.0, 2.0]])
    done = ingest(objects, [SourceItem("a", one_column(Column("action", dtype="float64", shape=(2,), meaning="action"), values))])
    row = open_store(objects.url).row(done.ids[0])
    assert "not_finite" in row["flags"]
    np.testing.assert_array_equal(open_store(objects.url).read_trajectory(done.ids[0]).columns["action"], values)


def test_a_size_that_no_trajectory_had_yet_is_settled_by_the_first_that_has(objects):
    """`x` is native only in the first episode, so the second settles its size; the third contradicts that."""
    made = [Column("x", dtype="float32", shape=(size,), steps=steps) for size, steps in ((2, False), (4, True), (6, True))]
    events = [event for column in made for event in one_column(column, np.ones((5, column.shape[0]), np.float32), str(column.shape))]
    done = ingest(objects, [SourceItem("a", events)])
    assert [reject["found"] for reject in done.committer.tally.rejects] == ["x: shape [6] where the dataset has [4]"]
    later = ingest(objects, [SourceItem("b", events[4:])])
    assert (later.committer.tally.landed, later.committer.tally.rejected) == (0, 1)


def test_rows_whose_size_is_said_to_vary_may_differ_between_episodes(objects):
    column = Column("x", dtype="float32", shape=(None,))
    events = [event for size in (2, 4, 6) for event in one_column(column, np.full((5, size), size, np.float32), str(size))]
    done = ingest(objects, [SourceItem("a", events)])
    store = open_store(objects.url)
    for episode_id, size in zip(done.ids, (2, 4, 6), strict=True):
        assert store.read_episode(episode_id).streams["x"].values.tolist() == [[size] * size] * 5
        assert store.read_trajectory(episode_id).columns["x"].tolist() == [[size] * size] * 5
