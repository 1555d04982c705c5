"""The figures of the benchmark of labels, out of the documents of its parts, beside the goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from dataengine.store.store import Store

AXES = ("x", "y", "z")  # of positions: what goals are stated for, where a body has them
STATED = "0.68"
# Goals by figure: (least, most), a list for each axis; a figure that is a list is within them only where each of its axes is. None: no bound on that side.
GOALS: dict[str, tuple[Any, Any]] = {
    "command_r2": ([0.80, 0.85, 0.88], None),
    "displacement_r2": ([0.90, 0.92, 0.97], None),
    "command_r2_over_flow_ridge": (0.15, None),
    "gripper_balanced_accuracy": (0.93, None),
    "slope_by_axis": (0.9, 1.1),
    "coverage68_by_axis": (0.60, 0.76),
    "idm_cpu_seconds": (None, 180.0),
    "latent.probe_r2": (0.4, None),
    "latent.probe_r2_5pct": (0.5, None),
    "latent.delta_psnr_db": (1.5, None),
    "latent.psnr_over_copy_db": (0.0, None),
    "latent.cpu_seconds": (None, 300.0),
    "downstream.gain_recovered": (0.8, None),
    "downstream.shuffled_gain": (None, 0.1),
    "labelling.ratio_wall": (None, 1.15),
}
MEASURED_ON = "metaworld:push-v3"  # the goals were stated for this environment


def collected_figures(store: Store) -> dict[str, Any]:
    """Return how many episodes and steps each dataset has, and the share that succeeded."""
    counted = store.episodes().group_by("dataset").agg(pl.len().alias("episodes"), pl.col("steps").sum(), pl.col("success").mean()).sort("dataset").collect()
    return {row["dataset"]: {name: row[name] for name in ("episodes", "steps", "success")} for row in counted.iter_rows(named=True)}


def _value(figures: Mapping[str, Any] | None, name: str) -> float | None:
    found = figures[name] if figures is not None and name in figures else None
    return found["value"] if isinstance(found, Mapping) else found


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def axes_of(target: Mapping[str, Any]) -> list[str]:
    """Return the dimensions that goals are stated for: positions where there are any, else all numbers."""
    numbers = [dim for dim in target["dims"] if dim not in target["classes"]]
    return [dim for dim in AXES if dim in numbers] or numbers


def _by_axis(target: Mapping[str, Any], names: Sequence[str], figure: str) -> list[float | None]:
    """Return a figure of each axis, the mean over some sources."""
    return [mean(_value((target["sources"][name]["numbers"] or {}).get(dim), figure) for name in names if name in target["sources"]) for dim in axes_of(target)]


def _coverage(target: Mapping[str, Any], names: Sequence[str]) -> list[float | None]:
    found = []
    for dim in axes_of(target):
        stated = [target["sources"][name]["intervals"] for name in names]
        found.append(mean(each[STATED][dim]["coverage"]["value"] for each in stated if each is not None and STATED in each))
    return found


def idm_figures(document: Mapping[str, Any], models: Sequence[str], cpu_seconds: Sequence[float]) -> dict[str, Any]:
    """Return the figures of models of inverse dynamics and of their baselines: means over the models, lists by axis.

    Args:
        document: what `dataengine.evaluate.label_trial.tried` found.
        models: names of the models, one a seed.
        cpu_seconds: that training took, of each.
    """
    targets = document["targets"]
    found: dict[str, Any] = {"axes": {kind: axes_of(target) for kind, target in targets.items()}}
    named = {"": models, "flow_ridge_": ["flow_ridge"], "flow_ridge_window_": ["flow_ridge_window"], "single_frame_": ["idm-single-frame"]}
    for kind, target in targets.items():
        found |= {f"{prefix}{kind}_r2": _by_axis(target, names, "r2") for prefix, names in named.items()}
        found[f"{kind}_r2_by_seed"] = [_by_axis(target, [name], "r2") for name in models]
        found[f"{kind}_mae"] = _by_axis(target, models, "mae")
    if "command" in targets:
        command = targets["command"]
        over = [ours - theirs for ours, theirs in zip(found["command_r2"], found["flow_ridge_command_r2"], strict=True) if None not in (ours, theirs)]
        found["command_r2_over_flow_ridge"] = min(over) if over else None  # the worst axis
        slopes, covered = _by_axis(command, models, "slope"), _coverage(command, models)
        classes = [command["sources"][name]["classes"] or {} for name in models]
        found |= {
            "gripper_balanced_accuracy": mean(_value(figures, "balanced_accuracy") for each in classes for figures in each.values()),
            "slope": mean(slopes),
            "slope_by_axis": slopes,
            "coverage68": mean(covered),
            "coverage68_by_axis": covered,
        }
    if "displacement" in targets:
        found["displacement_coverage68_by_axis"] = _coverage(targets["displacement"], models)
        found["displacement_slope_by_axis"] = _by_axis(targets["displacement"], models, "slope")
    return found | {"idm_cpu_seconds": mean(cpu_seconds)}


def latent_figures(document: Mapping[str, Any], variants: Sequence[str], seeds: Sequence[int], cpu_seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the figures of latent actions: those of the first variant, the probe of the one that was told a few labels, and all of each variant.

    Args:
        document: what `dataengine.evaluate.latent_trial.tried_latents` found.
        variants: names of the variants; models are named for variant and seed.
        seeds: of the models.
        cpu_seconds: that training took, by model.
    """
    target = document["targets"]["displacement"]
    each: dict[str, Any] = {}
    for variant in variants:
        models = [f"{variant}-{seed}" for seed in seeds]
        axes = _by_axis(target, [f"{model}: probe" for model in models], "r2")
        told = [document["latent"][model] for model in models]
        each[variant] = {
            "probe_r2": mean(axes),
            "probe_r2_by_axis": axes,
            "probe_r2_few_labels": mean(_by_axis(target, [f"{model}: probe, 5 % of episodes" for model in models], "r2")),
            "shuffled_probe_r2": mean(_by_axis(target, [f"{model}: shuffled" for model in models], "r2")),
            **{name: mean((one["psnr"] or {}).get(name) for one in told) for name in ("delta_psnr_db", "psnr_over_copy_db", "psnr_db")},
            "bits": mean(one["bits"] for one in told),
            "cpu_seconds": mean(cpu_seconds[model] for model in models),
        }
        each[variant]["fails"] = [
            name
            for name, least in (("probe_r2", 0.4), ("delta_psnr_db", 1.5), ("psnr_over_copy_db", 0.0))
            if each[variant][name] is None or each[variant][name] < least
        ]
    first = each[variants[0]]
    few = each.get("vae_5pct", {})
    return {
        "probe_r2": first["probe_r2"],
        "probe_r2_5pct": few.get("probe_r2"),
        "delta_psnr_db": first["delta_psnr_db"],
        "psnr_over_copy_db": first["psnr_over_copy_db"],
        "cpu_seconds": max(value for value in cpu_seconds.values()),
        "flow_ridge_displacement_r2": _by_axis(target, ["flow_ridge"], "r2"),
        "picture_alone_displacement_r2": _by_axis(target, ["picture alone"], "r2"),
        "axes": axes_of(target),
        "variants": each,
    }


