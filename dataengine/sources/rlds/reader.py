"""RLDS: episodes that TFDS wrote as TFRecord shards beside a features.json, read without TensorFlow.

Each record of a shard is one episode, its key the record's number. Images stay the bytes they are; numbers take their declared type.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from dataengine.core.episode import Event, Noticed, Rejected
from dataengine.core.errors import BadRecording, UsageError
from dataengine.core.names import dataset_from_path, slug
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions, SourceFile
from dataengine.sources.rlds.episode import EpisodePlan, plan_episodes, read_episode
from dataengine.sources.rlds.tfds_features import MAX_FEATURES_BYTES, parse_features
from dataengine.sources.rlds.tfds_folder import (
    DATASET_INFO,
    FEATURES,
    MAX_INFO_BYTES,
    READABLE_FORMAT,
    DatasetInfo,
    Shard,
    dataset_of,
    parse_dataset_info,
    shard_of,
)
from dataengine.sources.rlds.tfrecord import HEADER, MAX_RECORD_BYTES, is_framed, read_records
from dataengine.sources.rlds.values import MAX_DECODED_BYTES

NAME = "rlds"
VERSION = "1"
RECOGNISED_BY = "features.json beside shards <name>-<split>.tfrecord-00000-of-00001 (TFDS); the checksum of the first record's length"
KEEPS = (
    "encoded images byte for byte, every declared feature with its type (ragged ones as bytes of each step's numbers), instructions as text and tasks, "
    "metadata of the episode; both CRCs of each record are checked; a clock only where a rate is known"
)

MAX_REJECTIONS = 1000  # listed one by one; the rest of a broken shard is one line
MAX_MISSING_SHARDS = 20  # likewise
_TFRECORD_NAME = re.compile(r".*\.tfrecords?(\.gz)?(-\d+-of-\d+)?(\.gz)?")


def find(listing: Listing) -> Found:
    """Claim the shards of TFDS folders, their features.json and dataset_info.json; and TFRecord files that have none, to say so."""
    by_folder: dict[str, list[str]] = {}
    for path in listing.files:
        by_folder.setdefault(posixpath.dirname(path), []).append(path)
    items: list[Item] = []
    claimed: set[str] = set()
    problems: list[Problem] = []
    for folder, paths in by_folder.items():
        _find_folder(listing, folder, paths, items, claimed, problems)
    return Found(tuple(sorted(items, key=lambda item: item.path)), frozenset(claimed), tuple(problems))


def _find_folder(listing: Listing, folder: str, paths: list[str], items: list[Item], claimed: set[str], problems: list[Problem]) -> None:
    """Claim what is RLDS among the files of one folder."""
    inside = {posixpath.basename(path): path for path in paths}
    features = inside.get(FEATURES)
    info = _read_info(listing, inside[DATASET_INFO], problems) if features and DATASET_INFO in inside else DatasetInfo()
    declared = {shard.name: shard for shard in info.shards}
    shards: dict[str, Shard] = {}
    for name, path in inside.items():
        if name in (FEATURES, DATASET_INFO):
            continue
        shard = declared.get(name) or shard_of(name)
        if shard is not None or _TFRECORD_NAME.fullmatch(name) or is_framed(listing.head(path, HEADER.size)):
            shards[path] = shard or Shard(name, "", "gzip" if ".gz" in name else READABLE_FORMAT)
    if not shards and not info.shards:
        return
    if not features and any(shard.split for shard in shards.values()):
        features, info = _read_unlisted(listing, folder)
        declared = {shard.name: shard for shard in info.shards}
        shards = {path: declared.get(shard.name, shard) for path, shard in shards.items()}
    beside = tuple(listing.files[inside[name]] for name in (FEATURES, DATASET_INFO) if name in inside and features)
    claimed.update(shards, (file.path for file in beside))
    for path, shard in shards.items():
        if info.shards and not shard.declared:
            message = f"{path}: expected the shards that {DATASET_INFO} names, found another; it is read too"
            problems.append(Problem("undeclared_shard", message, path, found=shard.name))
        items.append(_item(listing, path, shard, info, features, beside))
    if FEATURES in inside:
        problems.extend(_missing_shards(folder, [shard for name, shard in declared.items() if posixpath.join(folder, name) not in listing.files]))


def _read_unlisted(listing: Listing, folder: str) -> tuple[str | None, DatasetInfo]:
    """Look for the side files of a shard that was given alone: they lie beside it, and are not listed."""
    features, info = posixpath.join(folder, FEATURES), posixpath.join(folder, DATASET_INFO)
    try:
        listing.read_bytes(features, MAX_FEATURES_BYTES)
    except (BadRecording, OSError):
        return None, DatasetInfo()
    try:
        return features, parse_dataset_info(listing.read_bytes(info, MAX_INFO_BYTES), info)
    except (BadRecording, OSError):
        return features, DatasetInfo()


def _read_info(listing: Listing, path: str, problems: list[Problem]) -> DatasetInfo:
    try:
        return parse_dataset_info(listing.read_bytes(path, MAX_INFO_BYTES), path)
    except BadRecording as error:
        problems.append(_problem(error))
        return DatasetInfo()


def _item(listing: Listing, path: str, shard: Shard, info: DatasetInfo, features: str | None, beside: tuple[SourceFile, ...]) -> Item:
    name = (info.name or dataset_of(shard.name)) if features else ""
    return Item(
        reader=NAME,
        root=listing.root,
        path=path,
        dataset=slug(name) if name else dataset_from_path(listing.name, path),
        files=(listing.files[path], *beside),
        splits=(shard.split,) if shard.split else (),
        recordings=shard.recordings,
        extra={"features": features, "format": shard.file_format, "licence": info.licence},
        by_name=features is None and not is_framed(listing.head(path, HEADER.size)),
    )


def _missing_shards(folder: str, missing: list[Shard]) -> Iterator[Problem]:
    for place, shard in enumerate(missing):
        path = posixpath.join(folder, shard.name)
        if place == MAX_MISSING_SHARDS:
            left = missing[place:]
            count = sum(shard.recordings or 0 for shard in left)
            message = f"{path}: expected this shard and {len(left) - 1} more ({count} recordings) as {DATASET_INFO} says, found none; copy them from the source"
            yield Problem("missing_shard", message, path, expected=f"{len(left)} shards", found="none", advice="copy them from the source")
            return
        message = f"{path}: expected this shard ({shard.recordings} recordings) as {DATASET_INFO} says, found no such file; copy it from the source"
        yield Problem("missing_shard", message, path, expected=f"{shard.recordings} recordings", found="no such file", advice="copy it from the source")


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read the episodes of one shard, one record in memory at a time.

    `options.config` may set `max_record_bytes` and `max_decoded_bytes`.
    """
    plan = _plan(item, files, options)
    number = 0
    with files.open(item.path) as handle:
        try:
            for payload in read_records(handle, item.path, int(options.config.get("max_record_bytes", MAX_RECORD_BYTES))):
                key = str(number)
                number += 1
                yield from _events(payload, key, f"{item.path}: record {key}", plan)
        except BadRecording as error:
            if item.recordings is not None and number >= item.recordings:
                yield Noticed(_problem(error))  # all that was declared has been read: what follows is no recording
            else:
                yield from _rejections(number, item.recordings or number + 1, _problem(error))
            return
    if item.recordings is not None and number < item.recordings:
        found = f"the end of the file after {number}"
        short = BadRecording(item.path, f"{item.recordings} records as {DATASET_INFO} says", found, "copy the file again from its source", "missing_record")
        yield from _rejections(number, item.recordings, _problem(short))
    elif item.recordings is not None and number > item.recordings:
        message = f"{item.path}: expected {item.recordings} records as {DATASET_INFO} says, found {number}; all are read"
        yield Noticed(Problem("extra_records", message, item.path, expected=str(item.recordings), found=str(number)))
    elif number == 0:
        yield Noticed(Problem("empty_file", f"{item.path}: expected records, found none; nothing lands of this file", item.path))


