"""The page of a training: what was learned from, how it went, and what was found on the episodes that were held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dataengine.view.charts import Series, line_chart
from dataengine.view.markup import Markup, number
from dataengine.view.page import Section, facts, figures, page, table

LOG_FROM = 30.0  # a curve that falls by more than this factor is drawn on a logarithmic scale


def training_page(title: str, train: Mapping[str, Any], curve: Sequence[Mapping[str, float]], model: str) -> str:
    """Return the page.

    Args:
        title: of the page.
        train: what is in the model's `train.json`.
        curve: figures by step, each with a "step".
        model: the model's digest.
    """
    recipe, fit = train["recipe"], train["fit"]
    learned = facts(
        {
            "model": model,
            "trained on": f"{train['trained_on']}, datasets {', '.join(recipe['datasets'])}",
            "only where": recipe["where"] or "every episode",
            "samples an epoch": train["samples"],
            "held out": f"{sum(len(ids) for ids in recipe['held_out'].values())} episodes, split {train['split']}",
            "seed": recipe["seed"],
            "parameters": train["parameters"],
            "steps": fit["steps"],
            "time": f"{fit['seconds']:.0f} s, {fit['cpu_seconds']:.0f} s of CPU, on {train['device']}",
            "code": f"dataengine {train['code']}",
        }
    )
    sections = [Section("What it learned from", [learned])]
    if curve:  # what is solved for in one go has none
        sections.append(Section("How it went", [figures(*_curves(curve))]))
    rows = figure_rows(train["held_out"])
    if rows:
        told = table(["figure", "value"], rows, caption="On episodes that were held out of training; what was fitted to them says so by its name.", text=[1])
        sections.append(Section("Held out", [told]))
    settings = [[name, _text(value)] for name, value in [*_flat(recipe["model"], "model."), *_flat(recipe["fit"], "fit.")]]
    sections.append(Section("Settings", [table(["setting", "value"], settings, text=[1])]))
    return page(title, sections, f"Scale {recipe['scale']}, from a version that stays as it is.")


def _curves(curve: Sequence[Mapping[str, float]]) -> list[Markup]:
    steps = [line["step"] for line in curve]
    found = []
    for name in [name for name in (curve[-1] if curve else {}) if name not in ("step", "seconds")]:
        values = [line.get(name, float("nan")) for line in curve]
        there = [value for value in values if value == value]
        steep = bool(there) and min(there) > 0 and max(there) > LOG_FROM * min(there)
        found.append(line_chart([Series("", steps, values)], name.replace("_", " "), "step", log_y=steep))
    return found


def figure_rows(figures_of: Mapping[str, Any]) -> list[list[object]]:
    """Return nested figures as rows of a name and a text."""
    return [[name, _text(value)] for name, value in _flat(figures_of)]


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, each in value.items():
        found += _flat(each, f"{prefix}{name}.") if isinstance(each, Mapping) else [(prefix + name, each)]
    return found


def _text(value: Any) -> str:
    return ", ".join(_text(each) for each in value) if isinstance(value, list | tuple) else number(value)
