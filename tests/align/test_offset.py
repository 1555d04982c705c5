from __future__ import annotations

import numpy as np
import pytest

from dataengine.align.offset import MIN_PAIRS, BodyMotion, ImageMotion, busiest_rows, displacements, estimate_offset

MS = 1_000_000


def bursts(times_s, seed=0, every_s=0.9):
    """Return positions (N, 1) of a hand that makes a move of its own size and length now and then, and rests in between."""
    rng = np.random.default_rng(seed)
    position = np.zeros(len(times_s))
    at = 0.2
    while at < times_s[-1]:
        size, length = rng.uniform(-1, 1), rng.uniform(0.25, 0.6)
        share = np.clip((times_s - at) / length, 0, 1)
        position += size * share**3 * (10 - 15 * share + 6 * share**2)
        at += every_s * rng.uniform(0.6, 1.4)
    return position[:, None]


def body(seconds=12.0, rate_hz=200.0, seed=0, name="joints"):
    times_s = np.arange(int(seconds * rate_hz)) / rate_hz
    return BodyMotion(name, np.rint(times_s * 1e9).astype(np.int64), bursts(times_s, seed))


def seen(taken_s, motion, offset_ms, noise=0.0, seed=0):
    """Return how pictures taken at these times change when the body alone changes them, stamped `offset_ms` late."""
    at = np.interp(taken_s, motion.times_ns / 1e9, motion.values[:, 0])
    change = np.abs(np.diff(at)) + noise * np.random.default_rng(seed).random(len(at) - 1)
    stamps = np.rint(taken_s * 1e9).astype(np.int64) + round(offset_ms * MS)
    return ImageMotion(stamps[:-1], stamps[1:], change)


def test_a_picture_stamped_late_gives_a_positive_offset():
    # by hand: the hand moves from 1.0 to 1.4 s, and again from 2.5 to 2.7 s; each picture is taken at k / 25 s and stamped 80 ms later
    times_s = np.arange(1000) / 200
    position = np.clip((times_s - 1.0) / 0.4, 0, 1) + np.clip((times_s - 2.5) / 0.2, 0, 1)
    motion = BodyMotion("hand", np.rint(times_s * 1e9).astype(np.int64), position[:, None])
    found = estimate_offset(seen(np.arange(0, 100) / 25, motion, 80.0), [motion])
    assert found.offset_ns == pytest.approx(80 * MS, abs=1 * MS)
    assert (found.motion, found.reason) == ("hand", None)
    assert found.correlation > 0.99
    # a picture that is stamped 1.08 s shows the hand as it began to move at 1.0 s
    early = estimate_offset(seen(np.arange(0, 100) / 25, motion, -120.0), [motion])
    assert early.offset_ns == pytest.approx(-120 * MS, abs=1 * MS)


@pytest.mark.parametrize("rate_hz", [10, 15, 30, 60])
@pytest.mark.parametrize("offset_ms", [-150.0, -33.4, 0.0, 7.5, 150.0])
def test_the_offset_is_found_at_every_rate_to_a_tenth_of_a_frame(rate_hz, offset_ms):
    motion = body(seed=rate_hz)
    found = estimate_offset(seen(np.arange(0.5, 11.0, 1 / rate_hz), motion, offset_ms, noise=0.002), [motion])
    assert found.offset_ns == pytest.approx(offset_ms * MS, abs=0.1e9 / rate_hz)
    assert found.confidence > 0.9


def test_lost_frames_and_a_clock_that_trembles_do_not_move_it():
    motion, rng = body(seconds=20), np.random.default_rng(3)
    taken = np.sort(np.arange(0.5, 19.0, 1 / 30)[rng.random(555) > 0.3])
    found = estimate_offset(seen(taken, motion, 60.0), [motion])
    assert found.offset_ns == pytest.approx(60 * MS, abs=2 * MS)
    trembling = seen(taken, motion, 60.0)
    jitter = np.rint(rng.normal(0, 5 * MS, len(taken))).astype(np.int64)
    shaken = ImageMotion(trembling.start_ns + jitter[:-1], trembling.end_ns + jitter[1:], trembling.change)
    assert estimate_offset(shaken, [motion]).offset_ns == pytest.approx(60 * MS, abs=8 * MS)


def test_speeds_are_as_good_as_positions_and_the_better_motion_is_named():
    motion = body(seed=5)
    speeds = BodyMotion("velocity", motion.times_ns, np.gradient(motion.values[:, 0], 0.005)[:, None], speeds=True)
    other = body(seed=6, name="other")
    image = seen(np.arange(0.5, 11.0, 1 / 30), motion, 40.0, noise=0.002)
    assert estimate_offset(image, [speeds]).offset_ns == pytest.approx(40 * MS, abs=3 * MS)
    assert estimate_offset(image, [other, motion]).motion == "joints"
    assert estimate_offset(image, [other]).offset_ns is None


