"""Windows around the steps of an episode: which frames a model sees, which steps its transitions are about, and what is true of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.config import parse_config
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.labels.idm_bodies import Body
from dataengine.models.inverse_dynamics import InverseDynamicsConfig

UNEVEN = 0.1  # of a step


def window_seconds(config: InverseDynamicsConfig) -> tuple[float, ...]:
    """Return the offsets of the frames of a window, in s."""
    return tuple(round(place * config.gap_s, 9) for place in config.frames)


def edge_seconds(config: InverseDynamicsConfig) -> tuple[float, ...]:
    """Return the offsets of the K + 1 steps that the transitions lie between, in s."""
    first = config.transitions[0]
    return tuple(round(place * config.gap_s, 9) for place in range(first, config.transitions[-1] + 2))


def steps_in(gap_s: float, rate_hz: float, reach: int = 1) -> int | None:
    """Return how many steps a gap is, None where it is no whole number of them.

    Then a frame is sometimes one step away and sometimes two, and nobody can say what a label of "a gap later" means. A clock that was measured is never quite even:
    up to a tenth of a step is passed over, as long as the farthest of a window's edges, so many gaps away, still lies nearest to the same step.
    """
    exact = gap_s * rate_hz
    nearest = round(exact)
    return nearest if nearest >= 1 and abs(exact - nearest) <= UNEVEN and abs(exact - nearest) * reach < 0.5 else None


def at_rate(told: Mapping[str, Any], rate_hz: float, steps: int | None = None) -> dict[str, float]:
    """Return the gap and the window, as settings, in whole steps of a rate, the window with as many gaps as it has in the settings `told`.

    Args:
        told: settings of a model.
        rate_hz: of the data.
        steps: that a gap shall have; where it is not given, as many as fit into the one that is told, at least one.
    """
    gap_s = float(told["gap_s"])
    steps = steps or max(1, math.floor(gap_s * rate_hz + UNEVEN))
    return {"gap_s": steps / rate_hz, **{name: round(float(told[name]) / gap_s) * steps / rate_hz for name in ("before_s", "after_s")}}


def fitted_to(told: Mapping[str, Any], rate_hz: float) -> dict[str, float]:
    """Return what of the settings `told` must be otherwise for data of a rate: nothing where the gap is a whole number of its steps."""
    config = parse_config(InverseDynamicsConfig, dict(told), "model")
    return at_rate(told, rate_hz) if steps_in(config.gap_s, rate_hz, _reach(config)) is None else {}


def _reach(config: InverseDynamicsConfig) -> int:
    return max(abs(config.transitions[0]), abs(config.transitions[-1] + 1))


def require_rate(config: InverseDynamicsConfig, where: str, rate_hz: float | None, advice: str = "set gap_s to {gap_s:g}") -> None:
    """Raise UsageError unless frames that lie a gap apart are always as many steps of an episode apart; `advice` may name the nearest gap that does."""
    if rate_hz is None:
        raise UsageError(f"{where}: must have one known rate, because the frames of a window lie {config.gap_s:g} s apart; ingest it with --rate")
    if steps_in(config.gap_s, rate_hz, _reach(config)) is None:
        nearest = max(1, round(config.gap_s * rate_hz)) / rate_hz
        raise UsageError(
            f"{where}: must have a whole number of steps, one or more, in the {config.gap_s:g} s between two frames of a window, "
            f"got {config.gap_s * rate_hz:.3g} at {rate_hz:g} steps a second; {advice.format(gap_s=nearest)}"
        )


def true_values(body: Body, target: str, episode: Watched, config: InverseDynamicsConfig) -> Array | None:
    """Return the numbers (T, D) of a target that were recorded, NaN where there are none; None where the episode has no such column."""
    name = {"command": "action", "displacement": "state"}[target]
    if name not in episode.columns:
        return None
    values = episode.columns[name].reshape(episode.steps, -1).astype(np.float64)
    values = np.where(episode.valid[name][:, None], values, np.nan)
    if target == "command":
        return values
    assert body.displacement is not None
    after, beyond = episode.near(np.arange(episode.steps), (config.gap_s,))
    moved = body.displacement.between(values, values[after[:, 0]])
    return np.where(beyond, np.nan, moved)


def step_places(target: str, episode: Watched, config: InverseDynamicsConfig) -> tuple[Array, Array]:
    """Return which step each transition of each window begins at, and whether there is one, from a step to another: (T, K) each.

    Nothing is seen of what the command of the last step does. Only a model of a single frame, which guesses from what came before, has an answer for it.
    """
    places, beyond = episode.near(np.arange(episode.steps), edge_seconds(config))
    ends = target == "displacement" or len(config.frames) > 1
    return places[:, :-1], ~beyond[:, :-1] & ~beyond[:, 1:] if ends else ~beyond[:, :-1]


def target_answers(answers: Mapping[str, Array], target: str) -> dict[str, Array]:
    """Return the answers about one target by their own names."""
    return {name.removeprefix(f"{target}."): array for name, array in answers.items() if name.startswith(f"{target}.")}


def needs_of(config: InverseDynamicsConfig) -> Needs:
    """Return what a model must see of an episode."""
    offsets = window_seconds(config)
    return Needs(config.cameras, config.size, config.fit, (), max(0.0, -offsets[0]), max(0.0, offsets[-1]))
