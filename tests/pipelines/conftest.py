"""Sources that many tests read: written once a session, never changed by a test (take a copy for that)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.jobs import Content, content, dataengine, write_config, write_sources

_seconds: dict[Path, float] = {}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 18 recordings in four formats."""
    folder = write_sources(tmp_path_factory.mktemp("sources"))
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            os.utime(path, ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_000))
    return folder


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a configuration of small units and many commits."""
    return write_config(tmp_path_factory.mktemp("config") / "small.yaml")


@pytest.fixture(scope="session")
def whole_store(tmp_path_factory: pytest.TempPathFactory, sources: Path, config: Path) -> Path:
    """Return a store that an uninterrupted job made of `sources`: only to be read."""
    store = tmp_path_factory.mktemp("whole") / "store"
    started = time.monotonic()
    done = dataengine("ingest", sources, "--store", store, "--config", config, "--local", "--json")
    _seconds[store] = time.monotonic() - started
    assert done.code == 0, done.err
    assert done.json["landed"] == 17
    return store


@pytest.fixture(scope="session")
def whole_s(whole_store: Path) -> float:
    """Return how long that job took, from the start of its process to the end."""
    return _seconds[whole_store]


@pytest.fixture(scope="session")
def whole(whole_store: Path) -> Content:
    """Return what that store holds."""
    return content(whole_store)
