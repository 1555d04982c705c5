"""A stored trajectory at another control rate: its streams put anew on a regular clock over the time that its steps span."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dataengine.align.align import Aligned, align_noting
from dataengine.align.config import AlignConfig
from dataengine.align.control import AlignInput
from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S, nominal_timestamps_ns
from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.errors import BadRecording
from dataengine.core.objects import Objects
from dataengine.core.problem import Problem
from dataengine.core.trajectory import Trajectory
from dataengine.store.array_reader import ArrayReader
from dataengine.store.clock_offsets import shifted
from dataengine.store.row import Row
from dataengine.store.stored_streams import StoredItems, array_key, read_items, read_times

CONTROL = "the steps that were there"  # stands among the streams as the clock to follow, and becomes no column
APPLIED_MS = "clock_offset_applied_ms."
SAME_RATE = 0.01  # a rate that differs by less is the same: clocks are not that good


def _times(objects: Objects, row: Row, entry: Row, rows: int) -> Array | None:
    times, _ = read_times(objects, array_key(row, entry), entry)
    if times is None and row["clock"] == "nominal" and row["rate_hz"]:
        return nominal_timestamps_ns(rows, row["rate_hz"])
    return times


def stored_inputs(objects: Objects, row: Row, entries: Mapping[str, Row], trajectory: Trajectory) -> dict[str, AlignInput]:
    """Return the streams of a trajectory's columns as alignment takes them, with the camera offsets that were applied when the episode landed.

    Numbers are read whole: what stands in a trajectory is bounded when it lands. Of pictures and texts only the times are read.
    """
    inputs: dict[str, AlignInput] = {}
    for name in sorted({*trajectory.columns, *trajectory.frames}):
        entry, column = entries[name], trajectory.specs[name]
        start, stop = int(entry["row_start"]), int(entry["row_end"])
        values: Array | int = stop - start
        present = None
        if name in trajectory.columns:
            values = ArrayReader(objects, f"{array_key(row, entry)}/values").rows(start, stop)
        elif entry["kind"] == "items":
            data = read_items(objects, array_key(row, entry), entry).data
            assert isinstance(data, StoredItems)
            present = data.lengths > 0 if (data.lengths == 0).any() else None
        times = _times(objects, row, entry, stop - start)
        if times is not None:
            inputs[name] = AlignInput(column, times, values, present)
    figures = {str(figure["name"]): float(figure["value"]) for figure in row["figures"] or ()}
    applied = {name: round(figures[APPLIED_MS + name] * 1e6) for name in inputs if APPLIED_MS + name in figures}
    return shifted(inputs, applied)


def at_rate(info: EpisodeInfo, trajectory: Trajectory, inputs: Mapping[str, AlignInput], rate_hz: float) -> Aligned:
    """Put an episode's streams on a regular clock that begins with its first step and ends by its last.

    Args:
        info: what is known of the episode.
        trajectory: its steps as they are.
        inputs: the streams of its columns, see `stored_inputs`.
        rate_hz: steps a second.

    Returns:
        The trajectory, without columns of which no step has a sample, and what was noticed. Each column is taken as `dataengine.align.methods` says: cameras
        show the newest picture at or before the step, actions what is commanded from it to the next.

    Raises:
        BadRecording: the steps have no times.
    """
    if trajectory.t_ns is None:
        raise BadRecording(
            "the steps",
            f"times, to put them on a clock of {rate_hz:g} Hz",
            "steps of unknown rate",
            "leave --rate out to keep them as they are",
            check="no_clock",
        )
    if not trajectory.steps:
        return Aligned(replace(trajectory, rate_hz=rate_hz))
    control = AlignInput(Column(CONTROL, steps=False), trajectory.t_ns, trajectory.steps)
    aligned = align_noting(info, {**inputs, CONTROL: control}, AlignConfig(rate_hz=rate_hz, follow=CONTROL))
    return Aligned(_without_empty(aligned.trajectory), (*aligned.problems, *_changed_deltas(trajectory, rate_hz)))


def _without_empty(trajectory: Trajectory) -> Trajectory:
    """Leave out columns of which no step has a sample."""
    columns = {name: values for name, values in trajectory.columns.items() if trajectory.valid[name].any()}
    frames = {name: rows for name, rows in trajectory.frames.items() if (rows >= 0).any()}
    kept = columns.keys() | frames.keys()

    def only(group: Mapping[str, Array]) -> dict[str, Array]:
        return {name: array for name, array in group.items() if name in kept}

    specs = {name: column for name, column in trajectory.specs.items() if name in kept}
    valid = {name: there for name, there in trajectory.valid.items() if name in columns and not there.all()}
    return replace(trajectory, columns=columns, frames=frames, specs=specs, valid=valid, sampled_ns=only(trajectory.sampled_ns))


def _changed_deltas(trajectory: Trajectory, rate_hz: float) -> list[Problem]:
    """Name actions that are changes from step to step: at another rate a step holds one of them, not their sum."""
    before = trajectory.rate_hz or _rate_hz(trajectory.t_ns)
    if before is None or abs(rate_hz - before) <= SAME_RATE * before:
        return []
    names = [
        name
        for name, column in sorted(trajectory.specs.items())
        if column.meaning == "action" and column.action_space is not None and (column.action_space.absolute is False or column.action_space.kind == "ee_delta")
    ]
    message = f"{', '.join(names)}: changes from step to step at {before:.4g} Hz, of which a step at {rate_hz:.4g} Hz holds one and not the sum"
    return (
        [Problem("resampled_deltas", message, names[0], "warning", "actions that hold at any rate", f"changes from one step to the next: {', '.join(names)}")]
        if names
        else []
    )


def _rate_hz(t_ns: Array | None) -> float | None:
    steps = np.diff(t_ns) if t_ns is not None else np.zeros(0)
    steps = steps[steps > 0]
    return NS_PER_S / float(np.median(steps)) if len(steps) else None
