"""Which camera of a DROID episode is which, and its pictures: one film a camera, and one of both its lenses side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Camera, CameraRole, Column
from dataengine.core.errors import BadRecording, printable
from dataengine.core.problem import Problem
from dataengine.core.protocols import Opener
from dataengine.core.stream import Rows
from dataengine.sources.droid.clocks import BEGINS, PICTURE, Clocks, ms_to_ns
from dataengine.sources.hdf5.tree import Notes
from dataengine.sources.kept_video import KeptVideos, frame_column, frame_rows, repeated_times
from dataengine.video.index import FrameIndex

HAND = 0  # camera_type: 0 at the hand, 1 moved between scenes, 2 fixed
RECORDED = "recorded"  # the clock of <serial>_timestamps.json
MAX_TIMES_BYTES = 16 << 20

_ROLES: dict[str, CameraRole] = {"wrist": "wrist", "exterior_1": "primary", "exterior_2": "secondary"}
_SERIALS = {"wrist_cam_serial": "wrist", "ext1_cam_serial": "exterior_1", "ext2_cam_serial": "exterior_2"}


@dataclass(frozen=True)
class Film:
    """One film: the camera's serial number, where it lies, whether it shows both lenses, and where the times of its frames lie ("": nowhere)."""

    serial: str
    path: str
    stereo: bool = False
    times: str = ""


def labels(serials: Iterable[str], types: Mapping[str, int], metadata: Mapping[str, Any], notes: Notes, where: str) -> dict[str, str]:
    """Name each camera: wrist, exterior_1, exterior_2 as the metadata say; without them by its type, those beside the table in the order of their numbers."""
    known = sorted(set(serials))
    found = {str(metadata[key]): label for key, label in _SERIALS.items() if metadata.get(key)}
    chosen = {serial: found[serial] for serial in known if serial in found}
    rest = [serial for serial in known if serial not in chosen]
    free = [label for label in _ROLES if label not in chosen.values()]
    hands = [serial for serial in rest if types.get(serial) == HAND]
    if len(hands) == 1 and "wrist" in free:
        chosen[hands[0]] = "wrist"
    beside = [serial for serial in rest if serial not in chosen and types.get(serial, HAND) != HAND]
    places = [label for label in free if label != "wrist"]
    if 0 < len(beside) <= len(places):
        chosen |= dict(zip(beside, places, strict=False))
        if len(beside) > 1:
            message = f"{where}: no metadata say which camera is the first, so exterior_1 is the one with the lower serial number"
            notes.problems.append(Problem("camera_order_assumed", message, where, "info"))
    return {serial: chosen.get(serial, re.sub(r"[^A-Za-z0-9_-]+", "_", printable(serial))[:80] or "camera") for serial in known}


def role_of(label: str) -> CameraRole:
    """Return the role of a camera by its name."""
    return _ROLES.get(label, "other")


def _recorded_ns(files: Opener, film: Film, count: int, notes: Notes) -> Array | None:
    """Return the time of each frame as `<serial>_timestamps.json` has it, (count,) int64 ns; None where there is none that fits."""
    if not film.times:
        return None
    try:
        listed = json.loads(files.read_bytes(film.times, MAX_TIMES_BYTES))
        values = np.asarray(listed)
    except (BadRecording, ValueError, TypeError, OverflowError, RecursionError) as error:
        notes.warn("odd_times", film.times, f"the times of the frames cannot be read: {str(error)[:200]}")
        return None
    times_ns = ms_to_ns(values) if values.shape == (count,) else None
    if times_ns is None:
        notes.warn("odd_times", film.times, f"expected one time in ms for each of {count} frames, found {values.dtype} of shape {values.shape}")
    return times_ns


def _clocks_of(film: Film, frames: int, steps: int, clocks: Clocks, recorded: Array | None, notes: Notes) -> tuple[int, dict[str, Array], str | None]:
    """Return how many frames become rows, their clocks, and which of them is the stream's; frame k belongs to step k."""
    own = clocks.cameras.get(film.serial, {})
    if frames != steps:
        rows = frames if recorded is not None else min(frames, steps)
        tail = "each has a time of its own" if recorded is not None else f"frame k is taken for step k, so the first {rows} of both are paired"
        notes.warn("frames_differ", film.path, f"{frames} frames for {steps} steps; {tail}", "compare the end of the film with the last steps")
        if recorded is not None:
            return rows, {RECORDED: recorded}, RECORDED
        chosen = clocks.of(own, (*PICTURE, *BEGINS))
        kept = {name: times_ns[:rows] for name, times_ns in own.items()}
        return rows, kept if chosen is None else {**kept, chosen[0]: chosen[1][:rows]}, None if chosen is None else chosen[0]
    kept = dict(own)
    if recorded is not None:
        kept[RECORDED] = recorded
        if "frame_received" in own and not np.array_equal(recorded, own["frame_received"]):
            odd = int(np.count_nonzero(recorded != own["frame_received"]))
            notes.warn("frames_not_matched", film.path, f"{odd} of {frames} frames have another time in {film.times.rsplit('/', 1)[-1]} than at their step")
    chosen = clocks.of(own, (*PICTURE, *BEGINS))
    return frames, kept if chosen is None else {**kept, chosen[0]: chosen[1]}, None if chosen is None else chosen[0]


def _out_of_step(film: Film, times_ns: Array, clocks: Clocks, notes: Notes) -> None:
    """Name the steps whose command went out before their own frame was there, or after the next one was."""
    command = clocks.of(clocks.control, ())
    if command is None or len(times_ns) != len(command[1]):
        return
    seen = np.searchsorted(np.maximum.accumulate(times_ns), command[1], side="right") - 1
    odd = int(np.count_nonzero(seen != np.arange(len(seen))))
    if odd:
        message = f"at {odd} of {len(seen)} steps the newest frame is not the step's own; the trajectory shows the newest one that there was"
        notes.warn("frames_out_of_step", film.path, message)


def film_rows(
    films: Iterable[Film], names: Mapping[str, str], files: Opener, steps: int, clocks: Clocks, notes: Notes
) -> Iterator[tuple[Film, Rows, Column, str | None]]:
    """Yield each film, its frames, its column and the name of its clock.

    Raises:
        BadRecording: a film cannot be read.
    """
    videos = KeptVideos(files)
    for film in films:
        label = names[film.serial]
        stream = f"observation.images.{label}_{'stereo' if film.stereo else 'left'}"
        index: FrameIndex = videos.main(film.path)
        for problem in (repeated_times(stream, index, film.path), videos.decodes(film.path, index)):
            if problem is not None:
                notes.problems.append(problem)
        rows, kept, clock = _clocks_of(film, len(index), steps, clocks, _recorded_ns(files, film, len(index), notes), notes)
        if clock is not None:
            _out_of_step(film, kept[clock], clocks, notes)
        camera = Camera(role_of(label))
        doc = "both lenses side by side, the left one left" if film.stereo else "the left lens"
        column = replace(frame_column(stream, index, camera, doc), align="previous", extra={"lenses": 2} if film.stereo else {})
        yield film, frame_rows(stream, film.path, index, 0, rows, kept), column, clock
