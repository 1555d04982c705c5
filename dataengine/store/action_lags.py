"""Whether an episode's actions stand beside the pictures that they belong to, while it lands: estimated and reported, never corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dataengine.align.config import ActionLagConfig
from dataengine.align.control import AlignInput
from dataengine.align.lag_profile import LAGS, LagProfile, action_motions, as_body_motion, lag_profile, plausible_lags
from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.problem import Problem
from dataengine.store.picture_changes import PictureChanges

FIGURE = "action_lag"
MAX_CAMERAS = 4
DECODED_CAMERAS = 1  # of a sampled episode, whose pictures nobody else looks at
SAMPLED = 4  # of 256: so many of the first two digits of an id are of sampled episodes
UNTIMED_HZ = 10.0  # of rows that have no clock at all: only the step counts, not its length


def _action(streams: Mapping[str, AlignInput]) -> str | None:
    """Return the stream that holds the action: the one of that name, else the first of that meaning."""
    found = [name for name, stream in streams.items() if stream.column.meaning == "action" and not isinstance(stream.values, int) and len(stream)]
    return min(found, key=lambda name: (name != "action", name)) if found else None


def _times(stream: AlignInput, rate_hz: float | None) -> Array:
    """Return the times of a stream's rows; where it has none, rows follow each other at the rate."""
    if stream.timestamps_ns is not None:
        return stream.timestamps_ns
    return np.asarray(np.rint(np.arange(len(stream)) * (NS_PER_S / (rate_hz or UNTIMED_HZ))).astype(np.int64))


def action_lags(
    identity: Callable[[], str], streams: Mapping[str, AlignInput], seen: PictureChanges, rate_hz: float | None, config: ActionLagConfig
) -> dict[str, LagProfile]:
    """Return the lag profile of each camera that is looked at; see `ActionLagConfig` for which.

    `identity` returns the episode's id, which is asked for only where it matters. The choice of the episodes whose pictures are decoded for this alone follows from their ids, so that the figures do not depend on how a job is cut.
    """
    action = _action(streams) if config.estimate != "never" else None
    if action is None:
        return {}
    stream = streams[action]
    assert not isinstance(stream.values, int)
    times_ns = _times(stream, rate_hz)
    if len(times_ns) < 2 or bool((np.diff(times_ns) <= 0).any()):
        return {}
    motions = action_motions(stream.column, stream.values, times_ns)
    if not motions:
        return {}
    decoded = 0
    profiles: dict[str, LagProfile] = {}
    cameras = sorted(name for name, camera in streams.items() if camera.column.kind == "image" and len(camera))
    for name in cameras[:MAX_CAMERAS]:
        if (streams[name].timestamps_ns is None) != (stream.timestamps_ns is None):
            continue  # one has times, the other has none: nothing relates them
        if not seen.at_hand(name):
            if config.estimate != "always" and (decoded >= DECODED_CAMERAS or int(identity()[:2], 16) >= SAMPLED):
                continue
            decoded += 1
        image = seen.motion(name, _times(streams[name], rate_hz), [as_body_motion(action, motion) for motion in motions])
        if image is not None:
            profiles[name] = lag_profile(image, motions)
    return profiles


def lag_figures(profiles: Mapping[str, LagProfile]) -> dict[str, float]:
    """Return what is kept of the profiles: the curve, from which `check` learns what a single episode cannot say, and the lag where it could be said.

    The confidence is 0 where the episode alone does not suffice.
    """
    figures: dict[str, float] = {}
    for name, found in profiles.items():
        curve = {f"{FIGURE}_at_{lag:+d}.{name}": value for lag, value in zip(LAGS, found.correlations, strict=True) if np.isfinite(value)}
        figures |= curve
        figures[f"{FIGURE}_confidence.{name}"] = found.confidence if found.lag is not None else 0.0
        if found.lag is not None:
            figures[f"{FIGURE}.{name}"] = float(found.lag)
            figures[f"{FIGURE}_margin.{name}"] = found.margin
    return figures


def expected_lags(rate_hz: float | None, config: ActionLagConfig) -> tuple[int, int]:
    """Return the first and last lag that a sound recording may have."""
    return (config.expected[0], config.expected[1]) if config.expected is not None else plausible_lags(rate_hz)


def said(lag: int) -> str:
    """Return a lag in words."""
    if lag == 0:
        return "with the motion that they make"
    steps = "1 step" if abs(lag) == 1 else f"{abs(lag)} steps"
    return f"{steps} {'after' if lag > 0 else 'before'} the motion that they make"


def lag_problems(profiles: Mapping[str, LagProfile], rate_hz: float | None, config: ActionLagConfig) -> list[Problem]:
    """Name cameras by which the actions clearly stand where they cannot: a warning."""
    expected = expected_lags(rate_hz, config)
    problems = []
    for name, found in profiles.items():
        if found.lag is None or not found.off(expected):
            continue
        wanted = f"actions {expected[0]} to {expected[1]} steps from the motion that they make"
        what = f"{said(found.lag)} (correlation {found.correlation:.2f}, {found.lead(expected):.2f} above the best that was expected)"
        message = f"stream {name!r}: expected {wanted}, found them {what}"
        advice = "action[t] belongs between observation[t] and observation[t + 1]: see how the recorder pairs them, or say what is right in `align.action_lag.expected`"
        problems.append(Problem(FIGURE, message, name, "warning", wanted, what, advice))
    return problems
