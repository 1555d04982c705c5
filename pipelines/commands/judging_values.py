"""`dataengine evaluate values`."""

from __future__ import annotations

from typing import Any

from dataengine.core.errors import UnknownName
from dataengine.evaluate.labelled_values import labelled_values
from dataengine.evaluate.values import evaluate_values
from dataengine.store.store import open_store
from pipelines.commands.printing import count, note, print_json, table

SHOWN = ("spearman_progress", "spearman_left", "kendall_left", "spearman_within", "auc_at_0_percent", "auc_at_50_percent")


def values(address: str, dataset: str, label_set: str, condition: str | None, baseline_dataset: str | None, seed: int, as_json: bool) -> None:
    """Say how good the value labels of a dataset are, beside baselines."""
    store = open_store(address)
    there = store.datasets()
    for name in (dataset, *([baseline_dataset] if baseline_dataset else [])):
        if name not in there:
            raise UnknownName("dataset", name, there)
    found = labelled_values(store, dataset, label_set, condition)
    if dataset in found.learned_from:
        note(f"the model learned from {dataset}: these figures hold for its held-out episodes alone; choose them with --where, or judge another dataset")
    learned_from = labelled_values(store, baseline_dataset, None).told if baseline_dataset else None
    figures: dict[str, Any] = evaluate_values(found.told, learned_from, seed)
    facts = {
        "dataset": dataset,
        "label_set": label_set,
        "model": found.model,
        "trained_on": found.trained_on,
        "learned_from": list(found.learned_from),
        "unknown_outcome": found.unknown_outcome,
        "unlabelled": found.unlabelled,
        "baselines_learned_from": baseline_dataset or f"{dataset}, four fifths of the episodes at a time",
    }
    if as_json:
        print_json(facts | figures)
        return
    fixed = [name for name in next(iter(figures["scores"].values())) if name.startswith("auc_at_step_")]
    shown = [*SHOWN, *fixed]
    table(["score", *shown], [[name, *(_text(each[column]) for column in shown)] for name, each in figures["scores"].items()], right=shown)
    if "steps_to_success" in figures:
        off = figures["steps_to_success"]
        print(f"steps to success: off by {off['mae']} on average (their mean: {off['mae_of_the_mean']}), {off['coverage68']:.0%} within the 68 % interval")
    print(
        f"{count(figures['episodes'], 'episode')}, {figures['succeeded']} succeeded; {found.unknown_outcome} of unknown outcome, {found.unlabelled} without labels"
    )


def _text(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    low, high = figure["ci95"]
    return f"{figure['value']:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None else "")
