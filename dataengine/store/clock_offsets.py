"""Clock offsets of an episode's cameras while it lands: estimated, reported, and applied where that was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from dataengine.align.body_motion import body_motions
from dataengine.align.config import ClockOffsetConfig
from dataengine.align.control import AlignInput
from dataengine.align.offset import ClockOffset, estimate_offset
from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.episode import EpisodeInfo
from dataengine.core.problem import Problem, Severity
from dataengine.store.picture_changes import PictureChanges
from dataengine.store.shard import RunningEpisode

MAX_CAMERAS = 4
NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class CameraOffsets:
    """What became of an episode's cameras: an estimate for each that was looked at, and the offsets that alignment takes off, in ns by stream."""

    estimates: Mapping[str, ClockOffset] = field(default_factory=dict)
    applied_ns: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def camera_offsets(
    info: EpisodeInfo, running: RunningEpisode, streams: Mapping[str, AlignInput], seen: PictureChanges, config: ClockOffsetConfig
) -> CameraOffsets:
    """Estimate the clock offsets of an episode that has ended, and decide which are applied.

    Only measured clocks can be off; what stands on one clock with its camera is compared where the configuration says `always`. The cost is bounded: a
    hundred pictures or so of each of four cameras are decoded, and only where something moves.
    """
    estimates: dict[str, ClockOffset] = {}
    if info.clock == "measured" and config.estimate != "never":
        cameras = [name for name, stream in streams.items() if stream.column.kind == "image" and stream.timestamps_ns is not None and len(stream)]
        for name in sorted(cameras)[:MAX_CAMERAS]:
            found = _estimate(name, running, streams, seen, config.estimate == "always")
            if found is not None:
                estimates[name] = found
    if config.apply == "estimated":
        unknown = _unknown(info, streams, estimates)
        return CameraOffsets(estimates, {name: found.offset_ns for name, found in estimates.items() if found.offset_ns}, tuple(unknown))
    applied, problems = {}, []
    for name, offset_ms in config.apply.items():
        if name in streams and streams[name].timestamps_ns is not None and info.clock == "measured":
            applied[name] = round(offset_ms * NS_PER_MS)
        else:
            found_instead = "no such stream" if name not in streams else "no measured times"
            message = f"stream {name!r}: should have times to take {offset_ms:g} ms off, found {found_instead}; its steps are as recorded"
            problems.append(
                Problem(
                    "clock_offset_not_applied", message, name, "warning", "a stream with measured times", found_instead, "correct `align.clock_offset.apply`"
                )
            )
    return CameraOffsets(estimates, applied, tuple(problems))


def _unknown(info: EpisodeInfo, streams: Mapping[str, AlignInput], estimates: Mapping[str, ClockOffset]) -> Iterator[Problem]:
    """Say of each camera without an estimate why there is none: it was asked for."""
    for name, stream in sorted(streams.items()):
        found = estimates.get(name)
        if stream.column.kind != "image" or (found is not None and found.offset_ns is not None):
            continue
        if found is not None:
            why = f"the evidence does not suffice ({found.reason})"
        elif info.clock != "measured":
            why = f"the clock is {info.clock}: there are no recorded times to compare"
        else:
            why = "nothing was recorded beside it, on a clock of its own, that tells how the body moved"
        message = f"stream {name!r}: no clock offset is taken off its times: {why}"
        yield Problem("clock_offset_unknown", message, name, "info", advice="give the offset in `align.clock_offset.apply`, if it is known")


def _estimate(name: str, running: RunningEpisode, streams: Mapping[str, AlignInput], seen: PictureChanges, shared_clocks: bool) -> ClockOffset | None:
    """Return the estimate of one camera, None where there is nothing to compare it with."""
    times_ns = running.timestamps_ns[name]
    assert times_ns is not None
    motions = body_motions(streams, times_ns, shared_clocks)
    if not motions:
        return None
    image = seen.motion(name, times_ns, motions)
    return None if image is None else estimate_offset(image, motions)


def shifted(streams: Mapping[str, AlignInput], applied_ns: Mapping[str, int]) -> dict[str, AlignInput]:
    """Return the streams with the offsets taken off the times of those that have one; what is recorded stays as it is."""
    out = dict(streams)
    for name, offset_ns in applied_ns.items():
        times_ns = out[name].timestamps_ns
        if times_ns is not None:
            low, high = np.iinfo(np.int64).min + max(0, offset_ns), np.iinfo(np.int64).max + min(0, offset_ns)
            out[name] = replace(out[name], timestamps_ns=np.clip(times_ns, low, high) - offset_ns)
    return out


def offset_figures(offsets: CameraOffsets) -> dict[str, float]:
    """Return what is kept of the estimates: ms, their spread, and the confidence, which alone stands (as 0) where nothing could be said."""
    figures: dict[str, float] = {}
    for name, found in offsets.estimates.items():
        figures[f"clock_offset_confidence.{name}"] = found.confidence if found.offset_ns is not None else 0.0
        if found.offset_ns is not None:
            figures[f"clock_offset_ms.{name}"] = found.offset_ns / NS_PER_MS
            figures[f"clock_offset_spread_ms.{name}"] = found.spread_ns / NS_PER_MS
    for name, offset_ns in offsets.applied_ns.items():
        figures[f"clock_offset_applied_ms.{name}"] = offset_ns / NS_PER_MS
    return figures


def offset_problems(offsets: CameraOffsets, camera_times: Mapping[str, Array | None], rate_hz: float | None) -> list[Problem]:
    """Name cameras whose clock is off by more than half a frame: a warning where it is more than a step of the control clock, and nothing was taken off."""
    problems = list(offsets.problems)
    for name, found in offsets.estimates.items():
        times_ns = camera_times[name]
        if found.offset_ns is None or times_ns is None:
            continue
        frame_ns = float(np.median(np.diff(times_ns)))
        left_ns = found.offset_ns - offsets.applied_ns.get(name, 0)
        if abs(left_ns) <= max(frame_ns / 2, 2 * found.spread_ns):
            continue
        step_ns = NS_PER_S / rate_hz if rate_hz else frame_ns
        ms, spread_ms, late = found.offset_ns / NS_PER_MS, found.spread_ns / NS_PER_MS, "late" if found.offset_ns > 0 else "early"
        stamps = f"them {abs(ms):.0f} ± {spread_ms:.0f} ms {late} by {found.motion!r} (confidence {found.confidence:.2f})"
        message = f"stream {name!r}: expected pictures stamped when they were taken, found {stamps}; `align.clock_offset.apply` takes it off"
        advice = f"measure it over the episodes of the rig, then ingest with `align: {{clock_offset: {{apply: {{{name}: {ms:.1f}}}}}}}`"
        severity: Severity = "warning" if abs(left_ns) > step_ns else "info"
        problems.append(Problem("clock_offset", message, name, severity, "pictures stamped when they were taken", stamps, advice))
    return problems
