"""Broken telemetry: rejected or named, never a crash; what lands keeps the bytes of the file, and a film lands whatever its payloads hold."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Items
from dataengine.samples.arm import ArmConfig, record
from dataengine.samples.gopro import add_telemetry, payloads_of
from dataengine.samples.video import VideoOptions, write_film
from dataengine.sources.gopro import reader
from dataengine.sources.listing import list_source
from tests.support.child import run_over, run_reader, tally
from tests.support.mutate import mutants
from tests.support.shared import shared_data

SAMPLE = record(0, 1, ArmConfig(32, 48, cameras=("wrist",), max_steps=30))


def keep_their_bytes(folder: str) -> str:
    """Read a raw file; whatever lands must hold the file's own payloads."""
    listing = list_source(folder)
    found = reader.find(listing).items
    for item in found:
        data = (Path(folder) / item.path).read_bytes()
        (episode,) = episodes_of(reader.read(item, listing.opener, ReadOptions()))
        assert isinstance(episode, Episode)
        values = episode.streams["gopro.payloads"].values
        assert isinstance(values, Items)
        joined = b"".join(bytes(part) for part in values.data)
        assert data.startswith(joined)
        assert not any(data[len(joined) :])
    return "landed" if found else "not GPMF"


FILES = {
    "sample": lambda: b"".join(payloads_of(SAMPLE)),
    "hero5": lambda: shared_data("umi", "gopro_gpmf", "hero5.raw").read_bytes(),
    "two_devices": lambda: shared_data("umi", "gopro_gpmf", "hero6+ble.raw").read_bytes(),
    "header": lambda: shared_data("umi", "gopro_telemetry", "mp4header.raw").read_bytes(),
}


def _check(name: str, count: int, seed: int) -> None:
    outcomes = run_over(keep_their_bytes, mutants(FILES[name](), count, seed=seed), file_name="a.raw", memory_bytes=256 << 20)
    assert {outcome.status for outcome in outcomes} == {"ok", "rejected"}, tally(outcomes)


@pytest.mark.parametrize("name", FILES)
def test_broken_raw_files(name: str) -> None:
    _check(name, 64, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_broken_raw_files(name: str) -> None:
    _check(name, 1000, seed=2)


def _film(folder: Path) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a film with telemetry, and where its payloads and the boxes of its track lie."""
    path = add_telemetry(write_film(folder / "a.mp4", SAMPLE, ["wrist"], VideoOptions()), payloads_of(SAMPLE))
    data = path.read_bytes()
    payload, track = data.index(b"DEVC"), data.rindex(b"trak")
    return data, [(payload, payload + 400), (track, len(data))]


def _check_film(folder: Path, count: int, seed: int) -> None:
    data, hot = _film(folder)
    read = partial(run_reader, "dataengine.sources.video")
    outcomes = run_over(read, mutants(data, count, seed=seed, hot=hot), file_name="a.mp4", preload=("av", "cv2"), memory_bytes=512 << 20)
    assert {outcome.status for outcome in outcomes} == {"ok", "rejected"}, tally(outcomes)
    assert sum(outcome.status == "ok" for outcome in outcomes) > count // 2


def test_films_with_broken_telemetry(tmp_path: Path) -> None:
    _check_film(tmp_path, 64, seed=3)


@pytest.mark.slow
def test_many_films_with_broken_telemetry(tmp_path: Path) -> None:
    _check_film(tmp_path, 800, seed=4)
