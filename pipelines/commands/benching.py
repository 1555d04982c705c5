"""`dataengine bench`: figures as a table or JSON, with what they were measured on."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dataengine.version import __version__
from pipelines.commands.printing import Bar, note, print_json, table


@contextmanager
def _folder(work: str | None) -> Iterator[Path]:
    if work is not None:
        path = Path(work)
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dataengine-bench-") as made:
        yield Path(made)


def _print(found: dict[str, Any], as_json: bool) -> None:
    machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "dataengine": __version__}
    if as_json:
        print_json(found | machine)
        return
    table(["figure", "value"], [[key, f"{value:.4g}" if isinstance(value, float) else value] for key, value in (found | machine).items()], right=["value"])


def _run(work: str | None, as_json: bool, measure: Callable[[Path], dict[str, Any]]) -> None:
    with _folder(work) as folder:
        note(f"measuring in {folder} ...")
        _print(measure(folder), as_json)


def ingest(size_mb: int, repeats: int, peers: str | None, work: str | None, as_json: bool) -> None:
    """Benchmark ingestion."""
    from pipelines.bench import bench_ingest

    _run(work, as_json, lambda folder: bench_ingest(folder, size_mb << 20, repeats, Path(peers) if peers is not None else None))


def catalog(episodes: int, commits: int, repeats: int, work: str | None, as_json: bool) -> None:
    """Benchmark the catalogue."""
    from pipelines.bench_catalog import bench_catalog

    bar = Bar()
    _run(work, as_json, lambda folder: bench_catalog(folder, episodes, commits, repeats, bar))
