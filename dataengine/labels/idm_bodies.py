"""The bodies that an inverse-dynamics model speaks for: which datasets share heads, and what each of their targets is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dataengine.core.action_spec import ActionSpec, names_of, spec_of, spec_of_json
from dataengine.core.column import Column
from dataengine.core.column_statistics import COUNTS, ColumnStatistics
from dataengine.core.displacement import Displacement, displacement_of, displacement_of_json
from dataengine.core.errors import UsageError
from dataengine.core.training import DatasetFacts
from dataengine.labels.idm_rotations import rotations_of
from dataengine.models.inverse_dynamics_fit import BodyTargets
from dataengine.schema.column_json import column_from_json, column_to_json


@dataclass(frozen=True, eq=False)
class Body:
    """A body, or one way of commanding it: the datasets that it is in, what is commanded and what is achieved.

    `action` and `state` are the columns as recorded, None where the datasets have none; `command` and `displacement` what is made of them.
    """

    name: str
    datasets: tuple[str, ...]
    embodiment: str | None
    action: Column | None
    state: Column | None
    command: ActionSpec | None
    displacement: Displacement | None

    @property
    def targets(self) -> BodyTargets:
        """Return what a model learns of it."""
        return BodyTargets(self.command, self.displacement)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name,
            "datasets": list(self.datasets),
            "embodiment": self.embodiment,
            "action": column_to_json(self.action) if self.action is not None else None,
            "state": column_to_json(self.state) if self.state is not None else None,
            "command": self.command.as_json() if self.command is not None else None,
            "displacement": self.displacement.as_json() if self.displacement is not None else None,
        }


def body_of_json(document: Mapping[str, Any]) -> Body:
    """Return the body that `as_json` gave."""
    return Body(
        str(document["name"]),
        tuple(document["datasets"]),
        document["embodiment"],
        column_from_json(document["action"]) if document["action"] else None,
        column_from_json(document["state"]) if document["state"] else None,
        spec_of_json(document["command"]) if document["command"] else None,
        displacement_of_json(document["displacement"]) if document["displacement"] else None,
    )


def bodies_of(datasets: Sequence[DatasetFacts], targets: Sequence[str]) -> tuple[list[Body], list[int]]:
    """Return the bodies, and for each dataset the number of its own.

    Datasets share a body where they are of one embodiment and their columns mean the same.

    Raises:
        UsageError: a dataset has neither actions nor states.
    """
    groups: list[list[DatasetFacts]] = []
    numbers = []
    for facts in datasets:
        place = next((number for number, group in enumerate(groups) if _alike(group[0], facts)), len(groups))
        if place == len(groups):
            groups.append([])
        groups[place].append(facts)
        numbers.append(place)
    names = [group[0].embodiment or group[0].dataset for group in groups]
    unique = [name if names.count(name) == 1 else f"{name}/{group[0].dataset}" for name, group in zip(names, groups, strict=True)]
    return [_body(name, group, targets) for name, group in zip(unique, groups, strict=True)], numbers


def _meaning(facts: DatasetFacts, name: str) -> object:
    told = [(each.dims, each.unit, each.frame, each.action_space, each.shape) for each in facts.recorded(name)]
    return told, facts.statistics[name].shape if name in facts.statistics else None


def _alike(first: DatasetFacts, other: DatasetFacts) -> bool:
    same_body = first.embodiment == other.embodiment and first.embodiment is not None
    return same_body and all(_meaning(first, name) == _meaning(other, name) for name in ("action", "state"))


def _body(name: str, group: Sequence[DatasetFacts], targets: Sequence[str]) -> Body:
    action, acted = _column(group, "action") if "command" in targets else (None, None)
    state, stated = _column(group, "state") if "displacement" in targets else (None, None)
    if acted is None and stated is None:
        wanted = " or ".join({"command": "an action", "displacement": "a state"}[target] for target in targets)
        raise UsageError(f"dataset {group[0].dataset!r}: must have {wanted} column to learn from, found none; leave it out")
    acting, standing = (group[0].recorded(name) for name in ("action", "state"))
    command = spec_of(action, acted, rotations_of(acting)) if action is not None and acted is not None else None
    moved = displacement_of(state, stated.shape[-1], rotations_of(standing)) if state is not None and stated is not None else None
    if state is not None and stated is not None:
        _require_numbers(state, stated)
    if command is not None and not command.predicted_entries:
        raise UsageError(f"dataset {group[0].dataset!r}: its action must change in the training episodes, but is the same at every step; leave it out")
    return Body(name, tuple(facts.dataset for facts in group), group[0].embodiment, action, state, command, moved)


def _require_numbers(state: Column, stated: ColumnStatistics) -> None:
    """Refuse a state of which an entry never has a number: then no change of it is ever known whole."""
    empty = [name for name, count in zip(names_of(state, stated.shape[-1]), stated.array("count").reshape(-1), strict=True) if not count]
    if empty:
        raise UsageError(
            f"column {state.name!r}: each entry must have numbers in the training episodes, got none in {', '.join(empty)}; "
            "leave the dataset out, or learn commands alone, with targets: [command] under model in --config"
        )


def _column(group: Sequence[DatasetFacts], name: str) -> tuple[Column | None, ColumnStatistics | None]:
    """Return a column and what is known of its numbers; None where there is none, or no number in it."""
    statistics = [facts.statistics[name] for facts in group if name in facts.statistics]
    if not statistics:
        return None, None
    found = pooled(statistics)
    if not found.array("count").any():
        return None, None
    return group[0].columns.get(name) or _together(name, group[0].members.get(name, ()), found), found


def _together(name: str, members: Sequence[Column], found: ColumnStatistics) -> Column:
    """Return the column that stands for a role that is made of several."""
    dims = [f"{member.name}.{each}" for member in members for each in names_of(member, math.prod(size or 0 for size in member.shape))]
    units = dict.fromkeys(unit.strip() for member in members for unit in (member.unit or "").split(",") if unit.strip())
    frames = {member.frame for member in members}
    return Column(
        {"action": "action", "state": "observation.state"}[name],
        dtype="float32",
        shape=(found.shape[-1],),
        dims=tuple(dims) if len(dims) == found.shape[-1] else found.dims,
        unit=", ".join(units) or None,
        frame=frames.pop() if len(frames) == 1 else None,
        meaning=name,  # type: ignore[arg-type]
    )


def pooled(statistics: Sequence[ColumnStatistics]) -> ColumnStatistics:
    """Return what is known of a column in several datasets together; quantiles between are those of the widest spread."""
    first = statistics[0]
    if len(statistics) == 1:
        return first
    arrays = {
        name: np.stack([each.array(name) for each in statistics]).astype(np.float64)
        for name in ("count", "mean", "std", "min", "max", "q01", "q10", "q50", "q90", "q99", "not_finite", "distinct")
    }
    count = arrays["count"].sum(axis=0)
    share = arrays["count"] / np.maximum(count, 1)
    mean = (share * arrays["mean"]).sum(axis=0)
    std = np.sqrt((share * (np.square(arrays["std"]) + np.square(arrays["mean"] - mean))).sum(axis=0))
    low, high = arrays["min"].min(axis=0), arrays["max"].max(axis=0)
    apart = (arrays["min"] != low).any(axis=0) | (arrays["max"] != high).any(axis=0)
    distinct = np.where(apart, 3, arrays["distinct"].max(axis=0))
    middle = (share * arrays["q50"]).sum(axis=0)
    told = {
        "count": count, "not_finite": arrays["not_finite"].sum(axis=0), "distinct": distinct, "mean": mean, "std": std, "min": low, "max": high,
        "q01": arrays["q01"].min(axis=0), "q10": arrays["q10"].min(axis=0), "q50": middle, "q90": arrays["q90"].max(axis=0), "q99": arrays["q99"].max(axis=0),
    }  # fmt: skip
    listed: dict[str, Any] = {name: tuple(int(one) if name in COUNTS else float(one) for one in array.reshape(-1)) for name, array in told.items()}
    rows, nulls = (tuple(int(one) for one in np.sum([getattr(each, name) for each in statistics], axis=0)) for name in ("rows", "nulls"))
    return replace(first, rows=rows, nulls=nulls, rank_error=max(each.rank_error for each in statistics), **listed)
