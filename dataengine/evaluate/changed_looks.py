"""The same motion in another scene: the sample arm, played again with other colours, table, light and clutter, and clips in which only clutter moves.

What a latent says of a motion should not depend on what the scene looks like, and what the arm did not do should be said to be nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import nominal_timestamps_ns
from dataengine.core.labelling import Labeller, Watched
from dataengine.evaluate.ranking import auc
from dataengine.evaluate.viewing import labels_of
from dataengine.samples.arm import ArmConfig
from dataengine.samples.arm_environment import ArmEnvironment
from dataengine.samples.closed_loop import Situation, begin, observe, step
from dataengine.samples.scene import Look
from dataengine.stats.ridge import fit_ridge

CAMERA = "camera:primary"
MOST_STEPS = 80
DISTRACTOR_STEPS = 24
FAR = 1.0  # in standard deviations: two displacements that differ by more are different actions


@dataclass(frozen=True, eq=False)
class Twins:
    """One episode in two scenes: pictures (T, H, W, 3) of each, and the joints' positions (T, 5)."""

    first: Array
    second: Array
    state: Array


def _pictures(situations: Sequence[Situation], look: Callable[[Situation, int], Look]) -> Array:
    return np.stack([observe(replace(each, look=look(each, place))).images["front"] for place, each in enumerate(situations)])


def twins(seed: int, size: int) -> Twins:
    """Play an episode of the arm and look at it in its own scene and in that of another episode; the pad stays where it is, since it is aimed at."""
    environment = ArmEnvironment(ArmConfig(height=size, width=size, cameras=("front",)))
    environment.reset(seed)
    now = begin(seed, seed % 1_000_000, environment.config)
    other = begin(seed + 7919, (seed + 7919) % 1_000_000, environment.config).look
    situations: list[Situation] = []
    states = []
    while len(situations) < MOST_STEPS:
        situations.append(now)
        states.append(observe(replace(now, config=replace(environment.config, cameras=()))).state)
        command = environment.expert()
        if command is None:
            break
        environment.step(command)
        now = step(now, command)
    first = _pictures(situations, lambda each, place: each.look)
    second = _pictures(situations, lambda each, place: replace(other, pad_xy=each.look.pad_xy))
    return Twins(first, second, np.stack(states))


def distractor(seed: int, size: int) -> tuple[Array, Array]:
    """Return pictures (T, H, W, 3) of an arm that stands still: with nothing moving but the sensor's noise, and with a box that moves over the table."""
    now = begin(seed, seed % 1_000_000, ArmConfig(height=size, width=size, cameras=("front",)))
    still = [replace(now, steps=place) for place in range(DISTRACTOR_STEPS)]
    box = np.array([[0.15, -0.28, 0.3, 0.06, 0.06, 0.07, 0.6, 1.0]])

    def moved(each: Situation, place: int) -> Look:
        along = box.copy()
        along[0, 1] += 0.02 * place  # m a step: as fast as a hand
        return replace(each.look, clutter=np.concatenate([each.look.clutter.reshape(-1, 8), along]))

    def placed(each: Situation, place: int) -> Look:
        return moved(each, 0)

    return _pictures(still, placed), _pictures(still, moved)


def _watched(pictures: Array, rate_hz: float) -> Watched:
    every = np.ones(len(pictures), np.bool_)
    return Watched(
        episode_id="0" * 32,
        dataset="changed_looks",
        steps=len(pictures),
        rate_hz=rate_hz,
        t_ns=nominal_timestamps_ns(len(pictures), rate_hz),
        pictures={CAMERA: pictures},
        seen={CAMERA: every},
    )


def _encoded(labeller: Labeller, pictures: Array, column: str, rate_hz: float) -> tuple[Array, Array]:
    found = labels_of(labeller, _watched(pictures, rate_hz))
    return found.columns[column].reshape(len(pictures), -1).astype(np.float64), found.valid[column]


def looks_figures(labeller: Labeller, column: str, episodes: int = 12, seed: int = 50_000) -> dict[str, Any]:
    """Return how little a labeller's latents depend on the scene.

    - `cross_background_auc`: how often the same step in two scenes has nearer latents (by cosine) than steps with different motion; 0.5 for chance.
    - `probe_r2_same_scene`, `probe_r2_other_scene`: mean R² over the joints of a linear map from latents to their motion, learned in one scene, on other episodes.
    - `distractor_ratio`: how far a box that moves alone draws latents from those of a scene in which nothing moves, over how far the arm's motion does; 0 is good.
    """
    size = labeller.needs.size[0]
    rate_hz = ArmConfig().control_hz
    gap = max(1, round(labeller.needs.after_s * rate_hz))
    first, second, moves, numbers = [], [], [], []
    for number in range(episodes):
        made = twins(seed + number, size)
        ones, there = _encoded(labeller, made.first, column, rate_hz)
        others, also = _encoded(labeller, made.second, column, rate_hz)
        rows = np.flatnonzero(there & also & (np.arange(len(ones)) + gap < len(ones)))
        first.append(ones[rows])
        second.append(others[rows])
        moves.append(made.state[rows + gap] - made.state[rows])
        numbers.append(np.full(len(rows), number))
    a, b, moved, group = (np.concatenate(each) for each in (first, second, moves, numbers))
    spread = moved.std(0)
    scaled = moved[:, spread > 1e-9] / spread[spread > 1e-9]
    found: dict[str, Any] = {"steps": len(a), "cross_background_auc": _auc(a, b, scaled, seed)}
    learned = group % 2 == 0
    mapped = fit_ridge(a[learned], scaled[learned], group[learned] % 3)[0]
    for name, latents in (("same", a), ("other", b)):
        off = mapped(latents[~learned]) - scaled[~learned]
        found[f"probe_r2_{name}_scene"] = float(1 - (off**2).mean(0).sum() / scaled[~learned].var(0).sum())
    ratios = []
    for one in range(4):
        still, clutter = (_encoded(labeller, pictures, column, rate_hz) for pictures in distractor(seed + one, size))
        rest = still[0][still[1]].mean(0)
        usual = np.sqrt(((a - rest) ** 2).sum(1).mean())
        ratios.append(float(np.sqrt(((clutter[0][clutter[1]] - rest) ** 2).sum(1).mean()) / usual) if usual > 0 else np.nan)
    return {**found, "distractor_ratio": float(np.mean(ratios))}


def _auc(a: Array, b: Array, moved: Array, seed: int) -> float:
    """Return the area under the curve of cosines of the same steps against those of steps whose motion differs."""
    rng = np.random.default_rng(seed)
    centre = np.concatenate([a, b]).mean(0)
    ones, others = a - centre, b - centre
    partner = rng.permutation(len(a))
    different = np.sqrt(((moved - moved[partner]) ** 2).mean(1)) > FAR
    same = _cosine(ones, others)
    apart = _cosine(ones[different], others[partner[different]])
    return auc(np.concatenate([same, apart]), np.concatenate([np.ones(len(same), np.bool_), np.zeros(len(apart), np.bool_)]))


def _cosine(a: Array, b: Array) -> Array:
    return np.asarray((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12))
