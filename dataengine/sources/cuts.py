"""Where a long recording is cut into episodes: by length, by scene or by annotation. A cut is a half-open range of time; nothing is re-encoded.

Frames and the samples of every side stream belong to a cut by their time, so all streams of a recording are cut alike. By length and by scene the
cuts partition the timeline: the first reaches back and the last forward without end, and a window without a frame is joined to the one before it.
By annotation each annotation is an episode, as long as it says, even where two overlap; what lies outside all of them is the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.problem import Problem

OPEN_START, OPEN_END = -(2**62), 2**62
MAX_CUTS = 100_000  # of one recording: an hour in pieces of 36 ms

# Frames outside of every annotation are episodes of their own by default: nothing that was recorded is left out unless someone says so.
DEFAULT_REST: Literal["keep", "drop"] = "keep"
DEFAULT_SHORTEST_S = 0.5


@dataclass(frozen=True)
class Segment:
    """What an annotation says of a part of a recording: [start_ns, end_ns) on the clock of its video; `end_ns` None for a moment.

    `text` is what happens ("" where the annotation does not say), `key` its own identifier, `about` all else it says (JSON-able), `clocks` further times
    by name, `stream` the stream of texts that it becomes a row of.
    """

    start_ns: int
    end_ns: int | None
    text: str = ""
    key: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    clocks: Mapping[str, int] = field(default_factory=dict)
    stream: str = "language.narration"


@dataclass(frozen=True)
class Cut:
    """One episode of a recording: what lies in [start_ns, end_ns), and why it was cut so; `segment` is the annotation that it was cut by."""

    start_ns: int
    end_ns: int
    why: str
    segment: Segment | None = None

    def rows(self, sorted_ns: Array) -> tuple[int, int]:
        """Return (first, count) of the rows that lie in the cut; `sorted_ns` is (N,) int64, ascending."""
        first, stop = np.searchsorted(sorted_ns, [self.start_ns, self.end_ns], side="left")
        return int(first), int(max(stop - first, 0))


@dataclass(frozen=True)
class EpisodeRule:
    """How recordings are cut, as the configuration says it; `threshold` None takes the detector's own."""

    by: Literal["length", "scene", "annotation"]
    seconds: float = 0.0
    threshold: float | None = None
    shortest_s: float = DEFAULT_SHORTEST_S
    rest: Literal["keep", "drop"] = DEFAULT_REST


def episode_rule(config: Mapping[str, Any]) -> EpisodeRule | None:
    """Return the rule that a reader's configuration holds under `episodes`, None where recordings stay whole; raise ConfigError."""
    content = config.get("episodes")
    if content is None:
        return None
    try:
        rule = EpisodeRule(**content)
    except TypeError as error:
        raise ConfigError(f"episodes: must hold by, and its options, got {content!r}") from error
    if rule.by not in ("length", "scene", "annotation") or rule.rest not in ("keep", "drop") or (rule.by == "length" and not 0 < rule.seconds < 1e9):
        raise ConfigError(f"episodes: must be by length (seconds), by scene or by annotation, got {content!r}")
    return rule


def cuts_at(starts_ns: Array, why: str, where: str) -> list[Cut]:
    """Return cuts that begin at ascending times, (K,) int64; the first reaches back and the last forward without end.

    Raises:
        BadRecording: there would be more than `MAX_CUTS`.
    """
    if len(starts_ns) > MAX_CUTS:
        raise BadRecording(where, f"at most {MAX_CUTS} episodes", f"{len(starts_ns)}", "cut it into longer pieces", check="too_many_episodes")
    bounds = [OPEN_START, *(int(start) for start in starts_ns[1:]), OPEN_END]
    return [Cut(start, end, why) for start, end in pairwise(bounds)]


