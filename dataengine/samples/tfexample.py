"""tf.train.Example and TFRecord, written without TensorFlow.

Sources: tensorflow/core/example/{example,feature}.proto, tensorflow/core/lib/io/record_writer.h, the Protocol Buffers encoding guide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

import google_crc32c
import numpy as np

from dataengine.core.arrays import Array

FeatureValue = Array | Sequence[bytes]


def varint(value: int) -> bytes:
    """Return a base-128 varint of a non-negative number, or of a negative one as 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def _feature(value: FeatureValue) -> bytes:
    """Return one Feature: floats as a packed float_list, bools and integers as a packed int64_list, anything else as a bytes_list."""
    if isinstance(value, np.ndarray):
        flat = value.reshape(-1)
        if flat.dtype.kind == "f":
            return _field(2, _field(1, flat.astype("<f4").tobytes()))
        if flat.dtype.kind in "bui":
            return _field(3, _field(1, b"".join(varint(int(number)) for number in flat)))
        raise TypeError(f"a feature must hold floats, integers, bools or bytes, got {flat.dtype}")
    return _field(1, b"".join(_field(1, item) for item in value))


def encode_example(features: Mapping[str, FeatureValue]) -> bytes:
    """Return a serialised tf.train.Example with its keys in order."""
    entries = [_field(1, _field(1, key.encode()) + _field(2, _feature(features[key]))) for key in sorted(features)]
    return _field(1, b"".join(entries))


def masked_crc32c(data: bytes) -> int:
    """Return the masked crc32c of TFRecord: rotated right by 15 bits, plus a constant."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_record(file: BinaryIO, payload: bytes) -> int:
    """Write one framed record and return the bytes written."""
    length = len(payload).to_bytes(8, "little")
    file.write(length + masked_crc32c(length).to_bytes(4, "little"))
    file.write(payload)
    file.write(masked_crc32c(payload).to_bytes(4, "little"))
    return len(payload) + 16
