from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.pose import rotvec_from_matrix
from dataengine.transforms.chain import Chain
from dataengine.transforms.relative import AbsoluteActions, DeltaActions, PoseEntries
from dataengine.transforms.rotations import WIDTHS, ConvertRotation, rotation_matrices, rotation_numbers

QUARTER = np.pi / 2
POSE = PoseEntries(position=(0, 1, 2), rotation=(3, 4, 5), kind="rotvec")


def frozen(batch: dict[str, Any]) -> dict[str, Any]:
    for value in batch.values():
        value.flags.writeable = False
    return batch


# Numbers


@pytest.mark.parametrize(
    ("to", "first", "second"),
    [
        ("state", [[1, 2], [4, 3], [9, 5]], [0.5, 0.25]),
        ("first", [[11, 2], [3, 3], [8, 5]], [0.5, 0.25]),
        ("previous", [[1, 2], [3, 3], [5, 5]], [0.5, 0.25]),
    ],
)
def test_a_chunk_by_hand(to: Any, first: list[list[float]], second: list[float]) -> None:
    """Two dims, of which the second, a gripper, stays absolute."""
    batch = frozen({"action": np.array([[11.0, 2], [14, 3], [19, 5]], np.float32), "state": np.array([10, 77.0], np.float32)})
    delta = DeltaActions(dims=(0,), to=to)
    done = delta(batch)
    assert done["action"].tolist() == first
    assert done["action"].dtype == np.float32
    assert delta.inverse(done)["action"].tolist() == batch["action"].tolist()
    assert done["state"] is batch["state"]


def test_entries_of_the_state_may_lie_elsewhere_and_have_a_history() -> None:
    batch = frozen({"action": np.array([[[1.0, 2.0]], [[3.0, 4.0]]]), "state": np.array([[[9.0, 9, 9], [0.5, 9, 0.25]], [[9, 9, 9], [-1, 9, -2]]])})
    delta = DeltaActions(dims=(0, 1), state_dims=(2, 0), state_steps=True)
    assert delta(batch)["action"].tolist() == [[[0.75, 1.5]], [[5.0, 5.0]]]
    assert delta.inverse(delta(batch))["action"].tolist() == batch["action"].tolist()


def test_actions_without_steps() -> None:
    batch = frozen({"action": np.array([[1.0, 2], [3, 4]]), "state": np.array([[0.5, 0], [1, 0]])})
    delta = DeltaActions(dims=(0,), horizon=False)
    assert delta(batch)["action"].tolist() == [[0.5, 2], [2, 4]]
    assert delta.inverse(delta(batch))["action"].tolist() == batch["action"].tolist()
    assert delta({"action": np.array([1.0, 2]), "state": np.array([0.25, 0])})["action"].tolist() == [0.75, 2]


@pytest.mark.parametrize(
    ("to", "relative"),
    [
        ("state", [[0, 5], [1, 6], [490, 7], [4, 8], [4, 8]]),
        ("first", [[0, 5], [11, 6], [489, 7], [3, 8], [3, 8]]),
        ("previous", [[0, 5], [1, 6], [489, 7], [3, 8], [0, 8]]),
    ],
)
def test_nothing_refers_to_steps_that_do_not_exist(to: Any, relative: list[list[float]]) -> None:
    """Padding before the start, where NaN is no motion; in the middle, an absent value; and after the end, where the last action is held."""
    action = np.array([[np.nan, 5], [11, 6], [500, 7], [14, 8], [14, 8]])
    batch = frozen({"action": action, "action_is_pad": np.array([True, False, True, False, True]), "state": np.array([10.0, 0])})
    done = DeltaActions(dims=(0,), to=to)(batch)
    assert done["action"].tolist() == relative
    back = AbsoluteActions(dims=(0,), to=to)(done)["action"]
    assert back[1:].tolist() == action[1:].tolist()
    assert np.isfinite(back[0]).all()


