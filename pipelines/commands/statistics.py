"""`dataengine stats`: statistics of the numeric columns of a dataset, printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataengine.core.errors import UnknownName, UsageError
from dataengine.store.store import open_store
from dataengine.transforms.horizon import REFERENCES, Horizon
from dataengine.versions.statistics import Grouping, dataset_statistics, grouped
from pipelines.commands.printing import count, print_json, table

SHOWN = ("mean", "std", "min", "q01", "q10", "q50", "q90", "q99", "max")
GROUPINGS: dict[str, Grouping] = {"embodiment": "embodiment", "control-mode": "control_mode"}


def stats(
    address: str,
    dataset: str | None,
    condition: str | None = None,
    by: str | None = None,
    horizon: int | None = None,
    relative: str | None = None,
    as_json: bool = False,
) -> None:
    """Print statistics of each numeric column of a dataset, or of each step of a horizon of its action."""
    if by is not None and by not in GROUPINGS:
        raise UnknownName("grouping for --by", by, GROUPINGS)
    if relative is not None and relative not in REFERENCES:
        raise UnknownName("reference for --relative", relative, REFERENCES)
    if relative is not None and horizon is None:
        raise UsageError("--relative: must be given with --horizon, the number of action steps in a window")
    window = Horizon(horizon, relative) if horizon is not None else None
    store = open_store(address)
    names = store.datasets()
    chosen = dataset or store.dataset or (names[0] if len(names) == 1 else None)
    if chosen is None:
        raise UsageError(f"{address}: holds {len(names)} datasets; name one with --dataset: {', '.join(names)}")
    document = dataset_statistics(store, chosen, condition, window)
    groups = grouped(document, GROUPINGS[by] if by is not None else None)
    if as_json:
        facts = {"dataset": chosen, "version": document["version"], "settings": document["settings"]}
        print_json(facts | ({"by": GROUPINGS[by], "groups": groups} if by is not None else groups[0]))
        return
    for group in groups:
        if by is not None:
            print(f"{by} {group[GROUPINGS[by]] or 'not known'}: {count(group['episodes'], 'episode')}, {count(group['steps'], 'step')}")
        _print_columns(group["columns"])
        for name, why in group["left_out"].items():
            print(f"{name}: left out, {why}")
    columns = {name for group in groups for name in group["columns"]}
    episodes = sum(group["episodes"] for group in groups)
    print(f"dataset {chosen}, {count(len(columns), 'column')}, {count(episodes, 'episode')}" + (f", {count(len(groups), 'group')}" if by is not None else ""))


def _print_columns(columns: Mapping[str, Any]) -> None:
    per_step = any(isinstance(entry, list) for entry in columns.values())
    rows = []
    for name, entry in columns.items():
        for step, of_step in enumerate(entry if isinstance(entry, list) else [entry]):
            for at, dim in enumerate(of_step["dims"] or range(len(of_step["mean"]))):
                numbers = ["" if of_step[key][at] is None else f"{of_step[key][at]:.4g}" for key in SHOWN]
                rows.append([name if at == step == 0 else "", *([step if at == 0 else ""] if per_step else []), dim, *numbers])
    table(["column", *(["step"] if per_step else []), "dim", *SHOWN], rows, right=list(SHOWN))
