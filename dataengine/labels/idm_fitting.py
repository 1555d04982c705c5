"""Calibrating a model of inverse dynamics on what it said of episodes that were held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dataengine.core.action_spec import ActionSpec
from dataengine.core.arrays import Array
from dataengine.core.labelling import Watched
from dataengine.labels.idm_bodies import Body
from dataengine.labels.idm_windows import step_places, target_answers, true_values
from dataengine.models.calibration import POWERS, Calibration, Voted, calibrated, no_calibration, transition_trust, vote
from dataengine.models.inverse_dynamics import InverseDynamicsConfig

Told = tuple[dict[str, Array], Array, Array, Array]  # answers, the steps that they are about (T, K), where there are such, the truth (T, D)


def fit_calibration(spec: ActionSpec, told: Sequence[Told]) -> Calibration:
    """Fit a calibration: first how far each transition is to be trusted, then all else to what is voted with it."""
    transitions = told[0][1].shape[1]
    plain = no_calibration(spec, transitions)
    squares, variances = [], []
    for answers, places, counts, truth in told:
        known = counts & spec.usable(truth)[places]
        scaled = spec.predicted(np.where(spec.usable(truth)[:, None], truth, spec.blank())).scaled
        squares.append(np.where(known[..., None], np.square(answers["value"] - scaled[places]), np.nan))
        variances.append(answers["variance"].astype(np.float64))
    trust = transition_trust(squares, variances)
    tried = []
    for power in POWERS:
        weighed = replace(plain, trust=trust, power=power)
        voted = [(vote(places, counts, answers, weighed, len(truth)), truth) for answers, places, counts, truth in told]
        tried.append((_error(spec, voted), power, voted))
    _, power, voted = min(tried, key=lambda each: each[:2])
    return calibrated(spec, voted, trust, power)


def _error(spec: ActionSpec, episodes: Sequence[tuple[Voted, Array]]) -> float:
    """Return the mean squared error of what was voted, in normalised units; 0 where nothing is known."""
    errors = []
    for voted, truth in episodes:
        rows = np.flatnonzero(spec.usable(truth) & (voted.windows > 0))
        errors.append(np.square(voted.value[rows] - spec.predicted(truth[rows]).scaled).ravel())
    every = np.concatenate(errors) if errors else np.zeros(0)
    return float(every.mean()) if len(every) else 0.0


def told_truth(body: Body, target: str, episode: Watched, answers: Mapping[str, Array], config: InverseDynamicsConfig) -> Told | None:
    """Return what was said of a target of an episode, where a camera showed it, and its truth; None where nothing is known of it."""
    truth = true_values(body, target, episode, config)
    if truth is None:
        return None
    places, counts = step_places(target, episode, config)
    return target_answers(answers, target), places, counts & answers["seen"], truth
