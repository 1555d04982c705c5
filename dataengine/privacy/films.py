"""Kept video under privacy: the file is written anew with its pictures only, and nothing else of it can reach the store.

The frames' own bytes and times stay as they are; sound, subtitles, telemetry tracks, covers and all metadata of the container are gone.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Opener
from dataengine.core.slices import media_source
from dataengine.core.stream import MediaFrames
from dataengine.video.container import fault, open_container
from dataengine.video.index import FrameIndex, frame_indexes
from dataengine.video.probe import MediaInfo

# A recording's cameras are written anew one after the other; a file that is asked for again later is written again.
KEPT_FILES = 4
_MUXERS = {"mp4": "mp4", "matroska": "matroska", "webm": "webm", "avi": "avi", "mpegts": "mpegts"}


@dataclass(frozen=True, eq=False)
class CleanFilm:
    """A video file written anew: where it lies, each track's number in it by its number in the original, its frame indexes, and what was left out."""

    path: Path
    tracks: Mapping[int, int]
    indexes: Mapping[int, FrameIndex]
    left_out: tuple[str, ...]


def film_tags(source: str | BinaryIO, where: str) -> dict[str, dict[str, str]]:
    """Return what the container says of the file and of each track, by "file" and "track <n>": it does not come along, but tells names that may stand elsewhere."""
    with open_container(source, where) as (container, _, _):
        tags = {"file": dict(container.metadata)} | {f"track {stream.index}": dict(stream.metadata) for stream in container.streams}
    return {place: {str(key): str(value) for key, value in found.items()} for place, found in tags.items()}


def _left_out(info: MediaInfo, kept: Sequence[int]) -> tuple[str, ...]:
    names = {"video": "video", "audio": "sound", "subtitle": "subtitles", "picture": "cover picture", "data": "data track"}
    found = [f"{names[track.kind]} ({track.codec or track.handler or 'unknown'})" for track in info.tracks if track.index not in kept]
    return (*found, "metadata of the container")


def clean_film(source: str | BinaryIO, tracks: Sequence[int], target: Path, where: str) -> CleanFilm:
    """Write a video file anew with some of its video tracks and nothing else.

    Args:
        source: the file: a path on this machine, or a seekable binary file.
        tracks: numbers of the tracks that are kept.
        target: the new file.
        where: what to call the file in messages.

    Raises:
        BadRecording: it is no such video, or its frames do not come out as they were.
    """
    import av

    info, before = frame_indexes(source, tracks, where)
    kept = sorted(before)
    try:
        with open_container(source, where) as (container, form, _):
            shown = {number: frozenset(index.pts.tolist()) for number, index in before.items()}
            options = {"fflags": "+bitexact"}
            if form == "mpegts":
                options |= {"muxdelay": "0", "muxpreload": "0", "mpegts_copyts": "1"}
            with av.open(str(target), "w", format=_MUXERS[form], options=options) as out:
                streams = {}
                for number in kept:
                    stream = out.add_stream_from_template(container.streams[number], opaque=True)
                    stream.time_base = container.streams[number].time_base
                    stream.metadata.clear()
                    streams[number] = stream
                for packet in container.demux([container.streams[number] for number in kept]):
                    if packet.pts is None and packet.dts is None and not packet.size:
                        continue
                    number = packet.stream_index
                    if packet.is_discard and packet.pts not in shown[number]:
                        continue  # an edit list cuts it away: it is no frame of the recording
                    packet.stream = streams[number]
                    out.mux(packet)
    except (av.FFmpegError, ValueError, OverflowError, MemoryError) as error:
        raise fault(where, error, "written anew without its metadata") from error
    _, after = frame_indexes(str(target), None, where)
    numbers = dict(zip(kept, sorted(after), strict=False))
    for number in kept:
        if number not in dict(numbers) or not _same_frames(source, before[number], str(target), after[numbers[number]]):
            raise BadRecording(
                f"{where}: track {number}",
                "the same frames at the same times after the file was written anew without its metadata",
                "others",
                "convert it to MP4 or MKV, or ingest it with --blur-faces, which decodes it",
                check="film_not_cleaned",
            )
    return CleanFilm(target, numbers, {numbers[number]: after[numbers[number]] for number in kept}, _left_out(info, kept))


