from __future__ import annotations

import pickle
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.column import RotationKind
from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.pose import matrix_from_quat_xyzw
from dataengine.transforms.rotations import IDENTITIES, WIDTHS, ConvertRotation, rotation_matrices, rotation_numbers, says_rotation

KINDS: tuple[RotationKind, ...] = tuple(WIDTHS)
HALF = np.sqrt(0.5)

# One rotation, 90 degrees about z and then the hand's own roll by 90 degrees: R = Rz(90) Rx(90); its columns are where x, y and z go.
MATRIX = [0, 0, 1, 1, 0, 0, 0, 1, 0]
WRITTEN: dict[RotationKind, list[float]] = {
    "rpy": [np.pi / 2, 0, np.pi / 2],
    "rotvec": [2 * np.pi / 3 / np.sqrt(3)] * 3,  # the axes x, y, z go round: a third of a turn about (1, 1, 1)
    "quat_xyzw": [0.5, 0.5, 0.5, 0.5],
    "quat_wxyz": [0.5, 0.5, 0.5, 0.5],
    "rot6d": [0, 1, 0, 0, 0, 1],
    "matrix": MATRIX,
}


@pytest.mark.parametrize(("first", "second"), list(product(KINDS, KINDS)))
def test_a_rotation_written_by_hand_in_every_way(first: RotationKind, second: RotationKind) -> None:
    row = np.array([7.0, 8.0, *WRITTEN[first], 9.0])
    done = ConvertRotation("action", 2, first, second)({"action": row})["action"]
    assert np.allclose(done, [7, 8, *WRITTEN[second], 9], atol=1e-12)


def test_the_order_of_quaternions() -> None:
    quarter = np.array([[0, 0, HALF, HALF]], np.float32)  # 90 degrees about z
    done = ConvertRotation("state", 0, "quat_xyzw", "quat_wxyz")({"state": quarter})["state"]
    assert np.allclose(done, [[HALF, 0, 0, HALF]])
    assert done.dtype == np.float32
    assert np.allclose(ConvertRotation("state", 0, "quat_wxyz", "rotvec")({"state": done})["state"], [[0, 0, np.pi / 2]])


@given(
    st.lists(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda quat: np.linalg.norm(quat) > 0.1), min_size=6, max_size=6),
    st.sampled_from(KINDS),
    st.sampled_from(KINDS),
    st.sampled_from([(6,), (2, 3), (1, 3, 2)]),
)
@settings(deadline=None, max_examples=150)
def test_there_and_back_is_the_same_rotation_with_any_leading_axes(quats: Any, first: RotationKind, second: RotationKind, leading: tuple[int, ...]) -> None:
    matrices = matrix_from_quat_xyzw(np.array(quats)).reshape(*leading, 3, 3)
    numbers = rotation_numbers(first, matrices)
    batch = {"action": np.concatenate([np.zeros((*leading, 2)), numbers, np.ones((*leading, 1))], axis=-1)}
    batch["action"].flags.writeable = False
    change = ConvertRotation("action", 2, first, second)
    there = change(batch)
    assert there["action"].shape == (*leading, 3 + WIDTHS[second])
    assert np.allclose(rotation_matrices(second, there["action"][..., 2:-1]), matrices, atol=1e-6)
    back = change.inverse(there)["action"]
    assert np.allclose(rotation_matrices(first, back[..., 2:-1]), matrices, atol=1e-6)
    assert (back[..., :2] == 0).all()
    assert (back[..., -1] == 1).all()
    clear = first in ("rot6d", "matrix") or (first == "rotvec" and np.linalg.norm(numbers, axis=-1).max() < 3.1)
    if clear:
        assert np.allclose(back, batch["action"], atol=1e-6)


def test_what_the_kinds_leave_open() -> None:
    flipped = ConvertRotation("a", 0, "quat_xyzw", "rotvec")({"a": np.array([0, 0, -HALF, -HALF])})
    assert np.allclose(ConvertRotation("a", 0, "rotvec", "quat_xyzw")(flipped)["a"], [0, 0, HALF, HALF])
    turned = ConvertRotation("a", 0, "rpy", "rpy")({"a": np.array([0.1, 0.2, 2 * np.pi + 0.3])})["a"]
    assert np.allclose(turned, [0.1, 0.2, 0.3])


