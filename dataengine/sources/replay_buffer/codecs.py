"""Undoing the codecs of Zarr chunks: those on an explicit list, each with an output whose size is known before anything is allocated.

What is not on the list is refused by name: `pickle`, `json2`, `msgpack2` and the `vlen-*` codecs hold objects, and unpickling would execute what was read.
Parameters of a codec come from the store; only those that decoding needs are looked at.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording, UsageError
from dataengine.core.pictures import picture_header

Config = Mapping[str, Any]

ADVICE = "make the copy again from the original"
_LZMA_MEMORY = 256 << 20
_PICTURE_CODECS = {"imagecodecs_jpegxl": "jxl", "imagecodecs_jpeg": "jpeg"}


def picture_encoding(codecs: Sequence[Config]) -> str | None:
    """Return the picture format ("jxl", "jpeg") of chunks that are nothing but an encoded picture, None for others."""
    return _PICTURE_CODECS.get(str(codecs[0].get("id"))) if len(codecs) == 1 else None


def _wrong_size(where: str, size: int, found: object) -> BadRecording:
    return BadRecording(where, f"a chunk of {size} bytes, as its array says", f"{found}", ADVICE, check="chunk_size")


def _blosc(data: bytes, size: int, config: Config, where: str) -> bytes:
    from numcodecs import blosc

    if len(data) < 16 or int.from_bytes(data[4:8], "little") != size:
        raise _wrong_size(where, size, f"one of {int.from_bytes(data[4:8], 'little')} bytes")
    packed = int.from_bytes(data[12:16], "little")
    if packed != len(data):
        raise BadRecording(where, f"{packed} packed bytes, as the chunk says of itself", f"{len(data)}", ADVICE, check="chunk_size")
    return bytes(blosc.decompress(data))


def _zstd_size(data: bytes) -> int | None:
    """Return the size that a Zstandard frame declares, None where it does not (RFC 8878 §3.1.1)."""
    if data[:4] != b"\x28\xb5\x2f\xfd" or len(data) < 6:
        return None
    flags = data[4]
    single = flags >> 5 & 1
    length = (1 if single else 0, 2, 4, 8)[flags >> 6]
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    if not length or len(data) < at + length:
        return None
    return int.from_bytes(data[at : at + length], "little") + (256 if length == 2 else 0)


def _zstd(data: bytes, size: int, config: Config, where: str) -> bytes:
    from numcodecs import zstd

    if _zstd_size(data) != size:
        raise _wrong_size(where, size, f"a Zstandard frame that declares {_zstd_size(data)}")
    return bytes(zstd.decompress(data))


def _lz4(data: bytes, size: int, config: Config, where: str) -> bytes:
    from numcodecs import lz4

    if len(data) < 4 or int.from_bytes(data[:4], "little") != size:
        raise _wrong_size(where, size, f"one of {int.from_bytes(data[:4], 'little')}")
    return bytes(lz4.decompress(data))


def _zlib(data: bytes, size: int, config: Config, where: str) -> bytes:
    return zlib.decompressobj(47).decompress(data, size + 1)  # 47: with the head of zlib or of gzip


def _bz2(data: bytes, size: int, config: Config, where: str) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, size + 1)


def _lzma(data: bytes, size: int, config: Config, where: str) -> bytes:
    return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(data, size + 1)


def _shuffle(data: bytes, size: int, config: Config, where: str) -> bytes:
    width = config.get("elementsize", 4)
    if not isinstance(width, int) or not 1 <= width <= 64 or size % width:
        raise BadRecording(where, "a shuffle of elements that fill the chunk", f"elementsize {width!r}", ADVICE, check="codec")
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(width, -1).T).tobytes()


def _delta(data: bytes, size: int, config: Config, where: str) -> bytes:
    kind = np.dtype(str(config.get("dtype")))
    stored = np.dtype(str(config.get("astype", config.get("dtype"))))
    if kind.kind not in "iu" or stored != kind:
        raise BadRecording(where, "differences of integers of one type", f"{stored} for {kind}", ADVICE, check="codec")
    return np.cumsum(np.frombuffer(data, stored), dtype=kind).tobytes()


def _crc32c(data: bytes, size: int, config: Config, where: str) -> bytes:
    import google_crc32c

    if google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise BadRecording(where, "the checksum that stands behind the chunk", "another", ADVICE, check="checksum")
    return data[:-4]


def _picture(data: bytes, size: int, config: Config, where: str) -> bytes:
    try:
        import imagecodecs
    except ImportError:
        advice = "pip install 'robot-dataengine[umi]'"
        raise UsageError(f"{where}: chunks that hold several pictures are decoded by imagecodecs, which is not installed: {advice}") from None
    header = picture_header(data)
    pixels = header.height * header.width * header.channels if header is not None else 0
    if header is None or not pixels or size % pixels:
        raise _wrong_size(where, size, f"a picture of {header.height} x {header.width} x {header.channels}" if header else "no picture")
    shape = (header.height, header.width, header.channels)[: 3 if header.channels > 1 else 2]
    out = np.empty((size // pixels, *shape)[size == pixels :], np.uint8)  # given, so that nothing else is allocated
    decode: Callable[..., Array] = imagecodecs.jpegxl_decode if header.encoding == "jxl" else imagecodecs.jpeg_decode
    decode(data, out=out)
    return out.tobytes()


@dataclass(frozen=True)
class _Codec:
    """How a codec is undone, and how many bytes it adds to what it holds (None: it packs)."""

    undo: Callable[[bytes, int, Config, str], bytes]
    adds: int | None = None


CODECS: dict[str, _Codec] = {
    "blosc": _Codec(_blosc),
    "zstd": _Codec(_zstd),
    "lz4": _Codec(_lz4),
    "zlib": _Codec(_zlib),
    "gzip": _Codec(_zlib),
    "bz2": _Codec(_bz2),
    "lzma": _Codec(_lzma),
    "shuffle": _Codec(_shuffle, 0),
    "delta": _Codec(_delta, 0),
    "crc32c": _Codec(_crc32c, 4),
    "imagecodecs_jpegxl": _Codec(_picture),
    "imagecodecs_jpeg": _Codec(_picture),
}


def require_known(codecs: Sequence[Config], where: str) -> None:
    """Raise BadRecording for a codec that is not on the list."""
    for codec in codecs:
        name = str(codec.get("id"))
        if name not in CODECS:
            raise BadRecording(
                where, f"one of the codecs {', '.join(CODECS)}", f"{name[:100]!r}", "write the array again with one of these", check="unknown_codec"
            )


def decode(data: bytes, codecs: Sequence[Config], size: int, where: str) -> bytes:
    """Undo codecs, the last one that was applied first.

    Args:
        data: a chunk as stored.
        codecs: in the order in which they were applied; all of them known.
        size: of the chunk's numbers, in bytes.
        where: what to call the chunk in messages.

    Raises:
        BadRecording: it is damaged, or holds another number of bytes.
    """
    sizes = [size]
    for codec in codecs[:-1]:
        adds = CODECS[str(codec["id"])].adds
        if adds is None:
            raise BadRecording(where, "at most one codec that packs, the last one", f"{codec['id']!r} before it", ADVICE, check="unknown_codec")
        sizes.append(sizes[-1] + adds)
    for codec, wanted in zip(reversed(codecs), reversed(sizes), strict=True) if codecs else ():
        try:
            data = CODECS[str(codec["id"])].undo(data, wanted, codec, where)
        except (ValueError, TypeError, RuntimeError, OSError, EOFError, MemoryError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, MemoryError) and wanted > 1 << 20:
                raise
            reason = str(error)[:200] or type(error).__name__
            raise BadRecording(where, f"a chunk packed by {codec['id']}", f"a damaged one ({reason})", ADVICE, check="damaged_chunk") from error
        if len(data) != wanted:
            raise _wrong_size(where, wanted, f"{len(data)} or more")
    if len(data) != size:
        raise _wrong_size(where, size, len(data))
    return data
