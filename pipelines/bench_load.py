"""The reading benchmark: training samples by our loader, beside LeRobot and WebDataset on the same frames, and beside a bare decode of our own videos.

Every measurement is a process of its own with one thread for each library; the sides run in turn, over and over, and medians count. Files come from the
page cache on all sides: each was read or written shortly before.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.errors import DataEngineError
from dataengine.store.store import open_store
from dataengine.store.video_lane import VideoPolicy
from pipelines.bench_load_data import (
    CAMERAS,
    Progress,
    RawSpec,
    describe,
    episode_folder,
    land_events,
    raw_events,
    read_bytes_of,
    stream_of,
    write_raw,
    write_store,
    write_tiny_store,
)
from pipelines.bench_load_figures import Errors, Tried, pooled_psnr_db, search_crf
from pipelines.bench_peers import run_peer

BATCH = 32
HORIZON = 16
STRIDE = 7  # every so many frames are compared: it has no factor in common with the usual key frame distances
JPEG_QUALITY = 90
DEFAULT_CRF = 20  # where no peer's quality is to be met: that of the store
TUNED_ON = 4  # episodes that each try of the search encodes

Figures = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """How long each measurement draws batches: after `warmup` at least `batches` and at least `seconds`; and the numbers of workers of our streaming."""

    warmup: int = 5
    batches: int = 40
    seconds: float = 4.0
    workers: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Side:
    """One way of reading: its name in the figures, the environment and script (None: ours), what it is asked, and the numbers of workers that it is tried with."""

    name: str
    asked: Mapping[str, Any]
    workers: tuple[int, ...] = (0, 2)
    peer: str | None = None
    script: str = ""


def run_ours(spec: Mapping[str, Any]) -> Figures:
    """Run our side's script in a process of its own and return what it prints; raise DataEngineError with its last line of error."""
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "DATAENGINE_CACHE": str(spec["cache"]),
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.bench_load_ours", json.dumps(dict(spec))], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise DataEngineError(f"bench load: {spec['way']} failed: {last[0]}")
    found: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def errors_of(store: Path, raw: Path, episodes: Sequence[int]) -> Errors:
    """Return for each camera and episode [sum of squared errors, values] of every 7th frame of a store against the raw frames."""
    opened = open_store(str(store))
    ids = dict(opened.episodes().select("source_key", "episode_id").collect().rows())
    found: dict[str, list[list[float]]] = {}
    for camera in CAMERAS:
        found[camera] = []
        for episode in episodes:
            truth = np.load(episode_folder(raw, episode) / f"{camera}.npy", mmap_mode="r")
            frames = list(range(0, len(truth), STRIDE))
            seen = opened.read_frames(ids[f"{episode:06d}"], stream_of(camera), frames).astype(np.float32)
            difference = seen - truth[frames]
            found[camera].append([float(np.square(difference).sum(dtype=np.float64)), float(difference.size)])
    return found


def tuned_crf(work: Path, raw: Path, spec: RawSpec, gop: int, errors: Errors, most_bytes: float) -> int:
    """Return the CRF at which the PSNR of some episodes is nearest to a peer's on the same frames, at no more than a share of the peer's bytes."""
    chosen = sorted({round(place) for place in np.linspace(0, spec.episodes - 1, min(TUNED_ON, spec.episodes))})

    def encode(crf: int) -> Tried:
        scratch = work / "tuning"
        shutil.rmtree(scratch, ignore_errors=True)
        land_events(scratch, raw_events(raw, spec, lambda *_: None, chosen), VideoPolicy(crf=crf, gop=gop))
        videos = sum(path.stat().st_size for path in scratch.rglob("*.mp4"))
        return Tried(crf, pooled_psnr_db(errors_of(scratch, raw, chosen)), videos)

    found = search_crf(encode, pooled_psnr_db(errors, chosen), most_bytes * len(chosen) / spec.episodes)
    shutil.rmtree(work / "tuning", ignore_errors=True)
    return found.crf


def best(by_workers: Mapping[int, Figures]) -> Figures | None:
    """Return the figures with the most samples a second, with `workers` in them; None where nothing ran."""
    ran = [figures | {"workers": workers} for workers, figures in by_workers.items() if "samples_s" in figures]
    return max(ran, key=lambda figures: figures["samples_s"], default=None)


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure over repeated runs; where all of them failed, the last one's `error`."""
    ran = [run for run in runs if "error" not in run]
    if not ran:
        return dict(runs[-1])
    return {name: statistics.median(run[name] for run in ran) for name in ran[0]}


