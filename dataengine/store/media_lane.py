"""The lane of a stream whose frames are those of a kept video file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataengine.core.arrays import Array
from dataengine.core.digest import digest_json
from dataengine.core.errors import BadRecording
from dataengine.core.objects import Objects
from dataengine.core.protocols import Opener
from dataengine.core.stream import MediaFrames
from dataengine.store import layout
from dataengine.store.arrays import FileLog, write_group
from dataengine.store.lanes import ClockArrays, LaneEpisode
from dataengine.store.media import KeptFile, index_bytes, put_media


class KeptFiles:
    """The files that a shard has put into `media/`, so that several streams and episodes of one file copy it once."""

    def __init__(self, objects: Objects, scratch: Path) -> None:
        self.objects, self.scratch = objects, scratch
        self.files: Opener | None = None
        self.written_bytes = 0
        self._kept: dict[tuple[str, tuple[int, int] | None], KeptFile] = {}
        self._tracks: dict[str, dict[int, Mapping[str, Array]]] = {}
        self._facts: dict[str, dict[str, Any]] = {}

    def open_item(self, files: Opener) -> None:
        """Read the files of another item from now on."""
        self.files, self._kept = files, {}

    def put(self, values: MediaFrames) -> KeptFile:
        """Put the file of a stream into the store, once, and remember the index of the stream's track."""
        assert self.files is not None
        place = values.uri, values.span
        if place not in self._kept:
            ending = values.uri.rsplit("/", 1)[-1].rpartition(".")[2].lower()
            extension = str(values.facts.get("extension") or (ending if re.fullmatch(r"[a-z0-9]{1,5}", ending) else "bin"))
            self._kept[place] = put_media(self.objects, self.files, values.uri, extension, self.scratch, values.span)
            self.written_bytes += self._kept[place].size if self._kept[place].written else 0
        kept = self._kept[place]
        if values.index is not None:
            self._tracks.setdefault(kept.key, {})[values.track] = values.index
            self._facts.setdefault(kept.key, {})[str(values.track)] = dict(values.facts)
        return kept

    def write_indexes(self) -> None:
        """Write the frame index beside each file that has none yet."""
        for key, tracks in self._tracks.items():
            if self.objects.head(layout.media_index_key(key)) is None:
                self.objects.put(layout.media_index_key(key), index_bytes(tracks, self._facts[key]))


class MediaLane:
    """Frames of kept video: one piece an episode, addressed by file, track, first frame and count."""

    form = "media"

    def __init__(self, kept: KeptFiles, folder: Path, name: str, stream: str) -> None:
        self.kept, self.folder, self.name, self.stream = kept, folder, name, stream
        self.clocks = ClockArrays(folder, name)
        self.begin()

    def begin(self) -> None:
        """Start an episode."""
        self._frames: MediaFrames | None = None
        self._file: KeptFile | None = None

    @property
    def rows(self) -> int:
        """Return the rows of the running episode."""
        return len(self._frames) if self._frames is not None else 0

    @property
    def size(self) -> int:
        """Return the bytes of the running episode's file."""
        return self._file.size if self._file is not None else 0

    def add(self, values: MediaFrames) -> None:
        """Add the frames of the running episode: one call."""
        if self._frames is not None:
            raise BadRecording(f"stream {self.stream!r}", "one piece of kept video an episode", "several", check="layout_changes")
        self._file = self.kept.put(values)
        self._frames = values

    @property
    def frames(self) -> MediaFrames | None:
        """Return the frames of the running episode."""
        return self._frames

    def end(self) -> LaneEpisode:
        """Say what the episode is: its digest is that of the file's bytes and of which frames of them."""
        assert self._frames is not None
        assert self._file is not None
        frames = self._frames
        index = {
            "kind": "media",
            "array": self.name,
            "row_start": self.clocks.rows,
            "row_end": self.clocks.rows + frames.count,
            "media": self._file.key,
            "track": frames.track,
            "first_frame": frames.first,
            "frames": frames.count,
            "encoding": frames.facts.get("codec"),
            "lossy": False,
        }
        return LaneEpisode(frames.count, digest_json([self._file.digest, frames.track, frames.first, frames.count]), index)

    def keep(self, clocks: Mapping[str, Array]) -> None:
        """Keep the episode, with the time arrays of its rows by name."""
        self.clocks.add(self.rows, clocks)

    def abandon(self) -> None:
        """Take the running episode back; its file stays for `gc`, since another writer may point to the same bytes by now."""

    def close(self, log: FileLog) -> None:
        """Write the time arrays."""
        self.clocks.close(log)
        write_group(self.folder, self.name, {"stream": self.stream, "form": "media"}, log)
