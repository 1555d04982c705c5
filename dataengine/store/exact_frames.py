"""The lane of raw pictures that are kept exact: PNG where PNG can hold them, plain numbers otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.digest import new_digest
from dataengine.core.errors import BadRecording
from dataengine.core.stream import Frames, Items
from dataengine.store.arrays import FileLog
from dataengine.store.camera_motion import FrameMotion
from dataengine.store.lanes import ItemsLane, LaneEpisode, NumericLane

PNG_LEVEL = 1  # levels above 1 cost several times the time for a few per cent of the bytes


def png_can_hold(pixels: Array) -> bool:
    """Return whether PNG keeps these pictures exact: 8 bits with 1, 3 or 4 channels, 16 bits with one."""
    channels = pixels.shape[3] if pixels.ndim == 4 else 1
    return 0 not in pixels.shape[1:3] and ((pixels.dtype == np.uint8 and channels in (1, 3, 4)) or (pixels.dtype == np.uint16 and channels == 1))


def encode_png(picture: Array) -> bytes:
    """Return one picture (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA as PNG."""
    import cv2

    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    elif picture.ndim == 3:
        picture = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture), [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} and dtype {picture.dtype} cannot be encoded as PNG")
    return bytes(data.data)


def require_same_form(stream: str, frames: Frames, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise BadRecording (`layout_changes`) for pictures of another size or dtype than the first of their episode."""
    if frames.pixels.shape[1:] != shape or frames.pixels.dtype != dtype:
        raise BadRecording(
            f"stream {stream!r}",
            f"pictures of {list(shape)} {dtype.name} as in the rows before",
            f"{list(frames.pixels.shape[1:])} {frames.pixels.dtype.name}",
            "split the recording where its pictures change",
            check="layout_changes",
        )


class ExactFramesLane:
    """Raw pictures, (n, H, W) or (n, H, W, C), kept exact. The digest is that of the raw pixels, so it does not depend on how they are stored."""

    form = "frames"

    def __init__(self, folder: Path, name: str, stream: str, first: Frames) -> None:
        self.stream = stream
        self.shape = first.pixels.shape[1:]
        self.dtype = first.pixels.dtype
        self.png = png_can_hold(first.pixels)
        self.lane: ItemsLane | NumericLane = ItemsLane(folder, name, stream) if self.png else NumericLane(folder, name, stream, self.dtype, self.shape)
        self.begin()

    def begin(self) -> None:
        """Start an episode."""
        self.lane.begin()
        self.motion = FrameMotion()
        if isinstance(self.lane, NumericLane):
            self.lane.steppable = False
        self._digest = new_digest()
        self._digest.update(f"{self.dtype.name}{list(self.shape)}".encode())

    @property
    def rows(self) -> int:
        """Return the rows of the running episode."""
        return self.lane.rows

    def add(self, frames: Frames, clocks: Mapping[str, Array]) -> None:
        """Add pictures of the running episode."""
        require_same_form(self.stream, frames, self.shape, self.dtype)
        pixels = np.ascontiguousarray(frames.pixels)
        if not frames.exact:
            self.motion.add(self.rows, pixels, clocks)
        self._digest.update(pixels.reshape(-1).view(np.uint8).data)
        if isinstance(self.lane, ItemsLane):
            self.lane.add(Items([encode_png(picture) for picture in pixels], "png"))
        else:
            self.lane.add(pixels)

    def end(self) -> LaneEpisode:
        """Say what the episode is."""
        ended = self.lane.end()
        return LaneEpisode(ended.rows, self._digest.hexdigest(length=16), ended.index, None)

    def keep(self, clocks: Mapping[str, Array]) -> None:
        """Keep the episode, with the time arrays of its rows by name."""
        self.lane.keep(clocks)

    def abandon(self) -> None:
        """Take the running episode back."""
        self.lane.abandon()

    def close(self, log: FileLog) -> None:
        """Write what is buffered and the metadata."""
        self.lane.close(log)
