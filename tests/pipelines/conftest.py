"""Sources that many tests read: written once a session, never changed by a test (take a copy for that)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dataengine.store.store import Store, open_store
from pipelines.ingest import IngestJob, Report, run
from pipelines.runtime import Runtime
from tests.support.jobs import Content, content, dataengine, write_config, write_sources
from tests.support.shared import shared_data

# The folders of real recordings that land in one run, as a user would name them.
SHARED_FOLDERS = (
    "droid_json_mp4/ctrl_world",
    "lerobot/*",
    "rlds/*",
    "robot_video/*",
    "teleop_hdf5/*",
    "teleop_mcap_ros/*",
    "teleop_ros1bag/*",
    "umi/gopro_gpmf",
    "umi/pusht_replay_buffer_lowdim.zarr",
    "umi/umi_lerobot_v1_ep0",
)

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


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    """Return what a correct read of the real recordings gives."""
    found: dict[str, Any] = json.loads(shared_data("FACTS.json").read_text())
    return found


@pytest.fixture(scope="session")
def landed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Store, Path]:
    """Return the report of one run over all real recordings, the store, and the folder they came from: only to be read."""
    root = shared_data("FACTS.json").parent
    target = tmp_path_factory.mktemp("shared") / "store"
    sources = [str(path) for folder in SHARED_FOLDERS for path in sorted(root.glob(folder))]
    report = run(IngestJob(tuple(sources), str(target)), Runtime(local=True, workers=2))
    return report, open_store(str(target)), root