def in_turn(sides: Sequence[Side], repeats: int, common: Figures, peers: Path | None, progress: Progress) -> dict[str, dict[int, Figures]]:
    """Run every side with each number of workers, one after the other, and all of that `repeats` times; return medians by side and workers."""
    runs: dict[tuple[str, int], list[Figures]] = {(side.name, workers): [] for side in sides for workers in side.workers}
    for number in range(repeats):
        for side in sides:
            for workers in side.workers:
                spec = {**common, **side.asked, "workers": workers}
                try:
                    if side.peer is None:
                        found = run_ours(spec)
                    else:
                        assert peers is not None
                        found = run_peer(peers, side.peer, side.script, json.dumps(spec))
                except DataEngineError as error:
                    found = {"error": str(error)}
                runs[side.name, workers].append(found)
                progress(f"{side.name}, {workers} workers", sum(map(len, runs.values())), repeats * len(runs))
        assert all(len(found) == number + 1 for found in runs.values())
    return {side.name: {workers: medians(runs[side.name, workers]) for workers in side.workers} for side in sides}


def our_sides(store: Path, workers: tuple[int, ...] = (0, 1, 2), random_workers: tuple[int, ...] = (0, 2)) -> list[Side]:
    """Return our ways of reading, the map-style one where torch is installed, and the bare decode with as many processes as each of the streams has."""
    address = {"store": str(store)}
    sides = [
        Side("ours", {**address, "way": "stream"}, workers),
        Side("ours_random", {**address, "way": "stream", "order": "random"}, random_workers),
        Side("bare_1", {**address, "way": "bare", "processes": 1}, (0,)),
        Side("bare_2", {**address, "way": "bare", "processes": 2}, (0,)),
    ]
    if importlib.util.find_spec("torch") is not None:
        sides.insert(2, Side("ours_map", {**address, "way": "map"}, random_workers))
    return sides


def peer_sides(work: Path, spec: RawSpec, peers: Path) -> list[Side]:
    """Return the peers' ways of reading, those of LeRobot 0.6.1 only where its environment (Python 3.12) is there."""
    lerobot = {"out": str(work / f"lerobot-{spec.name}"), "rate_hz": spec.rate_hz}
    sides = [
        Side("lerobot", {**lerobot, "way": "map"}, peer="lerobot", script="load_lerobot.py"),
        Side("lerobot_streaming", {**lerobot, "way": "stream"}, peer="lerobot", script="load_lerobot.py"),
        Side("webdataset", {"out": str(work / f"webdataset-{spec.name}"), "way": "read", "buffer": 1000}, peer="webdataset", script="load_webdataset.py"),
    ]
    if (peers / "lerobot061" / "bin" / "python").exists():
        sides.append(Side("lerobot_061_uint8", {**lerobot, "way": "map", "uint8": True}, peer="lerobot061", script="load_lerobot.py"))
    return sides


def prepare_peers(work: Path, raw: Path, spec: RawSpec, peers: Path, progress: Progress) -> Figures:
    """Let the peers write the raw frames in their own formats; return `lerobot` {"bytes", "errors"} and `webdataset` {"bytes"}."""
    progress("LeRobot writes the frames (about 100 a second, once)", 0, 0)
    out = work / f"lerobot-{spec.name}"
    lerobot = run_peer(peers, "lerobot", "write_lerobot_raw.py", json.dumps({"raw": str(raw), "out": str(out), "stride": STRIDE}))
    progress("WebDataset writes the frames (once)", 0, 0)
    out = work / f"webdataset-{spec.name}"
    asked = {"way": "write", "raw": str(raw), "out": str(out), "horizon": HORIZON, "quality": JPEG_QUALITY}
    return {"lerobot": lerobot, "webdataset": run_peer(peers, "webdataset", "load_webdataset.py", json.dumps(asked))}


def _over(one: Figures | None, other: Figures | None, name: str = "samples_s") -> float | None:
    return None if one is None or other is None else one[name] / other[name]


