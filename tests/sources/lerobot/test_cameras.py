"""Where the frames of an episode lie in a track, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataengine.core.clock import nominal_timestamps_ns
from dataengine.sources.lerobot.cameras import Place, place
from dataengine.sources.lerobot.clocks import Clock
from dataengine.video.index import FrameIndex

MS = 1_000_000


def track(times_ms: Any) -> FrameIndex:
    """Return the index of a track whose frames are at these times."""
    pts = np.asarray(times_ms, dtype=np.int64)
    zeros = np.zeros(len(pts), dtype=np.int64)
    return FrameIndex(0, pts * MS, pts, pts, zeros, zeros, np.ones(len(pts), bool), np.arange(len(pts)), 0)


def nominal(rows: int) -> Clock:
    return Clock("nominal", {"nominal": nominal_timestamps_ns(rows, 10)}, "nominal", 0, 10.0)


def checks(found: Place | None) -> list[str]:
    assert found is not None
    return [problem.check for problem in found.problems]


def test_frames_are_found_by_time() -> None:
    # Ten frames at 10 Hz; the container begins at 66 ms, and rounds to milliseconds.
    index = track([66, 167, 266, 366, 467, 566, 666, 766, 867, 966])
    found = place(index, 0.466, 0.766, nominal(3), 3, 10.0, "here")
    assert found is not None
    assert (found.first, found.count, found.clock, found.problems) == (4, 3, "nominal", ())
    assert found.times_ns is not None
    assert found.times_ns.tolist() == [0, 100 * MS, 200 * MS]


def test_a_start_between_two_frames_takes_the_nearer_one() -> None:
    index = track(range(0, 1000, 100))
    assert [found.first for start in (0.26, 0.24) if (found := place(index, start, None, nominal(2), 2, 10.0, "here")) is not None] == [3, 2]


def test_the_range_ends_before_the_next_episode() -> None:
    found = place(track(range(0, 1000, 100)), 0.3, 0.5, nominal(4), 4, 10.0, "here")
    assert found is not None
    assert (found.first, found.count, checks(found)) == (3, 2, ["frame_count_differs"])
    assert found.times_ns is not None
    assert found.times_ns.tolist() == [0, 100 * MS]


def test_a_file_of_its_own_has_all_its_frames() -> None:
    found = place(track(range(40, 640, 100)), None, None, nominal(5), 5, 10.0, "here")
    assert found is not None
    assert (found.first, found.count, found.clock, checks(found)) == (0, 6, "nominal", ["frame_count_differs"])


def test_frames_that_keep_no_schedule_go_by_their_own_time() -> None:
    found = place(track([0, 100, 290, 300]), None, None, nominal(4), 4, 10.0, "here")
    assert found is not None
    assert (found.clock, checks(found)) == ("video", ["frames_off_schedule"])
    assert found.times_ns is not None
    assert found.times_ns.tolist() == [0, 100 * MS, 290 * MS, 300 * MS]


def test_frames_at_the_times_of_measured_rows_belong_to_them() -> None:
    times = np.array([5000, 5093, 5288, 5300]) * MS
    found = place(track([0, 100, 290, 300]), None, None, Clock("measured", {"timestamp": times}, "timestamp", int(times[0]), 10.0), 4, 10.0, "here")
    assert found is not None
    assert (found.clock, found.problems) == ("timestamp", ())
    assert found.times_ns is times


def test_a_range_outside_of_the_file_is_none() -> None:
    assert place(track(range(0, 1000, 100)), 1.2, 1.5, nominal(3), 3, 10.0, "here") is None


def test_a_range_that_ends_before_it_starts() -> None:
    found = place(track(range(0, 1000, 100)), 0.5, 0.1, nominal(2), 2, 10.0, "here")
    assert found is not None
    assert (found.first, found.count, checks(found)) == (5, 2, ["video_range"])


def test_without_a_clock_frames_have_none() -> None:
    found = place(track(range(0, 300, 100)), None, None, Clock("unknown"), 3, None, "here")
    assert found is not None
    assert (found.first, found.count, found.clock, found.times_ns) == (0, 3, None, None)
