"""One serialised RLDS record as the events of one episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import nominal_timestamps_ns
from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Event, Origin
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.stream import Frames, Items, Rows, Values
from dataengine.sources.rlds.columns import COUNTED_FIRST, STEPS, PlannedColumn, free_name, plan_columns, step_column
from dataengine.sources.rlds.example import Example
from dataengine.sources.rlds.items import distinct
from dataengine.sources.rlds.metadata import episode_column, episode_value, metadata_key, undeclared_value
from dataengine.sources.rlds.ragged import Part
from dataengine.sources.rlds.tf_example import parse_example
from dataengine.sources.rlds.tfds_features import Leaf
from dataengine.sources.rlds.values import MAX_DECODED_BYTES, keys_of, step_parts, undeclared_leaf, values_per_step

MAX_UNDECLARED = 256
MAX_STEPS = 1 << 20  # ten hours at 30 Hz; what claims more is damaged
_SUCCESS = ("success", "is_success", "successful")


@dataclass(frozen=True)
class EpisodePlan:
    """What is the same for all episodes of a shard: columns, the rest of the declared features, and what the description knows.

    `languages` are the step columns whose texts are instructions, by key, `episode_languages` the metadata that are. `rate_hz` None leaves the clock
    unknown.
    """

    dataset: str
    steps: tuple[PlannedColumn, ...]
    episode: tuple[Leaf, ...]
    counted: tuple[PlannedColumn, ...]
    keys: Mapping[str, tuple[str, ...]]
    declared: frozenset[str]
    columns: Mapping[str, Column]
    languages: tuple[str, ...] = ()
    episode_languages: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    rate_hz: float | None = None
    embodiment: str | None = None
    origin: Origin = "teleop"
    licence: str | None = None
    max_decoded_bytes: int = MAX_DECODED_BYTES
    problems: tuple[Problem, ...] = ()


def plan_episodes(leaves: tuple[Leaf, ...], where: str, **known: Any) -> EpisodePlan:
    """Return the plan for declared features; `known` are the further fields of the plan.

    Raises:
        BadRecording: the features are not those of an RLDS dataset: no sequence `steps`.
    """
    steps = plan_columns(leaf for leaf in leaves if leaf.key.startswith(STEPS) and leaf.lengths)
    if not steps:
        raise BadRecording(
            where,
            "an RLDS dataset: a sequence `steps` of features",
            ", ".join(leaf.key for leaf in leaves)[:200] or "no features",
            "only TFDS datasets of episodes can be ingested; convert it with rlds",
            "not_rlds",
        )
    keys = {leaf.key: keys_of(leaf) for leaf in leaves}
    fixed = [planned for planned in steps if values_per_step(planned.leaf)]
    priority = {STEPS + name: place for place, name in enumerate(COUNTED_FIRST)}
    counted = sorted(fixed, key=lambda planned: (priority.get(planned.leaf.key, len(priority)), values_per_step(planned.leaf)))
    episode = tuple(leaf for leaf in leaves if not (leaf.key.startswith(STEPS) and leaf.lengths))
    return EpisodePlan(
        steps=steps,
        episode=episode,
        counted=tuple(counted),
        keys=keys,
        declared=frozenset(key for several in keys.values() for key in several),
        columns={planned.column.name: planned.column for planned in steps if not _is_divided(planned.leaf)},
        languages=tuple(planned.column.name for planned in sorted(steps, key=lambda planned: planned.leaf.key) if planned.is_language),
        episode_languages=tuple(metadata_key(leaf.key) for leaf in episode if step_column(leaf).meaning == "language"),
        **known,
    )


def _is_divided(leaf: Leaf) -> bool:
    """Whether a leaf becomes one stream for each of its pictures a step."""
    return leaf.form in ("image", "packed") and len(leaf.lengths) == 2 and leaf.lengths[1] is not None


@dataclass
class _Reading:
    """What has been read of one record so far."""

    example: Example
    plan: EpisodePlan
    clocks: Mapping[str, Array]
    left: int
    rows: list[Event] = field(default_factory=list)
    columns: dict[str, Column] = field(default_factory=dict)
    stream_clocks: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    def add(self, column: Column, values: Values, timed: bool) -> None:
        """Take the rows of a stream."""
        if isinstance(values, np.ndarray):
            self.left -= values.nbytes
        elif isinstance(values, Frames):
            self.left -= values.pixels.nbytes
        self.columns[column.name] = column
        clocks = self.clocks if timed else {}
        self.rows.append(Rows(column.name, values, clocks))
        if clocks:
            self.stream_clocks[column.name] = "nominal"

    def notice(self, check: str, expected: str, found: str, advice: str, severity: Any = "warning") -> None:
        """Note a problem that costs nothing but must be known."""
        where = self.example.where
        message = f"{where}: expected {expected}, found {found}; {advice}"
        self.problems.append(Problem(check, message, where, severity, expected, found, advice))


def read_episode(payload: bytes, key: str, where: str, plan: EpisodePlan) -> list[Event]:
    """Return the rows of one record and its EpisodeInfo, the last event. Items are views of `payload`.

    Raises:
        BadRecording: the record is not what features.json declares.
    """
    example = Example(parse_example(payload, where), where)
    steps = _count_steps(example, plan)
    clocks = {} if plan.rate_hz is None else {"nominal": nominal_timestamps_ns(steps, plan.rate_hz)}
    reading = _Reading(example, plan, clocks, plan.max_decoded_bytes, columns=dict(plan.columns), problems=list(plan.problems))
    absent = [planned.leaf.key for planned in plan.steps if not _read_column(planned, reading, steps)]
    absent += [leaf.key for leaf in plan.episode if not _read_metadata(leaf, reading)]
    if absent:
        reading.notice("missing_key", f"{', '.join(map(repr, absent))[:400]}, as features.json declares", "nothing", "these are null in this episode")
    _read_undeclared(reading, steps)
    streams = {event.stream: event for event in reading.rows if isinstance(event, Rows)}
    _check_flags(streams, steps, reading)
    info = EpisodeInfo(
        dataset=plan.dataset,
        columns=reading.columns,
        clock="unknown" if plan.rate_hz is None else "nominal",
        key=key,
        stream_clocks=reading.stream_clocks,
        rate_hz=plan.rate_hz,
        follow="action" if "action" in streams else None,
        tasks=_tasks(reading, streams),
        success=_success(reading.metadata),
        splits=plan.splits,
        embodiment=plan.embodiment,
        origin=plan.origin,
        licence=plan.licence,
        metadata=reading.metadata,
        problems=tuple(reading.problems),
    )
    return [*reading.rows, info]


def _count_steps(example: Example, plan: EpisodePlan) -> int:
    """Return T, by the first step field that the record has."""
    for planned in plan.counted:
        key = planned.leaf.key
        if key not in example.features:
            continue
        each = values_per_step(planned.leaf) or 1
        count = example.count(key)
        if count % each:
            raise example.wrong(key, f"a multiple of {each} values", str(count))
        if count > MAX_STEPS * each:
            raise example.wrong(key, f"at most {MAX_STEPS} steps", str(count // each), "too_large")
        if count:
            return count // each
    raise BadRecording(example.where, "at least one step", "none", "remove the record from the dataset", "no_steps")


def _read_column(planned: PlannedColumn, reading: _Reading, steps: int) -> bool:
    """Take the rows of one declared step feature; return whether the record has it."""
    leaf, example = planned.leaf, reading.example
    if leaf.key not in example.features and not _has_any(reading, leaf):
        return False
    for part in step_parts(leaf, example, steps, reading.left):
        column = _part_column(planned, part, reading.columns) if part.suffix else planned.column
        reading.add(column, part.values, part.timed)
        if isinstance(part.values, Items) and leaf.form in ("image", "text"):
            _check_items(leaf, column.name, part.values, reading)
    return True


def _has_any(reading: _Reading, leaf: Leaf) -> bool:
    """Return whether the record has one of the keys of a feature."""
    return not reading.example.features.keys().isdisjoint(reading.plan.keys[leaf.key])


def _part_column(planned: PlannedColumn, part: Part, columns: Mapping[str, Column]) -> Column:
    name = free_name(planned.column.name + part.suffix, set(columns))
    if isinstance(part.values, Items):
        if planned.leaf.form == "image" and _is_divided(planned.leaf):
            return replace(planned.column, name=name)
        encodings = part.values.encodings
        return Column(name, "message", "bytes", (), encoding=encodings if isinstance(encodings, str) else None, steps=False, extra={"source": planned.leaf.key})
    assert isinstance(part.values, np.ndarray)
    return Column(name, "numeric", str(part.values.dtype), part.values.shape[1:], extra={"source": planned.leaf.key})


def _check_items(leaf: Leaf, name: str, items: Items, reading: _Reading) -> None:
    declared = leaf.encoding if leaf.form == "image" else items.encodings if items.encodings == "json" else "utf-8"
    if leaf.form == "image" and not all(map(len, items.data)):
        empty = [row for row, item in enumerate(items.data) if not len(item)]
        reading.notice("missing_frames", f"a picture at each row of {name!r}", f"none at {len(empty)} rows, first {empty[0]}", "they stay empty")
    if items.encodings == declared or (not declared and items.encodings != "unknown"):
        return
    found = sorted({items.encoding(row) for row in range(len(items))})
    check = "encoding_differs" if leaf.form == "image" else "text_not_utf8"
    reading.notice(check, f"{declared or 'jpeg or png'} in {name!r}", ", ".join(found), "the bytes are kept as they are")


def _read_metadata(leaf: Leaf, reading: _Reading) -> bool:
    """Take one feature of the episode; return whether the record has it."""
    if not _has_any(reading, leaf):
        return False
    value, rows = episode_value(leaf, reading.plan.keys[leaf.key], reading.example, reading.left)
    _keep(leaf.key, leaf, value, rows, reading)
    return True


def _keep(key: str, leaf: Leaf | None, value: Any, rows: Values | None, reading: _Reading) -> None:
    if rows is not None:
        reading.add(episode_column(key, leaf, rows, reading.columns), rows, False)
        return
    short = metadata_key(key)
    reading.metadata[key if short in reading.metadata else short] = value


def _read_undeclared(reading: _Reading, steps: int) -> None:
    example = reading.example
    keys = [key for key in example.features if key not in reading.plan.declared]
    if not keys:
        return
    if len(keys) > MAX_UNDECLARED:
        raise BadRecording(
            example.where, "the features of features.json", f"{len(keys)} others", "restore features.json from the dataset's source", "undeclared_key"
        )
    for key in keys:
        leaf = undeclared_leaf(key, example, steps) if key.startswith(STEPS) else None
        if leaf is None:
            value, rows = undeclared_value(key, example, reading.left)
            _keep(key, None, value, rows, reading)
            continue
        column = step_column(leaf, set(reading.columns))
        for part in step_parts(leaf, example, steps, reading.left):
            reading.add(column, part.values, part.timed)
    shown = ", ".join(map(repr, keys))[:400]
    reading.notice("undeclared_key", "the features of features.json", f"{shown} too", "they are kept by their type on the wire")


def _flag(streams: Mapping[str, Rows], name: str) -> Array | None:
    rows = streams.get(name)
    if rows is None or not isinstance(rows.values, np.ndarray) or rows.values.ndim != 1:
        return None
    return np.flatnonzero(rows.values)


def _check_flags(streams: Mapping[str, Rows], steps: int, reading: _Reading) -> None:
    """Note where is_first, is_last and is_terminal contradict RLDS: first only at 0, last only at T - 1, terminal only where last."""
    first, last, terminal = (_flag(streams, name) for name in ("is_first", "is_last", "is_terminal"))
    advice = "the flags are kept as they are"
    if first is not None and first.tolist() != [0]:
        reading.notice("step_flags", "is_first at step 0 alone", _places(first), advice)
    if last is not None and last.tolist() != [steps - 1]:
        # Sets that never say "last" are common and lose nothing; one that says it in the middle contradicts itself.
        reading.notice("step_flags", f"is_last at step {steps - 1} alone", _places(last), advice, "warning" if len(last) else "info")
    if terminal is not None and len(terminal) and terminal.tolist() != [steps - 1]:
        reading.notice("step_flags", f"is_terminal at step {steps - 1} or nowhere", _places(terminal), advice)


def _places(rows: Array) -> str:
    return f"it at {', '.join(map(str, rows[:5]))}{', ...' if len(rows) > 5 else ''}" if len(rows) else "it nowhere"


def _tasks(reading: _Reading, streams: Mapping[str, Rows]) -> tuple[str, ...]:
    """Return the distinct instructions, by field in the order of their names and then by step; those of the whole episode come last."""
    found: dict[str, None] = {}
    for name in reading.plan.languages:
        rows = streams.get(name)
        if rows is not None and isinstance(rows.values, Items) and rows.values.encodings == "utf-8":
            found.update(dict.fromkeys([text.decode() for text in distinct(rows.values.data)]))
    for key in reading.plan.episode_languages:
        value = reading.metadata.get(key)
        if isinstance(value, str):
            found[value] = None
    return tuple(text for text in found if text.strip())


def _success(metadata: Mapping[str, Any]) -> bool | None:
    """Return what the episode's metadata says of success; a reward is no statement of it."""
    for name in _SUCCESS:
        value = metadata.get(name)
        if isinstance(value, bool) or (isinstance(value, (int, float)) and value in (0, 1)):
            return bool(value)
    return None
