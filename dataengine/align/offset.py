"""Estimate by how much a camera's clock and the clock of a body's motion disagree, from how much the pictures change.

The idea: what changes between two pictures is what moved between their times. For every lag of a grid the displacement of the body between the two
(shifted) times of each pair of pictures is compared with the change of the picture, by normalised cross-correlation. The displacement is taken over the very
interval of the pair, so a dropped frame, a jittery clock and the half frame between a difference and its picture need no correction, and only the body's
own samples are interpolated, inside this estimate alone.

Sign: the offset is *image clock minus motion clock*. A hand-worked example: a hand moves at 1.000 s by the motion's clock. The picture that shows
it moving was exposed at that moment but stamped 1.040 s, when it arrived. The offset is +40 ms; the picture's time on the motion's clock is its stamp
minus the offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S

Reason = Literal["few_pictures", "too_fast", "no_motion", "still_pictures", "no_overlap", "weak_correlation", "beyond_search", "ambiguous"]

SEARCH_NS = 400_000_000  # lags tried on either side; no camera that is used for control is later than this
MIN_PAIRS = 16
MIN_OVERLAP = 0.75  # of the pairs must lie inside the motion's time at a lag
MIN_CORRELATION = 0.6
MIN_CONFIDENCE = 0.85
MIN_LEAD = 0.1  # over the next peak: a motion that repeats itself fits at several lags
LAGS_A_FRAME = 5
MIN_STEP_NS = 4_000_000  # between lags: finer ones would only cost time
MIN_FRAME_NS = 1_000_000
MAX_VALUES = 1 << 22  # of a motion; of a longer one every second sample is taken, or every third, and so on
NOISE_RATIO = 1.0  # mean squared step over variance: 2 for white noise, far below 1 for a body that moves
BLOCKS = 12
RUNS = 4
RUN_ROWS = 24  # a shorter run shows no more than one move
AGREE_NS = 50_000_000
AGREE_FRAMES = 0.75
RESOLUTION_NS = 10_000
RESAMPLINGS = 200
KNEE = 0.3  # of the mean: changes far below it are noise; far above it a picture cannot change twice as much when twice as much moves


@dataclass(frozen=True, eq=False)
class ImageMotion:
    """How much a camera's picture changed in each of M pairs of pictures: `start_ns` and `end_ns` (M,) int64, `change` (M,) float64 >= 0."""

    start_ns: Array
    end_ns: Array
    change: Array

    def __len__(self) -> int:
        return len(self.change)


@dataclass(frozen=True, eq=False)
class BodyMotion:
    """How a body moved: `times_ns` (N,) int64 that do not step back, `values` (N, D) positions in any unit, or speeds where `speeds` is true."""

    name: str
    times_ns: Array
    values: Array
    speeds: bool = False


@dataclass(frozen=True)
class ClockOffset:
    """An estimate of image clock minus motion clock.

    `offset_ns` is None where the evidence does not suffice, and `reason` then says why. `confidence` is the share of resamplings of the evidence that agree with
    the estimate within three quarters of a frame or 50 ms, `correlation` the height of the peak, `spread_ns` the standard deviation of the resampled estimates, `frame_ns` the
    median time between two pictures, `motion` the name of the motion that it was compared with.
    """

    offset_ns: int | None
    confidence: float
    correlation: float
    spread_ns: int
    frame_ns: int
    motion: str
    reason: Reason | None = None


def _abstain(reason: Reason, frame_ns: int, motion: str, correlation: float = 0.0, confidence: float = 0.0, spread_ns: int = 0) -> ClockOffset:
    return ClockOffset(None, confidence, correlation, spread_ns, frame_ns, motion, reason)


def _positions(motion: BodyMotion, origin_ns: int, from_s: float, to_s: float) -> tuple[Array, Array]:
    """Return times (N,) float64 s from `origin_ns` and positions (N, D') float64 of what moves between two times; speeds are summed up to positions."""
    every = 1 + motion.values.size // MAX_VALUES
    times_ns, values = motion.times_ns[::every], motion.values[::every]
    values = values.reshape(len(values), -1).astype(np.float64)
    there = np.isfinite(values).all(axis=1)
    there[1:] &= times_ns[1:] > times_ns[:-1]
    times_s, values = (times_ns[there] - origin_ns) / NS_PER_S, values[there]
    values = values[:, _moving(times_s, values, from_s, to_s)]
    if motion.speeds and values.size:
        steps = (values[1:] + values[:-1]) / 2 * np.diff(times_s)[:, None]
        values = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(steps, axis=0)])
    return times_s, values


