from fractions import Fraction

import pytest

from dataengine.video.probe import probe
from tests.support.films import numbered, write_film
from tests.support.shared import shared_data


def test_every_track_is_described(tmp_path) -> None:
    path = write_film(tmp_path / "two.mp4", [numbered(5, 48, 64), numbered(7, 64, 96)], sound=True)
    info = probe(path)
    assert (info.format, info.size, [track.kind for track in info.tracks]) == ("mp4", path.stat().st_size, ["video", "video", "audio"])
    small, large, sound = info.tracks
    assert (small.width, small.height, small.codec, small.pix_fmt, small.declared_frames) == (64, 48, "h264", "yuv420p", 5)
    assert (large.width, large.height, large.average_hz, large.time_base) == (96, 64, Fraction(30), Fraction(1, 15360))
    assert (sound.codec, sound.sample_hz, sound.channels) == ("aac", 48_000, 1)
    assert info.main == large
    assert small.extradata[:1] == b"\1"  # the avcC record


def test_a_file_object_and_a_path_say_the_same(tmp_path) -> None:
    path = write_film(tmp_path / "a.mkv", numbered(5))
    with path.open("rb") as file:
        assert probe(file) == probe(path)
    assert probe(path).format == "matroska"


def test_the_extension_does_not_matter(tmp_path) -> None:
    path = write_film(tmp_path / "a.webm", numbered(5), codec="libvpx-vp9", options={"deadline": "realtime"})
    assert probe(path.rename(tmp_path / "a.txt")).format == "webm"


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_rotation_is_told(tmp_path, degrees: int) -> None:
    import av

    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(degrees)
        for pixels in numbered(3, 48, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    (track,) = probe(path).tracks
    assert abs(track.rotation_deg) == abs(degrees)
    assert degrees == 180 or track.rotation_deg == degrees


def test_shared_videos_are_what_their_facts_say(shared_facts) -> None:
    for name, facts in shared_facts.items():
        info = probe(shared_data(name))
        expected = [stream for stream in facts["streams"] if stream["type"] == "video"]
        found = [
            {"index": track.index, "codec": track.codec, "pix_fmt": track.pix_fmt, "wh": [track.width, track.height], "avg_rate": str(track.average_hz)}
            | {"header_frames": track.declared_frames}
            for track in info.videos
        ]
        assert found == [{key: stream[key] for key in found[0]} for stream in expected], name
        others = [(stream["type"], stream["codec"] or "") for stream in facts["streams"] if stream["type"] != "video"]
        assert [(track.kind, track.codec) for track in info.tracks if track.kind != "video"] == [
            (kind, {"srt": "subrip"}.get(codec, codec) if kind == "subtitle" and codec not in {t.codec for t in info.tracks} else codec)
            for kind, codec in others
        ], name


def test_the_main_track_is_the_largest(shared_facts) -> None:
    main = probe(shared_data("conformance/torchcodec_video/nasa_13013.mp4")).main
    assert main is not None
    assert (main.index, main.width, main.height) == (3, 480, 270)
