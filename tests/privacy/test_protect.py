"""Recordings between a reader and the store: each form of pictures, ranges of one file, broken frames, payloads, and a second recording after a broken one."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.column import Column
from dataengine.core.episode import Episode, EpisodeInfo, Event, Noticed, Rejected, episodes_of
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.objects import open_objects
from dataengine.core.pictures import picture_header
from dataengine.core.problem import Problem
from dataengine.core.stream import Frames, Items, MediaFrames, Rows
from dataengine.privacy.config import FacesConfig, PrivacyConfig, RulesConfig
from dataengine.privacy.detector import identify, open_detector
from dataengine.privacy.picture_bytes import decode, encode
from dataengine.privacy.protect import Protector
from dataengine.sources.listing import SourceOpener
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex, frame_index
from pipelines.hiding import text_of
from tests.support.films import number_of, numbered, write_film

FOUND = "tests.privacy.test_protect:left_half"
BLUR = PrivacyConfig(blur_faces=True, faces=FacesConfig(detector=FOUND, margin=0.0, cells=2))
SCRUB = PrivacyConfig(scrub=True)


class LeftHalf:
    """Takes the left half of every picture for a face."""

    def detect(self, frame: np.ndarray) -> list[tuple[float, ...]]:  # type: ignore[type-arg]
        assert frame.dtype == np.uint8
        assert frame.shape[2] == 3
        return [(0.0, 0.0, float(frame.shape[0]), frame.shape[1] / 2)]


class Nobody:
    """Finds no face anywhere."""

    def detect(self, frame: np.ndarray) -> list[tuple[float, ...]]:  # type: ignore[type-arg]
        return []


def left_half() -> LeftHalf:
    return LeftHalf()


def nobody() -> Nobody:
    return Nobody()


def protected(events: Callable[[], Iterator[Event]], root: Path, config: PrivacyConfig) -> tuple[list[Event], object]:
    item = Protector(config, root / "scratch").item(events, SourceOpener(open_objects(str(root))))
    return list(item.events()), item.files


def whole(events: Sequence[Event]) -> Episode:
    found = [part for part in episodes_of(events) if isinstance(part, Episode)]
    assert len(found) == 1
    return found[0]


def times(count: int) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {"log": np.arange(count, dtype=np.int64) * 10_000_000}


def recording(*rows: Rows, columns: Sequence[Column], **info: object) -> Callable[[], Iterator[Event]]:
    def read() -> Iterator[Event]:
        yield from rows
        clocks = {column.name: "log" for column in columns}
        yield EpisodeInfo("lab", {column.name: column for column in columns}, "measured", stream_clocks=clocks, **info)  # type: ignore[arg-type]

    return read


def is_flat(left: np.ndarray) -> bool:  # type: ignore[type-arg]
    """Whether the left half of a picture holds no more than 2 x 2 colours."""
    return len(np.unique(left.reshape(-1, left.shape[-1]), axis=0)) <= 4


def test_kept_video_becomes_frames_and_ranges_stay_ranges(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", numbered(30), b_frames=2, sound=True)
    index = frame_index(str(path))
    name = "observation.images.main"

    def read() -> Iterator[Event]:
        for number, (first, count) in enumerate(((0, 12), (12, 18))):
            frames = MediaFrames("a.mp4", index.track, first, count, index=index.as_columns(), facts=index.as_facts())
            yield Rows(name, frames, {"pts": index.pts_ns[first : first + count]})
            column = Column(name, kind="image", dtype="uint8", shape=(64, 96, 3), encoding="h264")
            yield EpisodeInfo("lab", {name: column}, "measured", key=str(number), stream_clocks={name: "pts"})

    events, files = protected(read, tmp_path, BLUR)
    episodes = [part for part in episodes_of(events) if isinstance(part, Episode)]
    with FrameReader(str(path), index) as reader:
        pixels = reader.read(range(30))
    for episode, first, count in zip(episodes, (0, 12), (12, 18), strict=True):
        stream = episode.streams[name]
        assert isinstance(stream.values, Frames)
        assert np.array_equal(stream.values.pixels[:, :, 48:], pixels[first : first + count, :, 48:])
        assert all(is_flat(frame[:, :48]) for frame in stream.values.pixels)
        assert stream.timestamps_ns is not None
        assert np.array_equal(stream.clocks["pts"], index.pts_ns[first : first + count])
        assert (stream.column.encoding, stream.column.shape) == (None, (64, 96, 3))
        camera = episode.info.metadata["privacy"]["faces"]["cameras"][name]
        assert (camera["frames"], camera["frames_blurred"]) == (count, count)
    with pytest.raises(BadRecording, match="one that was not"):  # the store has no way to the file of the source
        files.open("a.mp4")  # type: ignore[attr-defined]


def test_a_frame_that_does_not_decode_rejects_its_recording_and_no_other(tmp_path: Path) -> None:
    jpeg = encode(numbered(1)[0], "jpeg", 80, "x")
    broken = jpeg[: len(jpeg) // 2]
    column = Column("observation.images.front", kind="image", dtype="uint8", shape=(64, 96, 3), encoding="jpeg")

    def read() -> Iterator[Event]:
        for key, pictures in (("a", [jpeg, broken, jpeg]), ("b", [jpeg, b"", jpeg])):
            yield Rows(column.name, Items(pictures, "jpeg"), times(3))
            yield Noticed(Problem("note", f"of {key}"))
            yield EpisodeInfo("lab", {column.name: column}, "measured", key=key, stream_clocks={column.name: "log"})

    events, _ = protected(read, tmp_path, BLUR)
    parts = list(episodes_of(events))
    assert [type(part) for part in parts if not isinstance(part, Noticed)] == [Rejected, Episode]
    assert len([part for part in parts if isinstance(part, Noticed)]) == 2
    rejected = next(part for part in parts if isinstance(part, Rejected))
    assert (rejected.key, rejected.problem.check) == ("a", "undecodable_picture")
    assert "row 1" in rejected.problem.message
    episode = next(part for part in parts if isinstance(part, Episode))
    items = episode.streams[column.name].values
    assert isinstance(items, Items)
    assert [len(data) > 0 for data in items.data] == [True, False, True]
    for data in (items.data[0], items.data[2]):
        header = picture_header(data)
        assert header is not None
        assert header.encoding == "jpeg"
        pixels, _ = decode(data, "x")
        assert np.std(pixels[2:30, 2:30].astype(float), axis=(0, 1)).max() < 3


def test_png_grey_and_raw_pictures_keep_their_form(tmp_path: Path) -> None:
    grey = numbered(4)[:, :, :, 0]
    png = [encode(picture, "png", 95, "x") for picture in grey]
    depth = [encode(picture.astype(np.uint16) * 200, "png", 95, "x") for picture in grey]
    raw = numbered(4)
    columns = [
        Column("observation.images.png", kind="image", dtype="uint8", shape=(64, 96, 1), encoding="png"),
        Column("observation.images.depth", kind="depth", dtype="uint16", shape=(64, 96, 1), encoding="png"),
        Column("observation.images.raw", kind="image", dtype="uint8", shape=(64, 96, 3)),
        Column("observation.images.grey", kind="image", dtype="uint8", shape=(64, 96)),
        Column("observation.mask", kind="mask", dtype="uint8", shape=(64, 96)),
        Column("observation.pixels", dtype="float32", shape=(64, 96, 3)),
        Column("observation.state", dtype="float32", shape=(3,)),
        Column("observation.blob", dtype="uint8", shape=(1000,)),
    ]
    state = np.arange(12, dtype=np.float32).reshape(4, 3)
    values = [Items(png, "png"), Items(depth, "png"), Frames(raw), Frames(grey), Frames(grey, exact=True), raw.astype(np.float32) / 255, state]
    values.append(np.zeros((4, 1000), np.uint8))  # type: ignore[arg-type]
    rows = [Rows(column.name, value, times(4)) for column, value in zip(columns, values, strict=True)]  # type: ignore[arg-type]
    events, _ = protected(recording(*rows, columns=columns), tmp_path, BLUR)
    episode = whole(events)
    found = {name: stream.values for name, stream in episode.streams.items()}
    decoded = [decode(data, "x")[0] for data in found["observation.images.png"].data]  # type: ignore[union-attr]
    assert all(np.array_equal(one[:, 48:], other[:, 48:]) and one.ndim == 2 for one, other in zip(decoded, grey, strict=True))
    assert all(is_flat(one[:, :48, None]) for one in decoded)
    assert list(found["observation.images.depth"].data) == depth  # type: ignore[union-attr]
    assert np.array_equal(found["observation.mask"].pixels, grey)  # type: ignore[union-attr]
    assert is_flat(found["observation.images.raw"].pixels[0][:, :48])  # type: ignore[union-attr]
    assert is_flat(found["observation.images.grey"].pixels[0][:, :48, None])  # type: ignore[union-attr]
    assert isinstance(found["observation.pixels"], np.ndarray)
    assert is_flat(found["observation.pixels"][0][:, :48])
    assert np.array_equal(found["observation.state"], state)  # type: ignore[arg-type]
    record = episode.info.metadata["privacy"]
    assert set(record["faces"]["left_alone"]) == {"observation.images.depth", "observation.mask"}
    assert set(record["streams_withheld"]) == {"observation.blob"}
    assert "observation.blob" not in found
    assert "observation.blob" not in episode.info.columns


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "uint16", "int32"])
def test_numbers_in_any_form_of_a_picture_are_searched_or_withheld(tmp_path: Path, dtype: str) -> None:
    """Channels first, last or none, as LeRobot and replay buffers keep them; what cannot be searched does not go on."""
    grey = np.broadcast_to(np.arange(96).reshape(1, 1, 96), (3, 64, 96)).astype(dtype) + np.arange(64).reshape(1, 64, 1).astype(dtype)
    forms = {
        "observation.grey": grey,
        "observation.first": np.stack([grey, grey, grey], 1),
        "observation.first_grey": grey[:, None],
        "observation.last": np.stack([grey, grey, grey], -1),
    }
    hidden = {
        "observation.two": np.stack([grey, grey], -1),
        "observation.stacked": np.stack([grey, grey], 1)[..., None],
        "observation.middle": np.stack([grey, grey, grey], 2),
        "observation.declared": grey.reshape(3, -1),
    }
    calm = {"observation.state": grey[:, 0, :7]}
    (hidden if dtype == "uint8" else calm).update({"action.chunk": grey[:, :16, :20], "observation.points": np.ones((3, 5000, 3), dtype)})
    values = forms | hidden | calm
    kinds = {"observation.declared": "image", "observation.first": "image"}
    columns = [Column(name, kind=kinds.get(name, "numeric"), dtype=dtype, shape=part.shape[1:]) for name, part in values.items()]  # type: ignore[arg-type]
    rows = [Rows(name, part, times(3)) for name, part in values.items()]
    episode = whole(protected(recording(*rows, columns=columns), tmp_path, BLUR)[0])
    assert set(episode.streams) == set(forms) | set(calm)
    assert set(episode.info.metadata["privacy"]["streams_withheld"]) == set(hidden)
    for name, before in forms.items():
        after = episode.streams[name].values
        assert isinstance(after, np.ndarray)
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        mine, theirs = (np.moveaxis(part, 2 if name == "observation.last" else -1, 0) for part in (after, before))  # (96, 3, ...)
        assert np.array_equal(mine[48:], theirs[48:])
        left = np.moveaxis(mine[:48], 0, -1).reshape(3, -1, 48)
        assert all(len(np.unique(picture)) <= 4 for picture in left), name
    assert all(np.array_equal(episode.streams[name].values, part) for name, part in calm.items())  # type: ignore[arg-type]


def test_bytes_that_could_be_pictures_are_emptied(tmp_path: Path) -> None:
    ros = {"encoding": "ros2msg", "text": "std_msgs/Header header\nuint8[] data\nstring format\n", "name": "lab/msg/Packet"}
    plain = {"encoding": "ros2msg", "text": "float64[] data # uint8[] is not here\nuint8[16] id\n", "name": "lab/msg/Plan"}
    columns = [
        Column("packets", kind="message", dtype="bytes", encoding="cdr", steps=False, extra={"schema": ros}),
        Column("plans", kind="message", dtype="bytes", encoding="cdr", steps=False, extra={"schema": plain}),
        Column("unknown", kind="message", dtype="bytes", encoding="cbor", steps=False),
        Column("notes", kind="text", dtype="string", encoding="utf-8"),
    ]
    big, small = bytes(range(256)) * 4, b"\1" * 100
    base64_text = b"see " + b"/9j/4AAQSkZJRgABAQAAAQABAAD" * 20
    rows = [
        Rows("packets", Items([big, small, b""], "cdr"), times(3)),
        Rows("plans", Items([big, small, b""], "cdr"), times(3)),
        Rows("unknown", Items([big, small, b""], "cbor"), times(3)),
        Rows("notes", Items([base64_text, b"a long but harmless sentence " * 20, b""], "utf-8"), times(3)),
    ]
    episode = whole(protected(recording(*rows, columns=columns, metadata={"thumb": base64_text.decode(), "k": 1}), tmp_path, BLUR)[0])
    lengths = {name: [len(data) for data in stream.values.data] for name, stream in episode.streams.items()}  # type: ignore[union-attr]
    assert lengths == {"packets": [0, 100, 0], "plans": [1024, 100, 0], "unknown": [0, 100, 0], "notes": [0, 580, 0]}
    assert episode.info.metadata["thumb"] == ""
    problems = {problem.where: problem for problem in episode.info.problems if problem.check == "withheld_rows"}
    assert problems
    assert all(problem.severity == "warning" for problem in problems.values())


def test_messages_that_nothing_can_read_are_withheld_under_scrub(tmp_path: Path) -> None:
    """Texts and JSON are scrubbed, what a schema explains is looked into; other bytes could say anything, unless the user vouches for them."""
    readable = {"encoding": "ros2msg", "text": "float64[] data\n", "name": "lab/msg/Plan"}
    foreign = {"encoding": "flatbuffer", "base64": "AAAA", "name": "lab.Plan"}
    told = b'{"operator": "Eve Ost", "k": 1}'
    streams: dict[str, tuple[dict[str, object], Items]] = {
        "gopro.payloads": ({}, Items([b"DEVC\0\1\0\4\x13\xbe\x3d\x10", b""], "gpmf")),
        "foreign": ({"schema": foreign}, Items([b"\1\2\3\xff", b"\4"], "flatbuffer")),
        "plans": ({"schema": readable}, Items([b"\0\1\0\0\xff", b""], "cdr")),
        "told": ({}, Items([told, b"by Eve Ost"], "application/octet-stream")),
        "mixed": ({}, Items([told, b"\1\2\3\xff"], ["application/json", "application/octet-stream"])),
        "mine": ({}, Items([b"\1\2\3\xff", b"\4"], "cbor")),
    }
    columns = [Column(name, kind="message", dtype="bytes", steps=False, extra=extra) for name, (extra, _) in streams.items()]
    rows = [Rows(name, items, times(2)) for name, (_, items) in streams.items()]
    config = PrivacyConfig(scrub=True, rules=RulesConfig(keep_streams=("mine",)))
    episode = whole(protected(recording(*rows, columns=columns, metadata={"operator": "Eve Ost"}), tmp_path, config)[0])
    record = episode.info.metadata["privacy"]
    assert set(record["streams_withheld"]) == {"gopro.payloads", "foreign"}
    assert "gpmf" in record["streams_withheld"]["gopro.payloads"]
    found = {name: list(stream.values.data) for name, stream in episode.streams.items()}  # type: ignore[union-attr]
    assert found["plans"] == [b"\0\1\0\0\xff", b""]
    assert found["told"] == [b'{"operator": "person_1", "k": 1}', b"by person_1"]
    assert found["mixed"] == [b'{"operator": "person_1", "k": 1}', b""]
    assert found["mine"] == [b"\1\2\3\xff", b"\4"]
    assert [(entry["stream"], entry["rows"]) for entry in record["rows_emptied"]] == [("mixed", 1)]


def test_kept_video_under_scrub_is_written_anew_with_the_same_frames(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", numbered(20), b_frames=2, sound=True)
    index = frame_index(str(path))
    name = "observation.images.23404442_left"
    frames = MediaFrames("a.mp4", index.track, 0, 20, index=index.as_columns(), facts=index.as_facts())
    column = Column(name, kind="image", dtype="uint8", shape=(64, 96, 3), encoding="h264")

    def read() -> Iterator[Event]:
        yield Rows(name, frames, {"pts": index.pts_ns})
        yield EpisodeInfo("lab", {name: column}, "measured", stream_clocks={name: "pts"}, follow=name, key="/home/eve/a")

    events, files = protected(read, tmp_path, SCRUB)
    episode = whole(events)
    new = "observation.images.camera_1_left"
    assert set(episode.streams) == {new} == set(episode.info.columns)
    assert (episode.info.follow, episode.info.columns[new].name, episode.info.key) == (new, new, "/home/[machines]/a")
    values = episode.streams[new].values
    assert isinstance(values, MediaFrames)
    assert values.index is not None
    data = files.read_bytes(values.uri)  # type: ignore[attr-defined]
    (tmp_path / "clean").write_bytes(data)
    clean = FrameIndex.from_columns(values.index, values.facts)
    original = path.read_bytes()
    for row in range(20):
        mine = data[clean.offset[row] : clean.offset[row] + clean.size[row]]
        assert mine == original[index.offset[row] : index.offset[row] + index.size[row]]
    with FrameReader(str(tmp_path / "clean"), clean) as reader:
        assert [number_of(frame) for frame in reader.read(range(20))] == list(range(20))
    assert len(data) < len(original)
    assert b"mp4a" in original
    assert b"mp4a" not in data
    assert episode.info.metadata["privacy"]["left_out_of_video"] == {new: ["sound (aac)", "metadata of the container"]}


def two_clips(root: Path) -> tuple[Callable[[], Iterator[Event]], list[FrameIndex], bytes]:
    """Return how two recordings of one tar are read, their frame indexes and the tar: frames 0 .. 11 with somebody's name, and frames 30 .. 49."""
    name, parts = "observation.images.main", []
    for number, (first, count) in enumerate(((0, 12), (30, 20))):
        parts.append(write_film(root / f"clip{number}.mp4", numbered(count, first=first), sound=not number))
    with tarfile.open(root / "clips.tar", "w") as archive:
        for part in parts:
            archive.add(part, part.name)
    with tarfile.open(root / "clips.tar") as archive:
        spans = [(member.offset_data, member.size) for member in archive.getmembers()]
    indexes = [frame_index(str(part)) for part in parts]
    for part in parts:
        part.unlink()

    def read() -> Iterator[Event]:
        for number, (index, span) in enumerate(zip(indexes, spans, strict=True)):
            frames = MediaFrames("clips.tar", index.track, 0, len(index), index=index.as_columns(), facts=index.as_facts(), span=span)
            yield Rows(name, frames, {"pts": index.pts_ns})
            column = Column(name, kind="image", dtype="uint8", shape=(64, 96, 3), encoding="h264")
            yield EpisodeInfo("lab", {name: column}, "measured", key=str(number), stream_clocks={name: "pts"})

    return read, indexes, (root / "clips.tar").read_bytes()


