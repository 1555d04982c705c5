"""An episode as a labeller sees it: its pictures at the asked size, each decoded once, and its numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.roles import ROLES, columns_of
from dataengine.core.trajectory import Trajectory
from dataengine.store.open_shards import OpenShards
from dataengine.store.row import Row
from dataengine.store.store import Store
from dataengine.transforms.resizing import Fit, resized_into

PART_STEPS = 2048  # of a long episode at once, at most
PART_BYTES = 64 << 20  # of its pictures, about


def watch(store: Store, row: Row, needs: Needs, steps: tuple[int, int] | None = None, shards: OpenShards | None = None) -> Watched:
    """Return an episode, or its steps [start, stop), with its pictures; those of a camera that it lacks, while it has another, are zeros that nobody saw.

    Args:
        store: the version that holds it.
        row: its row in the catalog.
        needs: which cameras and columns, and the size of the pictures.
        steps: which of its steps; all of them where it is not given.
        shards: what is kept open of the store from episode to episode.

    Raises:
        UsageError: the episode has none of the cameras.
        BadRecording: a picture cannot be decoded.
    """
    with _open(store, shards) as open_shards:
        trajectory = _trajectory(open_shards, row, needs)
        return _watched(open_shards, row, needs, trajectory, steps or (0, trajectory.steps), True)


def watch_numbers(store: Store, row: Row, needs: Needs, shards: OpenShards | None = None) -> Watched:
    """Return a whole episode without its pictures: see `watch`."""
    with _open(store, shards) as open_shards:
        trajectory = _trajectory(open_shards, row, needs)
        return _watched(open_shards, row, needs, trajectory, (0, trajectory.steps), False)


@contextlib.contextmanager
def _open(store: Store, shards: OpenShards | None) -> Iterator[OpenShards]:
    """Give what is kept open, or what is opened for this once and closed afterwards."""
    if shards is not None:
        yield shards
        return
    own = OpenShards(store)
    try:
        yield own
    finally:
        own.close()


def part_steps(needs: Needs) -> int:
    """Return how many steps of an episode are looked at together, so that memory is bounded whatever the size of its pictures."""
    height, width = needs.size
    return int(np.clip(PART_BYTES // max(1, 3 * height * width * len(needs.cameras)), 64, PART_STEPS))


def watch_parts(store: Store, row: Row, needs: Needs, most: int | None = None, shards: OpenShards | None = None) -> Iterator[tuple[Watched, Array]]:
    """Yield an episode in parts of bounded memory, and with each the steps (n,) that it answers for, counted in the part.

    A part holds the steps around them that their answers need too: every step is answered for once, in order, and as if the episode were seen whole.
    """
    most = most or part_steps(needs)
    with _open(store, shards) as open_shards:
        trajectory = _trajectory(open_shards, row, needs)
        for start in range(0, trajectory.steps, most):
            stop = min(start + most, trajectory.steps)
            first, last = start, stop
            if trajectory.t_ns is not None:
                slack = int(np.median(np.diff(trajectory.t_ns))) if trajectory.steps > 1 else 0  # the nearest step may lie a little beyond the time
                first = int(np.searchsorted(trajectory.t_ns, trajectory.t_ns[start] - round(needs.before_s * NS_PER_S) - 2 * slack))
                last = int(np.searchsorted(trajectory.t_ns, trajectory.t_ns[stop - 1] + round(needs.after_s * NS_PER_S) + 2 * slack, side="right"))
                last = max(last, stop)
            yield _watched(open_shards, row, needs, trajectory, (first, last), True), np.arange(start - first, stop - first)


def _trajectory(shards: OpenShards, row: Row, needs: Needs) -> Trajectory:
    """Return what of an episode's trajectory is needed: all that a name or a role may stand for, and the frames of every camera."""
    columns = shards.columns(row)
    wanted = {name for name, column in columns.items() if column.kind != "numeric" or name in needs.columns or column.meaning in needs.columns}
    return shards.trajectory(row, wanted | {ROLES[name] for name in needs.columns if name in ROLES})


def _watched(shards: OpenShards, row: Row, needs: Needs, trajectory: Trajectory, steps: tuple[int, int], seeing: bool) -> Watched:
    part = slice(*steps)
    seen_pictures = _cameras(shards, row, trajectory, part, needs) if seeing else {}
    columns, valid, specs = {}, {}, {}
    for name in needs.columns:
        names = [one for one in columns_of(name, trajectory.specs) if one in trajectory.columns]
        if not names:
            continue
        values = [trajectory.columns[one][part] for one in names]
        columns[name] = values[0] if len(names) == 1 else np.concatenate([each.reshape(len(each), -1) for each in values], axis=1)
        there = [trajectory.valid.get(one, np.ones(trajectory.steps, np.bool_))[part] for one in names]
        valid[name] = np.logical_and.reduce(there)
        if len(names) == 1:
            specs[name] = trajectory.specs[names[0]]
    return Watched(
        episode_id=row["episode_id"],
        dataset=row["dataset"],
        steps=steps[1] - steps[0],
        first=steps[0],
        embodiment=row["embodiment"],
        rate_hz=trajectory.rate_hz,
        t_ns=trajectory.t_ns[part] if trajectory.t_ns is not None else None,
        pictures={camera: seen[0] for camera, seen in seen_pictures.items()},
        seen={camera: seen[1] for camera, seen in seen_pictures.items()},
        columns=columns,
        valid=valid,
        specs=specs,
        tasks=tuple(row["tasks"] or ()),
        success=row["success"],
        origin=row["origin"],
    )


def _cameras(shards: OpenShards, row: Row, trajectory: Trajectory, part: slice, needs: Needs) -> dict[str, tuple[Array, Array]]:
    """Return what each camera shows: an episode that lacks one is seen by the others, as in training, and only one that lacks them all by none."""
    names = {camera: _camera(trajectory, camera) for camera in needs.cameras}
    if names and not any(names.values()):
        there = ", ".join(sorted(name for name in trajectory.frames if trajectory.specs[name].kind == "image")) or "none"
        asked = " or ".join(repr(camera) for camera in needs.cameras)
        raise UsageError(f"episode {row['episode_id']} of {row['dataset']}: has no pictures of {asked}; its cameras: {there}")
    return {camera: _pictures(shards, row, trajectory, name, part, needs) for camera, name in names.items()}


def _camera(trajectory: Trajectory, camera: str) -> str | None:
    """Return the column that a name or role of a camera stands for, None where the episode has none that shows colours."""
    names = [name for name in columns_of(camera, trajectory.specs) if name in trajectory.frames]
    return names[0] if names and trajectory.specs[names[0]].kind == "image" else None


def _pictures(shards: OpenShards, row: Row, trajectory: Trajectory, name: str | None, part: slice, needs: Needs) -> tuple[Array, Array]:
    """Return (T, H, W, 3) uint8 and (T,) bool of a camera: zeros that nobody saw where there is none."""
    steps = part.stop - part.start
    found = np.zeros((steps, *needs.size, 3), np.uint8)
    if name is None:
        return found, np.zeros(steps, np.bool_)
    frames = trajectory.frames[name][part]
    seen = frames >= 0
    for place, picture in zip(np.flatnonzero(seen).tolist(), shards.pictures(row, name, frames[seen]), strict=True):
        colour = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
        if colour.dtype != np.uint8 or colour.shape[2] != 3:
            raise UsageError(f"episode {row['episode_id']}: camera {name!r}: must show 8-bit colours, got {colour.dtype} {list(colour.shape)}")
        resized_into(colour, found[place], cast("Fit", needs.fit))
    return found, seen
