"""The page of a gate: the verdict, success under each condition, and what all of it was measured on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataengine.view.charts import bars
from dataengine.view.markup import Markup, element, number
from dataengine.view.page import Section, facts, figures, page, table

WORDS = {
    "real": "the real demonstrations alone",
    "perfect": "and the others with their true actions",
    "pseudo": "and the others with their pseudo-labels",
    "filtered": "and those steps whose pseudo-label is sure",
    "weighted": "and the others, each step counted as much as its pseudo-label is sure",
    "shuffled": "and the others with pseudo-labels of another episode",
}
LOOKS = {"helps": "good", "hurts": "bad"}


def downstream_page(found: Mapping[str, Any]) -> str:
    """Return the page of what the gate found (see `pipelines.downstream.gate`)."""
    settings, conditions = found["settings"], found["conditions"]
    policies = f"{settings['seeds']} {'policy' if settings['seeds'] == 1 else 'policies'} a condition"
    said = element("p", element("strong", found["verdict"], class_=LOOKS.get(found["verdict"])), f": {found['reason']}")
    gains = facts({"gain recovered": _interval(found["gain_recovered"]), "gain of shuffled labels": _interval(found["shuffled_gain"])})
    sections = [
        Section("Verdict", [said, gains, *_notes(found)]),
        Section("Success", [figures(_chart(conditions), _spread(conditions)), _table(conditions)]),
        Section("Measured on", [_facts(found)]),
    ]
    lead = (
        f"{policies}, cloned with {settings['cloning']['steps']} gradient steps each and played {settings['episodes']} times in {settings['environment']}, "
        "on the same seeds under every condition."
    )
    return page(f"Do the labels {found['label_set']} help?", sections, lead)


def _interval(estimate: Mapping[str, float | None]) -> str:
    if estimate["value"] is None:
        return "not known"
    return f"{number(estimate['value'])}, 95 % interval {number(estimate['low'])} … {number(estimate['high'])}"


def _notes(found: Mapping[str, Any]) -> list[str]:
    notes = [f"Left out: {name}: {why}." for name, why in found["left_out"].items()]
    if found["settings"]["seeds"] == 1:
        notes.append("Only one policy a condition: the intervals do not count how much policies differ.")
    return notes


def _chart(conditions: Mapping[str, Any]) -> Markup:
    values = np.array([[each["success"], each["low"], each["high"]] for each in conditions.values()])
    return bars(list(conditions), ["success"], values[:, :1], values[:, 1:2], values[:, 2:], "Success, with Wilson intervals", "share", y_range=(0.0, 1.0))


def _spread(conditions: Mapping[str, Any]) -> Markup:
    most = max(len(each["by_seed"]) for each in conditions.values())
    values = np.array([[*each["by_seed"], *[np.nan] * (most - len(each["by_seed"]))] for each in conditions.values()])
    return bars(list(conditions), [f"policy {number}" for number in range(most)], values, title="Success of each policy", y_label="share", y_range=(0.0, 1.0))


def _table(conditions: Mapping[str, Any]) -> Markup:
    rows = [
        [
            name,
            WORDS.get(name, ""),
            each["success"],
            each["low"],
            each["high"],
            f"{each['successes']} of {each['episodes']}",
            round(float(np.mean(each["added"]))),
        ]
        for name, each in conditions.items()
    ]
    return table(
        ["condition", "cloned from", "success", "low", "high", "episodes", "steps added"],
        rows,
        "95 % Wilson intervals; steps added: mean over policies.",
        text=[1],
    )


def _facts(found: Mapping[str, Any]) -> Markup:
    settings = found["settings"]
    chosen = {
        name: f"{part['episodes']} episodes of {part['dataset']}" + (f" where {part['where']}" if part["where"] else "")
        for name, part in settings.items()
        if name in ("real", "labelled")
    }
    return facts(
        {
            "store": f"{found['store']}@{found['version']}",
            "label set": f"{found['label_set']}, column {found['column']}",
            "model": found["model"],
            "trained on": found["trained_on"] or "nothing",
            "recipe": found["recipe"],
            **chosen,
            "environment": f"{settings['environment']}, version {settings['environment_version']}, at most {settings['max_steps']} steps",
            "policy": f"{settings['policy']}, sees {', '.join([*settings['inputs'], *settings['cameras']])}",
            "cloning": ", ".join(f"{name} {value}" for name, value in settings["cloning"].items()),
            "CPU time": ", ".join(f"{name} {value:.0f} s" for name, value in found["cpu_seconds"].items()),
        }
    )
