"""DROID raw: a folder for each episode with `trajectory.h5`, `metadata_<uuid>.json` and `recordings/MP4/<serial>.mp4`, `<serial>-stereo.mp4`.

Above the episodes lie `<lab>/<success or failure>/<date>/`, and one file of instructions for all of them. SVO recordings are the camera maker's own format,
which only its own software reads: they are named and not kept. A trajectory without anything beside it is read as HDF5 of this layout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from posixpath import basename, dirname, splitext
from typing import Any

from dataengine.core.episode import Event
from dataengine.core.errors import BadRecording, printable
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.droid.cameras import Film
from dataengine.sources.droid.trajectory import LAYOUT, Beside, read_episode, recognise
from dataengine.sources.hdf5.tree import SIGNATURE, open_tree

NAME = "droid"
VERSION = "1"
RECOGNISED_BY = "a folder with trajectory.h5 (HDF5) and metadata_*.json or recordings/ beside it, or below <success or failure>/<date>/"
KEEPS = (
    "the films' own bytes (stereo ones as they are, side by side), every signal with a row for each step, all clocks of control, robot and cameras under their "
    "names, poses of the cameras over time, flags, attributes and metadata, instructions as tasks. Not kept: SVO files, which are named"
)

TRAJECTORY = "trajectory.h5"
OUTCOMES = {"success": True, "failure": False}
MAX_METADATA_BYTES = 1 << 20
MAX_INSTRUCTIONS_BYTES = 64 << 20

_METADATA = re.compile(r"metadata_(.+)\.json")
_FILM = re.compile(r"(.+?)(-stereo)?\.mp4", re.IGNORECASE)
_TIMES = "_timestamps.json"
_INSTRUCTIONS = re.compile(rb'\s*\{\s*"[^"]{1,200}"\s*:\s*\{\s*"language_instruction\d?"')
_OUTCOME_FOLDER = re.compile(r"/(success|failure)/\d{4}-\d{2}-\d{2}/[^/]+$", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}.*|\d+")


def _dataset(root_name: str, folder: str) -> str:
    """Name the dataset of an episode's folder: what lies above laboratory, outcome, date and episode."""
    parts = folder.split("/") if folder else []
    outcome = next((place for place in range(len(parts) - 1, -1, -1) if parts[place].lower() in OUTCOMES), None)
    if outcome is not None:
        return dataset_from_path(root_name, "/".join([*parts[: max(outcome - 1, 0)], "x"]))
    above = parts[:-1]
    while above and _DATE.fullmatch(above[-1]):
        above.pop()
    return dataset_from_path(root_name, "/".join([*above, "x"]))


