"""The reading benchmark: what it reads, what it measures, and what it makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.store.store import open_store
from dataengine.store.video_lane import VideoPolicy
from pipelines.bench_load import Side, Timing, bench_load, best, errors_of, in_turn, medians, ratios
from pipelines.bench_load_data import CAMERAS, RawSpec, describe, episode_folder, land_events, raw_events, read_bytes_of, record_raw, write_raw, write_store
from pipelines.bench_load_figures import pooled_psnr_db
from pipelines.bench_load_ours import WAYS
from pipelines.peers.measure import measure, over_and_over
from tests.support.shared import REPOSITORY

SMALL = RawSpec(episodes=3, steps=24, height=48, width=64)


def quiet(message: str, done: int, total: int) -> None:
    """Say nothing."""


def test_raw_frames_are_a_function_of_the_episode() -> None:
    first, again, other = record_raw(SMALL, 1), record_raw(SMALL, 1), record_raw(SMALL, 2)
    assert {name: values.shape for name, values in first.items()} == {
        "front": (24, 48, 64, 3),
        "wrist": (24, 48, 64, 3),
        "state": (24, 14),
        "action": (24, 14),
    }
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["front"], other["front"])
    assert np.array_equal(first["action"][:-1], first["state"][1:])


def test_an_episode_of_more_steps_than_the_task_takes_moves_less() -> None:
    slow = record_raw(RawSpec(2, 400, 8, 8), 0)
    assert slow["front"].shape == (400, 8, 8, 3)
    assert np.abs(np.diff(slow["state"][:, :5], axis=0)).max() < 0.2


def test_the_store_holds_the_frames_at_the_quality_that_is_measured(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, SMALL, quiet)
    assert json.loads((raw / "raw.json").read_text())["cameras"] == list(CAMERAS)
    store = tmp_path / "store"
    assert land_events(store, raw_events(raw, SMALL, quiet, [0, 2]), VideoPolicy(crf=18, gop=6)) == 2
    rows = open_store(str(store)).episodes().collect().sort("source_key")
    assert (rows["steps"].to_list(), rows["rate_hz"].to_list(), rows["tasks"].to_list()[0]) == ([24, 24], [30.0, 30.0], ["move the block to the pad"])
    errors = errors_of(store, raw, [0, 2])
    assert {name: [pair[1] for pair in pairs] for name, pairs in errors.items()} == {name: [4 * 48 * 64 * 3] * 2 for name in CAMERAS}  # frames 0, 7, 14, 21
    assert 30 < pooled_psnr_db(errors) < 45
    truth = np.load(episode_folder(raw, 2) / "wrist.npy")[[0, 7, 14, 21]].astype(np.float64)
    seen = open_store(str(store)).read_frames(rows["episode_id"][1], "observation.images.wrist", [0, 7, 14, 21])
    assert errors["wrist"][1][0] == pytest.approx(float(((seen - truth) ** 2).sum()))


def test_bytes_that_a_loader_reads_leave_out_native_numbers_and_records(tmp_path: Path) -> None:
    for name, size in {"videos/a.mp4": 100, "videos/a.index.parquet": 20, "arrays.zarr/action/c/0": 1000, "shard.json": 50, "index.parquet": 3}.items():
        path = tmp_path / "streams" / "bench" / "s" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "j.json").write_bytes(bytes(7))
    (tmp_path / "store.json").write_bytes(bytes(4))
    assert read_bytes_of(tmp_path) == 127


def test_a_described_catalogue_names_its_columns(tmp_path: Path) -> None:
    from pipelines.bench_catalog import build

    build(tmp_path / "store", 40, 20, quiet)
    describe(tmp_path / "store", ["set-00", "set-13"])
    store = open_store(str(tmp_path / "store") + "#set-13")
    row = store.episodes().head(1).collect().row(0, named=True)
    assert {column.camera.role for column in store.columns(row).values() if column.camera is not None} == {"primary", "wrist"}


def test_batches_come_epoch_after_epoch() -> None:
    drawn = over_and_over(["a", "b"])
    assert [next(drawn) for _ in range(5)] == [("a", False), ("b", False), (None, True), ("a", False), ("b", False)]
    with pytest.raises(RuntimeError, match="no batch"):
        next(over_and_over([]))


class Reader:
    """Three batches an epoch, of 4, 4 and 2 samples; counts what was drawn."""

    def __init__(self) -> None:
        self.drawn = 0

    def __iter__(self) -> Iterator[int]:
        for size in (4, 4, 2):
            self.drawn += size
            yield size


def test_whole_epochs_are_timed_after_one_of_warming_up() -> None:
    reader = Reader()
    found = measure(lambda: reader, int, warmup=1, batches=4, seconds=0.0, whole_epochs=True, counters=lambda: {"drawn": float(reader.drawn)})
    assert found["samples"] == 20  # two epochs, since one has only three batches
    assert found["drawn"] == 20
    assert reader.drawn == 30
    assert found["samples_s"] > 0
    assert found["first_batch_s"] >= 0


def test_a_part_of_an_epoch_is_timed_after_the_warm_up() -> None:
    reader = Reader()
    found = measure(lambda: reader, int, warmup=2, batches=2, seconds=0.0)
    assert (found["samples"], reader.drawn) == (6, 14)  # 4 + 4 before; 2 and the 4 of the next epoch


def test_medians_leave_out_what_failed() -> None:
    assert medians([{"samples_s": 5.0}, {"error": "x"}, {"samples_s": 1.0}, {"samples_s": 3.0}]) == {"samples_s": 3.0}
    assert medians([{"error": "x"}, {"error": "y"}]) == {"error": "y"}


def test_ratios_take_the_best_of_each_side() -> None:
    readers: dict[str, dict[int, Any]] = {
        "lerobot": {0: {"samples_s": 250.0, "cpu_ms_a_sample": 4.0}, 2: {"samples_s": 200.0, "cpu_ms_a_sample": 6.0}},
        "lerobot_streaming": {0: {"samples_s": 100.0}, 2: {"error": "it broke"}},
        "ours": {
            0: {"samples_s": 3000.0, "first_batch_s": 0.5, "frames_decoded": 9.0, "frames_used": 6.0},
            1: {"samples_s": 2800.0, "first_batch_s": 0.7},
            2: {"samples_s": 5000.0, "first_batch_s": 0.9, "cpu_ms_a_sample": 0.32, "frames_decoded": 12.0, "frames_used": 10.0},
        },
        "ours_random": {0: {"samples_s": 900.0}, 2: {"samples_s": 1500.0}},
        "ours_map": {0: {"samples_s": 1000.0}, 2: {"samples_s": 1250.0}},
        "bare_1": {0: {"frames_s": 8000.0}},
        "bare_2": {0: {"frames_s": 12500.0, "cpu_ms_a_frame": 0.14}},
    }
    assert ratios(readers) == pytest.approx(
        {
            "streaming_over_lerobot": 20.0,
            "streaming_over_lerobot_streaming": 50.0,
            "streaming_over_webdataset": None,
            "streaming_over_lerobot_061_uint8": None,
            "random_over_lerobot": 6.0,
            "map_over_lerobot": 5.0,
            "of_bare_decode": 0.8,  # 5000 samples of two frames, of two processes' 12500
            "streaming_over_lerobot_by_cpu": 12.5,
            "random_over_lerobot_by_cpu": None,
            "of_bare_decode_by_cpu": 0.875,  # 2 * 0.14 of 0.32
            "workers_2_over_1": 5000 / 2800,
            "first_batch_s": 0.9,
            "frames_decoded_per_used": 1.2,
        }
    )
    assert best({0: {"error": "x"}}) is None


def test_our_ways_of_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAENGINE_CACHE", str(tmp_path / "cache"))
    store = write_store(tmp_path, write_raw(tmp_path, SMALL, quiet), SMALL, 20, 8, quiet)
    spec = {"store": str(store), "batch": 8, "horizon": 16, "warmup": 1, "batches": 2, "seconds": 0.0, "workers": 0}
    stream = WAYS["stream"](spec)
    assert (stream["samples"], stream["frames_used"]) == (72, 144)  # a whole epoch: 3 episodes of 24 steps, two cameras
    assert 144 <= stream["frames_decoded"] < 300
    at_random = WAYS["stream"]({**spec, "order": "random"})
    assert at_random["samples"] == 72
    assert at_random["frames_decoded"] > stream["frames_decoded"]
    assert WAYS["bare"]({**spec, "processes": 1})["frames_s"] > 0
    assert 0 < WAYS["shuffle"](spec)["clip_pairs_over_perfect"] < 10
    assert WAYS["open"](spec)["samples"] == 72
    assert WAYS["first_batch"](spec)["first_batch_s"] > 0


def test_each_side_runs_and_a_failure_costs_its_own_figures_only(tmp_path: Path) -> None:
    store = write_store(tmp_path, write_raw(tmp_path, SMALL, quiet), SMALL, 20, 8, quiet)
    common = {"cache": str(tmp_path / "cache"), "batch": 8, "horizon": 16, "warmup": 1, "batches": 2, "seconds": 0.0}
    turns: list[str] = []
    sides = [Side("ours", {"store": str(store), "way": "stream"}, (0,)), Side("ours_random", {"store": str(tmp_path / "none"), "way": "stream"}, (0,))]
    found = in_turn(sides, 1, common, None, lambda message, done, total: turns.append(message))
    assert turns == ["ours, 0 workers", "ours_random, 0 workers"]
    assert found["ours"][0]["samples"] == 72
    assert "holds no store" in found["ours_random"][0]["error"]


@pytest.mark.slow
def test_the_benchmark_without_peers(tmp_path: Path) -> None:
    found = bench_load(tmp_path, SMALL, None, 1, 8, False, quiet, Timing(1, 2, 0.0))
    assert [(name, figures) for name, by in found["readers"].items() for figures in by.values() if "error" in figures] == []
    assert found["readers"]["ours"][2]["samples"] == 72
    assert found["frames_decoded_per_used"] < 2
    assert found["of_bare_decode"] > 0
    assert found["clip_pairs_over_perfect"] > 0
    assert "bytes_lerobot" not in found
    assert found["streaming_over_lerobot"] is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_benchmark_with_peers(tmp_path: Path) -> None:
    peers = os.environ.get("DATAENGINE_PEERS")
    if not peers or not (Path(peers) / "webdataset").exists():
        pytest.skip("DATAENGINE_PEERS is not set: `make peers` makes the environments of the peers")
    asked = ["--episodes", "4", "--steps", "60", "--height", "96", "--width", "128", "--repeats", "1", "--json"]
    command = [sys.executable, "-m", "pipelines.cli", "bench", "load", "--peers", str(Path(peers).resolve()), "--work", str(tmp_path), *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    failed = [(name, figures) for name, by in found["readers"].items() for figures in by.values() if "error" in figures]
    assert failed == []
    assert abs(found["psnr_difference"]) < 0.6
    assert found["bytes_over_lerobot"] < 1.5
    assert found["streaming_over_lerobot"] > 2
    assert {"random_over_lerobot", "of_bare_decode", "workers_2_over_1", "first_batch_s"} <= found.keys()
