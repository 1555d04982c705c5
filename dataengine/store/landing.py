"""Landing: from a reader's events to episodes in a shard, with what each of them is, how it aligns, and what is wrong with it."""

from __future__ import annotations

import json
import math
import operator
import traceback
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dataengine.align.align import Aligned, align_noting
from dataengine.align.config import AlignConfig
from dataengine.align.control import AlignInput
from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Event, Noticed, Rejected
from dataengine.core.errors import BadRecording, DataEngineError, printable
from dataengine.core.problem import Problem
from dataengine.core.protocols import Opener
from dataengine.core.stream import Items, Rows
from dataengine.schema.column_json import features_digest, features_document
from dataengine.schema.descriptions import DatasetDescription, apply, dataset_notices
from dataengine.store.action_lags import action_lags, lag_figures, lag_problems
from dataengine.store.clock_offsets import camera_offsets, offset_figures, offset_problems, shifted
from dataengine.store.features import add_columns, features_conflict
from dataengine.store.outcome import Duplicate, Outcome, Reading, problem_of, reject_row, source_row
from dataengine.store.picture_changes import PictureChanges
from dataengine.store.row import Row
from dataengine.store.shard import RunningEpisode, ShardWriter
from dataengine.validate.episode import CheckInput, examine

METADATA_BYTES = 64 << 10
METADATA_STREAM = "episode_metadata"


@dataclass(frozen=True)
class LandingPolicy:
    """What a user may choose about landing; all of it enters the reading's digest. `privacy` says what the events were freed of; None: of nothing."""

    align: AlignConfig
    lossless: bool = False
    embodiment: str | None = None
    licence: str | None = None
    consent: str | None = None
    privacy: Mapping[str, bool] | None = None


@dataclass(frozen=True, eq=False)
class Placed:
    """An episode on its control clock: what alignment made of it, figures, and problems that were found on the way."""

    aligned: Aligned
    figures: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


Place = Callable[[EpisodeInfo, RunningEpisode], Placed]


def _require_text(info: EpisodeInfo) -> None:
    """Reject an episode whose names or texts hold half a character: nothing that is written in UTF-8 could hold them."""
    for text in (info.key, *info.columns, *info.tasks, *info.splits, info.embodiment or "", info.licence or "", info.consent or ""):
        if printable(text) != text:
            raise _no_text(info.key or "recording", text)


def _no_text(where: str, text: str) -> BadRecording:
    return BadRecording(where, "names and texts in Unicode", repr(text)[:200], "correct the name in the file", check="unreadable_name")


class _AsRejection:
    """A context that turns an error that nobody foresaw into the rejection of the recording at hand, so that it never costs the others.

    What the store or the disk says (OSError, StoreError) goes on: it would cost every recording, and ends the job. It is entered for every event, and a
    class takes a third of the time of a generator. `stream` may be set to say which stream it is about.
    """

    def __init__(self, where: str, what: str) -> None:
        self.where, self.what = where, what
        self.stream: str | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, Exception) or isinstance(error, BadRecording | DataEngineError | OSError):
            return
        if isinstance(error, UnicodeEncodeError):
            raise _no_text(self.where, error.object) from error
        last = traceback.extract_tb(trace)[-1]
        what = self.what if self.stream is None else f"{self.what} {self.stream!r}"
        raise BadRecording(
            self.where,
            "a recording that can be read",
            f"{type(error).__name__} in {what}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})",
            "check the file with the tool that wrote it; if it is sound, please report this",
            check="unexpected_error",
        ) from error


