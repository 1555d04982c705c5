from __future__ import annotations

import cv2
import numpy as np
import pytest

from dataengine.core.stream import Items
from dataengine.validate.limits import CheckLimits
from dataengine.validate.pictures import (
    constant_image,
    damaged_frames,
    frozen_frames,
    grey_among_colour,
    missing_frames,
    mixed_frame_sizes,
    picture_facts,
    repeats,
)

LIMITS = CheckLimits()
CHECKS = (constant_image, damaged_frames, frozen_frames, grey_among_colour, missing_frames, mixed_frame_sizes)


def picture(seed: int, height: int = 48, width: int = 64, channels: int = 3, ext: str = ".jpg") -> bytes:
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return cv2.imencode(ext, rng.integers(0, 255, shape, dtype=np.uint8))[1].tobytes()


def found_in(data, encodings="jpeg"):
    facts = picture_facts(Items(data, encodings))
    return {problem.check: problem for check in CHECKS for problem in check("top", facts, LIMITS)}


@pytest.mark.parametrize(("ext", "encoding"), [(".jpg", "jpeg"), (".png", "png")])
def test_a_good_camera_has_no_problem(ext, encoding):
    data = [picture(seed, ext=ext) for seed in range(6)]
    facts = picture_facts(Items(data, encoding))
    assert facts.size.tolist() == [[48, 64, 3]] * 6
    assert facts.complete.all()
    assert found_in(data, encoding) == {}


def test_no_pictures_are_no_problem():
    assert found_in([]) == {}
    assert found_in([picture(1)]) == {}


def test_absent_and_cut_off_frames_are_named_apart():
    data = [picture(seed) for seed in range(5)]
    data[1] = b""
    data[3] = data[3][:-40]
    data[4] = b"\xff\xd8 not a picture"
    found = found_in(data)
    assert sorted(found) == ["damaged_frames", "missing_frames"]
    assert found["missing_frames"].found == "1 of 5 frames are empty, the first at row 1"
    assert found["damaged_frames"].found == "2 of 5 frames cut off or unreadable, the first at row 3"


def test_other_encodings_are_not_judged():
    assert found_in([b"RIFF....WEBP", b"RIFF..!.WEBP"], "webp") == {}


def test_sizes_and_channels_that_differ():
    data = [picture(0), picture(1), picture(2, 32, 64), picture(3, channels=1)]
    found = found_in(data)
    assert sorted(found) == ["grey_among_colour", "mixed_frame_sizes"]
    assert found["mixed_frame_sizes"].found == "48x64 (3), 32x64 (1)"
    assert found["grey_among_colour"].found == "3 with 3, 1 with 1"


def test_one_picture_throughout_is_a_camera_that_hung_or_a_blank():
    hung = found_in([picture(7)] * 10)
    assert [(name, problem.severity) for name, problem in hung.items()] == [("constant_image", "warning")]
    black = cv2.imencode(".jpg", np.zeros((256, 256, 3), dtype=np.uint8))[1].tobytes()
    blank = found_in([black] * 10)
    assert [(name, problem.severity) for name, problem in blank.items()] == [("constant_image", "info")]
    assert blank["constant_image"].found == "one picture in all 10 rows, a blank"


def test_a_run_of_equal_frames_is_found_and_a_slow_camera_is_not():
    data = [picture(seed) for seed in range(40)]
    data[10:26] = [data[10]] * 16
    found = found_in(data)
    assert sorted(found) == ["frozen_frames"]
    assert found["frozen_frames"].found == "16 equal frames in a row, 15 repeated of 40"
    assert found_in([picture(row // 3) for row in range(60)]) == {}


def test_absent_frames_are_not_equal_frames():
    data = [picture(0)] + [b""] * 20 + [picture(1)]
    facts = picture_facts(Items(data, "jpeg"))
    assert not repeats(facts).any()
    assert sorted(found_in(data)) == ["missing_frames"]
    assert sorted(found_in([b""] * 3)) == ["missing_frames"]
