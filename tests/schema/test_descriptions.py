"""Known datasets: what the project says of them, and that a description never overwrites what a file said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Camera, Column, Gripper
from dataengine.core.episode import Episode, episodes_of
from dataengine.core.errors import ConfigError
from dataengine.core.objects import open_objects
from dataengine.core.protocols import ReadOptions
from dataengine.schema.descriptions import apply, dataset_notices, describe, descriptions, mismatches, read_descriptions, unknown_semantics
from dataengine.sources.listing import SourceOpener, list_source
from dataengine.sources.rlds import reader as rlds
from tests.support.shared import shared_data

GOOD = """
name: a
title: A dataset
rate_hz: 7
cite: {rate_hz: a paper, columns: a page}
columns:
  action: {also: [steps/action], dims: [x, gripper], action_space: {kind: ee_delta, gripper: {dimension: 1, closed: 1, open: -1}}}
actions: [action]
"""


def write(folder: Path, text: str, name: str = "a") -> Path:
    (folder / f"{name}.yaml").write_text(text)
    return folder


def test_rates() -> None:
    rates = {"bridge_dataset": 5.0, "fractal20220817_data": 3.0, "droid": 15.0, "robosuite_lift": 20.0, "aloha": 50.0, "sample_arm": 20.0}
    assert {name: descriptions()[name].rate_hz for name in rates} == rates


def test_by_name_and_alias() -> None:
    described = describe("bridge_orig")
    assert described is not None
    assert described.name == "bridge_dataset"
    assert describe("bridge") is descriptions()["bridge"]  # the older copy in Open X-Embodiment has other columns
    assert describe("robosuite_demos") is descriptions()["robosuite_lift"]
    assert describe("lab-towel") is None


def test_gripper_signs() -> None:
    def gripper(dataset: str, column: str) -> tuple[float, float]:
        space = descriptions()[dataset].columns[column].action_space
        assert space is not None
        assert space.gripper is not None
        return space.gripper.closed, space.gripper.open

    assert gripper("bridge_dataset", "action") == (0, 1)
    assert gripper("robosuite_lift", "action") == (1, -1)
    assert gripper("droid", "observation.gripper_position") == (1, 0)
    assert gripper("fractal20220817_data", "action.gripper_closedness_action") == (1, -1)


def test_apply_fills_what_the_file_left_open() -> None:
    columns = {
        "action": Column("action", shape=(7,)),
        "observation.images.image_0": Column("observation.images.image_0", kind="image", dtype="uint8", shape=(64, 64, 3), encoding="jpeg"),
        "reward": Column("reward"),
    }
    filled = apply(descriptions()["bridge_dataset"], columns)
    assert list(filled) == list(columns)
    assert filled["reward"] is columns["reward"]
    action = filled["action"]
    assert (action.meaning, action.dims, action.align, action.action_source) == (
        "action",
        ("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
        "previous",
        "commanded",
    )
    assert action.action_space == ActionSpace("ee_delta", "rpy", None, False, Gripper(6, 0.0, 1.0), 5.0)
    assert filled["observation.images.image_0"].camera == Camera("primary")
    assert filled["observation.images.image_0"].encoding == "jpeg"


def test_apply_never_overwrites_what_the_file_said() -> None:
    said = Column(
        "action",
        shape=(7,),
        meaning="state",
        unit="mm",
        dims=tuple("abcdefg"),
        frame="tool",
        action_space=ActionSpace("ee_delta", frame="tool", absolute=True),
        action_source="measured",
        align="linear",
        doc="as said",
    )
    wrist = Column("observation.images.image_0", kind="image", camera=Camera("wrist", (1.0, 2.0, 3.0, 4.0)))
    filled = apply(descriptions()["bridge_dataset"], {"action": said, wrist.name: wrist})
    action = filled["action"]
    assert action.action_space == ActionSpace("ee_delta", "rpy", "tool", True, Gripper(6, 0.0, 1.0), 5.0)
    for name in ("meaning", "unit", "dims", "frame", "action_source", "align", "doc"):
        assert getattr(action, name) == getattr(said, name)
    assert filled[wrist.name].camera == Camera("wrist", (1.0, 2.0, 3.0, 4.0))


def test_another_kind_of_action_is_left_alone() -> None:
    said = Column("action", shape=(7,), action_space=ActionSpace("joint_position"))
    assert apply(descriptions()["bridge_dataset"], {"action": said})["action"].action_space == ActionSpace("joint_position")


def test_columns_by_other_names_and_by_source() -> None:
    columns = {"cmd": Column("cmd", shape=(7,), extra={"source": "steps/action"}), "steps/observation/state": Column("steps/observation/state", shape=(7,))}
    filled = apply(descriptions()["bridge_dataset"], columns)
    assert filled["cmd"].meaning == "action"
    assert filled["steps/observation/state"].meaning == "state"


def test_a_column_of_another_width_gets_no_dims_and_is_a_problem() -> None:
    columns = {"action": Column("action", shape=(8,)), "observation.state": Column("observation.state", shape=(7,))}
    filled = apply(descriptions()["bridge_dataset"], columns)
    assert (filled["action"].dims, filled["action"].action_space) == (None, None)
    assert filled["action"].meaning == "action"
    (problem,) = mismatches(descriptions()["bridge_dataset"], columns)
    assert (problem.check, problem.where, problem.found) == ("description_differs", "action", "shape (8,)")
    assert problem.expected == "7 entries (x, y, z, roll, pitch, yaw, gripper)"


def test_an_absent_action_is_a_problem() -> None:
    (problem,) = mismatches(descriptions()["bridge_dataset"], {"observation.state": Column("observation.state", shape=(7,))})
    assert (problem.check, problem.where, problem.severity) == ("description_differs", "action", "warning")
    assert problem.message.startswith("the action 'action' is absent: the description of 'bridge_dataset' says a column 'action'")


def test_a_film_of_a_known_dataset_claims_no_action() -> None:
    assert mismatches(descriptions()["calvin"], {"observation.images.video": Column("observation.images.video", kind="image")}) == []


def test_a_meaning_that_the_file_contradicts_is_a_problem() -> None:
    said = ActionSpace("ee_pose", "rpy", absolute=True, gripper=Gripper(6, 1.0, -1.0))
    (problem,) = mismatches(descriptions()["bridge_dataset"], {"action": Column("action", shape=(7,), action_space=said)})
    assert (problem.expected, problem.found) == (
        "kind ee_delta, absolute False, gripper (closed, open) (0.0, 1.0)",
        "kind ee_pose, absolute True, gripper (closed, open) (1.0, -1.0)",
    )
    agreeing = Column("action", shape=(7,), action_space=ActionSpace("other", frame="base"))  # says less, or what the description leaves open
    assert mismatches(descriptions()["bridge_dataset"], {"action": agreeing}) == []


def test_actions_without_meaning_are_noticed_and_others_are_not() -> None:
    mute = {"action": Column("action", shape=(7,), meaning="action"), "observation.state": Column("observation.state", shape=(7,), meaning="state")}
    problem = unknown_semantics("lab-towel", mute)
    assert problem is not None
    assert (problem.check, problem.severity, problem.where) == ("unknown_semantics", "warning", "lab-towel")
    assert "what the numbers of action mean (space, frame, rotation, gripper) is not known" in problem.message
    assert dataset_notices("lab-towel", None, mute, mute) == [problem]
    named = {"action": Column("action", shape=(2,), dims=("pan", "tilt"), meaning="action")}  # as LeRobot names its features
    spaced = {"action": Column("action", shape=(7,), meaning="action", action_space=ActionSpace("ee_delta"))}  # as robosuite's settings say
    assert unknown_semantics("a", named) is None
    assert unknown_semantics("a", spaced) is None
    assert unknown_semantics("a", {"observation.images.video": Column("observation.images.video", kind="image")}) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("actions: [action]", "actions: [acton]"), "actions: acton must stand in columns"),
        (GOOD.replace("dimension: 1", "dimension: 2"), "must be below the 2 dims, got 2"),
        (GOOD.replace("cite: {rate_hz: a paper, columns: a page}", "cite: {}"), "cite: "),
        (GOOD.replace("rate_hz: 7", "rate_hz: 0"), "rate_hz: "),
        (GOOD.replace("rate_hz: 7", "rate: 7"), "unknown key 'rate', did you mean 'rate_hz'"),
        (GOOD.replace("rate_hz: 7", "embodiment: r2d2").replace("rate_hz: a", "embodiment: a"), "embodiment must be one of .*widowx_250, .*got 'r2d2'"),
        (GOOD.replace("actions: [action]", "  command: {also: [action]}"), "action must stand once"),
        (GOOD.replace("closed: 1, open: -1", "closed: 1, open: 1"), "closed and open must differ, got 1.0 for both"),
        (GOOD.replace("actions: [action]", "  a: {camera: primary}\n  b: {camera: primary}"), "one camera is the primary one, got a, b"),
        (GOOD + "defects: [it is broken]\n", "defects.0: "),
        (GOOD + "defects: [{what: it is broken}]\n", "defects.0.cite: Field required"),
        (GOOD.replace("kind: ee_delta", "kind: ee_deltas"), "columns.action.action_space.kind"),
    ],
)
def test_careless_files(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_descriptions(write(tmp_path, text))


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace("name: a\n", "name: b\naliases: [a]\n"), "b")
    with pytest.raises(ConfigError, match="the name 'a' is taken"):
        read_descriptions(tmp_path)


def test_the_bridge_description_agrees_with_real_recordings() -> None:
    root = shared_data("rlds", "octo_bridge_head")
    (item, *_) = rlds.find(list_source(str(root))).items
    episodes = [event for event in episodes_of(rlds.read(item, SourceOpener(open_objects(item.root, {})), ReadOptions())) if isinstance(event, Episode)]
    assert len(episodes) == 25
    actions = [np.asarray(episode.streams["action"].values) for episode in episodes]
    states = [np.asarray(episode.streams["observation.state"].values) for episode in episodes]
    described = descriptions()["bridge_dataset"]
    assert mismatches(described, episodes[0].info.columns) == []
    # A change of pose: what is commanded at a step is mostly what the state then does.
    for dimension in range(6):
        commanded = np.concatenate([action[:-1, dimension] for action in actions])
        moved = np.concatenate([np.diff(state[:, dimension]) for state in states])
        assert np.corrcoef(commanded, moved)[0, 1] > 0.7
    # The gripper: three steps after 1 was commanded it is open, after 0 it is not.
    later = np.concatenate([state[3:, 6] for state in states])
    commanded = np.concatenate([action[:-3, 6] for action in actions])
    assert later[commanded > 0.5].mean() > 0.9
    assert later[commanded < 0.5].mean() < 0.5