def _instructions(listing: Listing) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return (folder, path, content) of each file that holds instructions by the name of the episode."""
    found: list[tuple[str, str, Mapping[str, Any]]] = []
    for path, file in listing.files.items():
        if path.lower().endswith(".json") and "annotation" in basename(path).lower() and file.size <= MAX_INSTRUCTIONS_BYTES:
            if _INSTRUCTIONS.match(listing.head(path, 512)) is None:
                continue
            try:
                content = json.loads(listing.read_bytes(path, MAX_INSTRUCTIONS_BYTES))
            except (BadRecording, ValueError, RecursionError):
                continue  # the file stays among those that are ignored
            if isinstance(content, dict):
                found.append((dirname(path), path, content))
    return found


def _of_episode(content: Mapping[str, Any], uuid: str) -> list[str]:
    entry = content.get(uuid)
    texts = [entry[key] for key in sorted(entry)] if isinstance(entry, dict) else []
    return [text for text in texts if isinstance(text, str) and text.strip()]


def find(listing: Listing) -> Found:
    """Claim the folders of episodes, one item each, and the instructions that belong to some of them."""
    folders: dict[str, list[str]] = {}
    episodes = sorted(dirname(path) for path in listing.files if basename(path) == TRAJECTORY)
    if not episodes:
        return Found()
    known = frozenset(episodes)
    for path in listing.files:
        folder = dirname(path)
        if folder not in known:
            folder = folder.removesuffix("/MP4").removesuffix("/SVO")
            folder = folder.removesuffix("recordings").rstrip("/") if basename(folder) == "recordings" else "\0"
        if folder in known:
            folders.setdefault(folder, []).append(path)
    instructions = _instructions(listing)
    items: list[Item] = []
    claimed: set[str] = set()
    for folder in episodes:
        item = _item(listing, folder, folders[folder], instructions)
        if item is not None:
            items.append(item)
            claimed.update(file.path for file in item.files)
    return Found(items, frozenset(claimed))


def _item(listing: Listing, folder: str, paths: list[str], instructions: list[tuple[str, str, Mapping[str, Any]]]) -> Item | None:
    """Return the item of a folder, None where nothing but the trajectory speaks for DROID."""
    trajectory = f"{folder}/{TRAJECTORY}".lstrip("/")
    within = {path: path[len(folder) :].lstrip("/") for path in paths}
    metadata = [path for path, name in within.items() if _METADATA.fullmatch(name)]
    films = [path for path, name in within.items() if name.startswith("recordings/") and _FILM.fullmatch(basename(name))]
    times = [path for path, name in within.items() if name.startswith("recordings/") and name.endswith(_TIMES)]
    svos = [path for path, name in within.items() if name.lower().endswith((".svo", ".svo2"))]
    if not (metadata or films or svos or _OUTCOME_FOLDER.search(f"/{folder}")):
        return None
    uuid = _METADATA.fullmatch(basename(metadata[0])) if metadata else None
    texts: list[str] = []
    used = [trajectory, *metadata, *films, *times]
    for above, path, content in instructions:
        found = _of_episode(content, uuid.group(1)) if uuid and (not above or f"{folder}/".startswith(f"{above}/")) else []
        if found:
            texts += found
            used.append(path)
    outcomes = [part.lower() for part in folder.split("/") if part.lower() in OUTCOMES]
    extra = {"metadata": metadata, "films": films, "times": times, "svos": len(svos), "instructions": texts, "outcome": outcomes[-1] if outcomes else None}
    return Item(NAME, listing.root, trajectory, _dataset(listing.name, folder), tuple(listing.files[path] for path in used), (), 1, extra)


def _films(item: Item) -> list[Film]:
    """Return the films of an item: those of one lens before those of both, by serial number."""
    times = {basename(path).removesuffix(_TIMES): path for path in item.extra.get("times", ())}
    found = []
    for path in item.extra.get("films", ()):
        named = _FILM.fullmatch(basename(path))
        assert named is not None
        found.append(Film(named.group(1), path, bool(named.group(2)), times.get(splitext(basename(path))[0], "")))
    return sorted(found, key=lambda film: (film.stereo, film.serial, film.path))


def _metadata(item: Item, files: Opener, problems: list[Problem]) -> Mapping[str, Any]:
    """Return what the metadata file says; one that cannot be read, or a second one, is a problem."""
    paths = item.extra.get("metadata", ())
    if not paths:
        problems.append(Problem("missing_metadata", f"{item.path}: no metadata_*.json lies beside it; cameras are told by their types", item.path))
        return {}
    if len(paths) > 1:
        problems.append(Problem("several_metadata", f"{paths[0]}: one of {len(paths)} metadata files, the others are not read", paths[0]))
    try:
        content = json.loads(files.read_bytes(paths[0], MAX_METADATA_BYTES))
        if not isinstance(content, dict):
            raise ValueError(f"expected a JSON object, found {type(content).__name__}")
    except (BadRecording, ValueError, RecursionError) as error:
        problems.append(Problem("unreadable_metadata", f"{paths[0]}: the metadata cannot be read: {printable(str(error))[:300]}", paths[0]))
        return {}
    return content


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read the episode of one folder.

    Raises:
        BadRecording: the trajectory is no HDF5 or not of DROID's layout, or it or a film cannot be read.
    """
    problems: list[Problem] = []
    metadata = _metadata(item, files, problems)
    svos = item.extra.get("svos", 0)
    if svos:
        message = f"{item.path}: {svos} SVO recordings lie beside it; only the camera maker's software reads them, so they are not kept"
        problems.append(Problem("svo_not_kept", message, item.path, "info"))
    beside = Beside(_films(item), metadata, item.extra.get("instructions", ()), OUTCOMES.get(item.extra.get("outcome") or ""), problems)
    size = next((file.size for file in item.files if file.path == item.path), 0)
    with files.open(item.path) as handle:
        start = handle.read(len(SIGNATURE))
    if start != SIGNATURE:
        raise BadRecording(item.path, "the HDF5 signature", f"a file that starts with {start!r}", "make the copy again", check="not_hdf5")
    with open_tree(files, item.path, size) as tree:
        if not recognise(tree):
            raise BadRecording(item.path, LAYOUT, "other groups", "give the file as a source of its own, by itself", check="unknown_layout")
        yield from read_episode(tree, item, options, files, beside)
