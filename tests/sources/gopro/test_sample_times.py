"""Times of samples worked out by hand: spread over payloads, bridged between stamps, counted on where a stamp is missing."""

from __future__ import annotations

import numpy as np

from dataengine.sources.gopro.sample_times import SampleTimes, Span


def span(of: int, stamp_us: int | None = None, first: int | None = None, start_ns: int | None = None, end_ns: int | None = None) -> Span:
    return Span(np.arange(of), of, start_ns, end_ns, stamp_us, first)


def clocks(*spans: Span) -> tuple[SampleTimes, dict[str, list[int]]]:
    times = SampleTimes()
    checked = [times.checked(each) for each in spans]
    return times, {name: stamps.tolist() for name, stamps in times.clocks(checked, []).items()}


def test_samples_are_spread_evenly_and_rounded_down() -> None:
    _, found = clocks(span(3, start_ns=0, end_ns=1_000), span(4, start_ns=1_000, end_ns=2_002))
    assert found == {"payload": [0, 333, 666, 1000, 1250, 1501, 1751]}


def test_the_step_is_that_from_stamp_to_stamp_and_the_last_one_goes_on() -> None:
    times, found = clocks(span(4, 100), span(2, 500))
    assert found == {"stmp": [100_000, 200_000, 300_000, 400_000, 500_000, 600_000]}
    assert (times.timed, times.stamped, times.bridged) == (False, True, 0)


def test_samples_that_are_missing_in_between_count() -> None:
    """The camera counted 8 samples up to the second payload, and the first one holds 4: half of them were lost, and the step is 50 us."""
    _, found = clocks(span(4, 100, first=0), span(2, 500, first=8))
    assert found["stmp"][:5] == [100_000, 150_000, 200_000, 250_000, 500_000]


def test_a_stamp_that_is_missing_or_steps_back_is_counted_on() -> None:
    for odd in (None, 90, 10**16):
        times, found = clocks(span(2, 100), span(2, odd), span(2, 500))
        assert found == {"stmp": [100_000, 200_000, 300_000, 400_000, 500_000, 600_000]}
        assert times.bridged == 1


def test_one_payload_alone_tells_no_step_unless_it_has_bounds() -> None:
    assert clocks(span(4, 100))[1] == {}
    assert clocks(span(4, 100, start_ns=0, end_ns=400_000))[1]["stmp"] == [100_000, 200_000, 300_000, 400_000]
    assert clocks(span(4), span(4, 500))[1] == {}


def test_batches_give_the_times_of_one_piece() -> None:
    spans = [span(3, 100 + 300 * number) for number in range(6)]
    _, whole = clocks(*spans)
    times = SampleTimes()
    checked = [times.checked(each) for each in spans]
    parts = [times.clocks(checked[:2], checked[2:3])["stmp"], times.clocks(checked[2:5], checked[5:])["stmp"], times.clocks(checked[5:], [])["stmp"]]
    assert np.concatenate(parts).tolist() == whole["stmp"] == [100_000 * (row + 1) for row in range(18)]
