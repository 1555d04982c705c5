"""Standardised actions: values worked out by hand, the way back, and what is refused by the name of the fact that is missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Column, Gripper, RotationKind
from dataengine.core.errors import MissingFact, UsageError
from dataengine.core.pose import matrix_from_rpy
from dataengine.schema.descriptions import apply, descriptions
from dataengine.transforms.actions import Convention, StandardActions, action_view

QUARTER = np.pi / 2
DELTA = Column(
    "action",
    shape=(7,),
    dims=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    unit="m, rad",
    meaning="action",
    action_space=ActionSpace("ee_delta", "rpy", "base", False, Gripper(6, closed=0.0, open=1.0)),
)
POSE = Column(
    "action",
    dtype="float64",
    shape=(8,),
    dims=("x", "y", "z", "qw", "qx", "qy", "qz", "gripper"),
    unit="m",
    meaning="action",
    action_space=ActionSpace("ee_pose", "quat_wxyz", "base", True, Gripper(7, closed=1.0, open=-1.0)),
)
STATE = Column(
    "observation.state",
    dtype="float64",
    shape=(6,),
    dims=("x", "y", "z", "roll", "pitch", "yaw"),
    unit="m, rad",
    meaning="state",
    action_space=ActionSpace("ee_pose", "rpy", "base", True),
)


def without_rest(standard: StandardActions) -> StandardActions:
    """Return what a policy would give: the seven numbers alone."""
    return StandardActions(standard.values, standard.valid, standard.convention, standard.frame, standard.commanded)


def test_a_change_stays_a_change() -> None:
    rows = np.array([[0.1, -0.2, 0.3, 0, 0, QUARTER, 1], [0, 0, 0.01, 0.2, 0, 0, 0.25]], dtype=np.float32)
    view = action_view({"action": DELTA})
    standard = view({"action": rows})
    assert standard.dims == ("x", "y", "z", "rotvec_x", "rotvec_y", "rotvec_z", "gripper")
    assert standard.frame == "base"
    np.testing.assert_allclose(standard.values, [[0.1, -0.2, 0.3, 0, 0, QUARTER, 1], [0, 0, 0.01, 0.2, 0, 0, 0.25]], atol=1e-7)
    assert not view.needs_state
    back = view.inverse(standard)["action"]
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, rows, atol=1e-7)
    assert standard.column.action_space == ActionSpace("ee_delta", "rotvec", "base", False, Gripper(6, 0.0, 1.0))


def test_a_pose_becomes_a_change_of_the_state() -> None:
    # The hand stands at (1, 2, 3), turned a quarter about z; it is told to go to (1.5, 2, 2.5), turned a half about z.
    state = np.array([[1.0, 2.0, 3.0, 0.0, 0.0, QUARTER]])
    target = np.array([[1.5, 2.0, 2.5, 0.0, 0.0, 0.0, 1.0, 1.0]])  # qw, qx, qy, qz: a half turn about z; the gripper closes
    specs = {"action": POSE, "observation.state": STATE}
    rows = {"action": target, "observation.state": state}
    view = action_view(specs)
    assert view.needs_state
    np.testing.assert_allclose(view(rows).values, [[0.5, 0.0, -0.5, 0.0, 0.0, QUARTER, 0.0]], atol=1e-12)
    # In the hand's own frame the base's x is -y: turned by -90 degrees about z.
    own = action_view(specs, convention=Convention(frame="tool"))
    np.testing.assert_allclose(own(rows).values, [[0.0, -0.5, -0.5, 0.0, 0.0, QUARTER, 0.0]], atol=1e-12)
    for each in (view, own):
        np.testing.assert_allclose(each.inverse(each(rows), rows)["action"], target, atol=1e-12)
        np.testing.assert_allclose(each.inverse(without_rest(each(rows)), rows)["action"], target, atol=1e-12)
    with pytest.raises(UsageError, match=r"the way back needs the state: observation\.state"):
        view.inverse(view(rows))


def test_a_turn_is_multiplied_from_the_side_of_its_frame() -> None:
    # State: rolled by 90 degrees. Target: after that, yawed by 90 degrees about the base's z.
    state = np.array([[0.0, 0.0, 0.0, QUARTER, 0.0, 0.0]])
    quat_wxyz = np.array([0.5, 0.5, 0.5, 0.5])  # Rz(90) Rx(90): worked out as (w, x, y, z)
    rows = {"action": np.array([[0.0, 0.0, 0.0, *quat_wxyz, -1.0]]), "observation.state": state}
    specs = {"action": POSE, "observation.state": STATE}
    np.testing.assert_allclose(action_view(specs)(rows).values[:, 3:], [[0.0, 0.0, QUARTER, 1.0]], atol=1e-12)
    # The base's z is the hand's y once the hand is rolled by 90 degrees: R^T z = (0, 1, 0).
    np.testing.assert_allclose(action_view(specs, convention=Convention(frame="tool"))(rows).values[:, 3:], [[0.0, QUARTER, 0.0, 1.0]], atol=1e-12)


def test_changes_are_brought_into_the_hands_frame_and_out_of_it() -> None:
    specs = {"action": DELTA, "observation.state": STATE}
    rows = {"action": np.array([[0.1, 0.0, 0.0, 0.3, 0.0, 0.0, 1.0]], np.float32), "observation.state": np.array([[9.0, 9.0, 9.0, 0.0, 0.0, QUARTER]])}
    into = action_view(specs, convention=Convention(frame="tool"))
    np.testing.assert_allclose(into(rows).values, [[0.0, -0.1, 0.0, 0.0, -0.3, 0.0, 1.0]], atol=1e-7)
    np.testing.assert_allclose(into.inverse(without_rest(into(rows)), rows)["action"], rows["action"], atol=1e-7)
    own = Column(
        "action",
        "numeric",
        "float32",
        (7,),
        DELTA.dims,
        "m, rad",
        meaning="action",
        action_space=ActionSpace("ee_delta", "rpy", "tool", False, Gripper(6, 0.0, 1.0)),
    )
    out = action_view({"action": own, "observation.state": STATE}, convention=Convention(frame="base"))
    np.testing.assert_allclose(out(rows).values, [[0.0, 0.1, 0.0, 0.0, 0.3, 0.0, 1.0]], atol=1e-7)
    np.testing.assert_allclose(out.inverse(without_rest(out(rows)), rows)["action"], rows["action"], atol=1e-7)


@pytest.mark.parametrize(
    ("closed", "open_", "number", "expected"),
    [(0.0, 1.0, 0.25, 0.25), (1.0, 0.0, 0.25, 0.75), (1.0, -1.0, 0.5, 0.25), (-1.0, 1.0, 0.5, 0.75), (0.0, 0.08, 0.02, 0.25), (1.0, 0.0, -1.0, 2.0)],
)
def test_grippers_of_every_sign_and_range(closed: float, open_: float, number: float, expected: float) -> None:
    space = ActionSpace("ee_delta", "rpy", "base", False, Gripper(6, closed, open_))
    view = action_view({"action": Column("action", "numeric", "float64", (7,), DELTA.dims, "m, rad", meaning="action", action_space=space)})
    rows = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, number]])
    standard = view({"action": rows})
    assert standard.values[0, 6] == pytest.approx(expected)
    np.testing.assert_allclose(view.inverse(without_rest(standard))["action"], rows, atol=1e-12)
    upside = Convention(closed=1.0, open=-1.0)
    other = action_view({"action": Column("action", "numeric", "float64", (7,), DELTA.dims, "m, rad", meaning="action", action_space=space)}, convention=upside)
    assert other({"action": rows}).values[0, 6] == pytest.approx(1 - 2 * expected)


def fractal() -> dict[str, Column]:
    columns = {
        "action.world_vector": Column("action.world_vector", shape=(3,), meaning="action"),
        "action.rotation_delta": Column("action.rotation_delta", shape=(3,), meaning="action"),
        "action.gripper_closedness_action": Column("action.gripper_closedness_action", shape=(1,), meaning="action"),
        "action.terminate_episode": Column("action.terminate_episode", dtype="int32", shape=(3,), meaning="action"),
        "observation.gripper_closed": Column("observation.gripper_closed", shape=(1,), meaning="state"),
    }
    return apply(descriptions()["fractal20220817_data"], columns)


def test_relative_grippers_are_held_from_the_state_on() -> None:
    view = action_view(fractal())
    commands = np.array([[0.0], [0.0], [1.0], [0.05], [1.0], [-1.0], [0.0], [-0.6]], np.float32)
    rows: dict[str, Array] = {
        "action.world_vector": np.full((8, 3), 0.02, np.float32),
        "action.rotation_delta": np.zeros((8, 3), np.float32),
        "action.gripper_closedness_action": commands,
        "observation.gripper_closed": np.zeros((8, 1), np.float32),
    }
    standard = view(rows)
    np.testing.assert_array_equal(standard.values[:, 6], [1, 1, 0, 0, 0, 1, 1, 1])
    assert standard.frame == "base"
    # The very commands come back, repeated and weak ones too, without the state.
    np.testing.assert_array_equal(view.inverse(standard)["action.gripper_closedness_action"], commands)
    # Of the seven alone the changes come back, each as one full command; that needs the start.
    alone = without_rest(standard)
    with pytest.raises(MissingFact, match="state of the gripper before the first command must be known"):
        view.inverse(alone)
    changes = [[0], [0], [1], [0], [0], [-1], [0], [0]]
    np.testing.assert_array_equal(view.inverse(alone, gripper_start=1.0)["action.gripper_closedness_action"], changes)
    np.testing.assert_array_equal(view.inverse(alone, rows)["action.gripper_closedness_action"], changes)
    changes[0] = [-1]  # from closed, the open first step is a command
    np.testing.assert_array_equal(view.inverse(alone, gripper_start=0.0)["action.gripper_closedness_action"], changes)
    # Closed at the start: nothing changes until it is opened.
    rows["observation.gripper_closed"] = np.ones((8, 1), np.float32)
    np.testing.assert_array_equal(view(rows).values[:, 6], [0, 0, 0, 0, 0, 1, 1, 1])


def test_an_edited_step_gets_a_command_of_its_own_and_the_others_keep_theirs() -> None:
    view = action_view(fractal())
    commands = np.array([[1.0], [1.0], [0.0], [0.7]], np.float32)
    rows = {
        "action.world_vector": np.zeros((4, 3), np.float32),
        "action.rotation_delta": np.zeros((4, 3), np.float32),
        "action.gripper_closedness_action": commands,
        "observation.gripper_closed": np.zeros((4, 1), np.float32),
    }
    standard = view(rows)
    values = standard.values.copy()
    values[2, 6] = 1.0  # opened here, and closed again in the next step
    edited = StandardActions(values, standard.valid, standard.convention, standard.frame, standard.commanded, standard.rest)
    np.testing.assert_allclose(view.inverse(edited)["action.gripper_closedness_action"], [[1.0], [1.0], [-1.0], [1.0]])


def test_without_a_state_of_the_gripper_the_start_is_asked_for() -> None:
    specs = {name: column for name, column in fractal().items() if not name.startswith("observation")}
    view = action_view(specs)
    rows = {"action.world_vector": np.zeros((1, 3)), "action.rotation_delta": np.zeros((1, 3)), "action.gripper_closedness_action": np.zeros((1, 1))}
    with pytest.raises(MissingFact, match="pass gripper_start"):
        view(rows)
    assert view(rows, gripper_start=0.0).values[0, 6] == 0.0


def test_what_is_not_commanded_is_said() -> None:
    described = descriptions()["language_table"]
    specs = apply(described, {"action": Column("action", shape=(2,), meaning="action")})
    view = action_view(specs)
    standard = view({"action": np.array([[0.01, -0.02]], np.float32)})
    np.testing.assert_allclose(standard.values[0, :6], [0.01, -0.02, 0, 0, 0, 0], atol=1e-8)
    assert np.isnan(standard.values[0, 6])
    assert standard.commanded == (True, True, False, False, False, False, False)
    np.testing.assert_allclose(view.inverse(without_rest(standard))["action"], [[0.01, -0.02]], atol=1e-8)
    values = standard.values.copy()
    values[0, 2] = 0.1
    with pytest.raises(UsageError, match="must be able to hold the position, got a change in an entry that it does not have"):
        view.inverse(StandardActions(values, standard.valid, standard.convention, standard.frame, standard.commanded))


def test_a_yaw_alone_and_an_entry_that_is_carried_along() -> None:
    space = ActionSpace("ee_delta", "rpy", None, False, Gripper(4, 1.0, -1.0))
    column = Column("action", "numeric", "float64", (6,), ("x", "y", "z", "yaw", "gripper", "terminate"), "m, deg", meaning="action", action_space=space)
    view = action_view({"action": column})
    rows = np.array([[0.1, 0.2, 0.3, 90.0, -1.0, 0.5]])
    standard = view({"action": rows})
    np.testing.assert_allclose(standard.values, [[0.1, 0.2, 0.3, 0, 0, QUARTER, 1.0]], atol=1e-12)
    np.testing.assert_allclose(view.inverse(standard)["action"], rows, atol=1e-12)
    assert np.isnan(view.inverse(without_rest(standard))["action"][0, 5])
    values = standard.values.copy()
    values[0, 3] = 0.2
    with pytest.raises(UsageError, match="must be able to hold the rotation"):
        view.inverse(StandardActions(values, standard.valid, standard.convention, standard.frame, standard.commanded))


def test_scaled_numbers() -> None:
    described = descriptions()["maniskill_dataset_converted_externally_to_rlds"]
    specs = apply(described, {"action": Column("action", dtype="float32", shape=(7,), meaning="action")})
    standard = action_view(specs)({"action": np.array([[0.5, 0, -1, 0, 1, 0, -1]], np.float32)})
    np.testing.assert_allclose(standard.values, [[0.05, 0, -0.1, 0, 0.1, 0, 0]], atol=1e-8)
    scale = {"input_min": -1, "input_max": 1, "output_min": [-0.05] * 3 + [-0.5] * 3, "output_max": [0.05] * 3 + [0.5] * 3}
    space = ActionSpace("ee_delta", "rotvec", "world", False, Gripper(6, 1.0, -1.0))
    dims = ("x", "y", "z", "rotvec_x", "rotvec_y", "rotvec_z", "gripper")
    column = Column("action", "numeric", "float64", (7,), dims, meaning="action", action_space=space, extra={"scale": scale})
    view = action_view({"action": column})
    rows = np.array([[0.5, 0, -1, 0, 1, 0, -1]])
    np.testing.assert_allclose(view({"action": rows}).values, [[0.025, 0, -0.05, 0, 0.5, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(view.inverse(without_rest(view({"action": rows})))["action"], rows, atol=1e-12)


def test_rows_that_say_nothing_are_not_valid_and_come_back_as_they_were() -> None:
    target = np.array([[1, 1, 1, 1, 0, 0, 0, 1], [2, 2, 2, 0, 0, 0, 0, -1], [np.nan, 3, 3, 1, 0, 0, 0, 1], [4, 4, 4, -2, 0, 0, 0, 1]], dtype=np.float64)
    rows = {"action": target, "observation.state": np.zeros((4, 6))}
    view = action_view({"action": POSE, "observation.state": STATE})
    standard = view(rows, valid={"observation.state": np.array([True, True, False, True])})
    assert standard.valid.tolist() == [True, False, False, True]  # a quaternion of length 0 is no rotation
    assert np.isnan(standard.values[1:3]).all()
    np.testing.assert_array_equal(view.inverse(standard, rows)["action"], target)  # the sign and length of the last quaternion too


def changed(column: Column, **fields: object) -> dict[str, Column]:
    """Return specs of one action column with facts taken away."""
    space = {"kind": "ee_delta", "rotation": "rpy", "frame": "base", "absolute": False, "gripper": Gripper(6, 0.0, 1.0)}
    space |= {name: value for name, value in fields.items() if name in space}
    whole = {"dims": column.dims, "unit": column.unit} | {name: value for name, value in fields.items() if name not in space}
    return {"action": Column("action", shape=column.shape, meaning="action", action_space=ActionSpace(**space), **whole)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("specs", "fact"),
    [
        (changed(DELTA, rotation=None), "rotation"),
        (changed(DELTA, gripper=None), "gripper"),
        (changed(DELTA, unit=None), "unit"),
        (changed(DELTA, unit="m"), "unit"),  # of the rotation
        (changed(DELTA, dims=None), "dims"),
        (changed(DELTA, dims=("x", "y", "z", "rotation_1", "rotation_2", "rotation_3", "gripper")), "dims"),
        ({"action": Column("action", shape=(7,), meaning="action")}, "kind"),
    ],
)
def test_a_missing_fact_is_named(specs: dict[str, Column], fact: str) -> None:
    with pytest.raises(MissingFact, match=f"column 'action': its {fact} must be known, got none") as caught:
        action_view(specs)
    assert (caught.value.column, caught.value.fact) == ("action", fact)
    assert f"stated={{'action': {{'{fact}': ...}}}}" in str(caught.value)


def test_all_missing_facts_are_named_at_once_and_can_be_stated() -> None:
    specs = changed(DELTA, unit=None, rotation=None, gripper=None)
    with pytest.raises(MissingFact, match="also missing: rotation of 'action', gripper of 'action'"):
        action_view(specs)
    stated = {"action": {"unit": "mm, deg", "rotation": "rpy", "gripper": Gripper(6, 1.0, 0.0)}}
    standard = action_view(specs, stated=stated)({"action": np.array([[1.0, 0, 0, 0, 0, 90.0, 1.0]])})
    np.testing.assert_allclose(standard.values, [[0.001, 0, 0, 0, 0, QUARTER, 0]], atol=1e-12)
    with pytest.raises(UsageError, match=r"stated\['action'\]: units is no fact of a column"):
        action_view(specs, stated={"action": {"units": "m"}})


def test_frames() -> None:
    unknown = changed(DELTA, frame=None)
    assert action_view(unknown).frame is None  # taken as recorded
    with pytest.raises(MissingFact, match="its frame must be known, got none; changes in the frame 'base' were asked for"):
        action_view(unknown, convention=Convention(frame="base"))
    with pytest.raises(UsageError, match="must be in the frame 'world' that was asked for, got 'base'; how the two lie to each other is not known"):
        action_view({"action": DELTA}, convention=Convention(frame="world"))
    other = Column("observation.state", shape=(6,), dims=STATE.dims, unit="m, rad", meaning="state", action_space=ActionSpace("ee_pose", "rpy", "world", True))
    with pytest.raises(UsageError, match=r"column 'observation\.state': must be in the action's frame 'base', got 'world'"):
        action_view({"action": POSE, "observation.state": other})
    with pytest.raises(UsageError, match="the state: must hold the pose of the hand"):
        action_view({"action": POSE})


def test_joints_and_several_hands_are_refused() -> None:
    joints = Column("action", shape=(7,), meaning="action", action_space=ActionSpace("joint_position"))
    with pytest.raises(
        UsageError, match="must hold the hand's pose or its change, got joint_position; joint commands and velocities are not turned into poses"
    ):
        action_view({"action": joints})
    two = {"a": Column("a", shape=(7,), dims=DELTA.dims, unit="m, rad", meaning="action", action_space=DELTA.action_space), "action": DELTA}
    with pytest.raises(UsageError, match="must hold one hand, got positions in a, action; name the columns that belong together"):
        action_view(two)
    assert action_view(two, actions=["a"]).columns[0][0] == "a"
    with pytest.raises(UsageError, match="column 'b': must be one of a, action"):
        action_view(two, actions=["b"])


def test_a_view_is_a_value() -> None:
    assert action_view({"action": DELTA}) == action_view({"action": DELTA})
    rows = np.zeros((2, 7))
    standard = action_view({"action": DELTA})({"action": rows})
    with pytest.raises(ValueError, match="read-only"):
        standard.values[0, 0] = 1.0
    with pytest.raises(UsageError, match="the rows lack action, which this view needs; got none"):
        action_view({"action": DELTA})({})
    with pytest.raises(ValueError, match="must be in the convention of the view"):
        action_view({"action": DELTA}, convention=Convention("rpy")).inverse(standard)


numbers = st.floats(-2.0, 2.0, allow_nan=False, width=32)
turns = st.tuples(st.floats(-3.0, 3.0), st.floats(-1.5, 1.5), st.floats(-3.0, 3.0))
KINDS: dict[RotationKind, tuple[str, ...]] = {
    "rpy": ("roll", "pitch", "yaw"),
    "rotvec": ("rotvec_x", "rotvec_y", "rotvec_z"),
    "quat_xyzw": ("qx", "qy", "qz", "qw"),
    "quat_wxyz": ("qw", "qx", "qy", "qz"),
    "rot6d": tuple(f"rot6d_{number}" for number in range(6)),
    "matrix": tuple(f"m{row}{column}" for row in range(3) for column in range(3)),
}


@st.composite
def recordings(draw: st.DrawFn) -> tuple[dict[str, Column], dict[str, Array], Convention]:
    """Draw a dataset's columns, rows of them, and a convention: any kind of rotation, any order of entries, changes or poses, any frame."""
    from dataengine.transforms.action_parts import values_of

    kind = draw(st.sampled_from(sorted(KINDS)))
    absolute, own = draw(st.booleans()), draw(st.booleans())
    dims = tuple(draw(st.permutations(["x", "y", "z", *KINDS[kind], "gripper", "terminate"])))
    closed, open_ = draw(st.sampled_from([(0.0, 1.0), (1.0, 0.0), (1.0, -1.0), (-1.0, 1.0), (0.0, 0.08)]))
    space = ActionSpace(
        "ee_pose" if absolute else "ee_delta", kind, "base" if absolute or not own else "tool", absolute, Gripper(dims.index("gripper"), closed, open_)
    )
    unit = draw(st.sampled_from(["m, rad", "mm, deg", "0.05 m, 0.5 rad"]))
    column = Column("action", "numeric", "float64", (len(dims),), dims, unit, meaning="action", action_space=space)
    steps = draw(st.integers(1, 5))
    rotations = matrix_from_rpy(np.array([draw(turns) for _ in range(steps)]))
    names = ("qx", "qy", "qz", "qw") if kind.startswith("quat") else KINDS[kind]
    factor = {"m, rad": 1.0, "mm, deg": 180 / np.pi, "0.05 m, 0.5 rad": 2.0}[unit] if kind in ("rpy", "rotvec") else 1.0
    values = dict(zip(names, values_of(kind, rotations).T * factor, strict=True))
    rows = np.stack([values[name] if name in values else np.array([draw(numbers) for _ in range(steps)], float) for name in dims], axis=1)
    state = np.array([[*(draw(numbers) for _ in range(3)), *draw(turns)] for _ in range(steps)])
    convention = Convention(
        draw(st.sampled_from(["rotvec", "rpy"])), draw(st.sampled_from([None, "tool", "base"])), *draw(st.sampled_from([(0.0, 1.0), (1.0, -1.0)]))
    )
    return {"action": column, "observation.state": STATE}, {"action": rows, "observation.state": state}, convention


