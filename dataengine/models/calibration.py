"""What is fitted after training, on episodes that were held out: no shrinkage, honest odds, and intervals that hold what they promise.

A regressor that is unsure answers with something near the mean, and a policy that learns from such labels moves too little. So numbers are stretched until the slope of
what is predicted against what is true is nearly 1. How far off the answers then are, in units of the model's own uncertainty, gives the intervals (split conformal prediction:
Papadopoulos et al. 2002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dataengine.core.action_spec import ActionSpec, Predicted, SpecPart
from dataengine.core.arrays import Array

MOST_GAIN = 3.0  # an answer that knows so little that it would have to be stretched further is left as it is
SLOPE = 0.93  # what numbers of a smaller slope are stretched to: what is left of the way to 1 would cost more noise than it takes bias away
POWERS = (1.0, 2.0, 4.0, 8.0)  # of the inverse variance, by which windows may count: the higher, the more the best of them alone
LEVELS = (0.68, 0.95)
TEMPERATURES = np.geomspace(0.2, 10.0, 80)
LEAST_SIGMA = 1e-4


@dataclass(frozen=True, eq=False)
class Voted:
    """What the windows around each of T steps say together of one target, in normalised units.

    `value` and `sigma` (T, C) of the numbers; `odds` [(T, L)] logits of what has levels; `rotation` (T, R, 3, 3) and `turn_sigma` (T, R) in units of a usual rotation;
    `windows` (T,) how many windows spoke.
    """

    value: Array
    sigma: Array
    odds: tuple[Array, ...]
    rotation: Array
    turn_sigma: Array
    windows: Array


@dataclass(frozen=True)
class Calibration:
    """Of one target of one body.

    Attributes:
        gain, offset: of each of the C numbers, normalised: answer = gain * value + offset.
        temperature: of each of the G entries with levels, what logits are divided by.
        reach68, reach95: of each of the D entries, the half width of an interval in units of the sigma of the entry; 0 of what is not a number.
        trust: (K, C) mean squared error of a transition's answers over the variance that it states, which weighs its vote.
        episodes: how many were held out.
        power: of a window's inverse variance, its weight in the vote: windows share frames, so that more of them tell less than as many that do not.
    """

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    temperature: tuple[float, ...]
    reach68: tuple[float, ...]
    reach95: tuple[float, ...]
    trust: tuple[tuple[float, ...], ...] = ()
    episodes: int = 0
    power: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            name: [list(one) if isinstance(one, tuple) else one for one in value] if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


def calibration_of_json(document: Mapping[str, Any]) -> Calibration:
    """Return the calibration that `as_json` gave."""
    told: dict[str, Any] = {
        name: tuple(tuple(one) if isinstance(one, list) else one for one in value) if isinstance(value, list) else value for name, value in document.items()
    }
    return Calibration(**told)


def no_calibration(spec: ActionSpec, transitions: int) -> Calibration:
    """Return the calibration that changes nothing, whose intervals are those of a Gaussian."""
    count = len(spec.scaled_entries)
    ones, none = (1.0,) * count, (0.0,) * count
    return Calibration(ones, none, (1.0,) * len(spec.level_counts), (1.0,) * spec.width, (1.96,) * spec.width, (ones,) * transitions)


def vote(places: Array, counts: Array, said: Mapping[str, Array], calibration: Calibration, steps: int) -> Voted:
    """Combine what overlapping windows say of each step.

    Numbers count by a power of their inverse variance. Windows share frames, so that their errors are not independent: the variance of what they say together is the
    weighted mean of theirs, not that over their number, and the spread between them is added to it.

    Args:
        places: (n, K) int64, the step that transition k of window n is about.
        counts: (n, K) bool, False where there is no such step.
        said: of each transition "value" and "variance" (n, K, C), "odds<g>" (n, K, L), "rotation" (n, K, R, 3, 3), "turn_variance" (n, K, R).
        calibration: whose `trust` weighs the transitions.
        steps: T.
    """
    rows, columns = np.nonzero(counts)
    at = places[rows, columns]
    value = said["value"][rows, columns].astype(np.float64)
    variance = np.maximum(said["variance"][rows, columns].astype(np.float64) * np.array(calibration.trust)[columns], LEAST_SIGMA**2)
    windows = np.bincount(at, minlength=steps).astype(np.float64)
    known = np.maximum(windows, 1)[:, None]
    best = np.full((steps, value.shape[1]), np.inf)
    np.minimum.at(best, at, variance)
    weight = (best[at] / variance) ** calibration.power
    total = np.maximum(_added(at, weight, steps), 1e-12)
    mean = _added(at, weight * value, steps) / total
    spread = _added(at, weight * np.square(value - mean[at]), steps) / total
    sigma = np.sqrt(_added(at, weight * variance, steps) / total + spread)
    turns = said["turn_variance"][rows, columns].astype(np.float64)
    trust = 1 / np.maximum(turns, LEAST_SIGMA**2)
    turned = _added(at, trust[..., None, None] * said["rotation"][rows, columns], steps)
    odds = tuple(_added(at, said[f"odds{place}"][rows, columns].astype(np.float64), steps) / known for place in range(len(calibration.temperature)))
    turn_sigma = np.sqrt(known / np.maximum(_added(at, trust, steps), 1e-12))
    return Voted(mean, sigma, odds, _nearest_rotations(turned, windows), turn_sigma, windows.astype(np.int64))


def _added(at: Array, values: Array, steps: int) -> Array:
    found = np.zeros((steps, *values.shape[1:]))
    np.add.at(found, at, values)
    return found


def _nearest_rotations(sums: Array, windows: Array) -> Array:
    """Return the rotations (T, R, 3, 3) nearest to sums of rotations: their mean in the chordal metric; the identity where nothing was said."""
    if not sums.size:
        return sums
    empty = windows == 0
    left, _, right = np.linalg.svd(np.where(empty[:, None, None, None], np.eye(3), sums))
    left[..., :, 2] *= np.linalg.det(left @ right)[..., None]
    return np.asarray(left @ right)


def entry_sigmas(spec: ActionSpec, voted: Voted, calibration: Calibration) -> Array:
    """Return (T, D) standard deviations in the units of the column; 0 for what is not a number."""
    found = np.zeros((len(voted.windows), spec.width))
    spreads = [spread for part in spec.of_kind("scaled") for spread in part.spread]
    found[:, list(spec.scaled_entries)] = voted.sigma * np.abs(calibration.gain) * np.array(spreads)
    for place, part in enumerate(spec.of_kind("rotation")):
        unit = part.gain if part.rotation in ("rpy", "rotvec") else 1.0
        found[:, list(part.entries)] = voted.turn_sigma[:, place, None] * part.spread[0] / np.sqrt(3) / unit
    return found


def answered(spec: ActionSpec, voted: Voted, calibration: Calibration) -> tuple[Array, tuple[Array, ...]]:
    """Return the (T, D) numbers that are the label, in the units of the column and between what was seen in training, and [(T, L)] the odds of levels, which add up to 1."""
    low, high = spec.bounds()
    scaled = np.clip(voted.value * np.array(calibration.gain) + np.array(calibration.offset), low, high)
    shares = tuple(softmax(odds / temperature) for odds, temperature in zip(voted.odds, calibration.temperature, strict=True))
    lead = (len(voted.windows),)
    classes = np.stack([share.argmax(-1) for share in shares], axis=-1) if shares else np.zeros((*lead, 0), np.int64)
    return spec.values(Predicted(scaled, classes, voted.rotation)), shares


def softmax(logits: Array) -> Array:
    """Return shares that add up to 1 over the last axis."""
    risen = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(risen / risen.sum(axis=-1, keepdims=True))


def transition_trust(squares: Sequence[Array], variances: Sequence[Array]) -> tuple[tuple[float, ...], ...]:
    """Return (K, C) the ratio of squared errors to stated variances, from rows [(n, K, C)] with NaN where nothing is known."""
    error, stated = np.concatenate(squares), np.concatenate(variances)
    known = np.isfinite(error)
    count = known.sum(axis=0)
    ratio = np.where(known, error, 0).sum(axis=0) / np.maximum(np.where(known, stated, 0).sum(axis=0), 1e-12)
    return tuple(tuple(row) for row in np.where(count > 0, np.clip(ratio, 1e-3, 1e3), 1.0).tolist())


def calibrated(spec: ActionSpec, episodes: Sequence[tuple[Voted, Array]], trust: tuple[tuple[float, ...], ...], power: float = 1.0) -> Calibration:
    """Fit a calibration.

    Args:
        spec: of the target.
        episodes: of each what was voted and the truth (T, D), NaN in the rows of which nothing is known.
        trust, power: of the transitions, that the votes were weighed with.
    """
    known = [(voted, np.flatnonzero(spec.usable(truth)), truth) for voted, truth in episodes]
    known = [(voted, rows[voted.windows[rows] > 0], truth) for voted, rows, truth in known]
    plain = no_calibration(spec, len(trust))
    if not sum(len(rows) for _, rows, _ in known):
        return plain
    truth = spec.predicted(np.concatenate([truth[rows] for _, rows, truth in known]))
    value = np.concatenate([voted.value[rows] for voted, rows, _ in known])
    low, high = spec.bounds()
    lines = [unshrunk(value[:, entry], truth.scaled[:, entry], low[entry], high[entry]) for entry in range(value.shape[1])]
    gain, offset = (tuple(line[place] for line in lines) for place in (0, 1))
    temperatures = tuple(
        best_temperature(np.concatenate([voted.odds[place][rows] for voted, rows, _ in known]), truth.classes[:, place])
        for place in range(len(spec.level_counts))
    )
    found = Calibration(gain, offset, temperatures, plain.reach68, plain.reach95, trust, sum(len(rows) > 0 for _, rows, _ in known), power)
    scores = np.concatenate([_scores(spec, voted, found, truth)[rows] for voted, rows, truth in known])
    reaches = [tuple(reach(scores[:, entry], level) for entry in range(spec.width)) for level in LEVELS]
    return Calibration(gain, offset, temperatures, reaches[0], reaches[1], trust, found.episodes, power)


def _scores(spec: ActionSpec, voted: Voted, calibration: Calibration, truth: Array) -> Array:
    """Return (T, D) how far off the answers are, in sigmas."""
    numbers, _ = answered(spec, voted, calibration)
    away = np.abs(numbers - truth)
    for part in spec.of_kind("rotation"):
        chosen = list(part.entries)
        if part.rotation == "rpy":  # an angle just below pi is near one just above -pi
            away[:, chosen] = np.minimum(away[:, chosen], np.abs(2 * np.pi / part.gain - away[:, chosen]))
        elif part.rotation in ("quat_xyzw", "quat_wxyz", "rotvec"):
            away[:, chosen] = np.abs(numbers[:, chosen] - nearer_name(part, numbers[:, chosen], truth[:, chosen]))
    sigma = entry_sigmas(spec, voted, calibration)
    return np.asarray(np.where(sigma > 0, away / np.where(sigma > 0, sigma, 1), 0))


def nearer_name(part: SpecPart, numbers: Array, truth: Array) -> Array:
    """Return which of the two names of true rotations, (T, 4) quaternions or (T, 3) rotation vectors, is nearer to what was said.

    q and -q are one rotation, as are r and the vector of the other way round, which just below half a turn is nearly -r: which of them was recorded is no error of the model.
    """
    if part.rotation == "rotvec":
        angle = np.linalg.norm(truth, axis=1, keepdims=True)
        other = truth * (1 - 2 * np.pi / part.gain / np.where(angle > 0, angle, np.inf))
    else:
        other = -truth
    farther = np.square(numbers - truth).sum(axis=1) > np.square(numbers - other).sum(axis=1)
    return np.where(farther[:, None], other, truth)


def unshrunk(value: Array, truth: Array, low: float, high: float) -> tuple[float, float]:
    """Return gain and offset after which, and after cutting off what lies beyond the bounds, answers have a slope from `SLOPE` to 1 against the truth and no bias.

    Answers that know nothing are left as they are.
    """
    spread = float(truth.var())
    slope = float(np.mean((value - value.mean()) * (truth - truth.mean()))) / spread if spread > 1e-12 else 0.0
    if len(value) < 8 or slope < 1 / MOST_GAIN:
        return 1.0, 0.0
    gain, offset, aim = 1.0, 0.0, float(np.clip(slope, SLOPE, 1.0))  # what is not shrunk further than that is not shrunk more
    for _ in range(20):  # each pass corrects what is left; cut-off values make it more than one
        answer = np.clip(gain * value + offset, low, high)
        slope = float(np.mean((answer - answer.mean()) * (truth - truth.mean()))) / spread
        gain = float(np.clip(gain * aim / slope, 1 / MOST_GAIN, MOST_GAIN))
        offset += float(truth.mean() - np.clip(gain * value + offset, low, high).mean())
    return gain, offset


def best_temperature(logits: Array, classes: Array) -> float:
    """Return the divisor of logits (n, L) under which the true classes (n,) are likeliest (Guo et al. 2017)."""
    picked = np.arange(len(classes))
    losses = [-np.log(np.maximum(softmax(logits / each)[picked, classes], 1e-12)).mean() for each in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def reach(scores: Array, level: float) -> float:
    """Return what a share `level` of scores like these (n,) does not exceed: the quantile that holds for a new one too."""
    if not len(scores):
        return 1.0
    rank = min(len(scores), int(np.ceil((len(scores) + 1) * level)))
    return float(np.sort(scores)[rank - 1])
