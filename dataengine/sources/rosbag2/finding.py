"""Which files of a listing are one ROS 2 bag: by its metadata.yaml, else by the numbers of split files."""

from __future__ import annotations

import posixpath
import re
import struct
from collections.abc import Iterator, Mapping

from dataengine.core.errors import BadRecording
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing
from dataengine.sources.mcap.records import MAGIC as MCAP_MAGIC
from dataengine.sources.rosbag2.metadata import KEY, MAX_BYTES, NAME, listed_files

SQLITE_MAGIC = b"SQLite format 3\0"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BESIDE = ("-wal", "-journal", "-shm")  # what SQLite leaves beside a database that was not closed

_STORAGE = re.compile(r"(?P<stem>.+?)(?:_(?P<number>\d{1,9}))?\.(?P<kind>db3|mcap)(?P<packed>\.zstd)?", re.IGNORECASE)
_STAMPED = re.compile(r"rosbag2_[\d._-]+")
_NUMBERED = re.compile(r"(?:bag|rosbag2?|episode|ep|run|take|trial|session|recording|rec|demo)[_.-]?\d[\d._-]*", re.IGNORECASE)
_PROFILE = struct.Struct("<BQI")


def find_bags(listing: Listing, reader: str) -> Found:
    """Return each bag of a listing as one item, whatever files it has."""
    folders: dict[str, list[str]] = {}
    for path in listing.files:
        folders.setdefault(posixpath.dirname(path), []).append(path)
    items: list[Item] = []
    claimed: set[str] = set()
    problems: list[Problem] = []
    for folder, paths in folders.items():
        metadata = posixpath.join(folder, NAME)
        if metadata in listing.files and KEY.encode() in listing.head(metadata, 4096):
            items.extend(_by_metadata(listing, reader, folder, paths, claimed, problems))
        items.extend(_by_number(listing, reader, folder, [path for path in paths if path not in claimed], claimed))
    return Found(items, frozenset(claimed), problems)


def dataset_name(listing: Listing, folder: str) -> str:
    """Name the dataset of a bag by its folder, by the one above it where that is only the recorder's stamp or a number."""
    parts = folder.split("/") if folder else []
    while parts and _NUMBERED.fullmatch(parts[-1]):
        parts.pop()
    return dataset_from_path(listing.name, "/".join([*parts, NAME]))


def _item(listing: Listing, reader: str, folder: str, path: str, paths: list[str], extra: Mapping[str, object], by_name: bool = False) -> Item:
    files = tuple(listing.files[one] for one in paths)
    return Item(reader, listing.root, path, dataset_name(listing, folder), files, extra=dict(extra), by_name=by_name)


def _beside(listing: Listing, path: str) -> list[str]:
    return [path + ending for ending in BESIDE if path + ending in listing.files]


# --- with metadata


def _by_metadata(listing: Listing, reader: str, folder: str, beside: list[str], claimed: set[str], problems: list[Problem]) -> Iterator[Item]:
    metadata = posixpath.join(folder, NAME)
    storage = [path for path in beside if _STORAGE.fullmatch(posixpath.basename(path))]
    claimed.add(metadata)
    try:
        listed = listed_files(listing.read_bytes(metadata, MAX_BYTES).decode("utf-8", "replace"))
    except BadRecording as error:
        # The files are still a bag; what is wrong with its metadata is said where they are read.
        problems.append(Problem(error.check, str(error).replace(NAME, metadata, 1), where=metadata, advice=error.advice))
        claimed.discard(metadata)
        return
    parts: list[str] = []
    absent: list[str] = []
    for said in listed:
        found = _resolved(listing, folder, said, metadata, problems)
        if found is None:
            absent.append(said)
        elif found not in parts:
            parts.append(found)
    if not parts:
        if absent or not storage:
            lacking = ", ".join(absent[:5]) or "none is listed"
            problems.append(
                Problem(
                    "missing_files", f"{metadata}: expected the files of the bag beside it, found none of them ({lacking})", where=metadata, severity="error"
                )
            )
        else:
            claimed.discard(metadata)
            problems.append(Problem("unlisted_file", f"{metadata}: lists no file, though {storage[0]} lies beside it: it is not used"[:500], where=metadata))
        return
    unlisted: list[str] = []
    copies: list[str] = []
    for path in storage:
        if path in parts:
            continue
        # Playing a packed bag leaves the unpacked files beside it.
        (copies if f"{path}.zstd" in parts else unlisted).append(path)
    for path in unlisted:
        message = f"{path}: lies in the folder of a bag whose metadata does not list it: it is read by itself"
        problems.append(Problem("unlisted_file", message, where=path, advice="run `ros2 bag reindex`, or take the file away"))
    paths = [metadata, *parts, *copies, *(path for part in parts for path in _beside(listing, part))]
    claimed.update(paths)
    yield _item(listing, reader, folder, metadata, paths, {"parts": parts, "absent": absent, "metadata": metadata})