def test_what_a_network_says_becomes_a_rotation() -> None:
    rough = np.array(MATRIX, float) * 1.1 + np.linspace(-0.05, 0.05, 9)
    near = rotation_matrices("matrix", rough)
    assert np.allclose(near @ near.T, np.eye(3))
    assert np.isclose(np.linalg.det(near), 1)
    assert np.abs(near - np.reshape(MATRIX, (3, 3))).max() < 0.1
    mirrored = rotation_matrices("matrix", np.diag([1.0, 1.0, -0.5]).ravel())
    assert np.allclose(mirrored, np.eye(3))  # the least of the three is turned round


def test_padded_steps_and_absent_entries_need_say_nothing() -> None:
    action = np.zeros((2, 2, 5), np.float32)
    action[0, 0] = [9, 0, 0, HALF, HALF]
    action[0, 1] = [9, 0, 0, 0, 0]  # after the end of the episode
    batch = {
        "action": action,
        "action_is_pad": np.array([[False, True], [False, False]]),
        "action_mask": np.array([[True] * 5, [True, False, False, False, False]]),  # the second body only has the first entry
    }
    change = ConvertRotation("action", 1, "quat_xyzw", "rotvec")
    done = change(batch)
    assert np.allclose(done["action"], [[[9, 0, 0, np.pi / 2], [9, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    assert done["action_mask"].tolist() == [[True] * 4, [True, False, False, False]]
    assert done["action_is_pad"] is batch["action_is_pad"]
    back = change.inverse(done)
    assert back["action_mask"].tolist() == batch["action_mask"].tolist()
    assert np.allclose(back["action"][0, 0], action[0, 0])
    del batch["action_is_pad"]
    with pytest.raises(UsageError, match=r"batch\['action'\]: must hold rotations of kind 'quat_xyzw' at \(0, 1\), got \[0.0, 0.0, 0.0, 0.0\]; 1 such"):
        change(batch)


@pytest.mark.parametrize("kind", KINDS)
def test_which_numbers_say_a_rotation(kind: RotationKind) -> None:
    assert says_rotation(kind, np.array(IDENTITIES[kind]))
    assert np.allclose(rotation_matrices(kind, np.array(IDENTITIES[kind])), np.eye(3))
    assert not says_rotation(kind, np.full(WIDTHS[kind], np.nan))
    assert bool(says_rotation(kind, np.zeros(WIDTHS[kind]))) == (kind in ("rpy", "rotvec"))
    if kind == "rot6d":
        assert not says_rotation(kind, np.array([1.0, 2, 3, -2, -4, -6]))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"state": np.zeros(7)}, "must hold 'action', whose entries 3 to 5 are a rotation of kind 'rpy'; got state"),
        ({"action": np.zeros(5)}, r"batch\['action'\]: must be floats \(..., D\) with D >= 6.*got float64 \(5,\)"),
        ({"action": np.zeros(7, int)}, "must be floats.*got int64"),
        ({"action": np.zeros((4, 7)), "action_is_pad": np.zeros(3, bool)}, r"batch\['action_is_pad'\]: must be bool \(4,\)"),
        ({"action": np.zeros((4, 7)), "action_mask": np.zeros(6, bool)}, r"batch\['action_mask'\]: must be bool \(..., 7\), got bool \(6,\)"),
    ],
)
def test_what_does_not_fit_is_refused(batch: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ConvertRotation("action", 3, "rpy", "rot6d")(batch)


def test_transforms_are_values() -> None:
    change = ConvertRotation("action", 3, "rpy", "rot6d")
    assert pickle.loads(pickle.dumps(change)) == change == change.inverse.inverse
    assert repr(change) == "ConvertRotation(name='action', start=3, from_kind='rpy', to_kind='rot6d')"
    with pytest.raises(UnknownName, match="unknown kind of rotation 'rpz'"):
        ConvertRotation("action", 3, "rpz", "rot6d")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="start must not be negative"):
        ConvertRotation("action", -3, "rpy", "rot6d")
