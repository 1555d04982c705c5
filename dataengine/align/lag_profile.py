"""By how many steps the actions of an episode and its pictures are apart: motion in the pictures against the size of the action, at lags of -5 to +5 steps.

Sign: the lag is where the action stands *relative to the motion it made*. Action t is given after picture t and acts before picture t + 1, so that in an episode whose body obeys
at once the change from picture t to t + 1 goes with action t: lag 0. A body that obeys a step late, or an action that was written a row too early, gives lag -1: the change from t
to t + 1 goes with action t - 1. An action that was written a row too late (beside the picture that shows what it did) gives lag +1, which no body can do.

The change of a picture is compared with the sum of the actions over the very time between its two pictures, so that a camera of another rate, a dropped frame or every second
picture need no correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataengine.align.offset import KNEE, BodyMotion, ImageMotion, compressed, correlations
from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.column import Column

Reason = Literal["few_pictures", "no_action", "still_pictures", "still_actions", "weak_correlation", "at_the_end", "ambiguous"]

MAX_LAG = 5
LAGS = tuple(range(-MAX_LAG, MAX_LAG + 1))
MIN_PAIRS = 24
MIN_CORRELATION = 0.45
CHANCE = 3.5  # standard deviations of a correlation of numbers that have nothing to do with each other: 1 / sqrt(pairs)
MIN_CONFIDENCE = 0.85
MIN_LEAD = 0.05  # over the best lag that was expected, before anyone is told
MIN_MOVING = 1e-6  # of the largest value: a dimension that varies less stands still
LATENCY_S = 0.25  # controllers and arms answer within this; cf. 1 to 2 steps of 5 Hz in Bridge, 1 of 20 Hz in Meta-World
_ABSOLUTE = {"joint_position": True, "ee_pose": True, "joint_velocity": False, "ee_delta": False, "ee_velocity": False, "base_velocity": False}


@dataclass(frozen=True, eq=False)
class ActionMotion:
    """How much an action asks for: `amount` (T,) >= 0 from `times_ns` (T,) to the next one; `changes` where it is the change of a command, whose first is not known."""

    times_ns: Array
    amount: Array
    changes: bool


@dataclass(frozen=True)
class LagProfile:
    """Correlation of motion and action at each of `LAGS`, NaN where they overlap too little.

    `lag` is the best one, None where the evidence does not suffice; `reason` then says why. `margin` is how far its correlation lies above the next best one,
    `confidence` the share of resamplings of the evidence that have the same best lag.
    """

    correlations: tuple[float, ...]
    lag: int | None
    correlation: float
    margin: float
    confidence: float
    pairs: int
    reason: Reason | None = None

    def lead(self, expected: tuple[int, int]) -> float:
        """Return how far the best correlation lies above the best at an expected lag (first, last); 0 where the best is expected or not known."""
        if self.lag is None or expected[0] <= self.lag <= expected[1]:
            return 0.0
        inside = [value for lag, value in zip(LAGS, self.correlations, strict=True) if expected[0] <= lag <= expected[1] and np.isfinite(value)]
        return self.correlation - max(inside, default=-1.0)

    def off(self, expected: tuple[int, int]) -> bool:
        """Whether the best lag is clearly none of those that were expected."""
        return self.lead(expected) >= MIN_LEAD


def plausible_lags(rate_hz: float | None) -> tuple[int, int]:
    """Return the lags that a sound recording may have: none after the motion, and before it no more than a controller's latency."""
    steps = 2 if rate_hz is None else int(np.ceil(LATENCY_S * rate_hz))
    return -min(max(steps, 1), MAX_LAG), 0


def _moving(values: Array, gripper: int | None) -> Array:
    """Return the dimensions (T, D') of an action that vary, the gripper's left out: it hardly shows in a picture."""
    values = values.reshape(len(values), -1).astype(np.float64)
    spread, largest = values.std(axis=0), np.abs(values).max(axis=0)
    keep = (spread > MIN_MOVING * largest) & np.isfinite(spread)
    if gripper is not None and gripper < len(keep):
        keep[gripper] = False
    return np.asarray(values[:, keep])


def _amount(values: Array) -> Array:
    """Return the size (T,) of rows (T, D), each dimension in its own root mean square."""
    size = np.sqrt((values**2).mean(axis=0))
    moving = size > 0
    return np.asarray(np.sqrt(((values[:, moving] / size[moving]) ** 2).sum(axis=1)))


def _gripper(column: Column) -> int | None:
    if column.action_space is not None and column.action_space.gripper is not None:
        return column.action_space.gripper.dimension
    named = [place for place, name in enumerate(column.dims or ()) if "gripper" in name.lower()]
    return named[0] if named else None


