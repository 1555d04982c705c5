"""Whether the episodes of a dataset agree that their actions stand a step or more from the motion that they make."""

from __future__ import annotations

from collections import Counter

import polars as pl

from dataengine.align.lag_profile import plausible_lags
from dataengine.core.problem import Problem
from dataengine.store.action_lags import FIGURE, said
from dataengine.store.store import Store

MIN_EPISODES = 3
AGREE = 0.6  # of the episodes whose lag is known

ADVICE = "see how the recorder pairs pictures and actions; a label that is off by one step costs a policy silently"


def check_lags(store: Store) -> list[Problem]:
    """Compare the lags that were measured when episodes landed, by dataset, reading and camera.

    A lag that no body can have is a warning; one within a controller's latency is said as a note: an inverse-dynamics model needs a window that reaches so far.
    """
    name = pl.col("figures").struct.field("name")
    rows = (
        store.episodes()
        .select("dataset", "reading", "rate_hz", "figures")
        .explode("figures")
        .filter(name.str.starts_with(f"{FIGURE}."))
        .select("dataset", "reading", "rate_hz", name.alias("name"), pl.col("figures").struct.field("value").cast(pl.Int64).alias("lag"))
        .sort("dataset", "name", "reading")
        .collect()
    )
    problems = []
    for (dataset, camera, _), group in rows.group_by("dataset", "name", "reading", maintain_order=True):
        lags = [int(lag) for lag in group["lag"]]
        lag, count = min(Counter(lags).items(), key=lambda entry: (-entry[1], entry[0]))
        if len(lags) < MIN_EPISODES or count < AGREE * len(lags) or lag == 0:
            continue
        first, last = plausible_lags(group["rate_hz"].median() or None)  # type: ignore[arg-type]
        stream = str(camera).removeprefix(f"{FIGURE}.")
        possible = first <= lag <= last
        found = f"{said(lag)} in {count} of {len(lags)} episodes whose lag is known"
        where = f"dataset {dataset}: {stream}"
        message = f"{where}: expected actions with the motion that they make, found them {found}"
        problems.append(
            Problem(FIGURE, message, where, "info" if possible else "warning", "actions with the motion that they make", found, "" if possible else ADVICE)
        )
    return problems