def _displacement(times_s: Array, positions: Array, start_s: Array, end_s: Array) -> Array:
    """Return how far the body went between times, of the shape of `start_s`; every dimension in its own standard deviation."""
    total = np.zeros(start_s.shape)
    for column in positions.T:
        squared = (np.interp(end_s, times_s, column) - np.interp(start_s, times_s, column)) ** 2
        total += squared / max(float(column.var()), 1e-300)
    return np.asarray(np.sqrt(total))


def _moving(times_s: Array, values: Array, from_s: float, to_s: float) -> Array:
    """Return which dimensions move rather than tremble, judged by the recorded samples from one time to another."""
    inside = values[(times_s >= from_s) & (times_s <= to_s)]
    if len(inside) < MIN_PAIRS:
        return np.zeros(0, dtype=np.int64)
    squared, variance = (np.diff(inside, axis=0) ** 2).mean(axis=0), inside.var(axis=0)
    return np.flatnonzero((variance > (1e-9 * np.abs(inside).max(axis=0)) ** 2) & (squared > 0) & (squared < NOISE_RATIO * variance))


def compressed(change: Array) -> Array:
    """Return the logarithm of a change, with the knee at a share of its mean."""
    return np.asarray(np.log(change + KNEE * change.mean() + 1e-300))


def correlations(image: Array, body: Array, there: Array) -> tuple[Array, Array]:
    """Return the correlation (L,) at each lag, and (R, L) that of resampled blocks of pairs; `image` is (M,), `body` and `there` (L, M)."""
    pairs = len(image)
    blocks = min(BLOCKS, pairs // 4)
    starts = np.arange(blocks) * pairs // blocks
    weight = there.astype(np.float64)
    parts = (np.ones_like(body), image[None], body, image[None] ** 2, body**2, image[None] * body)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLINGS)
    draws = np.concatenate([np.ones((1, blocks)), drawn]).T  # (K, 1 + R)
    # Sums in one fixed order: a product of matrices may add in another one with other threads, and the result would not be the same everywhere.
    count, x, y, xx, yy, xy = (np.einsum("lk,kr->lr", np.add.reduceat(weight * part, starts, axis=1), draws) for part in parts)
    count = np.maximum(count, 1)
    spread = (xx - x * x / count) * (yy - y * y / count)
    found = (xy - x * y / count) / np.sqrt(np.maximum(spread, 1e-18))
    found[there.sum(axis=1) < max(MIN_OVERLAP * pairs, MIN_PAIRS // 2)] = -1.0
    found = np.nan_to_num(found, nan=-1.0, posinf=-1.0, neginf=-1.0)
    return found[:, 0], found[:, 1:].T


def _peaks(curves: Array) -> Array:
    """Return where each curve (R, L) is highest, in lags, between the lags by the parabola through the three highest points."""
    top = curves.argmax(axis=1)
    inside = np.clip(top, 1, curves.shape[1] - 2)
    rows = np.arange(len(curves))
    before, at, after = curves[rows, inside - 1], curves[rows, inside], curves[rows, inside + 1]
    bend = before - 2 * at + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1.0), 0.0)
    return np.asarray(np.where(inside == top, inside + np.clip(shift, -0.5, 0.5), top))


def _runner_up(curve: Array, apart: int) -> float:
    """Return the height of the highest other peak of a curve (L,), at least so many lags from its highest; -1 where there is none."""
    inner = np.concatenate([[-np.inf], curve, [-np.inf]])
    peaks = np.flatnonzero((curve >= inner[:-2]) & (curve > inner[2:]))
    others = peaks[np.abs(peaks - curve.argmax()) >= apart]
    return float(curve[others].max()) if len(others) else -1.0


