"""Pictures in the order in which steps see them, whatever form they are stored in."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.samples.barcode import read_barcode
from dataengine.store.seen_pictures import pictures
from dataengine.store.store import Store
from tests.support.numbered_clocks import DEPTH, FILM, RAW, STILLS, Numbered, film_of
from tests.support.stores import land, new_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store of two episodes that share a film."""
    folder = tmp_path_factory.mktemp("seen")
    objects = new_store(folder / "store")
    film = film_of(folder, 2)
    land(objects, [Numbered(0, film), Numbered(1, film, raw=True)])  # type: ignore[list-item]
    return Store(objects)


@pytest.mark.parametrize(("stream", "camera"), [(FILM, 0), (STILLS, 1), (RAW, 2)])
def test_any_order_with_repeats(store: Store, stream: str, camera: int) -> None:
    row = next(row for row in store.episodes().collect().iter_rows(named=True) if row["source_key"] == "1")
    entry = next(entry for entry in store.index(row) if entry["stream"] == stream)
    wanted = np.array([3, 3, 4, 17, 17, 44, 2, 30, 30, 0])
    found = [read_barcode(picture) for picture in pictures(store.objects, row, entry, wanted)]
    assert [(code.frame, code.camera, code.episode) for code in found if code is not None] == [(number, camera, 1) for number in wanted]


def test_a_picture_that_is_seen_twice_is_the_same_array(store: Store) -> None:
    row = store.episodes().collect().row(0, named=True)
    entry = next(entry for entry in store.index(row) if entry["stream"] == FILM)
    first, second, third = pictures(store.objects, row, entry, np.array([5, 5, 6]))
    assert first is second
    assert third is not second


def test_depth_keeps_its_values(store: Store) -> None:
    row = next(row for row in store.episodes().collect().iter_rows(named=True) if row["source_key"] == "1")
    entry = next(entry for entry in store.index(row) if entry["stream"] == DEPTH)
    (found,) = pictures(store.objects, row, entry, np.array([7]))
    assert (found.dtype, found.shape, int(found[2, 5])) == (np.uint16, (8, 16), 726)


def test_a_picture_that_is_not_there(store: Store) -> None:
    row = store.episodes().collect().row(0, named=True)
    entry = next(entry for entry in store.index(row) if entry["stream"] == FILM)
    with pytest.raises(BadRecording, match="expected frames 0 to 44, found frames 3 to 45"):
        next(pictures(store.objects, row, entry, np.array([3, 45])))
    assert list(pictures(store.objects, row, entry, np.array([], dtype=np.int64))) == []
