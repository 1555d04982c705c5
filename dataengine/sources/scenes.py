"""Where the picture of a video changes at once: PySceneDetect over frames that are decoded in sequence and made small at once.

The adaptive detector compares each frame's change with that of its neighbours, so that a head that turns fast, which is what egocentric video is
full of, is no scene change. Source: the documentation of PySceneDetect, `detect-adaptive`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dataengine.core.errors import BadRecording, UsageError
from dataengine.core.problem import Problem
from dataengine.video.container import MediaFile
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex

SMALL_PX = 160  # of the longer side: what the detector itself scales pictures to, roughly
DEFAULT_THRESHOLD = 3.0


def _detector(threshold: float, shortest: int) -> Any:
    try:
        from scenedetect import AdaptiveDetector  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError("cutting by scene needs PySceneDetect; install it with: pip install 'robot-dataengine[scenes]'") from error
    return AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=shortest)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep OpenCV and the library's notes from disturbing the other workers."""
    import cv2

    threads, log = cv2.getNumThreads(), logging.getLogger("pyscenedetect")
    level = log.level
    cv2.setNumThreads(1)
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        log.setLevel(level)


def scene_starts(
    file: MediaFile, index: FrameIndex, threshold: float | None = None, shortest_s: float = 0.5, where: str = ""
) -> tuple[list[int], list[Problem]]:
    """Return the numbers of the frames that begin a new scene (the first frame of all is not among them), and what is wrong with the frames.

    Args:
        file: a path on this machine, or a seekable binary file.
        index: the frame index of the track.
        threshold: how many times more than its neighbours a frame must differ from the one before; None for the detector's own.
        shortest_s: no scene is shorter, but for the last.
        where: what to call the file in messages.

    Raises:
        UsageError: PySceneDetect is not installed.
    """
    rate = 30.0  # the detector counts frames: a rate is a formality, and what it means in seconds is worked out here
    seconds = max(index.duration_ns, 1) / 1e9
    shortest = max(1, round(shortest_s * len(index) / seconds))
    detector = _detector(DEFAULT_THRESHOLD if threshold is None else threshold, shortest)
    from scenedetect.common import FrameTimecode  # type: ignore[import-untyped]

    scale = min(1.0, SMALL_PX / max(int(index.facts["width"]), int(index.facts["height"])))
    size = max(2, round(int(index.facts["height"]) * scale)), max(2, round(int(index.facts["width"]) * scale))
    starts: list[int] = []
    problems: list[Problem] = []
    last = None
    with _one_thread(), FrameReader(file, index, where) as reader:
        try:
            for row, picture in reader.small(*size):
                last = FrameTimecode(row, rate)
                starts += [found.frame_num for found in detector.process_frame(last, picture)]
        except BadRecording as error:
            message = f"{where}: scenes are looked for up to a frame that does not decode only: {error}"
            problems.append(Problem("scenes_incomplete", message[:500], where, "warning", error.expected, error.found, "what follows it is one episode"))
    if last is not None:
        starts += [found.frame_num for found in detector.post_process(last)]
    return sorted({start for start in starts if 0 < start < len(index)}), problems
