"""A folder of TFDS: dataset_info.json, and which of the files beside it are shards of which split.

Source: tensorflow_datasets `core/naming.py` (filename templates), `core/proto/dataset_info.proto`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dataengine.core.errors import BadRecording
from dataengine.core.objects import safe_key

FEATURES = "features.json"
DATASET_INFO = "dataset_info.json"
DEFAULT_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
MAX_INFO_BYTES = 64 << 20
MAX_SHARDS = 1 << 20

# Formats that TFDS writes; only the first can be read without its own libraries.
READABLE_FORMAT = "tfrecord"
OTHER_FORMATS = ("array_record", "riegeli", "parquet", "bagz")

_SHARD = re.compile(
    r"(?P<dataset>.*)-(?P<split>[^-]+)\.(?P<format>tfrecords?|array_record|riegeli|bagz)(?P<packed>\.gz)?(-(?P<index>\d{1,7})-of-(?P<count>\d{1,7}))?"
)


@dataclass(frozen=True)
class Shard:
    """One shard: its file name in the folder, and what is known of it.

    `recordings` is None where dataset_info.json does not say; `declared` whether it names the shard.
    """

    name: str
    split: str
    file_format: str
    recordings: int | None = None
    declared: bool = False


@dataclass(frozen=True)
class DatasetInfo:
    """What dataset_info.json says: the dataset's name ("" where it does not) with that of its configuration, and every shard that should be there."""

    name: str = ""
    shards: tuple[Shard, ...] = ()
    licence: str | None = None


def shard_of(file_name: str) -> Shard | None:
    """Return what a file's name says by the default template, None where it is no shard's."""
    match = _SHARD.fullmatch(file_name)
    if match is None:
        return None
    file_format = "gzip" if match["packed"] else READABLE_FORMAT if match["format"].startswith(READABLE_FORMAT) else match["format"]
    return Shard(file_name, match["split"], file_format)


def dataset_of(file_name: str) -> str:
    """Return the dataset's name in a shard's name, "" where it has none."""
    match = _SHARD.fullmatch(file_name)
    return match["dataset"] if match else ""


def parse_dataset_info(content: bytes, where: str) -> DatasetInfo:
    """Return what a dataset_info.json says of the shards.

    Raises:
        BadRecording: it is not JSON, or not such a document, or names files outside its folder.
    """
    try:
        info = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _wrong(where, "a JSON document", str(error)[:200]) from None
    if not isinstance(info, dict):
        raise _wrong(where, "a JSON object", type(info).__name__)
    name = _text(info.get("name", ""), where)
    file_format = _text(info.get("fileFormat") or info.get("file_format") or READABLE_FORMAT, where)
    shards: list[Shard] = []
    splits = info.get("splits", [])
    if not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
        raise _wrong(where, "a list of splits", type(splits).__name__)
    for split in splits:
        shards.extend(_split_shards(split, name, file_format, where))
        if len(shards) > MAX_SHARDS:
            raise _wrong(where, f"at most {MAX_SHARDS} shards", "more")
    redistribution = info.get("redistributionInfo")
    licence = redistribution.get("license") if isinstance(redistribution, dict) else None
    config = _text(info.get("configName") or info.get("config_name") or "", where)
    full_name = f"{name}-{config}" if config not in ("", "default") else name
    return DatasetInfo(full_name, tuple(shards), licence[:500] if isinstance(licence, str) and licence else None)


def _wrong(where: str, expected: str, found: str) -> BadRecording:
    return BadRecording(where, expected, found, "restore dataset_info.json from the dataset's source", "bad_dataset_info")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > 500 or value.encode("utf-8", "replace").decode() != value:
        raise _wrong(where, "a name of at most 500 characters", ascii(value)[:100])
    return value


def _split_shards(split: dict[str, Any], dataset: str, file_format: str, where: str) -> Iterable[Shard]:
    name = _text(split.get("name", ""), where)
    lengths = split.get("shardLengths", split.get("shard_lengths", []))
    if not isinstance(lengths, list) or len(lengths) > MAX_SHARDS:
        raise _wrong(where, "a list of shard lengths", type(lengths).__name__)
    template = _text(split.get("filepathTemplate") or split.get("filepath_template") or DEFAULT_TEMPLATE, where)
    values = {"{DATASET}": dataset, "{SPLIT}": name, "{FILEFORMAT}": file_format, "{NUM_SHARDS}": f"{len(lengths):05d}"}
    for key, value in values.items():
        template = template.replace(key, value)
    for index, length in enumerate(lengths):
        if not re.fullmatch(r"\d{1,15}", str(length)):
            raise _wrong(where, "the number of records of each shard", ascii(length)[:100])
        file_name = template.replace("{SHARD_X_OF_Y}", f"{index:05d}-of-{len(lengths):05d}").replace("{SHARD_INDEX}", f"{index:05d}")
        yield Shard(safe_key(file_name, where), name, file_format, int(length), True)
