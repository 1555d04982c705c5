"""The camera's sensors as `imu_data.json`: what gopro-telemetry exports of the video, which UMI gives to SLAM.

{"1": {"streams": {"ACCL": {"samples": [{"value": [..], "cts": <ms from the first frame>, "date": ..}, ..], "name": .., "units": ..}, ..}}, "frames/second": ..}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.errors import BadRecording
from dataengine.core.stream import Items, Rows
from dataengine.sources.umi.camera_trajectory import ON_VIDEO

MAX_BYTES = 256 << 20
MAX_STREAMS = 256
DOCUMENT = "imu.document"

_SAMPLE_KEYS = frozenset(["value", "cts", "date"])
_MAX_MS = 1e12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _bad(where: str, expected: str, found: object) -> BadRecording:
    return BadRecording(where, expected, f"{found!r}"[:200], "export the telemetry again", check="imu_json")


class ImuJson:
    """The streams of one file: `imu.<key>` by their own times, clock "cts" (and "date" where every sample has one), and those on the video's clock, "video".

    Args:
        data: the file's content.
        where: what to call it in messages.

    Raises:
        BadRecording: no such export, or samples that are not numbers with times.
    """

    def __init__(self, data: bytes, where: str) -> None:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadRecording(where, "JSON", f"something else ({error})"[:200], "export the telemetry again", check="imu_json") from error
        if not isinstance(found, dict):
            raise _bad(where, "an object with devices", type(found).__name__)
        self.columns: dict[str, Column] = {}
        self.metadata = {key: value for key, value in found.items() if not isinstance(value, dict | list)}
        self._tables: dict[str, tuple[Array, dict[str, Array]]] = {}
        self._document: bytes | None = None
        devices = [device for device in found.values() if isinstance(device, dict) and isinstance(device.get("streams"), dict)]
        if not devices:
            raise _bad(where, "a device with streams", list(found)[:5])
        whole = True
        for number, device in enumerate(devices):
            for key, stream in list(device["streams"].items())[:MAX_STREAMS]:
                name = f"imu.{re.sub(r'[^a-z0-9]+', '_', str(key).lower()).strip('_') or 'stream'}" + (f"_{number + 1}" if number else "")
                whole &= self._add(name, str(key), stream, f"{where}: {key}"[:200])
        if not whole:
            self._document = data

    def _add(self, name: str, key: str, stream: Any, where: str) -> bool:
        """Take one stream; return whether its table holds all that the samples say."""
        samples = stream.get("samples") if isinstance(stream, dict) else None
        if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
            raise _bad(where, "a list of samples", samples)
        if not samples:
            return True
        rows = [sample.get("value") for sample in samples]
        rows = [row if isinstance(row, list) else [row] for row in rows]
        if len({len(row) for row in rows}) != 1 or not all(type(value) is float or (type(value) is int and _is_held(value)) for row in rows for value in row):
            return False  # faces, scenes, integers that float64 would round: they stay in the document
        times = [sample.get("cts") for sample in samples]
        if not all(type(value) in (int, float) and math.isfinite(value) and abs(value) < _MAX_MS for value in times):
            raise _bad(where, "a time in ms (cts) for each sample", next((value for value in times if type(value) not in (int, float)), "others"))
        table = np.array(rows, np.float64)
        clocks = {"cts": np.array([round(value * 1e6) for value in times], np.int64)}
        dates = _dates_ns([sample.get("date") for sample in samples])
        if dates is not None:
            clocks["date"] = dates
        width = table.shape[1]
        self._tables[name] = table[:, 0] if width == 1 else table, clocks
        unit = stream.get("units")
        extra = {"key": key, **({"units": unit} if isinstance(unit, list) else {})}
        title = stream.get("name")
        self.columns[name] = Column(
            name,
            dtype="float64",
            shape=() if width == 1 else (width,),
            unit=unit if isinstance(unit, str) else None,
            doc=title if isinstance(title, str) else "",
            extra=extra,
        )
        return all(sample.keys() <= _SAMPLE_KEYS for sample in samples) and (dates is not None or not any("date" in sample for sample in samples))

    def rows(self, first_ns: int = 0) -> Iterator[Rows]:
        """Yield the rows of all streams, `first_ns` the time of the video's first frame, from which "cts" counts; the document itself where it says more."""
        for name, (table, clocks) in self._tables.items():
            yield Rows(name, table, {**clocks, ON_VIDEO: clocks["cts"] + first_ns})
        if self._document is not None:
            self.columns[DOCUMENT] = Column(DOCUMENT, kind="message", dtype="bytes", encoding="json", steps=False, doc="the export as it came")
            yield Rows(DOCUMENT, Items([self._document], "json"))

    @property
    def stream_clocks(self) -> Mapping[str, str]:
        """Return the clock of each stream."""
        return dict.fromkeys(self._tables, ON_VIDEO)


def _is_held(value: int) -> bool:
    """Return whether float64 holds an integer as it is."""
    return abs(value) <= 2**53 or (abs(value) < 2**64 and int(float(value)) == value)


def _dates_ns(values: list[Any]) -> Array | None:
    """Return ISO 8601 dates as ns since the epoch, None where one is missing or none."""
    found = []
    for value in values:
        try:
            date = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            return None
        since = (date if date.tzinfo else date.replace(tzinfo=UTC)) - _EPOCH
        found.append((since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000)
    return np.array(found, np.int64)
