"""Actions relative to where the robot is, and back: `DeltaActions` and `AbsoluteActions`, each the inverse of the other.

    to_delta = DeltaActions(dims=(0, 1, 2, 3, 4, 5))  # six joints; the gripper, entry 6, stays absolute
    umi = DeltaActions(poses=(PoseEntries(position=(0, 1, 2), rotation=(3, 4, 5, 6, 7, 8), kind="rot6d"),))
    policy_output = Chain((umi, normalise)).inverse(policy_output)

A chunk (..., A, D) is taken relative `to`

- "state": each step to the state of now.
- "first": each step to the chunk's first, which itself stays absolute. No state is needed.
- "previous": each step to the one before it, the first to the state of now.

Entries in `dims` are subtracted. Poses are base_from_tool: in the frame "tool" a relative pose is the target seen from the reference,
reference_from_target = base_from_reference^-1 base_from_target (as UMI does, Chi et al. 2024); in "base" the difference of the positions, and the
rotation R_target R_reference^T. Everything else stays as it is.

Steps that do not exist (`action_is_pad`) become relative as the others do, so that a chunk whose end holds its last action holds it still, and they
come back alike; but nothing refers to them: the first of the chunk, and the one before, are those among the steps that exist. What is no number in
such a step (NaN, a quaternion of zeros) becomes no motion. Where the state of now does not exist (`state_is_pad`), nothing can be relative to it:
the steps of the chunk are no motion, all flagged as padded, and 0 when absolute again.

Computed in float64 and returned in the dtype of the actions: back again to within its rounding, which "previous" adds up over the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import RotationKind
from dataengine.core.errors import UnknownName
from dataengine.transforms.batch_fields import demand, floats_of, mask_of, padding_of
from dataengine.transforms.chunk_references import (
    POSE_FRAMES,
    REFERENCES,
    PoseFrame,
    Poses,
    Reference,
    differences,
    followed,
    pose_references,
    seen_from,
    sums,
)
from dataengine.transforms.rotations import WIDTHS, check_kind, rotation_numbers, told_matrices


@dataclass(frozen=True)
class PoseEntries:
    """The entries of an action that are a pose base_from_tool, or its rotation alone, and those of the state (the same, where they are not said).

    Args:
        rotation: entries of the rotation, in the order that its kind has them.
        kind: how it is written, in the action both absolute and relative.
        position: entries of x, y, z; none for a rotation alone.
        frame: of the relative pose: "tool" or "base".
        state_rotation: the rotation's entries in the state.
        state_kind: how the state writes it.
        state_position: the position's entries in the state.
    """

    rotation: tuple[int, ...]
    kind: RotationKind
    position: tuple[int, ...] = ()
    frame: PoseFrame = "tool"
    state_rotation: tuple[int, ...] | None = None
    state_kind: RotationKind | None = None
    state_position: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("rotation", "position", "state_rotation", "state_position"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for kind, entries, what in ((self.kind, self.rotation, "rotation"), (self.of_state.kind, self.of_state.rotation, "state_rotation")):
            check_kind(kind)
            demand(len(entries) == WIDTHS[kind], f"PoseEntries: {what} of kind {kind!r} must have {WIDTHS[kind]} entries, got {entries}")
        demand(len(self.position) in (0, 3), f"PoseEntries: position must have the three entries of x, y, z, or none; got {self.position}")
        demand(len(self.of_state.position) == len(self.position), f"PoseEntries: state_position must be like position, got {self.state_position}")
        if self.frame not in POSE_FRAMES:
            raise UnknownName("frame", self.frame, POSE_FRAMES)

    @property
    def of_state(self) -> _Where:
        """Return the entries in the state."""
        rotation = self.rotation if self.state_rotation is None else self.state_rotation
        return _Where(rotation, self.state_kind or self.kind, self.position if self.state_position is None else self.state_position)

    @property
    def of_action(self) -> _Where:
        """Return the entries in the action."""
        return _Where(self.rotation, self.kind, self.position)


@dataclass(frozen=True)
class _Where:
    rotation: tuple[int, ...]
    kind: RotationKind
    position: tuple[int, ...]

    def read(self, name: str, array: Array, excused: Array) -> tuple[Poses, Array]:
        """Return (..., 3) positions, 0 where there are none, and (..., 3, 3) rotations, the identity where the excused say none; and (...) where that is."""
        matrices, empty = told_matrices(name, self.kind, array[..., list(self.rotation)], excused)
        found = array[..., list(self.position)].astype(np.float64) if self.position else np.zeros((*array.shape[:-1], 3))
        return (found, matrices), empty

    def write(self, array: Array, position: Array, matrices: Array) -> None:
        """Write poses into (..., D)."""
        array[..., list(self.rotation)] = rotation_numbers(self.kind, matrices)
        if self.position:
            array[..., list(self.position)] = position


@dataclass(frozen=True)
class _Relative:
    dims: tuple[int, ...] = ()
    poses: tuple[PoseEntries, ...] = ()
    to: Reference = "state"
    action: str = "action"
    state: str = "state"
    state_dims: tuple[int, ...] | None = None
    horizon: bool = True
    state_steps: bool = False

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for name in ("dims", "poses", "state_dims"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.to not in REFERENCES:
            raise UnknownName("reference", self.to, REFERENCES)
        taken = [*self.dims, *(entry for pose in self.poses for entry in (*pose.position, *pose.rotation))]
        demand(bool(taken), f"{kind}: must have dims or poses that are relative, got none")
        demand(len(set(taken)) == len(taken) and min(taken) >= 0, f"{kind}: each entry must be named once and not be negative, got {taken}")
        demand(len(self._in_state()) == len(self.dims), f"{kind}: state_dims must have an entry for each of dims {self.dims}, got {self.state_dims}")
        demand(self.horizon or self.to == "state", f"{kind}: actions without steps are relative to the state only, got to={self.to!r}")

    def _in_state(self) -> tuple[int, ...]:
        return self.dims if self.state_dims is None else self.state_dims

    def _parts(self, batch: Mapping[str, Any]) -> tuple[Array, Array, Array, Array]:
        """Return (..., A, D) actions, (..., A) which are padded, (..., 1, S) states of now and (..., 1) which of them do not exist."""
        entries = [*self.dims, *(entry for pose in self.poses for entry in (*pose.position, *pose.rotation))]
        action = floats_of(batch, self.action, f"whose entries {min(entries)} to {max(entries)} are made relative", max(entries) + 1)
        demand(action.ndim >= 2 or not self.horizon, f"batch[{self.action!r}]: must be (..., A, D), got {action.shape}; without steps, say horizon=False")
        padded = padding_of(batch, self.action, action.shape[:-1])
        if not self.horizon:
            action, padded = action[..., None, :], padded[..., None]
        if self.to == "first":
            return action, padded, np.zeros((*action.shape[:-2], 1, 0)), np.zeros((*action.shape[:-2], 1), bool)
        needed = [*self._in_state(), *(entry for pose in self.poses for entry in (*pose.of_state.position, *pose.of_state.rotation))]
        state = floats_of(batch, self.state, f"to which {self.action!r} is relative", max(needed) + 1)
        absent = padding_of(batch, self.state, state.shape[:-1])
        if self.state_steps:
            demand(state.ndim >= 2, f"batch[{self.state!r}]: must be (..., T, S), got {state.shape}; without steps, say state_steps=False")
            state, absent = state[..., -1, :], absent[..., -1]
        demand(
            state.shape[:-1] == action.shape[:-2],
            f"batch[{self.state!r}]: must be one state for each chunk of {self.action!r}, {(*action.shape[:-2], state.shape[-1])}, got {state.shape}; "
            f"the settings are horizon={self.horizon}, state_steps={self.state_steps}",
        )
        return action, padded, state[..., None, :], absent[..., None]

    def _has(self, batch: Mapping[str, Any], action: Array) -> Array:
        """Return bool, broadcast to (..., A, D): which entries of the action the body has; raise UsageError where the state lacks what they need."""
        has = mask_of(batch, self.action, action.shape[-1])
        if self.to != "first" and f"{self.state}_mask" in batch:
            entries, needed = [*self.dims], [*self._in_state()]
            for pose in self.poses:
                entries += [*pose.rotation[:1], *pose.position]
                needed += [*pose.of_state.rotation[:1], *pose.of_state.position]
            lacking = has[..., entries] & ~mask_of(batch, self.state, np.asarray(batch[self.state]).shape[-1])[..., needed]
            demand(not lacking.any(), f"batch['{self.state}_mask']: must have what {self.action!r} is relative to, got none of the entries {needed} for a body")
        return has if has.ndim in (1, action.ndim) else has[..., None, :]

    def _pose_now(self, pose: PoseEntries, state: Array, absent: Array, has: Array) -> Poses | None:
        if self.to == "first":
            return None
        return pose.of_state.read(self.state, state, absent | ~has[..., list(pose.rotation)].all(axis=-1))[0]

    def _result(self, batch: Mapping[str, Any], changed: Array, padded: Array, absent: Array) -> dict[str, Any]:
        flags = {}
        if (absent & ~padded).any():
            padded = padded | absent
            flags = {f"{self.action}_is_pad": padded if self.horizon else padded[..., 0]}
        changed = changed.astype(np.asarray(batch[self.action]).dtype)
        return {**batch, **flags, self.action: changed if self.horizon else changed[..., 0, :]}


@dataclass(frozen=True)
class DeltaActions(_Relative):
    """Make chunks of absolute actions relative: see the module.

    Args:
        dims: entries that are subtracted.
        poses: entries that are poses.
        to: the reference.
        action: the field of the chunks, (..., A, D).
        state: the field of the state, (..., S), or (..., T, S) with `state_steps`, whose last step is now.
        state_dims: for each of `dims` the entry of the state; the same where they are not said.
        horizon: whether the actions have steps (..., A, D); without, they are (..., D).
        state_steps: whether the state has steps.
    """

    @property
    def inverse(self) -> AbsoluteActions:
        """Return the way back."""
        return AbsoluteActions(**_settings(self))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        action, padded, state, absent = self._parts(batch)
        skipped = padded | absent
        has = self._has(batch, action)
        changed = action.astype(np.float64)
        dims = list(self.dims)
        if dims:
            now = state[..., list(self._in_state())] if self.to != "first" else None
            changed[..., dims] = _cleared(differences(changed[..., dims], now, skipped, self.to), padded, absent)
        for pose in self.poses:
            targets, empty = pose.of_action.read(self.action, action, skipped | ~has[..., list(pose.rotation)].all(axis=-1))
            position, matrices = seen_from(pose_references(targets, self._pose_now(pose, state, absent, has), skipped, self.to), targets, pose.frame)
            still = (absent | (padded & (empty | ~np.isfinite(position).all(axis=-1))))[..., None]
            pose.of_action.write(changed, np.where(still, 0, position), np.where(still[..., None], np.eye(3), matrices))
        return self._result(batch, np.where(has, changed, action), padded, absent)


@dataclass(frozen=True)
class AbsoluteActions(_Relative):
    """Make relative chunks absolute again: the inverse of `DeltaActions` with the same arguments."""

    @property
    def inverse(self) -> DeltaActions:
        """Return the way back."""
        return DeltaActions(**_settings(self))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        action, padded, state, absent = self._parts(batch)
        skipped = padded | absent
        has = self._has(batch, action)
        changed = action.astype(np.float64)
        dims = list(self.dims)
        if dims:
            now = state[..., list(self._in_state())] if self.to != "first" else None
            changed[..., dims] = _cleared(sums(changed[..., dims], now, skipped, self.to), padded, absent)
        for pose in self.poses:
            moves, _ = pose.of_action.read(self.action, action, skipped | ~has[..., list(pose.rotation)].all(axis=-1))
            position, matrices = followed(moves, self._pose_now(pose, state, absent, has), skipped, self.to, pose.frame)
            pose.of_action.write(changed, position, matrices)
            entries = [*pose.rotation, *pose.position]
            changed[..., entries] = _cleared(changed[..., entries], padded, absent)
        return self._result(batch, np.where(has, changed, action), padded, absent)


def _cleared(values: Array, padded: Array, absent: Array) -> Array:
    """Return (..., A, K) values, 0 where there is no state and where a padded step is no number."""
    return np.where(absent[..., None] | (padded[..., None] & ~np.isfinite(values)), 0, values)


def _settings(transform: _Relative) -> dict[str, Any]:
    return {field.name: getattr(transform, field.name) for field in fields(transform)}
