from __future__ import annotations

import numpy as np
import pytest

from dataengine.samples.moving_square import CAMERA, STATE, MovingSquare, draw_square


def centre(picture: np.ndarray) -> tuple[float, float]:
    """Return the middle (x, y) of what is brighter than the field."""
    light = picture[:, :, 0].astype(float) - 30
    rows, columns = np.arange(light.shape[0]), np.arange(light.shape[1])
    return float((light.sum(axis=0) * columns).sum() / light.sum()), float((light.sum(axis=1) * rows).sum() / light.sum())


def test_a_square_by_hand() -> None:
    picture = draw_square(np.array([5.0, 3.0]), 10, 20)  # its side is 2 px: from 4 to 6 across and from 2 to 4 down; pixel k reaches from k - 0.5 to k + 0.5
    assert picture.shape == (10, 20, 3)
    across = [30 + 190 * share for share in (0, 0.5, 1, 0.5, 0)]
    assert picture[3, 3:8, 0].tolist() == [round(value) for value in across]
    assert picture[2, 5].tolist() == [125, 125, 125]  # half of it
    assert picture[2, 4].tolist() == [78, 78, 78]  # a quarter: 30 + 47.5, rounded to even
    assert int(picture.min()) == 30
    assert np.array_equal(draw_square(np.array([5.0, 3.0]), 10, 20), picture)


def test_its_displacement_is_the_action() -> None:
    square = MovingSquare(64, 64)
    before = square.reset(7)
    shown = centre(square.render()[CAMERA])
    assert shown == pytest.approx(before.values[STATE].tolist(), abs=0.02)
    after = square.step(np.array([1.0, -0.5]))
    assert after.values[STATE] - before.values[STATE] == pytest.approx([3.0, -1.5])  # 3 px to the right, 1.5 up
    moved = centre(square.render()[CAMERA])
    assert (moved[0] - shown[0], moved[1] - shown[1]) == pytest.approx((3.0, -1.5), abs=0.02)


def test_walls_stop_it_and_a_seed_is_an_episode() -> None:
    square = MovingSquare(40, 60)
    for _ in range(60):
        seen = square.reset(1) if _ == 0 else square.step(np.array([1.0, 1.0]))
    assert seen.values[STATE].tolist() == [55.0, 35.0]  # 4 px of itself before the last pixel
    again = MovingSquare(40, 60)
    first = [square.reset(3).values[STATE], *(square.expert() for _ in range(3))]
    assert all(np.array_equal(a, b) for a, b in zip(first, [again.reset(3).values[STATE], *(again.expert() for _ in range(3))], strict=True))
    assert not np.array_equal(first[0], square.reset(4).values[STATE])
