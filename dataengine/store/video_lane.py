"""The lane of raw frames: encoded as video, gated on the worst block, or kept exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class VideoPolicy:
    """How raw frames are stored: exact, or encoded, and what happens where the encoding loses something that matters."""

    lossless: bool = False
    crf: int = 20
    gop: int = 5
    on_loss: Literal["raise_quality", "lossless", "reject"] = "raise_quality"
