from __future__ import annotations

import numpy as np

from dataengine.align.picture_change import ChangeMeter

MS = 1_000_000


def scene(at, side=24):
    """Return a grey picture (side, side) with a bright square whose left edge is at column `at`."""
    picture = np.full((side, side), 80, np.uint8)
    picture[8:16, at : at + 6] = 200
    return picture


def changes(*pictures):
    meter = ChangeMeter()
    for row, picture in enumerate(pictures):
        if picture is not None:
            meter.add(row, picture)
    return meter.motion(np.arange(len(pictures), dtype=np.int64) * 40 * MS)


def test_a_square_that_moves_twice_as_far_changes_twice_as_much():
    motion = changes(scene(2), scene(3), scene(5))
    assert motion.start_ns.tolist() == [0, 40 * MS]
    assert motion.end_ns.tolist() == [40 * MS, 80 * MS]
    # 2 columns of 8 px of 576 change by 120 levels, of a mean of 90: 133.3 of 100 levels each, less 3 of noise
    assert abs(motion.change[0] - 16 * (120 * 100 / 90 - 3) / 576) < 1e-5
    assert abs(motion.change[1] - 2 * motion.change[0]) < 1e-5


def test_brightness_that_goes_up_and_down_is_no_motion():
    brighter = np.rint(scene(2) * 1.2).astype(np.uint8)
    lifted = scene(2) + 20
    assert changes(scene(2), brighter).change[0] == 0.0  # an exposure that is longer by a fifth
    assert changes(scene(2), lifted).change[0] < 0.5 * changes(scene(2), scene(3)).change[0]


def test_noise_of_the_sensor_is_no_motion():
    rng = np.random.default_rng(0)
    noisy = [np.clip(scene(2) + np.rint(rng.normal(0, 0.8, (24, 24))), 0, 255).astype(np.uint8) for _ in range(8)]
    assert changes(*noisy).change.max() < 0.02 * changes(scene(2), scene(3)).change[0]


def test_a_picture_shown_twice_is_one_picture():
    motion = changes(scene(2), scene(2), scene(4), None, scene(5))
    assert motion.start_ns.tolist() == [0, 80 * MS]
    assert motion.end_ns.tolist() == [80 * MS, 160 * MS]


def test_runs_and_sizes_are_not_compared_with_each_other():
    meter = ChangeMeter()
    meter.add(0, scene(2))
    meter.add(1, scene(3, side=32))
    meter.cut()
    meter.add(2, scene(4, side=32))
    meter.add(3, scene(6, side=32))
    motion = meter.motion(np.array([0, 1, 2, 5000], dtype=np.int64) * MS)
    assert len(motion) == 0  # the only pair is nearly five seconds long
    assert meter.motion(np.array([0, 1, 2, 3], dtype=np.int64) * MS).end_ns.tolist() == [3 * MS]
    assert len(meter.motion(np.array([0, 1, 3, 2], dtype=np.int64) * MS)) == 0  # a clock that steps back
