"""Pictures brought to a size, and the intrinsics that go with them, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.column import Camera
from dataengine.core.errors import UnknownName
from dataengine.video.fit import Box, Size, fitted, fitted_camera


def test_boxes() -> None:
    assert Size(10, 20).boxes(30, 40) == (Box(0, 0, 30, 40), Box(0, 0, 10, 20))
    # 30 x 40 into 10 x 20: by a third for the height, by half for the width; the smaller scale leaves 10 x 13, three px of bars on the left.
    assert Size(10, 20, "pad").boxes(30, 40) == (Box(0, 0, 30, 40), Box(0, 3, 10, 13))
    # The larger one, a half, wants 20 of the 30 rows: five are cut off above and below.
    assert Size(10, 20, "crop").boxes(30, 40) == (Box(5, 0, 20, 40), Box(0, 0, 10, 20))
    assert Size(8, 8, "pad").boxes(1, 1000) == (Box(0, 0, 1, 1000), Box(3, 0, 1, 8))


def test_an_unknown_way_is_named() -> None:
    with pytest.raises(UnknownName, match="did you mean 'crop'"):
        Size(8, 8, "cropp")  # type: ignore[arg-type]


def test_colours_are_averaged_over_area() -> None:
    picture = np.array([[0, 10, 20, 30], [100, 110, 120, 130]], np.uint8)[:, :, None].repeat(3, axis=2)
    assert fitted(picture, Size(1, 2))[:, :, 0].tolist() == [[55, 75]]
    assert fitted(picture, Size(2, 4)) is picture


def test_exact_values_are_those_of_the_nearest_pixel_the_earlier_of_two() -> None:
    depth = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 60000]], np.uint16)
    # Of five columns the centres of three are at 1/3, 2, 11/3; of two rows the centre of one lies between both.
    assert fitted(depth, Size(1, 3), exact=True).tolist() == [[1, 3, 5]]
    assert fitted(depth, Size(4, 5), exact=True).tolist() == [depth[0].tolist()] * 2 + [depth[1].tolist()] * 2
    padded = fitted(depth, Size(4, 5, "pad"), exact=True)
    assert padded.tolist() == [[0] * 5, depth[0].tolist(), depth[1].tolist(), [0] * 5]
    assert padded.dtype == np.uint16
    assert fitted(depth, Size(2, 2, "crop"), exact=True).tolist() == [[2, 3], [7, 8]]


def test_intrinsics_go_with_the_picture() -> None:
    camera = Camera("primary", (100.0, 80.0, 19.5, 9.5))
    assert fitted_camera(camera, 20, 40, Size(10, 10)).intrinsics_px == (25.0, 40.0, 4.5, 4.5)
    # Padded, 20 x 40 becomes 5 x 10 with two rows of bar above; cropped, the ten columns on either side go.
    assert fitted_camera(camera, 20, 40, Size(10, 10, "pad")).intrinsics_px == (25.0, 20.0, 4.5, 4.0)
    assert fitted_camera(Camera("primary", (100.0, 80.0, 12.5, 9.5)), 20, 40, Size(10, 10, "crop")).intrinsics_px == (50.0, 40.0, 1.0, 4.5)
    assert fitted_camera(Camera("wrist"), 20, 40, Size(10, 10)) == Camera("wrist")
