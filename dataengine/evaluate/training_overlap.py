"""How much of what is judged a model has seen before: learned from, or been calibrated on. Figures of such episodes are better than those of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from dataengine.core.errors import VersionNotFound
from dataengine.core.labels import LabelSet
from dataengine.evaluate.folds import Fold
from dataengine.store.query import where
from dataengine.store.store import Store, require_store

CALIBRATED = ("idm", "mapped", "value")  # kinds that are fitted to the episodes held out of their training

if TYPE_CHECKING:
    from dataengine.models.checkpoint import Checkpoint


def training_overlap(store: Store, dataset: str, folds: Sequence[Fold], models: Sequence[str], label_sets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each model and label set what it has seen of the judged episodes, None where that is not known.

    Args:
        store: the version that is judged.
        dataset: what is judged of it.
        folds: whose test parts are judged.
        models: folders of models; each is named for its folder.
        label_sets: names of label sets of the store. They name the datasets that their model learned from, not its episodes.

    Returns:
        "seen_in_training" and "calibrated_on": how many episodes by name; "learned_from": the datasets by name.
    """
    from dataengine.models.checkpoint import load_checkpoint

    judged = {str(part.row["episode_id"]) for fold in folds for part in fold.test}
    found: dict[str, dict[str, Any]] = {"seen_in_training": {}, "calibrated_on": {}, "learned_from": {}}
    sets = store.label_sets() if label_sets else {}
    told = {Path(folder).name: _of_model(store, dataset, judged, load_checkpoint(folder)) for folder in models}
    told |= {name: _of_label_set(store, dataset, sets[name].label_set) for name in label_sets}
    for name, (seen, calibrated, learned_from) in told.items():
        found["seen_in_training"][name], found["calibrated_on"][name], found["learned_from"][name] = seen, calibrated, learned_from
    return found


def _of_model(store: Store, dataset: str, judged: set[str], checkpoint: Checkpoint) -> tuple[int | None, int | None, list[str] | None]:
    recipe = checkpoint.train.get("recipe")
    if not isinstance(recipe, Mapping):
        return None, None, None
    datasets = list(recipe["datasets"])
    seen, held = _of_recipe(store, dataset, checkpoint.train.get("trained_on"), recipe)
    if checkpoint.kind == "mapped":  # its latents have seen episodes too
        latent = checkpoint.config["latent"]
        told = latent.get("recipe")
        under = _of_recipe(store, dataset, latent.get("trained_on"), told)[0] if isinstance(told, Mapping) else None
        seen = seen | under if seen is not None and under is not None else None
    calibrated = len(judged & held) if checkpoint.kind in CALIBRATED else 0
    return len(judged & seen) if seen is not None else None, calibrated, datasets


def _of_recipe(store: Store, dataset: str, trained_on: object, recipe: Mapping[str, Any]) -> tuple[set[str] | None, set[str]]:
    """Return which episodes of a dataset a training learned from, None where its version is gone, and which it held out."""
    if not _is_of(store, trained_on) or dataset not in recipe["datasets"]:
        return set(), set()
    held = set(recipe["held_out"].get(dataset, ()))
    version = recipe.get("version", str(trained_on).partition("@")[2])
    try:
        then = Store(store.objects, str(version))  # what it learned from, whatever was added or removed since
    except VersionNotFound:
        return None, held
    rows = where(then.episodes().filter(pl.col("dataset") == dataset), recipe.get("where")).select("episode_id").collect()
    return set(rows["episode_id"]) - held, held


def _of_label_set(store: Store, dataset: str, label_set: LabelSet) -> tuple[int | None, int | None, list[str] | None]:
    if label_set.trained_on is None:
        return 0, 0, []  # nothing was trained
    told = label_set.parameters.get("learned_from")
    datasets = [str(name) for name in told] if isinstance(told, list | tuple) else None
    if not _is_of(store, label_set.trained_on) or (datasets is not None and dataset not in datasets):
        return 0, 0, datasets
    return None, None, datasets


def _is_of(store: Store, trained_on: object) -> bool:
    """Return whether a model was trained on some version of a store."""
    return bool(str(trained_on or "").partition("@")[0] == require_store(store.objects)["store_id"])


def cautions(document: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know of sources that have seen what they are judged by, a sentence each.

    Args:
        document: what was found of a dataset, with what `training_overlap` found.
    """
    said = []
    for name, count in document.get("seen_in_training", {}).items():
        learned_from = document["learned_from"][name]
        if count:
            said.append(f"{name}: learned from {count} of the judged episodes; what it says of those tells nothing of others.")
        elif count is None and learned_from is not None:
            said.append(
                f"{name}: its model learned from dataset {document['dataset']}, and from which of its episodes is not known; "
                "judge the model with --model, or labels of another dataset."
            )
        elif count is None:
            said.append(f"{name}: what its model learned from is not known; it may have learned from the judged episodes.")
    for name, count in document.get("calibrated_on", {}).items():
        if count:
            said.append(f"{name}: was calibrated on {count} of the judged episodes; its scale and its intervals fit them better than others.")
    return said
