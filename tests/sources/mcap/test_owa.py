"""Desktop recordings: screens in a video beside the messages, keys and mouse as they were held."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Items, MediaFrames
from dataengine.samples.pictures import encode_picture
from dataengine.sources.listing import list_source
from dataengine.sources.mcap import reader as mcap
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex
from tests.support.child import run_over, run_reader, tally
from tests.support.films import number_of, numbered, write_film
from tests.support.mutate import mutants
from tests.support.shared import shared_data

MS = 1_000_000
T0 = 1_768_000_000_000_000_000
TIMES_MS = (0, 40, 60, 200, 220)


def desktop(sent: Sequence[tuple[str, int, Any]], profile: str = "owa") -> bytes:
    """Return an MCAP of JSON messages (topic, ms, message)."""
    out = io.BytesIO()
    writer = Writer(out)
    writer.start(profile, "tests")
    channels: dict[str, int] = {}
    for topic, at_ms, message in sent:
        if topic not in channels:
            channels[topic] = writer.register_channel(topic, "json", writer.register_schema(f"desktop/{topic}", "jsonschema", b"{}"))
        writer.add_message(channels[topic], T0 + at_ms * MS, json.dumps(message).encode(), T0 + at_ms * MS)
    writer.finish()
    return out.getvalue()


def screen(pts_ms: int | None, uri: str = "a.mkv", utc_ms: int | None = None) -> dict[str, Any]:
    reference = {"uri": uri} | ({"pts_ns": pts_ms * MS} if pts_ms is not None else {})
    return {"utc_ns": T0 + utc_ms * MS if utc_ms is not None else None, "media_ref": reference}


def film(path: Path, times_ms: Sequence[int] = TIMES_MS) -> Path:
    return write_film(path, numbered(len(times_ms)), ticks=list(times_ms), time_base=Fraction(1, 1000))


def read(folder: Path) -> Episode:
    listing = list_source(str(folder))
    (item,) = mcap.find(listing).items
    (episode,) = episodes_of(mcap.read(item, listing.opener, ReadOptions()))
    assert isinstance(episode, Episode)
    return episode


def checks(episode: Episode) -> list[str]:
    return sorted(problem.check for problem in episode.info.problems)


def pictures(folder: Path, episode: Episode, name: str = "observation.images.screen") -> list[int]:
    """Return the numbers that the frames of a stream show."""
    frames = episode.streams[name].values
    assert isinstance(frames, MediaFrames)
    assert frames.index is not None
    with FrameReader(str(folder / frames.uri), FrameIndex.from_columns(frames.index, frames.facts)) as reader:
        return [number_of(picture) for picture in reader.read(range(frames.first, frames.first + frames.count))]


# --- the real recording


def test_the_real_recording(tmp_path: Path) -> None:
    facts = json.loads(shared_data("FACTS.json").read_text())
    folder = shared_data("teleop_mcap_ros", "owa_desktop")
    listing = list_source(str(folder))
    found = mcap.find(listing)
    assert [[file.path for file in item.files] for item in found.items] == [["0.5.1.mcap", "0.5.1.mkv"]]
    assert found.claimed == {"0.5.1.mcap", "0.5.1.mkv"}
    episode = read(folder)
    topics = facts["teleop_mcap_ros/owa_desktop/0.5.1.mcap"]["topics"]
    assert {name: len(episode.streams[name.replace("/", ".")]) for name in topics} == {name: said[0] for name, said in topics.items()}
    assert checks(episode) == ["frames_without_message", "ragged_field"]
    assert facts["teleop_mcap_ros/owa_desktop/0.5.1.mkv"]["streams"][2]["decoded"] == 18
    camera, message = episode.streams["observation.images.screen"], episode.streams["screen"]
    assert isinstance(camera.values, MediaFrames)
    assert (camera.values.first, camera.values.count) == (0, 17)
    assert camera.clocks["log"].tolist() == message.clocks["log"].tolist()
    assert camera.clocks["pts"].tolist() == np.asarray(episode.streams["screen.media_ref.pts_ns"].values).tolist()
    assert camera.clocks["utc"].tolist() == np.asarray(episode.streams["screen.utc_ns"].values).tolist()
    assert camera.clocks["utc"][0] == 1768131731227929100
    assert camera.column.shape == (1018, 1026, 3)
    assert episode.info.follow == "observation.images.screen"
    keys = np.asarray(episode.streams["action.keyboard"].values)
    # 84 and 69 ("T", "E") go down, up again in that order; 179 is held by a snapshot all along.
    assert [np.flatnonzero(row).tolist() for row in keys[:4]] == [[84, 179], [69, 84, 179], [69, 179], [179]]
    mouse = np.asarray(episode.streams["action.mouse.position"].values)
    assert mouse[:3].tolist() == [[1378, 559], [1371, 565], [1370, 565]]
    assert episode.streams["action.mouse.buttons"].column.dims == ("left", "right", "middle", "x1", "x2")


# --- recordings by hand


def test_frames_belong_to_their_messages(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv")
    sent = [("screen", 1000 + at, screen(at, utc_ms=at)) for at in TIMES_MS]
    (tmp_path / "a.mcap").write_bytes(desktop(sent))
    episode = read(tmp_path)
    camera = episode.streams["observation.images.screen"]
    assert (checks(episode), pictures(tmp_path, episode)) == ([], [0, 1, 2, 3, 4])
    assert camera.timestamps_ns is not None
    assert camera.timestamps_ns.tolist() == [at * MS for at in TIMES_MS]
    assert (camera.clocks["utc"] - T0).tolist() == [at * MS for at in TIMES_MS]


def test_frames_and_messages_that_lack_each_other(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv")
    # Frame 2 (60 ms) has no message; the message of 130 ms no frame; two share frame 3; frame 4 comes after the last message.
    sent = [("screen", 1000 + row * 50, screen(at)) for row, at in enumerate((0, 41, 130, 200, 200))]
    (tmp_path / "a.mcap").write_bytes(desktop(sent))
    episode = read(tmp_path)
    assert checks(episode) == ["frames_repeat", "frames_without_message", "messages_without_frame"]
    assert pictures(tmp_path, episode) == [0, 1, 2, 3]
    camera = episode.streams["observation.images.screen"]
    assert episode.info.stream_clocks["observation.images.screen"] == "video"
    # Messages at 0, 50 and 150 ms; the frame without one comes 20 ms after the frame before.
    assert (camera.clocks["video"] - T0).tolist() == [1000 * MS, 1050 * MS, 1070 * MS, 1150 * MS]


def test_a_video_that_is_not_there_costs_the_camera_only(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(desktop([("screen", 0, screen(0)), ("keyboard", 5, {"event_type": "press", "vk": 65})]))
    episode = read(tmp_path)
    assert checks(episode) == ["missing_media"]
    assert "observation.images.screen" not in episode.streams
    assert np.flatnonzero(np.asarray(episode.streams["action.keyboard"].values)[0]).tolist() == [65]
    (tmp_path / "a.mkv").write_bytes(b"\x1aE\xdf\xa3 cut off")
    assert checks(read(tmp_path)) == ["unreadable_video"]


@pytest.mark.parametrize(
    ("uri", "check"),
    [
        ("/etc/passwd.mkv", "path_escapes"),
        ("../out.mkv", "path_escapes"),
        ("file:///tmp/x.mkv", "path_escapes"),
        ("C:\\x.mkv", "path_escapes"),
        ("https://example.com/x.mkv", "external_media"),
    ],
)
def test_no_path_leads_out(tmp_path: Path, uri: str, check: str) -> None:
    film(tmp_path / "out.mkv")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.mcap").write_bytes(desktop([("screen", 0, screen(0, uri))]))
    assert checks(read(tmp_path / "d")) == [check]


def test_two_videos_are_two_streams(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv")
    film(tmp_path / "b.mkv", (0, 30))
    sent = [("screen", at, screen(at)) for at in TIMES_MS] + [("screen", 500 + at, screen(at, "./b.mkv")) for at in (0, 30)]
    (tmp_path / "a.mcap").write_bytes(desktop(sent))
    listing = list_source(str(tmp_path))
    (item,) = mcap.find(listing).items
    (episode,) = episodes_of(mcap.read(item, listing.opener, ReadOptions()))
    assert isinstance(episode, Episode)
    assert pictures(tmp_path, episode, "observation.images.screen_") == [0, 1]
    assert len(episode.streams["observation.images.screen"]) == 5


def test_pictures_in_the_messages(tmp_path: Path) -> None:
    picture = encode_picture(numbered(1)[0], "png")
    uris = ["data:image/png;base64," + base64.b64encode(picture).decode(), "data:image/png;base64,?", "data:text/plain,x"]
    (tmp_path / "a.mcap").write_bytes(desktop([("screen", at, screen(None, uri)) for at, uri in enumerate(uris)]))
    episode = read(tmp_path)
    camera = episode.streams["observation.images.screen"]
    assert isinstance(camera.values, Items)
    assert [bytes(data) for data in camera.values.data] == [picture, b"", b""]
    assert camera.column.shape == (64, 96, 3)
    assert checks(episode) == ["unreadable_picture"]


def test_keys_and_buttons_as_they_were_held(tmp_path: Path) -> None:
    sent: list[tuple[str, int, Any]] = [
        ("keyboard/state", 0, {"buttons": [16]}),
        ("keyboard", 10, {"event_type": "press", "vk": 65}),
        ("keyboard", 20, {"event_type": "release", "vk": 16}),
        # The release of 65 was lost, and a press of 9: the snapshot says so.
        ("keyboard/state", 30, {"buttons": [9]}),
        ("keyboard", 40, {"event_type": "press", "vk": 66}),
        ("keyboard", 50, {"event_type": "press", "vk": 999}),
        ("mouse", 0, {"event_type": "move", "x": 5, "y": -2}),
        ("mouse", 10, {"event_type": "click", "x": 6, "y": 2, "button": "right", "pressed": True}),
        ("mouse", 20, {"event_type": "scroll", "x": 6, "y": 2, "dx": 0, "dy": -3}),
        ("mouse", 30, {"event_type": "click", "x": 7, "y": 2, "button": "right", "pressed": False}),
    ]
    (tmp_path / "a.mcap").write_bytes(desktop(sent))
    episode = read(tmp_path)
    assert [np.flatnonzero(row).tolist() for row in np.asarray(episode.streams["action.keyboard"].values)] == [[16, 65], [65], [9, 66]]
    assert np.asarray(episode.streams["action.mouse.buttons"].values)[:, 1].tolist() == [False, True, True, False]
    assert np.asarray(episode.streams["action.mouse.scroll"].values).tolist() == [[0, 0], [0, 0], [0, -3], [0, 0]]
    position = episode.streams["action.mouse.position"]
    assert np.asarray(position.values).tolist() == [[5, -2], [6, 2], [6, 2], [7, 2]]
    assert (position.column.unit, position.column.action_source) == ("px", "commanded")
    assert position.column.action_space is not None
    assert position.column.action_space.absolute is True
    assert [check for check in checks(episode) if check != "ragged_field"] == ["key_state_differs", "odd_key_events"]


def test_other_profiles_are_left_alone(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv")
    (tmp_path / "a.mcap").write_bytes(desktop([("screen", 0, screen(0))], profile="other"))
    found = mcap.find(list_source(str(tmp_path)))
    assert found.claimed == {"a.mcap"}
    assert "observation.images.screen" not in read(tmp_path).streams


def test_mutants_of_the_recording() -> None:
    folder = shared_data("teleop_mcap_ros", "owa_desktop")
    video = {"a.mkv": (folder / "0.5.1.mkv").read_bytes(), "0.5.1.mkv": (folder / "0.5.1.mkv").read_bytes()}
    data = desktop([("screen", at, screen(at)) for at in (0, 20, 60, 320)] + [("keyboard", 3, {"event_type": "press", "vk": 65})])
    for name, content, beside in (("a.mcap", data, video), ("a.mkv", video["a.mkv"], {"a.mcap": data})):
        outcomes = run_over(
            _lands, mutants(content, 16, seed=5), file_name=name, beside=beside, memory_bytes=512 << 20, preload=("dataengine.sources.mcap.reader", "av")
        )
        assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected")], tally(outcomes)


def _lands(folder: str) -> str:
    reading = run_reader("dataengine.sources.mcap.reader", folder)
    return "landed" if reading.episodes else "nothing"


def test_it_is_one_recording_with_its_video(tmp_path: Path) -> None:
    folder = shared_data("teleop_mcap_ros", "owa_desktop")
    for name in ("0.5.1.mcap", "0.5.1.mkv"):
        shutil.copy(folder / name, tmp_path / name)
    listing = list_source(str(tmp_path))
    (before,) = mcap.find(listing).items
    (tmp_path / "0.5.1.mkv").unlink()
    (after,) = mcap.find(list_source(str(tmp_path))).items
    assert before.fingerprint != after.fingerprint
    assert "missing_media" in checks(read(tmp_path))
