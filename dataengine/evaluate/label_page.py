"""The page of a trial of labels: tables of figures beside the baselines, and pictures of what was said against what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.evaluate.baselines import TITLES
from dataengine.evaluate.comparison import Comparison
from dataengine.evaluate.label_trial import Judgement
from dataengine.evaluate.resampling import LEAST_EPISODES
from dataengine.evaluate.training_overlap import cautions
from dataengine.view.charts import Series, bars, line_chart, scatter
from dataengine.view.markup import Markup, element, joined, number
from dataengine.view.page import Section, facts, figures, heading, page, table

ACROSS = 8  # dimensions that stand beside each other in a table
MOST_DIMS = 14  # that are drawn; all are in the tables
MOST_EPISODES = 3  # that are drawn over time
R2_FLOOR = -0.5  # of a bar: how bad something is beyond that says no more
FIGURES = (("r2", "R²"), ("mae", "MAE"), ("bias", "bias"), ("slope", "slope"), ("scale_ratio", "scale"))


def label_page(document: Mapping[str, Any], judgements: Sequence[Judgement]) -> str:
    """Return the page of what was judged, dataset after dataset."""
    sections = [Section("What was judged", [facts(_told(document)), *(caution for judgement in judgements for caution in cautions(judgement.document))])]
    for judgement in judgements:
        sections += _latents(judgement.document)
        for kind, comparison in judgement.comparisons.items():
            sections.append(_section(judgement.document, judgement.document["targets"][kind], comparison))
        sections += _missing(judgement.document)
    lead = f"Every figure is of steps that were measured and of which everyone said something; intervals in brackets are 95 % over whole episodes, and there are none of fewer than {LEAST_EPISODES} episodes."
    return page(document["title"], sections, lead, document["made_by"])


def _told(document: Mapping[str, Any]) -> dict[str, object]:
    told: dict[str, object] = {"store": document["store"], "split": document["split"]}
    for each in document["datasets"]:
        learned = ", ".join(f"{fold['name']}: from {fold['learned_from']}, judged {fold['judged']}" for fold in each["folds"][:6])
        more = len(each["folds"]) - 6
        told[f"dataset {each['dataset']}"] = learned + (f" and {more} more" if more > 0 else "")
        for name, facts_ in each["label_sets"].items():
            told[name] = f"model {facts_['model'][:12]}, trained on {facts_['trained_on'] or 'nothing'}"
    return told


def _title(name: str) -> str:
    return TITLES.get(name, name)


def _beside(name: str) -> bool:
    """Return whether it is a baseline or a control, there to be compared with."""
    return name in TITLES or name.endswith(("picture alone", ": shuffled", ": untrained encoder"))


def _ordered(figures_: Mapping[str, Any]) -> list[str]:
    """Return who said something: models first, as they were named, then baselines."""
    return [*(name for name in figures_["sources"] if name not in TITLES), *(name for name in figures_["sources"] if name in TITLES)]


def _section(judged: Mapping[str, Any], figures_: Mapping[str, Any], comparison: Comparison) -> Section:
    names = _ordered(figures_)
    unit = f" in {figures_['unit']}" if figures_["unit"] else ""
    what = {"command": "The command", "displacement": "The achieved change"}[figures_["kind"]]
    steps = figures_["steps"]
    said = f"{what} (column {figures_['column']}{unit}): {steps['judged']} steps of {steps['parts']} parts are judged, of {steps['measured']} measured."
    if mean_of(figures_):
        said += f" Mean R² is{mean_of(figures_)}: the others never change there."
    parts: list[object] = [said]
    if steps["judged"] < 2:
        return Section(f"{judged['dataset']}: {figures_['kind']}", [*parts, "Too few steps to work anything out."])
    parts += [_numbers_table(figures_, names), figures(*_bars(figures_, names), wide=True), _details_table(figures_, names)]
    if figures_["classes"]:
        parts += [heading("Classes"), _classes_table(figures_, names)]
    parts += _certainty(figures_, names)
    parts += [heading("Groups of steps"), _strata_table(figures_, names)]
    shown = _shown(names)
    if shown is not None:
        parts += [
            heading(f"{_title(shown)} against what was measured"),
            figures(*_scatters(comparison, shown)),
            figures(*_over_time(comparison, shown)),
        ]
    return Section(f"{judged['dataset']}: {figures_['kind']}", parts)


def mean_of(figures_: Mapping[str, Any]) -> str:
    """Return of how many dimensions a mean is, where it is not of all of them."""
    mean = next((source["mean"] for source in figures_["sources"].values() if source["mean"]), None)
    return "" if mean is None or mean["dims"] == len(_dims(figures_)) else f" of {mean['dims']} of {len(_dims(figures_))} dimensions"


def _shown(names: Sequence[str]) -> str | None:
    """Return whose labels are drawn: those of the first model, else of the best baseline."""
    return next((name for name in (*names, "flow_ridge_window", "flow_ridge") if name in names and (name not in TITLES or name.startswith("flow_ridge"))), None)


def _cell(entry: Mapping[str, Any] | None) -> object:
    """Return a value with its interval."""
    if entry is None or entry["value"] is None:
        return None
    text = number(entry["value"])
    if entry["low"] is None or entry["high"] is None:
        return text
    return joined(text, Markup("<br>"), element("span", f"{number(entry['low'])} … {number(entry['high'])}", class_="range"))


def _dims(figures_: Mapping[str, Any]) -> list[str]:
    return [name for name in figures_["dims"] if name not in figures_["classes"]]


def _numbers_table(figures_: Mapping[str, Any], names: Sequence[str]) -> Markup:
    dims = _dims(figures_)
    if len(dims) + len(figures_["classes"]) > ACROSS:
        return _tall_table(figures_, names)
    rows = []
    for name in names:
        source = figures_["sources"][name]
        cells = [_cell(source["numbers"][dim]["r2"]) if source["numbers"] else None for dim in dims]
        classes = [_cell(source["classes"][dim]["balanced_accuracy"]) if source["classes"] else None for dim in figures_["classes"]]
        rows.append([_title(name), _cell(source["mean"]["r2"]) if source["mean"] else None, *cells, *classes])
    head = ["", "R² (mean)", *(f"R² {dim}" for dim in dims), *(f"{dim}: balanced accuracy" for dim in figures_["classes"])]
    return table(head, rows, strong=[place for place, name in enumerate(names) if not _beside(name)])


def _tall_table(figures_: Mapping[str, Any], names: Sequence[str]) -> Markup:
    """Return the same with a row for each of many dimensions; those that never changed are left out."""
    sources = [figures_["sources"][name] for name in names]
    rows = [["mean R²", *(_cell(source["mean"]["r2"]) if source["mean"] else None for source in sources)]]
    for dim in _dims(figures_):
        cells = [_cell(source["numbers"][dim]["r2"]) if source["numbers"] else None for source in sources]
        if any(cell is not None for cell in cells):
            rows.append([f"R² {dim}", *cells])
    rows += [
        [f"{dim}: balanced accuracy", *(_cell(source["classes"][dim]["balanced_accuracy"]) if source["classes"] else None for source in sources)]
        for dim in figures_["classes"]
    ]
    return table(["", *map(_title, names)], rows, strong=[0])


def _bars(figures_: Mapping[str, Any], names: Sequence[str]) -> list[Markup]:
    dims = [
        dim
        for dim in _dims(figures_)
        if any((figures_["sources"][name]["numbers"] or {}).get(dim, {}).get("r2", {}).get("value") is not None for name in names)
    ]
    dims = dims[:MOST_DIMS]
    if not dims:
        return []

    def grid(key: str) -> Array:
        values = [[(figures_["sources"][name]["numbers"] or {}).get(dim, {}).get("r2", {}).get(key) for name in names] for dim in dims]
        return np.array([[np.nan if value is None else value for value in row] for row in values], np.float64)

    width = min(1100, max(560, (10 * len(names) + 18) * len(dims) + 70))
    low = max(R2_FLOOR, float(np.nanmin([0.0, *grid("low").ravel()])))
    return [
        bars(dims, [_title(name) for name in names], grid("value"), grid("low"), grid("high"), "R² of each dimension", y_range=(low - 0.02, 1.0), width=width)
    ]


def _details_table(figures_: Mapping[str, Any], names: Sequence[str]) -> Markup:
    rows = []
    for name in names:
        numbers = figures_["sources"][name]["numbers"]
        for dim in _dims(figures_) if numbers else []:
            rows.append([_title(name), dim, *(_cell(numbers[dim][figure]) for figure, _ in FIGURES)])
    table_ = table(
        ["", "dimension", *(title for _, title in FIGURES)],
        rows,
        "Slope is that of what was said over what was measured: below 1 labels are drawn to the mean.",
        text=[1],
    )
    return element("details", element("summary", "MAE, bias, slope and scale of each dimension"), table_)


def _classes_table(figures_: Mapping[str, Any], names: Sequence[str]) -> Markup:
    rows = []
    for name in names:
        source = figures_["sources"][name]
        for dim, found in (source["classes"] or {}).items():
            moved = (source["switches"] or {}).get(dim)
            counts = [f"{moved['found']} of {moved['measured']}", moved["said"], moved["late_steps"], moved["off_steps"]] if moved else [None] * 4
            rows.append([_title(name), dim, _cell(found["balanced_accuracy"]), _cell(found["f1"]), found["share_upper"]["value"], *counts])
    head = [
        "",
        "dimension",
        "balanced accuracy",
        "F1 (upper level)",
        "share of upper level",
        "switches found",
        "switches said",
        "late by, steps",
        "off by, steps",
    ]
    return table(head, rows, text=[1], strong=[place for place, row in enumerate(rows) if row[0] not in TITLES.values() and not _beside(str(row[0]))])


def _certainty(figures_: Mapping[str, Any], names: Sequence[str]) -> list[object]:
    """Return tables and charts of intervals and confidences, for those who state them."""
    rows: list[list[object]] = []
    for name in names:
        found = figures_["sources"][name]["intervals"]
        if found:
            levels = [key for key in found if key != "stated"]
            for dim in _dims(figures_):
                cells = [_cell(found[level][dim]["coverage"]) for level in ("0.68", "0.95") if level in levels]
                rows.append([_title(name), dim, f"{found['stated']:.0%}", *cells, found["0.68"][dim]["width"] if "0.68" in levels else None])
    parts: list[object] = []
    if rows:
        caption = "Share of what was measured inside the intervals: as stated, and stretched to 95 % as those of a normal distribution."
        shown = table(["", "dimension", "stated", "inside 68 %", "inside 95 %", "width of 68 %"], rows, caption, text=[1])
        parts += [heading("Certainty"), shown if len(rows) <= 12 else element("details", element("summary", "Intervals of each dimension"), shown)]
    curves: dict[str, list[Series]] = {}
    lines = []
    for place, name in enumerate(names):
        found = figures_["sources"][name]["confidence"]
        if found:
            surest = found["r2_of_surest"]
            lines.append(
                [
                    _title(name),
                    found["mean"],
                    found["rank_correlation_with_error"],
                    *surest.values(),
                    *([each["ece"] for each in (found["classes"] or {}).values()][:1] or [None]),
                ]
            )
            for dim, each in (found["classes"] or {}).items():
                mean, right = (np.array([np.nan if value is None else value for value in each[key]]) for key in ("mean", "right"))
                curves.setdefault(dim, []).append(Series(_title(name), mean, right, colour=place, dots=True))
    if lines:
        head = ["", "mean confidence", "rank correlation with the error", *(f"R² of the surest {float(key):.0%}" for key in surest), "ECE, class"]
        caption = (
            "A confidence is that of the step. Of a model that says more than a class it is not the probability of the class; "
            "ECE, how far it lies from how often the class is right, is then no verdict on that."
        )
        parts.append(table(head, lines, caption))
    diagonal = Series("as said", [0, 1], [0, 1], colour=7, dashed=True)
    title = "confidence against how often it is right"
    drawn = [line_chart([diagonal, *each], f"{dim}: {title}", "confidence", "share right", y_range=(0.0, 1.0), height=320) for dim, each in curves.items()]
    return [*parts, figures(*drawn[:6])] if drawn else parts


def _strata_table(figures_: Mapping[str, Any], names: Sequence[str]) -> Markup:
    rows = []
    for group, found in figures_["strata"].items():
        means = [found["sources"][name]["mean"] if name in found["sources"] else None for name in names]
        rows.append([group, found["steps"], *(_cell({**each["r2"], "low": None}) if each else None for each in means)])
    return table(["group", "steps", *map(_title, names)], rows, "Mean R² over the dimensions; within a group of steps that hardly vary it says little.")


def _scatters(comparison: Comparison, name: str) -> list[Markup]:
    rows, said = comparison.common, comparison.said[name]
    unit = f", {comparison.target.column.unit}" if comparison.target.column.unit else ""
    return [
        scatter(comparison.truth[rows, entry], said.values[rows, entry], comparison.dims[entry], f"measured{unit}", f"said{unit}", diagonal=True)
        for entry in comparison.numbers[:MOST_DIMS]
    ]


def _over_time(comparison: Comparison, shown: str) -> list[Markup]:
    """Return curves over some parts: those that a source does best, middling and worst, with flow and ridge beside it."""
    first = comparison.said[shown]
    names = [shown, *(name for name in ("flow_ridge",) if name in comparison.said and name != shown)]
    rows = comparison.common
    scores = []
    spread = np.where(comparison.truth[rows].std(0) > 1e-9, comparison.truth[rows].std(0), 1.0)
    for part in np.unique(comparison.part[rows]):
        here = rows & (comparison.part == part)
        if here.sum() >= 8:
            scores.append((float((((first.values[here] - comparison.truth[here]) / spread) ** 2).mean()), int(part)))
    scores.sort()
    chosen = list(dict.fromkeys(scores[place][1] for place in (0, len(scores) // 2, len(scores) - 1))) if scores else []
    titles = dict(zip(chosen, ("best", "middling", "worst") if len(chosen) == 3 else ("", "", ""), strict=False))
    drawn = []
    for part in chosen[:MOST_EPISODES]:
        here = comparison.part == part
        at = comparison.step[here]
        for entry in range(min(len(comparison.dims), MOST_DIMS)):
            truth = np.where(comparison.valid[here], comparison.truth[here, entry], np.nan)
            curves = [Series("measured", at, truth, colour=7)]
            for place, name in enumerate(names):
                said = comparison.said[name]
                values = np.where(said.valid[here], said.values[here, entry], np.nan)
                band: tuple[Array | None, Array | None] = (None, None)
                if place == 0 and said.low is not None and said.high is not None and entry not in comparison.levels:
                    band = (np.where(said.valid[here], said.low[here, entry], np.nan), np.where(said.valid[here], said.high[here, entry], np.nan))
                curves.append(Series(_title(name), at, values, *band, colour=place, dashed=place > 0))
            mark = f"{titles[part]}: " if titles[part] else ""
            drawn.append(
                line_chart(curves, f"{comparison.dims[entry]} ({mark}{comparison.names[part][:12]})", "step", comparison.target.column.unit or "", height=190)
            )
    return drawn


def _latents(judged: Mapping[str, Any]) -> list[Section]:
    """Return the section of what is told of latents beside probes."""
    latent = judged.get("latent")
    if not latent:
        return []
    rows = []
    for name, found in latent.items():
        psnr, looks, codes = found["psnr"] or {}, found["looks"] or {}, found["codes"] or {}
        over = found["probe_over_controls"].get("displacement", {})
        rows.append([name, found["bits"], *(psnr.get(key) for key in ("psnr_db", "psnr_over_copy_db", "delta_psnr_db")),
            over.get("picture_alone"), over.get("untrained_encoder"), codes.get("perplexity"), codes.get("dead"),
            *(looks.get(key) for key in ("cross_background_auc", "probe_r2_same_scene", "probe_r2_other_scene", "distractor_ratio")),
            (found["looks_untrained"] or {}).get("cross_background_auc")])  # fmt: skip
    head = [
        "", "bits", "PSNR, dB", "over copying the first picture, dB", "over a wrong latent (ΔPSNR), dB", "probe over the picture alone, R²", "probe over an untrained encoder, R²",
        "perplexity", "dead codes", "AUC across scenes", "probe, same scene", "probe, other scene", "distractor ratio", "AUC across scenes, untrained encoder",
    ]  # fmt: skip
    turned = [[title, *(row[place] for row in rows)] for place, title in enumerate(head) if place]
    return [
        Section(
            f"{judged['dataset']}: the latents",
            [table(["", *(row[0] for row in rows)], turned, "Probes are of the achieved change; what is missing is told at the end.")],
        )
    ]


def _missing(judged: Mapping[str, Any]) -> list[Section]:
    rows = [[each["what"], each["why"]] for each in judged["not_computed"]]
    return [Section(f"{judged['dataset']}: what was not worked out", [table(["what", "why"], rows, text=[0, 1])])] if rows else []
