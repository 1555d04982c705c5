"""The telemetry track of a GoPro MP4, beside whatever a reader keeps of its pictures: only the samples of that track are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, assemble
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.protocols import Opener
from dataengine.core.slices import open_slice
from dataengine.core.stream import Items, Rows
from dataengine.sources.cut_video import SideStream
from dataengine.sources.gopro import klv
from dataengine.sources.gopro.sensors import PAYLOADS, Payload, Sensors
from dataengine.video.data_tracks import data_tracks, user_data
from dataengine.video.probe import MediaInfo

ENTRY = b"gpmd"
MAX_PAYLOAD_BYTES = 32 << 20
MAX_SETTINGS_BYTES = 1 << 20


def may_have_telemetry(info: MediaInfo) -> bool:
    """Return whether a file can hold a telemetry track: an MP4 with a track that is neither picture nor sound."""
    return info.format == "mp4" and any(track.kind == "data" for track in info.tracks)


class Telemetry:
    """The telemetry of one video file.

    Use: yield from `rows()`, then give `added_to(info)` on instead of the reader's own end of the episode; a file without telemetry adds nothing. The streams' times are on the container's clock, as those of its frames.

    Args:
        files: access to the item's files.
        path: the video's path below the source's root.
        span: (first byte, bytes) of a video inside that file.
    """

    def __init__(self, files: Opener, path: str, span: tuple[int, int] | None = None) -> None:
        self._files, self._path, self._span = files, path, span
        self.columns: dict[str, Column] = {}
        self.stream_clocks: dict[str, str] = {}
        self.metadata: dict[str, Any] = {}
        self.problems: list[Problem] = []

    def rows(self) -> Iterator[Rows]:
        """Yield the rows of all telemetry streams; what is damaged becomes a problem, and never costs the video."""
        with open_slice(self._files, self._path, self._span) as file:
            try:
                tracks = data_tracks(file, frozenset([ENTRY]), self._path)
                settings = user_data(file, {b"GPMF": MAX_SETTINGS_BYTES}).get(b"GPMF")
            except BadRecording as error:
                self._note("telemetry_not_read", f"the telemetry track is not read: {error}", "the bytes are kept with the video")
                return
            for track in tracks[1:]:
                self._note("telemetry_not_read", f"track {track.number} is a second telemetry track of {len(track)} payloads; it is not laid out")
            if settings is not None:
                self._settings(settings)
            if not tracks:
                return
            sensors = Sensors(self._path)
            track = tracks[0]
            if not len(track):
                self._note("telemetry_not_read", "the telemetry track lists no payload (as in a fragmented file); it is not laid out")
                return
            if int(np.max(track.size)) > MAX_PAYLOAD_BYTES:
                self._note("telemetry_not_read", f"a telemetry payload should have at most {MAX_PAYLOAD_BYTES} bytes, found {int(np.max(track.size))}")
                return
            for start_ns, end_ns, offset, size in zip(*(values.tolist() for values in (track.start_ns, track.end_ns, track.offset, track.size)), strict=True):
                file.seek(offset)
                yield from sensors.add(Payload(file.read(size), start_ns, end_ns))
            yield from sensors.flush()
        self.columns = sensors.columns()
        self.stream_clocks = {PAYLOADS: "payload", **{name: clock for name in sensors.names() if (clock := sensors.clock_of(name)) is not None}}
        self.metadata = {"gopro": {**self.metadata.get("gopro", {}), **sensors.metadata(), "handler": track.handler}}
        self.problems += sensors.problems()

    def sides(self) -> list[SideStream]:
        """Return all telemetry in memory (an hour takes some 30 MB), for a reader that cuts it with its video."""
        rows = list(self.rows())
        episode = assemble(rows, EpisodeInfo("", self.columns, "measured", stream_clocks=self.stream_clocks))
        found = []
        for name, stream in episode.streams.items():
            assert isinstance(stream.values, np.ndarray | Items)
            found.append(SideStream(stream.column, stream.values, stream.clocks, self.stream_clocks.get(name)))
        return found

    def added_to(self, info: EpisodeInfo) -> EpisodeInfo:
        """Return the end of an episode with what the telemetry adds to it."""
        if not (self.columns or self.metadata or self.problems):
            return info
        return replace(
            info,
            columns={**info.columns, **self.columns},
            stream_clocks={**info.stream_clocks, **self.stream_clocks},
            metadata={**info.metadata, **self.metadata},
            problems=(*info.problems, *self.problems),
        )

    def _settings(self, data: bytes) -> None:
        """Keep what the camera was set to, which stands in the header of the file."""
        try:
            devices = klv.parse(data, f"{self._path}: GPMF settings")
        except BadRecording as error:
            self._note("telemetry_not_read", f"the camera's settings in the header are damaged: {error}", "the bytes are kept with the video")
            return
        self.metadata = {"gopro": {"settings": [klv.plain(device) for device in devices]}}

    def _note(self, check: str, message: str, advice: str = "") -> None:
        self.problems.append(Problem(check, f"{self._path}: {message}", self._path, "warning", advice=advice))
