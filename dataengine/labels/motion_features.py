"""Plain features of pictures that a linear map can read: pooled optical flow, pooled differences, or one picture through fixed random waves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array

FeatureKind = Literal["flow", "difference", "picture"]
WAVES = 1024
WAVE_LENGTH = 6.0  # in units of the usual distance of two pooled pixels of unlike pictures: a longer one is smoother


def pooled(values: Array, grid: int) -> Array:
    """Return (grid, grid, C) means over the cells of a grid of (H, W, C)."""
    rows = np.linspace(0, values.shape[0], grid + 1).round().astype(int)[:-1]
    columns = np.linspace(0, values.shape[1], grid + 1).round().astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    sizes = np.diff([*rows, values.shape[0]])[:, None] * np.diff([*columns, values.shape[1]])[None, :]
    return np.asarray(sums / sizes[..., None])


def flow(before: Array, after: Array, grid: int) -> Array:
    """Return dense optical flow (Farneback 2003) between two pictures (H, W, 3), pooled, in px of the picture: (grid * grid * 2,) float32."""
    import cv2

    first, second = cv2.cvtColor(np.ascontiguousarray(before), cv2.COLOR_RGB2GRAY), cv2.cvtColor(np.ascontiguousarray(after), cv2.COLOR_RGB2GRAY)
    window = max(5, round(first.shape[0] * 9 / 64))
    found = cv2.calcOpticalFlowFarneback(first, second, np.zeros((*first.shape, 2), np.float32), 0.5, 3, window, 3, 5, 1.1, 0)
    return pooled(np.asarray(found, np.float32), grid).astype(np.float32).reshape(-1)


def difference(before: Array, after: Array, grid: int) -> Array:
    """Return by how much each colour changed, pooled, as a share of its range: (grid * grid * 3,) float32."""
    return (pooled(after.astype(np.float32) - before.astype(np.float32), grid) / 255).astype(np.float32).reshape(-1)


PAIRS: Mapping[str, Callable[[Array, Array, int], Array]] = {"flow": flow, "difference": difference}
CHANNELS: Mapping[str, int] = {"flow": 2, "difference": 3, "picture": 3}


def pair_features(pictures: Array, there: Array, before: Array, after: Array, kind: str, grid: int) -> Array:
    """Return features of pairs of pictures, each pair that occurs several times looked at once.

    Args:
        pictures: (T, H, W, 3) uint8.
        there: (n, P) bool: whether both pictures of a pair are there; the features of one that is not are 0, and a mark says so.
        before, after: (n, P) int64 rows of `pictures`.
        kind: "flow" or "difference".
        grid: cells along each side.

    Returns:
        (n, P * (F + 1)) float32.
    """
    width = grid * grid * CHANNELS[kind]
    found = np.zeros((*there.shape, width + 1), np.float32)
    found[..., -1] = ~there
    pairs, places = np.unique(np.stack([before[there], after[there]], axis=1), axis=0, return_inverse=True)
    if len(pairs):
        looked = np.stack([PAIRS[kind](pictures[first], pictures[second], grid) for first, second in pairs])
        found[there, :-1] = looked[places.reshape(-1)]
    return found.reshape(len(found), -1)


def picture_features(pictures: Array, seen: Array, grid: int) -> Array:
    """Return features of single pictures: pooled colours, and cosines of random directions in them, by which a linear map is a smooth function of the picture.

    Args:
        pictures: (n, H, W, 3) uint8.
        seen: (n,) bool; those not seen are 0 with a mark.
        grid: cells along each side.

    Returns:
        (n, grid * grid * 3 + WAVES + 1) float32.
    """
    width = grid * grid * CHANNELS["picture"]
    found = np.zeros((len(pictures), width + WAVES + 1), np.float32)
    found[:, -1] = ~seen
    if not seen.any():
        return found
    small = np.stack([pooled(picture.astype(np.float32), grid).reshape(-1) / 255 for picture in pictures[seen]])
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(width, WAVES)) / WAVE_LENGTH
    phases = rng.uniform(0, 2 * np.pi, WAVES)
    found[seen, :width] = small
    found[seen, width:-1] = np.cos(small.astype(np.float64) @ directions + phases)
    return found
