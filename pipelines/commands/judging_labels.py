"""`dataengine evaluate labels`: labels and models against what was measured, with the baselines beside them, as JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.labelling import Labeller
from dataengine.evaluate.baselines import BASELINES
from dataengine.evaluate.folds import SPLITS, Fold, folds_of
from dataengine.evaluate.label_page import label_page
from dataengine.evaluate.label_predictions import write_predictions
from dataengine.evaluate.label_trial import Judgement, Learner, Trial, tried
from dataengine.evaluate.latent_trial import LatentSource, LatentTrial, tried_latents
from dataengine.store.query import where as rows_where
from dataengine.store.row import Row
from dataengine.store.store import Store, open_store, require_store
from dataengine.version import __version__
from pipelines.commands.printing import note, table

CALIBRATED = ("idm", "mapped", "value")  # kinds that are fitted to the episodes held out of their training
DOCUMENT, PAGE = "labels.json", "report.html"
AGAINST = {"action": "command", "state": "displacement"}


def labels(
    store: str,
    datasets: Sequence[str],
    label_sets: Sequence[str],
    models: Sequence[str],
    learn: Sequence[str],
    baselines: str,
    train_datasets: Sequence[str],
    split: str | None,
    folds: int,
    against: Sequence[str],
    where: str | None,
    limit: int | None,
    seed: int,
    device: str,
    latent: bool,
    out: str,
    as_json: bool,
) -> None:
    """Judge what is named, write the report into a folder, and print it."""
    opened = open_store(store)
    for choice in against:
        if choice not in AGAINST:
            raise UnknownName("--against", choice, AGAINST)
    chosen = list(BASELINES) if baselines == "all" else [name for name in baselines.split(",") if name and name != "none"]
    how = split or ("datasets" if train_datasets else "episodes")
    if how not in SPLITS:
        raise UnknownName("split", how, SPLITS)
    if how == "datasets" and not train_datasets:
        raise UsageError("--split datasets: must say with --train-dataset what the baselines learn from")
    labellers = {} if latent else _labellers(models, device)
    learning = _rows(opened, train_datasets, where, limit) if train_datasets else []
    judgements = []
    for dataset in datasets:
        rows = _rows(opened, [dataset], where, limit)
        if not rows:
            raise UsageError(f"dataset {dataset!r}: has no episode to judge" + (f" for which {where} holds" if where else ""))
        made = folds_of(how, rows, learning, folds, seed)
        kinds = tuple(AGAINST[choice] for choice in against) or tuple(AGAINST.values())
        if latent:
            judged = tried_latents(LatentTrial(opened, dataset, made, _latent_sources(label_sets, models, seed, device), seed, kinds), note)
        else:
            judged = tried(Trial(opened, dataset, made, label_sets, labellers, _learners(learn, opened, seed, device), chosen, seed, kinds), note)
        judgements.append(Judgement({**judged.document, **_seen(opened, dataset, made, models)}, judged.comparisons))
    document = {
        "kind": "labels",
        "title": f"Labels of {', '.join(datasets)} against what was measured",
        "store": f"{require_store(opened.objects)['store_id']}@{opened.version.number if opened.version is not None else 'open'}",
        "split": how,
        "seed": seed,
        "where": where,
        "datasets": [judgement.document for judgement in judgements],
        "made_by": f"dataengine {__version__}",
    }
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for judgement in judgements:
        write_predictions(folder, judgement)
    (folder / DOCUMENT).write_text(json.dumps(document, indent=1, allow_nan=False))
    (folder / PAGE).write_text(label_page(document, judgements))
    if as_json:
        print(json.dumps(document, allow_nan=False))
        return
    for judgement in judgements:
        _print(judgement.document)
    print(f"{folder / PAGE}")


def _rows(store: Store, datasets: Sequence[str], where: str | None, limit: int | None) -> list[Row]:
    """Return the episodes that have steps, in the order of their ids."""
    import polars as pl

    there = store.datasets()
    for name in datasets:
        if name not in there:
            raise UnknownName("dataset", name, there)
    frame = rows_where(store.episodes().filter(pl.col("dataset").is_in(list(datasets)) & (pl.col("steps") > 1)), where)
    rows = frame.collect().sort("dataset", "episode_id")
    return list((rows.group_by("dataset", maintain_order=True).head(limit) if limit else rows).iter_rows(named=True))


def _labellers(models: Sequence[str], device: str) -> dict[str, Labeller]:
    """Open models; each is named for its folder."""
    from dataengine.labels.registry import open_labeller
    from dataengine.models.checkpoint import load_checkpoint

    found: dict[str, Labeller] = {}
    for folder in models:
        name = Path(folder).name
        if name in found or name in BASELINES:
            raise UsageError(f"--model {folder}: must be of another name than the other models and baselines; rename the folder")
        found[name] = open_labeller(load_checkpoint(folder).kind, folder, device)
    return found


def _latent_sources(label_sets: Sequence[str], models: Sequence[str], seed: int, device: str) -> list[LatentSource]:
    """Open models of latents, each with one of its kind that was never trained."""
    from dataengine.labels.latent import open_latent, untrained_latent
    from dataengine.models.checkpoint import load_checkpoint

    found = [LatentSource(name) for name in label_sets]
    for folder in models:
        checkpoint = load_checkpoint(folder)
        if checkpoint.kind != "latent":
            raise UsageError(f"--model {folder}: with --latent it must be a model of latent actions, got one of kind {checkpoint.kind!r}")
        found.append(LatentSource(Path(folder).name, open_latent(checkpoint, device), untrained_latent(checkpoint, seed, device)))
    if not found:
        raise UsageError("--latent: must name latents with --label-set or --model, got none")
    return found


def _learners(learn: Sequence[str], store: Store, seed: int, device: str) -> dict[str, Learner]:
    """Return what learns anew from each fold: kinds of models, each perhaps with a YAML file of settings, `idm=settings.yaml`."""
    if not learn:
        return {}
    from dataengine.core.config import read_yaml
    from dataengine.evaluate.fold_learning import learner_of

    found = {}
    version = store.version
    trained_on = f"{require_store(store.objects)['store_id']}@{version.number if version is not None else 0}"
    for asked in learn:
        kind, _, path = asked.partition("=")
        found[kind if kind not in found else asked] = learner_of(kind, read_yaml(path) if path else {}, trained_on, seed, device)
    return found


def _seen(store: Store, dataset: str, folds: Sequence[Fold], models: Sequence[str]) -> dict[str, Any]:
    """Return for each model how many of the judged episodes it learned from and was calibrated on, null where its folder does not tell; labels of those say nothing, or too much of how sure they are."""
    from dataengine.models.checkpoint import load_checkpoint

    judged = {part.row["episode_id"] for fold in folds for part in fold.test}
    seen: dict[str, Any] = {}
    calibrated: dict[str, Any] = {}
    for folder in models:
        name, checkpoint = Path(folder).name, load_checkpoint(folder)
        own = _of_dataset(store, dataset, checkpoint.train.get("trained_on"), checkpoint.train.get("recipe"))
        learned = own[0] if own is not None else None
        if checkpoint.kind == "mapped" and learned is not None:  # its latents have seen episodes too
            latent = checkpoint.config["latent"]
            under = _of_dataset(store, dataset, latent.get("trained_on"), latent.get("recipe"))
            learned = learned | under[0] if under is not None else None
        seen[name] = len(judged & learned) if learned is not None else None
        calibrated[name] = len(judged & own[1]) * (checkpoint.kind in CALIBRATED) if own is not None else None
    return {"seen_in_training": seen, "calibrated_on": calibrated}


def _of_dataset(store: Store, dataset: str, trained_on: object, recipe: object) -> tuple[set[str], set[str]] | None:
    """Return which episodes of a dataset a training with a recipe learned from, and which it held out; None where there is no recipe."""
    if not isinstance(recipe, Mapping):
        return None
    if str(trained_on).partition("@")[0] != require_store(store.objects)["store_id"] or dataset not in recipe["datasets"]:
        return set(), set()
    held = set(recipe["held_out"].get(dataset, ()))
    return {row["episode_id"] for row in _rows(store, [dataset], recipe.get("where"), None)} - held, held


def _print(document: Mapping[str, Any]) -> None:
    """Print R² of each dimension and the balanced accuracy of each class."""
    for kind, target in document["targets"].items():
        names = list(target["sources"])
        rows: list[list[object]] = [["mean R2", *(_shown(target["sources"][name]["mean"], "r2") for name in names)]]
        for dim in target["dims"]:
            group, figure = ("classes", "balanced_accuracy") if dim in target["classes"] else ("numbers", "r2")
            cells = [_shown((target["sources"][name][group] or {}).get(dim), figure) for name in names]
            if any(cells):
                rows.append([f"{dim} balanced accuracy" if group == "classes" else f"{dim} R2", *cells])
        print(f"{document['dataset']}, {kind}: {target['steps']['judged']} steps of {target['steps']['parts']} parts")
        table(["", *names], rows, right=names)
    for name, count in document["seen_in_training"].items():
        if count:
            print(f"{name}: learned from {count} of the judged episodes; what it says of those tells nothing")
    for name, count in document["calibrated_on"].items():
        if count:
            print(f"{name}: was calibrated on {count} of the judged episodes; how sure it is of those tells nothing")


def _shown(figures: Mapping[str, Any] | None, name: str) -> str:
    value = figures[name]["value"] if figures else None
    return "" if value is None else f"{value:.3f}"
