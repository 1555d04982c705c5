"""Read what a reader finds in a folder, and put it on one clock: as a job does, in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataengine.align.align import align
from dataengine.align.config import AlignConfig
from dataengine.align.control import AlignInput
from dataengine.core.column import Column
from dataengine.core.episode import Episode, Noticed, Rejected, episodes_of
from dataengine.core.protocols import Found, Reader, ReadOptions
from dataengine.core.stream import MediaFrames
from dataengine.core.trajectory import Trajectory
from dataengine.sources.listing import list_source
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex


def find(reader: Reader, folder: Path) -> Found:
    """Return what a reader claims of a folder."""
    return reader.find(list_source(str(folder)))


def read_all(reader: Reader, folder: Path, **options: Any) -> list[Episode | Rejected | Noticed]:
    """Return everything that a reader makes of a folder, item by item; BadRecording goes up."""
    listing = list_source(str(folder))
    return [event for item in reader.find(listing).items for event in episodes_of(reader.read(item, listing.opener, ReadOptions(**options)))]


def episodes(reader: Reader, folder: Path, **options: Any) -> list[Episode]:
    """Return the episodes of a folder in which nothing else is noticed."""
    found = []
    for event in read_all(reader, folder, **options):
        assert isinstance(event, Episode), event
        found.append(event)
    return found


def checks(episode: Episode) -> list[str]:
    """Return the names of an episode's problems."""
    return [problem.check for problem in episode.info.problems]


def trajectory(episode: Episode) -> Trajectory:
    """Return an episode on its control clock."""
    inputs = {}
    for name, stream in episode.streams.items():
        column: Column = stream.column
        values = stream.values if not isinstance(stream.values, MediaFrames) and hasattr(stream.values, "dtype") else len(stream.values)
        inputs[name] = AlignInput(column, stream.timestamps_ns, values)
    return align(episode.info, inputs, AlignConfig())


def decoded(folder: Path, episode: Episode, stream: str, rows: list[int]) -> list[Any]:
    """Return pictures of a kept video, by rows of its stream."""
    frames = episode.streams[stream].values
    assert isinstance(frames, MediaFrames)
    assert frames.index is not None
    index = FrameIndex.from_columns(frames.index, frames.facts)
    with FrameReader(folder / frames.uri, index) as reader:
        return list(reader.read([frames.first + row for row in rows]))