def action_motions(column: Column, values: Array, times_ns: Array) -> list[ActionMotion]:
    """Return how much an action asks for at each step: its size where it is a change or a speed, the size of its change where it is a place.

    Both, where nobody says what it is; nothing, where it is no motion (a torque) or never varies.
    """
    if len(values) < MIN_PAIRS or values.dtype.kind not in "fiu" or values.ndim > 2:
        return []
    space = column.action_space
    if space is not None and space.kind == "joint_torque":
        return []
    absolute = None if space is None else space.absolute if space.absolute is not None else _ABSOLUTE.get(space.kind)
    moving = _moving(values, _gripper(column))
    if not moving.shape[1]:
        return []
    found = []
    if absolute is not True:
        found.append(ActionMotion(times_ns, _amount(moving), False))
    if absolute is not False:
        found.append(ActionMotion(times_ns, np.concatenate([[0.0], _amount(np.diff(moving, axis=0))]), True))
    return [motion for motion in found if motion.amount.any()]


def as_body_motion(name: str, motion: ActionMotion) -> BodyMotion:
    """Return an action as a motion that tells where in a long recording something happens."""
    return BodyMotion(name, motion.times_ns, motion.amount[:, None], speeds=True)


def _abstain(reason: Reason, pairs: int = 0) -> LagProfile:
    return LagProfile((float("nan"),) * len(LAGS), None, 0.0, 0.0, 0.0, pairs, reason)


def _asked(action: ActionMotion, image: ImageMotion) -> tuple[Array, Array]:
    """Return the sum of the action between the pictures of each pair at each lag (L, M), and whether the action is known there."""
    steps = len(action.amount)
    period_ns = max(int(np.median(np.diff(action.times_ns))), 1)
    edges_ns = np.append(action.times_ns, action.times_ns[-1] + period_ns)  # action t holds from edge t to edge t + 1
    origin_ns = int(edges_ns[0])
    edges_s = (edges_ns - origin_ns) / NS_PER_S
    total = np.concatenate([[0.0], np.cumsum(action.amount)])
    beyond = period_ns / NS_PER_S

    def place(times_ns: Array) -> Array:
        times_s = (times_ns - origin_ns) / NS_PER_S
        inside = np.interp(times_s, edges_s, np.arange(steps + 1.0))
        return np.asarray(inside + np.minimum(times_s, 0.0) / beyond + np.maximum(times_s - edges_s[-1], 0.0) / beyond)

    lags = np.array(LAGS)[:, None]
    start, end = place(image.start_ns)[None] + lags, place(image.end_ns)[None] + lags
    there = (start >= (1 if action.changes else 0) - 0.05) & (end <= steps + 0.05)
    grid = np.arange(steps + 1.0)
    return np.interp(end, grid, total) - np.interp(start, grid, total), there


def _profile(image: ImageMotion, action: ActionMotion) -> LagProfile:
    asked, there = _asked(action, image)
    if not there.any() or asked[there].std() <= 1e-9 * max(float(asked[there].mean()), 1e-300):
        return _abstain("still_actions", len(image))
    body = np.log(asked + KNEE * asked[there].mean())
    curve, resampled = correlations(compressed(image.change), body, there)
    curve = np.where(curve <= -1.0, -np.inf, curve)
    best = int(curve.argmax())
    height = float(curve[best])
    if not np.isfinite(height):
        return _abstain("few_pictures", len(image))
    others = np.delete(curve, best)
    margin = height - float(others.max()) if np.isfinite(others.max()) else 0.0
    confidence = float((resampled.argmax(axis=1) == best).mean())
    reason: Reason | None = None
    if height < max(MIN_CORRELATION, CHANCE / np.sqrt(len(image))):
        reason = "weak_correlation"
    elif abs(LAGS[best]) == MAX_LAG:
        reason = "at_the_end"
    elif confidence < MIN_CONFIDENCE:
        reason = "ambiguous"
    shown = tuple(float(value) if np.isfinite(value) else float("nan") for value in curve)
    return LagProfile(shown, LAGS[best] if reason is None else None, height, margin, confidence, len(image), reason)


def lag_profile(image: ImageMotion, actions: Sequence[ActionMotion]) -> LagProfile:
    """Return the profile of an episode's pictures against its action: against the reading of it that explains the pictures best, where there are two.

    Two readings that explain them about as well and disagree leave the lag unknown.
    """
    if len(image) < MIN_PAIRS:
        return _abstain("few_pictures", len(image))
    if not actions:
        return _abstain("no_action", len(image))
    if not image.change.mean() > 0 or image.change.std() < 1e-3 * image.change.mean():
        return _abstain("still_pictures", len(image))
    found = sorted((_profile(image, action) for action in actions), key=lambda one: -one.correlation)
    best = found[0]
    rival = next((one for one in found[1:] if best.lag is not None and one.correlation > best.correlation - 2 * MIN_LEAD), None)
    if rival is not None and rival.lag != best.lag:
        return LagProfile(best.correlations, None, best.correlation, best.margin, best.confidence, best.pairs, "ambiguous")
    return best
