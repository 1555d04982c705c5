"""What a model says of the steps of an episode, beside what was recorded: values with their intervals, confidences, and where they come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataengine.core.arrays import Array, read_only, require
from dataengine.core.column import Column
from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.core.names import require_slug

LOW, HIGH, CONFIDENCE = ".low", ".high", ".confidence"
SUFFIXES = (LOW, HIGH, CONFIDENCE)
_DIGEST = re.compile(r"[0-9a-f]{32}")
_TRAINED_ON = re.compile(r".+@[0-9]+")


@dataclass(frozen=True)
class LabelSet:
    """What all labels under one name have in common: one model with one set of parameters.

    Args:
        name: a slug.
        model: digest of the model, or of the method's name and version where nothing was trained; 32 hex digits.
        trained_on: `<store id>@<version>` that the model was trained on; None where nothing was trained.
        preprocessing: digest of what is done to frames and numbers before the model sees them, 32 hex digits; None for nothing.
        parameters: all else that affects the labels, as JSON.

    Raises:
        UsageError: one of them is not of this form.
    """

    name: str
    model: str
    trained_on: str | None = None
    preprocessing: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_slug("label set", self.name)
        for what, digest in (("model", self.model), ("preprocessing", self.preprocessing)):
            if digest is not None and not _DIGEST.fullmatch(digest):
                raise UsageError(f"label set {self.name!r}: {what} must be a digest of 32 hex digits, got {digest!r}; take it from `digest_bytes`")
        if self.trained_on is not None and not _TRAINED_ON.fullmatch(self.trained_on):
            raise UsageError(f"label set {self.name!r}: trained_on must be a store and a version, `<store id>@<version>`, got {self.trained_on!r}")

    @property
    def recipe(self) -> str:
        """Return the digest of everything but the name: equal for labels that may stand in one set."""
        return digest_json([self.model, self.trained_on, self.preprocessing, dict(self.parameters)])


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of one episode, T rows each: one a step of its trajectory.

    `columns[name]` are (T, ...) numbers, `specs[name]` say what they mean. `valid[name]` is (T,) bool, False where the model abstained (the number there
    means nothing and is stored as null); all steps where it is not given. `low[name]` and `high[name]` are the ends of an interval, shaped as the column.
    `confidence[name]` is (T,) float32 in [0, 1], NaN where the model gave none; it stays where the model abstained, since it says why.
    `label_set` and `read` (the version of the store whose episodes the model saw, None where that was no version) are there in what was stored.
    """

    columns: Mapping[str, Array]
    specs: Mapping[str, Column]
    valid: Mapping[str, Array] = field(default_factory=dict)
    low: Mapping[str, Array] = field(default_factory=dict)
    high: Mapping[str, Array] = field(default_factory=dict)
    confidence: Mapping[str, Array] = field(default_factory=dict)
    label_set: LabelSet | None = None
    read: int | None = None

    def __post_init__(self) -> None:
        require(bool(self.columns), "labels: must have a column, got none")
        steps = self.steps
        for name, values in self.columns.items():
            _require_column(name, values, steps, self.specs.get(name), self.columns)
        for what, group in (("low", self.low), ("high", self.high)):
            for name, ends in group.items():
                require(name in self.columns and ends.shape == self.columns[name].shape, f"labels {name!r}: {what} must be shaped as the column")
                require(ends.dtype == self.columns[name].dtype, f"labels {name!r}: {what} must be of the column's dtype, got {ends.dtype}")
        require(set(self.low) == set(self.high), "labels: an interval must have both ends, low and high")
        for name, mask in self.valid.items():
            require(name in self.columns and mask.dtype == np.bool_ and mask.shape == (steps,), f"labels {name!r}: valid must be ({steps},) bool")
        for name, said in self.confidence.items():
            require(name in self.columns and said.dtype == np.float32 and said.shape == (steps,), f"labels {name!r}: confidence must be ({steps},) float32")
            require(not bool(((said < 0) | (said > 1)).any()), f"labels {name!r}: confidence must be in [0, 1] or NaN")
        whole = {name: self.valid.get(name, np.ones(steps, dtype=np.bool_)) for name in self.columns}
        object.__setattr__(self, "valid", {name: read_only(mask) for name, mask in whole.items()})
        for group_name in ("columns", "low", "high", "confidence"):
            object.__setattr__(self, group_name, {name: read_only(array) for name, array in getattr(self, group_name).items()})

    @property
    def steps(self) -> int:
        """Return T."""
        return len(next(iter(self.columns.values())))


def _require_column(name: str, values: Array, steps: int, spec: Column | None, others: Mapping[str, Array]) -> None:
    require(len(values) == steps, f"labels {name!r}: must have {steps} rows, got {len(values)}")
    require(spec is not None and spec.name == name, f"labels {name!r}: must have a column of that name in specs")
    assert spec is not None
    require(values.dtype.kind in "biuf", f"labels {name!r}: must be numbers, got {values.dtype}")
    require(
        values.dtype.name == spec.dtype and values.shape[1:] == spec.shape,
        f"labels {name!r}: must be rows of {spec.dtype} {spec.shape} as its column says, got {values.dtype} {values.shape[1:]}",
    )
    taken = next((other for other in others for suffix in SUFFIXES if name == other + suffix), None)
    require(taken is None and name not in ("episode_id", "step"), f"labels {name!r}: the name is taken by what stands beside the column {taken!r}")
    require(
        spec.meaning != "action" or spec.action_source not in (None, "commanded"),
        f"labels {name!r}: an action that was not recorded must name its source (idm, latent, retargeted, planned, measured), got {spec.action_source!r}",
    )