def test_clips_of_one_tar_are_blurred_each_for_itself(tmp_path: Path) -> None:
    read, _, _ = two_clips(tmp_path)
    events, _ = protected(read, tmp_path, BLUR.model_copy(update={"scrub": True}))
    episodes = [part for part in episodes_of(events) if isinstance(part, Episode)]
    assert [part for part in events if isinstance(part, Rejected)] == []
    reference = PrivacyConfig(blur_faces=True, faces=FacesConfig(detector="tests.privacy.test_protect:nobody"))
    shown = [part for part in episodes_of(protected(read, tmp_path, reference)[0]) if isinstance(part, Episode)]
    for blurred, plain, first, count in zip(episodes, shown, (0, 30), (12, 20), strict=True):
        before, after = plain.streams["observation.images.main"].values, blurred.streams["observation.images.main"].values
        assert isinstance(before, Frames)
        assert isinstance(after, Frames)
        assert [number_of(frame) for frame in before.pixels] == list(range(first, first + count))
        assert np.array_equal(after.pixels[:, :, 48:], before.pixels[:, :, 48:])
        assert all(is_flat(frame[:, :48]) for frame in after.pixels)


def test_clips_of_one_tar_are_written_anew_each_for_itself(tmp_path: Path) -> None:
    read, indexes, archive = two_clips(tmp_path)
    item = Protector(SCRUB, tmp_path / "scratch").item(read, SourceOpener(open_objects(str(tmp_path))))
    episodes = [part for part in episodes_of(list(item.events())) if isinstance(part, Episode)]
    assert len(episodes) == 2
    seen = set()
    for episode, index, first in zip(episodes, indexes, (0, 30), strict=True):
        values = episode.streams["observation.images.main"].values
        assert isinstance(values, MediaFrames)
        assert values.index is not None
        assert values.span is None
        seen.add(values.uri)
        clean = FrameIndex.from_columns(values.index, values.facts)
        assert (clean.size == index.size).all()
        path = item.files.local(values.uri)
        assert path is not None
        assert len(Path(path).read_bytes()) < len(archive) / 2
        with FrameReader(path, clean) as reader:
            assert [number_of(frame) for frame in reader.read(range(len(clean)))] == list(range(first, first + len(index)))
    assert len(seen) == 2
    item.close()


