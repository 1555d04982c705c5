"""The streams of GoPro's telemetry: payload after payload goes in, rows of streams on their clocks come out.

How a payload becomes rows:
- each payload whole, as its bytes, in the stream `gopro.payloads`: everything else is a view of it, laid out for reading;
- the entry that ends a STRM is its data, those before it describe it. Numbers with a SCAL are divided by it (float64: multiplied and rounded, they give the
  integers back), so that cameras with other scales may stand in one dataset; other numbers keep their type;
- what describes the data (name, unit, scale, orientation) stands in the column; what is measured along (temperature, GPS time and fix, counts, ticks) is a stream
  of one row a payload: `gopro.gps5.gpsu`. TSMP, the camera's own count of samples, is checked and stands in the metadata;
- a second device in a payload has streams of its own: `gopro.<device>.<key>`.

Which times are measured and which interpolated is said in `sample_times`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.errors import BadRecording
from dataengine.core.names import slug
from dataengine.core.problem import Problem
from dataengine.core.stream import Items, Rows
from dataengine.sources.gopro import klv
from dataengine.sources.gopro.klv import COMPLEX, Entry
from dataengine.sources.gopro.sample_times import SampleTimes, Span

PAYLOADS = "gopro.payloads"
HELD_BYTES = 4 << 20
MAX_STREAMS = 512

_DESCRIBES = frozenset(["STNM", "SIUN", "UNIT", "SCAL", "TYPE", "MTRX", "ORIN", "ORIO", "RMRK", "DVID", "DVNM"])
_DIMS = {"GPS5": ("latitude", "longitude", "altitude", "speed_2d", "speed_3d")}
_SPREAD = "samples are spread evenly over their payload; measured are its start and end (gopro.payloads)"
_STMP = "samples are spread evenly between the measured microseconds of the first sample of each payload"


@dataclass(frozen=True, eq=False)
class Payload:
    """The bytes of one payload, and from when to when it holds; None where nothing says."""

    data: bytes
    start_ns: int | None = None
    end_ns: int | None = None


@dataclass(eq=False)
class _Part:
    """The rows of one stream in one payload, and what is known of their times."""

    values: Array | list[str]
    span: Span


@dataclass
class _Stream:
    """One stream that is being filled."""

    name: str
    key: str
    facts: dict[str, Any] = field(default_factory=dict)
    parts: list[_Part] = field(default_factory=list)
    form: tuple[Any, ...] | None = None
    rows: int = 0
    left_out: int = 0
    several: bool = False
    times: SampleTimes = field(default_factory=SampleTimes)


def _scaled(values: Array, scale: Array | None) -> Array:
    return values if scale is None else np.asarray(values.astype(np.float64) / scale)


def _names_in(title: str, count: int) -> tuple[str, ...] | None:
    """Return the names of the elements that a stream's title lists in brackets: "Gyroscope (z,x,y)"."""
    match = re.search(r"\(([^()]*)\)\s*$", title)
    names = tuple(re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in match[1].split(",")) if match else ()
    return names if len(names) == count and all(names) and len(set(names)) == count else None


