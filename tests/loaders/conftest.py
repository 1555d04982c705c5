"""A store of numbered episodes, and a cache folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.numbered import Numbered, filmed, numbered_store

LENGTHS = (45, 30, 61, 12, 100, 1, 27, 38)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAENGINE_CACHE", str(cache))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight episodes in three shards: a camera that we encoded, one of JPEGs, one kept film (of the first four)."""
    folder = tmp_path_factory.mktemp("numbered")
    recordings = [
        filmed(folder / "films", number, steps, wrist=True, force=True) if number < 4 else Numbered(number, steps, wrist=True, force=True)
        for number, steps in enumerate(LENGTHS)
    ]
    numbered_store(folder / "store", recordings)
    return folder / "store"


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three datasets in one store: `one` with one arm and a camera, `two` with two arms, a wrist camera and imagined episodes, `bare` without pictures or rate."""
    folder = tmp_path_factory.mktemp("mixed") / "store"
    numbered_store(folder, [Numbered(number, 40 + number, task="fold" if number % 2 else "stack") for number in range(4)], "one")
    recordings = [Numbered(10 + number, 30, wrist=True, front=False, arms=2, origin="world_model" if number >= 2 else "teleop") for number in range(6)]
    numbered_store(folder, recordings, "two")
    numbered_store(folder, [Numbered(20, 25, front=False, rated=False)], "bare")
    return folder
