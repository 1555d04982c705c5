"""Broken replay buffers: rejected or named, never a crash; what lands of a broken chunk or zip is what zarr-python reads of it."""

from __future__ import annotations

import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
import zarr.storage

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.protocols import ReadOptions
from dataengine.samples.umi import UmiOptions, write_buffer
from dataengine.sources.listing import list_source
from dataengine.sources.replay_buffer import reader
from tests.support.child import run_over, run_reader, tally
from tests.support.mutate import mutants
from tests.support.shared import shared_data

ROWS = 40


def _arrays() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    return {
        "action": rng.normal(size=(ROWS, 3)).astype("<f4"),
        "robot0_eef_pos": rng.normal(size=(ROWS, 3)).astype("<f4"),
        "camera0_rgb": rng.integers(0, 255, (ROWS, 16, 24, 3), dtype=np.uint8),
    }


def _written(options: UmiOptions) -> Path:
    folder = Path(tempfile.mkdtemp())
    path = folder / ("a.zarr.zip" if options.zipped else "a.zarr")
    write_buffer(path, _arrays(), np.array([15, ROWS], np.int64), options)
    return path


def _store(folder: Path) -> Any:
    path = next(folder.iterdir())
    return zarr.storage.ZipStore(path, mode="r") if path.is_file() else zarr.storage.LocalStore(path)


def compare_with_zarr(folder: str) -> int:
    """Read a buffer; numbers that land must be those that zarr-python reads, where it reads them. Return the episodes that landed."""
    listing = list_source(folder)
    (item,) = reader.find(listing).items
    episodes = [event for event in episodes_of(reader.read(item, listing.opener, ReadOptions())) if isinstance(event, Episode)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("action", "robot0_eef_pos"):
            stream = name if name == "action" else f"observation.{name}"
            try:
                whole = np.asarray(zarr.open_group(_store(Path(folder)), mode="r")[f"data/{name}"])
            except Exception:  # noqa: BLE001 - the other library may fail on broken bytes in any way
                continue
            for episode in episodes:
                if stream in episode.streams:
                    start, end = episode.info.metadata["rows"]
                    np.testing.assert_array_equal(episode.streams[stream].values, whole[start:end])
    return len(episodes)


def _check_zip(options: UmiOptions, count: int, seed: int) -> None:
    data = _written(options).read_bytes()
    outcomes = run_over(
        compare_with_zarr, mutants(data, count, seed=seed), file_name="a.zarr.zip", memory_bytes=512 << 20, preload=("zarr", "numcodecs", "imagecodecs")
    )
    assert {outcome.status for outcome in outcomes} == {"ok", "rejected"}, tally(outcomes)


@pytest.mark.parametrize("frames", ["jpegxl", "blosc"])
def test_broken_zip_files(frames: Any) -> None:
    _check_zip(UmiOptions(frames=frames), 48, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("frames", ["jpegxl", "blosc"])
def test_many_broken_zip_files(frames: Any) -> None:
    _check_zip(UmiOptions(frames=frames), 800, seed=2)


PARTS = {
    "metadata of an array": ("data/action/.zarray", 2),
    "metadata of the ends": ("meta/episode_ends/.zarray", 2),
    "ends": ("meta/episode_ends/0", 2),
    "numbers": ("data/action/0.0", 2),
    "raw frames": ("data/camera0_rgb/1.0.0.0", 2),
    "metadata of a Zarr 3 array": ("data/action/zarr.json", 3),
}


def _check_part(part: str, count: int, seed: int) -> None:
    name, zarr_format = PARTS[part]
    folder = _written(UmiOptions(zipped=False, frames="blosc", zarr_format=zarr_format))  # type: ignore[arg-type]
    beside = {f"a.zarr/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    data = beside.pop(f"a.zarr/{name}")
    read = compare_with_zarr if part in ("numbers", "raw frames") else partial(run_reader, "dataengine.sources.replay_buffer.reader")
    outcomes = run_over(
        read,
        mutants(data, count, seed=seed),
        file_name=f"a.zarr/{name}",
        beside=beside,
        memory_bytes=512 << 20,
        preload=("zarr", "numcodecs"),
    )
    assert {outcome.status for outcome in outcomes} <= {"ok", "rejected"}, tally(outcomes)


@pytest.mark.parametrize("part", PARTS)
def test_broken_parts(part: str) -> None:
    _check_part(part, 32, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_many_broken_parts(part: str) -> None:
    _check_part(part, 600, seed=4)


def test_broken_parts_of_a_real_buffer() -> None:
    folder = shared_data("umi", "pusht_replay_buffer_lowdim.zarr")
    names = [".zgroup", "data/.zgroup", "meta/.zgroup", "meta/episode_ends/.zarray", "data/action/.zarray", "data/action/0.0", "data/action/1.0"]
    beside = {f"a.zarr/{name}": (folder / name).read_bytes() for name in names}
    read = partial(run_reader, "dataengine.sources.replay_buffer.reader")
    ends = (folder / "meta" / "episode_ends" / "0").read_bytes()
    outcomes = run_over(read, mutants(ends, 32, seed=5), file_name="a.zarr/meta/episode_ends/0", beside=beside, memory_bytes=512 << 20)
    assert {outcome.status for outcome in outcomes} <= {"ok", "rejected"}, tally(outcomes)
