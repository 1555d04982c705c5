import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.video.index import COLUMNS, NO_TIME, FrameIndex, frame_index, frame_indexes, ticks_to_ns
from tests.support.films import cut_start, numbered, write_film
from tests.support.shared import shared_data


def test_ticks_are_rounded_down_and_never_drift() -> None:
    assert ticks_to_ns(np.array([0, 512, 1024, 1536, -512]), Fraction(1, 15360)).tolist() == [0, 33_333_333, 66_666_666, 100_000_000, -33_333_334]
    assert ticks_to_ns(np.array([1001 * 30_000 * 3600]), Fraction(1, 30_000)).tolist() == [1001 * 3600 * 10**9]
    assert ticks_to_ns(np.array([2**33 - 1]), Fraction(1, 1)).tolist() == [(2**33 - 1) * 10**9]


def test_variable_rate_is_kept_to_the_tick(tmp_path) -> None:
    ticks = [0, 3, 4, 40, 1000, 1001, 5000]
    index = frame_index(write_film(tmp_path / "a.mp4", numbered(7), ticks=ticks, time_base=Fraction(1, 1000)))
    assert index.pts_ns.tolist() == [tick * 1_000_000 for tick in ticks]
    assert index.key.tolist() == [True] + [False] * 6
    assert index.order.tolist() == list(range(7))
    assert index.duration_ns >= 5_000_000_000


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_stand_in_the_order_of_the_screen(tmp_path, name: str) -> None:
    path = write_film(tmp_path / name, numbered(30), b_frames=2, gop=12)
    index = frame_index(path)
    step = 33_333_333.3
    assert np.abs(index.pts_ns - np.arange(30) * step).max() <= 1_000_000
    assert sorted(index.order.tolist()) == list(range(30))
    assert index.order.tolist() != list(range(30))
    assert (index.dts == NO_TIME).sum() == (2 if name == "a.mkv" and index.facts["edit_shift"] == 0 and NO_TIME in index.dts else 0)
    assert np.flatnonzero(index.key)[0] == 0


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx265"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9")])
def test_each_frame_lies_where_the_index_says(tmp_path, name: str, codec: str) -> None:
    import av

    path = write_film(tmp_path / name, numbered(20), codec=codec, b_frames=0 if "vpx" in codec else 2, sound=name == "a.mp4")
    index, data = frame_index(path), path.read_bytes()
    assert index.facts["ranges"] is True
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert [data[offset : offset + size] for offset, size in zip(index.offset, index.size, strict=True)] == [packets[place] for place in index.order]


def test_a_transport_stream_has_no_ranges(tmp_path) -> None:
    index = frame_index(write_film(tmp_path / "a.ts", numbered(20)))
    assert (len(index), index.facts["ranges"], index.facts["extension"]) == (20, False, "ts")
    assert set(index.offset.tolist()) == {-1}


def test_several_tracks_are_indexed_in_one_pass(tmp_path) -> None:
    path = write_film(tmp_path / "a.mp4", [numbered(5, 48, 64), numbered(9)])
    info, both = frame_indexes(path)
    assert {track: len(index) for track, index in both.items()} == {0: 5, 1: 9}
    assert [track.index for track in info.videos] == [0, 1]
    assert frame_index(path).track == 1
    alone = frame_index(path, 0)
    assert all(np.array_equal(getattr(alone, name), getattr(both[0], name)) for name in COLUMNS)


def test_what_an_edit_list_cuts_away_is_no_frame(tmp_path) -> None:
    whole = frame_index(write_film(tmp_path / "a.mp4", numbered(30), b_frames=2, gop=30))
    cut = frame_index(cut_start(tmp_path / "a.mp4", 5 * 512))
    assert len(whole) == 30
    assert (len(cut), cut.facts["hidden"]) == (25, 5)
    assert cut.pts_ns[0] == 0
    assert np.array_equal(cut.size, whole.size[5:])
    assert (whole.facts["edit_shift"], cut.facts["edit_shift"]) == (1024, 1024 + 5 * 512)


def test_columns_and_facts_rebuild_the_index(tmp_path) -> None:
    index = frame_index(write_film(tmp_path / "a.mkv", numbered(12), b_frames=2))
    facts = json.loads(json.dumps(index.as_facts()))
    again = FrameIndex.from_columns(index.as_columns(), facts)
    assert again.facts == index.facts
    assert (again.track, again.duration_ns) == (index.track, index.duration_ns)
    assert all(np.array_equal(getattr(again, name), getattr(index, name)) for name in COLUMNS)
    with pytest.raises(BadRecording, match="none of offset, track"):
        FrameIndex.from_columns({key: value for key, value in index.as_columns().items() if key != "offset"}, {"duration_ns": 1})
    with pytest.raises(ValueError, match="read-only"):
        index.pts[0] = 7


def test_a_file_without_the_track_is_rejected(tmp_path) -> None:
    path = write_film(tmp_path / "a.mp4", numbered(4))
    with pytest.raises(BadRecording, match=r"expected video tracks \[3\], found tracks: 0 video") as caught:
        frame_index(path, 3)
    assert caught.value.check == "no_video"


def test_h264_with_b_frames_in_avi_has_no_times_that_could_be_believed(tmp_path) -> None:
    with pytest.raises(BadRecording) as caught:
        frame_index(write_film(tmp_path / "a.avi", numbered(20), b_frames=2))
    assert caught.value.check == "no_times"


def test_shared_videos_have_the_frames_and_times_of_their_facts(shared_facts) -> None:
    for name, facts in shared_facts.items():
        _, found = frame_indexes(shared_data(name))
        for stream in (stream for stream in facts["streams"] if stream["type"] == "video"):
            seconds = found[stream["index"]].pts_ns / 1e9
            steps = np.diff(seconds)
            measured = (len(seconds), seconds[0], seconds[-1], steps.min(), steps.max())
            assert measured == pytest.approx(tuple(stream[key] for key in ("decoded", "first_pts", "last_pts", "dt_min", "dt_max")), abs=1.1e-6), name


@pytest.mark.parametrize("track", [0, 3])
def test_times_equal_the_written_truth(track: int) -> None:
    film = shared_data("conformance/torchcodec_video/nasa_13013.mp4")
    truth = [float(frame["pts_time"]) for frame in json.loads(Path(f"{film}.stream{track}.all_frames_info.json").read_text())]
    assert frame_index(film, track).pts_ns / 1e9 == pytest.approx(truth, abs=5e-7)
