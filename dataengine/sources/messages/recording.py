"""A recording of messages while it is read: batches of each topic, the episodes that it is cut into, and what the user chose.

A reader of a container (MCAP, a bag, a database) hands over messages in the order of its file; everything that does not depend on the container is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.episode import Event
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.problem import Problem
from dataengine.core.protocols import Item, ReadOptions
from dataengine.core.stream import Buffer
from dataengine.sources.messages.episode import build_info
from dataengine.sources.messages.episode_rules import EpisodeRule, episode_rule
from dataengine.sources.messages.fields import MessageSchema
from dataengine.sources.messages.sequence_numbers import SequenceNumbers
from dataengine.sources.messages.stream_names import StreamNames, stream_targets
from dataengine.sources.messages.topics import Topic

# A topic's rows are given on at the first of these; payloads above the last are slices of their chunk, the others copies.
BATCH_ROWS = 1024
BATCH_BYTES = 8 << 20
HELD_BYTES = 32 << 20
COPIED_BYTES = 2048
MAX_TOPICS = 10_000


@dataclass(frozen=True)
class Heads:
    """What stood before the messages of a batch: their clocks ("log" and others), and a number of each by name ("sequence")."""

    clocks: dict[str, Array]
    numbers: Mapping[str, Array]


class Batch:
    """Messages of one topic that were not given on yet: `heads` are what the container says of each, in its own form."""

    __slots__ = ("bytes", "heads", "numbers", "payloads", "slices", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.numbers: dict[str, SequenceNumbers] = {}
        self.payloads: list[Buffer] = []
        self.heads: list[Any] = []
        self.bytes = 0
        self.slices = False

    @property
    def full(self) -> bool:
        """Whether it is time to give it on."""
        return len(self.heads) >= BATCH_ROWS or self.bytes >= BATCH_BYTES


class Recording:
    """One pass over one recording.

    Args:
        item: what is read.
        options: of the reader; `episodes`, `streams`, `clock` and `recover_truncated` of its config are understood here.
        heads: turns the heads of a batch into clocks and numbers.
    """

    def __init__(self, item: Item, options: ReadOptions, heads: Callable[[list[Any], str], Heads]) -> None:
        self.item, self.where = item, item.path
        self.rule: EpisodeRule | None = episode_rule(options.config)
        self.recover = _choice(options.config, "recover_truncated", {True: True, False: False}, False)
        self._targets = stream_targets(options.config, options.description)
        self._rate_hz = options.description.get("rate_hz") or options.rate_hz
        self._embodiment = options.description.get("embodiment")
        self._by_log = _choice(options.config, "clock", {"stamp": False, "log": True}, False)
        self._heads = heads
        self._camera_infos: dict[str, Mapping[str, Any]] = {}
        self._episodes = self._messages = 0
        self._begin()

    def _begin(self) -> None:
        self.names = StreamNames(self._targets)
        self.batches: dict[tuple[str, str, MessageSchema | None], Batch] = {}
        self.columns: dict[str, Column] = {}  # of streams that are no topic's
        self._held = 0

    @property
    def messages(self) -> int:
        """Return how many messages were taken so far, over all episodes."""
        return self._messages + sum(len(batch.heads) for batch in self.batches.values())

    @property
    def empty(self) -> bool:
        """Whether no message has come at all."""
        return not self.batches and not self._messages

    def batch(self, topic: str, encoding: str, schema: MessageSchema | None, place: str) -> Batch:
        """Return the batch of a topic; publishers of one topic, schema and encoding share it."""
        key = (topic, encoding, schema)
        found = self.batches.get(key)
        if found is None:
            if len(self.batches) >= MAX_TOPICS:
                raise BadRecording(place, f"at most {MAX_TOPICS} topics", "more", "split the recording", check="too_many_topics")
            found = self.batches[key] = Batch(Topic(topic, encoding, schema, self.names))
        return found

    def begins(self, topic: str, log_ns: int) -> bool:
        """Return whether a message begins a new episode: whoever asks ends the running one."""
        return self.rule is not None and self.rule.begins(topic, log_ns)

    def limit(self, size: int) -> Iterator[Event]:
        """Give on what holds on to chunks before they become too many; `size` is that of the chunk that was just taken."""
        self._held += size
        if self._held > HELD_BYTES:
            every = sum(batch.bytes for batch in self.batches.values() if not batch.slices) > HELD_BYTES
            for batch in self.batches.values():
                if every or batch.slices:
                    yield from self.flush(batch)
            self._held = 0

    def flush(self, batch: Batch) -> Iterator[Event]:
        """Give on the messages of a batch."""
        if not batch.heads:
            return
        heads = self._heads(batch.heads, f"{self.where}: topic {batch.topic.topic!r}")
        payloads = batch.payloads
        batch.payloads, batch.heads, batch.bytes, batch.slices = [], [], 0, False
        self._messages += len(payloads)
        yield from batch.topic.rows(payloads, heads.clocks)
        for what, numbers in heads.numbers.items():
            if what not in batch.numbers:
                batch.numbers[what] = SequenceNumbers(batch.topic, self.names, what)
            yield from batch.numbers[what].rows(numbers)

    def flush_all(self) -> Iterator[Event]:
        """Give on all that was not given on yet, and let numbers count from anew: the recording goes on in another file."""
        for batch in self.batches.values():
            yield from self.flush(batch)
            for numbers in batch.numbers.values():
                numbers.restart()

    def number_facts(self, what: str) -> dict[str, dict[str, Any]]:
        """Return for each stream of messages the numbers of a kind in short."""
        return {batch.topic.messages: batch.numbers[what].facts() for batch in self.batches.values() if what in batch.numbers}

    def end(self, describe: Callable[[], tuple[Mapping[str, Any], Sequence[Problem]]]) -> Iterator[Event]:
        """Give on what is left of the episode, and its end; `describe` then says its metadata and problems."""
        for batch in self.batches.values():
            yield from self.flush(batch)
        topics = [batch.topic for batch in self.batches.values()]
        found = dict(self.columns)
        for batch in self.batches.values():
            for numbers in batch.numbers.values():
                column = numbers.column()
                if column is not None:
                    found[column.name] = column
        metadata, problems = describe()
        yield build_info(
            topics,
            self.names,
            self.item.dataset,
            key="" if self.rule is None else str(self._episodes),
            by_log=self._by_log,
            rate_hz=self._rate_hz,
            embodiment=self._embodiment,
            splits=self.item.splits,
            metadata=metadata,
            columns=found,
            problems=problems,
            camera_infos=self._camera_infos,
        )
        self._camera_infos.update({topic.topic: topic.camera_info for topic in topics if topic.camera_info is not None})
        self._episodes += 1
        self._begin()


def _choice(config: Mapping[str, Any], key: str, known: Mapping[Any, bool], default: bool) -> bool:
    if key not in config:
        return default
    value = config[key]
    for name, meaning in known.items():
        if value == name and type(value) is type(name):
            return meaning
    raise ConfigError(f"{key}: must be one of {', '.join(map(str, known))}, got {value!r}"[:300])


def times_ns(times: Array, where: str, clock: str) -> Array:
    """Return uint64 times as int64 ns; raise BadRecording beyond its range."""
    if (times >> np.uint64(63)).any():
        raise BadRecording(where, f"{clock} times below 2^63 ns (the year 2262)", f"{int(times.max())}", "correct the recorder's clock", check="time_too_large")
    return times.astype(np.int64)
