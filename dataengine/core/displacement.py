"""What a body achieved between two steps: the change of its state, positions as differences and rotations on SO(3), in the frame of the state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dataengine.core.action_spec import NO_ROTATION, ActionSpec, RotationEntries, SpecPart, is_rotation, names_of, rotation_matrix
from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.pose import rotvec_from_matrix

SUFFIX = ".delta"
STILL_STD = 1e-9  # of what never moves


@dataclass(frozen=True)
class Displacement:
    """The change of a state of S numbers: `before` and `after` → D numbers.

    Entries that are no rotation come first, as differences in the units of the state; then for each rotation the three numbers of the rotation vector of
    R_after R_before^T in rad, so that a turn across +-pi is a small one. The frame is that of the state ("world" convention), not that of the tool.
    """

    name: str
    plain: tuple[int, ...]
    rotations: tuple[RotationEntries, ...]
    dims: tuple[str, ...]

    def between(self, before: Array, after: Array) -> Array:
        """Return (..., D) float64 of two states (..., S); NaN where a state says no number."""
        first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
        whole: Array = np.asarray(np.isfinite(first).all(-1) & np.isfinite(second).all(-1))
        found = [second[..., list(self.plain)] - first[..., list(self.plain)]]
        for rotation in self.rotations:
            chosen = list(rotation.entries)
            identity = NO_ROTATION[rotation.kind]
            known = [is_rotation(rotation.kind, np.where(whole[..., None], each[..., chosen], identity)) for each in (first, second)]
            empty = ~(whole & known[0] & known[1])
            turns = [rotation_matrix(rotation.kind, np.where(empty[..., None], identity, each[..., chosen]), rotation.gain) for each in (second, first)]
            turn = rotvec_from_matrix(turns[0] @ np.swapaxes(turns[1], -1, -2))
            found.append(np.where(empty[..., None], np.nan, turn))
        return np.concatenate(found, axis=-1)

    def unit(self, unit: str | None) -> str | None:
        """Return the unit of its numbers, given that of the state: rotation vectors are in rad, whatever the state's angles are in."""
        if not self.rotations:
            return unit
        others = [each.strip() for each in (unit or "").split(",") if not re.fullmatch(r"(.* )?(rad|deg)|", each.strip())]
        return ", ".join([*(others if self.plain else ()), "rad"])

    def spec(self, mean: Array, std: Array, low: Array, high: Array) -> ActionSpec:
        """Return how it is predicted, from mean, standard deviation, smallest and largest of each of the D numbers in training: all are numbers on a scale.

        A turn within one step is far below pi, where the rotation vector is as good as the rotation. What never changes has a spread of 1 and stays between its bounds.
        """
        spread = np.where(std > STILL_STD, std, 1.0)
        parts = [
            SpecPart("scaled", (entry,), (float(mean[entry]),), (float(spread[entry]),), low=(float(low[entry]),), high=(float(high[entry]),))
            for entry in range(len(self.dims))
        ]
        return ActionSpec(self.name, self.dims, tuple(parts))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name,
            "plain": list(self.plain),
            "rotations": [{**asdict(rotation), "entries": list(rotation.entries)} for rotation in self.rotations],
            "dims": list(self.dims),
        }


def displacement_of(column: Column, width: int, rotations: tuple[RotationEntries, ...] = ()) -> Displacement:
    """Return the displacement of a state column of `width` numbers a row, some of whose entries are rotations."""
    dims = names_of(column, width)
    turned = {entry for rotation in rotations for entry in rotation.entries}
    plain = tuple(entry for entry in range(width) if entry not in turned)
    several = len(rotations) > 1
    names = [f"rotvec_{axis}{f'_{number}' if several else ''}" for number in range(len(rotations)) for axis in "xyz"]
    return Displacement(column.name + SUFFIX, plain, rotations, (*(dims[entry] for entry in plain), *names))


def displacement_of_json(document: Mapping[str, Any]) -> Displacement:
    """Return the displacement that `as_json` gave."""
    rotations = tuple(RotationEntries(each["kind"], tuple(each["entries"]), float(each["gain"])) for each in document["rotations"])
    return Displacement(str(document["name"]), tuple(document["plain"]), rotations, tuple(document["dims"]))
