"""The header of a JPEG XL picture: its size and channels, without decoding it.

Source: ISO/IEC 18181-1 annex D (SizeHeader, ImageMetadata), ISO/IEC 18181-2 (boxes of the container). Bits are read from the least significant on.
"""

from __future__ import annotations

from typing import NamedTuple

from dataengine.core.stream import Buffer

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"

_HEADER_BYTES = 512
_MAX_BOXES = 64
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_GREY = 1


class JxlHeader(NamedTuple):
    """Height and width in px, channels, and whether every box of the container is whole (a bare codestream has no mark at its end)."""

    height: int
    width: int
    channels: int
    complete: bool


class _Bits:
    """The bits of a codestream; reading past the end raises EOFError."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def pick(self, *choices: tuple[int, int]) -> int:
        """Read a U32: two bits choose (base, bits), the value is base plus that many bits."""
        base, bits = choices[self.take(2)]
        return base + self.take(bits)


def _side(bits: _Bits, by_eight: bool) -> int:
    return 8 * (1 + bits.take(5)) if by_eight else bits.pick((1, 9), (1, 13), (1, 18), (1, 30))


def _size(bits: _Bits) -> tuple[int, int]:
    by_eight = bool(bits.take(1))
    height = _side(bits, by_eight)
    ratio = bits.take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio]
        return height, height * numerator // denominator
    return height, _side(bits, by_eight)


def _preview(bits: _Bits) -> None:
    by_eight = bool(bits.take(1))

    def side() -> None:
        bits.pick((16, 0), (32, 0), (1, 5), (33, 9)) if by_eight else bits.pick((1, 6), (65, 8), (321, 10), (1345, 12))

    side()
    if not bits.take(3):
        side()


def _animation(bits: _Bits) -> None:
    bits.pick((100, 0), (1000, 0), (1, 10), (1, 30))
    bits.pick((1, 0), (1001, 0), (1, 8), (1, 10))
    bits.pick((0, 0), (0, 3), (0, 16), (0, 32))
    bits.take(1)


def _depth(bits: _Bits) -> None:
    if bits.take(1):
        bits.pick((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
    else:
        bits.pick((8, 0), (10, 0), (12, 0), (1, 6))


def _channels(bits: _Bits) -> int:
    """Return the channels that the metadata name; an extra channel with a description of its own ends the reading, and the colours count as three."""
    if bits.take(1):
        return 3
    if bits.take(1):
        bits.take(3)
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            _preview(bits)
        if bits.take(1):
            _animation(bits)
    _depth(bits)
    bits.take(1)
    extra = bits.pick((0, 0), (1, 0), (2, 4), (1, 12))
    for _ in range(extra):
        if not bits.take(1):
            return 3 + extra
    bits.take(1)
    if bits.take(1):
        return 3 + extra
    bits.take(1)
    return (1 if bits.pick((0, 0), (1, 0), (2, 4), (18, 6)) == _GREY else 3) + extra


def _codestream(data: Buffer) -> tuple[bytes, bool] | None:
    """Return the first bytes of the codestream in a container and whether all boxes are whole."""
    at, found, seen = 0, b"", 0
    while at + 8 <= len(data) and seen < _MAX_BOXES:
        size, kind, start = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8]), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = len(data) if size == 0 else at + size
        if end <= at:
            return None
        if kind in (b"jxlc", b"jxlp") and not found:
            start += 4 if kind == b"jxlp" else 0
            found = bytes(data[start : min(end, start + _HEADER_BYTES)])
        at, seen = end, seen + 1
    return (found, at == len(data)) if found.startswith(CODESTREAM) else None


def jxl_header(data: Buffer) -> JxlHeader | None:
    """Return what the header of a JPEG XL picture says, None where the bytes are none or the header is cut off."""
    start, complete = bytes(data[:_HEADER_BYTES]), True
    if start.startswith(CONTAINER):
        inside = _codestream(data)
        if inside is None:
            return None
        start, complete = inside
    if not start.startswith(CODESTREAM):
        return None
    bits = _Bits(start[2:])
    try:
        height, width = _size(bits)
        return JxlHeader(height, width, _channels(bits), complete)
    except EOFError:
        return None
