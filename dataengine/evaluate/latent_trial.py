"""Latent actions against what was measured: probes with their controls, what the decoder makes of them, how codes are used, and how much they see of the scene."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import LabelsNotFound, UnknownName, UsageError
from dataengine.core.labelling import Needs
from dataengine.core.labels import Labels
from dataengine.evaluate.baselines import BASELINES, Setting
from dataengine.evaluate.changed_looks import looks_figures
from dataengine.evaluate.comparison import Comparison, compared
from dataengine.evaluate.folds import Fold, Part
from dataengine.evaluate.judged_together import common_gap, require_own_names, steps_of
from dataengine.evaluate.judging import judged
from dataengine.evaluate.label_trial import Judgement, camera_of, targets_of_parts
from dataengine.evaluate.probes import Encoded, Encoder, mutual_information, one_hot, perceptron, picture_alone, probe, thirds
from dataengine.evaluate.said import Speaker
from dataengine.evaluate.viewing import Viewer, labels_of
from dataengine.labels.latent_figures import psnr_figures
from dataengine.labels.latent_labeller import CODE, LATENT, LatentLabeller
from dataengine.models.codebook_health import CodebookHealth
from dataengine.store.store import Store

LOOK_ENVIRONMENTS = ("arm",)  # worlds that can be looked at again with other looks
BASELINE = "flow_ridge"


@dataclass(frozen=True, eq=False)
class LatentSource:
    """Where latents come from: a model that labels now, with an untrained one of the same kind as its control, or a label set in the store."""

    name: str
    labeller: LatentLabeller | None = None
    control: LatentLabeller | None = None


@dataclass(frozen=True, eq=False)
class LatentTrial:
    """What is tried on one dataset: see `dataengine.evaluate.label_trial.Trial`."""

    store: Store
    dataset: str
    folds: Sequence[Fold]
    sources: Sequence[LatentSource]
    seed: int = 0
    kinds: Sequence[str] = ("command", "displacement")


def tried_latents(trial: LatentTrial, progress: Callable[[str], None] = lambda said: None) -> Judgement:
    """Judge latents.

    Raises:
        UsageError: nothing was measured to judge them by, there is no latent, or two of them cannot stand in one table.
        UnknownName: there is no such label set.
    """
    require_own_names(source.name for source in trial.sources)
    with Viewer(trial.store) as viewer:
        return _tried(trial, viewer, progress)


def _tried(trial: LatentTrial, viewer: Viewer, progress: Callable[[str], None]) -> Judgement:
    parts = [part for fold in trial.folds for part in fold.test]
    sets = trial.store.label_sets()
    for each in trial.sources:
        if each.labeller is None and each.name not in sets:
            raise UnknownName("label set", each.name, sets)
    told = {each.name: (each.labeller.label_set(each.name) if each.labeller is not None else sets[each.name].label_set) for each in trial.sources}
    rate = next((part.row["rate_hz"] for part in parts if part.row["rate_hz"]), None)
    gap_s = common_gap({name: label_set.parameters for name, label_set in told.items()}, trial.kinds, rate)
    targets = tuple(target for target in targets_of_parts(viewer, parts, gap_s) if target.kind in trial.kinds)
    if not targets:
        raise UsageError(f"dataset {trial.dataset!r}: must hold `action` or `observation.state` (one column) to compare latents with, found neither")
    between = (0, steps_of(gap_s, rate))  # what the latents see too: the two ends of the gap
    first = next((each.labeller.needs for each in trial.sources if each.labeller is not None), None)
    cameras, size = (first.cameras, first.size[0]) if first is not None else (camera_of(viewer, parts), 64)
    speakers: dict[str, list[Speaker]] = {}
    latent: dict[str, Any] = {}
    missing: list[dict[str, str]] = []
    started = time.process_time()
    encoders = {each.name: _encoder(viewer, each) for each in trial.sources}
    discrete = {name: _discrete(encoder, trial.folds) for name, encoder in encoders.items()}
    for fold in trial.folds:
        setting = Setting(viewer, fold, targets, cameras, between, size, trial.seed, between)
        for source in trial.sources:
            for name, speaker in _probes(setting, encoders[source.name], discrete[source.name]).items():
                speakers.setdefault(f"{source.name}: {name}", []).append(speaker)
            if source.control is not None:
                control = _encoder(viewer, LatentSource(source.name, source.control))
                speakers.setdefault(f"{source.name}: untrained encoder", []).append(probe(setting, control))
            progress(f"{trial.dataset}, {fold.name}: {source.name} is probed")
        speakers.setdefault("picture alone", []).append(probe(setting, picture_alone(setting)))
        speakers.setdefault(BASELINE, []).append(BASELINES[BASELINE](setting))
        speakers.setdefault("mean", []).append(BASELINES["mean"](setting))
    comparisons: dict[str, Comparison] = {target.kind: compared(viewer, target, trial.folds, speakers) for target in targets}
    for source in trial.sources:
        latent[source.name], why = _figures(viewer, trial, source, encoders[source.name], discrete[source.name], parts, comparisons)
        missing += [{"what": f"{source.name}: {what}", "why": reason} for what, reason in why.items()]
        progress(f"{trial.dataset}: {source.name} is judged")
    documents = {kind: judged(comparison, {BASELINE: 0.68}, trial.seed) for kind, comparison in comparisons.items()}
    for name, found in latent.items():
        found["probe_over_controls"] = {kind: _over(document, name) for kind, document in documents.items()}
    document = {
        "dataset": trial.dataset,
        "embodiments": sorted({str(part.row["embodiment"]) for part in parts if part.row["embodiment"]}),
        "rates_hz": sorted({float(part.row["rate_hz"]) for part in parts if part.row["rate_hz"] is not None}),
        "folds": [{"name": fold.name, "learned_from": len(fold.train), "judged": len(fold.test)} for fold in trial.folds],
        "gap_s": gap_s,
        "label_sets": {name: {"model": each.model, "trained_on": each.trained_on, "parameters": dict(each.parameters)} for name, each in told.items()},
        "cpu_seconds": {"all": round(time.process_time() - started, 2)},
        "latent": latent,
        "targets": documents,
        "not_computed": missing,
    }
    return Judgement(document, comparisons)


def _discrete(encoder: Encoder, folds: Sequence[Fold]) -> bool:
    """Return whether latents come with codes: all of those that there are."""
    encoded = [encoder(part) for fold in folds for part in (*fold.train, *fold.test)]
    labelled = [each for each in encoded if each.valid.any()]
    return bool(labelled) and all(each.codes is not None for each in labelled)


def _probes(setting: Setting, encoder: Encoder, discrete: bool) -> dict[str, Speaker]:
    found = {
        "probe": probe(setting, encoder),
        "probe, 5 % of episodes": probe(setting, encoder, share=0.05),
        "probe, 1 % of episodes": probe(setting, encoder, share=0.01),
        "probe, network": probe(setting, encoder, fit=perceptron),
        "shuffled": probe(setting, encoder, shuffled=True),
    }
    if discrete:
        found["probe, codes"] = probe(setting, one_hot(encoder))
    return found


def _encoder(viewer: Viewer, source: LatentSource) -> Encoder:
    kept: dict[tuple[str, int, int], Encoded] = {}

    def encode(part: Part) -> Encoded:
        key = (str(part.row["episode_id"]), part.start, part.stop)
        if key not in kept:
            kept[key] = _encoded(_labels(viewer, source, part), slice(None) if source.labeller is not None else slice(part.start, part.stop), part)
        return kept[key]

    return encode


def _labels(viewer: Viewer, source: LatentSource, part: Part) -> Labels | None:
    if source.labeller is not None:
        return labels_of(source.labeller, viewer.view(part, source.labeller.needs))
    try:
        return viewer.store.read_labels(part.row["episode_id"], source.name)
    except LabelsNotFound:
        return None


def _encoded(labels: Labels | None, rows: slice, part: Part) -> Encoded:
    steps = part.stop - part.start
    if labels is None:
        return Encoded(np.zeros((steps, 1)), np.zeros(steps, np.bool_))
    name = next((name for name, spec in labels.specs.items() if spec.action_source == "latent" and spec.dtype.startswith("float")), None)
    if name is None:
        raise UsageError(f"labels of episode {part.row['episode_id']}: must have a latent, got {', '.join(labels.columns)}; leave out --latent")
    values = labels.columns[name].reshape(len(labels.columns[name]), -1)[rows].astype(np.float64)
    codes = labels.columns[CODE].reshape(len(labels.columns[CODE]), -1)[rows] if CODE in labels.columns else None
    size = _codebook_size(labels) if codes is not None else 0
    return Encoded(values, labels.valid[name][rows], codes, size)


def _codebook_size(labels: Labels) -> int:
    """Return how many codes there are, as the column says it; one more than the largest where it does not."""
    said = labels.specs[CODE].doc.partition("codes in [0, ")[2].partition(")")[0]
    return int(said) if said.isdecimal() else int(labels.columns[CODE].max(initial=0)) + 1


def _over(document: Mapping[str, Any], name: str) -> dict[str, float | None]:
    """Return by how much the mean R² of a probe lies above that of the picture alone and of an untrained encoder."""

    def mean(who: str) -> float | None:
        source = document["sources"].get(who)
        return source["mean"]["r2"]["value"] if source and source["mean"] else None

    own = mean(f"{name}: probe")
    controls = {"picture_alone": mean("picture alone"), "untrained_encoder": mean(f"{name}: untrained encoder")}
    return {control: own - value if own is not None and value is not None else None for control, value in controls.items()}


def _figures(
    viewer: Viewer,
    trial: LatentTrial,
    source: LatentSource,
    encoder: Encoder,
    discrete: bool,
    parts: Sequence[Part],
    comparisons: Mapping[str, Comparison],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what is told of latents beside probes, and what could not be worked out, with why."""
    found: dict[str, Any] = {"bits": None, "psnr": None, "codes": None, "information": None, "looks": None, "looks_untrained": None}
    why: dict[str, str] = {}
    encoded = [encoder(part) for part in parts]
    if source.labeller is not None:
        found["bits"] = source.labeller.bits
        found["psnr"] = _psnr(viewer, source.labeller, parts, trial.seed)
    else:
        why["PSNR, PSNR over copy-last and ΔPSNR"] = "a label set holds no decoder; name the model's folder with --model"
    if not any(each.valid.any() for each in encoded):
        why["use of codes and mutual information"] = "none of the judged episodes has labels of it"
    elif discrete:
        found["codes"], found["information"] = _codes(trial.dataset, encoded, comparisons)
    else:
        why["use of codes and mutual information"] = "the latents are continuous"
    environment = {_environment(part) for part in parts}
    if source.labeller is None:
        why["other looks and distractors"] = "a label set holds no model that could label other pictures; name the model's folder with --model"
    elif environment <= set(LOOK_ENVIRONMENTS) and source.labeller.needs.cameras == ("camera:primary",):
        found["looks"] = looks_figures(source.labeller, LATENT)
        found["looks_untrained"] = looks_figures(source.control, LATENT) if source.control is not None else None
    else:
        why["other looks and distractors"] = "only the sample arm's episodes can be looked at again in another scene"
    return found, why


