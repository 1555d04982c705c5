"""Depth in 12 bits, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.video.depth import DepthCoding, depth_codes, depth_coding, depth_metres


def test_codes_by_hand() -> None:
    coding = DepthCoding()
    low, high = math.log(3.51), math.log(13.5)
    # 1 m: (ln 4.5 - ln 3.51) / (ln 13.5 - ln 3.51) of 4095 codes.
    expected = round(4095 * (math.log(4.5) - low) / (high - low))
    assert expected == 755
    assert depth_codes(np.array([0.01, 1.0, 10.0, 99.0, -1.0]), coding).tolist() == [0, 755, 4095, 4095, 0]
    metres = depth_metres(np.array([0, 755, 4095], dtype=np.uint16), coding)
    assert metres.dtype == np.float32
    assert metres.tolist() == pytest.approx([0.01, 1.0, 10.0], abs=1e-3)


def test_linear_codes() -> None:
    coding = DepthCoding(min_m=0.0, max_m=8.19, use_log=False)
    assert depth_codes(np.array([0.0, 2.0, 8.19]), coding).tolist() == [0, 1000, 4095]
    assert depth_metres(np.array([1000]), coding).tolist() == pytest.approx([2.0])


def test_every_code_comes_back() -> None:
    codes = np.arange(4096, dtype=np.uint16)
    for coding in (DepthCoding(), DepthCoding(0.3, 3.0, 0.5), DepthCoding(0.3, 3.0, use_log=False)):
        assert np.array_equal(depth_codes(depth_metres(codes, coding), coding), codes)


def test_what_is_not_stated_is_as_the_format_has_it() -> None:
    assert depth_coding({}) == DepthCoding(0.01, 10.0, 3.5, True)
    assert depth_coding({"depth_max": 3, "use_log": False, "depth_unit": "m"}) == DepthCoding(0.01, 3.0, 3.5, False)


@pytest.mark.parametrize("facts", [{"depth_min": 11}, {"shift": -5.0}, {"depth_max": float("inf")}, {"depth_min": "near"}, {"use_log": 1}, {"depth_min": True}])
def test_numbers_that_are_no_coding(facts: dict[str, Any]) -> None:
    with pytest.raises(BadRecording, match="depth_min below depth_max"):
        depth_coding(facts)
