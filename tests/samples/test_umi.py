"""UMI and GoPro samples read back with other libraries: zarr, zipfile and imagecodecs, FFmpeg and telemetry-parser; nothing of the project's own readers."""

import json
import zipfile
from pathlib import Path

import av
import imagecodecs
import numpy as np
import pytest
import zarr
import zarr.storage

from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.gopro import add_telemetry, payloads_of
from dataengine.samples.steps import control_steps
from dataengine.samples.umi import UmiOptions, write_umi
from dataengine.samples.umi_session import demo_name, write_umi_session
from dataengine.samples.video import VideoOptions, write_film


@pytest.fixture(scope="module")
def recordings() -> list[ArmRecording]:
    return [record(0, index, ArmConfig(48, 64, cameras=("wrist",), max_steps=steps)) for index, steps in ((1, 9), (2, 50))]


def test_a_buffer_is_what_umi_writes(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    path = write_umi(tmp_path, recordings)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        metadata = json.loads(archive.read("data/camera0_rgb/.zarray"))
        frames = [imagecodecs.jpegxl_decode(archive.read(f"data/camera0_rgb/{row}.0.0.0")) for row in (0, 9)]
    assert names[0] == ".zgroup"
    assert (metadata["zarr_format"], metadata["chunks"], metadata["compressor"]["id"], metadata["compressor"]["level"]) == (
        2,
        [1, 48, 64, 3],
        "imagecodecs_jpegxl",
        99,
    )
    steps = [control_steps(recording) for recording in recordings]
    with zarr.storage.ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        assert np.asarray(group["meta/episode_ends"]).tolist() == [len(steps[0]), len(steps[0]) + len(steps[1])] == [9, 59]
        positions = np.asarray(group["data/robot0_eef_pos"])
        starts = np.asarray(group["data/robot0_demo_start_pose"])
    np.testing.assert_array_equal(positions, np.concatenate([part.ee_pose[:, :3] for part in steps]).astype(np.float32))
    assert (starts[:9] == starts[0]).all()
    assert (starts[9:] == starts[9]).all()
    for frame, (recording, step) in zip(frames, ((recordings[0], 0), (recordings[1], 0)), strict=True):
        seen = recording.cameras["wrist"].images[control_steps(recording).frame["wrist"][step]]
        assert np.abs(frame.astype(int) - seen).mean() < 2  # level 99 is nearly lossless


def test_raw_frames_are_packed_with_blosc(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    group = zarr.open_group(write_umi(tmp_path, recordings, UmiOptions(zipped=False, frames="blosc")), mode="r")
    first = recordings[0]
    np.testing.assert_array_equal(np.asarray(group["data/camera0_rgb"])[:9], first.cameras["wrist"].images[control_steps(first).frame["wrist"]])


def test_the_telemetry_track_is_one_for_ffmpeg_and_for_telemetry_parser(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    recording = recordings[1]
    payloads = payloads_of(recording)
    path = add_telemetry(write_film(tmp_path / "a.mp4", recording, ["wrist"], VideoOptions()), payloads)
    with av.open(str(path)) as container:
        stream = container.streams[1]
        assert (stream.type, stream.metadata["handler_name"]) == ("data", "GoPro MET")
        packets = [(packet.pts, bytes(packet)) for packet in container.demux(stream) if packet.size]
    assert packets == [(1001 * number, data) for number, data in enumerate(payloads)]
    library = pytest.importorskip("telemetry_parser")
    rows = library.Parser(str(path)).normalized_imu()
    theirs = np.array([row["accl"] for row in rows])
    np.testing.assert_allclose(np.sort(np.abs(theirs[:50]), axis=1), np.sort(np.abs(recording.linear_acceleration[:50]), axis=1), atol=0.01)


def test_a_session_is_laid_out_as_the_scripts_of_umi_do(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    session = write_umi_session(tmp_path / "day", recordings[:1])
    demo = session / "demos" / demo_name(0)
    header, *lines = (demo / "camera_trajectory.csv").read_text().splitlines()
    assert header == "frame_idx,timestamp,state,is_lost,is_keyframe,x,y,z,q_x,q_y,q_z,q_w"
    assert lines[0] == "0,0.000000,1,true,true,0,0,0,0,0,0,0"
    assert lines[3].startswith("3,0.100000,2,false,false,")
    with av.open(str(demo / "raw_video.mp4")) as container:
        assert container.streams.video[0].frames == len(lines)
    document = json.loads((demo / "imu_data.json").read_text())
    assert document["1"]["streams"]["ACCL"]["samples"][2]["cts"] == recordings[0].imu_t_ns[2] / 1e6
    assert (session / "raw_videos" / "GX010000.MP4").resolve() == (demo / "raw_video.mp4").resolve()