def _environment(part: Part) -> str | None:
    told = json.loads(part.row["metadata"] or "{}")
    return told.get("environment") if isinstance(told, dict) else None


def _psnr(viewer: Viewer, labeller: LatentLabeller, parts: Sequence[Part], seed: int) -> dict[str, float] | None:
    """Return the decoder's figures over all steps: with the step's own latent, with that of a random step of any part, and of the first picture again."""
    needs = Needs(labeller.needs.cameras, labeller.needs.size, labeller.needs.fit, (), labeller.needs.before_s, labeller.needs.after_s)
    seen, steps, last, latents = [], [], [], []
    for part in parts:
        each = viewer.view(part, needs)
        at = np.arange(each.steps)
        ends, there = labeller.ends(each, at)
        if there.any():
            seen.append(each)
            steps.append(at[there])
            last.append(ends[there])
            latents.append(labeller.answer(labeller.inputs(each, at[there]))[LATENT])
    if not seen:
        return None
    together = np.concatenate(latents)
    other = together[np.random.default_rng(seed).permutation(len(together))]
    errors, first = [], 0
    for each, at, ends, own in zip(seen, steps, last, latents, strict=True):
        pictures = each.pictures[labeller.needs.cameras[0]]
        told = [labeller.predict(each, at, own), labeller.predict(each, at, other[first : first + len(at)]), pictures[at]]
        errors.append(np.stack([_squares(one, pictures[ends]) for one in told], axis=1))
        first += len(at)
    figures = psnr_figures(np.concatenate(errors))
    return {**figures, "copy_psnr_db": figures["psnr_db"] - figures["psnr_over_copy_db"], "steps": float(len(together))}


