"""Depth and masks at another size: each value is one that was recorded, never the mean of two."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataengine.loaders import Field, Shuffle, dataset, loader
from tests.support.stores import Made, land, new_store


def test_depth_of_another_size_takes_the_nearest_px(tmp_path: Path) -> None:
    land(new_store(tmp_path / "store"), [Made(1), Made(2)])
    name = "observation.images.depth"
    as_recorded = dataset(f"{tmp_path}/store#lab", {name: Field()})
    small = {name: Field(size=(3, 5))}  # of 8 x 8 px
    wanted = {number: as_recorded[number][name][[1, 3, 6]][:, [0, 2, 3, 5, 7]] for number in range(16)}
    samples = dataset(f"{tmp_path}/store#lab", small)
    assert samples[0][name].dtype == np.uint16
    for number, expected in wanted.items():
        assert np.array_equal(samples[number][name], expected)
    shuffle = Shuffle(clip_steps=20, spread=4, lanes=2, groups=1)
    for batch in loader(f"{tmp_path}/store#lab", small, 5, shuffle=shuffle, framework="numpy"):
        for place in np.flatnonzero(batch["weight"]).tolist():
            assert np.array_equal(batch[name][place], wanted[int(batch["sample"][place])])
