"""What a policy is cloned from beside the real demonstrations: nothing, the true actions, the pseudo-labels, those that are sure, or those of other episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.randomness import hash64, text_key
from dataengine.evaluate.demonstrations import Demonstrations

REAL, PERFECT, PSEUDO, FILTERED, WEIGHTED, SHUFFLED = "real", "perfect", "pseudo", "filtered", "weighted", "shuffled"


@dataclass(frozen=True, eq=False)
class Added:
    """Rows of labelled demonstrations that are cloned too: their places (n,), the actions (n, A) they are cloned with, and weights (n,)."""

    places: Array
    actions: Array
    weight: Array


@dataclass(frozen=True)
class Choice:
    """What a condition may depend on beside the demonstrations: a seed, and the confidence below which a label is left out."""

    seed: int
    threshold: float | None


def _every(places: Array, actions: Array) -> Added | None:
    return Added(places, actions, np.ones(len(places), np.float32)) if len(places) else None


def _real(labelled: Demonstrations, choice: Choice) -> Added | None:
    """Return nothing: the measured demonstrations alone."""
    none = np.zeros(0, np.int64)
    return Added(none, labelled.actions[none], np.zeros(0, np.float32))


def _perfect(labelled: Demonstrations, choice: Choice) -> Added | None:
    """Return every step with the action that was measured at it: what the best labels could give."""
    places = np.flatnonzero(labelled.acted)
    return _every(places, labelled.actions[places])


def _pseudo(labelled: Demonstrations, choice: Choice) -> Added | None:
    """Return every step that has a label, with it."""
    places = np.flatnonzero(labelled.labelled)
    return _every(places, labelled.labels[places])


def _filtered(labelled: Demonstrations, choice: Choice) -> Added | None:
    """Return the steps whose label is sure enough."""
    if choice.threshold is None:
        return None
    places = np.flatnonzero(labelled.labelled & (np.nan_to_num(labelled.confidence, nan=-1.0) >= choice.threshold))
    return _every(places, labelled.labels[places])


def _weighted(labelled: Demonstrations, choice: Choice) -> Added | None:
    """Return every step that has a label, counted as much as the label is sure; the mean weight is that of a real step."""
    places = np.flatnonzero(labelled.labelled & ~np.isnan(labelled.confidence))
    confidence = labelled.confidence[places]
    if not len(places) or not confidence.any():
        return None
    return Added(places, labelled.labels[places], confidence / confidence.mean())


def _shuffled(labelled: Demonstrations, choice: Choice) -> Added | None:
    """Return steps with the labels that some step of another episode has: labels of the same make and the same spread that say nothing about their pictures.

    Each episode takes its labels from the next one in an order drawn by the seed, and from a step of it that is drawn too. Steps that keep their number would keep
    what all demonstrations of a task have in common, such as when the gripper closes.
    """
    ids = labelled.episode_ids
    there = [number for number in range(len(ids)) if labelled.labelled[labelled.episode == number].any()]
    if len(there) < 2:
        return None
    order = sorted(there, key=lambda number: int(hash64(choice.seed, text_key("shuffled"), text_key(ids[number]))))
    places, actions = [], []
    for number, giver in zip(order, [*order[1:], order[0]], strict=True):
        own = np.flatnonzero(labelled.labelled & (labelled.episode == number))
        others = np.flatnonzero(labelled.labelled & (labelled.episode == giver))
        drawn = others[(hash64(choice.seed, text_key(ids[number]), labelled.step[own]) % np.uint64(len(others))).astype(np.int64)]
        places.append(own)
        actions.append(labelled.labels[drawn])
    return _every(np.concatenate(places), np.concatenate(actions))


CONDITIONS: dict[str, Callable[[Demonstrations, Choice], Added | None]] = {
    REAL: _real,
    PERFECT: _perfect,
    PSEUDO: _pseudo,
    FILTERED: _filtered,
    WEIGHTED: _weighted,
    SHUFFLED: _shuffled,
}
