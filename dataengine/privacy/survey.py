"""The first look at an item: what each of its recordings turns out to be, before any row of it is given on.

A reader says at the end of a recording what its streams are: only then is it known which of them show pictures, which fields a message has, and which names and
numbers are secrets. So an item is read twice: once here, only looked at, and once more for the rows. Readers give the same events each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.episode import EpisodeInfo, Event, Noticed, Rejected
from dataengine.core.stream import Frames, Items, MediaFrames, Rows, Values
from dataengine.privacy.payloads import is_opaque, reads_as_text

Reading = Callable[[], Iterator[Event]]
# A video file, or the part of an archive that one is: its address, and (first byte, bytes) where it is a part.
Film = tuple[str, tuple[int, int] | None]


@dataclass
class Sight:
    """What was seen of one stream: its first values (without their content), its rows, the encodings of its items, and the tracks of each film it is kept in.

    `texts`: a row reads as text although its encoding does not say so.
    """

    first: Values
    rows: int = 0
    encodings: set[str] = field(default_factory=set)
    texts: bool = False
    films: dict[Film, set[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Survey:
    """One recording: its end, and what was seen of each of its streams."""

    end: EpisodeInfo | Rejected
    streams: dict[str, Sight]


def _outline(values: Values) -> Values:
    """Return values of the same form without their rows, so that a survey holds no pictures."""
    if isinstance(values, Items):
        return Items([], values.encodings if isinstance(values.encodings, str) else [])
    if isinstance(values, Frames):
        return Frames(np.zeros((0, *values.pixels.shape[1:]), values.pixels.dtype), values.exact)
    if isinstance(values, MediaFrames):
        return MediaFrames(values.uri, values.track, values.first, values.count, values.digest, None, values.facts, values.span)
    outline: Array = np.zeros((0, *values.shape[1:]), values.dtype)
    return outline


def _holds_text(values: Items) -> bool:
    return any(len(data) and is_opaque(values.encoding(row)) and reads_as_text(bytes(data)) for row, data in enumerate(values.data))


def survey(read: Reading) -> Iterator[Survey]:
    """Yield what each recording of an item turns out to be, in order; raises what the reader raises."""
    streams: dict[str, Sight] = {}
    for event in read():
        if isinstance(event, Rows):
            sight = streams.get(event.stream)
            if sight is None:
                sight = streams[event.stream] = Sight(_outline(event.values))
            sight.rows += len(event.values)
            if isinstance(event.values, Items):
                encodings = event.values.encodings
                sight.encodings.update([encodings] if isinstance(encodings, str) else encodings)
                sight.texts = sight.texts or _holds_text(event.values)
            elif isinstance(event.values, MediaFrames):
                sight.films.setdefault((event.values.uri, event.values.span), set()).add(event.values.track)
        elif not isinstance(event, Noticed):
            yield Survey(event, streams)
            streams = {}
