"""Compressed parts of a recording, unpacked: sizes bounded before they are allocated, and never more than was promised."""

from __future__ import annotations

from collections.abc import Callable

from dataengine.core.errors import BadRecording
from dataengine.core.stream import Buffer

# Nothing in a file may make us hold more than this at once; recorders write chunks of 1 to 16 MiB.
MAX_RECORD_BYTES = 256 << 20
# A file may not unpack to more than this many times its size, beyond the first GiB: no sensor compresses so well.
MAX_RATIO = 2000
FREE_BYTES = 1 << 30
MAX_WINDOW_BYTES = 1 << 27


class Allowance:
    """How much the parts of a file may still unpack to."""

    def __init__(self, file_size: int) -> None:
        self._left = FREE_BYTES + MAX_RATIO * file_size

    def take(self, size: int, where: str, what: str = "chunk") -> None:
        """Note that a part of `size` bytes is about to be unpacked; raise BadRecording where it, or all of them, are too large."""
        if size > MAX_RECORD_BYTES:
            raise BadRecording(where, f"a {what} of at most {MAX_RECORD_BYTES} bytes", f"{size}", f"record it with smaller {what}s", check=f"{what}_too_large")
        self._left -= size
        if self._left < 0:
            raise BadRecording(
                where, f"{what}s that unpack to at most {MAX_RATIO} times the file", "more", "check where the file comes from", check="unpacks_too_large"
            )


class Zstd:
    """Unpacks zstd frames, with one context for all of them."""

    def __init__(self) -> None:
        self._decompress: Callable[..., bytes] | None = None

    def unpack(self, packed: Buffer, size: int | None, where: str, limit: int = MAX_RECORD_BYTES) -> bytes:
        """Return the content of a frame; `size` is what was promised, None for what the frame itself says (at most `limit`)."""
        import zstandard

        try:
            declared = zstandard.frame_content_size(packed)
            if size is not None and declared >= 0 and declared != size:
                raise BadRecording(where, f"a zstd frame of {size} bytes", f"one of {declared}", "restore the file from a copy", check="bad_chunk")
            if declared > limit:
                raise BadRecording(where, f"a zstd frame of at most {limit} bytes", f"one of {declared}", "restore the file from a copy", check="bad_chunk")
            if self._decompress is None:
                self._decompress = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompress
            if size is None:
                return self._decompress(packed, max_output_size=limit) if declared < 0 else self._decompress(packed)
            return self._decompress(packed, max_output_size=size) if size else b""
        except (zstandard.ZstdError, MemoryError) as error:
            raise BadRecording(where, "a readable zstd frame", str(error), "restore the file from a copy", check="bad_chunk") from error


def unpack_lz4(packed: Buffer, size: int, where: str, *, whole: bool = False) -> bytes:
    """Return the content of an lz4 frame, at most one byte more than `size` (so that a frame that goes on shows); `whole`: it must end where the bytes end."""
    from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

    try:
        frame = LZ4FrameDecompressor()
        found = bytes(frame.decompress(packed, max_length=size + 1))
        if whole and len(found) <= size and (not frame.eof or frame.unused_data):
            raise ValueError("the frame does not end where its bytes end")
        return found
    except (RuntimeError, EOFError, MemoryError, ValueError) as error:
        raise BadRecording(where, "a readable lz4 frame", str(error), "restore the file from a copy", check="bad_chunk") from error


def unpack_bz2(packed: Buffer, size: int, where: str) -> bytes:
    """Return the content of a bz2 stream that ends where its bytes end, at most one byte more than `size` (so that a stream that goes on shows)."""
    from bz2 import BZ2Decompressor

    try:
        stream = BZ2Decompressor()
        found = stream.decompress(packed, max_length=size + 1)
        if len(found) <= size and (not stream.eof or stream.unused_data):
            raise ValueError("the stream does not end where its bytes end")
        return found
    except (OSError, EOFError, MemoryError, ValueError) as error:
        raise BadRecording(where, "a readable bz2 stream", str(error), "restore the file from a copy", check="bad_chunk") from error


def unpack_start(compression: str, packed: Buffer, size: int, where: str) -> bytes:
    """Return what can be unpacked of a block ("none", "bz2" or "lz4") whose end is missing, at most `size` bytes."""
    from bz2 import BZ2Decompressor

    from lz4.frame import LZ4FrameDecompressor

    if compression == "none":
        return bytes(packed[:size])
    try:
        return bytes((BZ2Decompressor() if compression == "bz2" else LZ4FrameDecompressor()).decompress(packed, max_length=size)) if size else b""
    except (RuntimeError, OSError, EOFError, MemoryError, ValueError) as error:
        raise BadRecording(where, f"the start of a {compression} block", str(error), "restore the file from a copy", check="bad_chunk") from error
