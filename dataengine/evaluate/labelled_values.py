"""Value labels of a version as they are judged: those of every episode whose outcome is known, with the state beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from dataengine.core.arrays import Array
from dataengine.core.errors import LabelsNotFound, UsageError
from dataengine.core.labelling import Needs
from dataengine.core.labels import Labels
from dataengine.evaluate.values import Told
from dataengine.store.query import where as rows_where
from dataengine.store.store import Store
from dataengine.store.watching import watch_numbers

VALUE, LEFT = "value", "steps_to_success"
SCORES = (VALUE, "progress", "success_probability", LEFT)


@dataclass(frozen=True)
class Labelled:
    """Episodes that are judged, how many were left out because nobody said how they ended or because they have no labels, and what made the labels."""

    told: tuple[Told, ...]
    unknown_outcome: int
    unlabelled: int
    model: str | None = None
    trained_on: str | None = None
    learned_from: tuple[str, ...] = ()


def labelled_values(store: Store, dataset: str, label_set: str | None, condition: str | None = None) -> Labelled:
    """Read the value labels of a dataset; without a label set the episodes alone, for what a baseline learns from.

    Raises:
        UsageError: no episode has a known outcome and labels of the set, or the set holds no values.
    """
    rows = rows_where(store.episodes().filter(pl.col("dataset") == dataset), condition).sort("episode_id").collect()
    told: list[Told] = []
    unknown = unlabelled = 0
    made: Labels | None = None
    for row in rows.iter_rows(named=True):
        if row["success"] is None or not row["steps"]:
            unknown += 1
            continue
        watched = watch_numbers(store, row, Needs(columns=("state",)))
        state = watched.columns.get("state")
        state = None if state is None else np.where(watched.valid["state"].reshape(-1, *(1,) * (state.ndim - 1)), state, np.nan)
        scores: dict[str, Array] = {"nothing": np.zeros(watched.steps)}
        ends: dict[str, tuple[Array, Array]] = {}
        if label_set is not None:
            try:
                labels = store.read_labels(row["episode_id"], label_set)
            except LabelsNotFound:
                unlabelled += 1
                continue
            made = labels
            scores, ends = _scores(labels, label_set)
        told.append(Told(row["episode_id"], bool(row["success"]), scores, ends, state))
    if not told:
        raise UsageError(
            f"dataset {dataset!r}: must have episodes that say whether they succeeded, with labels of the set {label_set!r}; "
            f"got {rows.height} episodes, {unknown} of unknown outcome, {unlabelled} without such labels"
        )
    about = made.label_set if made is not None else None
    learned_from = tuple(about.parameters.get("learned_from", ())) if about is not None else ()
    return Labelled(tuple(told), unknown, unlabelled, about.model if about else None, about.trained_on if about else None, learned_from)


def _scores(labels: Labels, label_set: str) -> tuple[dict[str, Array], dict[str, tuple[Array, Array]]]:
    """Return the labels as scores, greater where more is done, NaN where the model abstained; the steps that remain become negative."""
    if VALUE not in labels.columns:
        raise UsageError(
            f"label set {label_set!r}: must have a column 'value', got {', '.join(sorted(labels.columns))}; name a set of `dataengine label value`"
        )
    scores, ends = {}, {}
    for name in SCORES:
        if name not in labels.columns:
            continue
        values = np.where(labels.valid[name], labels.columns[name].astype(np.float64), np.nan)
        scores[name] = -values if name == LEFT else values
        if name in labels.low:
            ends[name] = tuple(np.where(labels.valid[name], each[name].astype(np.float64), np.nan) for each in (labels.low, labels.high))
    return scores, ends  # type: ignore[return-value]
