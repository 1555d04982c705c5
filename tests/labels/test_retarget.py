from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Column
from dataengine.core.errors import ConfigError, MissingFact, UnknownName, UsageError
from dataengine.core.labelling import Watched
from dataengine.core.labels import Labels
from dataengine.core.pose import matrix_from_rotvec
from dataengine.labels.retarget import open_retarget
from dataengine.samples.arm import ArmConfig, record
from dataengine.samples.egodex import EgodexOptions, joint_names, write_egodex
from dataengine.samples.umi import write_umi
from dataengine.store.store import open_store
from dataengine.store.watching import watch_numbers, watch_parts
from pipelines.bench import ingest_in_process

HAND, THUMB, INDEX = (f"observation.transforms.right{joint}" for joint in ("Hand", "ThumbTip", "IndexFingerTip"))
CAMERA = "observation.transforms.camera"
QUARTER = np.pi / 2
X, Y, Z = (np.array(axis, np.float64) for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


def poses(rows: list[tuple[Array, tuple[float, float, float]]]) -> Array:
    """Return (T, 4, 4) poses of rotation vectors and positions."""
    out = np.tile(np.eye(4), (len(rows), 1, 1))
    for row, (rotvec, position) in enumerate(rows):
        out[row, :3, :3], out[row, :3, 3] = matrix_from_rotvec(rotvec), position
    return out


def turned(matrix: Array, position: tuple[float, float, float]) -> Array:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = matrix, position
    return out


def person(
    columns: Mapping[str, Array], valid: Mapping[str, Array] | None = None, t_ns: Array | None = None, specs: Mapping[str, Column] | None = None
) -> Watched:
    """Return an episode as EgoDex has it: poses as 4x4 matrices in a world, 30 Hz."""
    count = len(next(iter(columns.values())))
    every = {name: np.ones(count, bool) for name in columns} | dict(valid or {})
    told = {name: Column(name, shape=values.shape[1:], frame="arkit_world") for name, values in columns.items()} | dict(specs or {})
    times = np.arange(count, dtype=np.int64) * 33_333_333 if t_ns is None else t_ns
    return Watched("e1", "egodex", count, t_ns=times, rate_hz=30.0, columns=dict(columns), valid=every, specs=told)


def label(watched: Watched, **options: Any) -> Labels:
    labeller = open_retarget(options)
    return labeller.labels(watched, labeller.answer(labeller.inputs(watched, np.arange(watched.steps))))


ROLL = matrix_from_rotvec(QUARTER * X)
TURN = matrix_from_rotvec(QUARTER * Z)


def test_a_hand_that_turns_while_it_moves_in_its_own_axes_and_in_those_of_the_world() -> None:
    hand = np.stack([turned(ROLL, (1, 2, 3)), turned(TURN @ ROLL, (1, 4, 3))])  # turns by 90 degrees about the world's z, and moves 2 m along its y
    tool = label(person({HAND: hand}))
    # rolled by 90 degrees about x, the hand's y is the world's z and its z is the world's -y
    np.testing.assert_allclose(tool.columns["action.right"][0], [0, 0, -2, 0, QUARTER, 0], atol=1e-6)
    world = label(person({HAND: hand}), motion="frame")
    np.testing.assert_allclose(world.columns["action.right"][0], [0, 2, 0, 0, 0, QUARTER], atol=1e-6)
    np.testing.assert_allclose(world.columns["wrist_pose.right"][0], [1, 2, 3, QUARTER, 0, 0], atol=1e-6)
    assert tool.valid["action.right"].tolist() == [True, False]
    spaces = [found.specs["action.right"].action_space for found in (tool, world)]
    assert [space.frame for space in spaces if space] == ["tool", "arkit_world"]
    assert [(space.kind, space.rotation, space.absolute) for space in spaces if space] == [("ee_delta", "rotvec", False)] * 2
    assert tool.specs["action.right"].action_source == "retargeted"
    assert tool.specs["action.right"].dims == ("x", "y", "z", "rotvec_x", "rotvec_y", "rotvec_z")


def test_a_rotation_as_six_numbers_is_the_first_two_columns() -> None:
    hand = np.stack([np.eye(4), turned(TURN, (0, 0, 0))])
    found = label(person({HAND: hand}), rotation="rot6d")
    np.testing.assert_allclose(found.columns["action.right"][0], [0, 0, 0, 0, 1, 0, -1, 0, 0], atol=1e-6)


def test_a_turning_head_moves_no_hand() -> None:
    hand = poses([(0 * X, (1, 0, 0))] * 3)
    camera = poses([(0 * Z, (0, 0, 0)), (QUARTER * Z, (0, 0, 0)), (QUARTER * Z, (0, 0, 1))])
    found = label(person({HAND: hand, CAMERA: camera}), frame="camera", motion="frame")
    assert np.abs(found.columns["action.right"]).max() < 1e-6
    # the camera turned to the left sees the hand, which was before it, at its right; 1 m higher it sees it 1 m lower
    np.testing.assert_allclose(found.columns["wrist_pose.right"][:, :3], [[1, 0, 0], [0, -1, 0], [0, -1, -1]], atol=1e-6)
    space = found.specs["action.right"].action_space
    assert space is not None
    assert space.frame == "camera"


def test_motion_seen_by_the_camera_at_its_start_although_the_camera_moves_too() -> None:
    hand = poses([(0 * X, (0, 0, 0)), (0 * X, (1, 0, 0)), (0 * X, (1, 2, 0))])
    camera = poses([(QUARTER * Z, (5, 5, 5)), (0 * Z, (0, 0, 0)), (QUARTER * X, (9, 9, 9))])
    at = label(person({HAND: hand, CAMERA: camera}), frame="camera", motion="frame").columns["action.right"]
    np.testing.assert_allclose(at[0, :3], [0, -1, 0], atol=1e-6)  # the world's x, seen by a camera that is turned by 90 degrees about z
    np.testing.assert_allclose(at[1, :3], [0, 2, 0], atol=1e-6)
    first = label(person({HAND: hand, CAMERA: camera}), frame="first_camera", motion="frame")
    np.testing.assert_allclose(first.columns["action.right"][1, :3], [2, 0, 0], atol=1e-6)  # the world's y, seen by the first camera
    np.testing.assert_allclose(first.columns["wrist_pose.right"][:, :3], [[-5, 5, -5], [-5, 4, -5], [-3, 4, -5]], atol=1e-6)


def test_where_the_camera_is_lost_its_frame_is_not_known_and_the_first_known_one_is_the_first() -> None:
    hand = poses([(0 * X, (0, 0, 0)), (0 * X, (1, 0, 0)), (0 * X, (2, 0, 0))])
    camera = poses([(0 * Z, (7, 7, 7)), (0 * Z, (0, 0, 1)), (0 * Z, (0, 0, 2))])
    watched = person({HAND: hand, CAMERA: camera}, {CAMERA: np.array([False, True, True])})
    at = label(watched, frame="camera")
    assert at.valid["wrist_pose.right"].tolist() == [False, True, True]
    assert at.valid["action.right"].tolist() == [False, True, False]  # seen by the camera at 1, the hand at 2 needs no camera at 2
    first = label(watched, frame="first_camera")
    np.testing.assert_allclose(first.columns["wrist_pose.right"][:, :3], [[0, 0, -1], [1, 0, -1], [2, 0, -1]], atol=1e-6)
    assert first.valid["wrist_pose.right"].all()


def test_a_quaternion_and_its_negative_are_one_rotation() -> None:
    quarter = [0, 0, np.sin(np.pi / 4), np.cos(np.pi / 4)]
    pose = np.array([[0, 0, 0, *quarter], [0, 0, 0, *(-number for number in quarter)], [0, 0, 1, 0, 0, 0, -1]], np.float64)
    found = label(person({"observation.camera_pose": pose}))
    np.testing.assert_allclose(found.columns["action.hand"], np.array([np.zeros(6), [0, 0, 1, 0, 0, -QUARTER], np.zeros(6)]), atol=1e-6)


def test_a_gap_in_tracking_takes_the_motions_on_both_of_its_sides() -> None:
    hand = poses([(0 * X, (step, 0, 0)) for step in range(6)])
    hand[3] = 0  # what a tracker writes for a hand that it does not see is no pose
    found = label(person({HAND: hand}, {HAND: np.array([True, False, True, True, True, True])}))
    assert found.valid["wrist_pose.right"].tolist() == [True, False, True, False, True, True]
    assert found.valid["action.right"].tolist() == [False, False, False, False, True, False]
    assert found.columns["action.right"][4, 0] == 1


def test_a_dropped_step_is_no_step() -> None:
    hand = poses([(0 * X, (step, 0, 0)) for step in range(5)])
    times = np.array([0, 33, 66, 132, 165], np.int64) * 1_000_000
    assert label(person({HAND: hand}, t_ns=times)).valid["action.right"].tolist() == [True, True, False, True, False]


def test_the_aperture_is_the_distance_of_the_tips_and_an_action_brings_the_hand_to_that_of_the_next_step() -> None:
    still = poses([(0 * X, (0, 0, 0))] * 3)
    finger = poses([(0 * X, place) for place in ((0.03, 0.04, 0), (0, 0, 0.01), (0.2, 0, 0))])
    watched = person({HAND: still, THUMB: still, INDEX: finger})
    metres = label(watched)
    np.testing.assert_allclose(metres.columns["aperture.right"], [0.05, 0.01, 0.2], rtol=1e-6)
    np.testing.assert_allclose(metres.columns["action.right"][:2, 6], [0.01, 0.2], rtol=1e-6)
    assert metres.specs["aperture.right"].unit == "m"
    space = metres.specs["action.right"].action_space
    assert space is not None
    assert space.gripper is None  # nobody said how far the hand opens
    scaled = label(watched, aperture={"closed_m": 0.01, "open_m": 0.09})
    np.testing.assert_allclose(scaled.columns["aperture.right"], [0.5, 0, 1], atol=1e-6)
    space = scaled.specs["action.right"].action_space
    assert space is not None
    assert space.gripper is not None
    assert (space.gripper.dimension, space.gripper.closed, space.gripper.open) == (6, 0.0, 1.0)


def test_a_confidence_is_the_least_of_what_was_used() -> None:
    still = poses([(0 * X, (0, 0, 0))] * 4)
    said = {
        HAND: np.array([0.9, 0.8, 0.7, 0.6]),
        THUMB: np.array([0.1, 0.95, 0.65, 0.0]),
        INDEX: np.array([0.2, 0.75, 0.99, 0.3]),
    }
    columns = {HAND: still, THUMB: still, INDEX: still} | {name.replace("transforms", "confidences"): values for name, values in said.items()}
    found = label(person(columns))
    np.testing.assert_allclose(found.confidence["wrist_pose.right"], [0.9, 0.8, 0.7, 0.6], rtol=1e-6)
    np.testing.assert_allclose(found.confidence["aperture.right"], [0.1, 0.75, 0.65, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found.confidence["action.right"], [0.75, 0.65, 0.0, np.nan], rtol=1e-6)  # wrist at t and t + 1, tips at t + 1
    assert found.valid["aperture.right"].tolist() == [True, True, True, False]  # confidence 0: the thumb was lost
    assert found.valid["action.right"].tolist() == [True, True, False, False]
    stricter = label(person(columns), lost_at=0.7)
    assert stricter.valid["wrist_pose.right"].tolist() == [True, True, False, False]


def test_a_source_without_confidences_gives_none() -> None:
    found = label(person({HAND: poses([(0 * X, (0, 0, 0))] * 2)}))
    assert np.isnan(found.confidence["wrist_pose.right"]).all()
    assert found.valid["wrist_pose.right"].all()


def test_columns_of_any_recording_can_be_named() -> None:
    state = np.array([[0, 0, 0, 0, 0, QUARTER, 0.02], [0, 3, 0, 0, 0, QUARTER, 0.07]], np.float32)
    wrist = {"columns": ["observation.state"], "rotation": "rotvec"}
    sources = {"hands": {"gripper": {"wrist": wrist, "width": {"column": "observation.state", "entry": 6}}}}
    found = label(person({"observation.state": state}), sources=sources)
    np.testing.assert_allclose(found.columns["action.gripper"][0], [3, 0, 0, 0, 0, 0, 0.07], atol=1e-6)
    with pytest.raises(MissingFact, match="rotation must be known"):
        label(person({"observation.state": state}), sources={"hands": {"gripper": {"wrist": {"columns": ["observation.state"]}}}})
    said = Column("observation.state", shape=(7,), frame="base", action_space=ActionSpace("ee_pose", "rpy"))
    declared = label(
        person({"observation.state": state}, specs={"observation.state": said}), sources={"hands": {"gripper": {"wrist": {"columns": ["observation.state"]}}}}
    )
    np.testing.assert_allclose(declared.columns["action.gripper"][0], [3, 0, 0, 0, 0, 0], atol=1e-6)


def test_another_point_that_moves_with_the_wrist() -> None:
    hand = np.stack([np.eye(4), turned(TURN, (0, 0, 0))])
    tool = [1.0, 0, 0, 0.1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]  # 0.1 m before the wrist
    found = label(person({HAND: hand}), wrist_from_tool=tool)
    np.testing.assert_allclose(found.columns["wrist_pose.right"][:, :3], [[0.1, 0, 0], [0, 0.1, 0]], atol=1e-6)
    np.testing.assert_allclose(found.columns["action.right"][0], [-0.1, 0.1, 0, 0, 0, QUARTER], atol=1e-6)


def test_a_hand_that_is_named_and_not_there_is_never_valid() -> None:
    found = label(person({HAND: poses([(0 * X, (0, 0, 0))] * 2)}), hands=["left", "right"])
    assert not found.valid["action.left"].any()
    assert found.specs["action.left"].action_space is not None
    assert "action.left" not in label(person({HAND: poses([(0 * X, (0, 0, 0))] * 2)})).columns


def test_what_is_asked_wrongly_is_said() -> None:
    watched = person({HAND: poses([(0 * X, (0, 0, 0))] * 2)})
    with pytest.raises(UnknownName, match="did you mean 'left'"):
        open_retarget({"hands": ["lefft"]})
    with pytest.raises(UnknownName, match="layout"):
        open_retarget({"layout": "egodx"})
    with pytest.raises(ConfigError, match="did you mean 'rotation'"):
        open_retarget({"rotaton": "rotvec"})
    with pytest.raises(ConfigError, match="closed_m and open_m"):
        open_retarget({"aperture": {"open_m": 0.1}})
    with pytest.raises(ConfigError, match="rigid"):
        open_retarget({"wrist_from_tool": [2.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]})
    with pytest.raises(UsageError, match="must hold the camera's pose"):
        label(watched, frame="camera")
    with pytest.raises(UsageError, match="must hold the poses of any hand"):
        label(person({"observation.state": np.zeros((2, 7))}))
    labeller = open_retarget()
    with pytest.raises(UsageError, match="order of its steps"):
        labeller.labels(watched, {"step": np.array([1, 0])})


def test_the_label_set_names_the_method_and_each_option_is_another_model() -> None:
    plain, camera = (open_retarget(options).label_set("hands") for options in ({}, {"frame": "camera"}))
    assert plain.model == open_retarget().label_set("other").model != camera.model
    assert camera.parameters["frame"] == "camera"
    assert (camera.parameters["method"], camera.parameters["version"], camera.trained_on) == ("retarget", "1", None)


def test_recordings_of_egodex_give_the_motion_that_they_were_made_with(tmp_path: Path) -> None:
    recording = record(3, 0, ArmConfig(height=48, width=64, cameras=("front",), max_steps=15, failure_rate=0.0))
    write_egodex(tmp_path / "in" / "part1", [recording], EgodexOptions())
    ingest_in_process(tmp_path / "in", tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    (row,) = store.episodes().collect().iter_rows(named=True)
    labeller = open_retarget({"frame": "camera", "motion": "frame", "hands": ["left"]})
    answers = [labeller.answer(labeller.inputs(part, steps))["step"] for part, steps in watch_parts(store, row, labeller.needs, most=7)]
    found = labeller.labels(watch_numbers(store, row, labeller.needs), {"step": np.concatenate(answers)})
    joints = ["camera", *joint_names()]
    hand, thumb, index = (joints.index(f"left{name}") for name in ("Hand", "ThumbTip", "IndexFingerTip"))
    t = np.arange(found.steps) / 30
    # every joint turns about y by 0.3 rad/s, and goes along x by 0.1 m/s, along y by a thousandth of its number, along z as -0.2 cos t
    world = np.stack([np.full(len(t) - 1, 0.1 / 30), np.full(len(t) - 1, 0.001 * hand / 30), -0.2 * np.diff(np.cos(t))], axis=1)
    angle = 0.3 * t[:-1]
    seen = np.stack([np.cos(angle) * world[:, 0] - np.sin(angle) * world[:, 2], world[:, 1], np.sin(angle) * world[:, 0] + np.cos(angle) * world[:, 2]], axis=1)
    action = found.columns["action.left"]
    np.testing.assert_allclose(action[:-1, :3], seen, atol=2e-6)
    np.testing.assert_allclose(action[:-1, 3:6], np.tile([0, 0.01, 0], (len(t) - 1, 1)), atol=2e-6)
    apart = index - thumb
    np.testing.assert_allclose(action[:-1, 6], np.hypot(0.01 * apart, 0.001 * apart * t[1:]), atol=2e-6)
    assert found.valid["action.left"].tolist() == [True] * (found.steps - 1) + [False]
    np.testing.assert_allclose(found.confidence["action.left"][:-1], 0.5 + 0.005 * min(hand, thumb, index), rtol=1e-6)
    frame = found.specs["wrist_pose.left"].frame
    assert frame == "camera"


def test_a_gripper_of_umi_moves_as_its_poses_and_opens_as_its_width(tmp_path: Path) -> None:
    recording = record(3, 0, ArmConfig(height=48, width=64, cameras=("wrist",), max_steps=15, failure_rate=0.0))
    write_umi(tmp_path / "in", [recording])
    ingest_in_process(tmp_path / "in", tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    (row,) = store.episodes().collect().iter_rows(named=True)
    labeller = open_retarget({"motion": "frame"})
    watched = watch_numbers(store, row, labeller.needs)
    found = labeller.labels(watched, {"step": np.arange(watched.steps)})
    assert set(found.columns) == {"wrist_pose.right", "aperture.right", "action.right"}
    position = watched.columns["observation.robot0_eef_pos"]
    np.testing.assert_allclose(found.columns["action.right"][:-1, :3], np.diff(position, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.columns["action.right"][:-1, 6], watched.columns["observation.robot0_gripper_width"][1:, 0], atol=1e-7)
    assert np.abs(found.columns["action.right"][:, :3]).max() > 1e-3
