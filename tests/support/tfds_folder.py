"""TFDS folders written by hand: the wire format, the framing and features.json, each byte by the specification and not by the code under test.

    write_dataset(folder, "kitchen", {"train": [[record, record], [record]]}, features)

`record(a=floats([0.5]), b=ints([1, -1]), c=texts(["x"]))` is a serialised tf.train.Example; keyword names hold no "/", so pass a dict for others.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C, bit by bit as RFC 3720 gives it: slow, and nobody else's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    """Return the masked CRC-32C as it stands in the file."""
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


def framed(payload: bytes) -> bytes:
    """Return one TFRecord."""
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def varint(value: int) -> bytes:
    """Return a varint; a negative number takes ten bytes."""
    value %= 2**64
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def delimited(number: int, data: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def floats(values: Sequence[float], packed: bool = True) -> bytes:
    """Return a Feature that holds a FloatList."""
    if packed:
        return delimited(2, delimited(1, struct.pack(f"<{len(values)}f", *values)))
    return delimited(2, b"".join(b"\x0d" + struct.pack("<f", value) for value in values))


def ints(values: Sequence[int], packed: bool = True) -> bytes:
    """Return a Feature that holds an Int64List."""
    if packed:
        return delimited(3, delimited(1, b"".join(map(varint, values))))
    return delimited(3, b"".join(b"\x08" + varint(value) for value in values))


def blobs(values: Sequence[bytes]) -> bytes:
    """Return a Feature that holds a BytesList."""
    return delimited(1, b"".join(delimited(1, value) for value in values))


def texts(values: Sequence[str]) -> bytes:
    """Return a Feature that holds a BytesList of UTF-8."""
    return blobs([value.encode() for value in values])


def record(features: Mapping[str, bytes]) -> bytes:
    """Return a serialised tf.train.Example."""
    return delimited(1, b"".join(delimited(1, delimited(1, key.encode()) + delimited(2, value)) for key, value in features.items()))


def _class(module: str, name: str) -> dict[str, str]:
    return {"pythonClassName": f"tensorflow_datasets.core.features.{module}.{name}"}


def _dimensions(shape: Sequence[int | None]) -> dict[str, Any]:
    return {"dimensions": [str(-1 if size is None else size) for size in shape]} if shape else {}


def tensor(dtype: str, *shape: int | None, encoding: str = "none") -> dict[str, Any]:
    """Return the node of a Tensor."""
    return {**_class("tensor_feature", "Tensor"), "tensor": {"shape": _dimensions(shape), "dtype": dtype, "encoding": encoding}}


def text() -> dict[str, Any]:
    """Return the node of a Text."""
    return {**_class("text_feature", "Text"), "text": {}}


def image(*shape: int | None, dtype: str = "uint8", encoding: str = "jpeg") -> dict[str, Any]:
    """Return the node of an Image."""
    return {**_class("image_feature", "Image"), "image": {"shape": _dimensions(shape), "dtype": dtype, "encodingFormat": encoding}}


def sequence(feature: dict[str, Any], length: int = -1, name: str = "Sequence") -> dict[str, Any]:
    """Return the node of a Sequence, or of a Dataset."""
    return {**_class("sequence_feature", name), "sequence": {"feature": feature, "length": str(length)}}


def features_dict(features: Mapping[str, Any]) -> dict[str, Any]:
    """Return the node of a FeaturesDict."""
    return {**_class("features_dict", "FeaturesDict"), "featuresDict": {"features": dict(features)}}


def rlds_features(steps: Mapping[str, Any], episode: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the tree of an RLDS dataset."""
    return features_dict({"steps": sequence(features_dict(steps), name="Dataset"), **(episode or {})})


def dataset_info(name: str, splits: Mapping[str, Sequence[int]], **more: Any) -> dict[str, Any]:
    """Return dataset_info.json for splits of shards of so many records."""
    listed = [
        {"name": split, "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "numBytes": "1", "shardLengths": [str(n) for n in lengths]}
        for split, lengths in splits.items()
    ]
    return {"fileFormat": "tfrecord", "name": name, "splits": listed, "version": "1.0.0", **more}


def write_dataset(folder: Path, name: str, splits: Mapping[str, Sequence[Sequence[bytes]]], features: Mapping[str, Any]) -> dict[str, Path]:
    """Write a TFDS folder; return the shards by "<split>/<index>"."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "dataset_info.json").write_text(json.dumps(dataset_info(name, {split: [len(shard) for shard in shards] for split, shards in splits.items()})))
    paths = {}
    for split, shards in splits.items():
        for index, records in enumerate(shards):
            path = folder / f"{name}-{split}.tfrecord-{index:05d}-of-{len(shards):05d}"
            path.write_bytes(b"".join(map(framed, records)))
            paths[f"{split}/{index}"] = path
    return paths
