import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.barcode import Barcode, read_barcode
from dataengine.samples.video import VideoOptions, write_video


@pytest.fixture(scope="module")
def recording() -> ArmRecording:
    return record(0, 1, ArmConfig(96, 128, max_steps=25, barcode=True))


def _frames(path: Path, track: int = 0) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(container.streams.video[track])]


def _packets(path: Path, track: int = 0) -> list[Any]:
    with av.open(str(path)) as container:
        return [(packet.pts, packet.dts) for packet in container.demux(container.streams.video[track]) if packet.size]


def test_one_file_a_camera_at_the_nominal_rate(tmp_path: Path, recording: ArmRecording) -> None:
    paths = write_video(tmp_path, [recording])
    assert [path.name for path in paths] == ["episode_000001_front.mp4", "episode_000001_wrist.mp4"]
    assert json.loads((tmp_path / "lang_annotations.json").read_text()) == {path.name: recording.task for path in paths}
    for number, path in enumerate(paths):
        frames = _frames(path)
        assert len(frames) == len(recording.cameras["front"].t_ns)
        assert np.allclose([time for time, _ in frames], np.arange(len(frames)) / 30, atol=1e-4)
        assert [read_barcode(image) for _, image in frames] == [Barcode(row, number, 1) for row in range(len(frames))]


def test_measured_times_tracks_b_frames_and_sound(tmp_path: Path, recording: ArmRecording) -> None:
    (path,) = write_video(tmp_path, [recording], VideoOptions(variable_rate=True, b_frames=2, together=True, audio=True))
    for number, track in enumerate(recording.cameras.values()):
        frames = _frames(path, number)
        assert np.allclose([time for time, _ in frames], (track.t_ns - track.t_ns[0]) / 1e9, atol=1 / 90_000)
        assert [read_barcode(image) for _, image in frames] == [Barcode(row, number, 1) for row in range(len(frames))]
        order = [pts for pts, _ in _packets(path, number)]
        assert order != sorted(order)  # presented in another order than decoded
    with av.open(str(path)) as container:
        assert (len(container.streams.video), len(container.streams.audio)) == (2, 1)
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert abs(len(sound) / 48_000 - recording.truth_t_ns[-1] / 1e9) < 0.05
    assert np.abs(sound).max() > 0.02


@pytest.mark.parametrize(("container", "codec"), [("mkv", "libx264"), ("webm", "libvpx-vp9"), ("mp4", "libx265")])
def test_other_containers_and_codecs(tmp_path: Path, recording: ArmRecording, container: Any, codec: Any) -> None:
    paths = write_video(tmp_path, [recording], VideoOptions(container, codec, captions=False))
    assert not (tmp_path / "lang_annotations.json").exists()
    with av.open(str(paths[1])) as opened:
        assert opened.streams.video[0].codec_context.name in {"h264", "vp9", "libvpx-vp9", "hevc"}
    assert [read_barcode(image) for _, image in _frames(paths[1])] == [Barcode(row, 1, 1) for row in range(len(recording.cameras["wrist"].t_ns))]


def test_x265_refuses_pictures_that_kill_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 64 px high and wide, got 48x64"):
        write_video(tmp_path, [record(0, 1, ArmConfig(48, 64, max_steps=3))], VideoOptions("mkv", "libx265"))
