"""Where each frame of a video track lies and when it is shown, found in the container's tables or by demuxing, never by decoding.

Times are those of the container with its edit lists applied, as FFmpeg's demuxers give them: an edit that starts later shifts the times, a
packet that an edit cuts away is no frame (it stays in the file), an empty edit at the start delays the first frame. Nothing is
subtracted: a recording that starts at 66.667 ms has its first frame there.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np

from dataengine.core.arrays import Array, read_only, require
from dataengine.core.errors import BadRecording
from dataengine.video.boxes import MAX_FRAMES
from dataengine.video.container import MediaFile, fault, media_name, open_bytes, open_container
from dataengine.video.probe import MediaInfo, TrackInfo, describe, require_size
from dataengine.video.sample_table import SampleTable, mp4_sample_tables

NS_PER_S = 1_000_000_000

# A packet without a decoding time: Matroska has none for the first frames of a stream with B-frames.
NO_TIME = -(2**63)

# What lies between the position that the demuxer names and the first byte of the payload: in a Matroska block its track number (one byte
# for tracks up to 127), time (2) and flags (1). MPEG-TS cuts payloads into cells, so there is no such place.
_PAYLOAD_SHIFT: dict[str, int | None] = {"mp4": 0, "matroska": 4, "webm": 4, "avi": 0, "mpegts": None}

# What a file of each format is called.
EXTENSIONS: dict[str, str] = {"mp4": "mp4", "matroska": "mkv", "webm": "webm", "avi": "avi", "mpegts": "ts"}

# Codecs whose packets FFmpeg's demuxer gives on as the table lists them, and how many of a track are compared.
_TABLED_CODECS = frozenset(["h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp9", "libvpx-vp9"])
CONFIRMED_PACKETS = 4

# A time beyond 272 years is damage, and would overflow int64 nanoseconds.
_MAX_SECONDS = 1 << 33

COLUMNS: dict[str, str] = {"pts_ns": "int64", "pts": "int64", "dts": "int64", "offset": "int64", "size": "int64", "key": "bool", "order": "int64"}


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """The frames of one track, each array (N,) in presentation order.

    `pts_ns` is the presentation time in ns on the container's clock (rounded down, as `core.clock.nominal_timestamps_ns` does), `pts` and `dts` the same and the
    decoding time in units of the time base (`NO_TIME`: none), `offset` and `size` the bytes of the encoded frame in the file (offset -1 where they do not lie
    in one piece), `key` whether decoding
    can start there, `order` its place in decoding order counted over all packets of the track (there are gaps where packets show nothing).
    `duration_ns` runs from the first frame to the end of the last. `facts` is JSON-able: what a decoder needs, and what the container says.
    """

    track: int
    pts_ns: Array
    pts: Array
    dts: Array
    offset: Array
    size: Array
    key: Array
    order: Array
    duration_ns: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.pts_ns)
        for name, dtype in COLUMNS.items():
            values = getattr(self, name)
            require(values.shape == (count,) and values.dtype == dtype, f"frame index: {name} must be ({count},) {dtype}, got {values.shape} {values.dtype}")
            object.__setattr__(self, name, read_only(values))

    def __len__(self) -> int:
        return len(self.pts_ns)

    def part(self, first: int, count: int) -> tuple[FrameIndex, int]:
        """Return an index of what decoding frames [first, first + count) needs, and the number of its first frame: a film of many episodes, cut to one of them.

        Where that does not lie in one piece of the decoding order, it is the whole index, and 0.
        """
        keys = np.flatnonzero(self.key[: first + 1])
        if not count or not len(keys) or int(self.facts.get("hidden", 0)):
            return self, 0
        begin = int(keys[-2:][0])  # one group earlier: pictures that are shown before their key frame need it
        last = int(self.order[first : first + count].max())
        end = max(first + count, int(np.flatnonzero(self.order <= last)[-1]) + 1)
        order = self.order[begin:end]
        least = int(order.min())
        if (begin == 0 and end == len(self)) or int(order.max()) - least != len(order) - 1:
            return self, 0
        columns = {name: values[begin:end] for name, values in self.as_columns().items()}
        return FrameIndex.from_columns({**columns, "order": order - least}, self.as_facts()), begin

    def as_columns(self) -> dict[str, Array]:
        """Return the arrays by name, each (N,)."""
        return {name: getattr(self, name) for name in COLUMNS}

    def as_facts(self) -> dict[str, Any]:
        """Return all that is not a column, JSON-able."""
        return {**self.facts, "track": self.track, "duration_ns": self.duration_ns}

    @staticmethod
    def from_columns(columns: Mapping[str, Array], facts: Mapping[str, Any]) -> FrameIndex:
        """Rebuild an index from `as_columns()` and `as_facts()`.

        Raises:
            BadRecording: a column or a fact is missing.
        """
        missing = sorted((COLUMNS.keys() - columns.keys()) | ({"track", "duration_ns"} - facts.keys()))
        if missing:
            raise BadRecording("frame index", f"columns {', '.join(COLUMNS)} and their facts", f"none of {', '.join(missing)}", "write the index again")
        rest = {key: value for key, value in facts.items() if key not in ("track", "duration_ns")}
        arrays = {name: np.ascontiguousarray(columns[name], dtype=dtype) for name, dtype in COLUMNS.items()}
        return FrameIndex(track=int(facts["track"]), duration_ns=int(facts["duration_ns"]), facts=rest, **arrays)


def ticks_to_ns(ticks: Array, time_base: Fraction) -> Array:
    """Return floor(ticks * time_base) in ns, exact; `ticks` int64 within 272 years of 0."""
    whole, rest = np.divmod(ticks * time_base.numerator, time_base.denominator)
    return np.asarray(whole * NS_PER_S + rest * NS_PER_S // time_base.denominator, dtype=np.int64)


class _Packets:
    """The packets of one track as they come: numbers only, never payloads."""

    def __init__(self) -> None:
        self.pts, self.dts, self.offset, self.size, self.duration = array("q"), array("q"), array("q"), array("q"), array("q")
        self.key, self.shown = array("b"), array("b")

    def __len__(self) -> int:
        return len(self.pts)

    @staticmethod
    def of(table: SampleTable) -> _Packets:
        """Return the packets that a sample table lists: all of them are shown."""
        packets = _Packets()
        for name in ("pts", "dts", "offset", "size", "duration"):
            setattr(packets, name, array("q", np.ascontiguousarray(getattr(table, name), np.int64).tobytes()))
        packets.key, packets.shown = array("b", table.key.tobytes()), array("b", np.ones(len(table), np.int8).tobytes())
        return packets

    def add(self, packet: Any, shown: bool, shift: int) -> None:
        pts, dts, position = packet.pts, packet.dts, packet.pos
        self.pts.append(NO_TIME if pts is None else pts)
        self.dts.append(NO_TIME if dts is None else dts)
        self.offset.append(-1 if position is None or position < 0 else position + shift)
        self.size.append(packet.size)
        self.duration.append(packet.duration or 0)
        self.key.append(packet.is_keyframe)
        self.shown.append(shown)


def _lies_there(handle: Any, packet: Any, shift: int) -> bool:
    """Return whether a packet's bytes stand in the file where the container says; restores the position of `handle`.

    MP4 has nothing between its tables and the payload; Matroska may lace, strip or encrypt any block, which shows in its first bytes.
    """
    if packet.pos is None or packet.pos < 0:
        return False
    before = handle.tell()
    handle.seek(packet.pos + shift)
    length = min(packet.size, 64)
    same = bool(handle.read(length) == memoryview(packet)[:length])
    handle.seek(before)
    return same


def _confirmed(container: Any, streams: Sequence[Any], tables: Mapping[int, SampleTable], handle: Any) -> dict[int, SampleTable]:
    """Return the sample tables that the demuxer agrees with: on how many packets there are, and on the first of each track.

    Where it does not agree on one of them, none is believed; the container is back at its start.
    """
    import av

    agreed = {}
    for stream in streams:
        table = tables.get(stream.index)
        if table is None or len(table) != len(stream.index_entries) or stream.codec_context.name not in _TABLED_CODECS:
            continue
        try:
            container.seek(0, stream=stream)
            packets = list(islice(container.demux(stream), CONFIRMED_PACKETS))
        except av.FFmpegError:
            continue
        same = all(
            (packet.pts, packet.dts, packet.pos, packet.size, packet.duration, packet.is_keyframe, packet.is_discard)
            == (*(int(getattr(table, name)[row]) for name in ("pts", "dts", "offset", "size", "duration")), bool(table.key[row]), False)
            and _lies_there(handle, packet, 0)
            for row, packet in enumerate(packet for packet in packets if packet.size)
        )
        if same and packets:
            agreed[stream.index] = table
    if len(agreed) < len(streams):
        container.seek(0)
        return {}
    return agreed


def _finish(packets: _Packets, track: TrackInfo, info: MediaInfo, ranges: bool, listed: int, where: str) -> FrameIndex:
    """Check the packets of a track and put them in presentation order."""
    place = f"{where}: track {track.index}"
    advice = "the file is damaged: copy it again or record it again"
    if len(packets) < listed:
        raise BadRecording(place, f"{listed} frames, as its table says", f"{len(packets)} that can be read", advice, check="truncated")
    columns = {name: np.frombuffer(getattr(packets, name), dtype=np.int64) for name in ("pts", "dts", "offset", "size", "duration")}
    key, shown = np.frombuffer(packets.key, dtype=np.int8).astype(bool), np.frombuffer(packets.shown, dtype=np.int8).astype(bool)
    pts = columns["pts"].copy()
    bare = (pts == NO_TIME) & (columns["dts"] != NO_TIME)
    if track.reorder == 0:
        # Without B-frames a frame is shown when it is decoded: some AVI and old Matroska files write that one time only.
        pts[bare] = columns["dts"][bare]
    timeless = int(np.count_nonzero((pts == NO_TIME) & shown))
    if timeless:
        raise BadRecording(place, "a presentation time for each frame", f"none for {timeless} of {len(packets)}", "convert it to MP4 or MKV", check="no_times")
    if not shown.any():
        raise BadRecording(place, "at least one frame", "none", advice, check="no_frames")
    if info.format == "avi" and track.reorder and track.codec in ("h264", "hevc"):
        raise BadRecording(place, "presentation times", f"{track.codec} with B-frames in AVI, which has none", "convert it to MP4 or MKV", check="no_times")
    time_base = track.time_base
    assert time_base is not None
    if np.any(np.abs(pts[shown].astype(np.float64)) * float(time_base) >= _MAX_SECONDS) or np.any(np.abs(pts[shown]) >= 2**62 // time_base.numerator):
        raise BadRecording(place, f"times within {_MAX_SECONDS} s", f"{pts[shown].min()} to {pts[shown].max()} x {time_base} s", advice, check="absurd_times")
    if info.size and np.any(columns["offset"] + columns["size"] > info.size):
        raise BadRecording(place, f"frames within the {info.size} bytes of the file", "frames behind its end", advice, check="truncated")
    order = np.flatnonzero(shown)
    rows = order[np.argsort(pts[order], kind="stable")]
    pts_ns = ticks_to_ns(pts[rows], time_base)
    last = int(pts[rows[-1]]) + max(0, min(int(columns["duration"][rows[-1]]), 2**40))
    first_dts = int(columns["dts"][0])
    ranges = ranges and bool(np.all(columns["offset"] >= 0))
    facts = {
        "format": info.format,
        "extension": EXTENSIONS[info.format],
        "codec": track.codec,
        "width": track.width,
        "height": track.height,
        "pix_fmt": track.pix_fmt,
        "time_base": str(time_base),
        "average_hz": None if track.average_hz is None else str(track.average_hz),
        "matrix": track.matrix,
        "range": track.range,
        "primaries": track.primaries,
        "rotation_deg": track.rotation_deg,
        "sample_aspect": None if track.sample_aspect is None else str(track.sample_aspect),
        "handler": track.handler,
        "language": track.language,
        "edit_shift": -first_dts if info.format == "mp4" and first_dts != NO_TIME else 0,
        "hidden": len(packets) - len(rows),
        "ranges": ranges,
        "extradata": base64.b64encode(track.extradata).decode("ascii"),
    }
    return FrameIndex(
        track=track.index,
        pts_ns=pts_ns,
        pts=pts[rows],
        dts=columns["dts"][rows],
        offset=columns["offset"][rows] if ranges else np.full(len(rows), -1, np.int64),
        size=columns["size"][rows],
        key=key[rows],
        order=rows.astype(np.int64),
        duration_ns=int(ticks_to_ns(np.array([last]), time_base)[0] - pts_ns[0]),
        facts=facts,
    )


def _shows(packet: Any, codec: str) -> bool:
    """Return whether a packet becomes a frame on the screen: not when an edit list cuts it away, nor a hidden reference frame of VP8 (RFC 6386 §9.1)."""
    if packet.is_discard:
        return False
    return not (codec == "vp8" and packet.size and not bytes(packet)[0] & 0x10)


def frame_indexes(file: MediaFile, tracks: Sequence[int] | None = None, where: str = "") -> tuple[MediaInfo, dict[int, FrameIndex]]:
    """Index video tracks in one pass over the file.

    Args:
        file: a path on this machine, or a seekable binary file.
        tracks: numbers of the tracks in the container; None for every video track.
        where: what to call the file in messages.

    Returns:
        What the file holds, and an index for each track asked for.

    Raises:
        BadRecording: no video file, no such video track, cut off, damaged, of an absurd size, or without times.
    """
    import av

    where = where or media_name(file)
    with open_container(file, where) as (container, form, size):
        info = describe(container, form, size, file)
        videos = {track.index: track for track in info.videos}
        wanted = list(videos) if tracks is None else list(tracks)
        if not wanted or any(number not in videos for number in wanted):
            kinds = ", ".join(f"{track.index} {track.kind}" for track in info.tracks) or "none"
            asked = "a video track" if not wanted else f"video tracks {wanted}"
            raise BadRecording(where, asked, f"tracks: {kinds}", "it is no video recording", check="no_video")
        for number in wanted:
            require_size(videos[number], where)
            if videos[number].time_base is None:
                raise BadRecording(f"{where}: track {number}", "a time base", "none", "the file is damaged", check="no_times")
        shift = _PAYLOAD_SHIFT[form]
        found = {number: _Packets() for number in wanted}
        ranges = dict.fromkeys(wanted, shift is not None)
        codecs = {number: videos[number].codec for number in wanted}
        streams = [container.streams[number] for number in wanted]
        handle = open_bytes(file)
        try:
            tables = _confirmed(container, streams, mp4_sample_tables(handle, size), handle) if form == "mp4" else {}
            found.update({number: _Packets.of(table) for number, table in tables.items()})
            rest = [stream for stream in streams if stream.index not in tables]
            for packet in container.demux(rest) if rest else ():
                number, packet_size = packet.stream_index, packet.size
                if packet.pts is None and packet.dts is None and not packet_size:
                    continue  # PyAV's mark at the end of each track
                packets = found[number]
                if packet.is_corrupt or len(packets) >= MAX_FRAMES:
                    expected = "whole frames" if packet.is_corrupt else f"at most {MAX_FRAMES} frames"
                    raise BadRecording(
                        f"{where}: track {number}", expected, f"something else at frame {len(packets)}", "the file is damaged or was cut off", check="truncated"
                    )
                if shift is not None and ranges[number] and (form != "mp4" or len(packets) < 2):
                    ranges[number] = _lies_there(handle, packet, shift)
                packets.add(packet, _shows(packet, codecs[number]), shift or 0)
        except av.FFmpegError as error:
            raise fault(where, error, "read to its end") from error
        finally:
            if handle is not file:
                handle.close()
        # MP4 and AVI list every frame in a table: what it lists and the file does not yield has been cut off. An edit list changes the table's
        # length along with the packets; an MP4 without one must also yield what its header counts.
        listed = {number: _listed(container.streams[number], form, videos[number]) for number in wanted}
        return info, {number: _finish(found[number], videos[number], info, ranges[number], listed[number], where) for number in wanted}


def _listed(stream: Any, form: str, track: TrackInfo) -> int:
    """Return how many packets the container's tables list; 0 where it has none."""
    if form == "mp4":
        return len(stream.index_entries)
    return track.declared_frames if form == "avi" else 0


def frame_index(file: MediaFile, track: int | None = None, where: str = "") -> FrameIndex:
    """Index one video track; None for the main one (see `MediaInfo.main`).

    Raises:
        BadRecording: as `frame_indexes`.
    """
    where = where or media_name(file)
    if track is None:
        with open_container(file, where) as (container, form, size):
            main = describe(container, form, size, file).main
        track = main.index if main is not None else None
    _, found = frame_indexes(file, None if track is None else [track], where)
    return next(iter(found.values()))
