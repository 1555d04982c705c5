"""Raw DROID: frames and steps that belong together, every clock under its name, parts that are absent, files that are broken."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Reader
from dataengine.samples.barcode import Barcode, read_barcode
from dataengine.samples.droid import SERIALS, DroidOptions, signals, step_times_ms, write_droid, write_instructions, write_trajectory
from dataengine.sources.droid import reader as droid
from dataengine.sources.hdf5 import reader as hdf5
from dataengine.sources.hdf5.streams import stream_name
from tests.support.child import run_over, run_reader, tally
from tests.support.mutate import mutants
from tests.support.reading import checks, decoded, episodes, find, trajectory

READER: Reader = droid
MODULE = "dataengine.sources.droid.reader"
CAMERAS = ("wrist_left", "exterior_1_left", "exterior_2_left")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DroidOptions]:
    """A set of one episode with everything that there can be."""
    root = tmp_path_factory.mktemp("droid") / "droid_raw"
    options = DroidOptions(seed=5, stereo=True, intrinsics=True, frame_times=True)
    write_droid(root, options)
    (next(root.rglob("recordings")) / "SVO").mkdir()
    (next(root.rglob("SVO")) / "14436910.svo").write_bytes(b"closed")
    return root, options


def test_every_signal_lands_with_its_type(whole: tuple[Path, DroidOptions]) -> None:
    root, options = whole
    (episode,) = episodes(READER, root)
    labels = {serial: camera for camera, serial in SERIALS.items()}
    wrote = {}
    for path, values in signals(options).items():
        head, _, last = path.rpartition("/")
        serial, _, rest = last.partition("_")
        wrote[stream_name(f"{head}/{labels[serial]}{'_' if rest else ''}{rest}" if serial in labels else path)] = values
    numeric = {name: stream for name, stream in episode.streams.items() if "images" not in name}
    assert numeric.keys() == wrote.keys()
    for name, values in wrote.items():
        read = numeric[name].values
        assert isinstance(read, np.ndarray)
        assert (read.dtype, read.tobytes()) == (values.dtype, values.tobytes()), name
    info = episode.info
    assert (info.dataset, info.success, info.tasks, info.clock, info.epoch, info.rate_hz) == (
        "droid_raw",
        True,
        ("Put the cup on the shelf",),
        "measured",
        True,
        None,
    )
    assert checks(episode) == ["svo_not_kept", "pauses"]
    assert [problem.severity for problem in info.problems] == ["info", "info"]
    assert info.metadata["attributes"]["user"] == "Ada Example"
    assert info.metadata["attributes"]["fixed_tasks"] == ["Put the cup on the shelf", "Close the drawer"]
    assert info.metadata["episode"]["user_id"] == "0a1b2c3d"
    assert info.metadata["cameras"]["wrist"] == {"serial": "14436910", "type": 0}
    assert info.metadata["paused_steps"] == 2


def test_every_clock_is_kept_under_its_name(whole: tuple[Path, DroidOptions]) -> None:
    root, options = whole
    (episode,) = episodes(READER, root)
    times = step_times_ms(options)
    start_ns = int(times["step_start"][0]) * 1_000_000
    assert episode.info.start_ns == start_ns
    action = episode.streams["action.cartesian_position"]  # the first of the commands
    for name in ("step_start", "policy_start", "sleep_start", "control_start", "step_end"):
        assert (action.clocks[name] // 1_000_000).tolist() == times[name].tolist()
    assert action.timestamps_ns is not None
    assert ((action.timestamps_ns + start_ns) // 1_000_000).tolist() == times["control_start"].tolist()
    assert set(episode.streams["action.joint_velocity"].clocks) == {"control_start"}
    carrier = next(stream for name, stream in episode.streams.items() if "robot" in stream.clocks)
    assert carrier.clocks["robot"].tolist() == ((times["robot_read_start"] + 137) * 1_000_000 + 4321).tolist()
    state = episode.streams["observation.robot_state.joint_positions"]
    assert state.timestamps_ns is not None
    assert ((state.timestamps_ns + start_ns) // 1_000_000).tolist() == times["robot_read_end"].tolist()
    for camera in SERIALS:
        stream = episode.streams[f"observation.images.{camera}_left"]
        for name in ("read_start", "read_end", "frame_received", "estimated_capture"):
            assert (stream.clocks[name] // 1_000_000).tolist() == times[f"{camera}_{name}"].tolist()
        assert {"pts", "recorded"} < set(stream.clocks)
        assert stream.timestamps_ns is not None
        assert ((stream.timestamps_ns + start_ns) // 1_000_000).tolist() == times[f"{camera}_frame_received"].tolist()


def test_each_step_has_its_own_row_of_everything(whole: tuple[Path, DroidOptions]) -> None:
    """A step: what was read at its beginning, and the command that went out at its end. The barcodes prove the frames."""
    root, options = whole
    (episode,) = episodes(READER, root)
    steps = trajectory(episode)
    assert steps.steps == options.steps
    for path, values in signals(options).items():
        name = stream_name(path)
        if name in steps.columns:
            assert np.array_equal(steps.columns[name], values), name
            assert steps.valid[name].all()
    for number, camera in enumerate(CAMERAS):
        rows = steps.frames[f"observation.images.{camera}"].tolist()
        pictures = decoded(root, episode, f"observation.images.{camera}", rows)
        assert [read_barcode(picture) for picture in pictures] == [Barcode(step, number, 0) for step in range(options.steps)]
    seen = steps.sampled_ns
    assert (seen["observation.robot_state.joint_positions"] < seen["action.joint_position"]).all()
    assert (seen["observation.images.wrist_left"] < seen["action.joint_position"]).all()
    assert (seen["action.joint_position"][:-1] < seen["observation.images.wrist_left"][1:]).all()
    rates = 1e9 / np.diff(steps.t_ns)
    assert 13 < rates.min() < rates.max() < 17


def test_columns_say_what_they_mean(whole: tuple[Path, DroidOptions]) -> None:
    root, _ = whole
    (episode,) = episodes(READER, root)
    columns = episode.info.columns
    pose = columns["action.cartesian_position"]
    assert pose.action_space is not None
    assert (pose.action_space.kind, pose.action_space.rotation, pose.frame, pose.action_space.absolute) == ("ee_pose", "rpy", "base", True)
    gripper = columns["action.gripper_position"].action_space
    assert gripper is not None
    assert gripper.gripper is not None
    assert (gripper.gripper.open, gripper.gripper.closed) == (0.0, 1.0)
    assert columns["action.joint_position"].unit == "rad"
    assert columns["action.joint_velocity"].unit is None  # a share of the largest step
    assert columns["observation.timestamp.skip_action"].meaning == columns["observation.controller_info.movement_enabled"].meaning == "flag"
    wrist = columns["observation.images.wrist_left"]
    assert wrist.camera is not None
    assert (wrist.camera.role, wrist.camera.pose_stream) == ("wrist", "observation.camera_extrinsics.wrist_left")
    assert wrist.camera.intrinsics_px == (730.0, 731.0, 640.0, 360.0)
    assert columns[wrist.camera.pose_stream].frame == "base"
    assert columns["observation.camera_extrinsics.wrist_left_gripper_offset"].frame == "hand"
    stereo = columns["observation.images.exterior_1_stereo"]
    assert (stereo.shape, stereo.extra, stereo.doc) == ((80, 256, 3), {"lenses": 2}, "both lenses side by side, the left one left")
    assert stereo.camera is not None
    assert (stereo.camera.role, len(episode.streams["observation.images.exterior_1_stereo"])) == ("primary", 24)


def test_other_numbers_of_frames_are_named(tmp_path: Path) -> None:
    write_droid(tmp_path / "raw", DroidOptions(steps=16, frames={"wrist": 2, "exterior_1": -3}))
    (episode,) = episodes(READER, tmp_path / "raw")
    assert checks(episode) == ["frames_differ", "frames_differ", "pauses"]
    lengths = {name: len(stream) for name, stream in episode.streams.items() if "images" in name}
    assert lengths == {"observation.images.wrist_left": 16, "observation.images.exterior_1_left": 13, "observation.images.exterior_2_left": 16}
    # Times of steps without a frame are kept too: as numbers, since no frame carries them.
    kept = episode.streams["observation.timestamp.cameras.exterior_1_frame_received"]
    assert np.array_equal(kept.values, step_times_ms(DroidOptions(steps=16))["exterior_1_frame_received"])  # type: ignore[arg-type]
    assert "observation.timestamp.cameras.wrist_frame_received" not in episode.streams
    steps = trajectory(episode)
    assert steps.frames["observation.images.exterior_1_left"][:13].tolist() == list(range(13))


def test_recorded_frame_times_place_frames_whatever_their_number(tmp_path: Path) -> None:
    folder = write_droid(tmp_path / "raw", DroidOptions(steps=12, frames={"exterior_2": 2}, frame_times=True))
    (episode,) = episodes(READER, tmp_path / "raw")
    stream = episode.streams["observation.images.exterior_2_left"]
    assert (len(stream), set(stream.clocks), checks(episode)) == (14, {"recorded", "pts"}, ["frames_differ", "pauses"])
    assert trajectory(episode).frames["observation.images.exterior_2_left"].tolist() == list(range(12))
    path = folder / f"recordings/MP4/{SERIALS['wrist']}_timestamps.json"
    times = json.loads(path.read_text())
    times[3] += 1
    path.write_text(json.dumps(times))
    (episode,) = episodes(READER, tmp_path / "raw")
    assert checks(episode) == ["frames_not_matched", "frames_differ", "pauses"]


def test_a_late_frame_is_named(tmp_path: Path) -> None:
    options = DroidOptions(steps=12)
    folder = write_droid(tmp_path / "raw", options)
    with h5py.File(folder / "trajectory.h5", "r+") as file:
        file[f"observation/timestamp/cameras/{SERIALS['wrist']}_frame_received"][7] += 60
    (episode,) = episodes(READER, tmp_path / "raw")
    assert checks(episode) == ["frames_out_of_step", "pauses"]
    assert trajectory(episode).frames["observation.images.wrist_left"][7] == 6


def test_a_trajectory_alone_lands_with_its_cameras_missing(tmp_path: Path) -> None:
    write_trajectory(tmp_path / "loose" / "trajectory.h5", DroidOptions(steps=10))
    assert not find(READER, tmp_path / "loose").items
    (episode,) = episodes(hdf5, tmp_path / "loose")
    assert checks(episode) == ["camera_order_assumed", "missing_video", "missing_video", "missing_video", "pauses"]
    assert "camera '14436910' (wrist)" in episode.info.problems[1].message
    assert trajectory(episode).steps == 10
    assert "observation.timestamp.cameras.wrist_frame_received" in episode.streams
    write_droid(tmp_path / "set", DroidOptions(steps=10, films=False, metadata=False))
    (episode,) = episodes(READER, tmp_path / "set")
    assert (episode.info.dataset, checks(episode)[0]) == ("set", "missing_metadata")


def test_outcomes_that_contradict_are_named(tmp_path: Path) -> None:
    folder = write_droid(tmp_path / "raw", DroidOptions(steps=8, films=False))
    target = folder.parents[2] / "failure" / folder.parent.name / folder.name
    target.parent.mkdir(parents=True)
    shutil.move(folder, target)
    (episode,) = episodes(READER, tmp_path / "raw")
    assert (episode.info.success, "success_contradicts" in checks(episode)) == (True, True)
    write_droid(tmp_path / "other", DroidOptions(steps=8, films=False, success=False))
    (episode,) = episodes(READER, tmp_path / "other")
    assert (episode.info.success, "success_contradicts" in checks(episode)) == (False, False)


def test_instructions_are_matched_by_the_name_of_the_episode(tmp_path: Path) -> None:
    for number in range(2):
        write_droid(tmp_path / "raw", DroidOptions(steps=6, films=False), number)
    write_instructions(tmp_path / "raw", {"LAB+0a1b2c3d+2023-05-02-04h-01m-00s": ("stand the cup up", " ", "cup to shelf")})
    found = find(READER, tmp_path / "raw")
    assert [len(item.files) for item in found.items] == [2, 3]
    first, second = episodes(READER, tmp_path / "raw")
    assert first.info.tasks == ("Put the cup on the shelf",)
    assert second.info.tasks == ("stand the cup up", "cup to shelf", "Put the cup on the shelf")


def test_times_that_are_none_are_kept_as_numbers(tmp_path: Path) -> None:
    folder = write_droid(tmp_path / "raw", DroidOptions(steps=8, films=False))
    with h5py.File(folder / "trajectory.h5", "r+") as file:
        for name in ("step_start", "policy_start", "sleep_start", "control_start", "step_end"):
            file[f"observation/timestamp/control/{name}"][2] = -5
        for name in ("read_start", "read_end", "robot_timestamp_nanos"):
            del file[f"observation/timestamp/robot_state/{name}"]
            file[f"observation/timestamp/robot_state/{name}"] = np.full(8, np.nan)
    (episode,) = episodes(READER, tmp_path / "raw")
    assert checks(episode).count("odd_times") == 8
    assert (episode.info.clock, episode.info.stream_clocks) == ("unknown", {})
    assert episode.streams["observation.timestamp.control.control_start"].values[2] == -5  # type: ignore[index]
    (episode,) = episodes(READER, tmp_path / "raw", description={"rate_hz": 15.0})
    assert (episode.info.clock, episode.info.rate_hz) == ("nominal", 15.0)


@pytest.mark.parametrize(
    ("breaking", "expected"),
    [
        (lambda path: path.write_bytes(b""), "the HDF5 signature"),
        (lambda path: path.write_bytes(b"no hdf5 at all"), "the HDF5 signature"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "an HDF5 file"),
        (lambda path: path.write_bytes(h5_of({"x": np.zeros(3)}, path)), "observation/robot_state and action"),
        (lambda path: path.write_bytes(h5_of({"observation/robot_state/a": np.zeros(3), "action/note": "none"}, path)), "commands with a row for each step"),
    ],
)
def test_a_broken_trajectory_is_rejected(tmp_path: Path, breaking: object, expected: str) -> None:
    folder = write_droid(tmp_path / "raw", DroidOptions(steps=6, films=False))
    breaking(folder / "trajectory.h5")  # type: ignore[operator]
    with pytest.raises(BadRecording, match=expected):
        episodes(READER, tmp_path / "raw")


def h5_of(content: dict[str, object], path: Path) -> bytes:
    """Return an HDF5 file with these datasets."""
    other = path.with_suffix(".other")
    with h5py.File(other, "w") as file:
        for name, value in content.items():
            file[name] = value
    return other.read_bytes()


def test_broken_metadata_and_films(tmp_path: Path) -> None:
    folder = write_droid(tmp_path / "raw", DroidOptions(steps=6))
    (metadata,) = folder.glob("metadata_*.json")
    metadata.write_text("[1, 2")
    (episode,) = episodes(READER, tmp_path / "raw")
    assert checks(episode) == ["unreadable_metadata", "camera_order_assumed", "pauses"]
    film = folder / "recordings/MP4" / f"{SERIALS['exterior_1']}.mp4"
    film.write_bytes(film.read_bytes()[:300])
    with pytest.raises(BadRecording, match=film.name):
        episodes(READER, tmp_path / "raw")


def _mutants(tmp_path: Path, count: int, seed: int) -> None:
    folder = write_droid(tmp_path, DroidOptions(steps=6))
    beside = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "trajectory.h5"}
    data = (folder / "trajectory.h5").read_bytes()
    outcomes = run_over(
        partial(run_reader, MODULE), mutants(data, count, seed), file_name="trajectory.h5", beside=beside, timeout_s=20, preload=[MODULE, "h5py", "av"]
    )
    # A library in C may die of damaged bytes; the job's child process turns that into a rejection.
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected", "died")], tally(outcomes)
    assert {outcome.status for outcome in outcomes} >= {"ok", "rejected"}


def test_mutants(tmp_path: Path) -> None:
    _mutants(tmp_path, 48, 1)


@pytest.mark.slow
def test_many_mutants(tmp_path: Path) -> None:
    _mutants(tmp_path, 600, 2)
