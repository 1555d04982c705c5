"""Samples by number, and the clips in which they are decoded: arithmetic over runs of steps, so that millions of clips need no table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dataengine.core.arrays import Array, read_only, require

# Cuts fall on multiples of this many steps: our own encoder sets a key frame at least that often, so that a clip begins with one.
ALIGN_STEPS = 10


@dataclass(frozen=True, eq=False)
class Segments:
    """Runs of consecutive steps, each step of which is a sample: sample n is the n-th step of all segments one after the other.

    `episode` (S,) int64 numbers the episode of each run within its index, `start` (S,) and `length` (S,) int64 are in steps; lengths are positive.
    """

    episode: Array
    start: Array
    length: Array

    def __post_init__(self) -> None:
        require(len(self.episode) == len(self.start) == len(self.length), "segments: must have an episode, a start and a length each")
        require(not len(self.length) or int(self.length.min()) > 0, "segments: must hold a step each")
        for name in ("episode", "start", "length"):
            object.__setattr__(self, name, read_only(np.asarray(getattr(self, name), dtype=np.int64)))
        object.__setattr__(self, "offsets", read_only(np.concatenate([[0], np.cumsum(self.length)])))

    offsets: Array = None  # type: ignore[assignment]  # (S + 1,) int64, set above: the number of each segment's first sample

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def samples(self) -> int:
        """Return how many samples there are."""
        return int(self.offsets[-1])

    def locate(self, samples: Array) -> tuple[Array, Array]:
        """Return the segment and the step within its episode, (N,) int64 each, of samples (N,)."""
        segment = np.searchsorted(self.offsets, samples, side="right") - 1
        return segment, self.start[segment] + (samples - self.offsets[segment])

    def number(self, segment: Array, step: Array) -> Array:
        """Return the samples (N,) of steps (N,) in segments (N,): the way back of `locate`."""
        return np.asarray(self.offsets[segment] + step - self.start[segment])


class Clips:
    """Segments cut into clips of about equal length, none longer than `steps`; cuts fall on multiples of `ALIGN_STEPS` of the episode.

    Args:
        segments: all segments.
        chosen: (K,) the segments that take part; None for all.
        steps: the longest a clip may be.
    """

    def __init__(self, segments: Segments, chosen: Array | None, steps: int) -> None:
        require(steps >= 2 * ALIGN_STEPS, f"clips: must be of at least {2 * ALIGN_STEPS} steps, got {steps}")
        self.segments = segments
        self.chosen = np.arange(len(segments)) if chosen is None else np.asarray(chosen, dtype=np.int64)
        self._lengths = segments.length[self.chosen]
        self._counts = -(-self._lengths // steps)
        self._firsts = np.concatenate([[0], np.cumsum(self._counts)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @property
    def samples(self) -> int:
        """Return how many samples the clips hold together."""
        return int(self._lengths.sum())

    def _cut(self, place: Array, number: Array) -> Array:
        """Return where clip `number` of a chosen segment begins, in steps of the episode; `number` = count gives the segment's end."""
        start, length, count = self.segments.start[self.chosen[place]], self._lengths[place], self._counts[place]
        cut = (start + length * number // count) // ALIGN_STEPS * ALIGN_STEPS
        return np.where(number <= 0, start, np.where(number >= count, start + length, np.maximum(cut, start)))

    def bounds(self, clips: Array) -> tuple[Array, Array, Array]:
        """Return segment, first step and end, (N,) int64 each, of clips (N,)."""
        place = np.searchsorted(self._firsts, clips, side="right") - 1
        number = clips - self._firsts[place]
        return self.chosen[place], self._cut(place, number), self._cut(place, number + 1)

    @cached_property
    def lengths(self) -> Array:
        """Return how many samples each clip holds, (C,) int64: as `bounds` has them, without a search for each."""
        place = np.repeat(np.arange(len(self.chosen)), self._counts)
        cuts = self._cut(place, np.arange(len(self)) - self._firsts[place])
        ends = np.append(cuts[1:], 0)
        last = self._firsts[1:] - 1
        ends[last] = self.segments.start[self.chosen] + self._lengths
        return read_only(ends - cuts)

    @cached_property
    def blocks(self) -> Array:
        """Return how many blocks of `ALIGN_STEPS` steps, counted from the episode's beginning, each clip touches, (C,) int64."""
        place = np.repeat(np.arange(len(self.chosen)), self._counts)
        start = self._cut(place, np.arange(len(self)) - self._firsts[place])
        return read_only(-(-(start + self.lengths) // ALIGN_STEPS) - start // ALIGN_STEPS)

    @property
    def segment_of(self) -> Array:
        """Return the segment of each clip, (C,) int64."""
        return np.repeat(self.chosen, self._counts)

    def of_steps(self, segment: Array, step: Array) -> Array:
        """Return the clip of each step (N,) of segments (N,), all of which are chosen."""
        place = np.searchsorted(self.chosen, segment)
        count, length = self._counts[place], self._lengths[place]
        guess = np.clip((step - self.segments.start[segment]) * count // length, 0, count - 1)
        for _ in range(2):  # a cut is at most `ALIGN_STEPS` early, so that the guess is at most one too low
            guess = np.where((guess + 1 < count) & (step >= self._cut(place, guess + 1)), guess + 1, guess)
        return np.asarray(self._firsts[place] + guess)
