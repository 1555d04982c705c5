"""`dataengine bench`: figures as a table or JSON, with what they were measured on."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataengine.version import __version__
from pipelines.commands.printing import Bar, note, print_json, table

if TYPE_CHECKING:
    from pipelines.bench_load_data import RawSpec


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


LOAD_COLUMNS = ("reader", "workers", "samples/s", "CPU ms/sample", "decoded/used", "kB read/sample", "MB peak", "MB largest", "first batch s")
WAYS = {
    "ours": "ours, streaming",
    "ours_random": "ours, order=random",
    "ours_map": "ours, map-style, torch",
    "lerobot": "LeRobotDataset 0.4.4",
    "lerobot_streaming": "its streaming dataset",
    "lerobot_061_uint8": "LeRobotDataset 0.6.1, uint8",
    "webdataset": "WebDataset 1.0.2",
    "bare_1": "bare decode, 1 process",
    "bare_2": "bare decode, 2 processes",
}


def _load_row(reader: str, workers: int, found: Mapping[str, Any]) -> list[str]:
    """Return one line of the table of readers; a figure that a reader does not have is "n/a"."""
    if "error" in found:
        return [WAYS[reader], str(workers), f"failed: {found['error']}", *[""] * 6]
    if "frames_s" in found:
        return [WAYS[reader], "", f"{found['frames_s']:,.0f} frames/s", f"{found['cpu_ms_a_frame']:.3f}", "1", *["n/a"] * 4]
    used = found.get("frames_used")
    return [
        WAYS[reader],
        str(workers),
        f"{found['samples_s']:,.0f}",
        f"{found['cpu_ms_a_sample']:.3f}",
        f"{found['frames_decoded'] / used:.2f}" if used else "n/a",
        f"{found['bytes_a_sample'] / 1000:.1f}",
        f"{found['peak_mb']:,.0f}",
        f"{found['peak_mb_of_one']:,.0f}",
        f"{found['first_batch_s']:.2f}",
    ]


def _print_load(found: dict[str, Any]) -> None:
    """Print the settings, the readers side by side, and the ratios."""
    print(
        f"data {found['data']} (episodes x steps, px, frames/s): two cameras, 14 numbers of state, {found['horizon']} actions ahead; batches of {found['batch']}, shuffled; "
        f"medians of {found['repeats']}, one thread each, from the page cache.\n"
        f"Ours: H.264, CRF {found['crf']}, key frame every {found['gop']}, uint8. LeRobot: its default (AV1, CRF 30, key frame every 2), float32 as it delivers by default. "
        "WebDataset: JPEG 90, uint8.\nOur streams and WebDataset are timed over whole epochs after one that is not; the others over at least 40 batches and 4 s after 5 batches.\n"
    )
    rows = [_load_row(reader, workers, figures) for reader, by_workers in found["readers"].items() for workers, figures in by_workers.items()]
    table(LOAD_COLUMNS, rows, right=LOAD_COLUMNS[1:])
    print("\nkB read: what the system was asked for, mapped files left out. decoded/used: frames decoded for each frame in a batch.")
    for said in found["left_out"]:
        print(f"Left out: {said}.")
    print()
    _print({name: value for name, value in found.items() if name not in ("readers", "left_out") and value is not None}, False)


def _run(work: str | None, as_json: bool, measure: Callable[[Path], dict[str, Any]]) -> None:
    with _folder(work) as folder:
        note(f"measuring in {folder} ...")
        _print(measure(folder), as_json)


def load(spec: RawSpec, repeats: int, gop: int, large: bool, peers: str | None, work: str | None, as_json: bool) -> None:
    """Benchmark the reading of training samples."""
    from pipelines.bench_load import bench_load

    bar = Bar()
    with _folder(work) as folder:
        note(f"measuring in {folder} ...")
        found = bench_load(folder, spec, Path(peers).resolve() if peers is not None else None, repeats, gop, large, bar)
        bar.end()
    if as_json:
        _print(found, True)
    else:
        _print_load(found)


def ingest(size_mb: int, repeats: int, peers: str | None, work: str | None, as_json: bool) -> None:
    """Benchmark ingestion."""
    from pipelines.bench import bench_ingest

    _run(work, as_json, lambda folder: bench_ingest(folder, size_mb << 20, repeats, Path(peers) if peers is not None else None))


def catalog(episodes: int, commits: int, repeats: int, work: str | None, as_json: bool) -> None:
    """Benchmark the catalogue."""
    from pipelines.bench_catalog import bench_catalog

    bar = Bar()
    _run(work, as_json, lambda folder: bench_catalog(folder, episodes, commits, repeats, bar))


def label(environment: str, seeds: int, only: str | None, episodes: int, work: str | None, as_json: bool) -> None:
    """Benchmark labels, from collecting to the gate."""
    from pipelines.bench_label import PARTS, Sizes, bench_label

    parts = tuple(only.split(",")) if only is not None else PARTS
    with _folder(work) as folder:
        note(f"measuring in {folder} ...")
        found = bench_label(folder, environment, seeds, parts, note, Sizes(played=episodes))
    if as_json:
        _print(found, True)
        return
    flat = {
        name: value
        for name, value in found.items()
        if name not in ("goals", "data", "latent", "downstream", "labelling", "axes", "cpu_seconds", "wall_seconds")
    }
    for part in ("latent", "downstream", "labelling", "cpu_seconds"):
        flat |= {f"{part}.{name}": value for name, value in (found.get(part) or {}).items() if not isinstance(value, dict)}
    _print({name: _shown(value) for name, value in flat.items() if not name.endswith("_by_seed")}, False)
    print()
    goals = [[name, _shown(each["value"]), _shown(each["least"]), _shown(each["most"]), MET[each["met"]]] for name, each in found["goals"]["figures"].items()]
    table([f"goal ({found['goals']['stated_for']})", "value", "at least", "at most", "met"], goals)


MET = {True: "yes", False: "no", None: "cannot be said"}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_shown(one) for one in value)
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