def _resolved(listing: Listing, folder: str, said: str, metadata: str, problems: list[Problem]) -> str | None:
    """Return the file that a metadata means: below its folder; older versions name the folder itself in front."""
    normal = posixpath.normpath(said)
    if said.startswith(("/", "\\")) or normal.startswith("../") or normal in ("..", ".") or "\\" in said:
        problems.append(Problem("path_escapes", f"{metadata}: lists {said!r}, which leaves the bag's folder: it is not followed"[:300], where=metadata))
        return None
    for candidate in (normal, posixpath.basename(normal)):
        for path in (posixpath.join(folder, candidate), posixpath.join(folder, f"{candidate}.zstd")):
            if path in listing.files:
                return path
    return None


# --- without


def _by_number(listing: Listing, reader: str, folder: str, paths: list[str], claimed: set[str]) -> Iterator[Item]:
    """Yield the bags among the files of a folder that no metadata speaks for; MCAP files only where they are clearly one split series, or packed."""
    series: dict[tuple[str, str], dict[int, str]] = {}
    single: list[tuple[str, bool]] = []
    for path in paths:
        match = _STORAGE.fullmatch(posixpath.basename(path))
        kind = match["kind"].lower() if match is not None else ""
        head = listing.head(path)
        packed = match is not None and match["packed"] is not None and head.startswith(ZSTD_MAGIC)
        database = head.startswith(SQLITE_MAGIC) and (kind == "db3" or _holds_a_bag(listing, path, head))
        if match is not None and match["number"] is not None and (packed or database or (kind == "mcap" and _is_ros2(head))):
            stem, number = match["stem"], int(match["number"])
            if kind != "mcap" or packed or stem == posixpath.basename(folder) or _STAMPED.fullmatch(stem):
                of = series.setdefault((stem, f"{kind}{'.zstd' if packed else ''}"), {})
                if number not in of:
                    of[number] = path
                    continue
        if database or packed or kind == "db3":
            single.append((path, database or packed))
    for (_, kind), numbers in series.items():
        first = min(numbers)
        split = len(numbers) > 1 and first == 0
        if kind == "mcap" and (not split or sorted(numbers) != list(range(len(numbers)))):
            continue
        if not split:
            single.extend((path, True) for path in numbers.values())
            continue
        parts = [numbers[number] for number in sorted(numbers)]
        absent = [f"number {number}" for number in range(max(numbers) + 1) if number not in numbers][:100]
        files = [*parts, *(path for part in parts for path in _beside(listing, part))]
        claimed.update(files)
        yield _item(listing, reader, folder, parts[0], files, {"parts": parts, "absent": absent})
    for path, known in sorted(single):
        files = [path, *_beside(listing, path)]
        claimed.update(files)
        yield _item(listing, reader, folder, path, files, {"parts": [path], "absent": []}, by_name=not known)


def _holds_a_bag(listing: Listing, path: str, head: bytes) -> bool:
    """Whether the first page of a database names the tables of a bag."""
    size = int.from_bytes(head[16:18], "big")
    page = listing.head(path, 65536 if size == 1 else size)
    return b"messages" in page and b"topics" in page and b"serialization_format" in page


def _is_ros2(head: bytes) -> bool:
    """Whether the head of an MCAP file says that ROS 2 wrote it."""
    if not head.startswith(MCAP_MAGIC) or len(head) < len(MCAP_MAGIC) + _PROFILE.size + 4:
        return False
    opcode, _, length = _PROFILE.unpack_from(head, len(MCAP_MAGIC))
    start = len(MCAP_MAGIC) + _PROFILE.size
    return bool(opcode == 1 and length == 4 and head[start : start + 4] == b"ros2")