def _same_frames(source: str | BinaryIO, before: FrameIndex, target: str, after: FrameIndex) -> bool:
    """Whether both hold the same frames in the same order: sizes, key flags, times from the first, and (where they lie in one piece) bytes."""
    if len(before) != len(after) or not np.array_equal(before.size, after.size) or not np.array_equal(before.key, after.key):
        return False
    if not np.array_equal(before.pts_ns - before.pts_ns[0], after.pts_ns - after.pts_ns[0]) or before.facts["extradata"] != after.facts["extradata"]:
        return False
    if before.facts["rotation_deg"] != after.facts["rotation_deg"] or not after.key[np.argmin(after.order)]:
        return False  # turned otherwise, or beginning with a picture that needs one that was cut away
    if not (before.facts["ranges"] and after.facts["ranges"]):
        return True
    one = open(source, "rb") if isinstance(source, str) else source
    try:
        with open(target, "rb") as other:
            return all(
                _piece(one, offset, size) == _piece(other, place, size)
                for offset, place, size in zip(before.offset.tolist(), after.offset.tolist(), before.size.tolist(), strict=True)
            )
    finally:
        if isinstance(source, str):
            one.close()


def _piece(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


class ProtectedFiles:
    """The files of an item as the store may see them: none but those that were written anew here.

    A film is named by its file, its bytes where it is a part of an archive, and its tracks ("a.mp4#0,1", "a.tar@512+9000#0"). It is made when a stream of it is read, and kept on the disk of this machine while it is one of the last few.
    """

    def __init__(self, files: Opener, scratch: Path) -> None:
        self._files, self._scratch = files, scratch
        self._films: OrderedDict[str, CleanFilm] = OrderedDict()
        self._made: dict[str, tuple[str, tuple[int, int] | None, tuple[int, ...]]] = {}

    def film(self, uri: str, tracks: Iterable[int], span: tuple[int, int] | None = None) -> tuple[str, CleanFilm]:
        """Return the name of a film of the source (or of the part `span` of a file) written anew with these tracks, and the film."""
        wanted = tuple(sorted(set(tracks)))
        part = "" if span is None else f"@{span[0]}+{span[1]}"
        name = f"{uri}{part}#{','.join(map(str, wanted))}"
        self._made[name] = (uri, span, wanted)
        return name, self._film(name)

    def _film(self, name: str) -> CleanFilm:
        if name in self._films:
            self._films.move_to_end(name)
            return self._films[name]
        uri, span, tracks = self._made[name]
        self._scratch.mkdir(parents=True, exist_ok=True)
        target = self._scratch / f"film-{uuid.uuid4().hex}"
        source = media_source(self._files, uri, span)
        try:
            film = clean_film(source, tracks, target, uri)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        finally:
            if not isinstance(source, str):
                source.close()
        self._films[name] = film
        while len(self._films) > KEPT_FILES:
            self._films.popitem(last=False)[1].path.unlink(missing_ok=True)
        return film

    def close(self) -> None:
        """Remove the films."""
        for film in self._films.values():
            film.path.unlink(missing_ok=True)
        self._films.clear()

    # -- what the store sees

    def open(self, path: str) -> BinaryIO:
        """Open a film as it was written anew; raise BadRecording for anything else."""
        if path not in self._made:
            raise BadRecording(path, "a file that was freed of what is private", "one that was not", "please report this", check="not_protected")
        return open(self._film(path).path, "rb")

    def local(self, path: str) -> str | None:
        """Return where a film lies that was written anew."""
        with self.open(path):
            return str(self._films[path].path)

    def read_bytes(self, path: str, limit: int = 64 << 20) -> bytes:
        """Return a whole film that was written anew; raise BadRecording when it is larger than `limit`."""
        with self.open(path) as handle:
            data = handle.read(limit + 1)
        if len(data) > limit:
            raise BadRecording(path, f"at most {limit} bytes", "more", check="too_large")
        return data


def cleaned(frames: MediaFrames, name: str, film: CleanFilm) -> MediaFrames:
    """Return the frames of a recording as those of the film that was written anew."""
    track = film.tracks[frames.track]
    index = film.indexes[track]
    columns: dict[str, Array] = index.as_columns()
    return MediaFrames(name, track, frames.first, frames.count, None, columns, index.as_facts())
