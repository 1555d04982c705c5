"""Names of their own and one gap: what sources of labels must have in common to stand in one table."""

from __future__ import annotations

from typing import Any

import pytest

from dataengine.core.errors import UsageError
from dataengine.evaluate.judged_together import common_gap, require_own_names, steps_of

IDM: dict[str, Any] = {"method": "idm", "gap_s": 0.05}
FLOW: dict[str, Any] = {"method": "flow_ridge"}
KINDS = ("command", "displacement")


def test_two_of_one_name_are_refused() -> None:
    require_own_names(["idm", "other", "mean"])
    with pytest.raises(UsageError, match="got 'idm' more than once"):
        require_own_names(["idm", "other", "idm"])


def test_the_gap_is_the_one_that_all_state() -> None:
    assert common_gap({}, KINDS, 20.0) is None
    assert common_gap({"flow": FLOW, "value": {"kind": "value"}}, KINDS, 20.0) is None
    assert common_gap({"a": IDM, "flow": FLOW}, KINDS, 20.0) == 0.05  # the next step, of 20 Hz
    assert common_gap({"a": IDM, "b": IDM | {"gap_s": 0.0501}}, KINDS, 20.0) == 0.05  # as many steps


@pytest.mark.parametrize(
    ("told", "rate_hz", "said"),
    [
        ({"a": IDM, "b": IDM | {"gap_s": 0.1}}, 20.0, "a: 0.05 s, b: 0.1 s"),
        ({"a": IDM, "flow": FLOW}, 40.0, "a: 0.05 s, flow: the next step"),
        ({"a": IDM, "b": IDM | {"gap_s": 0.1}}, None, "a: 0.05 s, b: 0.1 s"),
        ({"a": IDM, "flow": FLOW}, None, "a: 0.05 s, flow: the next step"),
    ],
)
def test_different_gaps_are_refused_where_changes_are_judged(told: dict[str, Any], rate_hz: float | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        common_gap(told, KINDS, rate_hz)
    assert common_gap(told, ("command",), rate_hz) == 0.05


def test_steps_of_a_gap() -> None:
    assert [steps_of(gap_s, rate_hz) for gap_s, rate_hz in ((0.1, 20.0), (0.01, 20.0), (None, 20.0), (0.1, None))] == [2, 1, 1, 1]
