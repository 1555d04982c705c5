"""Episodes that are read one after the other share what is open, and are as they are when each is read alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dataengine.store.open_shards
import dataengine.store.watching
from dataengine.core.errors import EpisodePurged, UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.store.open_shards import OpenShards
from dataengine.store.steps import StepsFile
from dataengine.store.store import Store, open_store
from dataengine.store.watching import part_steps, watch, watch_numbers, watch_parts
from dataengine.versions.purge import purge
from tests.support.numbered_clocks import FILM, RAW, STILLS, Numbered, film_of
from tests.support.square_store import make_square_store, square_rows
from tests.support.stores import land, new_store

NEEDS = Needs(("camera:primary",), (48, 40), columns=("state", "action", "observation.nothing"), before_s=0.05, after_s=0.1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Five episodes of 60 steps in two shards: only to be read."""
    return open_store(str(make_square_store(tmp_path_factory.mktemp("shards") / "store", 5)))


def same(one: Watched, other: Watched) -> None:
    assert (one.episode_id, one.steps, one.first, one.specs) == (other.episode_id, other.steps, other.first, other.specs)
    for mine, theirs in ((one.pictures, other.pictures), (one.columns, other.columns), (one.valid, other.valid), (one.seen, other.seen)):
        assert sorted(mine) == sorted(theirs)
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_together_as_alone_in_any_order(store: Store) -> None:
    rows = square_rows(store)
    shards = OpenShards(store)
    for row in [*rows, rows[3], rows[0], rows[4], rows[1]]:
        alone = watch(store, row, NEEDS)
        assert (alone.pictures["camera:primary"].shape, sorted(alone.columns)) == ((60, 48, 40, 3), ["action", "state"])
        same(watch(store, row, NEEDS, shards=shards), alone)
        trajectory = store.read_trajectory(row["episode_id"])
        assert np.array_equal(alone.columns["action"], trajectory.columns["action"])
        assert alone.pictures["camera:primary"].std(axis=(1, 2, 3)).min() > 5
    shards.close()


def test_a_file_is_opened_once_for_all_its_episodes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, films = [], []
    whole, real = StepsFile.__init__, dataengine.store.open_shards.frame_reader
    monkeypatch.setattr(StepsFile, "__init__", lambda self, *words, **more: (steps.append(words[1]), whole(self, *words, **more))[1])
    monkeypatch.setattr(dataengine.store.open_shards, "frame_reader", lambda *words: (films.append(words[-1]), real(*words))[1])
    with OpenShards(store) as shards:
        for row in store.episodes().sort("shard", "ordinal").collect().to_dicts():
            watch(store, row, NEEDS, shards=shards)
            watch_numbers(store, row, NEEDS, shards)
    assert (len(steps), len(films)) == (2, 2)


def test_parts_are_the_whole_cut(store: Store) -> None:
    row = square_rows(store)[2]
    whole, numbers = watch(store, row, NEEDS), watch_numbers(store, row, NEEDS)
    assert numbers.pictures == {}
    answered = []
    for part, steps in watch_parts(store, row, NEEDS, 16):
        answered += (part.first + steps).tolist()
        assert np.array_equal(part.pictures["camera:primary"], whole.pictures["camera:primary"][part.first : part.first + part.steps])
        near, beyond = part.near(steps, (-0.05, 0.0, 0.1))
        there, over = whole.near(part.first + steps, (-0.05, 0.0, 0.1))
        assert np.array_equal(near + part.first, there)
        assert np.array_equal(beyond, over)
    assert answered == list(range(60))


def test_large_pictures_come_in_shorter_parts() -> None:
    assert [part_steps(Needs(("a",), (side, side))) for side in (64, 128, 224, 2048)] == [2048, 1365, 445, 64]
    assert part_steps(Needs(("a", "b"), (224, 224))) == 222
    assert part_steps(Needs()) == 2048


@pytest.mark.parametrize("camera", [FILM, STILLS, RAW])
def test_every_form_of_pictures(tmp_path: Path, camera: str) -> None:
    objects = new_store(tmp_path / "store")
    film = film_of(tmp_path, 2)
    land(objects, [Numbered(0, film, raw=True), Numbered(1, film, raw=True)])  # type: ignore[list-item]
    there = Store(objects)
    needs = Needs((camera,), (24, 32))
    first, second = there.episodes().sort("ordinal").collect().to_dicts()
    with OpenShards(there) as shards:
        for row in (first, second, first):
            same(watch(there, row, needs, shards=shards), watch(there, row, needs))
        assert not np.array_equal(watch(there, first, needs, shards=shards).pictures[camera], watch(there, second, needs, shards=shards).pictures[camera])


def test_what_is_not_there_is_said(store: Store, tmp_path: Path) -> None:
    row = square_rows(store)[0]
    with pytest.raises(UsageError, match=r"has no pictures of 'camera:wrist'; its cameras: observation.images.front"):
        watch(store, row, Needs(("camera:wrist",)))
    other = make_square_store(tmp_path / "store", 2)
    gone = square_rows(other)[1]
    purge(open_store(str(other)).objects, [gone["episode_id"]], "consent withdrawn", "purge")
    with pytest.raises(EpisodePurged):
        watch(open_store(str(other)), gone, NEEDS)
