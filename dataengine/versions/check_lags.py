"""Whether the actions of a dataset stand a step or more from the motion that they make, by the lag profiles of its episodes together."""

from __future__ import annotations

import numpy as np
import polars as pl

from dataengine.align.lag_profile import LAGS, plausible_lags
from dataengine.core.arrays import Array
from dataengine.core.problem import Problem
from dataengine.store.action_lags import FIGURE, said
from dataengine.store.store import Store

MIN_EPISODES = 5
MIN_MEAN = 0.3  # of the correlation at the best lag
STANDARD_ERRORS = 3.0  # by which the best lag must lie above every other, over the episodes
ADVICE = "see how the recorder pairs pictures and actions; a label that is off by one step costs a policy silently"


def agreed_lag(curves: Array) -> int | None:
    """Return the lag at which the curves (E, lags) of a dataset's episodes are highest together; None where that is not beyond doubt.

    One episode that moves smoothly is nearly as well explained at the next lag; over many of them the difference counts, or it is none.
    """
    known = np.isfinite(curves).mean(axis=0) >= 0.5
    if len(curves) < MIN_EPISODES or known.sum() < 3:
        return None
    places = np.flatnonzero(known)
    curves = curves[:, places]
    curves = curves[np.isfinite(curves).all(axis=1)]
    if len(curves) < MIN_EPISODES:
        return None
    mean = curves.mean(axis=0)
    best = int(mean.argmax())
    if mean[best] < MIN_MEAN or best in (0, len(places) - 1):
        return None
    lead = curves[:, [best]] - np.delete(curves, best, axis=1)
    error = lead.std(axis=0, ddof=1) / np.sqrt(len(lead))
    return LAGS[places[best]] if bool((lead.mean(axis=0) > np.maximum(STANDARD_ERRORS * error, 1e-3)).all()) else None


def check_lags(store: Store) -> list[Problem]:
    """Compare the lag profiles that were measured when episodes landed, by dataset, reading and camera.

    A lag that no body can have is a warning; one within a controller's latency is said as a note: an inverse-dynamics model needs a window that reaches so far.
    """
    figure = pl.col("figures").struct
    rows = (
        store.episodes()
        .select("dataset", "reading", "episode_id", "rate_hz", "figures")
        .explode("figures")
        .select("dataset", "reading", "episode_id", "rate_hz", figure.field("name").alias("name"), figure.field("value").alias("value"))
        .filter(pl.col("name").str.starts_with(f"{FIGURE}_at_"))
        .sort("dataset", "name", "reading", "episode_id")
        .collect()
        .with_columns(
            pl.col("name").str.extract(rf"^{FIGURE}_at_([+-]\d+)\.", 1).cast(pl.Int64).alias("lag"),
            pl.col("name").str.replace(rf"^{FIGURE}_at_[+-]\d+\.", "").alias("camera"),
        )
    )
    problems = []
    for (dataset, camera, _), group in rows.group_by("dataset", "camera", "reading", maintain_order=True):
        episodes = {episode: place for place, episode in enumerate(group["episode_id"].unique(maintain_order=True))}
        curves = np.full((len(episodes), len(LAGS)), np.nan)
        for episode, lag, value in group.select("episode_id", "lag", "value").iter_rows():
            curves[episodes[episode], LAGS.index(lag)] = value
        lag = agreed_lag(curves)
        if lag is None or lag == 0:
            continue
        rates = group["rate_hz"].drop_nulls().to_list()
        first, last = plausible_lags(float(np.median(rates)) if rates else None)
        possible = first <= lag <= last
        found = f"{said(lag)}, by {len(curves)} episodes together (mean correlation {np.nanmean(curves[:, LAGS.index(lag)]):.2f})"
        where = f"dataset {dataset}: {camera}"
        expected = "actions with the motion that they make"
        advice = "" if possible else ADVICE
        problems.append(Problem(FIGURE, f"{where}: expected {expected}, found them {found}", where, "info" if possible else "warning", expected, found, advice))
    return problems
