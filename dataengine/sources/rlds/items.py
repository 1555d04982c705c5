"""Entries of an RLDS record that are kept as bytes: texts, pictures, and numbers whose size varies from row to row."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.stream import Buffer, Items
from dataengine.sources.rlds.columns import raw_encoding
from dataengine.sources.rlds.tfds_features import Leaf

_MAGIC = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"RIFF", "webp"))


def texts(items: list[memoryview]) -> Items:
    """Return texts as Items "utf-8"; what is not UTF-8 is kept as "binary"."""
    bad = {data for data in distinct(items) if not is_utf8(data)}
    return Items(items, "utf-8" if not bad else ["binary" if bytes(item) in bad else "utf-8" for item in items])


def distinct(items: Sequence[Buffer]) -> list[bytes]:
    """Return the different ones of some buffers, in order."""
    return list(dict.fromkeys(bytes(item) for item in {id(item): item for item in items}.values()))


def is_utf8(data: bytes) -> bool:
    """Whether bytes are a text in UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def json_text(item: Buffer) -> Any:
    """Return bytes as JSON holds them: a string, or `{"base64": ...}` where they are not UTF-8."""
    data = bytes(item)
    return data.decode() if is_utf8(data) else {"base64": base64.b64encode(data).decode()}


def text_lists(items: Sequence[memoryview], lengths: Array) -> Items:
    """Return texts as one JSON list a row, `lengths` of them in each."""
    stops = np.cumsum(lengths).tolist()
    rows = [
        json.dumps([json_text(item) for item in items[stop - length : stop]], ensure_ascii=False) for stop, length in zip(stops, lengths.tolist(), strict=True)
    ]
    return Items([row.encode() for row in rows], "json")


def picture_encoding(item: Buffer) -> str:
    """Return the encoding that the first bytes of a picture say, "" for an absent one, "unknown" otherwise."""
    start = bytes(item[:8])
    return next((name for magic, name in _MAGIC if start.startswith(magic)), "unknown" if start else "")


def pictures(items: list[memoryview], declared: str) -> Items:
    """Return pictures as they are, each with the encoding that its first bytes say; an empty one is absent."""
    if declared == "jpeg" and all(len(start) == 3 and start[:2] == b"\xff\xd8" for start in {bytes(item[:3]) for item in items}):
        return Items(items, "jpeg")
    found = [picture_encoding(item) for item in items]
    encodings = [encoding or declared or "unknown" for encoding in found]
    return Items(items, encodings[0] if len(set(encodings)) == 1 else encodings)


def rows_of_bytes(values: Array, lengths: Array, leaf: Leaf | None) -> Items:
    """Cut flat numbers into one buffer a row, `lengths` of them in each."""
    flat = np.ascontiguousarray(values)
    view = flat.view(np.uint8).data if flat.size else memoryview(b"")
    stops = (np.cumsum(lengths) * flat.itemsize).tolist()
    starts = [0, *stops[:-1]]
    return Items([view[start:stop] for start, stop in zip(starts, stops, strict=True)], "raw/int64" if leaf is None else raw_encoding(leaf))


def kept(leaf: Leaf, items: list[memoryview]) -> Items:
    """Return the entries of a feature of images or packed tensors as they are."""
    return pictures(items, leaf.encoding) if leaf.form == "image" else Items(items, raw_encoding(leaf))
