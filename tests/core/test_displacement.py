import numpy as np
import pytest

from dataengine.core.action_spec import RotationEntries
from dataengine.core.column import Column
from dataengine.core.displacement import displacement_of, displacement_of_json


def test_positions_are_subtracted_and_turns_cross_pi() -> None:
    column = Column("observation.state", shape=(4,), dims=("roll", "pitch", "yaw", "x"), meaning="state")
    moved = displacement_of(column, 4, (RotationEntries("rpy", (0, 1, 2)),))
    assert moved.name == "observation.state.delta"
    assert moved.dims == ("x", "rotvec_x", "rotvec_y", "rotvec_z")
    before, after = np.array([0, 0, 3.1, 5.0]), np.array([0, 0, -3.1, 4.5])
    found = moved.between(before, after)
    assert found.tolist() == pytest.approx([-0.5, 0, 0, 2 * np.pi - 6.2])  # the short way


def test_the_frame_is_that_of_the_state() -> None:
    """Turned by 90 degrees about z, then by 0.1 about the world's x: what was about the tool's own x would be about the world's y."""
    moved = displacement_of(Column("s", shape=(4,)), 4, (RotationEntries("quat_xyzw", (0, 1, 2, 3)),))
    half = np.sqrt(0.5)
    first = np.array([0, 0, half, half])
    turn = np.array([np.sin(0.05), 0, 0, np.cos(0.05)])
    x, y, z, w = turn
    a, b, c, d = first
    second = np.array([w * a + x * d + y * c - z * b, w * b - x * c + y * d + z * a, w * c + x * b - y * a + z * d, w * d - x * a - y * b - z * c])
    assert moved.between(first, second).tolist() == pytest.approx([0.1, 0, 0], abs=1e-9)
    assert moved.between(first, -second).tolist() == pytest.approx([0.1, 0, 0], abs=1e-9)


def test_what_is_missing_stays_missing() -> None:
    moved = displacement_of(Column("s", shape=(2,), dims=("x", "y")), 2)
    found = moved.between(np.array([[0.0, np.nan], [1.0, 2.0]]), np.array([[1.0, 1.0], [3.0, 1.0]]))
    assert np.isnan(found[0, 1])
    assert found[1].tolist() == [2, -1]
    quat = displacement_of(Column("s", shape=(4,)), 4, (RotationEntries("quat_xyzw", (0, 1, 2, 3)),))
    assert np.isnan(quat.between(np.zeros(4), np.array([0, 0, 0, 1.0]))).all()
    columns = displacement_of(Column("s", shape=(6,)), 6, (RotationEntries("rot6d", (0, 1, 2, 3, 4, 5)),))
    still = np.array([1.0, 0, 0, 0, 1, 0])
    assert columns.between(still, still).tolist() == [0, 0, 0]
    assert np.isnan(columns.between(still, np.array([1.0, 0, 0, 2, 0, 0]))).all()  # parallel columns are no rotation


@pytest.mark.parametrize(
    ("unit", "plain", "found"), [("m, deg", 2, "m, rad"), ("0.1 m, rad", 2, "0.1 m, rad"), ("deg", 0, "rad"), ("m, rad", 0, "rad"), (None, 2, "rad")]
)
def test_rotation_vectors_are_in_rad_whatever_the_angles_of_the_state_are_in(unit: str | None, plain: int, found: str) -> None:
    width = 3 + plain
    moved = displacement_of(Column("s", shape=(width,)), width, (RotationEntries("rpy", (0, 1, 2), np.pi / 180),))
    assert moved.unit(unit) == found
    assert displacement_of(Column("s", shape=(2,)), 2).unit(unit) == unit


def test_it_is_kept_as_json() -> None:
    moved = displacement_of(Column("s", shape=(8,)), 8, (RotationEntries("rpy", (0, 1, 2), 0.01), RotationEntries("quat_xyzw", (4, 5, 6, 7))))
    assert displacement_of_json(moved.as_json()) == moved
    assert moved.dims[-6:] == ("rotvec_x_0", "rotvec_y_0", "rotvec_z_0", "rotvec_x_1", "rotvec_y_1", "rotvec_z_1")


def test_what_never_moves_stays_between_its_bounds() -> None:
    moved = displacement_of(Column("s", shape=(2,), dims=("x", "y")), 2)
    spec = moved.spec(np.array([0.0, 3.0]), np.array([2.0, 0.0]), np.array([-4.0, 3.0]), np.array([4.0, 3.0]))
    low, high = spec.bounds()
    assert (low.tolist(), high.tolist()) == ([-2.0, 0.0], [2.0, 0.0])