def test_dimensions_that_only_tremble_do_not_count():
    motion, rng = body(seed=7), np.random.default_rng(0)
    noisy = BodyMotion("joints", motion.times_ns, np.concatenate([motion.values, rng.normal(0, 1, (len(motion.values), 6))], axis=1))
    found = estimate_offset(seen(np.arange(0.5, 11.0, 1 / 15), motion, -70.0), [noisy])
    assert found.offset_ns == pytest.approx(-70 * MS, abs=5 * MS)


def reason(image, *motions):
    found = estimate_offset(image, motions)
    assert found.offset_ns is None
    return found.reason


def test_it_abstains_and_says_why():
    motion, rng = body(), np.random.default_rng(1)
    taken = np.arange(0.5, 11.0, 1 / 30)
    image = seen(taken, motion, 40.0)
    pairs = len(image)
    still = BodyMotion("still", motion.times_ns, np.full((len(motion.values), 3), 0.7))
    trembling = BodyMotion("trembling", motion.times_ns, rng.normal(0, 1e-4, (len(motion.values), 3)))
    assert reason(image) == "no_motion"
    assert reason(image, still, trembling) == "no_motion"
    assert reason(ImageMotion(image.start_ns, image.end_ns, np.zeros(pairs)), motion) == "still_pictures"
    assert reason(ImageMotion(image.start_ns, image.end_ns, rng.random(pairs)), motion) == "weak_correlation"
    few = MIN_PAIRS - 1
    assert reason(ImageMotion(image.start_ns[:few], image.end_ns[:few], image.change[:few]), motion) == "few_pictures"
    assert reason(ImageMotion(image.start_ns, image.start_ns + 1000, image.change), motion) == "too_fast"
    assert reason(seen(taken, motion, 3_600_000.0), motion) == "no_motion"  # an hour off: no sample of the body near a picture
    assert reason(seen(taken, motion, 700.0), motion) in ("weak_correlation", "beyond_search", "ambiguous")


def test_a_motion_that_repeats_within_the_search_is_ambiguous():
    times_s = np.arange(4000) / 200
    wave = BodyMotion("wave", np.rint(times_s * 1e9).astype(np.int64), np.sin(2 * np.pi * 2.0 * times_s)[:, None])
    image = seen(np.arange(0.5, 18.0, 1 / 30), wave, 40.0, noise=0.02)
    assert reason(image, wave) == "ambiguous"


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_reason_do_no_harm():
    motion = body()
    image = seen(np.arange(0.5, 11.0, 1 / 30), motion, 40.0)
    with np.errstate(all="ignore"):
        for values in (np.full((len(motion.values), 2), np.nan), motion.values * 1e308, np.where(np.arange(2400)[:, None] % 2, np.inf, 1.0)):
            estimate_offset(image, [BodyMotion("odd", motion.times_ns, values)])
        assert estimate_offset(image, [BodyMotion("equal times", np.zeros(2400, np.int64), motion.values)]).reason == "no_motion"
        wide = ImageMotion(image.start_ns - 2**62, image.end_ns - 2**62, image.change)
        assert estimate_offset(wide, [motion]).offset_ns is None


def test_equal_evidence_gives_equal_estimates():
    motion = body(seed=9)
    image = seen(np.arange(0.5, 11.0, 1 / 30), motion, 21.0, noise=0.01)
    assert estimate_offset(image, [motion]) == estimate_offset(image, [motion])


def test_the_rows_looked_at_are_where_the_body_starts_and_stops():
    times_ns = np.arange(400, dtype=np.int64) * 100 * MS
    position = np.zeros(400)
    for first in (30, 150, 260, 330):  # ten steps of motion in each quarter
        position[first : first + 11] += np.arange(11)
        position[first + 11 :] += 10
    motion = BodyMotion("hand", times_ns, position[:, None])
    runs = busiest_rows(times_ns, [motion], 96)
    assert [len(run) for run in runs] == [24] * 4
    for run, first in zip(runs, (30, 150, 260, 330), strict=True):
        assert run[0] <= first
        assert run[-1] >= first + 10
    assert [len(run) for run in busiest_rows(times_ns, [motion], 60)] == [30, 30]
    assert busiest_rows(times_ns, [motion], 400)[0].tolist() == list(range(400))
    assert sum(len(run) for run in busiest_rows(times_ns, [], 96)) == 96
    assert displacements(motion, times_ns[:-1], times_ns[1:])[29:32].tolist() == pytest.approx([0.0, 1 / position.std(), 1 / position.std()])
