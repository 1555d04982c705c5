"""The sets of Open X-Embodiment as data: how many, their names, and facts that are often confused."""

from __future__ import annotations

import pytest

from dataengine.core.column import Column
from dataengine.schema.descriptions import DatasetDescription, apply, descriptions
from dataengine.sources.rlds.columns import stream_name

# The names under which TFDS lists them: a file of another name would describe nothing.
_NAMES = """
fractal20220817_data kuka bridge taco_play jaco_play berkeley_cable_routing roboturk nyu_door_opening_surprising_effectiveness viola berkeley_autolab_ur5
toto language_table columbia_cairlab_pusht_real stanford_kuka_multimodal_dataset_converted_externally_to_rlds nyu_rot_dataset_converted_externally_to_rlds
stanford_hydra_dataset_converted_externally_to_rlds austin_buds_dataset_converted_externally_to_rlds nyu_franka_play_dataset_converted_externally_to_rlds
maniskill_dataset_converted_externally_to_rlds furniture_bench_dataset_converted_externally_to_rlds cmu_franka_exploration_dataset_converted_externally_to_rlds
ucsd_kitchen_dataset_converted_externally_to_rlds ucsd_pick_and_place_dataset_converted_externally_to_rlds
austin_sailor_dataset_converted_externally_to_rlds austin_sirius_dataset_converted_externally_to_rlds bc_z
utokyo_pr2_opening_fridge_converted_externally_to_rlds utokyo_pr2_tabletop_manipulation_converted_externally_to_rlds
utokyo_xarm_pick_and_place_converted_externally_to_rlds utokyo_xarm_bimanual_converted_externally_to_rlds robo_net
berkeley_mvp_converted_externally_to_rlds berkeley_rpt_converted_externally_to_rlds kaist_nonprehensile_converted_externally_to_rlds
stanford_mask_vit_converted_externally_to_rlds tokyo_u_lsmo_converted_externally_to_rlds dlr_sara_pour_converted_externally_to_rlds
dlr_sara_grid_clamp_converted_externally_to_rlds dlr_edan_shared_control_converted_externally_to_rlds asu_table_top_converted_externally_to_rlds
stanford_robocook_converted_externally_to_rlds imperialcollege_sawyer_wrist_cam iamlab_cmu_pickup_insert_converted_externally_to_rlds uiuc_d3field
utaustin_mutex berkeley_fanuc_manipulation cmu_playing_with_food cmu_play_fusion cmu_stretch berkeley_gnm_recon berkeley_gnm_cory_hall berkeley_gnm_sac_son fmb dobbe robo_set droid
"""
OPEN_X = _NAMES.split()


def gripper(dataset: str, column: str) -> tuple[int, float, float] | None:
    space = descriptions()[dataset].columns[column].action_space
    return None if space is None or space.gripper is None else (space.gripper.dimension, space.gripper.closed, space.gripper.open)


def test_the_sets_are_there_under_their_names() -> None:
    assert len(OPEN_X) == len(set(OPEN_X)) == 56
    assert sorted(set(OPEN_X) - set(descriptions())) == []


@pytest.mark.parametrize("name", OPEN_X)
def test_columns_are_named_as_the_reader_of_rlds_names_them(name: str) -> None:
    described = descriptions()[name]
    for column, entry in described.columns.items():
        keys = [other for other in entry.also if other.startswith("steps/")]
        assert keys, column
        if column != "task":
            assert stream_name(keys[0], picture=entry.camera is not None or ".images." in column) == column
    assert described.actions
    assert all(described.columns[action].meaning == "action" for action in described.actions)
    assert all(entry.align == "previous" for entry in described.columns.values() if entry.meaning == "action")


@pytest.mark.parametrize("name", OPEN_X)
def test_a_description_fills_columns_of_its_own_widths(name: str) -> None:
    described = descriptions()[name]
    columns = {
        column: Column(column, shape=() if entry.dims is None else (len(entry.dims),), meaning=entry.meaning or "other")
        for column, entry in described.columns.items()
        if entry.camera is None
    }
    filled = apply(described, columns)
    for column, entry in described.columns.items():
        if entry.camera is None:
            assert filled[column].dims == entry.dims
            assert filled[column].action_space == (None if entry.action_space is None else entry.action_space.value())
            assert len(set(entry.dims or ())) == len(entry.dims or ())


