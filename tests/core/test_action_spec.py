import json

import numpy as np
import pytest

from dataengine.core.action_spec import ActionSpec, Predicted, RotationEntries, SpecPart, spec_of, spec_of_json
from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.core.column_statistics import ColumnStatistics
from dataengine.core.errors import UsageError
from dataengine.core.pose import matrix_from_rotvec


def statistics(rows: np.ndarray) -> ColumnStatistics:
    """Return the statistics of (T, D) rows."""
    width = rows.shape[1]
    told = {"mean": rows.mean(0), "std": rows.std(0), "min": rows.min(0), "max": rows.max(0)}
    told |= {f"q{share:02d}": np.quantile(rows, share / 100, axis=0) for share in (1, 10, 50, 90, 99)}
    distinct = tuple(min(3, len(np.unique(rows[:, entry]))) for entry in range(width))
    numbers = {name: tuple(float(one) for one in values) for name, values in told.items()}
    return ColumnStatistics((width,), (len(rows),), (0,), (len(rows),) * width, (0,) * width, distinct, **numbers)


COLUMN = Column(
    "action",
    shape=(5,),
    dims=("x", "y", "lamp", "still", "gripper"),
    meaning="action",
    action_space=ActionSpace("ee_delta", absolute=False, gripper=Gripper(4, closed=1.0, open=-1.0)),
)
# x: mean 2, std 1; y: 0 or 4 or 8; lamp: two values; still: one; gripper: 0 and 0.6 alone
ROWS = np.array([[1.0, 0.0, 5.0, 7.0, 0.0], [3.0, 4.0, 9.0, 7.0, 0.6], [1.0, 8.0, 5.0, 7.0, 0.0], [3.0, 4.0, 9.0, 7.0, 0.0]])


def test_entries_become_numbers_levels_and_constants() -> None:
    spec = spec_of(COLUMN, statistics(ROWS))
    kinds = {entry: part.kind for part in spec.parts for entry in part.entries}
    assert kinds == {0: "levels", 1: "scaled", 2: "levels", 3: "constant", 4: "levels"}
    assert [part.levels for part in spec.of_kind("levels")] == [(1.0, 3.0), (5.0, 9.0), (0.0, 0.6)]
    assert spec.scaled_entries == (1,)
    assert spec.predicted_entries == (0, 1, 2, 4)
    told = spec.predicted(ROWS)
    assert told.scaled[:, 0] == pytest.approx([-np.sqrt(2), 0, np.sqrt(2), 0])  # std of 0, 4, 8, 4 is sqrt(8)
    assert told.classes.tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 0]]


def test_numbers_come_back() -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(300, 20, 500), rng.normal(0, 1e-4, 500), rng.choice([0.2, 0.9], 500), np.full(500, 1e3)], axis=1)
    column = Column("action", shape=(4,), dims=("a", "b", "c", "d"), meaning="action")
    spec = spec_of(column, statistics(rows))
    assert np.abs(spec.values(spec.predicted(rows)) - rows).max() < 1e-6
    assert np.abs(spec.predicted(rows).scaled.std(0) - 1).max() < 1e-9


def test_a_gripper_is_brought_to_the_nearest_level() -> None:
    spec = ActionSpec("action", ("gripper",), (SpecPart("levels", (0,), levels=(-1.0, 1.0)),))
    assert spec.values(spec.predicted(np.array([[-0.9], [0.1], [7.0]])))[:, 0].tolist() == [-1, 1, 1]


def test_a_gripper_of_many_values_at_its_ends_has_levels_and_one_between_them_is_a_number() -> None:
    ends = np.concatenate([np.linspace(-1, -0.95, 60), np.linspace(0.95, 1, 40)])
    between = np.linspace(-1, 1, 100)
    column = Column("action", shape=(1,), dims=("gripper",), meaning="action", action_space=ActionSpace("ee_pose", gripper=Gripper(0, 1.0, -1.0)))
    assert spec_of(column, statistics(ends[:, None])).parts[0].levels == (-1.0, 1.0)
    assert spec_of(column, statistics(between[:, None])).parts[0].kind == "scaled"


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("rpy", [[0.3, -0.2, 3.1], [1.0, 0.5, -3.1]]),
        ("rotvec", [[0.3, -0.2, 0.1], [0.0, 0.0, 3.0]]),
        ("quat_xyzw", [[0.5, 0.5, 0.5, 0.5], [0.0, 0.6, 0.0, 0.8]]),
        ("rot6d", [[0, 1, 0, -1, 0, 0], [1, 0, 0, 0, 0, 1]]),
        ("matrix", [[0, -1, 0, 1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, -1, 0, 1, 0]]),
    ],
)
def test_rotations_come_back(kind: str, numbers: list[list[float]]) -> None:
    rows = np.array(numbers, np.float64)
    width = rows.shape[1]
    column = Column("action", shape=(width,), meaning="action")
    spec = spec_of(column, statistics(rows), (RotationEntries(kind, tuple(range(width))),))  # type: ignore[arg-type]
    told = spec.predicted(rows)
    assert told.rotations.shape == (2, 1, 3, 3)
    assert np.abs(spec.values(told) - rows).max() < 1e-6
    assert np.abs(np.linalg.det(told.rotations) - 1).max() < 1e-9


