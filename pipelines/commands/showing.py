"""`dataengine sources, ls, show, check, rejects`: what a store holds, printed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import typer

from dataengine.core.clock import median_rate_hz
from dataengine.core.names import require_slug
from dataengine.core.stream import Stream
from dataengine.store.label_sets import label_facts
from dataengine.store.query import plain, where
from dataengine.store.store import Store, open_store
from dataengine.store.verdicts import in_short, read_verdicts
from pipelines.commands.printing import Bar, count, print_json, table

LISTED = 40
SHOWN_OF_A_KIND = 3


def sources(datasets: bool, as_json: bool) -> None:
    """List formats, or known datasets."""
    if datasets:
        from pipelines.commands.known_datasets import known_datasets

        known_datasets(as_json)
        return
    from dataengine.sources.registry import READERS

    rows = [{"format": name, "version": module.VERSION, "recognised_by": module.RECOGNISED_BY, "keeps": module.KEEPS} for name, module in READERS.items()]
    if as_json:
        print_json(rows)
        return
    table(["format", "recognised by", "keeps"], [[row["format"], row["recognised_by"], row["keeps"]] for row in rows])


def _narrowed(store: Store, dataset: str | None, condition: str | None) -> pl.LazyFrame:
    frame = store.episodes()
    if dataset is not None:
        require_slug("dataset", dataset)
        frame = frame.filter(pl.col("dataset") == dataset)
    return where(frame, condition)


def ls(address: str, dataset: str | None, condition: str | None, as_json: bool) -> None:
    """List episodes."""
    store = open_store(address)
    frame = _narrowed(store, dataset, condition).sort("dataset", "source_uri", "source_key", "episode_id")
    if as_json:
        print_json([plain(row) for row in frame.collect().iter_rows(named=True)])
        return
    chosen = frame.select(
        "episode_id", "dataset", "origin", "embodiment", "splits", "steps", "rate_hz", "clock", "duration_ns", "success", "tasks", "flags"
    ).collect()
    rows = [
        [
            row["episode_id"][:12],
            row["dataset"],
            row["embodiment"],
            row["origin"],
            "+".join(row["splits"] or ()),
            row["steps"],
            f"{row['rate_hz']:.3g}" if row["rate_hz"] is not None else "",
            row["clock"],
            f"{row['duration_ns'] / 1e9:.2f}" if row["duration_ns"] is not None else "",
            "" if row["success"] is None else "yes" if row["success"] else "no",
            "; ".join(row["tasks"] or ())[:60],
            " ".join(row["flags"] or ()),
        ]
        for row in chosen.head(LISTED).iter_rows(named=True)
    ]
    table(["episode", "dataset", "body", "origin", "splits", "steps", "Hz", "clock", "s", "success", "task", "flags"], rows, right=["steps", "Hz", "s"])
    version = "open" if store.open else store.version.number if store.version is not None else "none"
    more = f", {LISTED} shown (--json lists all)" if chosen.height > LISTED else ""
    print(f"{count(chosen.height, 'episode')}, {int(chosen['steps'].sum() or 0):,} steps, version {version}{more}")


def stream_facts(name: str, stream: Stream, entry: dict[str, Any]) -> dict[str, Any]:
    """Return what `show` says of a stream."""
    column = stream.column
    times = stream.timestamps_ns
    rate = median_rate_hz(np.sort(times)) if times is not None else None
    steps = np.diff(np.sort(times)) if times is not None and len(times) > 1 else None
    return {
        "name": name,
        "kind": column.kind,
        "dtype": column.dtype,
        "shape": list(column.shape),
        "rows": len(stream),
        "rate_hz": rate,
        "longest_gap_s": float(steps.max()) / 1e9 if steps is not None else None,
        "encoding": entry["encoding"],
        "lossy": bool(entry["lossy"]),
        "unit": column.unit,
        "frame": column.frame,
        "dims": list(column.dims) if column.dims else None,
        "meaning": column.meaning,
        "clock": entry["clock"],
        "other_clocks": list(entry["clocks"] or ()),
        "stored_as": entry["kind"],
        "camera": {"role": column.camera.role, "intrinsics_px": column.camera.intrinsics_px} if column.camera is not None else None,
        "action_space": _space(stream),
        "digest": entry["digest"],
    }


def _space(stream: Stream) -> dict[str, Any] | None:
    from dataclasses import asdict

    return asdict(stream.column.action_space) if stream.column.action_space is not None else None


def _label_words(label: dict[str, Any]) -> str:
    """Return what `show` says of the labels of one set."""
    columns = []
    for name, said in label["columns"].items():
        confidence = f", confidence {said['confidence_mean']:.3g}" if "confidence_mean" in said else ""
        columns.append(f"{name} ({said['source'] or 'label'}, {count(said['labelled'], 'step')}{confidence})")
    trained = f", trained on {label['trained_on']}" if label["trained_on"] else ""
    stale = "; stale: of an older reading" if label["stale"] else ""
    judged = f"; {label['verdict']['verdict']} in {label['verdict']['environment']}" if label["verdict"] is not None else ""
    return f"{label['label_set']}: {', '.join(columns) or 'purged'}; model {label['model'][:12]}{trained}{stale}{judged}"


def _judged(store: Store, label: dict[str, Any]) -> dict[str, Any]:
    """Return what labels of an episode say in short, with the newest verdict on them, None where there is none."""
    found = read_verdicts(store, label["label_set"], label["recipe"]) if label["recipe"] is not None else []
    return label | {"verdict": in_short(found[0]) if found else None}


def show(address: str, episode: str, as_json: bool) -> None:
    """Show one episode."""
    store = open_store(address)
    row = store.row(episode)
    entries = {entry["stream"]: entry for entry in store.index(row)}
    read = store.read_episode(row["episode_id"])
    labels = [_judged(store, label) for label in label_facts(store.rows("label"), row)]
    facts = [stream_facts(name, read.streams[name], entries[name]) for name in sorted(entries)]
    if as_json:
        print_json(plain(row) | {"streams": facts, "labels": labels})
        return
    flat = plain(row)
    for key in (
        "episode_id",
        "dataset",
        "embodiment",
        "origin",
        "tasks",
        "success",
        "splits",
        "steps",
        "rate_hz",
        "clock",
        "duration_s",
        "action_source",
        "licence",
    ):
        value = flat[key]
        print(f"{key:>14}  {', '.join(map(str, value)) if isinstance(value, list) else '' if value is None else value}")
    print(f"{'from':>14}  {row['source_uri']}" + (f" {row['source_key']}" if row["source_key"] else ""))
    print(f"{'read by':>14}  {row['reader']} {row['reader_version']} (reading {row['reading'][:12]}), job {row['job']}")
    print(f"{'flags':>14}  {' '.join(row['flags'] or ()) or 'none'}")
    for name, value in sorted(flat["figures"].items()):
        print(f"{name:>14}  {value:.6g}")
    for label in labels:
        print(f"{'labels':>14}  {_label_words(label)}")
    table(
        ["stream", "rows", "dtype", "shape", "Hz", "gap s", "encoding", "stored as", "meaning"],
        [
            [
                fact["name"],
                fact["rows"],
                fact["dtype"],
                "x".join("?" if size is None else str(size) for size in fact["shape"]) or "-",
                f"{fact['rate_hz']:.4g}" if fact["rate_hz"] else "",
                f"{fact['longest_gap_s']:.3g}" if fact["longest_gap_s"] is not None else "",
                fact["encoding"] or "",
                fact["stored_as"] + (" (lossy)" if fact["lossy"] else ""),
                fact["meaning"],
            ]
            for fact in facts
        ],
        right=["rows", "Hz", "gap s"],
    )


def check(address: str, deep: bool, as_json: bool) -> None:
    """Check a store."""
    from dataengine.versions.check import check as check_store

    store = open_store(address)
    bar = Bar()
    found = check_store(store, deep, bar)
    bar.end()
    episodes = int(store.episodes().select(pl.len()).collect().item())
    problems = [problem.as_dict() for problem in found if problem.severity != "info"]
    notes = [problem.as_dict() for problem in found if problem.severity == "info"]
    if as_json:
        print_json({"episodes": episodes, "problems": problems, "notes": notes})
    else:
        shown: Counter[str] = Counter(problem["check"] for problem in problems)
        for name, times in shown.most_common():
            same = [problem for problem in problems if problem["check"] == name]
            for problem in same[:SHOWN_OF_A_KIND]:
                episode = f"{problem['episode_id']}: " if problem["episode_id"] and problem["episode_id"] not in problem["message"] else ""
                print(f"{problem['severity']} ({name}): {episode}{problem['message']}" + (f"; {problem['advice']}" if problem["advice"] else ""))
            if times > SHOWN_OF_A_KIND:
                print(f"and {times - SHOWN_OF_A_KIND} more of {name}; --json lists all")
        print(f"{count(episodes, 'episode')} checked{' deeply' if deep else ''}: {count(len(problems), 'problem')}, {count(len(notes), 'note')}")
    raise typer.Exit(3 if problems else 0)


def rejects(address: str, as_json: bool) -> None:
    """List rejected recordings."""
    store = open_store(address)
    columns = ["dataset", "source_uri", "source_key", "check", "where", "expected", "found", "advice", "reader", "job"]
    rows = store.rows("reject").select(columns).sort("source_uri", "source_key", "where").collect().to_dicts()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        place = row["source_uri"] + (f" {row['source_key']}" if row["source_key"] else "")
        found = f"expected {row['expected']}, found {row['found']}" if row["expected"] else row["found"]
        print(f"{row['check']}: {place}: {found}" + (f"; {row['advice']}" if row["advice"] else ""))
    print(f"{count(len(rows), 'recording')} rejected" + ("; `dataengine rejects --retry` reads them again" if rows else ""))