class Sensors:
    """Collects the streams of one recording.

    Args:
        where: what to call the recording in messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._streams: dict[str, _Stream] = {}
        self._devices: dict[str, str] = {}
        self._empty: set[str] = set()
        self._counts: dict[str, int] = {}
        self._missing: dict[str, int] = {}
        self._unread: dict[str, str] = {}
        self._payloads: list[Payload] = []
        self._held = 0
        self.count = 0
        self.damaged = 0
        self._reason = ""

    # --- in

    def add(self, payload: Payload) -> Iterator[Rows]:
        """Take the next payload, and yield rows when enough are held. One that is damaged keeps its bytes and gives no rows."""
        self._payloads.append(payload)
        try:
            for device in klv.parse(payload.data, f"{self._where}: payload {self.count}"):
                self._device(device, payload)
        except BadRecording as error:
            self.damaged += 1
            self._reason = self._reason or str(error)
        self.count += 1
        self._held += len(payload.data)
        if self._held >= HELD_BYTES:
            yield from self.flush(last=False)

    def _device(self, device: Entry, payload: Payload) -> None:
        facts = {entry.key: entry for entry in device.inside if entry.key != "STRM"}
        identity = klv.plain(facts["DVID"]) if "DVID" in facts else ""
        name = str(klv.plain(facts["DVNM"])) if "DVNM" in facts else str(identity)
        label = f"{identity} {name}"
        if label not in self._devices:
            self._devices[label] = "gopro" if not self._devices else f"gopro.{slug(name).replace('.', '-')}"
        prefix = self._devices[label]
        seen: dict[str, int] = {}
        for entry in device.inside:
            if entry.key != "STRM":
                self._beside(prefix, entry, payload)
            elif entry.inside:
                self._stream(prefix, name, entry.inside, payload, seen)

    def _stream(self, prefix: str, device: str, entries: Sequence[Entry], payload: Payload, seen: dict[str, int]) -> None:
        """Take one STRM: its last key is the data, repeated entries of it are one sample each."""
        key = entries[-1].key
        facts = {entry.key: entry for entry in entries if entry.key != key}
        if key in _DESCRIBES:
            self._empty.add(str(klv.plain(facts.get("STNM", entries[-1]))))
            return
        seen[key] = seen.get(key, 0) + 1
        name = f"{prefix}.{_slug(key)}" + (f"_{seen[key]}" if seen[key] > 1 else "")
        data = [entry for entry in entries if entry.key == key]
        samples = data[0].repeat if len(data) == 1 else len(data)
        stamp_us, total = _whole(facts, "STMP"), _whole(facts, "TSMP")
        for entry in facts.values():
            if entry.key != "TSMP":
                self._beside(name, entry, payload)
        if total is not None:
            self._count(name, total, samples)
        for stream, described, values, at in self._values(name, data, facts):
            span = Span(at, samples, payload.start_ns, payload.end_ns, stamp_us, None if total is None else total - samples)
            self._take(stream, key, _Part(values, span), {"device": device, "several": len(data) > 1, **described})

    def _values(self, name: str, data: list[Entry], facts: dict[str, Entry]) -> Iterator[tuple[str, dict[str, Any], Array | list[str], Array]]:
        """Yield stream, description, values, and which sample of the payload each is, of the data of one STRM."""
        at = np.arange(data[0].repeat) if len(data) == 1 else np.repeat(np.arange(len(data)), [entry.repeat for entry in data])
        whole = data[0]
        if len(data) > 1:
            whole = Entry(whole.key, whole.kind, whole.size, sum(entry.repeat for entry in data), b"".join(entry.data for entry in data))
        described = {"facts": facts, "letters": whole.kind}
        if any(entry.kind != whole.kind or entry.size != whole.size for entry in data):
            self._unread[name] = "its samples differ in type"
            return
        found = klv.numbers(whole)
        if found is not None:
            scale = self._scale(name, facts, found.shape[1])
            yield name, described, _scaled(found, scale), at
            return
        rows = klv.texts(whole)
        if rows is not None:
            yield name, described, rows, at[: len(rows)]
            return
        letters = klv.fields_of(str(klv.plain(facts["TYPE"]))) if whole.kind == COMPLEX and "TYPE" in facts else []
        parts = klv.fields(whole, letters)
        if parts is None:
            self._unread[name] = f"type {whole.kind!r}" + (f" of {''.join(letters)[:40]!r}" if letters else "") + " is not taken apart"
            return
        scale = self._scale(name, facts, len(letters))
        scales = np.broadcast_to(np.ones(1) if scale is None else scale, len(letters))
        numeric = [number for number, part in enumerate(parts) if not isinstance(part, list)]
        if numeric:
            if any(letters[number] in "jJQ" for number in numeric):
                self._unread[name] = "64-bit fields beside others stand in the payload only"
                return
            table = np.stack([np.asarray(parts[number], np.float64) / scales[number] for number in numeric], axis=1)
            yield name, {**described, "letters": "".join(letters), "fields": numeric}, table, at
        for number, part in enumerate(parts):
            if isinstance(part, list):
                yield f"{name}.field_{number}", {**described, "letters": "".join(letters), "fields": [number]}, part, at

    def _count(self, name: str, total: int, samples: int) -> None:
        """Compare the camera's count of all samples so far with those that are there."""
        before = self._counts.get(name)
        self._counts[name] = total
        if before is not None and total - before > samples:
            self._missing[name] = self._missing.get(name, 0) + total - before - samples

    def _scale(self, name: str, facts: dict[str, Entry], count: int) -> Array | None:
        scale = klv.numbers(facts["SCAL"]) if "SCAL" in facts else None
        if scale is None:
            return None
        flat = scale.reshape(-1).astype(np.float64)
        if len(flat) not in (1, count) or not np.isfinite(flat).all() or (flat == 0).any():
            self._unread[f"{name} (scale)"] = f"the scale {flat[:8].tolist()} does not fit {count} elements: raw numbers"
            return None
        return flat

    def _beside(self, name: str, entry: Entry, payload: Payload) -> None:
        """Take what was measured along with a stream or device: one row a payload."""
        if entry.key in _DESCRIBES:
            return
        values: Array | list[str] | None = klv.numbers(entry)
        if isinstance(values, np.ndarray):
            values = values.reshape(1, -1) if values.size else None
        else:
            rows = klv.texts(entry)
            values = None if rows is None else [rows[0] if len(rows) == 1 else " ".join(rows)]
        if values is not None:
            stream = f"{name}.{_slug(entry.key)}"
            span = Span(np.zeros(1, np.int64), 1, payload.start_ns, payload.end_ns, None, None)
            self._take(stream, entry.key, _Part(values, span), {"beside": True, "letters": entry.kind, "facts": {}})

    def _take(self, name: str, key: str, part: _Part, described: dict[str, Any]) -> None:
        form = ("text",) if isinstance(part.values, list) else (part.values.dtype.str, part.values.shape[1:])
        stream = self._streams.get(name)
        if stream is None:
            if len(self._streams) >= MAX_STREAMS:
                raise BadRecording(self._where, f"at most {MAX_STREAMS} streams", "more", "the telemetry is damaged", check="too_many_streams")
            stream = self._streams[name] = _Stream(name, key, described)
        if not len(part.values):
            return
        if stream.form is None:
            stream.form, stream.facts = form, described
        if form != stream.form:
            stream.left_out += len(part.values)
            return
        stream.rows += len(part.values)
        stream.several |= bool(described.get("several"))
        part.span = stream.times.checked(part.span)
        stream.parts.append(part)

    # --- out

    def flush(self, last: bool = True) -> Iterator[Rows]:
        """Yield the rows that are held; all but those of the last payload where more payloads follow, whose STMP they need."""
        self._held = 0
        if self._payloads:
            timed = all(payload.start_ns is not None for payload in self._payloads)
            clocks = {name: np.array([getattr(payload, f"{name}_ns") for payload in self._payloads], np.int64) for name in ("start", "end") if timed}
            yield Rows(
                PAYLOADS,
                Items([payload.data for payload in self._payloads], "gpmf"),
                {"payload" if name == "start" else name: stamps for name, stamps in clocks.items()},
            )
            self._payloads = []
        for stream in self._streams.values():
            ready = stream.parts if last else stream.parts[:-1]
            if not ready:
                continue
            following = stream.parts[len(ready) :]
            stream.parts = [] if last else stream.parts[-1:]
            clocks = stream.times.clocks([part.span for part in ready], [part.span for part in following])
            values = [part.values for part in ready]
            if isinstance(values[0], list):
                rows = [row.encode() for part in values if isinstance(part, list) for row in part]
                yield Rows(stream.name, Items(rows, "utf-8"), clocks)
            else:
                table = np.concatenate([part for part in values if not isinstance(part, list)])
                yield Rows(stream.name, table[:, 0] if table.shape[1] == 1 else table, clocks)

    def names(self) -> list[str]:
        """Return the streams that had rows."""
        return [stream.name for stream in self._streams.values() if stream.rows]

    def clock_of(self, name: str) -> str | None:
        """Return the clock that a stream goes by, None where nothing says when its rows were."""
        times = self._streams[name].times
        return "payload" if times.timed else "stmp" if times.stamped else None

    def columns(self) -> dict[str, Column]:
        """Return the column of each stream that had rows."""
        found = {PAYLOADS: Column(PAYLOADS, kind="message", dtype="bytes", encoding="gpmf", steps=False, doc="payloads of the telemetry as they came")}
        found.update({name: self._column(self._streams[name]) for name in self.names()})
        return found

    def _column(self, stream: _Stream) -> Column:
        assert stream.form is not None
        facts: dict[str, Entry] = stream.facts["facts"]
        extra: dict[str, Any] = {"key": stream.key, "type": stream.facts["letters"], "device": stream.facts.get("device")}
        extra = {name: value for name, value in extra.items() if value is not None}
        if "fields" in stream.facts:
            extra["fields"] = stream.facts["fields"]
        for key, name in (
            ("STNM", "title"),
            ("SCAL", "scale"),
            ("ORIN", "orientation_in"),
            ("ORIO", "orientation_out"),
            ("MTRX", "matrix"),
            ("RMRK", "remark"),
        ):
            if key in facts:
                extra[name] = klv.plain(facts[key])
        units = _units(facts)
        if len(units) > 1:
            extra["units"] = units
        times = {clock: said for clock, said, there in (("payload", _SPREAD, stream.times.timed), ("stmp", _STMP, stream.times.stamped)) if there}
        if times and not stream.facts.get("beside"):
            extra["times"] = times
        doc = str(extra.get("title", ""))
        steps = not stream.facts.get("beside") and not stream.several and self.clock_of(stream.name) is not None
        if stream.form == ("text",):
            return Column(stream.name, "text", "string", (), encoding="utf-8", steps=False, doc=doc, extra=extra)
        dtype, (count,) = np.dtype(stream.form[0]).name, stream.form[1]
        dims = _DIMS.get(stream.key) or _names_in(doc, count)
        return Column(
            stream.name,
            dtype=dtype,
            shape=() if count == 1 else (count,),
            dims=dims if dims is not None and count == len(dims) > 1 else None,
            unit=units[0] if len(set(units)) == 1 else None,
            steps=steps,
            doc=doc,
            extra=extra,
        )

    def metadata(self) -> dict[str, Any]:
        """Return what the telemetry says of itself: devices, counts, streams without data; JSON-able."""
        without = sorted({*self._empty, *(stream.name for stream in self._streams.values() if not stream.rows)})
        return {"devices": list(self._devices), "payloads": self.count, "samples_counted": self._counts, "streams_without_rows": without}

    def problems(self) -> list[Problem]:
        """Return what was not laid out; its bytes are kept in any case."""
        found = []
        if self.damaged:
            message = (
                f"{self._where}: {self.damaged} of {self.count} telemetry payloads are damaged, the first: {self._reason}; their bytes are kept, without rows"
            )
            found.append(Problem("damaged_telemetry", message, self._where, "warning"))
        for name, missing in self._missing.items():
            message = f"{self._where}: {name}: the camera counted {missing} samples more than its payloads hold"
            found.append(Problem("samples_missing", message, name, "warning"))
        for name, why in sorted(self._unread.items()):
            found.append(Problem("telemetry_not_laid_out", f"{self._where}: {name}: {why}; its bytes are kept in {PAYLOADS}", name, "info"))
        for stream in self._streams.values():
            if stream.times.bridged:
                message = f"{self._where}: {stream.name}: {stream.times.bridged} payloads have no stamp (STMP) that rises; their samples are counted on from the one before"
                found.append(Problem("stamps_missing", message, stream.name, "warning"))
            if stream.left_out:
                message = f"{self._where}: {stream.name}: {stream.left_out} of {stream.rows + stream.left_out} rows have another form than the first; they stand in {PAYLOADS} only"
                found.append(Problem("layout_changes", message, stream.name, "info"))
        return found


def _slug(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_") or "key"


def _whole(facts: dict[str, Entry], key: str) -> int | None:
    """Return the whole number that describes a stream, None where there is none."""
    values = klv.numbers(facts[key]) if key in facts else None
    return int(values.reshape(-1)[0]) if values is not None and values.size and values.dtype.kind in "iu" else None


def _units(facts: dict[str, Entry]) -> list[str]:
    entry = facts.get("SIUN") or facts.get("UNIT")
    rows = klv.texts(entry) if entry is not None else None
    return [unit for unit in rows or [] if unit]
