"""Stored bytes that are cut off, gone or changed: a reader says so in one sentence, and never fails in any other way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.errors import CorruptStore, DataEngineError
from dataengine.store.store import open_store
from tests.store.test_foreign_tools import STREAMS, recording
from tests.support.films import numbered, write_film
from tests.support.units import SourceItem, ingest, new_store


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, str]:
    source = tmp_path_factory.mktemp("source")
    film = write_film(source / "film.mp4", numbered(18))
    objects = new_store(tmp_path_factory.mktemp("damage") / "store")
    return Path(objects.url), ingest(objects, [SourceItem("a", recording(0, film))], source=source).ids[0]


def read_all(root: Path, episode_id: str) -> None:
    store = open_store(str(root))
    store.read_trajectory(episode_id)
    episode = store.read_episode(episode_id)
    for name in STREAMS:
        if name.startswith("images."):
            store.read_frames(episode_id, name, [3, 0])
        elif not isinstance(episode.streams[name].values, np.ndarray):
            list(episode.streams[name].values.data)


def payload(root: Path) -> list[Path]:
    return sorted(path for top in ("streams", "steps", "media", "datasets") for path in (root / top).rglob("*") if path.is_file() and path.name != "shard.json")


def test_a_part_that_is_gone_is_named(whole, tmp_path):
    root, episode_id = whole
    names = [path.relative_to(root) for path in payload(root)]
    assert len(names) > 40
    unread, messages = [], []
    for place, name in enumerate(names):
        copy = tmp_path / f"{place}"
        shutil.copytree(root, copy)
        (copy / name).unlink()
        try:
            read_all(copy, episode_id)
            unread.append(name.name if name.name != "zarr.json" else f"{name.parent.name}/zarr.json")
        except CorruptStore as error:
            messages.append(str(error))
        shutil.rmtree(copy)
    assert all("restore it from a copy" in message for message in messages)
    # What reading an episode does not need: the facts of picture headers, and groups that hold no items.
    assert {name for name in unread if "zarr.json" not in name} <= {"0"}
    assert len(unread) < len(names) / 2


@pytest.mark.parametrize("seed", range(6))
def test_changed_or_cut_bytes_are_an_error_of_ours_or_no_error(whole, tmp_path, seed):
    root, episode_id = whole
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    rng = np.random.default_rng(seed)
    for path in payload(copy):
        original = path.read_bytes()
        data = bytearray(original)
        kind = rng.integers(3)
        if kind == 0:
            data = data[: int(rng.integers(0, len(data)))] if data else data
        elif kind == 1 and data:
            for at in rng.integers(0, len(data), 3):
                data[at] ^= 1 << int(rng.integers(8))
        else:
            data = bytearray(rng.bytes(len(data)))
        path.write_bytes(bytes(data))
        try:
            read_all(copy, episode_id)
        except DataEngineError as error:
            assert len(str(error)) < 2000  # noqa: PT017 - any error of ours will do, no other must come
        path.write_bytes(original)
    read_all(copy, episode_id)
