"""The lane of raw frames: encoded as video, each frame judged by its worst block, or kept exact where the policy says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import google_crc32c
import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import nominal_timestamps_ns
from dataengine.core.digest import new_digest
from dataengine.core.errors import BadRecording
from dataengine.core.stream import Frames
from dataengine.store import layout
from dataengine.store.arrays import FileLog, write_group
from dataengine.store.camera_motion import FrameMotion
from dataengine.store.exact_frames import ExactFramesLane, require_same_form
from dataengine.store.lanes import ClockArrays, LaneEpisode
from dataengine.store.media import index_bytes
from dataengine.video.container import MAX_PIXELS, MAX_SIDE_PX
from dataengine.video.encode import EncodeConfig, VideoWriter
from dataengine.video.fidelity import FidelityLost

SPOOL_BYTES = 8 << 20
UNTIMED_HZ = 30  # how fast frames without any clock play; nothing is derived from it


@dataclass(frozen=True)
class VideoPolicy:
    """How raw frames are stored: exact, or encoded, and what happens where the encoding loses something that matters."""

    lossless: bool = False
    crf: int = 20
    gop: int = 5
    on_loss: Literal["raise_quality", "lossless", "reject"] = "raise_quality"

    def encodes(self, frames: Frames) -> bool:
        """Return whether frames of this form become video: colour pictures of 8 bits that need not be kept exact."""
        pixels = frames.pixels
        colour = not self.lossless and not frames.exact and pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] == 3
        return colour and all(1 <= side <= MAX_SIDE_PX for side in pixels.shape[1:3]) and pixels.shape[1] * pixels.shape[2] <= MAX_PIXELS


class VideoLane:
    """Raw colour frames of one size, encoded into `videos/<camera>.mp4` of the shard.

    The digest is that of the raw pixels, so it does not depend on how they are stored. With the policy "lossless" the frames of the running episode wait
    in a scratch file until the gate has passed all of them; where it does not, they are kept exact instead.
    """

    form = "frames"

    def __init__(self, shard_folder: Path, name: str, stream: str, policy: VideoPolicy, first: Frames, scratch: Path) -> None:
        self.stream, self.policy = stream, policy
        self.folder, self.name = shard_folder / layout.ARRAYS / name, f"{layout.ARRAYS}/{name}"
        self.shape = first.pixels.shape[1:]
        self.video = f"{layout.VIDEOS}/{name}.mp4"
        self.path = shard_folder / self.video
        config = EncodeConfig(crf=policy.crf, gop=policy.gop, on_loss=policy.on_loss)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.writer = VideoWriter(self.path, self.shape[1], self.shape[0], config, f"stream {stream!r}")
        self.clocks = ClockArrays(self.folder, self.name)
        self.exact = ExactFramesLane(self.folder.with_name(f"{name}~exact"), f"{self.name}~exact", stream, first) if policy.on_loss == "lossless" else None
        self.spool = scratch / f"{name}.frames" if self.exact is not None else None
        self.first = 0
        self.begin()

    def begin(self) -> None:
        """Start an episode."""
        self._digest = new_digest()
        self._digest.update(f"uint8{list(self.shape)}".encode())
        self.rows = 0
        self._lost = False
        self.motion = FrameMotion()
        self.writer.abandon()
        self.writer.begin()
        if self.exact is not None and self.spool is not None:
            self.exact.begin()
            self.spool.parent.mkdir(parents=True, exist_ok=True)
            self.spool.write_bytes(b"")

    def add(self, frames: Frames, clocks: Mapping[str, Array]) -> None:
        """Add frames of the running episode."""
        require_same_form(self.stream, frames, self.shape, np.dtype(np.uint8))
        pixels = np.ascontiguousarray(frames.pixels)
        self._digest.update(pixels.reshape(-1).view(np.uint8).data)
        times = next((clocks[name] for name in ("stamp", "pts", "nominal", "log", *sorted(clocks)) if name in clocks), None)
        if times is None:
            times = nominal_timestamps_ns(self.rows + len(pixels), UNTIMED_HZ)[self.rows :]
        self.motion.add(self.rows, pixels, clocks)
        self.rows += len(pixels)
        if self.spool is not None and not self._lost:
            with open(self.spool, "ab") as handle:
                handle.write(pixels.reshape(-1).data)
        if self._lost and self.exact is not None:
            self.exact.add(frames, {})
        else:
            self._guarded(lambda: self.writer.add(pixels, times))

    def _guarded(self, encode: Callable[[], None]) -> None:
        """Encode; where the gate finds a loss that no quality mends, do what the policy says."""
        if self._lost:
            return
        try:
            encode()
        except FidelityLost as error:
            if self.exact is None:
                raise BadRecording(
                    error.where,
                    "every block of every frame kept by the encoding",
                    f"luma {error.worst.luma:.1f}, chroma {error.worst.chroma:.1f}, texture {error.worst.texture:.1f} in the worst, with CRF {error.tried}",
                    "ingest it with --lossless, or with `on_loss: lossless` in the config",
                    check="fidelity",
                ) from error
            self._lost = True
            for block in self._spooled():
                self.exact.add(Frames(block), {})
            self.writer.abandon()
            self.writer.begin()

    def _spooled(self) -> Iterator[Array]:
        """Yield all frames of the running episode so far, in blocks."""
        assert self.spool is not None
        frame_bytes = int(np.prod(self.shape))
        rows = max(1, SPOOL_BYTES // frame_bytes)
        with open(self.spool, "rb") as handle:
            while data := handle.read(rows * frame_bytes):
                yield np.frombuffer(data, dtype=np.uint8).reshape(-1, *self.shape)
        self.spool.write_bytes(b"")

    def end(self) -> LaneEpisode:
        """Say what the episode is, once every frame has passed the gate."""
        self._guarded(self.writer.settle)
        if self._lost and self.exact is not None:
            ended = self.exact.end()
            return LaneEpisode(ended.rows, self._digest.hexdigest(length=16), ended.index)
        index = {
            "kind": "video",
            "array": self.name,
            "row_start": self.clocks.rows,
            "row_end": self.clocks.rows + self.rows,
            "media": self.video,
            "track": 0,
            "first_frame": self.first,
            "frames": self.rows,
            "encoding": "h264",
            "lossy": True,
        }
        return LaneEpisode(self.rows, self._digest.hexdigest(length=16), index)

    def keep(self, clocks: Mapping[str, Array]) -> None:
        """Keep the episode, with the time arrays of its rows by name."""
        if self._lost and self.exact is not None:
            self.exact.keep(clocks)
            self.writer.abandon()
            return
        self.first += self.writer.commit().count
        self.clocks.add(self.rows, clocks)

    def abandon(self) -> None:
        """Take the running episode back."""
        self.writer.abandon()
        if self.exact is not None:
            self.exact.abandon()

    def close(self, log: FileLog) -> None:
        """Finish the video and its index, and write the time arrays."""
        index = self.writer.close()
        if index is not None:
            crc, size = 0, 0
            with open(self.path, "rb") as handle:
                while block := handle.read(4 << 20):
                    crc, size = google_crc32c.extend(crc, block), size + len(block)
            log.files[self.video] = (size, crc)
            key = layout.media_index_key(self.video)
            log.write(self.path.with_name(key.rsplit("/", 1)[-1]), index_bytes({0: index.as_columns()}, {"0": index.as_facts()}), key)
        self.clocks.close(log)
        write_group(self.folder, self.name, {"stream": self.stream, "form": "video"}, log)
        if self.exact is not None:
            self.exact.close(log)
        if self.spool is not None:
            self.spool.unlink(missing_ok=True)
