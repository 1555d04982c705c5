"""BridgeData V2 as its recorder left it: `…/raw/traj_group<i>/traj<k>/{images<n>/im_<t>.jpg, depth_images<n>/im_<t>.png, lang.txt, obs_dict.pkl, policy_out.pkl}`.

States, actions and times lie in pickles. Reading one runs whatever it says, so they are never opened: pictures and instructions land, and each episode names what
is missing. The set's own RLDS release has all of it. Source: https://github.com/rail-berkeley/bridge_data_v2 (its script from raw to numpy).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from posixpath import basename, dirname
from typing import Any

from dataengine.core.column import Camera, Column, Kind
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording, printable
from dataengine.core.names import dataset_from_path
from dataengine.core.pictures import picture_header
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.stream import Items, Rows

NAME = "bridge_raw"
VERSION = "1"
RECOGNISED_BY = "folders images<n> of pictures im_<t>.jpg below a folder traj<k>"
KEEPS = "the pictures' own bytes, instructions as tasks. Not kept: obs_dict.pkl, policy_out.pkl and other pickles (states, actions, times), which are never executed and are named"

MAX_PICTURE_BYTES = 64 << 20
MAX_TEXT_BYTES = 1 << 20
BLOCK_BYTES = 16 << 20
BATCH = 64

_PICTURE = re.compile(r"^(.*?traj\d+)/((?:depth_)?images\d+)/im_(\d{1,9})\.(?:jpe?g|png)$")
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}.*|\d+|raw|traj_group\d+|traj\d+")


def _dataset(root_name: str, folder: str) -> str:
    """Name the set: <set>/<robot>/<scene>/<task>/<number>/<date>/raw/<group>/<trajectory>, numbers and dates left out; the root, where less is there."""
    parts = [part for part in folder.split("/") if part and not _DATE.fullmatch(part)]
    return dataset_from_path(root_name, "/".join([*parts[-4:-3], "x"]))


def find(listing: Listing) -> Found:
    """Claim each trajectory's folder: its pictures, its text, and the pickles that it names as not read."""
    pictures: dict[str, dict[str, list[tuple[int, str]]]] = {}
    for path in listing.files:
        if "/im_" in path and (named := _PICTURE.match(path)) is not None:
            pictures.setdefault(named.group(1), {}).setdefault(named.group(2), []).append((int(named.group(3)), path))
    beside: dict[str, list[str]] = {}
    for path in listing.files if pictures else ():
        if dirname(path) in pictures and (basename(path) == "lang.txt" or path.endswith(".pkl")):
            beside.setdefault(dirname(path), []).append(path)
    items, claimed = [], set[str]()
    for folder, cameras in pictures.items():
        ordered = {camera: [path for _, path in sorted(found)] for camera, found in sorted(cameras.items())}
        first = next(iter(ordered.values()))[0]
        if not listing.head(first).startswith(_PICTURES) and listing.files[first].size:
            continue
        others = beside.get(folder, [])
        used = [path for paths in ordered.values() for path in paths] + others
        claimed.update(used)
        extra = {
            "cameras": ordered,
            "text": [path for path in others if path.endswith("lang.txt")],
            "pickles": [path for path in others if path.endswith(".pkl")],
        }
        items.append(Item(NAME, listing.root, f"{folder}/", _dataset(listing.name, folder), tuple(listing.files[path] for path in used), (), 1, extra))
    return Found(items, frozenset(claimed))


def _tasks(files: Opener, paths: list[str], problems: list[Problem]) -> tuple[tuple[str, ...], list[str]]:
    """Return the instructions, and the lines that are none (`confidence: 1.0`)."""
    tasks: dict[str, None] = {}
    rest: list[str] = []
    for path in paths:
        try:
            text = files.read_bytes(path, MAX_TEXT_BYTES).decode("utf-8")
        except (BadRecording, UnicodeDecodeError) as error:
            problems.append(Problem("unreadable_text", f"{path}: the instructions cannot be read: {printable(str(error))[:200]}", path))
            continue
        for line in map(str.strip, text.splitlines()):
            if re.match(r"confidence\s*:", line, re.IGNORECASE):
                rest.append(line)
            elif line:
                tasks.setdefault(" ".join(line.split()))
    return tuple(tasks), rest


def _pictures(stream: str, paths: list[str], files: Opener, encodings: set[str]) -> Iterator[Rows]:
    """Yield the pictures of a camera in order, a bounded number at a time."""
    held: list[bytes] = []
    names: list[str] = []
    size = 0
    for path in paths:
        data = files.read_bytes(path, MAX_PICTURE_BYTES)
        header = picture_header(data)
        held.append(data)
        names.append(header.encoding if header else "png" if path.endswith(".png") else "jpeg")
        size += len(data)
        if size > BLOCK_BYTES or len(held) >= BATCH:
            encodings.update(names)
            yield Rows(stream, Items(held, names))
            held, names, size = [], [], 0
    if held:
        encodings.update(names)
        yield Rows(stream, Items(held, names))


def _numbers(paths: list[str]) -> list[int]:
    return [int(re.findall(r"im_(\d+)\.", path)[-1]) for path in paths]


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read the pictures of one trajectory; there are no times, and nothing of its numbers.

    Raises:
        BadRecording: a picture cannot be read.
    """
    problems: list[Problem] = []
    cameras: Mapping[str, list[str]] = item.extra.get("cameras", {})
    pickles = item.extra.get("pickles", ())
    if pickles:
        names = ", ".join(basename(path) for path in pickles)
        advice = "states, actions and times are in the set's RLDS release"
        message = f"{item.path}: {names}: pickles are never executed, so what they hold is not here; {advice}"
        problems.append(Problem("pickle_not_read", message, item.path, advice=advice))
    columns: dict[str, Column] = {}
    for camera, paths in cameras.items():
        depth = camera.startswith("depth_")
        stream = f"observation.images.{'depth' if depth else 'image'}_{re.findall(r'[0-9]+$', camera)[0]}"
        numbers = _numbers(paths)
        if numbers != list(range(len(numbers))):
            found = f"{len(numbers)} pictures numbered up to {numbers[-1]}"
            problems.append(Problem("missing_frames", f"{item.path}{camera}: expected pictures numbered from 0 without gaps, found {found}", item.path))
        encodings: set[str] = set()
        yield from _pictures(stream, paths, files, encodings)
        kind: Kind = "depth" if depth else "image"
        shape: tuple[Any, ...] = (None, None, 1) if depth else (None, None, 3)
        columns[stream] = Column(stream, kind, "uint8", shape, encoding=min(encodings), camera=Camera(), extra={"source": camera})
    tasks, rest = _tasks(files, list(item.extra.get("text", ())), problems)
    rate_hz = options.description.get("rate_hz") or options.rate_hz
    yield EpisodeInfo(
        dataset=item.dataset,
        columns=columns,
        clock="nominal" if rate_hz else "unknown",
        rate_hz=rate_hz,
        tasks=tasks,
        embodiment=options.description.get("embodiment"),
        metadata={"format": "bridge_raw", "text": rest} if rest else {"format": "bridge_raw"},
        problems=tuple(problems),
    )
