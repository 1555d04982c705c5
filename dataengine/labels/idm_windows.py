"""Windows around the steps of an episode: which frames a model sees, which steps its transitions are about, and what is true of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.labels.idm_bodies import Body
from dataengine.models.inverse_dynamics import InverseDynamicsConfig


def window_seconds(config: InverseDynamicsConfig) -> tuple[float, ...]:
    """Return the offsets of the frames of a window, in s."""
    return tuple(round(place * config.gap_s, 9) for place in config.frames)


def edge_seconds(config: InverseDynamicsConfig) -> tuple[float, ...]:
    """Return the offsets of the K + 1 steps that the transitions lie between, in s."""
    first = config.transitions[0]
    return tuple(round(place * config.gap_s, 9) for place in range(first, config.transitions[-1] + 2))


def require_rate(config: InverseDynamicsConfig, where: str, rate_hz: float | None) -> None:
    """Raise UsageError unless frames that lie a gap apart are different steps of an episode."""
    if rate_hz is None:
        raise UsageError(f"{where}: must have one known rate, because the frames of a window lie {config.gap_s:g} s apart; ingest it with --rate")
    if config.gap_s * rate_hz < 0.999:
        raise UsageError(
            f"{where}: must have at least {1 / config.gap_s:g} steps a second for frames {config.gap_s:g} s apart, got {rate_hz:g}; set gap_s to {1 / rate_hz:g} or more"
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