@settings(max_examples=150, deadline=None)
@given(recordings())
def test_the_way_back_is_exact(recording: tuple[dict[str, Column], dict[str, Array], Convention]) -> None:
    specs, rows, convention = recording
    view = action_view(specs, convention=convention)
    standard = view(rows)
    assert standard.valid.all()
    np.testing.assert_allclose(view.inverse(standard, rows)["action"], rows["action"], atol=1e-9)
    # Of the seven numbers alone, the same but for the entry that they do not hold and for the other ways to write one rotation.
    alone = view.inverse(without_rest(standard), rows)["action"]
    again = view({"action": np.nan_to_num(alone), "observation.state": rows["observation.state"]})
    np.testing.assert_allclose(again.values[:, [0, 1, 2, 6]], standard.values[:, [0, 1, 2, 6]], atol=1e-9)
    wanted, found = (
        view._change(rows)[1],
        view._change({"action": alone, "observation.state": rows["observation.state"]})[1],
    )
    np.testing.assert_allclose(found, wanted, atol=1e-7)
    assert np.isnan(alone[:, (specs["action"].dims or ()).index("terminate")]).all()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0, 0.05, 0.4, -0.7]), min_size=1, max_size=12), st.booleans())
def test_relative_commands_come_back_exactly(commands: list[float], closed: bool) -> None:
    view = action_view(fractal())
    rows = {
        "action.world_vector": np.zeros((len(commands), 3), np.float32),
        "action.rotation_delta": np.zeros((len(commands), 3), np.float32),
        "action.gripper_closedness_action": np.array(commands, np.float32)[:, None],
        "observation.gripper_closed": np.full((len(commands), 1), float(closed), np.float32),
    }
    standard = view(rows)
    np.testing.assert_array_equal(view.inverse(standard)["action.gripper_closedness_action"], rows["action.gripper_closedness_action"])
    # The commands that the seven alone give lead to the very same held values.
    again = dict(rows, **{"action.gripper_closedness_action": view.inverse(without_rest(standard), rows)["action.gripper_closedness_action"]})
    np.testing.assert_array_equal(view(again).values[:, 6], standard.values[:, 6])