def _against(image: ImageMotion, motion: BodyMotion, frame_ns: int, search_ns: int) -> ClockOffset:
    origin_ns = int(image.start_ns[0])
    start_s, end_s = (image.start_ns - origin_ns) / NS_PER_S, (image.end_ns - origin_ns) / NS_PER_S
    times_s, positions = _positions(motion, origin_ns, float(start_s.min()), float(end_s.max()))
    if not positions.size:
        return _abstain("no_motion", frame_ns, motion.name)
    step_ns = max(frame_ns // LAGS_A_FRAME, MIN_STEP_NS)
    half = -(-search_ns // step_ns)
    lags_s = np.arange(-half, half + 1) * (step_ns / NS_PER_S)
    shifted_start, shifted_end = start_s[None] - lags_s[:, None], end_s[None] - lags_s[:, None]
    there = (shifted_start >= times_s[0]) & (shifted_end <= times_s[-1])
    body = _displacement(times_s, positions, shifted_start, shifted_end)
    curve, resampled = correlations(compressed(image.change), np.log(body + KNEE * body[there].mean() if there.any() else body + 1.0), there)
    height = float(curve.max())
    if height < -0.5:
        return _abstain("no_overlap", frame_ns, motion.name)
    place = float(_peaks(curve[None])[0])
    offset_ns = round((place - half) * step_ns / RESOLUTION_NS) * RESOLUTION_NS
    away = (_peaks(resampled) - place) * step_ns
    agree_ns = max(int(frame_ns * AGREE_FRAMES), AGREE_NS)
    confidence = float((np.abs(away) <= agree_ns).mean())
    spread_ns = round(float(np.sqrt((away**2).mean())) / RESOLUTION_NS) * RESOLUTION_NS
    if height < MIN_CORRELATION:
        return _abstain("weak_correlation", frame_ns, motion.name, height, confidence, spread_ns)
    if not 1 <= curve.argmax() <= len(curve) - 2:
        return _abstain("beyond_search", frame_ns, motion.name, height, confidence, spread_ns)
    if confidence < MIN_CONFIDENCE or height - _runner_up(curve, 1 + agree_ns // step_ns) < MIN_LEAD:
        return _abstain("ambiguous", frame_ns, motion.name, height, confidence, spread_ns)
    return ClockOffset(offset_ns, confidence, height, spread_ns, frame_ns, motion.name)


def displacements(motion: BodyMotion, start_ns: Array, end_ns: Array) -> Array:
    """Return how far a body went in each interval, (M,) in standard deviations of its positions; zeros where it does not move."""
    origin_ns = int(start_ns[0])
    start_s, end_s = (start_ns - origin_ns) / NS_PER_S, (end_ns - origin_ns) / NS_PER_S
    times_s, positions = _positions(motion, origin_ns, float(start_s.min()), float(end_s.max()))
    return _displacement(times_s, positions, start_s, end_s) if positions.size else np.zeros(len(start_ns))


def busiest_rows(times_ns: Array, motions: Sequence[BodyMotion], rows: int) -> list[Array]:
    """Choose runs of a camera's rows, `rows` in all: from each part of a long recording the run in which the body's speed changes most.

    A body that goes on steadily looks the same at every lag; one that starts and stops tells them apart.

    Args:
        times_ns: (N,) the camera's times, which do not step back.
        motions: what may have moved; the first that did counts.
        rows: how many rows to choose; all where there are no more.
    """
    count = len(times_ns)
    if count <= rows:
        return [np.arange(count)]
    moved = np.zeros(count - 1)
    for motion in motions:
        moved = displacements(motion, times_ns[:-1], times_ns[1:])
        if moved.any():
            break
    runs = max(1, min(RUNS, rows // RUN_ROWS))
    sums = np.concatenate([np.zeros((2, 1)), np.cumsum([moved, moved**2], axis=1)], axis=1)  # (2, N)
    chosen: list[Array] = []
    bounds = np.linspace(0, count, runs + 1).astype(np.int64)
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        length = min(rows // runs, last - first)
        within, squared = sums[:, first + length - 1 : last] - sums[:, first : last - length + 1]
        start = first + int(np.argmax(squared - within**2 / max(1, length - 1)))
        chosen.append(np.arange(start, start + length))
    return chosen


def estimate_offset(image: ImageMotion, motions: Sequence[BodyMotion], search_ns: int = SEARCH_NS) -> ClockOffset:
    """Estimate image clock minus motion clock, against whichever motion explains the pictures best."""
    if len(image) < MIN_PAIRS:
        return _abstain("few_pictures", 0, "")
    frame_ns = int(np.median(image.end_ns - image.start_ns))
    if frame_ns < MIN_FRAME_NS:
        return _abstain("too_fast", frame_ns, "")
    if not image.change.mean() > 0 or image.change.std() < 1e-3 * image.change.mean():
        return _abstain("still_pictures", frame_ns, "")
    found = [_against(image, motion, frame_ns, search_ns) for motion in motions]
    if not found:
        return _abstain("no_motion", frame_ns, "")
    return max(found, key=lambda one: (one.offset_ns is not None, one.confidence * max(one.correlation, 0.0)))