def test_problems_and_rejections_are_scrubbed_too(tmp_path: Path) -> None:
    def read() -> Iterator[Event]:
        yield Noticed(Problem("note", "mail eve@lab.example.org", where="/home/eve/x"))
        yield Rejected("/home/eve/1", Problem("broken", "/home/eve/1: expected a, found eve@lab.example.org"))
        raise BadRecording("/home/eve/2", "something", "eve@lab.example.org")

    item = Protector(SCRUB, tmp_path).item(read, SourceOpener(open_objects(str(tmp_path))))
    events: list[Event] = []
    with pytest.raises(BadRecording) as caught:
        events.extend(item.events())
    assert "eve" not in str(caught.value)

    def calm() -> Iterator[Event]:
        yield from (event for event in [Noticed(Problem("note", "mail eve@lab.example.org", where="/home/eve/x"))])
        yield Rejected("/home/eve/1", Problem("broken", "/home/eve/1: expected a, found eve@lab.example.org"))

    found, _ = protected(calm, tmp_path, SCRUB)
    assert len(found) == 2
    assert "eve@" not in repr(found)
    assert "/eve" not in repr(found)


def test_a_serial_that_only_a_path_tells_is_gone_from_a_rejection(tmp_path: Path) -> None:
    """Nothing is known of a recording that broke but where it lies."""
    where = "demos/demo_C9999999164126_2024.01.10/raw_video.mp4"

    def read() -> Iterator[Event]:
        yield Rejected("demo_C9999999164126_2024.01.10", Problem("truncated", f"{where}: expected 1650 bytes", where))

    item = Protector(SCRUB, tmp_path).item(read, SourceOpener(open_objects(str(tmp_path))))
    (event,) = item.events()
    assert isinstance(event, Rejected)
    assert event.key == "demo_device_1_2024.01.10"
    assert event.problem.where == "demos/demo_device_1_2024.01.10/raw_video.mp4"
    assert "C9999999164126" not in event.problem.message
    assert item.text(f"/data/{where}") == "/data/demos/demo_device_1_2024.01.10/raw_video.mp4"
    assert text_of(SCRUB)(f"/data/{where} and C9999999164126") == "/data/demos/demo_device_1_2024.01.10/raw_video.mp4 and device_1"
    assert text_of(PrivacyConfig())(where) == where


