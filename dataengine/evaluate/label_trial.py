"""Labels of a store, and models that label, against what was measured beside them: on episodes that they did not learn from, with the baselines in the same table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataengine.core.errors import LabelsNotFound, UnknownName, UsageError
from dataengine.core.labelling import Labeller
from dataengine.core.roles import columns_of
from dataengine.evaluate.baselines import BASELINES, Setting
from dataengine.evaluate.comparison import Comparison, compared
from dataengine.evaluate.folds import Fold, Part
from dataengine.evaluate.judged_together import common_gap, require_own_names, steps_of
from dataengine.evaluate.judging import judged
from dataengine.evaluate.said import Said, Speaker, said_of_labels
from dataengine.evaluate.viewing import Viewer, labels_of
from dataengine.labels.targets import Target, targets_of
from dataengine.store.store import Store

DEFAULT_WINDOW = (-1, 0, 1, 2)  # steps around the labelled one: a past and two future ones
UPPER_BOUNDS = ("finite_difference",)  # baselines that see what no video shows

# What learns from a fold, seeing some cameras, and then labels: a kind of model with its settings.
Learner = Callable[[Fold, Viewer, tuple[str, ...]], Labeller]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What came of a trial of one dataset: JSON values, and the comparisons that pages are drawn from, by target."""

    document: Mapping[str, Any]
    comparisons: Mapping[str, Comparison]


@dataclass(frozen=True, eq=False)
class Trial:
    """What is tried on one dataset.

    Attributes:
        store: the version that is read.
        dataset: its name.
        folds: what is learned from and what is judged.
        label_sets: names of label sets in the store.
        labellers: models by name.
        learners: what learns from each fold, by name.
        baselines: names, see `BASELINES`.
        seed: of what is random.
        kinds: which targets are judged.
    """

    store: Store
    dataset: str
    folds: Sequence[Fold]
    label_sets: Sequence[str] = ()
    labellers: Mapping[str, Labeller] = field(default_factory=dict)
    learners: Mapping[str, Learner] = field(default_factory=dict)
    baselines: Sequence[str] = tuple(BASELINES)
    seed: int = 0
    kinds: Sequence[str] = ("command", "displacement")


def tried(trial: Trial, progress: Callable[[str], None] = lambda said: None) -> Judgement:
    """Judge everything that is asked for.

    Raises:
        UsageError: there is nothing to judge, nothing was measured to judge it by, or what is judged cannot stand in one table.
        UnknownName: there is no such baseline or label set.
    """
    for name in trial.baselines:
        if name not in BASELINES:
            raise UnknownName("baseline", name, BASELINES)
    require_own_names([*trial.label_sets, *trial.labellers, *trial.learners, *trial.baselines])
    with Viewer(trial.store) as viewer:
        return _tried(trial, viewer, progress)