def test_chunks_of_padding_alone() -> None:
    batch = frozen({"action": np.full((2, 7), 0.5), "action_is_pad": np.array([True, True]), "state": np.full(7, 0.25)})
    for to in ("state", "first", "previous"):
        delta = DeltaActions(dims=(6,), poses=(POSE,), to=to)  # type: ignore[arg-type]
        assert np.allclose(delta.inverse(delta(batch))["action"], batch["action"])
        assert delta(batch)["action"][0, 6] == (0.5 if to == "first" else 0.25)
    nothing = {**batch, "action": np.full((2, 7), np.nan)}
    assert (DeltaActions(dims=(6,), poses=(POSE,))(nothing)["action"] == 0).all()


def test_rotations_that_padded_steps_do_not_say_are_no_motion() -> None:
    pose = PoseEntries(position=(0, 1, 2), rotation=(3, 4, 5, 6), kind="quat_xyzw")
    batch = {"action": np.array([[1.0, 2, 3, 0, 0, 0, 1], [0] * 7]), "action_is_pad": np.array([False, True]), "state": np.array([0, 0, 0, 0, 0, 1.0, 0])}
    done = DeltaActions(poses=(pose,))(batch)["action"]
    assert np.allclose(done, [[-1, -2, 3, 0, 0, -1, 0], [0, 0, 0, 0, 0, 0, 1]]) or np.allclose(done, [[-1, -2, 3, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1]])
    assert np.allclose(AbsoluteActions(poses=(pose,))({**batch, "action": done})["action"][0], batch["action"][0])


def test_a_chunk_whose_state_does_not_exist_is_flagged() -> None:
    batch = frozen({"action": np.ones((2, 2, 1)), "state": np.array([[np.nan], [0.5]]), "state_is_pad": np.array([True, False])})
    delta = DeltaActions(dims=(0,))
    done = delta(batch)
    assert done["action"].tolist() == [[[0], [0]], [[0.5], [0.5]]]
    assert done["action_is_pad"].tolist() == [[True, True], [False, False]]
    assert delta.inverse(done)["action"].tolist() == [[[0], [0]], [[1], [1]]]
    history = {**batch, "state": batch["state"][:, None], "state_is_pad": np.array([[True], [False]])}
    assert DeltaActions(dims=(0,), state_steps=True)(history)["action_is_pad"].tolist() == done["action_is_pad"].tolist()
    assert "action_is_pad" not in DeltaActions(dims=(0,), to="first")(batch)


def test_entries_that_a_body_does_not_have_stay_as_they_are() -> None:
    mask = np.array([[True] * 7, [True] + [False] * 6])
    action = np.zeros((2, 1, 7))
    action[0, 0] = [1, 2, 3, 0, 0, QUARTER, 1]
    quats = ConvertRotation("action", 3, "rotvec", "quat_xyzw")({"action": action, "action_mask": mask})
    batch = {**quats, "state": np.array([[0, 0, 0, 0, 0, 0, 1, 0.25], [5, 5, 5, 0, 0, 0, 0, 5]])}
    delta = DeltaActions(dims=(7,), poses=(PoseEntries(position=(0, 1, 2), rotation=(3, 4, 5, 6), kind="quat_xyzw"),))
    done = delta(batch)["action"]
    assert np.allclose(done[0, 0], [1, 2, 3, 0, 0, np.sqrt(0.5), np.sqrt(0.5), 0.75])
    assert done[1, 0, 1:].tolist() == [0] * 7
    batch["state_mask"] = np.array([[True] * 3 + [False] * 4 + [True]] * 2)
    with pytest.raises(UsageError, match=r"batch\['state_mask'\]: must have what 'action' is relative to"):
        delta(batch)


# Poses


def test_a_pose_seen_from_the_tool_by_hand() -> None:
    """The tool at (1, 0, 0), turned by 90 degrees about z: its x points along the base's y. A target 2 m along the base's y is 2 m ahead of it."""
    batch = frozen({"state": np.array([1.0, 0, 0, 0, 0, QUARTER, 0.3]), "action": np.array([[1.0, 2, 0.5, 0, 0, QUARTER + 0.2, 0.9], [4, 0, 0, 0, 0, 0, 0.1]])})
    delta = DeltaActions(poses=(POSE,))
    done = delta(batch)["action"]
    assert np.allclose(done[0], [2, 0, 0.5, 0, 0, 0.2, 0.9])
    assert np.allclose(done[1], [0, -3, 0, 0, 0, -QUARTER, 0.1])
    assert np.allclose(delta.inverse({**batch, "action": done})["action"], batch["action"])


