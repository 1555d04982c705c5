"""To what each step of a chunk of actions refers, and the maths of going there and back: numbers, and poses base_from_tool.

`skipped` (..., A) are steps that do not exist: nothing refers to them, they refer to what exists.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from dataengine.core.arrays import Array

Reference = Literal["state", "first", "previous"]
PoseFrame = Literal["tool", "base"]
REFERENCES: tuple[Reference, ...] = get_args(Reference)
POSE_FRAMES: tuple[PoseFrame, ...] = get_args(PoseFrame)
Poses = tuple[Array, Array]  # (..., 3) positions and (..., 3, 3) rotations


def _before(skipped: Array) -> Array:
    """Return (..., A) the index of the last step before each that exists, -1 where there is none."""
    steps = np.where(skipped, -1, np.arange(skipped.shape[-1]))
    latest = np.maximum.accumulate(steps, axis=-1)
    return np.concatenate([np.full((*skipped.shape[:-1], 1), -1), latest[..., :-1]], axis=-1)


def _first(skipped: Array) -> Array:
    """Return (..., A) whether a step is the first that exists."""
    return np.asarray(~skipped & (_before(skipped) < 0))


def differences(values: Array, now: Array | None, skipped: Array, to: Reference) -> Array:
    """Return (..., A, K) values less their references; `now` is (..., 1, K)."""
    zero = np.zeros_like(values[..., :1, :])
    reference = _chosen(values, zero if now is None else now, skipped, to)
    return np.asarray(values - reference)


def _chosen(values: Array, now: Array, skipped: Array, to: Reference) -> Array:
    """Return (..., A, K) the reference of each step among (..., A, K) values and (..., 1, K) now."""
    if to == "state":
        return np.broadcast_to(now, values.shape)
    if to == "previous":
        index = _before(skipped)
    else:  # the first refers to nothing, which here is `now`
        first = np.argmax(_first(skipped), axis=-1)[..., None]
        index = np.where(_first(skipped) | skipped.all(axis=-1, keepdims=True), -1, first)
    taken = np.take_along_axis(values, np.maximum(index, 0)[..., None], axis=-2)
    return np.where(index[..., None] < 0, now, taken)


def sums(moves: Array, now: Array | None, skipped: Array, to: Reference) -> Array:
    """Return (..., A, K) absolute values: the way back of `differences`."""
    if to == "state":
        assert now is not None
        return np.asarray(now + moves)
    if to == "previous":
        assert now is not None
        still = skipped[..., None]
        return np.asarray(now + np.cumsum(np.where(still, 0, moves), axis=-2) + np.where(still, moves, 0))
    first = _first(skipped)[..., None]
    return np.where(first, moves, moves + np.sum(np.where(first, moves, 0), axis=-2, keepdims=True))


def pose_references(targets: Poses, now: Poses | None, skipped: Array, to: Reference) -> Poses:
    """Return the (..., A) poses to which (..., A) target poses refer; `now` is (..., 1) poses."""
    position, matrices = targets
    flat = matrices.reshape(*matrices.shape[:-2], 9)
    if now is None:
        now = np.zeros_like(position[..., :1, :]), np.broadcast_to(np.eye(3), (*matrices.shape[:-3], 1, 3, 3))
    turned = _chosen(flat, now[1].reshape(*now[1].shape[:-2], 9), skipped, to)
    return _chosen(position, now[0], skipped, to), turned.reshape(matrices.shape)


def seen_from(reference: Poses, target: Poses, frame: PoseFrame) -> Poses:
    """Return the relative poses of targets."""
    back = np.swapaxes(reference[1], -1, -2)
    moved = target[0] - reference[0]
    if frame == "base":
        return moved, target[1] @ back
    return np.asarray((back @ moved[..., None])[..., 0]), back @ target[1]


def _placed(reference: Poses, move: Poses, frame: PoseFrame) -> Poses:
    """Return the poses that relative ones stand for: the way back of `seen_from`."""
    if frame == "base":
        return reference[0] + move[0], move[1] @ reference[1]
    return reference[0] + (reference[1] @ move[0][..., None])[..., 0], reference[1] @ move[1]


def followed(moves: Poses, now: Poses | None, skipped: Array, to: Reference, frame: PoseFrame) -> Poses:
    """Return the absolute poses of (..., A) relative ones, step by step where each follows the one before."""
    position, matrices = moves
    if to == "state":
        assert now is not None
        return _placed(now, moves, frame)
    if to == "first":
        first = _first(skipped)
        index = np.argmax(first, axis=-1)[..., None, None]
        start = np.take_along_axis(position, index, axis=-2), np.take_along_axis(matrices, index[..., None], axis=-3)
        placed = _placed(start, moves, frame)
        alone = (first | skipped.all(axis=-1, keepdims=True))[..., None]
        return np.where(alone, position, placed[0]), np.where(alone[..., None], matrices, placed[1])
    assert now is not None
    at: Poses = (now[0][..., 0, :], now[1][..., 0, :, :])
    places, turns = [], []
    for step in range(position.shape[-2]):
        still = skipped[..., step]
        new = _placed(at, (position[..., step, :], matrices[..., step, :, :]), frame)
        at = np.where(still[..., None], at[0], new[0]), np.where(still[..., None, None], at[1], new[1])
        places.append(new[0])
        turns.append(new[1])
    return np.stack(places, axis=-2), np.stack(turns, axis=-3)