class Landing:
    """Lands the recordings of items of one dataset into shards, a new one whenever the last is full.

    Args:
        open_shard: makes the next shard.
        shard_bytes: payload at which a shard is full.
        shard_episodes: episodes at which a shard is full.
        known: whether an episode id is in the dataset already.
        columns: the dataset's columns so far; grown as episodes land.
        description: what is known of the dataset, if it is a known one.
    """

    def __init__(
        self,
        open_shard: Callable[[], ShardWriter],
        shard_bytes: int,
        shard_episodes: int,
        known: Container[str],
        columns: dict[str, Column],
        description: DatasetDescription | None,
        policy: LandingPolicy,
    ) -> None:
        self._open_shard, self._shard_bytes, self._shard_episodes = open_shard, shard_bytes, shard_episodes
        self.known, self.columns = known, columns
        self.description, self.policy = description, policy
        self.landed: set[str] = set()
        self.shard = open_shard()
        self._stored_bytes = 0
        self._features: dict[tuple[str | None, tuple[Column, ...]], tuple[dict[str, Column], str, dict[str, Any]]] = {}
        self._last: tuple[str | None, tuple[Column, ...], tuple[dict[str, Column], str, dict[str, Any]]] | None = None
        self._agreed: dict[str, Column] | None = None
        self._noticed: set[str] = set()

    def land(self, reading: Reading, events: Iterable[Event], files: Opener, place: Place | None = None) -> Outcome:
        """Land everything an item holds. A recording that is broken is taken back and named; the others stay.

        `place` puts a recording on its control clock; by default its streams are aligned.
        """
        outcome = Outcome(source_row(reading))
        self.shard.kept.open_item(files)
        stream = iter(events)
        in_reader, in_lane = _AsRejection(reading.source_uri, "its reader"), _AsRejection(reading.source_uri, "laying down stream")
        broken: BadRecording | None = None  # the running recording cannot land; its rows are passed over until it ends
        while True:
            try:
                with in_reader:
                    event = next(stream, None)
            except BadRecording as error:
                broken = broken or error
                break
            if event is None:
                break
            if isinstance(event, Rows):
                broken = broken or self._add(event, in_lane)
            elif isinstance(event, Noticed):
                outcome.problems.append(event.problem.as_dict() | {"source": reading.source_uri})
            elif isinstance(event, Rejected):
                self.shard.abandon()
                self._reject(outcome, reading, event.key, event.problem)
                broken = None
            elif broken is not None:
                self._reject(outcome, reading, event.key, problem_of(broken))
                broken = None
            else:
                self._end(outcome, reading, event, place or self._align)
                self._roll(files)
        if broken is None and self.shard.running:
            broken = BadRecording(reading.source_uri, "an end after the last row of a recording", "the end of the item", check="truncated")
        if broken is not None:
            self.shard.abandon()
            self._reject(outcome, reading, "", problem_of(broken))
        return outcome

    def _add(self, rows: Rows, in_lane: _AsRejection) -> BadRecording | None:
        """Lay down rows of the running recording; where they cannot be, take the recording back and return why."""
        try:
            in_lane.stream = rows.stream
            with in_lane:
                self.shard.add(rows)
        except BadRecording as error:
            self.shard.abandon()
            return error
        return None

    def _roll(self, files: Opener) -> None:
        """Close a shard that is full and open the next."""
        if self.shard.payload_bytes >= self._shard_bytes or self.shard.episodes >= self._shard_episodes:
            self._stored_bytes += self.shard.close()
            self.shard = self._open_shard()
            self.shard.kept.open_item(files)

    def close(self) -> int:
        """Close the last shard; return the bytes of all of them."""
        if self.shard.episodes:
            self._stored_bytes += self.shard.close()
        else:
            self.shard.discard()
        return self._stored_bytes

    def _reject(self, outcome: Outcome, reading: Reading, key: str, problem: Problem) -> None:
        outcome.rejects.append(reject_row(reading, key, problem, len(outcome.rejects)))

    def _end(self, outcome: Outcome, reading: Reading, info: EpisodeInfo, place: Place) -> None:
        try:
            with _AsRejection(info.key or reading.source_uri, "describing and ending it"):
                _require_text(info)
                said = info.columns
                columns, features, document = self._describe(info, reading)
                self._require_no_conflict(reading, columns, info.key)
                if columns != info.columns:
                    info = replace(info, columns=columns)
                running = self.shard.finish(info)
            episode_id = self.shard.episode_id(info)
            splits = tuple(dict.fromkeys((*reading.splits, *info.splits)))
            if episode_id in self.known or episode_id in self.landed:
                self.shard.abandon()
                outcome.duplicates.append(Duplicate(episode_id, splits, info.key))
                return
            # Recorded numbers may be anything (infinities, signalling NaN): the checks judge them, numpy need not warn of them.
            with np.errstate(all="ignore"), _AsRejection(info.key or reading.source_uri, "aligning and examining it"):
                placed = place(info, running)
                findings = examine(info, check_inputs(info, running))
            aligned = placed.aligned
            figures = {**findings.figures, **placed.figures}
            problems = (*info.problems, *running.problems, *aligned.problems, *findings.problems, *placed.problems)
            metadata = self._metadata(info)
        except BadRecording as error:
            self.shard.abandon()
            self._reject(outcome, reading, info.key, problem_of(error))
            return
        ordinal, size = self.shard.keep(episode_id, aligned.trajectory)
        row = self._row(reading, info, running, aligned.trajectory.steps, aligned.trajectory.rate_hz)
        row |= {
            "fact": episode_id,
            "episode_id": episode_id,
            "splits": list(splits),
            "features": features,
            "shard": self.shard.place.shard,
            "ordinal": ordinal,
            "bytes": size,
            "flags": sorted({problem.check for problem in problems if problem.severity != "info"} | set(aligned.trajectory.flags)),
            "figures": [{"name": name, "value": float(value)} for name, value in sorted(figures.items())],
            "metadata": metadata,
        }
        if columns is not self._agreed:
            self._agreed = columns
            add_columns(self.columns, columns)
        if features not in self._noticed:
            self._noticed.add(features)
            outcome.problems.extend(
                problem.as_dict() | {"source": reading.source_uri} for problem in dataset_notices(reading.dataset, self.description, said, columns)
            )
        outcome.features[features] = document
        outcome.problems.extend(problem.as_dict() | {"episode_id": episode_id, "source": reading.source_uri} for problem in problems)
        outcome.episodes.append(row)
        self.landed.add(episode_id)

    def _align(self, info: EpisodeInfo, running: RunningEpisode) -> Placed:
        """Align the streams of a recording, by the times of its cameras as far as they can be told to be right."""
        inputs = align_inputs(info, running)
        seen = PictureChanges(running, self.shard.kept.files)
        offsets = camera_offsets(info, running, inputs, seen, self.policy.align.clock_offset)
        aligned = align_noting(info, shifted(inputs, offsets.applied_ns) if offsets.applied_ns else inputs, self.policy.align)
        rate_hz, choices = aligned.trajectory.rate_hz, self.policy.align.action_lag
        lags = action_lags(partial(self.shard.episode_id, info), inputs, seen, rate_hz, choices)
        problems = (*offset_problems(offsets, running.timestamps_ns, rate_hz), *lag_problems(lags, rate_hz, choices))
        return Placed(aligned, {**offset_figures(offsets), **lag_figures(lags)}, problems)

    def _describe(self, info: EpisodeInfo, reading: Reading) -> tuple[dict[str, Column], str, dict[str, Any]]:
        """Return the episode's columns with what the description knows filled in, their digest and their document."""
        described = tuple(info.columns.values())
        embodiment = self._embodiment(info)
        if self._last is not None and self._last[0] == embodiment and len(self._last[1]) == len(described) and all(map(operator.is_, self._last[1], described)):
            return self._last[2]  # the very columns of the episode before: hashing a dozen columns costs 60 us
        key = embodiment, described
        if key not in self._features:
            columns = dict(info.columns) if self.description is None else apply(self.description, info.columns)
            document = features_document(
                reading.dataset, columns.values(), self.description.name if self.description else None, embodiment, self.policy.lossless, self.policy.privacy
            )
            self._features[key] = columns, features_digest(document), document
        self._last = embodiment, described, self._features[key]
        return self._features[key]

    def _require_no_conflict(self, reading: Reading, columns: dict[str, Column], key: str) -> None:
        """Raise BadRecording where the columns contradict the dataset's; those that stand in it already do not."""
        conflict = None if columns is self._agreed else features_conflict(reading.dataset, self.columns, columns, key)
        if conflict is not None:
            raise conflict

    def _embodiment(self, info: EpisodeInfo) -> str | None:
        return self.policy.embodiment or info.embodiment or (self.description.embodiment if self.description else None)

    def _metadata(self, info: EpisodeInfo) -> str | None:
        """Return the episode's metadata as JSON; what is too large for a row goes into a stream of its own, whole."""
        if not info.metadata:
            return None
        data = json_bytes(info.metadata)
        if len(data) <= METADATA_BYTES:
            return data.decode()
        name = METADATA_STREAM
        while name in info.columns or name in self.shard.running:
            name += "_"
        self.shard.add_beside(Rows(name, Items([data], "json")))
        small: dict[str, Any] = {}
        left = METADATA_BYTES - 1024
        for key, value in info.metadata.items():
            size = len(json_bytes({key: value}))
            if size <= min(left, 1024):
                small[key] = value
                left -= size
        return json_bytes({**small, "whole_in_stream": name}).decode()

    def _row(self, reading: Reading, info: EpisodeInfo, running: RunningEpisode, steps: int, rate_hz: float | None) -> Row:
        described = self.description
        clocks = [times for times in running.timestamps_ns.values() if times is not None and len(times)]
        action = next((column for name, column in sorted(info.columns.items()) if column.meaning == "action" and running.rows.get(name)), None)
        return {
            "kind": "episode",
            "dataset": reading.dataset,
            "reading": reading.digest,
            "reader": reading.reader,
            "reader_version": reading.version,
            "embodiment": self._embodiment(info),
            "origin": info.origin,
            "tasks": list(info.tasks),
            "success": info.success,
            "start_ns": info.start_ns if info.clock == "measured" else None,
            "epoch": info.epoch if info.clock == "measured" else None,
            "duration_ns": max(int(times.max()) for times in clocks) - min(int(times.min()) for times in clocks) if clocks else None,
            "steps": steps,
            "rate_hz": rate_hz,
            "clock": info.clock,
            "licence": self.policy.licence or info.licence or (described.licence if described else None),
            "consent": self.policy.consent or info.consent,
            "parent": info.parent,
            "action_source": (action.action_source or "commanded") if action is not None else None,
            "lossy": any(bool(ended.index.get("lossy")) for ended in running.streams.values()),
            "source_uri": reading.source_uri,
            "source_key": info.key,
            "fingerprint": reading.fingerprint,
        }


def json_bytes(metadata: Mapping[str, Any]) -> bytes:
    """Return metadata as JSON text in UTF-8: a number that is not finite becomes text, a character that UTF-8 cannot hold its escape."""
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(metadata), ensure_ascii=False, default=str, allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(json.loads(text)).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def align_inputs(info: EpisodeInfo, running: RunningEpisode) -> dict[str, AlignInput]:
    """Return the streams as alignment takes them: numbers where there are any, otherwise how many rows there are."""
    inputs = {}
    for name, ended in running.streams.items():
        values = running.numbers.get(name)
        present = None
        if ended.pictures is not None and ended.pictures.empty.any():
            present = ~ended.pictures.empty
        column = info.columns[name]
        if values is None and column.kind == "numeric":
            column = replace(column, steps=False)
        inputs[name] = AlignInput(column, running.timestamps_ns[name], values if values is not None else ended.rows, present)
    return inputs


def check_inputs(info: EpisodeInfo, running: RunningEpisode) -> dict[str, CheckInput]:
    """Return the streams as the checks take them."""
    return {
        name: CheckInput(info.columns[name], running.timestamps_ns[name], running.numbers.get(name), ended.rows, ended.pictures)
        for name, ended in running.streams.items()
    }
