"""Which objects of a store anything refers to: the newest state of the catalog, and every version that is kept."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from dataengine.core.errors import CorruptStore
from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.commit import shard_media
from dataengine.store.removed import purged_episodes
from dataengine.versions.table_files import LOG, DataFile, read_columns

_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{32}\.tmp")
_LOG_TEMPORARY = re.compile(r"_commit_.*\.tmp|.*#\d+")
_MEDIA_NAME = re.compile(r"[0-9a-f]{32}\.(index\.parquet|[a-z0-9]{1,8})")
_STATISTICS_KEY = re.compile(rf"{layout.STATISTICS}/([1-9][0-9]*)/[^/]+/[0-9a-f]{{32}}\.json")
_FEATURES_NAME = re.compile(r"[0-9a-f]{32}\.json")


@dataclass
class References:
    """What is referred to: catalog files, shards as (dataset, shard), feature documents and kept videos by key, label shards by folder, and the kept versions."""

    catalog: set[str] = field(default_factory=set)
    shards: set[tuple[str, str]] = field(default_factory=set)
    features: set[str] = field(default_factory=set)
    media: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    versions: set[int] = field(default_factory=set)


def label_folder(label_set: str, address: str) -> str:
    """Return the folder that holds a label's payload."""
    return layout.label_prefix(label_set, address.split("/", 1)[0])


def references(objects: Objects, files: Iterable[DataFile], versions: Collection[int], kept: Collection[int]) -> References:
    """Return what the rows of the table refer to at any of the given versions of the table.

    Rows of jobs that died count too: a later job may adopt them. `kept` are the numbers of the store's versions that stay, to which statistics belong.

    Raises:
        CorruptStore: a data file or a shard's index is missing or unreadable, so that nothing can be said about what is needed.
    """
    used = [file for file in files if any(file.used_at(version) for version in versions)]
    found = References(catalog={file.key for file in used}, versions=set(kept))
    absent = [file.key for file in used if objects.head(file.key) is None]
    if absent:
        raise CorruptStore(f"{objects.url}/{absent[0]}: expected a data file of the catalog, found none; restore it from a copy before anything is removed")
    episodes = read_columns(objects, (file for file in used if file.kind == "episode"), ["shard", "features"])
    for dataset, shard, features in episodes.select("dataset", "shard", "features").unique().iter_rows():
        found.shards.add((dataset, shard))
        found.features.add(layout.features_key(dataset, features))
    labels = read_columns(objects, (file for file in used if file.kind == "label"), ["label_set", "address"])
    found.labels = {label_folder(label_set, address) for label_set, address in labels.select("label_set", "address").unique().iter_rows()}
    purged = purged_episodes(objects)
    for dataset, shard in sorted(found.shards):
        try:
            media = shard_media(objects, dataset, shard, purged)
        except FileNotFoundError:
            key = f"{layout.shard_prefix(dataset, shard)}/{layout.INDEX}"
            raise CorruptStore(f"{objects.url}/{key}: expected a shard's index, found none; restore it from a copy before anything is removed") from None
        for key in media:
            found.media |= {key, layout.media_index_key(key)}
    return found


def shard_of(key: str) -> tuple[str, str] | None:
    """Return (dataset or label set, shard) of a key below streams/, steps/ or labels/, None for other keys."""
    parts = key.split("/")
    if parts[0] in (layout.STREAMS, layout.LABELS) and len(parts) > 3:
        return parts[1], parts[2]
    if parts[0] == layout.STEPS and len(parts) == 3:
        return parts[1], parts[2].lstrip(".").split(".", 1)[0]
    return None


def is_needed(key: str, found: References) -> bool:
    """Return whether an object is referred to, or is none of those that this project writes and removes."""
    top, _, rest = key.partition("/")
    name = key.rsplit("/", 1)[-1]
    temporary = bool(_TEMPORARY.fullmatch(name))
    shard = shard_of(key)
    if top in (layout.VERSIONS, layout.TAGS, layout.REMOVED, layout.VERDICTS) or not rest:
        return not temporary
    if top == layout.JOBS:
        return not temporary and not name.endswith(".probe")
    if key.startswith(f"{LOG}/"):
        return not (_LOG_TEMPORARY.fullmatch(name) or temporary)
    if top == layout.CATALOG:
        return key in found.catalog or not (name.endswith(".parquet") or _LOG_TEMPORARY.fullmatch(name) or temporary)
    if top == layout.STATISTICS:
        of_version = _STATISTICS_KEY.fullmatch(key)
        return not temporary and (of_version is None or int(of_version[1]) in found.versions)
    if top == layout.DATASETS:
        return key in found.features or not (_FEATURES_NAME.fullmatch(name) or temporary)
    if top == layout.MEDIA:
        return key in found.media or not (_MEDIA_NAME.fullmatch(name) or temporary)
    if top == layout.LABELS:
        return (shard is None or layout.label_prefix(*shard) in found.labels) and not temporary
    if top in (layout.STREAMS, layout.STEPS):
        return (shard is None or shard in found.shards) and not temporary
    return True
