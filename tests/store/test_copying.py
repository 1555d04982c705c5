"""What a step shows that sees nothing, and which pictures become video."""

from __future__ import annotations

import numpy as np

from dataengine.store.copying import CopySpec, as_colour, nearest_seen


def test_a_step_that_sees_nothing_repeats_what_was_seen_before_it() -> None:
    assert nearest_seen(np.array([-1, -1, 7, 7, -1, 9, -1, -1])).tolist() == [7, 7, 7, 7, 7, 9, 9, 9]
    assert nearest_seen(np.array([4, -1, 3])).tolist() == [4, 4, 3]
    assert nearest_seen(np.array([-1, 0])).tolist() == [0, 0]


def test_colours_of_eight_bits_become_video() -> None:
    grey = np.array([[1, 2], [3, 4]], np.uint8)
    expected = [[[1, 1, 1], [2, 2, 2]], [[3, 3, 3], [4, 4, 4]]]
    for picture in (grey, grey[:, :, None], np.stack([grey, 255 - grey], axis=2)):
        colour = as_colour(picture)
        assert colour is not None
        assert colour.tolist() == expected
    rgba = np.arange(16, dtype=np.uint8).reshape(2, 2, 4)
    colour = as_colour(rgba)
    assert colour is not None
    assert colour.tolist() == [[[0, 1, 2], [4, 5, 6]], [[8, 9, 10], [12, 13, 14]]]
    assert as_colour(grey.astype(np.uint16)) is None
    assert as_colour(np.zeros((2, 2, 5), np.uint8)) is None


def test_what_changes_a_copy() -> None:
    spec = CopySpec("0" * 32, 3, 48, 64, "crop", 5.0)
    assert spec.affecting() == {"size": [48, 64], "fit": "crop", "rate_hz": 5.0}
    assert (spec.size.height, spec.size.width, spec.size.fit) == (48, 64, "crop")
