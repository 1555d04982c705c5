"""Tracks of faces over frames, and what is left of a box that was blurred; frames and boxes worked out by hand."""

from __future__ import annotations

import numpy as np

from dataengine.privacy.config import FacesConfig
from dataengine.privacy.detector import Box, boxes_in, together
from dataengine.privacy.mosaic import Tracks, blur, grown

SURE = FacesConfig(gap=6, pad=1, every=1)


def blurred_rows(finds: dict[int, Box], rows: int, config: FacesConfig = SURE) -> dict[int, list[Box]]:
    """Return the boxes of each frame that has any."""
    tracks = Tracks(config)
    settled = [boxes for row in range(rows) for boxes in tracks.add([finds[row]] if row in finds else [])]
    settled += tracks.end()
    assert len(settled) == rows
    return {row: boxes for row, boxes in enumerate(settled) if boxes}


def test_a_face_that_is_missed_in_between_is_blurred_where_it_must_have_been() -> None:
    found = blurred_rows({4: Box(10, 20, 40, 40), 8: Box(10, 40, 40, 40)}, 14)
    assert sorted(found) == [3, 4, 5, 6, 7, 8, 9]
    assert Box(10, 30, 40, 40) in found[6]  # half of the way
    assert Box(10, 35, 40, 40) in found[7]


def test_two_faces_are_not_joined_across_the_picture() -> None:
    found = blurred_rows({2: Box(0, 0, 20, 20), 6: Box(100, 100, 20, 20)}, 10)
    assert sorted(found) == [1, 2, 3, 5, 6, 7]
    assert all(box.left in (0, 100) for boxes in found.values() for box in boxes)


def test_a_pause_longer_than_the_gap_stays_open() -> None:
    assert sorted(blurred_rows({1: Box(0, 0, 20, 20), 9: Box(0, 0, 20, 20)}, 12)) == [0, 1, 2, 8, 9, 10]


def test_an_unsure_find_counts_only_beside_a_sure_one() -> None:
    unsure, sure = Box(0, 0, 20, 20, 3.0), Box(0, 2, 20, 20, 7.0)
    assert blurred_rows({3: unsure, 4: unsure}, 12) == {}
    assert sorted(blurred_rows({3: unsure, 5: sure, 7: unsure}, 12)) == [2, 3, 4, 5, 6, 7, 8]


def test_every_second_frame_searched_leaves_no_frame_between() -> None:
    config = FacesConfig(gap=6, pad=0, every=2)
    tracks = Tracks(config)
    settled = [boxes for row in range(8) for boxes in tracks.add([Box(0, 0, 9, 9)] if row == 4 else None if row % 2 else [])]
    settled += tracks.end()
    assert [row for row, boxes in enumerate(settled) if boxes] == [3, 4, 5]


def test_a_blurred_box_holds_as_many_colours_as_it_has_squares() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (80, 100, 3)).astype(np.uint8)
    before = frame.copy()
    out = blur(frame, [Box(20, 30, 40, 40)], 0.0, 4)
    inside = out[20:60, 30:70].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) <= 16
    assert (out[20:30, 30:40] == np.rint(before[20:30, 30:40].mean(axis=(0, 1)))).all()
    outside = np.ones((80, 100), bool)
    outside[20:60, 30:70] = False
    assert (out[outside] == before[outside]).all()
    assert (frame == before).all()


def test_margins_grow_on_each_side_and_stop_at_the_picture() -> None:
    assert grown(Box(20, 30, 40, 20), 0.5, 100, 100) == (0, 80, 20, 60)
    assert grown(Box(-30, 90, 20, 40), 0.25, 100, 100) is None
    assert grown(Box(90, 90, 40, 40), 0.0, 100, 100) == (90, 100, 90, 100)


def test_windows_of_one_face_are_counted() -> None:
    windows = np.array([[10, 10, 20, 20], [12, 11, 20, 20], [11, 12, 22, 22], [60, 60, 30, 30]], dtype=np.float64)
    first, second = sorted(together(windows), key=lambda box: -box.score)
    assert (first.score, second.score) == (3.0, 1.0)
    assert second[:4] == (60, 60, 30, 30)
    np.testing.assert_allclose(first[:4], (11, 11, 62 / 3, 62 / 3))


class Corner:
    """Finds one box where it sees the white corner upright: in the upper left."""

    def detect(self, frame: np.ndarray) -> list[tuple[float, ...]]:  # type: ignore[type-arg]
        return [(1, 2, 6, 4)] if frame[0, 0, 0] == 255 else []


def test_pictures_that_lie_on_their_side_are_turned_for_the_search() -> None:
    """The mark stands in the upper left of the upright picture; its box is mapped back into the picture as it was recorded."""
    upright = np.zeros((30, 40, 3), np.uint8)
    upright[0, 0] = 255
    region = np.zeros((30, 40), bool)
    region[1:7, 2:6] = True
    for turns in range(4):
        recorded = np.rot90(upright, -turns)
        (box,) = boxes_in(Corner(), recorded, 480, turns)
        marked = np.zeros(recorded.shape[:2], bool)
        top, left, height, width = (int(value) for value in box[:4])
        marked[top : top + height, left : left + width] = True
        assert np.array_equal(np.rot90(marked, turns), region), turns
        assert box.score == float("inf")
