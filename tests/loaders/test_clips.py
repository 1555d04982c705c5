"""Samples by number and clips: the cuts by hand, and that they partition every segment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.loaders.clips import ALIGN_STEPS, Clips, Segments


def segments(*runs: tuple[int, int, int]) -> Segments:
    episode, start, length = (np.array(column, dtype=np.int64) for column in zip(*runs, strict=True))
    return Segments(episode, start, length)


def test_samples_are_the_steps_of_the_segments_in_order() -> None:
    runs = segments((0, 0, 3), (4, 7, 2), (4, 20, 1))
    assert runs.samples == 6
    where, step = runs.locate(np.arange(6))
    assert where.tolist() == [0, 0, 0, 1, 1, 2]
    assert step.tolist() == [0, 1, 2, 7, 8, 20]
    assert runs.number(where, step).tolist() == list(range(6))


def test_cuts_fall_on_multiples_of_ten_steps_of_the_episode() -> None:
    clips = Clips(segments((0, 0, 95), (1, 13, 41), (2, 5, 40)), None, 40)
    segment, start, stop = clips.bounds(np.arange(len(clips)))
    assert list(zip(segment.tolist(), start.tolist(), stop.tolist(), strict=True)) == [
        (0, 0, 30),  # 95 steps in three: 31.7 and 63.3, cut at 30 and 60
        (0, 30, 60),
        (0, 60, 95),
        (1, 13, 30),  # 41 steps in two: at 13 + 20.5, cut at 30
        (1, 30, 54),
        (2, 5, 45),
    ]


def test_a_segment_without_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold a step each"):
        segments((0, 0, 0))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 400)), min_size=1, max_size=6), st.integers(20, 100), st.data())
def test_clips_partition_the_chosen_segments(runs: list[tuple[int, int]], steps: int, data: st.DataObject) -> None:
    whole = segments(*[(number, start, length) for number, (start, length) in enumerate(runs)])
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, len(runs) - 1), min_size=1))))
    clips = Clips(whole, chosen, steps)
    segment, start, stop = clips.bounds(np.arange(len(clips)))
    covered = [(one, step) for one, first, last in zip(segment.tolist(), start.tolist(), stop.tolist(), strict=True) for step in range(first, last)]
    expected = [(one, step) for one in chosen.tolist() for step in range(runs[one][0], runs[one][0] + runs[one][1])]
    assert covered == expected
    assert clips.samples == len(expected)
    assert clips.lengths.tolist() == (stop - start).tolist()
    assert clips.segment_of.tolist() == segment.tolist()
    assert (stop - start).min() > 0
    assert (stop - start).max() < steps + ALIGN_STEPS
    clip = clips.of_steps(np.array([one for one, _ in expected]), np.array([step for _, step in expected]))
    assert clip.tolist() == np.repeat(np.arange(len(clips)), stop - start).tolist()
