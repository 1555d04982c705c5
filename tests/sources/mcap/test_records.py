"""The record reader against the conformance files of the MCAP project, and against files that are not what they claim."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
import zstandard

from dataengine.core.errors import BadRecording
from dataengine.sources.mcap.records import CHUNK, FOOTER, HEADER, MAGIC, MESSAGE, Header, Message, MessageIndex
from dataengine.sources.mcap.sections import Unpacker, records, sections
from dataengine.sources.messages.packed import FREE_BYTES, MAX_RATIO
from tests.support.shared import shared_data


def _as_json(value: Any) -> Any:
    """Return a field in the form of the conformance files: numbers as text, bytes as a list of numbers."""
    if isinstance(value, bytes | memoryview):
        return [str(byte) for byte in bytes(value)]
    if isinstance(value, dict):
        return {str(key): _as_json(entry) for key, entry in value.items()}
    return str(value)


def test_every_conformance_file_gives_exactly_the_records_beside_it() -> None:
    folder = shared_data("conformance", "mcap")
    files = sorted(folder.rglob("*.mcap"))
    assert len(files) == 171
    kinds = set()
    for path in files:
        with path.open("rb") as file:
            read = [record for record in records(file, path.name) if not isinstance(record, MessageIndex)]
        found = [{"type": type(record).__name__, "fields": sorted([name, _as_json(value)] for name, value in record._asdict().items())} for record in read]
        said = json.loads(path.with_suffix(".json").read_text())["records"]  # they leave the message indexes out
        assert found == [{"type": record["type"], "fields": sorted(record["fields"])} for record in said], path.name
        kinds |= {record["type"] for record in found}
    assert len(kinds) == 13


def _record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


def _text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def _file(*data: bytes, data_crc: int | None = 0) -> bytes:
    """Return a file without summary; `data_crc` None = the right one."""
    start = MAGIC + _record(HEADER, _text("") + _text("")) + b"".join(data)
    return start + _record(15, struct.pack("<I", zlib.crc32(start) if data_crc is None else data_crc)) + _record(FOOTER, bytes(20)) + MAGIC


def _chunk(records_: bytes, compression: str = "", packed: bytes | None = None, size: int | None = None, crc: int | None = None) -> bytes:
    size = len(records_) if size is None else size
    crc = zlib.crc32(records_) if crc is None else crc
    packed = records_ if packed is None else packed
    return _record(CHUNK, struct.pack("<QQQI", 0, 9, size, crc) + _text(compression) + struct.pack("<Q", len(packed)) + packed)


_SCHEMA = _record(3, struct.pack("<H", 1) + _text("S") + _text("x") + struct.pack("<I", 0))
_CHANNEL = _record(4, struct.pack("<HH", 2, 1) + _text("/t") + _text("raw") + struct.pack("<I", 0))
_SENT = _record(MESSAGE, struct.pack("<HIQQ", 2, 7, 300, 200) + b"abc")


def _read(data: bytes) -> list[Any]:
    return list(records(io.BytesIO(data), "x.mcap"))


@pytest.mark.parametrize(
    ("compression", "pack"),
    [
        ("", bytes),
        ("zstd", lambda b: zstandard.ZstdCompressor().compress(b)),
        ("lz4", lz4.frame.compress),
        ("lz4", lambda b: lz4.frame.compress(b, store_size=False)),
    ],
)
def test_a_chunk_of_every_compression(compression: str, pack: Any) -> None:
    inner = _SCHEMA + _CHANNEL + _SENT + _record(0x80, b"private")
    read = _read(_file(_chunk(inner, compression, pack(inner)), data_crc=None))
    assert [type(record).__name__ for record in read] == ["Header", "Schema", "Channel", "Message", "DataEnd", "Footer"]
    assert read[3] == Message(2, 7, 300, 200, b"abc")


def test_a_private_record_is_skipped_and_extra_bytes_of_a_record_are_too() -> None:
    read = _read(_file(_record(0x91, b"anything"), _record(HEADER, _text("ros2") + _text("me") + b"later versions add fields")))
    assert read[1] == Header("ros2", "me")


_ZSTD = zstandard.ZstdCompressor()
_BAD = {
    "empty": (b"", "no_magic"),
    "only magic": (MAGIC, "truncated"),
    "no magic": (b"PK\3\4" + bytes(60), "no_magic"),
    "no end": (_file(_SCHEMA)[:-8], "truncated"),
    "cut in the footer": (_file(_SCHEMA)[:-12], "truncated"),
    "bytes after the end": (_file(_SCHEMA) + b"x", "truncated"),
    "record length beyond the file": (MAGIC + struct.pack("<BQ", HEADER, 1 << 62) + _file(_SCHEMA)[8:], "record_too_long"),
    "first record no header": (MAGIC + _SCHEMA + _file()[25:], "no_header"),
    "opcode 0": (_file(_record(0, b"")), "bad_opcode"),
    "string beyond its record": (_file(_record(3, struct.pack("<HI", 1, 1 << 31) + b"S")), "record_too_short"),
    "text that is no UTF-8": (_file(_record(12, b"\1\0\0\0\xff" + struct.pack("<I", 0))), "bad_text"),
    "wrong data crc": (_file(_SCHEMA, data_crc=1), "bad_crc"),
    "wrong chunk crc": (_file(_chunk(_SCHEMA, crc=5)), "bad_crc"),
    "absurd uncompressed size": (_file(_chunk(_SCHEMA, "zstd", _ZSTD.compress(_SCHEMA), size=1 << 50)), "chunk_too_large"),
    "frame larger than said": (_file(_chunk(_SCHEMA, "zstd", _ZSTD.compress(bytes(10**6)), size=9)), "bad_chunk"),
    "lz4 larger than said": (_file(_chunk(_SCHEMA, "lz4", lz4.frame.compress(bytes(10**6)), size=9)), "bad_chunk"),
    "no zstd frame": (_file(_chunk(_SCHEMA, "zstd", b"junk")), "bad_chunk"),
    "cut lz4 frame": (_file(_chunk(_SCHEMA, "lz4", lz4.frame.compress(_SCHEMA)[:-9])), "bad_chunk"),
    "unknown compression": (_file(_chunk(_SCHEMA, "brotli")), "compression"),
    "chunk in a chunk": (_file(_chunk(_chunk(_SCHEMA))), "bad_chunk"),
    "inner length beyond the chunk": (_file(_chunk(struct.pack("<BQ", MESSAGE, 999))), "bad_chunk"),
    "message after the end of data": (_file(_SCHEMA)[:-37] + _SENT + _file(_SCHEMA)[-37:], "bad_order"),
    "wrong summary crc": (_file(_SCHEMA)[:-12] + b"\1\2\3\4" + MAGIC, "bad_crc"),
    "wrong attachment crc": (_file(_record(9, struct.pack("<QQ", 1, 1) + _text("n") + _text("m") + struct.pack("<Q", 1) + b"x" + b"\1\1\1\1")), "bad_crc"),
}


@pytest.mark.parametrize("name", _BAD)
def test_a_file_that_is_not_what_it_claims_is_rejected_by_the_check_that_found_it(name: str) -> None:
    data, check = _BAD[name]
    with pytest.raises(BadRecording) as caught:
        _read(data)
    assert caught.value.check == check, str(caught.value)
    assert "x.mcap" in caught.value.where


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    unpacker = Unpacker(file_size=1000)
    limit = FREE_BYTES + 1000 * MAX_RATIO
    body = struct.pack("<QQQI", 0, 9, 200 << 20, 0) + _text("") + struct.pack("<Q", 0)
    for _ in range(limit // (200 << 20)):
        with pytest.raises(BadRecording, match="unpacks to"):
            unpacker.chunk(body, "x")
    with pytest.raises(BadRecording) as caught:
        unpacker.chunk(body, "x")
    assert caught.value.check == "unpacks_too_large"


def test_a_truncated_file_gives_its_whole_records_when_asked_for(tmp_path: Path) -> None:
    whole = _file(_SCHEMA, _CHANNEL, _SENT, _SENT)
    cut = whole[: whole.index(_SENT) + len(_SENT) + 5]
    reasons: list[str] = []
    read = [opcode for opcode, _, _, _ in sections(io.BytesIO(cut), "x", truncated=True, on_cut=reasons.append)]
    assert read == [HEADER, 3, 4, MESSAGE]
    assert reasons == [f"5 bytes after byte {len(cut) - 5} of {len(cut)} are no whole record"]
