"""The robomimic/LIBERO/robosuite family: demos in order of their numbers, splits, success, what actions mean; and the shared sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Gripper
from dataengine.core.episode import Episode, Noticed
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Frames
from tests.support.hdf5_files import ROBOMIMIC_STREAMS, differences, episodes, only, write_robomimic
from tests.support.shared import shared_data


def landed(folder: Path, options: ReadOptions | None = None) -> list[Episode]:
    return [event for event in episodes(folder, options) if isinstance(event, Episode)]


def set_env(path: Path, **changes: Any) -> None:
    with h5py.File(path, "r+") as file:
        settings = json.loads(file["data"].attrs["env_args"])
        settings["env_kwargs"].update(changes)
        file["data"].attrs["env_args"] = json.dumps(settings)


def test_the_shared_sample_equals_its_facts() -> None:
    folder = shared_data("teleop_hdf5", "robosuite_demos")
    facts = json.loads((shared_data("FACTS.json")).read_text())["teleop_hdf5/robosuite_demos/lift_demo.hdf5"]
    found = landed(folder)
    assert [episode.info.key for episode in found] == facts["order_numeric"]
    assert {episode.info.key: len(episode.streams["action"]) for episode in found} == facts["lengths"]
    total = 0.0
    with h5py.File(folder / "lift_demo.hdf5") as file:
        for episode in found:
            assert {name: (stream.column.dtype, stream.column.shape) for name, stream in episode.streams.items()} == {
                "action": ("float64", (7,)),
                "observation.state": ("float64", (32,)),
            }
            for name, source in (("action", "actions"), ("observation.state", "states")):
                values: Any = episode.streams[name].values
                assert values.tobytes() == file[f"data/{episode.info.key}/{source}"][()].tobytes()
            total += float(np.sum(episode.streams["action"].values, dtype=np.float64))
            info = episode.info
            assert (info.dataset, info.embodiment, info.origin, info.success, info.splits) == ("robosuite_demos", "franka_panda", "teleop", None, ())
            assert (info.clock, info.rate_hz) == ("unknown", None)
            attributes = info.metadata["attributes"]
            assert {attributes[f"/data@{name}"] == facts["attrs"][name] for name in ("date", "env", "env_info", "repository_version", "time")} == {True}
            assert attributes[f"/data/{info.key}@model_file"].startswith("<mujoco")
            assert info.problems == ()
    assert round(total, 1) == facts["sum_actions"] == -955.1
    space = found[0].streams["action"].column.action_space
    assert space == ActionSpace("ee_delta", "rotvec", "world", absolute=False, gripper=Gripper(6, closed=1.0, open=-1.0))
    assert found[0].streams["action"].column.dims == ("x", "y", "z", "rotvec_x", "rotvec_y", "rotvec_z", "gripper")


@pytest.mark.parametrize("gzip", [False, True])
def test_every_dataset_of_every_demo_lands_exactly(tmp_path: Path, gzip: bool) -> None:
    wrote = write_robomimic(tmp_path / "a.hdf5", gzip=gzip)
    found = landed(tmp_path)
    assert [episode.info.key for episode in found] == ["demo_0", "demo_2", "demo_10"]
    for episode in found:
        assert set(episode.streams) == set(ROBOMIMIC_STREAMS)
        for name, source in ROBOMIMIC_STREAMS.items():
            values: Any = episode.streams[name].values
            array = values.pixels if isinstance(values, Frames) else values
            expected = wrote[f"data/{episode.info.key}/{source}"]
            assert (array.dtype, array.tobytes()) == (expected.dtype, expected.tobytes()), name
        assert differences(tmp_path / "a.hdf5", episode) == []
    assert isinstance(found[0].streams["observation.images.agentview"].values, Frames)


def test_splits_rate_success_and_body(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5", images=False)
    found = {episode.info.key: episode.info for episode in landed(tmp_path)}
    # mask/train names demo_0 and demo_10, mask/valid demo_2; the rewards of demo_10 are all zero, and the environment's reward is sparse.
    assert {key: info.splits for key, info in found.items()} == {"demo_0": ("train",), "demo_10": ("train",), "demo_2": ("valid",)}
    assert {key: info.success for key, info in found.items()} == {"demo_0": True, "demo_10": False, "demo_2": True}
    assert {(info.clock, info.rate_hz, info.embodiment) for info in found.values()} == {("nominal", 20.0, "franka_panda")}
    assert landed(tmp_path)[0].streams["action"].column.action_space is not None


def test_success_is_unknown_where_nothing_says_it(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write_robomimic(path, {"demo_0": 3}, images=False)
    with h5py.File(path, "r+") as file:
        file["data/demo_0/rewards"][:] = [0.0, 0.0, 0.0]
    assert only(tmp_path).info.success is False
    set_env(path, reward_shaping=True)
    assert only(tmp_path).info.success is None  # zeros of a shaped reward say nothing
    with h5py.File(path, "r+") as file:
        file["data/demo_0/rewards"][:] = [0.0, 0.25, 1.0]
    assert only(tmp_path).info.success is None
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["success"] = np.bool_(True)
    assert only(tmp_path).info.success is True


def test_libero_tasks_and_rewards(tmp_path: Path) -> None:
    path = tmp_path / "KITCHEN_demo.hdf5"
    write_robomimic(path, {"demo_0": 3}, images=False)
    set_env(path, reward_shaping=True)
    with h5py.File(path, "r+") as file:
        del file["data/demo_0/rewards"]
        file["data/demo_0/rewards"] = np.array([0, 0, 1], np.uint8)
        file["data"].attrs["bddl_file_name"] = "chiliocosm/bddl_files/libero_10/KITCHEN_SCENE3_turn_on_the_stove.bddl"
    episode = only(tmp_path)
    assert (episode.info.tasks, episode.info.success) == (("turn on the stove",), True)
    with h5py.File(path, "r+") as file:
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": '"put the bowl on the plate"'})
    assert only(tmp_path).info.tasks == ("put the bowl on the plate",)
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["language_instruction"] = "close the drawer"
    assert only(tmp_path).info.tasks == ("close the drawer",)


def test_a_mask_that_names_absent_demos_is_noticed(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5", {"demo_0": 3}, images=False)
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        del file["mask/valid"]
        file["mask/valid"] = np.array([b"demo_0", b"demo_9", b"demo_10"])
        file["mask/odd"] = np.arange(3)
        file["data"].create_group("statistics")["mean"] = np.zeros(7)
    found = episodes(tmp_path)
    noticed = [event.problem for event in found if isinstance(event, Noticed)]
    assert [(problem.check, problem.where) for problem in noticed] == [
        ("not_a_demo", "a.hdf5:/data/statistics"),
        ("odd_mask", "a.hdf5:/mask/odd"),
        ("missing_demo", "a.hdf5:/mask/valid"),
    ]
    assert "found 2 that are absent (demo_9, demo_10)" in noticed[2].message
    assert [event.info.splits for event in found if isinstance(event, Episode)] == [("train", "valid")]


@pytest.mark.parametrize(
    ("controller", "expected"),
    [
        ({"type": "OSC_POSE", "control_delta": False}, ActionSpace("ee_pose", "rotvec", "world", True, Gripper(6, 1.0, -1.0), 20.0)),
        (
            {"type": "BASIC", "body_parts": {"right": {"type": "OSC_POSE", "input_type": "delta", "input_ref_frame": "base"}}},
            ActionSpace("ee_delta", "rotvec", "base", False, Gripper(6, 1.0, -1.0), 20.0),
        ),
        ({"type": "JOINT_VELOCITY"}, ActionSpace("joint_velocity", absolute=True, rate_hz=20.0)),
        ({"type": "OSC_POSITION"}, ActionSpace("ee_delta", None, "world", False, None, 20.0)),  # 7 entries are more than 3 and a gripper
        ({"type": "SOMETHING"}, None),
        (None, None),
    ],
)
def test_what_actions_mean_comes_from_the_controller(tmp_path: Path, controller: dict[str, Any] | None, expected: ActionSpace | None) -> None:
    write_robomimic(tmp_path / "a.hdf5", {"demo_0": 3}, images=False)
    set_env(tmp_path / "a.hdf5", controller_configs=controller)
    assert only(tmp_path).streams["action"].column.action_space == expected


def test_all_demos_of_a_file_have_the_same_columns(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5")
    columns = [episode.info.columns for episode in landed(tmp_path)]
    assert columns[0] == columns[1] == columns[2]
    assert columns[0]["action"].extra == {"source": "actions", "scale": {"input_max": 1, "input_min": -1, "output_max": [0.05] * 3 + [0.5] * 3}}


def test_a_state_more_than_actions_lands_whole(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5", {"demo_0": 3}, images=False)
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        del file["data/demo_0/states"]
        file["data/demo_0/states"] = np.arange(8.0).reshape(4, 2)
        file["data/demo_0/robot_states"] = np.arange(9.0).reshape(3, 3)
        file["data/demo_0/camera_matrix"] = np.eye(9)
    episode = only(tmp_path)
    assert (len(episode.streams["action"]), len(episode.streams["observation.state"]), len(episode.streams["robot_states"])) == (3, 4, 3)
    assert episode.info.metadata["values"]["data/demo_0/camera_matrix"][8][8] == 1.0


def test_a_file_without_demos_is_rejected(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_group("data").create_group("statistics")
    with pytest.raises(BadRecording, match=r"expected demonstrations \(demo_0, …\), found none among 1 members"):
        landed(tmp_path)


def test_demos_without_digits_or_that_are_no_groups(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["data/first/actions"] = np.zeros((2, 3))
        file["data/demo_1"] = np.zeros(3)
        file["data/demo_0/states"] = np.zeros((2, 3))
    found = episodes(tmp_path)
    assert [getattr(event, "key", None) or event.info.key for event in found if not isinstance(event, Noticed)] == ["demo_0", "demo_1", "first"]
    checks = [event.problem.check for event in found if not isinstance(event, Episode)]
    assert checks == ["missing_action", "odd_type"]


def test_settings_that_are_no_json_say_nothing(tmp_path: Path) -> None:
    for text in ("{", "[" * 100_000, "[]", '{"env_kwargs": 3, "robots": 5, "controller_configs": "x"}'):
        with h5py.File(tmp_path / "a.hdf5", "w") as file:
            file["data/demo_0/actions"] = np.zeros((2, 7))
            if len(text) < 60_000:
                file["data"].attrs["env_args"] = text
            else:
                file["data"].attrs.create("env_args", text, dtype=h5py.string_dtype())
            file["data"].attrs["problem_info"] = text[:50]
        *noticed, episode = episodes(tmp_path)
        assert isinstance(episode, Episode)
        assert (episode.info.rate_hz, episode.info.embodiment, episode.info.tasks) == (None, None, ())
        assert [event.problem.check for event in noticed if isinstance(event, Noticed)] == ([] if text.startswith('{"') else ["unreadable_settings"])


def test_the_projects_own_samples_land(tmp_path: Path) -> None:
    arm = pytest.importorskip("dataengine.samples.arm")
    from dataengine.samples.robomimic import write_robomimic as write_sample

    recordings = [arm.record(seed=3, index=index) for index in range(2)]
    write_sample(tmp_path / "demo.hdf5", recordings)
    found = landed(tmp_path)
    assert [episode.info.success for episode in found] == [recording.success for recording in recordings]
    assert [episode.info.tasks for episode in found] == [(recording.task,) for recording in recordings]
    assert [episode.info.splits for episode in found] == [("train",), ("valid",)]
    for episode in found:
        assert episode.info.clock == "nominal"
        assert differences(tmp_path / "demo.hdf5", episode) == []