def test_the_order_of_rotations_counts() -> None:
    """Tool: R_state^T R_target. Base: R_target R_state^T. State Rz(90), target Rz(90) Rx(90): a turn about the tool's x, which is the base's y."""
    target = rotvec_from_matrix(rotation_matrices("rotvec", np.array([0, 0, QUARTER])) @ rotation_matrices("rotvec", np.array([QUARTER, 0, 0])))
    batch = {"state": np.array([0.0, 0, 0, 0, 0, QUARTER]), "action": np.array([[1.0, 2, 3, *target]])}
    assert np.allclose(DeltaActions(poses=(POSE,))(batch)["action"], [[2, -1, 3, QUARTER, 0, 0]])
    base = DeltaActions(poses=(PoseEntries(position=(0, 1, 2), rotation=(3, 4, 5), kind="rotvec", frame="base"),))
    assert np.allclose(base(batch)["action"], [[1, 2, 3, 0, QUARTER, 0]])
    assert np.allclose(base.inverse(base(batch))["action"], batch["action"])
    alone = DeltaActions(dims=(0,), poses=(PoseEntries(rotation=(3, 4, 5), kind="rotvec"),))
    assert np.allclose(alone(batch)["action"], [[1, 2, 3, QUARTER, 0, 0]])


def test_each_pose_seen_from_the_one_before() -> None:
    """A car that drives 1 m ahead and turns left by 90 degrees, step by step, goes round a square."""
    square = np.array([[1.0, 0, 0, 0, 0, QUARTER], [1, 1, 0, 0, 0, 2 * QUARTER], [7, 7, 7, 7, 7, 7], [0, 1, 0, 0, 0, -QUARTER], [0, 0, 0, 0, 0, 0]])
    batch = {"state": np.zeros(6), "action": square, "action_is_pad": np.array([False, False, True, False, False])}
    delta = DeltaActions(poses=(POSE,), to="previous")
    done = delta(batch)
    assert np.allclose(done["action"][[0, 1, 3, 4]], [[1, 0, 0, 0, 0, QUARTER]] * 4)
    assert np.allclose(done["action"][2, :3], [-6, -6, 7])  # seen from (1, 1), turned by 180 degrees
    back = delta.inverse(done)["action"]
    assert np.allclose(back[[0, 3, 4]], square[[0, 3, 4]])
    assert np.allclose(np.abs(back[1]), square[1])  # half a turn has two signs
    assert np.allclose(back[2, :3], [7, 7, 7])


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["state", "first", "previous"]),
    st.sampled_from(["tool", "base"]),
    st.sampled_from(sorted(WIDTHS)),
    st.sampled_from([(), (3,), (2, 3)]),
    st.sampled_from([np.float32, np.float64]),
)
@settings(deadline=None, max_examples=150)
def test_there_and_back(seed: int, to: Any, frame: Any, kind: Any, leading: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    width = WIDTHS[kind]

    def poses(*shape: int) -> Any:
        turns = rotation_numbers(kind, rotation_matrices("rotvec", rng.uniform(-1.5, 1.5, (*shape, 3))))
        return np.concatenate([rng.uniform(-2, 2, (*shape, 5)), turns], axis=-1).astype(dtype)

    batch = frozen({"action": poses(*leading, 6), "state": poses(*leading), "action_is_pad": rng.random((*leading, 6)) < 0.3})
    delta = DeltaActions(dims=(3,), poses=(PoseEntries(position=(0, 1, 2), rotation=tuple(range(5, 5 + width)), kind=kind, frame=frame),), to=to)
    back = delta.inverse(delta(batch))
    there = np.ones_like(batch["action_is_pad"])  # padded steps come back too
    tolerance = 2e-5 if dtype == np.float32 else 1e-9
    assert back["action"].dtype == dtype
    assert np.allclose(back["action"][there][:, :5], batch["action"][there][:, :5], atol=tolerance)
    turns, wanted = (rotation_matrices(kind, array[there][:, 5:]) for array in (back["action"], batch["action"]))
    assert np.allclose(turns, wanted, atol=10 * tolerance)
    assert np.array_equal(back["action"][..., 4], batch["action"][..., 4])
    again = delta(back)["action"]
    assert np.allclose(again[there][:, :4], delta(batch)["action"][there][:, :4], atol=10 * tolerance)


def test_the_way_back_of_a_chain_as_a_policy_needs_it() -> None:
    """Poses in roll, pitch and yaw become rot6d and relative; the policy's chunk goes back to the data's terms, last first."""
    rng = np.random.default_rng(1)
    batch = {"action": rng.uniform(-1, 1, (4, 16, 7)), "state": rng.uniform(-1, 1, (4, 7))}
    pose = PoseEntries(position=(0, 1, 2), rotation=tuple(range(3, 9)), kind="rot6d", state_rotation=(3, 4, 5), state_kind="rpy")
    chain = Chain((ConvertRotation("action", 3, "rpy", "rot6d"), DeltaActions(poses=(pose,))))
    done = chain(batch)
    assert done["action"].shape == (4, 16, 10)
    assert np.allclose(chain.inverse({"action": done["action"], "state": batch["state"]})["action"], batch["action"])


# What is wrong is named


@pytest.mark.parametrize(
    ("settings", "batch", "message"),
    [
        ({}, {"action": np.zeros((2, 7))}, "must hold 'state', to which 'action' is relative; got action"),
        ({}, {"action": np.zeros((2, 2)), "state": np.zeros(7)}, r"batch\['action'\]: must be floats \(..., D\) with D >= 3.*got float64 \(2, 2\)"),
        ({}, {"action": np.zeros(3), "state": np.zeros(3)}, "without steps, say horizon=False"),
        (
            {},
            {"action": np.zeros((4, 3)), "state": np.zeros((4, 3))},
            r"one state for each chunk of 'action', \(3,\), got \(4, 3\); the settings are horizon=True",
        ),
        ({"state_steps": True}, {"action": np.zeros((4, 3)), "state": np.zeros(3)}, "without steps, say state_steps=False"),
        ({}, {"action": np.zeros((2, 4, 3), int), "state": np.zeros((2, 3))}, "must be floats.*int64"),
        ({}, {"action": np.zeros((2, 4, 3)), "state": np.zeros((2, 3)), "action_is_pad": np.zeros((2, 3), bool)}, r"'action_is_pad'\]: must be bool \(2, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], batch: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DeltaActions(dims=(0, 2), **settings)(batch)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DeltaActions(), "must have dims or poses"),
        (lambda: DeltaActions(dims=(0, 0)), "each entry must be named once"),
        (lambda: AbsoluteActions(dims=(0, 3), poses=(POSE,)), "each entry must be named once"),
        (lambda: DeltaActions(dims=(0, 1), state_dims=(0,)), "state_dims must have an entry for each"),
        (lambda: DeltaActions(dims=(0,), to="first", horizon=False), "relative to the state only"),
        (lambda: PoseEntries(rotation=(3, 4, 5), kind="rot6d"), "rotation of kind 'rot6d' must have 6 entries"),
        (lambda: PoseEntries(rotation=(3, 4, 5), kind="rpy", position=(0,)), "three entries of x, y, z"),
        (lambda: PoseEntries(rotation=(3, 4, 5), kind="rpy", state_kind="rot6d"), "state_rotation of kind 'rot6d' must have 6"),
    ],
)
def test_what_cannot_be_is_refused(build: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()
    with pytest.raises(UnknownName, match=r"unknown reference 'stat'.*did you mean 'state'"):
        DeltaActions(dims=(0,), to="stat")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unknown frame"):
        PoseEntries(rotation=(3, 4, 5), kind="rpy", frame="world")  # type: ignore[arg-type]


def test_transforms_are_values() -> None:
    delta = DeltaActions(dims=[6], poses=[POSE], to="first")  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(delta)) == delta == delta.inverse.inverse
    assert delta != delta.inverse
    assert hash(delta) == hash(DeltaActions(dims=(6,), poses=(POSE,), to="first"))
    assert "to='first'" in repr(delta)