def by_length(frames_ns: Array, seconds: float, where: str = "") -> list[Cut]:
    """Cut every `seconds` from the first frame on; `frames_ns` is (N,) int64, ascending. The last piece is as long as what is left."""
    step_ns = max(1, round(seconds * NS_PER_S))
    windows = np.unique((frames_ns - frames_ns[0]) // step_ns)
    return cuts_at(frames_ns[0] + windows * step_ns, f"length of {seconds:g} s", where)


def by_frames(frames_ns: Array, firsts: Sequence[int], why: str, where: str = "") -> list[Cut]:
    """Cut before each of the frames `firsts`, by number; frames of one time stay together."""
    starts = np.unique(frames_ns[[0, *firsts]])
    return cuts_at(starts, why, where)


def _gaps(segments: Sequence[Segment], frames_ns: Array) -> list[Cut]:
    """Return what lies outside of every segment and holds frames; segments ascend by their starts."""
    gaps, at = [], OPEN_START
    for segment in segments:
        assert segment.end_ns is not None
        if segment.start_ns > at:
            gaps.append(Cut(at, segment.start_ns, "rest"))
        at = max(at, segment.end_ns)
    gaps.append(Cut(at, OPEN_END, "rest"))
    return [gap for gap in gaps if gap.rows(frames_ns)[1]]


def by_annotation(frames_ns: Array, end_ns: int, segments: Sequence[Segment], rest: Literal["keep", "drop"], where: str) -> tuple[list[Cut], list[Problem]]:
    """Cut an episode for each segment that has an end, and for what lies outside of them where `rest` is "keep".

    Args:
        frames_ns: (N,) int64, ascending.
        end_ns: when the last frame ends.
        segments: in any order; moments are passed over.
        rest: what becomes of frames that no segment names.
        where: what to call the recording in messages.

    Returns:
        Cuts by their start, and what is worth knowing: overlaps, gaps, segments without a frame or beyond the video's end.
    """
    timed = sorted((part for part in segments if part.end_ns is not None), key=lambda part: (part.start_ns, part.end_ns, part.key))
    if len(timed) > MAX_CUTS:
        raise BadRecording(where, f"at most {MAX_CUTS} annotations", f"{len(timed)}", "check the annotations", check="too_many_episodes")
    problems: list[Problem] = []
    cuts = [Cut(part.start_ns, part.end_ns, "annotation", part) for part in timed if part.end_ns is not None]
    empty = [cut for cut in cuts if not cut.rows(frames_ns)[1]]
    kept = [cut for cut in cuts if cut.rows(frames_ns)[1]]
    if empty:
        first = empty[0]
        shown = f"the first is {first.segment.key or first.segment.text!r}" if first.segment is not None else ""
        message = (
            f"{where}: {len(empty)} of {len(cuts)} annotations hold no frame of the video, {shown} at {first.start_ns / 1e9:g} to {first.end_ns / 1e9:g} s"
        )
        problems.append(Problem("annotation_without_frames", message[:500], where, advice="check that the annotations are of this video"))
    beyond = sum(cut.end_ns > end_ns + NS_PER_S for cut in kept)
    if beyond:
        message = f"{where}: {beyond} annotations end more than 1 s after the video, at {end_ns / 1e9:g} s; they are cut there"
        problems.append(Problem("annotation_beyond_video", message, where, advice="check that the video is whole"))
    overlaps = sum(later.start_ns < until for later, until in zip(kept[1:], np.maximum.accumulate([cut.end_ns for cut in kept]), strict=False)) if kept else 0
    if overlaps:
        message = f"{where}: {overlaps} of {len(kept)} annotations begin before another has ended: their frames are in several episodes"
        problems.append(Problem("overlapping_annotations", message, where, "info"))
    gaps = _gaps([cut.segment for cut in kept if cut.segment is not None], frames_ns)
    outside = sum(gap.rows(frames_ns)[1] for gap in gaps)
    if outside:
        fate = "are episodes of their own" if rest == "keep" else "are in no episode, as the configuration says (rest: drop)"
        problems.append(
            Problem("unannotated_frames", f"{where}: {outside} of {len(frames_ns)} frames lie outside of every annotation; they {fate}", where, "info")
        )
    if rest == "keep":
        kept += gaps
    return sorted(kept, key=lambda cut: (cut.start_ns, cut.end_ns)), problems
