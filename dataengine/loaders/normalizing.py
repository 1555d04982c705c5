"""The normalisation of a loader's batches: which statistics belong to which field of which dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dataengine.core.column import Column
from dataengine.core.column_statistics import COUNTS, NUMBERS, ColumnStatistics
from dataengine.core.errors import UsageError
from dataengine.loaders.mixture import Mixture
from dataengine.loaders.opened import Opened
from dataengine.loaders.windows import Features, Window
from dataengine.transforms.chain import Chain
from dataengine.transforms.horizon import Horizon, window_plan
from dataengine.transforms.normalize import Mode, Normalize, normalizer
from dataengine.transforms.relative import DeltaActions
from dataengine.transforms.rotations import ConvertRotation

_REFERENCES = {"state": "state", "first": "first", "previous": "consecutive"}  # of the transform → of the statistics


def normalization(opened: Opened, mixture: Mixture, windows: Sequence[Window], features: Features, mode: Mode, transforms: Sequence[Any]) -> Normalize:
    """Return what brings states and actions to a common scale, each dataset by its own statistics, after the other transforms.

    Actions that `DeltaActions` makes relative are normalised by statistics of relative actions, for each step of the horizon. Statistics are computed where the
    version has none yet.

    Raises:
        UsageError: no field holds states or actions, or a transform changes what their numbers mean in a way of which there are no statistics.
    """
    chosen = [window for window in windows if window.kind == "numbers" and np.dtype(window.dtype).kind == "f" and _meant(window, features)]
    if not chosen:
        raise UsageError("normalize: must have a field that holds states or actions, got none; leave normalize out")
    relative: dict[str, DeltaActions] = {}
    for transform in _flat(transforms):
        if isinstance(transform, DeltaActions):
            relative[transform.action] = transform
        elif isinstance(transform, ConvertRotation) and transform.name in [window.name for window in chosen]:
            raise UsageError(f"normalize: {transform.name!r} is converted to another rotation, of which there are no statistics; build it with `normalizer`")
    states = {window.name: window for window in windows if window.kind == "numbers"}
    described = {name: _Relative(delta, states.get(delta.state)) for name, delta in relative.items()}
    found = [_of_part(opened, mixture, number, chosen, described, features) for number in range(len(opened.parts))]
    return normalizer(found, [window.name for window in chosen], mode)


@dataclass(frozen=True)
class _Relative:
    """How a field becomes relative, and the field of the states."""

    delta: DeltaActions
    state: Window | None


def _flat(transforms: Sequence[Any]) -> Iterator[Any]:
    for transform in transforms:
        if isinstance(transform, Chain):
            yield from _flat(transform.transforms)
        else:
            yield transform


def _meant(window: Window, features: Features) -> bool:
    """Whether a field is a state or an action in every dataset that has it."""
    return all(features[key][name].meaning in ("state", "action") for key, names in window.columns.items() for name in names)


def _of_part(
    opened: Opened, mixture: Mixture, number: int, windows: Sequence[Window], relative: dict[str, _Relative], features: Features
) -> dict[str, ColumnStatistics]:
    """Return the statistics of each field that a part has."""
    from dataengine.store.store import open_store
    from dataengine.versions.statistics import columns_of, dataset_statistics

    part = opened.parts[number]
    store = open_store(part.address, dict(part.storage_options) or None)
    condition = mixture.listed[part.source].where
    found: dict[str, ColumnStatistics] = {}
    whole: dict[str, ColumnStatistics] | None = None
    for window in windows:
        made_of = {names for (of, _), names in window.columns.items() if of == number}
        if not made_of:
            continue
        if len(made_of) > 1:
            raise UsageError(f"normalize: {window.name!r} is made of other columns in some episodes of {part.address}; build it with `normalizer`")
        (names,) = made_of
        if window.name in relative:
            horizon = _horizon(window, names, relative[window.name], number)
            changed = _changed(window, relative[window.name].delta, horizon, [features[key] for key in window.columns if key[0] == number])
            found[window.name] = columns_of(dataset_statistics(store, part.dataset, condition, horizon))[horizon.column]
            if len(changed) < found[window.name].shape[-1]:
                as_recorded = columns_of(dataset_statistics(store, part.dataset, condition, Horizon(horizon.steps, None, horizon.column)))[horizon.column]
                found[window.name] = mixed(found[window.name], as_recorded, changed)
            continue
        if whole is None:
            whole = columns_of(dataset_statistics(store, part.dataset, condition))
        lacking = [name for name in names if name not in whole]
        if lacking:
            raise UsageError(f"normalize: {part.address} has no statistics of {lacking[0]!r}; see `dataengine stats`")
        found[window.name] = joined([whole[name] for name in names])
    return found


def _horizon(window: Window, names: tuple[str, ...], relative: _Relative, number: int) -> Horizon:
    delta = relative.delta
    steps = tuple(window.field.steps or ())
    if len(names) != 1 or steps != tuple(range(len(steps))) or not steps:
        raise UsageError(
            f"normalize: relative {window.name!r} must be one column at steps range(N), got {', '.join(names)} at {list(steps)}; build it with `normalizer`"
        )
    frames = {pose.frame for pose in delta.poses}
    if len(frames) > 1:
        raise UsageError(f"normalize: poses in {window.name!r} must be seen from one frame, got {' and '.join(sorted(frames))}; build it with `normalizer`")
    horizon = Horizon(len(steps), _REFERENCES[delta.to], names[0])  # type: ignore[arg-type]
    if frames:
        horizon = replace(horizon, frame=next(iter(frames)))
    states = {each for (of, _), each in relative.state.columns.items() if of == number} if relative.state is not None else set()
    if horizon.needs_state and states:
        if len(states) > 1 or len(next(iter(states))) > 1:
            raise UsageError(f"normalize: {window.name!r} must be relative to one column, got several under {delta.state!r}; build it with `normalizer`")
        horizon = replace(horizon, state=next(iter(states))[0])
    return horizon


def _changed(window: Window, delta: DeltaActions, horizon: Horizon, columns: Sequence[Mapping[str, Column]]) -> tuple[int, ...]:
    """Return the entries that a transform makes relative, ascending; raise UsageError where statistics would make other numbers of them."""
    turned = {entry: other for pose in delta.poses for entry, other in zip(pose.rotation, pose.of_state.rotation, strict=False)}
    moved = {entry: other for pose in delta.poses for entry, other in zip(pose.position, pose.of_state.position, strict=True)}
    subtracted = dict(zip(delta.dims, delta.dims if delta.state_dims is None else delta.state_dims, strict=True))
    for each in columns:
        plan = window_plan(each, horizon)
        rotation = set(plan.rotation.entries) if plan.rotation is not None else set()
        seen = set(plan.position)
        wrong = {entry for entry in (*subtracted, *moved, *turned) if entry in plan.kept}
        wrong |= {entry for entry in subtracted if entry in rotation | seen} | (set(turned) ^ (rotation & (set(turned) | set(subtracted))))
        wrong |= {entry for entry in moved if horizon.frame == "tool" and entry not in seen}
        if plan.state is not None:
            wrong |= {entry for entry, other in {**subtracted, **moved}.items() if plan.taken[entry] != other}
        if wrong:
            raise UsageError(
                f"normalize: there are no statistics of entries {sorted(wrong)} of {window.name!r} as DeltaActions makes them, since the columns of the dataset "
                "say otherwise what they are; correct the transform, or build the normalisation with `normalizer`"
            )
    return tuple(sorted({*subtracted, *moved, *turned}))


def mixed(relative: ColumnStatistics, as_recorded: ColumnStatistics, changed: Sequence[int]) -> ColumnStatistics:
    """Return the statistics, (A, D) both, of chunks of which some entries are relative and the others as recorded."""
    chosen = np.zeros(relative.shape, bool)
    chosen[..., list(changed)] = True
    numbers = {name: tuple(np.where(chosen, relative.array(name), as_recorded.array(name)).ravel().tolist()) for name in (*COUNTS, *NUMBERS)}
    return replace(relative, **numbers, rank_error=max(relative.rank_error, as_recorded.rank_error))


def joined(columns: Sequence[ColumnStatistics]) -> ColumnStatistics:
    """Return the statistics of several columns as of one, their dimensions one after the other."""
    if len(columns) == 1:
        return columns[0]
    numbers: dict[str, Any] = {name: tuple(value for column in columns for value in getattr(column, name)) for name in (*COUNTS, *NUMBERS)}
    worst = max(column.rank_error for column in columns)
    return ColumnStatistics((len(numbers["mean"]),), columns[0].rows, (max(column.nulls[0] for column in columns),), **numbers, rank_error=worst)
