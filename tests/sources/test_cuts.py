import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.errors import BadRecording, ConfigError
from dataengine.sources import cuts
from dataengine.sources.cuts import OPEN_END, OPEN_START, Segment, by_annotation, by_frames, by_length, episode_rule

S = 1_000_000_000

times = st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=60).map(lambda values: np.array(sorted(values), dtype=np.int64))


def frames_of(found, frames_ns) -> list[tuple[int, int]]:
    return [cut.rows(frames_ns) for cut in found]


def test_a_length_cuts_from_the_first_frame_on_and_the_last_piece_is_what_is_left() -> None:
    frames_ns = np.arange(10, dtype=np.int64) * 400_000_000 + 66_000_000  # 0.066, 0.466, ... 3.666 s
    found = by_length(frames_ns, 1.0)
    assert frames_of(found, frames_ns) == [(0, 3), (3, 2), (5, 3), (8, 2)]
    assert [(cut.start_ns, cut.end_ns) for cut in found] == [
        (OPEN_START, 1_066_000_000),
        (1_066_000_000, 2_066_000_000),
        (2_066_000_000, 3_066_000_000),
        (3_066_000_000, OPEN_END),
    ]


def test_windows_without_a_frame_belong_to_the_one_before() -> None:
    frames_ns = np.array([0, 1, 10 * S, 10 * S + 1], dtype=np.int64)
    found = by_length(frames_ns, 2.0)
    assert [(cut.start_ns, cut.end_ns) for cut in found] == [(OPEN_START, 10 * S), (10 * S, OPEN_END)]
    assert frames_of(found, frames_ns) == [(0, 2), (2, 2)]


@settings(max_examples=300, deadline=None)
@given(times, st.floats(0.001, 1e6), times)
def test_windows_partition_the_timeline_of_frames_and_of_every_other_sample(frames_ns, seconds, samples_ns) -> None:
    found = by_length(frames_ns, seconds)
    ranges = frames_of(found, frames_ns)
    assert [row for first, count in ranges for row in range(first, first + count)] == list(range(len(frames_ns)))
    assert all(count > 0 for _, count in ranges)
    rows = frames_of(found, samples_ns)
    assert [row for first, count in rows for row in range(first, first + count)] == list(range(len(samples_ns)))


@settings(max_examples=200, deadline=None)
@given(times, st.lists(st.integers(0, 59)))
def test_scenes_partition_the_timeline(frames_ns, firsts) -> None:
    found = by_frames(frames_ns, [first for first in firsts if first < len(frames_ns)], "scene change")
    ranges = frames_of(found, frames_ns)
    assert [row for first, count in ranges for row in range(first, first + count)] == list(range(len(frames_ns)))
    assert all(count > 0 for _, count in ranges)


@settings(max_examples=300, deadline=None)
@given(times, st.lists(st.tuples(st.integers(-100, 100), st.integers(1, 60)), max_size=12))
def test_annotations_and_the_rest_hold_every_frame_and_the_rest_none_twice(frames_ns, spans) -> None:
    frames_ns = np.sort(frames_ns % 100)
    segments = [Segment(start, start + length, key=str(number)) for number, (start, length) in enumerate(spans)]
    found, problems = by_annotation(frames_ns, int(frames_ns[-1]) + 1, segments, "keep", "a.mp4")
    times_held = np.zeros(len(frames_ns), dtype=int)
    for cut in found:
        first, count = cut.rows(frames_ns)
        assert count > 0
        times_held[first : first + count] += 1
    wanted = [max(1, sum(segment.start_ns <= time < (segment.end_ns or 0) for segment in segments)) for time in frames_ns]
    assert times_held.tolist() == wanted
    dropped, _ = by_annotation(frames_ns, int(frames_ns[-1]) + 1, segments, "drop", "a.mp4")
    assert [cut for cut in found if cut.why == "annotation"] == dropped
    checks = {problem.check for problem in problems}
    assert ("unannotated_frames" in checks) == (len(dropped) < len(found))
    empty = sum(not any(segment.start_ns <= time < (segment.end_ns or 0) for time in frames_ns) for segment in segments)
    assert ("annotation_without_frames" in checks) == (empty > 0)


def test_overlaps_gaps_and_annotations_beyond_the_video_are_named() -> None:
    frames_ns = np.arange(10, dtype=np.int64) * S
    segments = [
        Segment(1 * S, 4 * S, "open door", "a"),
        Segment(3 * S, 5 * S, "take cup", "b"),
        Segment(8 * S, 20 * S, "wash", "c"),
        Segment(50 * S, 51 * S, "no", "d"),
    ]
    found, problems = by_annotation(frames_ns, 10 * S, segments, "keep", "a.mp4")
    assert [(cut.why, cut.segment.key if cut.segment else "", *cut.rows(frames_ns)) for cut in found] == [
        ("rest", "", 0, 1),
        ("annotation", "a", 1, 3),
        ("annotation", "b", 3, 2),
        ("rest", "", 5, 3),
        ("annotation", "c", 8, 2),
    ]
    assert {problem.check: problem.severity for problem in problems} == {
        "annotation_without_frames": "warning",
        "annotation_beyond_video": "warning",
        "overlapping_annotations": "info",
        "unannotated_frames": "info",
    }
    assert "4 of 10 frames" in next(problem.message for problem in problems if problem.check == "unannotated_frames")


def test_too_many_cuts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "MAX_CUTS", 5)
    with pytest.raises(BadRecording, match="at most 5 episodes"):
        by_length(np.arange(6, dtype=np.int64), 1e-9)
    with pytest.raises(BadRecording, match="at most 5 annotations"):
        by_annotation(np.arange(6, dtype=np.int64), 6, [Segment(0, 1)] * 6, "keep", "a")


def test_the_rule_is_read_from_the_configuration() -> None:
    assert episode_rule({}) is None
    assert episode_rule({"episodes": None}) is None
    rule = episode_rule({"episodes": {"by": "length", "seconds": 30.0}})
    assert rule is not None
    assert (rule.by, rule.seconds) == ("length", 30.0)
    rule = episode_rule({"episodes": {"by": "annotation"}})
    assert rule is not None
    assert rule.rest == "keep"
    for wrong in ({"by": "luck"}, {"by": "length"}, {"by": "annotation", "rest": "some"}, {"by": "scene", "speed": 1}):
        with pytest.raises(ConfigError):
            episode_rule({"episodes": wrong})