def _squares(told: Array, true: Array) -> Array:
    return np.asarray(np.square((told.astype(np.float32) - true.astype(np.float32)) / 255).mean(axis=(1, 2, 3), dtype=np.float64))


def _codes(dataset: str, encoded: Sequence[Encoded], comparisons: Mapping[str, Comparison]) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Return how codes are used, and what they share with the measured numbers cut into thirds."""
    valid = np.concatenate([each.valid for each in encoded])
    tokens = next(each.codes.shape[1] for each in encoded if each.codes is not None)
    codes = np.zeros((len(valid), tokens), np.int64)  # of parts without labels they mean nothing, and no step of them is valid
    codes[valid] = np.concatenate([each.codes[each.valid] for each in encoded if each.codes is not None])
    size = max(each.size for each in encoded)
    health = CodebookHealth(codes.shape[1], size)
    health.add(dataset, codes[valid])
    shared: dict[str, float | None] = {}
    for kind, comparison in comparisons.items():
        rows = valid & comparison.valid
        whole = np.unique(codes[rows], axis=0, return_inverse=True)[1].reshape(-1)
        found = mutual_information(whole, thirds(comparison.truth[rows][:, comparison.numbers][:, :3]))
        shared[kind] = found if np.isfinite(found) else None
    return health.report(), shared