def _events(payload: bytes | BadRecording, key: str, where: str, plan: EpisodePlan) -> list[Event]:
    try:
        if isinstance(payload, BadRecording):
            raise payload
        return read_episode(payload, key, where, plan)
    except BadRecording as error:
        return [Rejected(key, _problem(error))]


def _rejections(first: int, end: int, problem: Problem) -> Iterator[Rejected]:
    """Reject the recordings [first, end) of a shard for one reason."""
    for number in range(first, min(end, first + MAX_REJECTIONS)):
        yield Rejected(str(number), problem)
    left = end - first - MAX_REJECTIONS
    if left > 0:
        message = f"{problem.message} (and so the {left} recordings from {first + MAX_REJECTIONS} on)"
        yield Rejected(str(first + MAX_REJECTIONS), Problem(problem.check, message, problem.where, "error", problem.expected, problem.found, problem.advice))


def _problem(error: BadRecording) -> Problem:
    return Problem(error.check, str(error), error.where, "error", error.expected, error.found, error.advice)


def _plan(item: Item, files: Opener, options: ReadOptions) -> EpisodePlan:
    """Return what is common to the shard's episodes; raise BadRecording where the shard cannot be read at all."""
    file_format = item.extra.get("format")
    if file_format != READABLE_FORMAT:
        advice = "unpack it with gunzip" if file_format == "gzip" else "convert the dataset with tfds convert_format to tfrecord"
        raise BadRecording(item.path, "a shard in the format tfrecord", str(file_format), advice, "unsupported_format")
    features = item.extra.get("features")
    if not features:
        advice = "put the dataset's features.json (and dataset_info.json) beside it"
        raise BadRecording(item.path, f"{FEATURES} of TFDS in the same folder", "a TFRecord file alone", advice, "no_features")
    leaves = parse_features(files.read_bytes(features, MAX_FEATURES_BYTES), features)
    rate_hz, problems = _rate(item.path, options)
    known = options.description
    return plan_episodes(
        leaves,
        features,
        dataset=item.dataset,
        splits=item.splits,
        rate_hz=rate_hz,
        problems=problems,
        max_decoded_bytes=int(options.config.get("max_decoded_bytes", MAX_DECODED_BYTES)),
        licence=known.get("licence") or item.extra.get("licence"),
        **{name: known[name] for name in ("embodiment", "origin") if known.get(name)},
    )


def _rate(path: str, options: ReadOptions) -> tuple[float | None, tuple[Problem, ...]]:
    """Return the control rate: of the dataset's description, else the one asked for; RLDS itself has none."""
    described, asked = (_positive(name, rate) for name, rate in (("rate_hz", options.description.get("rate_hz")), ("--rate", options.rate_hz)))
    if described is not None and asked is not None and described != asked:
        message = f"{path}: expected the rate of the dataset's description, {described} Hz, found --rate {asked}; the description's is used"
        return described, (Problem("rate_differs", message, path, expected=str(described), found=str(asked)),)
    return (asked if described is None else described), ()


def _positive(name: str, rate: Any) -> float | None:
    if rate is None:
        return None
    if not isinstance(rate, (int, float)) or not math.isfinite(rate) or rate <= 0:
        raise UsageError(f"{name}: must be a rate above 0 Hz, got {rate!r}")
    return float(rate)


__all__ = ["KEEPS", "NAME", "RECOGNISED_BY", "VERSION", "find", "read"]
