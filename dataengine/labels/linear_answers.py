"""What a linear map says, and the labels that this becomes: numbers with intervals from its errors, and classes with probabilities.

Of an entry with two levels the map says a score, +1 for the upper level and -1 for the lower; a logistic curve makes it a probability. The upper level is
said where it is more probable than usual, so that a rare class counts as much as a common one. The confidence of a step is the mean over the entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dataengine.core.action_spec import ActionSpec, spec_of_json
from dataengine.core.arrays import Array
from dataengine.core.displacement import displacement_of_json
from dataengine.core.labels import Labels
from dataengine.labels.targets import Target
from dataengine.schema.column_json import column_from_json, column_to_json
from dataengine.stats.logistic import Logistic, fit_logistic


@dataclass(frozen=True)
class Chance:
    """How a score of an entry with two levels becomes a probability of the upper one, and how often that is right in training."""

    entry: int
    curve: Logistic
    usual: float


@dataclass(frozen=True, eq=False)
class LinearTarget:
    """A target with what was learned of its errors: an interval is what the map says plus `low` (D,) to `high` (D,)."""

    target: Target
    spec: ActionSpec
    low: tuple[float, ...]
    high: tuple[float, ...]
    chances: tuple[Chance, ...]
    coverage: float

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "kind": self.target.kind,
            "column": column_to_json(self.target.column),
            "labels": column_to_json(self.target.labels),
            "displacement": self.target.displacement.as_json() if self.target.displacement is not None else None,
            "spec": self.spec.as_json(),
            "low": list(self.low),
            "high": list(self.high),
            "chances": [asdict(chance) for chance in self.chances],
            "coverage": self.coverage,
        }


def linear_target_of_json(document: Mapping[str, Any]) -> LinearTarget:
    """Return the target that `as_json` gave."""
    displacement = displacement_of_json(document["displacement"]) if document["displacement"] is not None else None
    target = Target(document["kind"], column_from_json(document["column"]), column_from_json(document["labels"]), displacement)
    chances = tuple(Chance(each["entry"], Logistic(**each["curve"]), each["usual"]) for each in document["chances"])
    return LinearTarget(target, spec_of_json(document["spec"]), tuple(document["low"]), tuple(document["high"]), chances, float(document["coverage"]))


def _two_levels(spec: ActionSpec) -> dict[int, tuple[float, float]]:
    """Return the entries of two levels, and the levels."""
    return {part.entries[0]: (part.levels[0], part.levels[-1]) for part in spec.of_kind("levels") if len(part.levels) == 2}


def wanted(spec: ActionSpec, measured: Array) -> Array:
    """Return what the map shall say where this was measured, (N, D): the numbers, and +1 or -1 for entries of two levels."""
    found = np.array(measured, np.float64)
    for entry, (low, high) in _two_levels(spec).items():
        found[:, entry] = np.where(measured[:, entry] > (low + high) / 2, 1.0, -1.0)
    return found


def linear_target(target: Target, spec: ActionSpec, measured: Array, said: Array, coverage: float) -> LinearTarget:
    """Return a target with its intervals and probabilities, from what the map says (N, D) of rows that it did not learn from and what was measured there."""
    errors = wanted(spec, measured) - said
    edge = (1 - coverage) / 2
    low, high = np.quantile(errors, [edge, 1 - edge], axis=0, method="inverted_cdf")
    chances = []
    for entry, (first, second) in _two_levels(spec).items():
        upper = measured[:, entry] > (first + second) / 2
        chances.append(Chance(entry, fit_logistic(said[:, entry], upper), float(np.clip(upper.mean(), 0.01, 0.99))))
    return LinearTarget(target, spec, tuple(low.tolist()), tuple(high.tolist()), tuple(chances), coverage)


def as_labels(targets: Sequence[LinearTarget], said: Array, known: Array) -> Labels:
    """Return the labels of an episode from what the map says of its steps (T, all D) and where it saw something (T,) bool."""
    columns, valid, lows, highs, confidence = {}, {}, {}, {}, {}
    first = 0
    for each in targets:
        width = each.spec.width
        values = said[:, first : first + width]
        first += width
        column = each.target.labels
        low, high = values + np.array(each.low), values + np.array(each.high)
        spreads = {entry: spread for part in each.spec.of_kind("scaled") for entry, spread in zip(part.entries, part.spread, strict=True)}
        # Of a number that share of what usually varies which its interval leaves no doubt of, as models of inverse dynamics count it; of a level how often it is right.
        sure = [np.full(len(said), 1 / (1 + ((each.high[entry] - each.low[entry]) / 2 / spread) ** 2)) for entry, spread in spreads.items()]
        values = values.copy()
        for part in each.spec.of_kind("constant"):
            for array in (values, low, high):
                array[:, list(part.entries)] = np.array(part.levels)
        levels = _two_levels(each.spec)
        for chance in each.chances:
            bottom, top = levels[chance.entry]
            probability = chance.curve(said[:, first - width + chance.entry])
            upper = probability > chance.usual
            values[:, chance.entry] = np.where(upper, top, bottom)
            right = np.where(upper, probability, 1 - probability)
            sure.append(right)
            doubtful = right < each.coverage  # then both levels are needed to cover as much
            low[:, chance.entry] = np.where(doubtful, bottom, values[:, chance.entry])
            high[:, chance.entry] = np.where(doubtful, top, values[:, chance.entry])
        name, shape = column.name, (len(said), *(size or 0 for size in column.shape))
        columns[name], lows[name], highs[name] = (array.reshape(shape).astype(column.dtype) for array in (values, low, high))
        valid[name] = known
        confidence[name] = np.where(known, np.mean(sure, axis=0) if sure else 1.0, 0.0).astype(np.float32)
    specs = {each.target.labels.name: each.target.labels for each in targets}
    return Labels(columns, specs, valid, lows, highs, confidence)