def _tried(trial: Trial, viewer: Viewer, progress: Callable[[str], None]) -> Judgement:
    sets = trial.store.label_sets()
    for name in trial.label_sets:
        if name not in sets:
            raise UnknownName("label set", name, sets)
    facts = {name: labeller.label_set(name) for name, labeller in trial.labellers.items()} | {name: sets[name].label_set for name in trial.label_sets}
    told = {name: dict(label_set.parameters) for name, label_set in facts.items()}
    judged_parts = [part for fold in trial.folds for part in fold.test]
    if not judged_parts:
        raise UsageError(f"dataset {trial.dataset!r}: has no episode to judge")
    if not any(target.kind in trial.kinds for target in targets_of_parts(viewer, judged_parts, None)):
        raise UsageError(f"dataset {trial.dataset!r}: must hold `action` or `observation.state` (one column) to compare labels with, found neither")
    rate = next((part.row["rate_hz"] for part in judged_parts if part.row["rate_hz"]), None)
    common_gap(told, trial.kinds, rate)  # before anything is learned
    speakers: dict[str, list[Speaker]] = {}
    seconds: dict[str, float] = {}
    missing: list[dict[str, str]] = []
    for name in trial.label_sets:
        speakers[name] = [_stored(trial.store, name)] * len(trial.folds)
    for name, labeller in trial.labellers.items():
        speakers[name] = [_labelling(viewer, labeller)] * len(trial.folds)
    cameras, window, size = _window(viewer, judged_parts, trial.labellers, told)
    for fold in trial.folds:
        for name, learner in trial.learners.items():
            started = time.process_time()
            labeller = learner(fold, viewer, cameras)
            told.setdefault(name, dict(labeller.label_set("learned").parameters))
            speakers.setdefault(name, []).append(_labelling(viewer, labeller))
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - started
            progress(f"{trial.dataset}, {fold.name}: {name} has learned")
    gap_s = common_gap(told, trial.kinds, rate)
    known = targets_of_parts(viewer, judged_parts, gap_s)
    targets = tuple(target for target in known if target.kind in trial.kinds)
    gap_steps = tuple(range(steps_of(gap_s, rate) + 1))
    for fold in trial.folds:
        setting = Setting(viewer, fold, targets, cameras, window, size, trial.seed, gap_steps, known)
        for name in trial.baselines:
            started = time.process_time()
            speakers.setdefault(name, []).append(BASELINES[name](setting))
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - started
            progress(f"{trial.dataset}, {fold.name}: {name} has learned")
    told |= {name: {"interval": 0.68} for name in trial.baselines if name.endswith("ridge") or name in ("single_frame", "flow_ridge_window", "null")}
    comparisons: dict[str, Comparison] = {target.kind: compared(viewer, target, trial.folds, speakers) for target in targets}
    stated = {name: float(each["interval"]) for name, each in told.items() if isinstance(each.get("interval"), int | float)}
    for kind, comparison in comparisons.items():
        missing += [
            {"what": f"{name}: {kind}", "why": _why_not(name, kind)}
            for name in speakers
            if name not in comparison.said or not comparison.said[name].valid.any()
        ]
        if comparison.common.sum() == 0:
            missing.append({"what": kind, "why": "there is no step that was measured and of which everyone said something"})
    document = {
        "dataset": trial.dataset,
        "embodiments": sorted({str(part.row["embodiment"]) for part in judged_parts if part.row["embodiment"]}),
        "rates_hz": sorted({float(part.row["rate_hz"]) for part in judged_parts if part.row["rate_hz"] is not None}),
        "folds": [{"name": fold.name, "learned_from": len(fold.train), "judged": len(fold.test)} for fold in trial.folds],
        "window_steps": list(window),
        "gap_s": gap_s,
        "label_sets": {name: {"model": each.model, "trained_on": each.trained_on, "parameters": dict(each.parameters)} for name, each in facts.items()},
        "baselines": list(trial.baselines),
        "cpu_seconds": {name: round(each, 2) for name, each in seconds.items()},
        "targets": {kind: judged(comparison, stated, trial.seed) for kind, comparison in comparisons.items()},
        "not_computed": missing,
    }
    return Judgement(document, comparisons)


def targets_of_parts(viewer: Viewer, parts: Sequence[Part], gap_s: float | None) -> tuple[Target, ...]:
    """Return the targets of the first part that has any; parts of another shape are told when they are compared."""
    for part in parts:
        found = targets_of(viewer.measured(part), gap_s=gap_s)
        if found:
            return tuple(found)
    return ()


def _stored(store: Store, name: str) -> Speaker:
    def say(part: Part) -> Mapping[str, Said]:
        try:
            labels = store.read_labels(part.row["episode_id"], name)
        except LabelsNotFound:
            return {}
        return said_of_labels(labels, slice(part.start, part.stop))

    return say


def _labelling(viewer: Viewer, labeller: Labeller) -> Speaker:
    def say(part: Part) -> Mapping[str, Said]:
        return said_of_labels(labels_of(labeller, viewer.view(part, labeller.needs)))

    return say


def _window(
    viewer: Viewer, parts: Sequence[Part], labellers: Mapping[str, Labeller], told: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """Return the cameras, the window in steps and the size in px that baselines use: those of the widest model, else the defaults."""
    rate = next((part.row["rate_hz"] for part in parts if part.row["rate_hz"]), None)
    seconds = [(-labeller.needs.before_s, labeller.needs.after_s) for labeller in labellers.values()]
    seconds += [(min(each["window_s"]), max(each["window_s"])) for each in told.values() if each.get("window_s")]
    cameras: tuple[str, ...] = ("camera:primary",)
    size = 64
    if labellers:
        needs = next(iter(labellers.values())).needs
        cameras, size = needs.cameras, min(needs.size[0], 128)
    if cameras == ("camera:primary",):
        cameras = camera_of(viewer, parts)
    if not seconds or rate is None:
        return cameras, DEFAULT_WINDOW, size
    first, last = min(min(before for before, _ in seconds), 0.0), max(after for _, after in seconds)
    steps = range(round(first * rate), max(1, round(last * rate)) + 1)
    return cameras, tuple(steps), size


def camera_of(viewer: Viewer, parts: Sequence[Part]) -> tuple[str, ...]:
    """Return the primary camera, or the first in order of names where no camera is said to be that."""
    known = viewer.store.columns(parts[0].row)
    if columns_of("camera:primary", known):
        return ("camera:primary",)
    cameras = sorted(name for name, column in known.items() if column.kind == "image" and column.steps)
    return (cameras[0],) if cameras else ("camera:primary",)


def _why_not(name: str, kind: str) -> str:
    if name in UPPER_BOUNDS and kind == "displacement":
        return "it is made of the displacement itself"
    if name in UPPER_BOUNDS:
        return "there is no measured state"
    return f"it has no labels of the {kind} of these episodes"
