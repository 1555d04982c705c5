"""When the samples of one stream were taken, from what is measured about their payloads.

Measured are where a payload begins and ends (the sample table of an MP4) and STMP, the microseconds of its first sample; TSMP counts the samples in between. All
else is interpolated: evenly over the payload (clock "payload"), evenly from one stamp to the next (clock "stmp"); behind the last stamp at the step before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dataengine.core.arrays import Array

# 31 years in us: stamps count from when a recording began.
MAX_STAMP_US = 10**15


@dataclass(eq=False)
class Span:
    """The samples of a stream in one payload: each row is the `at`-th of `of` samples.

    `start_ns` and `end_ns` are the payload's, None where nothing says; `stamp_us` its STMP, None without; `first` how many samples the camera had counted
    before this payload, None where it does not count.
    """

    at: Array
    of: int
    start_ns: int | None
    end_ns: int | None
    stamp_us: int | None
    first: int | None


class SampleTimes:
    """The clocks of one stream, payload after payload.

    A stream has the clock "stmp" where its first payload has a stamp and another tells the step; a stamp that is missing later, or does not rise, is bridged
    by the count of samples (`bridged` says how many).
    """

    def __init__(self) -> None:
        self.timed = True
        self.stamped: bool | None = None
        self.bridged = 0
        self._last_us = -1
        self._step_ns: float | None = None
        self._next_ns = 0

    def checked(self, span: Span) -> Span:
        """Note a span in the order of payloads, and return it without a stamp that cannot be."""
        self.timed &= span.start_ns is not None and span.end_ns is not None
        stamp = span.stamp_us
        if stamp is not None and not self._last_us < stamp < MAX_STAMP_US:
            span.stamp_us = None
        elif stamp is not None:
            self._last_us = stamp
        return span

    def clocks(self, ready: Sequence[Span], following: Sequence[Span]) -> dict[str, Array]:
        """Return the times of all rows of the spans in `ready`, (n,) int64 by clock; `following` are the spans that are known behind them."""
        found: dict[str, Array] = {}
        if self.timed:
            found["payload"] = np.concatenate([_spread(span) for span in ready])
        if self.stamped is not False:
            stamps = self._stamps([*ready, *following], len(ready))
            self.stamped = stamps is not None
            if stamps is not None:
                found["stmp"] = stamps
        return found

    def _stamps(self, spans: Sequence[Span], count: int) -> Array | None:
        """Return the times of the rows of the first `count` spans by their stamps; None where the first has none or nothing tells the step."""
        steps = _steps_ns(spans)
        if self.stamped is None:
            first_step = next((step for step in steps if step is not None), _payload_step_ns(spans[0]))
            if spans[0].stamp_us is None or first_step is None:
                return None
            self._step_ns = first_step
        found = []
        for span, step in zip(spans[:count], steps, strict=False):
            self._step_ns = step if step is not None else self._step_ns
            if span.stamp_us is None:
                self.bridged += 1
            start_ns = self._next_ns if span.stamp_us is None else span.stamp_us * 1000
            step_ns = float(self._step_ns or 0.0)
            found.append(start_ns + np.floor(span.at * step_ns).astype(np.int64))
            self._next_ns = start_ns + int(span.of * step_ns)
        return np.concatenate(found)


def _steps_ns(spans: Sequence[Span]) -> list[float | None]:
    """Return for each span the time from one sample to the next up to the next stamp, None behind the last one and where no stamp came before."""
    steps: list[float | None] = [None] * len(spans)
    stamped = [number for number, span in enumerate(spans) if span.stamp_us is not None]
    for here, there in pairwise(stamped):
        a, b = spans[here], spans[there]
        samples = b.first - a.first if a.first is not None and b.first is not None and b.first > a.first else sum(span.of for span in spans[here:there])
        if samples > 0:
            step = ((b.stamp_us or 0) - (a.stamp_us or 0)) * 1000 / samples
            steps[here:there] = [step] * (there - here)
    return steps


def _payload_step_ns(span: Span) -> float | None:
    return None if span.start_ns is None or span.end_ns is None or not span.of else (span.end_ns - span.start_ns) / span.of


def _spread(span: Span) -> Array:
    start_ns, end_ns = int(span.start_ns or 0), int(span.end_ns or 0)
    return np.asarray(start_ns + span.at.astype(np.int64) * (end_ns - start_ns) // max(span.of, 1), dtype=np.int64)