def _share(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def ratios(readers: Mapping[str, Mapping[int, Figures]]) -> Figures:
    """Return the ratios between the sides' best runs, and those `by_cpu` between the least CPU time of each, which other work on the machine disturbs less.

    None stands where a side did not run.
    """
    found = {name: best(by_workers) for name, by_workers in readers.items() if not name.startswith("bare")}
    ours = found.get("ours")
    bare = None if ours is None else readers["bare_2" if ours["workers"] == 2 else "bare_1"][0].get("frames_s")
    spent = {name: min((run["cpu_ms_a_sample"] for run in by.values() if "cpu_ms_a_sample" in run), default=None) for name, by in readers.items()}
    decoding = min((run["cpu_ms_a_frame"] for name in ("bare_1", "bare_2") for run in readers.get(name, {}).values() if "cpu_ms_a_frame" in run), default=None)
    at_random = min(filter(None, (spent.get("ours_random"), spent.get("ours_map"))), default=None)
    one, two = (readers["ours"].get(workers, {}).get("samples_s") for workers in (1, 2)) if "ours" in readers else (None, None)
    random = best({place: run for place, run in enumerate((found.get("ours_map"), found.get("ours_random"))) if run is not None})
    return {
        "streaming_over_lerobot": _over(ours, found.get("lerobot")),
        "streaming_over_lerobot_streaming": _over(ours, found.get("lerobot_streaming")),
        "streaming_over_webdataset": _over(ours, found.get("webdataset")),
        "streaming_over_lerobot_061_uint8": _over(ours, found.get("lerobot_061_uint8")),
        "random_over_lerobot": _over(random, found.get("lerobot")),
        "map_over_lerobot": _over(found.get("ours_map"), found.get("lerobot")),
        "of_bare_decode": None if ours is None or not bare else ours["samples_s"] * len(CAMERAS) / bare,
        "streaming_over_lerobot_by_cpu": _share(spent.get("lerobot"), spent.get("ours")),
        "random_over_lerobot_by_cpu": _share(spent.get("lerobot"), at_random),
        "of_bare_decode_by_cpu": _share(None if decoding is None else decoding * len(CAMERAS), spent.get("ours")),
        "workers_2_over_1": _share(two, one),
        "first_batch_s": None if ours is None else ours["first_batch_s"],
        "frames_decoded_per_used": None if ours is None or not ours.get("frames_used") else ours["frames_decoded"] / ours["frames_used"],
    }


def left_out(readers: Mapping[str, Any], peers: Path | None) -> list[str]:
    """Say what did not run, and why."""
    said = [] if peers is not None else ["peers: name their environments with --peers; `make peers` makes them"]
    if peers is not None and "lerobot_061_uint8" not in readers:
        said.append(f"LeRobot 0.6.1: {peers / 'lerobot061'} is not there; it needs Python 3.12, `make peer-lerobot061` makes it")
    if "ours_map" not in readers:
        said.append("map-style under a torch DataLoader: torch is not installed")
    return said


def bench_large(work: Path, common: Figures, progress: Progress) -> Figures:
    """Return the first batch from a store of 10,000 episodes, and opening a mixture over a catalogue of a million: with the loader's cached index, and before it."""
    from pipelines.bench_catalog import DATASETS, build

    tiny = write_tiny_store(work, 10_000, progress)
    million = work / "catalog-1000000-2000"
    if not (million / "bench-done").exists():
        build(million, 1_000_000, 2000, progress)
        (million / "bench-done").write_text("")
    describe(million, [f"set-{number:02d}" for number in range(DATASETS)])
    empty = {**common, "cache": str(work / "cache-large")}
    shutil.rmtree(empty["cache"], ignore_errors=True)
    many = {**empty, "store": str(tiny), "way": "first_batch"}
    first = run_ours({**many, "workers": 0})["first_batch_s"]
    later = {workers: medians([run_ours({**many, "workers": workers}) for _ in range(3)])["first_batch_s"] for workers in (0, 2)}
    catalogue = {**empty, "store": str(million), "way": "open", "workers": 0}
    opened = [run_ours(catalogue)["open_s"] for _ in range(4)]
    return {
        "first_batch_10k_s": min(later.values()),
        **{f"first_batch_10k_{workers}_workers_s": took for workers, took in later.items()},
        "first_batch_10k_without_cache_s": first,
        "open_million_s": statistics.median(opened[1:]),
        "open_million_without_cache_s": opened[0],
    }


def bench_load(work: Path, spec: RawSpec, peers: Path | None, repeats: int, gop: int, large: bool, progress: Progress, timing: Timing | None = None) -> Figures:
    """Run the whole benchmark.

    Raises:
        UsageError: a peer's environment is missing.
    """
    chosen = timing or Timing()
    raw = write_raw(work, spec, progress)
    common: Figures = {"batch": BATCH, "horizon": HORIZON, "warmup": chosen.warmup, "batches": chosen.batches, "seconds": chosen.seconds}
    common["cache"] = str(work / "cache")
    found: Figures = {}
    crf, sides = DEFAULT_CRF, []
    if peers is not None:
        written = prepare_peers(work, raw, spec, peers, progress)
        theirs = written["lerobot"]
        crf = tuned_crf(work, raw, spec, gop, theirs["errors"], theirs["bytes"])
        sides = peer_sides(work, spec, peers)
        found |= {"bytes_lerobot": theirs["bytes"], "bytes_webdataset": written["webdataset"]["bytes"], "psnr_lerobot": pooled_psnr_db(theirs["errors"])}
    store = write_store(work, raw, spec, crf, gop, progress)
    found |= {"crf": crf, "gop": gop, "bytes_ours": read_bytes_of(store), "psnr_ours": pooled_psnr_db(errors_of(store, raw, range(spec.episodes)))}
    if peers is not None:
        found |= {"bytes_over_lerobot": found["bytes_ours"] / found["bytes_lerobot"], "psnr_difference": found["psnr_ours"] - found["psnr_lerobot"]}
    readers = in_turn([*our_sides(store, chosen.workers), *sides], repeats, common, peers, progress)
    found |= ratios(readers)
    try:
        found |= run_ours({**common, "store": str(store), "way": "shuffle", "workers": (best(readers["ours"]) or {"workers": 0})["workers"]})
    except DataEngineError as error:
        found["shuffle_error"] = str(error)
    if large:
        found |= bench_large(work, common, progress)
    found["left_out"] = left_out(readers, peers)
    return found | {"repeats": repeats, "data": spec.name, "batch": BATCH, "horizon": HORIZON, "readers": readers}
