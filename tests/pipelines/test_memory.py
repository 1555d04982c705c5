"""How much memory reading takes: a bound that does not grow with the file."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dataengine.samples.arm import ArmConfig, record
from dataengine.samples.bulk import write_bulk_mcap
from tests.support.jobs import command, require_whole, write_sources
from tests.support.shared import REPOSITORY

MIB = 1 << 20


def peak_bytes(source: Path, store: Path) -> tuple[int, int]:
    """Ingest with one worker; return the largest resident memory of the process that reads, and of the one that commits."""
    words = command("ingest", source, "--store", store, "--local", "--workers", "1", "--json")
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    reading = committing = 0
    me = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            committing = max(committing, me.memory_info().rss)
            reading = max([reading, *(child.memory_info().rss for child in me.children(recursive=True))])
        except psutil.Error:
            pass
        time.sleep(0.02)
    out, err = process.communicate()
    assert process.returncode == 0, err
    import json

    report = json.loads(out)
    require_whole(report)
    assert report["landed"] >= 1
    return reading, committing


def write_hdf5(path: Path, size_bytes: int) -> Path:
    """Write an ALOHA episode of raw pictures of 120 x 160, as many as the size asks for; the pictures repeat after a while."""
    import h5py
    import numpy as np

    pool = record(7, 0, ArmConfig(height=120, width=160, cameras=("top",), max_steps=40))
    frames = next(iter(pool.cameras.values())).images
    rows = size_bytes // frames[0].nbytes
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["sim"] = True
        pictures = file.create_dataset("observations/images/top", (rows, *frames.shape[1:]), dtype=np.uint8, chunks=(1, *frames.shape[1:]))
        for start in range(0, rows, len(frames)):
            count = min(len(frames), rows - start)
            pictures[start : start + count] = frames[:count]
        numbers = np.arange(rows * 14, dtype=np.float64).reshape(rows, 14) % 997 / 997
        file["observations/qpos"], file["observations/qvel"], file["action"] = numbers, numbers * 0.5, numbers + 0.01
    return path


def write_mcap(path: Path, size_bytes: int) -> Path:
    """Write a recording of two JPEG cameras, joints and an IMU."""
    return write_bulk_mcap(path, size_bytes)


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return what the reading process takes for the smallest sources."""
    folder = tmp_path_factory.mktemp("rest")
    return peak_bytes(write_sources(folder / "in"), folder / "store")[0]


@pytest.mark.parametrize(("write", "size"), [(write_mcap, 300 * MIB), (write_hdf5, 60 * MIB)], ids=["mcap", "hdf5"])
def test_memory_is_bounded(write: Callable[[Path, int], Path], size: int, at_rest: int, tmp_path: Path) -> None:
    source = write(tmp_path / "in" / ("large.mcap" if write is write_mcap else "episode_0.hdf5"), size)
    reading, committing = peak_bytes(source, tmp_path / "store")
    assert reading - at_rest < 400 * MIB, (reading / MIB, at_rest / MIB)
    assert reading < 1024 * MIB
    assert committing < 600 * MIB


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("write", "size"), [(write_mcap, 5 << 30), (write_hdf5, 2 << 30)], ids=["mcap", "hdf5"])
def test_memory_is_bounded_for_a_file_of_gigabytes(write: Callable[[Path, int], Path], size: int, tmp_path: Path) -> None:
    source = write(tmp_path / "in" / ("large.mcap" if write is write_mcap else "episode_0.hdf5"), size)
    reading, committing = peak_bytes(source, tmp_path / "store")
    assert reading < 1024 * MIB, reading / MIB
    assert committing < 1024 * MIB, committing / MIB
