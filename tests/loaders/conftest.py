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