@pytest.mark.parametrize(
    ("dataset", "column", "expected"),
    [
        ("bridge_dataset", "action", (6, 0, 1)),  # 1 is open
        ("bridge", "action.open_gripper", (0, 0, 1)),
        ("fractal20220817_data", "action.gripper_closedness_action", (0, 1, -1)),  # closes further, opens further
        ("kuka", "action.gripper_closedness_action", (0, 1, -1)),
        ("toto", "action.open_gripper", (0, 0, 1)),
        ("droid", "action_dict.gripper_position", (0, 1, 0)),  # closedness
        ("roboturk", "action.gripper_closedness_action", (0, 1, 0)),
        ("nyu_rot_dataset_converted_externally_to_rlds", "action", (6, 1, 0)),
        ("stanford_hydra_dataset_converted_externally_to_rlds", "action", (6, 1, 0)),
        ("nyu_franka_play_dataset_converted_externally_to_rlds", "action", (13, -1, 1)),
        ("tokyo_u_lsmo_converted_externally_to_rlds", "action", (6, 1, 0)),
        ("maniskill_dataset_converted_externally_to_rlds", "action", (6, -1, 1)),
        ("stanford_mask_vit_converted_externally_to_rlds", "action", (4, 1, -1)),
        ("robo_set", "action", (7, 1, -1)),
        ("bc_z", "action.future.target_close", (0, 1, 0)),
        ("taco_play", "action.rel_actions_world", None),  # published both ways round
        ("berkeley_fanuc_manipulation", "observation.state", None),  # likewise
    ],
)
def test_grippers_that_are_often_confused(dataset: str, column: str, expected: tuple[int, float, float] | None) -> None:
    assert gripper(dataset, column) == expected


def test_relative_and_absolute_grippers() -> None:
    def absolute(dataset: str, column: str) -> bool | None:
        space = descriptions()[dataset].columns[column].action_space
        assert space is not None
        return space.absolute

    relative = ("fractal20220817_data", "kuka", "jaco_play", "nyu_door_opening_surprising_effectiveness", "berkeley_autolab_ur5")
    assert [absolute(name, "action.gripper_closedness_action") for name in relative] == [False] * 5
    assert [absolute(name, "action.gripper_closedness_action") for name in ("roboturk", "viola")] == [True] * 2


def test_rates() -> None:
    rates = {
        "kuka": 10.0,
        "taco_play": 15.0,
        "viola": 20.0,
        "berkeley_autolab_ur5": 5.0,
        "toto": 30.0,
        "language_table": 10.0,
        "ucsd_kitchen_dataset_converted_externally_to_rlds": 2.0,
        "asu_table_top_converted_externally_to_rlds": 12.5,
        "dobbe": 3.75,
        "cmu_playing_with_food": 15.0,  # as the authors say
        "robo_net": 1.0,
        "stanford_mask_vit_converted_externally_to_rlds": None,  # an action lasts until the robot rests
    }
    assert {name: descriptions()[name].rate_hz for name in rates} == rates


def test_spaces_and_frames() -> None:
    def space(dataset: str, column: str) -> tuple[str, str | None, str | None, bool | None]:
        found = descriptions()[dataset].columns[column].action_space
        assert found is not None
        return found.kind, found.rotation, found.frame, found.absolute

    assert descriptions()["language_table"].columns["action"].dims == ("x", "y")
    assert space("language_table", "action") == ("ee_delta", None, None, False)
    assert space("fractal20220817_data", "action.rotation_delta") == ("ee_delta", "rpy", "base", False)
    assert space("maniskill_dataset_converted_externally_to_rlds", "observation.tcp_pose") == ("ee_pose", "quat_wxyz", "world", True)
    assert space("kaist_nonprehensile_converted_externally_to_rlds", "action") == ("ee_delta", "rotvec", "global", False)
    assert space("dlr_sara_pour_converted_externally_to_rlds", "action") == ("ee_delta", None, "base", False)  # zxy angles, which no kind names
    assert space("nyu_franka_play_dataset_converted_externally_to_rlds", "action") == ("ee_delta", "rpy", "base", False)
    assert descriptions()["nyu_franka_play_dataset_converted_externally_to_rlds"].columns["action"].action_source == "measured"
    assert space("berkeley_autolab_ur5", "observation.robot_state") == ("ee_pose", "quat_xyzw", "base", True)
    assert space("asu_table_top_converted_externally_to_rlds", "action") == ("ee_pose", "rpy", None, True)
    assert space("imperialcollege_sawyer_wrist_cam", "action") == ("ee_delta", None, "tool", False)
    assert space("berkeley_cable_routing", "action.world_vector") == ("ee_velocity", None, None, False)
    assert space("berkeley_mvp_converted_externally_to_rlds", "action") == ("joint_position", None, None, False)


def test_cameras() -> None:
    def roles(described: DatasetDescription) -> dict[str, str]:
        return {name.removeprefix("observation.images."): column.camera for name, column in described.columns.items() if column.camera is not None}

    assert roles(descriptions()["kuka"]) == {"image": "primary"}
    assert roles(descriptions()["nyu_door_opening_surprising_effectiveness"]) == {"image": "wrist"}
    assert roles(descriptions()["taco_play"]) == {"rgb_static": "primary", "rgb_gripper": "wrist", "depth_static": "primary", "depth_gripper": "wrist"}
    assert roles(descriptions()["cmu_franka_exploration_dataset_converted_externally_to_rlds"]) == {"highres_image": "primary"}


def test_swapped_colours_are_known_defects() -> None:
    swapped = [name for name in OPEN_X if any("red and blue swapped" in defect.what for defect in descriptions()[name].defects)]
    assert swapped == ["berkeley_autolab_ur5", "stanford_hydra_dataset_converted_externally_to_rlds", "utaustin_mutex", "berkeley_fanuc_manipulation"]
