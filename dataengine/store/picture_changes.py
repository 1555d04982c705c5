"""How the pictures of each camera of an episode change, measured once for all who ask while it lands."""

from __future__ import annotations

from collections.abc import Sequence

from dataengine.align.offset import BodyMotion, ImageMotion
from dataengine.core.arrays import Array
from dataengine.core.protocols import Opener
from dataengine.store.camera_motion import PNG_COST, items_motion, media_motion
from dataengine.store.exact_frames import ExactFramesLane
from dataengine.store.lanes import ItemsLane
from dataengine.store.media_lane import MediaLane
from dataengine.store.shard import RunningEpisode
from dataengine.store.video_lane import VideoLane


class PictureChanges:
    """The changes of an episode that has ended, by camera; encoded pictures are decoded for the first who asks, and kept for the next."""

    def __init__(self, running: RunningEpisode, files: Opener | None) -> None:
        self._running, self._files = running, files
        self._decoded: dict[str, ImageMotion | None] = {}

    def at_hand(self, name: str) -> bool:
        """Whether the pictures of a camera were looked at already: nothing need be decoded."""
        return name in self._decoded or isinstance(self._running.lanes[name], VideoLane | ExactFramesLane)

    def motion(self, name: str, times_ns: Array, motions: Sequence[BodyMotion]) -> ImageMotion | None:
        """Return how the pictures of a camera change, None where that cannot be said.

        Args:
            name: the camera's stream.
            times_ns: (N,) the times of its rows.
            motions: what moved, to choose where to look in a long recording.
        """
        lane = self._running.lanes[name]
        if isinstance(lane, VideoLane | ExactFramesLane):
            return lane.motion.motion(times_ns, motions)
        if name not in self._decoded:
            self._decoded[name] = self._decode(name, times_ns, motions)
        return self._decoded[name]

    def _decode(self, name: str, times_ns: Array, motions: Sequence[BodyMotion]) -> ImageMotion | None:
        lane, ended = self._running.lanes[name], self._running.streams[name]
        if isinstance(lane, MediaLane):
            return media_motion(lane.frames, self._files, times_ns, motions) if lane.frames is not None and self._files is not None else None
        if isinstance(lane, ItemsLane) and ended.pictures is not None:
            mean_bytes = lane.total_bytes // max(1, ended.rows) * (PNG_COST if ended.index["encoding"] == "png" else 1)
            return items_motion(lane.pictures, ended.pictures.size, mean_bytes, times_ns, motions)
        return None
