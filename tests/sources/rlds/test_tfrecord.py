"""TFRecord framing, against bytes written by the specification."""

from __future__ import annotations

import io
import struct

import pytest

from dataengine.core.errors import BadRecording
from dataengine.sources.rlds.tfrecord import frame_bytes, is_framed, masked_crc32c, read_records
from tests.support.tfds_folder import crc32c, framed, masked


def outcomes(data: bytes, **options: int) -> list[bytes | str]:
    """Return payloads, the check of each bad one, and last the check that ended the file."""
    found: list[bytes | str] = []
    try:
        for payload in read_records(io.BytesIO(data), "a.tfrecord", **options):
            found.append(payload.check if isinstance(payload, BadRecording) else payload)
    except BadRecording as error:
        found.append(f"end: {error.check}")
    return found


def test_checksum_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720
    assert masked_crc32c(b"123456789") == (((0xE3069283 >> 15) | (0xE3069283 << 17) & 0xFFFFFFFF) + 0xA282EAD8) % 2**32
    assert struct.unpack("<I", masked(b"abc"))[0] == masked_crc32c(b"abc")


def test_records_come_in_order_and_frames_are_those_of_the_specification() -> None:
    payloads = [b"", b"one", b"x" * 3000]
    assert frame_bytes(b"one") == framed(b"one")
    assert outcomes(b"".join(map(framed, payloads))) == payloads
    assert outcomes(b"") == []


def test_a_bad_payload_costs_one_record() -> None:
    data = bytearray(framed(b"first") + framed(b"second") + framed(b"third"))
    data[len(framed(b"first")) + 12] ^= 1
    assert outcomes(bytes(data)) == [b"first", "bad_crc", b"third"]


def test_a_bad_length_ends_the_file() -> None:
    data = bytearray(framed(b"first") + framed(b"second") + framed(b"third"))
    data[len(framed(b"first"))] ^= 4
    assert outcomes(bytes(data)) == [b"first", "end: bad_crc"]


@pytest.mark.parametrize("kept", [21 + 1, 21 + 11, 21 + 12, 21 + 17, 21 + 21])
def test_a_cut_tail_is_named(kept: int) -> None:
    whole = framed(b"first") + framed(b"second")
    assert len(framed(b"first")) == 21
    assert outcomes(whole[:kept]) == [b"first", "end: cut_file"]


def test_an_absurd_length_with_its_right_checksum_allocates_nothing() -> None:
    length = struct.pack("<Q", 2**62)
    assert outcomes(length + masked(length) + b"tiny") == ["end: cut_file"]


def test_a_record_above_the_limit_is_passed_over() -> None:
    assert outcomes(framed(b"a" * 101) + framed(b"b" * 100), max_record_bytes=100) == ["record_too_large", b"b" * 100]


def test_the_place_is_named() -> None:
    data = bytearray(framed(b"first") + framed(b"second"))
    data[-1] ^= 1
    broken = [payload for payload in read_records(io.BytesIO(bytes(data)), "a/b.tfrecord") if isinstance(payload, BadRecording)]
    assert (
        str(broken[0]) == "a/b.tfrecord: record 1 at byte 21: expected a payload with its CRC-32C, found another checksum; copy the file again from its source"
    )


def test_files_are_recognised_by_the_checksum_of_the_first_length() -> None:
    assert is_framed(framed(b"x")[:12])
    assert not is_framed(framed(b"x")[:11])
    assert not is_framed(bytes(12))
    assert not is_framed(b"\x89HDF\r\n\x1a\n0000")
