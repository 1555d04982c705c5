"""Each lane by itself through a shard: what is kept comes back, what is abandoned leaves nothing, and one episode's times never reach another's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import zarr

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Rejected
from dataengine.core.errors import StoreError
from dataengine.core.problem import Problem
from dataengine.core.stream import Frames, Items, Rows
from dataengine.samples.barcode import Barcode, read_barcode, stamp
from dataengine.store.lanes import NO_TIME
from dataengine.store.pixels import decode_picture
from dataengine.store.store import open_store
from dataengine.store.video_lane import VideoPolicy
from dataengine.video.fidelity import gate
from tests.support.plain_reader import faults, read_episode
from tests.support.units import SourceItem, ingest, new_store, times_ns

CAMERA = "observation.images.front"


@pytest.fixture
def objects(tmp_path):
    return new_store(tmp_path / "store")


def recording(streams: dict[str, tuple[Column, list[Rows]]], key: str = "", clock: str | None = "log", **info):
    """Return events of streams given as name -> (column, rows)."""
    events = [rows for _, parts in streams.values() for rows in parts]
    clocks = {name: clock for name, (_, parts) in streams.items() if clock is not None and parts and clock in parts[0].clocks}
    columns = {name: column for name, (column, _) in streams.items()}
    return [*events, EpisodeInfo("lab", columns, info.pop("kind", "measured"), key, clocks, **info)]


def signal(name: str, values, **clocks):
    values = np.asarray(values)
    stamps = {clock: np.array(times, dtype=np.int64) for clock, times in clocks.items()}
    return {name: (Column(name, dtype=values.dtype.name, shape=values.shape[1:]), [Rows(name, values, stamps)])}


def camera(pictures, name: str = CAMERA, kind="image", exact=False, batches=1, clocks=None):
    pictures = np.asarray(pictures)
    stamps = {"log": times_ns(len(pictures))} if clocks is None else clocks
    cuts = np.linspace(0, len(pictures), batches + 1).astype(int)
    rows = [Rows(name, Frames(pictures[a:b], exact), {clock: times[a:b] for clock, times in stamps.items()}) for a, b in pairwise(cuts)]
    return {name: (Column(name, kind=kind, dtype=pictures.dtype.name, shape=pictures.shape[1:]), rows)}


def scene(count: int, episode: int = 0, height: int = 64, width: int = 96, channels: int | None = 3) -> np.ndarray:
    """Return frames (count, H, W, C) of moving colours that carry their number, camera 1 and episode as a barcode."""
    rows, columns = np.mgrid[0:height, 0:width]
    pictures = np.empty((count, height, width, 3), np.uint8)
    for place in range(count):
        for channel in range(3):
            pictures[place, :, :, channel] = 128 + 70 * np.sin(columns / (9 + 4 * channel) + 0.2 * place) * np.cos(rows / 8 + episode)
        stamp(pictures[place], Barcode(place, 1, episode))
    return pictures if channels == 3 else pictures[..., 0] if channels is None else pictures[..., :1]


def noise(count: int, height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def numbers_of(pictures) -> list[int]:
    codes = [read_barcode(picture) for picture in pictures]
    assert all(code is not None and code.camera == 1 for code in codes)
    return [code.frame for code in codes]


# -- clocks


def test_clocks_that_single_episodes_lack_never_reach_others(objects):
    """Three episodes of one stream: stamp+log, log only, none. The arrays are padded, the index says who has what."""
    values = np.arange(3.0)
    done = ingest(
        objects,
        [
            SourceItem("a", recording(signal("x", values, stamp=[5, 6, 8], log=[50, 60, 80]), clock="stamp", start_ns=5)),
            SourceItem("b", recording(signal("x", values + 1, log=[7, 8, 9]), clock="log", start_ns=7)),
            SourceItem("c", recording(signal("x", values + 2), clock=None, kind="unknown")),
            SourceItem("d", recording(signal("x", values + 3, stamp=[1, 2, 4]), clock="stamp")),
        ],
    )
    store = open_store(objects.url)
    found = [store.read_episode(episode_id) for episode_id in done.ids]
    times = [None if e.streams["x"].timestamps_ns is None else e.streams["x"].timestamps_ns.tolist() for e in found]
    assert times == [[0, 1, 3], [0, 1, 2], None, [1, 2, 4]]
    assert [{name: stamps.tolist() for name, stamps in e.streams["x"].clocks.items()} for e in found] == [{"log": [50, 60, 80]}, {}, {}, {}]
    assert [e.info.stream_clocks for e in found] == [{"x": "stamp"}, {"x": "log"}, {}, {"x": "stamp"}]
    shard = next((objects.local("") / "streams/lab").iterdir())
    padded = zarr.open_group(shard / "arrays.zarr/x", mode="r")
    assert padded["timestamps_ns"][...].tolist() == [0, 1, 3, 0, 1, 2, *[NO_TIME] * 3, 1, 2, 4]
    assert padded["clock_log_ns"][...].tolist() == [50, 60, 80, *[NO_TIME] * 9]
    assert store.read_trajectory(done.ids[2]).t_ns is None
    assert faults(objects.local("")) == []


def test_a_clock_that_comes_with_a_later_episode_is_padded_before(objects):
    done = ingest(
        objects,
        [
            SourceItem("a", recording(signal("x", [1.0, 2.0]), clock=None, kind="unknown")),
            SourceItem("b", recording(signal("x", [3.0, 4.0, 5.0], log=[10, 20, 30], publish=[1, 2, 3]))),
        ],
    )
    streams = [open_store(objects.url).read_episode(episode_id).streams["x"] for episode_id in done.ids]
    assert streams[0].timestamps_ns is None
    assert streams[0].clocks == {}
    assert streams[1].timestamps_ns.tolist() == [10, 20, 30]
    assert streams[1].clocks["publish"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("stamps", "start_ns"), [([-(2**63), 2**63 - 1], 0), ([0, 2**63 - 1], -5), ([2**63 - 1, 0], 2**63 + 5), ([-(2**62), 2**62 + 5], 0), ([0, 5], 2**63)]
)
def test_times_that_int64_cannot_hold_reject_the_recording_and_no_other(objects, stamps, start_ns):
    done = ingest(
        objects, [SourceItem("a", [*recording(signal("x", [1.0, 2.0], log=stamps), start_ns=start_ns), *recording(signal("x", [1.0, 2.0], log=[0, 5]))])]
    )
    assert [reject["check"] for reject in done.committer.tally.rejects] == ["clock_span"]
    assert done.committer.tally.landed == 1


# -- numbers and items


def test_abandoned_episodes_leave_no_row_in_any_lane(objects):
    """Every second recording is a duplicate or breaks off: what lies in the shard is exactly what landed."""

    def one(number: int, undescribed: bool = False):
        streams = {
            **signal("x", np.arange(4.0) + number, log=range(4)),
            "text": (Column("text", kind="text", dtype="string"), [Rows("text", Items([b"a" * number, b"", b"c"], "utf-8"), {"log": times_ns(3)})]),
            **camera(scene(3, number)),
            **camera(np.full((3, 4, 4), number, np.uint16), "depth", "depth", exact=True),
        }
        events = recording(streams, str(number))
        if undescribed:
            events[-1] = EpisodeInfo("lab", {name: column for name, (column, _) in streams.items() if name != "text"}, "measured", str(number))
        return events

    cut_off = Rejected("4", Problem("truncated", "record 4 is cut off"))
    done = ingest(
        objects, [SourceItem("a", [*one(1), *one(2, undescribed=True), *one(1), *one(3), *one(4)[:3], cut_off])], video=VideoPolicy(on_loss="lossless")
    )
    tally = done.committer.tally
    assert (tally.landed, tally.skipped, tally.rejected) == (2, 1, 2)
    assert [reject["check"] for reject in tally.rejects] == ["undescribed_stream", "truncated"]
    shard = next((objects.local("") / "streams/lab").iterdir())
    assert zarr.open_array(shard / "arrays.zarr/x/values", mode="r")[...].tolist() == [1, 2, 3, 4, 3, 4, 5, 6]
    assert bytes(zarr.open_array(shard / "arrays.zarr/text/data", mode="r")[...]) == b"ac" + b"aaac"
    assert zarr.open_array(shard / "arrays.zarr/text/offsets", mode="r")[...].tolist() == [0, 1, 1, 2, 5, 5, 6]
    assert zarr.open_array(shard / "arrays.zarr/depth/height", mode="r")[...].tolist() == [4] * 6
    store = open_store(objects.url)
    for episode_id, number in zip(done.ids, (1, 3), strict=True):
        pictures = store.read_frames(episode_id, CAMERA, [0, 1, 2])
        assert [read_barcode(picture) for picture in pictures] == [Barcode(frame, 1, number) for frame in range(3)]
        assert (store.read_frames(episode_id, "depth", [2, 0]) == number).all()
    assert faults(objects.local("")) == []


def test_items_of_mixed_encodings_empty_grey_and_damaged_come_back_as_they_were(objects):
    import cv2

    colour = bytes(cv2.imencode(".jpg", scene(1)[0])[1].data)
    grey = bytes(cv2.imencode(".jpg", scene(1, channels=None)[0])[1].data)
    png = bytes(cv2.imencode(".png", scene(1)[0][:30])[1].data)
    frames = [colour, b"", grey, png, colour[: len(colour) // 2], b"no picture", colour]
    encodings = ["jpeg", "jpeg", "jpeg", "png", "jpeg", "jpeg", "jpeg"]
    column = Column(CAMERA, kind="image", dtype="uint8", shape=(None, None, 3), encoding="jpeg")
    rows = [Rows(CAMERA, Items(frames[:4], encodings[:4]), {"log": times_ns(4)}), Rows(CAMERA, Items(frames[4:], "jpeg"), {"log": times_ns(3, 400_000_000)})]
    texts = Rows("note", Items([b"x", b"yy"], ["cdr", "ros1"]), {})
    done = ingest(
        objects, [SourceItem("a", recording({CAMERA: (column, rows), "note": (Column("note", kind="message", dtype="bytes", steps=False), [texts])}))]
    )
    (episode_id,) = done.ids
    store = open_store(objects.url)
    episode = store.read_episode(episode_id)
    items = episode.streams[CAMERA].values
    assert list(items.data) == [items.data[row] for row in range(7)] == frames
    assert [items.encoding(row) for row in range(7)] == encodings
    assert [episode.streams["note"].values.encoding(row) for row in range(2)] == ["cdr", "ros1"]
    assert {problem["check"] for problem in done.committer.tally.problems} >= {"missing_frames", "damaged_frames", "grey_among_colour", "mixed_frame_sizes"}
    np.testing.assert_array_equal(store.read_frames(episode_id, CAMERA, [6])[0], decode_picture(colour, ""))
    assert store.read_frames(episode_id, CAMERA, [3]).shape == (1, 30, 96, 3)
    assert store.read_frames(episode_id, CAMERA, []).shape[0] == 0
    with pytest.raises(StoreError, match="frame 1: expected a picture, found 0 bytes"):
        store.read_frames(episode_id, CAMERA, [1])
    with pytest.raises(StoreError, match="the frames differ in size"):
        store.read_frames(episode_id, CAMERA, [0, 3])
    with pytest.raises(StoreError, match="frame 7 of 7; ask for 0 to 6"):
        store.read_frames(episode_id, CAMERA, [7])
    plain = read_episode(objects.local(""), store.row(episode_id))
    assert plain[CAMERA].rows == frames
    assert plain[CAMERA].encodings == tuple(encodings)
    shard = next((objects.local("") / "streams/lab").iterdir())
    heights = zarr.open_array(shard / f"arrays.zarr/{CAMERA}/height", mode="r")[...]
    assert heights.tolist() == [64, 0, 64, 30, 64, 0, 64]
    assert zarr.open_array(shard / f"arrays.zarr/{CAMERA}/complete", mode="r")[...].tolist() == [1, 0, 1, 1, 0, 0, 1]
    assert zarr.open_array(shard / f"arrays.zarr/{CAMERA}/channels", mode="r")[...].tolist() == [3, 0, 1, 3, 3, 0, 3]
    trajectory = store.read_trajectory(episode_id)
    assert trajectory.frames[CAMERA].tolist() == [0, -1, 2, 3, 4, 5, 6]


def test_pictures_that_come_with_a_later_episode_have_headers_from_there_on(objects):
    import cv2

    jpeg = bytes(cv2.imencode(".jpg", scene(1)[0])[1].data)
    column = Column("topic", kind="message", dtype="bytes", steps=False)

    def one(items):
        return recording({"topic": (column, [Rows("topic", items, {"log": times_ns(len(items))})])})

    done = ingest(objects, [SourceItem("a", [*one(Items([b"abc", b"d"], "cdr")), *one(Items([jpeg], "jpeg")), *one(Items([b"zz"], "cdr"))])])
    shard = next((objects.local("") / "streams/lab").iterdir())
    assert zarr.open_array(shard / "arrays.zarr/topic/width", mode="r")[...].tolist() == [0, 0, 96, 0]
    store = open_store(objects.url)
    assert [list(store.read_episode(episode_id).streams["topic"].values.data) for episode_id in done.ids] == [[b"abc", b"d"], [jpeg], [b"zz"]]


@pytest.mark.parametrize(
    ("first", "then", "check"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "layout_changes"),
        (np.zeros(2), np.zeros(2, np.float32), "layout_changes"),
        (np.zeros(2), Items([b"a", b"b"], "utf-8"), "layout_changes"),
        (Items([b"a", b"b"], "utf-8"), np.zeros(2), "layout_changes"),
        (Frames(np.zeros((2, 16, 16, 3), np.uint8)), Frames(np.zeros((2, 16, 18, 3), np.uint8)), "layout_changes"),
        (Frames(np.zeros((2, 16, 16, 3), np.uint8)), Frames(np.zeros((2, 16, 16), np.uint8)), "layout_changes"),
        (Frames(np.zeros((2, 16, 16), np.uint8)), Frames(np.zeros((2, 16, 17), np.uint8)), "layout_changes"),
        (Frames(np.zeros((2, 16, 16), np.float32)), Frames(np.zeros((2, 16, 17), np.float32)), "layout_changes"),
        (np.array(["a", "b"]), np.array(["a", "b"]), "not_numeric"),
        (np.zeros(2, np.longdouble), np.zeros(2, np.longdouble), "not_numeric"),
        (np.array([None, 1], dtype=object), np.zeros(2), "not_numeric"),
    ],
)
def test_a_layout_that_changes_inside_a_recording_rejects_it_and_the_next_lands(objects, first, then, check):
    column = Column("x", dtype="float64")
    events = [Rows("x", first, {"log": times_ns(2)}), Rows("x", then, {"log": times_ns(2, 10**9)}), EpisodeInfo("lab", {"x": column}, "measured", "bad")]
    done = ingest(objects, [SourceItem("a", [*events, *recording(signal("y", [1.0, 2.0], log=[0, 1]), "good")])])
    assert [(reject["source_key"], reject["check"]) for reject in done.committer.tally.rejects] == [("bad", check)]
    assert done.committer.tally.landed == 1


def test_streams_of_one_name_and_two_forms_have_nodes_of_their_own(objects):
    def one(values):
        return recording(signal("x", values, log=range(len(values))) | signal("odd/näme", [1.0], log=[0]))

    flat = np.arange(3.0)
    done = ingest(objects, [SourceItem("a", one(flat)), SourceItem("b", one(np.arange(6.0))), SourceItem("c", one(flat + 1))])
    assert len(done.ids) == 3
    shard = next((objects.local("") / "streams/lab").iterdir())
    assert (shard / "arrays.zarr/odd%2Fn%C3%A4me/values").is_dir()
    assert [open_store(objects.url).read_episode(episode_id).streams["x"].values.tolist() for episode_id in done.ids][2] == [1, 2, 3]
    narrow = recording({"t": (Column("t", kind="message", dtype="bytes", steps=False), [Rows("t", Items([b"m"], "cdr"), {"log": times_ns(1)})])}, "m")
    native = Column("t", kind="message", dtype="bytes", steps=False)
    wide = [Rows("t", np.arange(2.0), {"log": times_ns(2)}), EpisodeInfo("lab", {"t": native}, "measured", "n", {"t": "log"})]
    both = ingest(objects, [SourceItem("d", [*narrow, *wide])], dataset="two")
    store = open_store(objects.url)
    assert list(store.read_episode(both.ids[0]).streams["t"].values.data) == [b"m"]
    assert store.read_episode(both.ids[1]).streams["t"].values.tolist() == [0, 1]
    assert sorted(path.name for path in (objects.local("") / "streams/two").glob("*/arrays.zarr/t*")) == ["t", "t~1"]


# -- pictures kept exact


@pytest.mark.parametrize(
    "pictures",
    [
        scene(4),
        scene(4, channels=None),
        scene(4, channels=1),
        np.concatenate([scene(4), scene(4)[..., :1]], axis=-1),
        (scene(4, channels=None).astype(np.uint16) * 257),
        scene(4).astype(np.float32) / 7,
        scene(4).astype(np.uint16),
        scene(4, channels=None) > 100,
        scene(2, height=1, width=1),
    ],
    ids=["rgb", "grey", "one channel", "rgba", "uint16", "float32", "rgb uint16", "bool mask", "one pixel"],
)
def test_exact_pictures_come_back_bit_by_bit(objects, pictures):
    done = ingest(objects, [SourceItem("a", recording(camera(pictures, kind="mask", exact=True, batches=2)))])
    store = open_store(objects.url)
    back = store.read_frames(done.ids[0], CAMERA, list(range(len(pictures)))[::-1])[::-1]
    expected = pictures
    if pictures.dtype == np.uint8:
        grey = pictures.ndim == 3 or pictures.shape[3] == 1
        expected = np.repeat(pictures.reshape(*pictures.shape[:3], 1), 3, axis=3) if grey else pictures[..., :3]
    np.testing.assert_array_equal(back, expected)
    assert not store.row(done.ids[0])["lossy"]


def test_exact_and_encoded_frames_of_one_content_are_one_recording(tmp_path):
    """The identity is that of the pixels: how they are stored does not change it."""
    made = [recording(camera(scene(6))), recording(camera(scene(6), batches=3))]
    ids = [
        ingest(new_store(tmp_path / f"s{place}"), [SourceItem("a", events)], video=VideoPolicy(lossless=lossless)).ids
        for place, (events, lossless) in enumerate(zip(made, (True, False), strict=True))
    ]
    assert ids[0] == ids[1]


# -- pictures that are encoded


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (16, 16), (2, 2), (1, 1), (1, 40), (240, 320)])
def test_encoded_frames_come_back_as_themselves_within_the_gate(objects, height, width):
    pictures = scene(13, 5, height, width)
    done = ingest(objects, [SourceItem("a", recording(camera(pictures, batches=4)))])
    store = open_store(objects.url)
    (episode_id,) = done.ids
    assert store.row(episode_id)["lossy"]
    order = [12, 0, 7, 7, 3]
    back = store.read_frames(episode_id, CAMERA, order)
    assert back.shape == (5, height, width, 3)
    assert gate(pictures[order], back).kept
    if height >= 64:
        assert numbers_of(back) == order


def test_episodes_of_a_camera_share_a_video_and_keep_to_their_own_frames(objects):
    """Four episodes of 7, 1, 12 and 5 frames in one file, the third of another size in a file of its own."""
    counts, sizes = (7, 1, 12, 5), ((64, 96), (64, 96), (80, 64), (64, 96))
    made = [scene(count, number, *size) for number, (count, size) in enumerate(zip(counts, sizes, strict=True))]
    done = ingest(objects, [SourceItem("a", [event for number, pictures in enumerate(made) for event in recording(camera(pictures), str(number))])])
    store = open_store(objects.url)
    entries = [store.index(store.row(episode_id))[0] for episode_id in done.ids]
    assert [(entry["media"], entry["first_frame"], entry["frames"], entry["row_start"]) for entry in entries] == [
        (f"videos/{CAMERA}.mp4", 0, 7, 0),
        (f"videos/{CAMERA}.mp4", 7, 1, 7),
        (f"videos/{CAMERA}~1.mp4", 0, 12, 0),
        (f"videos/{CAMERA}.mp4", 8, 5, 8),
    ]
    for number, (episode_id, pictures) in enumerate(zip(done.ids, made, strict=True)):
        back = store.read_frames(episode_id, CAMERA, list(range(len(pictures))))
        assert [read_barcode(picture) for picture in back] == [Barcode(frame, 1, number) for frame in range(len(pictures))]
    with pytest.raises(StoreError, match="frame 7 of 7"):
        store.read_frames(done.ids[0], CAMERA, [7])
    assert faults(objects.local("")) == []


# -- what happens where the gate finds a loss


def lost_after(count: int) -> np.ndarray:
    """Return frames of which the first `count` pass the gate at CRF 51 and those after do not."""
    plain = np.full((70, 64, 96, 3), 90, np.uint8)
    plain[:, :, :, 1] += np.arange(70, dtype=np.uint8)[:, None, None]
    plain[count:] = noise(70 - count)
    return plain


@pytest.mark.parametrize("first_lost", [3, 60, 65])
def test_frames_that_the_encoder_loses_are_kept_exact_from_the_first_on(objects, first_lost):
    """With segments of 60 frames the loss is found in the first or the second one: all frames before are replayed, once and in order."""
    pictures = lost_after(first_lost)
    events = [*recording(camera(scene(4, 1)), "0"), *recording(camera(pictures, batches=7), "1"), *recording(camera(scene(5, 2)), "2")]
    done = ingest(objects, [SourceItem("a", events)], video=VideoPolicy(crf=30, on_loss="lossless"))
    store = open_store(objects.url)
    assert [store.row(episode_id)["lossy"] for episode_id in done.ids] == [True, False, True]
    np.testing.assert_array_equal(store.read_frames(done.ids[1], CAMERA, list(range(70))), pictures)
    assert store.index(store.row(done.ids[1]))[0]["kind"] == "items"
    assert store.read_episode(done.ids[1]).streams[CAMERA].timestamps_ns.tolist() == times_ns(70).tolist()
    for place, number, count in ((0, 1, 4), (2, 2, 5)):
        back = store.read_frames(done.ids[place], CAMERA, list(range(count)))
        assert [read_barcode(picture) for picture in back] == [Barcode(frame, 1, number) for frame in range(count)]
    assert store.index(store.row(done.ids[2]))[0]["first_frame"] == 4
    assert faults(objects.local("")) == []


def test_reject_names_the_worst_block_and_leaves_nothing_of_the_episode(objects):
    events = [*recording(camera(scene(4, 1)), "0"), *recording(camera(lost_after(62), batches=3), "1"), *recording(camera(scene(5, 2)), "2")]
    done = ingest(objects, [SourceItem("a", events)], video=VideoPolicy(crf=30, on_loss="reject"))
    (reject,) = done.committer.tally.rejects
    assert (reject["source_key"], reject["check"]) == ("1", "fidelity")
    assert "luma" in reject["found"]
    assert "with CRF (30,)" in reject["found"]
    assert "--lossless" in reject["advice"]
    store = open_store(objects.url)
    assert [store.index(store.row(episode_id))[0]["first_frame"] for episode_id in done.ids] == [0, 4]
    assert [read_barcode(picture).episode for picture in store.read_frames(done.ids[1], CAMERA, [0, 4])] == [2, 2]


def test_raise_quality_keeps_the_episode_as_video(objects):
    pictures = lost_after(5)
    done = ingest(objects, [SourceItem("a", recording(camera(pictures)))], video=VideoPolicy(crf=30))
    store = open_store(objects.url)
    assert store.index(store.row(done.ids[0]))[0]["kind"] == "video"
    assert gate(pictures, store.read_frames(done.ids[0], CAMERA, list(range(70)))).kept


def test_a_recording_whose_every_frame_is_lost_leaves_no_video_file(objects):
    done = ingest(objects, [SourceItem("a", recording(camera(noise(6))))], video=VideoPolicy(crf=45, on_loss="lossless"))
    np.testing.assert_array_equal(open_store(objects.url).read_frames(done.ids[0], CAMERA, [5, 0]), noise(6)[[5, 0]])
    assert list((objects.local("") / "streams").rglob("*.mp4")) == []
    assert faults(objects.local("")) == []


def test_frames_without_any_clock_land(objects):
    done = ingest(objects, [SourceItem("a", recording(camera(scene(5, 3), clocks={}), kind="unknown"))])
    store = open_store(objects.url)
    assert store.read_episode(done.ids[0]).streams[CAMERA].timestamps_ns is None
    assert numbers_of(store.read_frames(done.ids[0], CAMERA, [4, 1])) == [4, 1]


def test_clocks_that_jump_stand_still_or_fall_back_keep_their_times(objects):
    stamps = np.array([0, 0, -50, 10**12, 10**12 + 1, 10**17], dtype=np.int64)
    done = ingest(objects, [SourceItem("a", recording(camera(scene(6, 4), clocks={"log": stamps})))])
    store = open_store(objects.url)
    assert store.read_episode(done.ids[0]).streams[CAMERA].timestamps_ns.tolist() == stamps.tolist()
    assert numbers_of(store.read_frames(done.ids[0], CAMERA, list(range(6)))) == list(range(6))


# -- hostile pictures


def test_a_picture_that_claims_to_be_huge_is_refused_before_memory_is_taken():
    header = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR" + (30_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + b"\0" * 60
    with pytest.raises(StoreError, match="at most 67108864 px, found 30000 x 30000"):
        decode_picture(header, "here")
    for junk in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", header[:33], b"GIF89a" + b"\xff" * 20):
        with pytest.raises(StoreError, match="here: expected a picture"):
            decode_picture(junk, "here")


def test_rows_and_times_must_be_as_many(objects):
    rows = [Rows("x", np.zeros(3), {"log": times_ns(3)}), Rows("x", np.zeros(2), {})]
    events = [*rows, EpisodeInfo("lab", {"x": Column("x", dtype="float64")}, "measured", "k", {"x": "log"})]
    done = ingest(
        objects, [SourceItem("a", [*events, Rows("x", np.zeros(3)), EpisodeInfo("lab", {"x": Column("x", dtype="float64")}, "measured", "l", {"x": "log"})])]
    )
    assert [(reject["source_key"], reject["check"]) for reject in done.committer.tally.rejects] == [("k", "unequal_lengths"), ("l", "no_times")]
