"""Label sets are named by what makes them; labels that do not fit together are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dataengine.core.column import Column
from dataengine.core.errors import UsageError
from dataengine.core.labels import Labels, LabelSet

ACTION = Column("action", shape=(2,), meaning="action", action_source="latent")
SET = LabelSet("a", "0" * 32, "store@3", "1" * 32, {"window_s": 0.5, "heads": ["x"]})


def test_the_recipe_is_of_everything_but_the_name() -> None:
    assert replace(SET, name="b").recipe == SET.recipe
    others = [replace(SET, model="2" * 32), replace(SET, trained_on=None), replace(SET, preprocessing=None), replace(SET, parameters={"window_s": 0.6})]
    assert len({SET.recipe, *(other.recipe for other in others)}) == 5
    assert replace(SET, parameters={"heads": ["x"], "window_s": 0.5}).recipe == SET.recipe


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "A b"}, "label set 'A b': must be a slug"),
        ({"model": "0" * 31}, "model must be a digest of 32 hex digits"),
        ({"preprocessing": "g" * 32}, "preprocessing must be a digest"),
        ({"trained_on": "store"}, "trained_on must be a store and a version"),
    ],
)
def test_what_names_nothing_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(SET, **fields)


def labels(**fields: Any) -> Labels:
    values = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
    return Labels(**({"columns": {"action": values}, "specs": {"action": ACTION}} | fields))


def test_every_step_is_labelled_unless_it_says_otherwise() -> None:
    made = labels()
    assert (made.steps, made.valid["action"].tolist()) == (3, [True] * 3)
    with pytest.raises(ValueError, match="read-only"):
        made.columns["action"][0] = 0


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"columns": {}}, "must have a column"),
        ({"specs": {}}, "must have a column of that name in specs"),
        ({"columns": {"action": np.zeros((3, 3), np.float32)}}, r"rows of float32 \(2,\) as its column says, got float32 \(3,\)"),
        ({"columns": {"action": np.zeros((3, 2))}}, "got float64"),
        ({"valid": {"action": np.ones(2, np.bool_)}}, r"valid must be \(3,\) bool"),
        ({"confidence": {"action": np.ones(3)}}, r"confidence must be \(3,\) float32"),
        ({"confidence": {"action": np.array([0, 1.5, 0], np.float32)}}, r"confidence must be in \[0, 1\] or NaN"),
        ({"low": {"action": np.zeros((3, 2), np.float32)}}, "an interval must have both ends"),
        ({"low": {"action": np.zeros(3, np.float32)}, "high": {"action": np.zeros(3, np.float32)}}, "low must be shaped as the column"),
        ({"specs": {"action": replace(ACTION, action_source=None)}}, "an action that was not recorded must name its source"),
        ({"specs": {"action": replace(ACTION, action_source="commanded")}}, "got 'commanded'"),
        (
            {
                "columns": {name: np.zeros((3, 2), np.float32) for name in ("action", "action.low")},
                "specs": {"action": ACTION, "action.low": Column("action.low", shape=(2,))},
            },
            "the name is taken by what stands beside the column 'action'",
        ),
    ],
)
def test_labels_that_do_not_fit_together(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        labels(**fields)
