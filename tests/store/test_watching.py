"""An episode as a labeller sees it: the very pictures that the loader gives, in parts as if it were seen whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.loaders import Field, dataset
from dataengine.store.row import Row
from dataengine.store.store import Store, open_store
from dataengine.store.watching import watch, watch_numbers, watch_parts
from tests.support.numbered import Numbered, numbered_store

NEEDS = Needs(("camera:primary", "camera:wrist"), (24, 40), columns=("action", "state", "no such column"), before_s=0.1, after_s=0.2)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = tmp_path_factory.mktemp("numbered") / "store"
    numbered_store(store, [Numbered(number, steps, wrist=True) for number, steps in enumerate((37, 5))])
    return open_store(str(store))


def rows(store: Store) -> list[Row]:
    return list(store.episodes().sort("steps").collect().iter_rows(named=True))


def address(store: Store) -> str:
    return str(Path(store.objects.local("") or "")) + "#lab"


def test_pictures_and_numbers_are_those_that_the_loader_gives(lab: Store) -> None:
    data = dataset(address(lab), {"camera:primary": Field(size=(24, 40)), "camera:wrist": Field(size=(24, 40)), "action": Field(), "state": Field()})
    samples = data.read(range(len(data)))
    compared = 0
    for row in rows(lab):
        found = watch(lab, row, NEEDS)
        mine = np.array([data.episode_id(int(number)) == row["episode_id"] for number in samples["episode"]])
        for camera in NEEDS.cameras:
            assert (found.pictures[camera] == samples[camera][mine]).all()
            assert found.seen[camera].all()
        assert (found.columns["action"] == samples["action"][mine]).all()
        assert (found.columns["state"] == samples["state"][mine]).all()
        assert set(found.columns) == {"action", "state"}
        compared += found.steps
    assert compared == 42


def window(part: Watched, steps: np.ndarray) -> np.ndarray:
    near, beyond = part.near(steps, (-0.1, 0.0, 0.2))
    return np.where(beyond, -1, part.columns["action"][near][..., 0])


@pytest.mark.parametrize("most", [1, 7, 36, 37, 100])
def test_parts_answer_for_every_step_once_as_if_the_episode_were_whole(lab: Store, most: int) -> None:
    row = rows(lab)[-1]
    whole = watch(lab, row, NEEDS)
    wanted = window(whole, np.arange(whole.steps))
    parts = list(watch_parts(lab, row, NEEDS, most))
    assert np.concatenate([part.first + steps for part, steps in parts]).tolist() == list(range(37))
    assert (np.concatenate([window(part, steps) for part, steps in parts]) == wanted).all()
    assert max(part.steps for part, _ in parts) <= most + 12  # what lies around a part, and no more


def test_an_episode_without_its_pictures(lab: Store) -> None:
    found = watch_numbers(lab, rows(lab)[0], NEEDS)
    assert not found.pictures
    assert found.steps == len(found.columns["action"]) == 5


def test_a_camera_that_is_not_there_is_named(lab: Store) -> None:
    with pytest.raises(UsageError, match=r"has no pictures of 'camera:overhead'; its cameras: observation.images.front, observation.images.wrist"):
        watch(lab, rows(lab)[0], Needs(("camera:overhead",)))


def test_an_episode_that_lacks_one_of_several_cameras_is_seen_by_the_others(lab: Store) -> None:
    row = rows(lab)[0]
    needs = Needs(("camera:overhead", "camera:wrist"), (24, 40))
    found = watch(lab, row, needs)
    assert found.pictures["camera:overhead"].shape == (5, 24, 40, 3)
    assert not found.pictures["camera:overhead"].any()
    assert not found.seen["camera:overhead"].any()
    assert (found.pictures["camera:wrist"] == watch(lab, row, NEEDS).pictures["camera:wrist"]).all()
    assert found.seen["camera:wrist"].all()
    parts = [part.seen for part, _ in watch_parts(lab, row, needs, 3)]
    assert [(seen["camera:overhead"].any(), seen["camera:wrist"].all()) for seen in parts] == [(False, True)] * 2
    with pytest.raises(UsageError, match="has no pictures of 'camera:overhead' or 'camera:left'; its cameras"):
        watch(lab, row, Needs(("camera:overhead", "camera:left")))