def test_angles_in_degrees_are_turned_in_rad() -> None:
    part = SpecPart("rotation", (0, 1, 2), spread=(1.0,), rotation="rotvec", gain=np.pi / 180)
    spec = ActionSpec("action", ("rx", "ry", "rz"), (part,))
    told = spec.predicted(np.array([[0.0, 0.0, 90.0]]))
    assert told.rotations[0, 0] == pytest.approx(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float64), abs=1e-12)
    assert spec.values(told)[0].tolist() == pytest.approx([0, 0, 90])


def test_a_quaternion_and_its_negative_are_one_rotation() -> None:
    part = SpecPart("rotation", (0, 1, 2, 3), spread=(1.0,), rotation="quat_xyzw")
    spec = ActionSpec("action", ("qx", "qy", "qz", "qw"), (part,))
    one = np.array([0.1, -0.2, 0.3, np.sqrt(1 - 0.14)])
    assert spec.predicted(one).rotations == pytest.approx(spec.predicted(-one).rotations)


def test_what_says_no_action_is_told_apart() -> None:
    part = SpecPart("rotation", (1, 2, 3, 4), spread=(1.0,), rotation="quat_xyzw")
    spec = ActionSpec("action", ("x", "qx", "qy", "qz", "qw"), (SpecPart("scaled", (0,), (0.0,), (1.0,)), part))
    rows = np.array([[1, 0, 0, 0, 1], [1, 0, 0, 0, 0], [np.nan, 0, 0, 0, 1]], np.float64)
    assert spec.usable(rows).tolist() == [True, False, False]
    assert spec.usable(spec.blank()).item() is True
    assert spec.predicted(spec.blank()).rotations[0] == pytest.approx(np.eye(3))


def test_two_columns_that_are_parallel_or_nothing_are_no_rotation() -> None:
    part = SpecPart("rotation", (0, 1, 2, 3, 4, 5), spread=(1.0,), rotation="rot6d")
    spec = ActionSpec("action", tuple("abcdef"), (part,))
    rows = np.array(
        [[1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [1, 2, 3, -2, -4, -6], [5, 0, 0, 5, 1e-3, 0], [np.nan, 0, 0, 0, 1, 0]], np.float64
    )
    usable = spec.usable(rows)
    assert usable.tolist() == [True, False, False, False, True, False]
    assert spec.predicted(rows[usable]).rotations.shape == (2, 1, 3, 3)


def test_it_is_kept_as_json() -> None:
    rows = np.concatenate([ROWS, np.array([[0.1, 0.2, 0.3]] * 4) * np.arange(4)[:, None]], axis=1)
    column = Column("action", shape=(8,), meaning="action")
    spec = spec_of(column, statistics(rows), (RotationEntries("rotvec", (5, 6, 7), 0.5),))
    assert spec_of_json(json.loads(json.dumps(spec.as_json()))) == spec


def test_an_entry_without_numbers_is_refused() -> None:
    found = statistics(ROWS)
    empty = ColumnStatistics(**{**{name: getattr(found, name) for name in found.__dataclass_fields__}, "count": (4, 0, 4, 4, 4)})
    with pytest.raises(UsageError, match="entry 'y' must have numbers"):
        spec_of(COLUMN, empty)


def test_bounds_are_those_of_training() -> None:
    spec = spec_of(COLUMN, statistics(ROWS))
    low, high = spec.bounds()
    assert (low[0], high[0]) == pytest.approx((-np.sqrt(2), np.sqrt(2)))
    assert spec.values(Predicted(high[None], np.zeros((1, 3), np.int64), np.zeros((1, 0, 3, 3))))[0].tolist() == pytest.approx([1, 8, 5, 7, 0])


def test_a_rotation_of_many_is_its_own_part() -> None:
    turn = np.array([[0.0, 0.0, 0.2, 1.0], [0.0, 0.0, -0.2, 3.0]])
    spec = spec_of(Column("action", shape=(4,), meaning="action"), statistics(turn), (RotationEntries("rotvec", (0, 1, 2)),))
    assert spec.of_kind("rotation")[0].spread == pytest.approx((0.2,))
    assert spec.predicted(turn).rotations[0, 0] == pytest.approx(matrix_from_rotvec(np.array([0, 0, 0.2])))
