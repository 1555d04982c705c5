"""Standardised actions of what a store gives back: real BridgeData, real robosuite demonstrations, and the simulated arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Column
from dataengine.core.errors import MissingFact, UsageError
from dataengine.core.trajectory import Trajectory
from dataengine.samples import arm
from dataengine.samples.steps import control_steps
from dataengine.schema.descriptions import apply, descriptions
from dataengine.store.store import Store, open_store
from dataengine.transforms.actions import Convention, action_view
from pipelines.ingest import IngestJob, run
from pipelines.runtime import Runtime
from tests.support.shared import shared_data
from tests.support.tfds_folder import features_dict, floats, ints, record, rlds_features, tensor, texts, write_dataset


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    sources = tuple(str(shared_data(*folder)) for folder in (("rlds", "octo_bridge_head"), ("teleop_hdf5", "robosuite_demos")))
    target = tmp_path_factory.mktemp("standard") / "store"
    report = run(IngestJob(sources, str(target)), Runtime(local=True, workers=1))
    assert report.rejected == 0
    return open_store(str(target))


def trajectories(store: Store, dataset: str) -> list[Trajectory]:
    rows = store.episodes().collect()
    return [store.read_trajectory(episode) for episode in rows.filter(rows["dataset"] == dataset)["episode_id"]]


def test_bridge_is_a_change_and_a_gripper_already(store: Store) -> None:
    found = trajectories(store, "bridge_dataset")
    assert len(found) == 25
    moved, happened = [], []
    for trajectory in found:
        view = action_view(trajectory.specs)
        standard = view.of(trajectory)
        recorded = np.asarray(trajectory.columns["action"])
        np.testing.assert_allclose(standard.values[:, [0, 1, 2, 6]], recorded[:, [0, 1, 2, 6]], atol=1e-7)  # m, and 1 is open
        assert standard.commanded == (True,) * 7
        back = view.inverse(standard)["action"]
        assert back.dtype == recorded.dtype
        np.testing.assert_array_equal(back, recorded)
        state = np.asarray(trajectory.columns["observation.state"])
        moved.append(standard.values[:-1, :3])
        happened.append(np.diff(state[:, :3], axis=0))
    # What is commanded, in m, is about what the state then does, in m: the unit is not ten times another.
    a, b = np.concatenate(moved).ravel(), np.concatenate(happened).ravel()
    assert 0.5 < float(a @ b / (a @ a)) < 1.5


def test_the_frame_of_bridge_is_not_published(store: Store) -> None:
    specs = trajectories(store, "bridge_dataset")[0].specs
    assert action_view(specs).frame is None
    with pytest.raises(MissingFact, match="column 'action': its frame must be known"):
        action_view(specs, convention=Convention(frame="base"))
    assert action_view(specs, convention=Convention(frame="base"), stated={"action": {"frame": "base"}}).frame == "base"


def test_robosuite_is_scaled_as_its_controller_says(store: Store) -> None:
    found = trajectories(store, "robosuite_demos")
    assert len(found) == 3
    for trajectory in found:
        scale: dict[str, Any] = trajectory.specs["action"].extra["scale"]
        assert (scale["output_max"], scale["input_max"]) == ([0.05, 0.05, 0.05, 0.5, 0.5, 0.5], 1)
        view = action_view(trajectory.specs)
        standard = view.of(trajectory)
        recorded = np.asarray(trajectory.columns["action"])
        np.testing.assert_allclose(standard.values[:, :3], recorded[:, :3] * 0.05, atol=1e-12)
        turned = np.linalg.norm(recorded[:, 3:6], axis=1) * 0.5
        np.testing.assert_allclose(np.linalg.norm(standard.values[:, 3:6], axis=1), turned, atol=1e-9)
        assert set(np.unique(recorded[:, 6])) <= {-1.0, 1.0}
        np.testing.assert_allclose(standard.values[:, 6], recorded[:, 6] == -1.0)  # robosuite closes with 1
        np.testing.assert_allclose(view.inverse(standard)["action"], recorded, atol=1e-12)


def test_the_simulated_arm_from_poses_to_changes_and_back() -> None:
    """Its commands are joints, which are refused; the poses that its hand reaches are targets as any."""
    steps = control_steps(arm.record(1, 2, arm.ArmConfig(cameras=())))
    poses = steps.ee_pose
    dims = ("x", "y", "z", "qx", "qy", "qz", "qw")
    space = ActionSpace("ee_pose", "quat_xyzw", "base", True)
    state = Column("observation.ee_pose", "numeric", "float64", (7,), dims, "m", meaning="state", action_space=space)
    target = Column("action", "numeric", "float64", (7,), dims, "m", meaning="action", action_space=space)
    rows = {"action": poses[1:], "observation.ee_pose": poses[:-1]}
    for frame in (None, "tool"):
        view = action_view({"action": target, "observation.ee_pose": state}, convention=Convention(frame=frame))
        standard = view(rows)
        yaw = 2 * np.arctan2(poses[:, 5], poses[:, 6])
        turn = np.angle(np.exp(1j * np.diff(yaw)))
        np.testing.assert_allclose(standard.values[:, 3:6], np.stack([0 * turn, 0 * turn, turn], axis=1), atol=1e-9)  # the hand turns about z alone
        np.testing.assert_allclose(np.linalg.norm(standard.values[:, :3], axis=1), np.linalg.norm(np.diff(poses[:, :3], axis=0), axis=1), atol=1e-12)
        np.testing.assert_allclose(view.inverse(standard, rows)["action"], poses[1:], atol=1e-12)
    joints = apply(descriptions()["sample_arm"], {"action": Column("action", dtype="float64", shape=(5,), meaning="action")})
    with pytest.raises(UsageError, match="got joint_position; joint commands and velocities are not turned into poses"):
        action_view(joints)


def test_the_example_of_the_module_runs(store: Store) -> None:
    """The lines in the documentation of `transforms.actions`, on a real episode."""
    import dataengine.transforms.actions as module

    lines = [line[4:] for line in (module.__doc__ or "").splitlines() if line.startswith("    ")]
    assert len(lines) == 4
    rows = store.episodes().collect()
    names: dict[str, Any] = {"store": store, "episode_id": rows.filter(rows["dataset"] == "bridge_dataset")["episode_id"][0], "action_view": action_view}
    exec("\n".join(lines), names)  # noqa: S102 - the project's own example
    np.testing.assert_array_equal(names["recorded"]["action"], names["trajectory"].columns["action"])


def test_an_open_x_set_from_its_files_to_standard_actions(tmp_path: Path) -> None:
    """A folder with the very features of fractal20220817_data that matter here: its names, rate, body and meaning come from the description."""
    steps = {
        "action": features_dict(
            {
                "world_vector": tensor("float32", 3),
                "rotation_delta": tensor("float32", 3),
                "gripper_closedness_action": tensor("float32", 1),
                "terminate_episode": tensor("int32", 3),
            }
        ),
        "observation": features_dict({"gripper_closed": tensor("float32", 1), "natural_language_instruction": tensor("string")}),
        "is_first": tensor("bool"),
    }
    moves = [0.01, 0.02, -0.03, 0.0, 0.0, 0.25]
    example = record(
        {
            "steps/action/world_vector": floats(moves),
            "steps/action/rotation_delta": floats([0.0, 0.0, 0.5, 0.1, 0.0, 0.0]),
            "steps/action/gripper_closedness_action": floats([0.0, 1.0]),
            "steps/action/terminate_episode": ints([0, 1, 0, 1, 0, 0]),
            "steps/observation/gripper_closed": floats([0.0, 0.0]),
            "steps/observation/natural_language_instruction": texts(["pick the can"] * 2),
            "steps/is_first": ints([1, 0]),
        }
    )
    folder = tmp_path / "in" / "fractal20220817_data" / "0.1.0"
    write_dataset(folder, "fractal20220817_data", {"train": [[example]]}, rlds_features(steps))
    report = run(IngestJob((str(tmp_path / "in"),), str(tmp_path / "store")), Runtime(local=True, workers=1))
    assert (report.landed, [problem["check"] for problem in report.problems]) == (1, ["too_short"])  # two steps; nothing else is to be said
    store = open_store(str(tmp_path / "store"))
    (row,) = store.episodes().collect().iter_rows(named=True)
    assert (row["dataset"], row["rate_hz"], row["embodiment"], row["licence"], row["tasks"]) == (
        "fractal20220817_data",
        3.0,
        "google_robot",
        "CC-BY-4.0",
        ["pick the can"],
    )
    trajectory = store.read_trajectory(row["episode_id"])
    view = action_view(trajectory.specs)
    standard = view.of(trajectory)
    np.testing.assert_allclose(standard.values, [[0.01, 0.02, -0.03, 0, 0, 0.5, 1], [0, 0, 0.25, 0.1, 0, 0, 0]], atol=1e-7)
    assert standard.frame == "base"
    for name, recorded in view.inverse(standard).items():
        np.testing.assert_allclose(recorded, trajectory.columns[name], atol=1e-7)