def test_numbers_that_are_no_floats_come_back_in_their_dtype() -> None:
    specs = apply(
        descriptions()["bridge"],
        {
            "action.world_vector": Column("action.world_vector", shape=(3,), meaning="action"),
            "action.rotation_delta": Column("action.rotation_delta", shape=(3,), meaning="action"),
            "action.open_gripper": Column("action.open_gripper", dtype="bool", meaning="action"),
        },
    )
    stated = {"action.world_vector": {"unit": "m"}, "action.rotation_delta": {"unit": "rad"}}
    view = action_view(specs, stated=stated)
    rows = {
        "action.world_vector": np.ones((2, 3), np.float32),
        "action.rotation_delta": np.zeros((2, 3), np.float32),
        "action.open_gripper": np.array([True, False]),
    }
    standard = view(rows)
    assert standard.values[:, 6].tolist() == [1.0, 0.0]
    back = view.inverse(standard)
    assert (back["action.open_gripper"].dtype, back["action.open_gripper"].shape) == (np.dtype(bool), (2,))
    assert back["action.open_gripper"].tolist() == [True, False]
    # BC-Z: the first of ten closures is the action; the others are carried along, exactly also where a float could not hold them.
    space = ActionSpace("ee_delta", "rpy", "base", False, Gripper(6, 1.0, 0.0))
    column = Column("action", "numeric", "int64", (8,), (*DELTA.dims[:6], "gripper", "stamp"), "mm, deg", meaning="action", action_space=space)  # type: ignore[misc]
    whole = np.array([[100, 0, 0, 0, 0, 90, 1, 2**62 + 1]])
    whole_view = action_view({"action": column})
    np.testing.assert_allclose(whole_view({"action": whole}).values, [[0.1, 0, 0, 0, 0, QUARTER, 0]], atol=1e-12)
    np.testing.assert_array_equal(whole_view.inverse(whole_view({"action": whole}))["action"], whole)
