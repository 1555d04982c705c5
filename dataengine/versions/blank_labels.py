"""Labels of episodes overwritten with nulls, in every shard of labels that holds some, whether or not a row of the catalog still points there."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow.parquet as pq

from dataengine.core.errors import StoreError
from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.damage import naming_damage
from dataengine.store.refs import read_json
from dataengine.versions.blank_payload import Rewritten, blank_steps


@dataclass(frozen=True)
class HeldLabels:
    """A folder of labels, and the row groups in it that are of episodes which are asked for."""

    folder: str
    groups: tuple[int, ...]


def held_labels(objects: Objects, episode_ids: Collection[str]) -> list[HeldLabels]:
    """Return where labels of episodes lie.

    Raises:
        StoreError: a folder of labels holds no labels.parquet, so that nobody knows whose they are.
        CorruptStore: a file of labels is damaged.
    """
    files: dict[str, set[str]] = {}
    for meta in objects.list(layout.LABELS):
        parts = meta.key.split("/")
        if len(parts) > 3 and not parts[-1].endswith(".tmp"):
            files.setdefault("/".join(parts[:3]), set()).add("/".join(parts[3:]))
    found = []
    for folder, names in sorted(files.items()):
        if layout.LABEL_FILE not in names:
            raise StoreError(f"{objects.url}/{folder}: expected labels in {layout.LABEL_FILE}, found {sorted(names)[0]}; whose labels these are cannot be said")
        groups = _groups(objects, f"{folder}/{layout.LABEL_FILE}", episode_ids)
        if groups:
            found.append(HeldLabels(folder, groups))
    return found


def _groups(objects: Objects, key: str, episode_ids: Collection[str]) -> tuple[int, ...]:
    with naming_damage(objects, key, "labels"), objects.open(key) as handle:
        file = pq.ParquetFile(handle, pre_buffer=False)
        ids = [file.read_row_group(group, columns=["episode_id"], use_threads=False)["episode_id"] for group in range(file.num_row_groups)]
        return tuple(group for group, named in enumerate(ids) if set(named.unique().to_pylist()) & set(episode_ids))


def blank_labels(objects: Objects, held: HeldLabels) -> None:
    """Overwrite labels of one shard, then write the new size and checksum into its shard.json."""
    rewritten = Rewritten(objects)
    blank_steps(f"{held.folder}/{layout.LABEL_FILE}", held.groups, rewritten)
    key = f"{held.folder}/{layout.SHARD}"
    if objects.head(key) is None:
        return  # a shard that was never finished
    document = read_json(objects, key)
    for file in document["files"]:
        if (now := rewritten.files.get(f"{held.folder}/{file['path']}")) is not None:
            file["size"], file["crc32c"] = now[0], f"{now[1]:08x}"
    objects.put(key, json.dumps(document, indent=1).encode())
