"""Pictures in rows of one length: where a JPEG or PNG ends in a row that is filled up with zeros, and what to keep of it.

ACT-style recorders store compressed frames as a (T, longest) array of bytes. Some write `compress_len` (cameras, T) beside it, whose order of
cameras is nowhere written down: which of its rows belongs to a camera is found by what agrees with the pictures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from dataengine.core.arrays import Array

_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_PNG = b"\x89PNG\r\n\x1a\n"


def jpeg_end(data: bytes) -> int | None:
    """Return the length of the JPEG at the start of `data`, through its end marker; None where there is none.

    Segments are skipped by their length, so that a thumbnail's end is not taken for the picture's; between them the next marker is looked for in the
    coded data, where 0xFF is followed by 0x00 or a restart marker. Source: ITU-T T.81, B.1.1.
    """
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while True:
        found = _NEXT_MARKER.search(data, at)
        if found is None:
            return None
        marker, at = data[found.start() + 1], found.end()
        if marker == 0xD9:
            return at
        if marker in (0x01, 0xD8):
            continue
        if at + 2 > len(data):
            return None
        at += int.from_bytes(data[at : at + 2], "big")


def png_end(data: bytes) -> int | None:
    """Return the length of the PNG at the start of `data`, through its last chunk; None where there is none."""
    if data[:8] != _PNG:
        return None
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IEND":
            return end if end <= len(data) else None
        at = end
    return None


@dataclass
class Cutter:
    """Cuts the rows of one camera, in order; counts what was odd.

    `lengths` is the file's own (cameras, T) table of lengths, None where it has none.
    """

    lengths: Array | None = None
    row: int = 0
    empty: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    trailing: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.candidates = set() if self.lengths is None else set(range(len(self.lengths)))

    def _declared(self) -> dict[int, int]:
        """Return the length that each candidate row of the table declares for this frame."""
        if self.lengths is None or self.row >= self.lengths.shape[1]:
            return {}
        declared = {}
        for index in self.candidates:
            value = float(self.lengths[index, self.row])
            if np.isfinite(value) and 0 <= value < 2**53:
                declared[index] = int(value)
        return declared

    def cut(self, padded: bytes) -> bytes:
        """Return the picture at the start of a row: its own bytes, nothing of the padding."""
        declared = self._declared()
        content = padded.rstrip(b"\0")
        end = jpeg_end(padded) or png_end(padded)
        if not content:
            self.empty.append(self.row)
            kept = b""
        elif end is None:
            self.damaged.append(self.row)
            lengths = set(declared.values())
            # Only where the table leaves no doubt does it say how long a picture without an end is.
            length = lengths.pop() if len(lengths) == 1 else len(content)
            kept = padded[: max(length, len(content))]
        elif end < len(content) and end not in declared.values():
            # More bytes stand behind the picture, and nothing says that they are left-overs: they are kept.
            self.trailing.append(self.row)
            kept = content
        else:
            kept = padded[:end]
        if self.row not in self.damaged and declared:
            self.candidates = {index for index, length in declared.items() if length == len(kept)}
        self.row += 1
        return kept
