"""A strip of large black and white blocks that says which frame of which camera and episode a picture is, even after lossy coding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dataengine.core.arrays import Array

COLUMNS = 16
ROWS = 2
FRAME_BITS, CAMERA_BITS, CHECK_BITS, EPISODE_BITS = 12, 2, 2, 16


class Barcode(NamedTuple):
    """What the strip of a picture says: frame below 4096, camera below 4, episode below 65536."""

    frame: int
    camera: int
    episode: int


def _strip_height(height: int) -> int:
    return max(ROWS * 4, height // 10 // ROWS * ROWS)


def stamp(image: Array, code: Barcode) -> None:
    """Draw the code into the bottom rows of an (H, W) or (H, W, C) uint8 picture, in place."""
    check = (code.frame + code.camera + code.episode) % 4
    upper = (code.frame % 4096) << (CAMERA_BITS + CHECK_BITS) | (code.camera % 4) << CHECK_BITS | check
    height, width = image.shape[:2]
    tall = _strip_height(height)
    edges = np.arange(COLUMNS + 1) * width // COLUMNS
    for row, word in enumerate((upper, code.episode % 65536)):
        top = height - tall + row * tall // ROWS
        for column in range(COLUMNS):
            bit = word >> (COLUMNS - 1 - column) & 1
            image[top : top + tall // ROWS, edges[column] : edges[column + 1]] = 235 if bit else 20


def read_barcode(image: Array) -> Barcode | None:
    """Return the code of a decoded picture, None where the strip is damaged or absent."""
    grey = image if image.ndim == 2 else image.mean(axis=-1)
    height, width = grey.shape
    tall = _strip_height(height)
    edges = np.arange(COLUMNS + 1) * width // COLUMNS
    words = []
    for row in range(ROWS):
        top = height - tall + row * tall // ROWS
        word = 0
        for column in range(COLUMNS):
            level = float(grey[top : top + tall // ROWS, edges[column] : edges[column + 1]].mean())
            if 90 < level < 165:
                return None
            word = word << 1 | (level > 127)
        words.append(word)
    frame, camera, check = words[0] >> (CAMERA_BITS + CHECK_BITS), words[0] >> CHECK_BITS & 3, words[0] & 3
    if check != (frame + camera + words[1]) % 4:
        return None
    return Barcode(frame, camera, words[1])
