"""Real faces planted into video without any: what share of them is blurred, by size, and how much is blurred where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.column import Column
from dataengine.core.stream import Frames, Rows
from dataengine.privacy.audit import CameraAudit
from dataengine.privacy.cameras import Camera
from dataengine.privacy.config import FacesConfig
from dataengine.privacy.detector import open_detector
from dataengine.sources.listing import SourceOpener

Array = np.ndarray[Any, np.dtype[Any]]
COVERED = 0.9  # of a face's pixels must be changed for it to count as blurred


@dataclass(frozen=True, eq=False)
class Head:
    """A photograph of a head, (H, W, 3) uint8, and where in it the face is, from brow to chin: (top, bottom, left, right) in px."""

    pixels: Array
    face: tuple[int, int, int, int]


@dataclass(frozen=True)
class Figures:
    """What was measured over some clips: frames with a face and those whose face was blurred, share of all pixels of faces that was changed, and of all other pixels."""

    frames: int
    blurred: int
    face_share: float
    other_share: float

    @property
    def recall(self) -> float:
        """Return the share of the frames with a face whose face was blurred."""
        return self.blurred / max(1, self.frames)


def heads(people: int) -> list[Head]:
    """Return the astronaut of scikit-image in colour, and so many people of its excerpt of "Labeled Faces in the Wild" in grey (25 x 25 px each)."""
    from skimage import data

    found = [Head(data.astronaut()[10:195, 145:308], (68, 174, 28, 134))]
    small = data.lfw_subset()
    for place in np.linspace(0, 99, people).round().astype(int):
        grey = np.rint(small[place] * 255).astype(np.uint8)
        found.append(Head(np.repeat(grey[:, :, None], 3, axis=2), (5, 24, 4, 21)))
    return found


def planted(frames: Array, head: Head, face_px: int, gain: float = 1.0, speed_px: float = 1.5, start: tuple[float, float] = (0.3, 0.2)) -> tuple[Array, Array]:
    """Put a head into each frame, moving to the right.

    Args:
        frames: (N, H, W, 3) uint8.
        head: the photograph.
        face_px: width of the face in the picture.
        gain: brightness.
        speed_px: px a frame.
        start: where its middle is in the first frame, in parts of height and width.

    Returns:
        The frames, and (N, 4) int: top, bottom, left, right of the face in each.
    """
    import cv2

    top, bottom, left, right = head.face
    scale = face_px / (right - left)
    size = (max(8, round(head.pixels.shape[1] * scale)), max(8, round(head.pixels.shape[0] * scale)))
    photograph = cv2.resize(head.pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    photograph = np.clip(photograph.astype(np.float64) * gain, 0, 255)
    rows, columns = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    oval = np.clip((1.08 - np.hypot(rows, columns)) / 0.16, 0, 1)[:, :, None]
    out, places = np.array(frames), np.zeros((len(frames), 4), np.int64)
    height, width = frames.shape[1:3]
    for number, frame in enumerate(out):
        row = int(np.clip(start[0] * height - size[1] / 2, 0, height - size[1]))
        column = int(np.clip(start[1] * width - size[0] / 2 + speed_px * number, 0, width - size[0]))
        window = frame[row : row + size[1], column : column + size[0]]
        window[:] = np.rint(window * (1 - oval) + photograph * oval).astype(np.uint8)
        places[number] = row + top * scale, row + bottom * scale, column + left * scale, column + right * scale
    return out, places


def blurred_clip(frames: Array, config: FacesConfig, audit: CameraAudit | None = None) -> Array:
    """Return a clip as a camera's stream comes out of blurring."""
    column = Column("observation.images.clip", kind="image", dtype="uint8", shape=frames.shape[1:])
    camera = Camera(column.name, column, open_detector(config), config, audit or CameraAudit())
    times = np.arange(len(frames), dtype=np.int64) * 33_333_333
    nothing: SourceOpener = object.__new__(SourceOpener)
    done = [*camera.rows(Rows(column.name, Frames(frames), {"pts": times}), nothing), *camera.end()]
    assert np.array_equal(np.concatenate([rows.clocks["pts"] for rows in done]), times)
    return np.concatenate([rows.values.pixels for rows in done if isinstance(rows.values, Frames)])


def measure(clips: Sequence[tuple[Array, Array]], config: FacesConfig) -> Figures:
    """Blur clips of (frames, places of the face) and say how much of the faces, and of all else, was changed."""
    frames = blurred = 0
    face = face_changed = other = other_changed = 0
    for clip, places in clips:
        changed = (blurred_clip(clip, config) != clip).any(axis=3)
        for row, (top, bottom, left, right) in enumerate(places.tolist()):
            mine = changed[row, top:bottom, left:right]
            frames += 1
            blurred += bool(mine.mean() >= COVERED)
            face, face_changed = face + mine.size, face_changed + int(mine.sum())
            other, other_changed = other + changed[row].size - mine.size, other_changed + int(changed[row].sum() - mine.sum())
    return Figures(frames, blurred, face_changed / max(1, face), other_changed / max(1, other))


def false_share(frames: Array, config: FacesConfig) -> tuple[float, float]:
    """Return the share of frames, and of pixels, that are blurred in a clip without faces."""
    changed = (blurred_clip(frames, config) != frames).any(axis=3)
    return float(changed.any(axis=(1, 2)).mean()), float(changed.mean())