def downstream_figures(gates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the gain of pseudo-labels and of shuffled ones, means over the models that labelled, with the first one's intervals and successes."""
    first = gates[0]
    return {
        "gain_recovered": mean(each["gain_recovered"]["value"] for each in gates),
        "shuffled_gain": mean(each["shuffled_gain"]["value"] for each in gates),
        "gain_recovered_by_seed": [each["gain_recovered"] for each in gates],
        "shuffled_gain_by_seed": [each["shuffled_gain"] for each in gates],
        "verdicts": [each["verdict"] for each in gates],
        "success": {name: mean(each["conditions"][name]["success"] for each in gates if name in each["conditions"]) for name in first["conditions"]},
        "episodes_a_condition": first["settings"]["episodes"],
        "reason": first["reason"],
    }


def goals_met(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return for each goal of a part that was run the value, the bounds and whether it was met; they were stated for `MEASURED_ON`.

    `met` is None where the figure could not be worked out and nothing of it that is known misses the goal. `all_met` asks for every goal that was judged, and for one
    at least; goals of parts that were not run are under `not_judged`.
    """
    judged: dict[str, Any] = {}
    left: list[str] = []
    for name, (least, most) in GOALS.items():
        holder, value = _look(found, name)
        if not holder:
            left.append(name)
        else:
            judged[name] = {"value": value, "least": least, "most": most, "met": _met(value, least, most)}
    met = bool(judged) and all(each["met"] is True for each in judged.values())
    return {"stated_for": MEASURED_ON, "all_met": met, "figures": judged, "not_judged": left}


def _look(found: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    """Return whether there is a figure of a name with dots in it, and the figure."""
    *parts, last = name.split(".")
    place: Any = found
    for part in parts:
        place = place.get(part)
        if not isinstance(place, Mapping):
            return False, None
    return last in place, place.get(last)


def _met(value: Any, least: Any, most: Any) -> bool | None:
    """Return whether each of a figure's values is within its bounds, None where that cannot be said."""
    values = value if isinstance(value, list) else [value]
    bounds = [bound if isinstance(bound, list) else [bound] * len(values) for bound in (least, most)]
    if any(len(each) != len(values) for each in bounds):
        return False  # stated for other axes
    told = [None if one is None else (low is None or one >= low) and (high is None or one <= high) for one, low, high in zip(values, *bounds, strict=True)]
    if False in told:
        return False
    return None if None in told or not told else True