def test_a_detector_that_is_not_there_is_named_before_anything_is_read() -> None:
    for detector, said in (("no.such.module:f", "No module"), ("tests.privacy.test_protect:nothing", "nothing"), ("missing.xml", "no such file")):
        with pytest.raises(ConfigError, match=said):
            identify(FacesConfig(detector=detector))
    with pytest.raises(ConfigError, match="object with `detect"):
        open_detector(FacesConfig(detector="tests.privacy.test_protect:times", parameters={"count": 1}))


def test_a_detector_file_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    (tmp_path / "x.xml").write_text("<opencv_storage></opencv_storage>")
    with pytest.raises(ConfigError, match=r"x\.xml"):
        open_detector(FacesConfig(detector=str(tmp_path / "x.xml")))


def test_rules_may_keep_a_stream_from_the_search(tmp_path: Path) -> None:
    column = Column("observation.images.sky", kind="image", dtype="uint8", shape=(64, 96, 3))
    config = BLUR.model_copy(update={"faces": BLUR.faces.model_copy(update={"keep_streams": (r".*\.sky",)}), "rules": RulesConfig()})
    pixels = numbered(3)
    episode = whole(protected(recording(Rows(column.name, Frames(pixels), times(3)), columns=[column]), tmp_path, config)[0])
    values = episode.streams[column.name].values
    assert isinstance(values, Frames)
    assert np.array_equal(values.pixels, pixels)
    assert episode.info.metadata["privacy"]["faces"]["left_alone"] == {column.name: "named in `keep_streams`"}
