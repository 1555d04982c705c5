"""Read an NPZ that nobody vouches for: a zip of `.npy` members, each looked at before it is read, and none of them ever unpickled.

Source: numpy's description of the NPY format (magic, version, length, and a Python literal of three keys), parsed here without numpy's loader.
"""

from __future__ import annotations

import ast
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording, printable
from dataengine.core.problem import Problem

MAGIC = b"\x93NUMPY"
MAX_MEMBERS = 1000
MAX_HEADER_BYTES = 10_000
MAX_MEMBER_BYTES = 512 << 20
MAX_ARCHIVE_BYTES = 1 << 30
MAX_RATIO = 1032  # the most that deflate can expand
MAX_RANK = 9
ADVICE = "make the copy again from the original"
OBJECTS = "object arrays are pickles, which are never executed: save numbers and texts as arrays of their own"


@dataclass(frozen=True)
class Member:
    """One array of an archive: its name, dtype, shape, and whether it is stored column by column."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool


def _header(handle: BinaryIO, where: str, name: str, size: int) -> Member:
    """Return what the header of a member says, held against its size."""
    start = handle.read(8)
    if start[:6] != MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
        raise BadRecording(where, "a NumPy array", f"bytes that start with {start[:8]!r}", ADVICE, check="damaged_npz")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(handle.read(width), "little")
    if length > MAX_HEADER_BYTES:
        raise BadRecording(where, f"a header of at most {MAX_HEADER_BYTES} bytes", str(length), ADVICE, check="damaged_npz")
    text = handle.read(length).decode("latin-1")
    try:
        if "\\" in text:
            raise ValueError("an escape")
        said = ast.literal_eval(text.strip())
        descr, fortran, shape = said["descr"], said["fortran_order"], said["shape"]
        if not isinstance(descr, str) or not isinstance(fortran, bool) or not isinstance(shape, tuple):
            raise ValueError("a structured array" if isinstance(descr, list) else "odd values")
        if not re.fullmatch(r"[<>|=]?[a-zA-Z?]\d{0,4}(\[[a-zA-Z0-9]{1,6}\])?", descr):
            raise ValueError(f"the type {descr!r}")
        dtype = np.dtype(descr)
        plain = all(isinstance(part, int) and not isinstance(part, bool) and 0 <= part < 2**48 for part in shape) and len(shape) <= MAX_RANK
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise BadRecording(where, "a header with descr, fortran_order and shape", printable(str(error))[:200], ADVICE, check="damaged_npz") from error
    if not plain:
        raise BadRecording(where, "a shape", printable(str(shape))[:200], ADVICE, check="damaged_npz")
    if dtype.kind != "O":
        needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if needed != size - 8 - width - length:
            found = f"{size - 8 - width - length} bytes for shape {shape} of {dtype}"
            raise BadRecording(where, f"{needed} bytes of values", found, ADVICE, check="damaged_npz")
    return Member(name, dtype, shape, fortran)


def arrays(handle: BinaryIO, path: str, problems: list[Problem]) -> Iterator[tuple[str, Array]]:
    """Yield (name, array) of each member, in the order of the archive; what cannot be kept is a problem.

    Raises:
        BadRecording: no zip, a member that is damaged or too large, names that stand twice.
    """
    try:
        with zipfile.ZipFile(handle) as archive:
            listed = archive.infolist()
            _require_plausible(listed, path)
            for info in listed:
                where = f"{path}:{printable(info.filename)[:200]}"
                if info.is_dir() or not info.filename.endswith(".npy"):
                    problems.append(Problem("member_not_kept", f"{where}: not kept, as it is no array", where))
                    continue
                with archive.open(info) as member:
                    said = _header(member, where, info.filename.removesuffix(".npy"), info.file_size)  # type: ignore[arg-type]
                    if said.dtype.kind == "O":
                        problems.append(Problem("object_array", f"{where}: not kept: {OBJECTS}", where, advice=OBJECTS))
                        continue
                    if said.dtype.kind not in "biufcSU" or said.dtype.itemsize == 0:
                        problems.append(Problem("member_not_kept", f"{where}: not kept, as its type is {said.dtype}", where))
                        continue
                    data = member.read()
                if said.dtype.kind == "U" and (np.frombuffer(data, f"{said.dtype.byteorder}u4") > sys.maxunicode).any():
                    problems.append(Problem("member_not_kept", f"{where}: not kept, as it is said to be text and holds numbers that are no characters", where))
                    continue
                values = np.frombuffer(data, said.dtype).reshape(said.shape, order="F" if said.fortran else "C")
                native = values.astype(values.dtype.newbyteorder("=")) if not values.dtype.isnative else values
                yield printable(said.name), np.ascontiguousarray(native)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, OverflowError, IndexError) as error:
        text = printable(str(error)) or type(error).__name__
        raise BadRecording(path, "an NPZ that can be read", text[:300], ADVICE, check="damaged_npz") from error


def _require_plausible(listed: list[zipfile.ZipInfo], path: str) -> None:
    """Hold what the archive declares against what its bytes can hold."""
    names = [info.filename for info in listed]
    if len(listed) > MAX_MEMBERS or len(set(names)) != len(names):
        raise BadRecording(path, f"at most {MAX_MEMBERS} members, each once", f"{len(listed)}", ADVICE, check="absurd_size")
    for info in listed:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise BadRecording(f"{path}:{printable(info.filename)[:200]}", "members that are stored or deflated", "another method", ADVICE, check="damaged_npz")
        if info.file_size > MAX_MEMBER_BYTES or info.file_size > MAX_RATIO * info.compress_size + 64:
            found = f"{info.file_size} bytes from {info.compress_size}"
            raise BadRecording(
                f"{path}:{printable(info.filename)[:200]}", f"at most {MAX_MEMBER_BYTES} bytes that can be true", found, ADVICE, check="absurd_size"
            )
    if sum(info.file_size for info in listed) > MAX_ARCHIVE_BYTES:
        raise BadRecording(path, f"at most {MAX_ARCHIVE_BYTES} bytes in all", "more", "split the recording", check="absurd_size")


def small_values(left: Mapping[str, Array]) -> dict[str, object]:
    """Return arrays as JSON values."""
    return {name: value.tolist() if value.dtype.kind in "biufU" else str(value.tolist()) for name, value in left.items()}
