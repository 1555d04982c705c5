"""HDF5 recordings, by the family that a file's content shows: ALOHA/ACT, robomimic/LIBERO/robosuite, DROID's trajectory alone.

Opening a file runs a parser in C over bytes that nobody vouches for, so `find` looks at signatures only; the family is recognised in
`read`, which a job calls in a child process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dataengine.core.episode import Event
from dataengine.core.errors import BadRecording, printable
from dataengine.core.names import dataset_from_path
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.droid import trajectory as droid
from dataengine.sources.hdf5 import aloha, robomimic
from dataengine.sources.hdf5.tree import SIGNATURE, SIGNATURE_OFFSETS, Tree, names, open_tree

NAME = "hdf5"
VERSION = "2"
RECOGNISED_BY = "the HDF5 signature at byte 0, 512, 1024 or 2048, or the extension .h5 or .hdf5; the family by the groups inside"
KEEPS = "every dataset with a row for each step (dtype kept; JPEG and PNG rows as the same bytes), attributes and small datasets as metadata"

EXTENSIONS = (".h5", ".hdf5")


@dataclass(frozen=True)
class Family:
    """One layout: how a file is recognised as it, in words and by looking, and how it is read."""

    layout: str
    recognise: Callable[[Tree], bool]
    read: Callable[[Tree, Item, ReadOptions], Iterator[Event]]


FAMILIES: dict[str, Family] = {
    aloha.NAME: Family(aloha.LAYOUT, aloha.recognise, aloha.read),
    robomimic.NAME: Family(robomimic.LAYOUT, robomimic.recognise, robomimic.read),
    droid.NAME: Family(droid.LAYOUT, droid.recognise, droid.read),
}


def has_signature(listing: Listing, path: str) -> bool:
    """Return whether a file starts with the HDF5 signature, after a user block or without one."""
    size = listing.files[path].size
    if listing.head(path)[: len(SIGNATURE)] == SIGNATURE:
        return True
    if size < SIGNATURE_OFFSETS[1] + len(SIGNATURE):
        return False
    start = listing.head(path, SIGNATURE_OFFSETS[-1] + len(SIGNATURE))
    return any(start[offset : offset + len(SIGNATURE)] == SIGNATURE for offset in SIGNATURE_OFFSETS[1:])


def find(listing: Listing) -> Found:
    """Claim the HDF5 files of a listing, one item each; one with the extension and without the signature is claimed, and rejected when read."""
    items = []
    for path, file in listing.files.items():
        known = has_signature(listing, path)
        if known or path.lower().endswith(EXTENSIONS):
            items.append(Item(NAME, listing.root, path, dataset_from_path(listing.name, path), (file,), by_name=not known))
    return Found(items, frozenset(item.path for item in items))


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read the recordings of a file.

    Raises:
        BadRecording: no HDF5, of no known family, or damaged.
    """
    with files.open(item.path) as handle:
        start = handle.read(SIGNATURE_OFFSETS[-1] + len(SIGNATURE))
    if not any(start[offset : offset + len(SIGNATURE)] == SIGNATURE for offset in SIGNATURE_OFFSETS):
        shown = f"a file that starts with {start[:8]!r}" if start else "an empty file"
        raise BadRecording(item.path, "the HDF5 signature", shown, "make the copy again from the original, or correct the extension", check="not_hdf5")
    with open_tree(files, item.path, item.size) as tree:
        for family in FAMILIES.values():
            if family.recognise(tree):
                yield from family.read(tree, item, options)
                return
        top = ", ".join(printable(name)[:60] for name in names(tree, tree.root, "")[:12]) or "nothing"
        known = "; ".join(f"{name} ({family.layout})" for name, family in FAMILIES.items())
        raise BadRecording(item.path, f"a known layout: {known}", f"the top-level names {top}", "convert the file to one of these", check="unknown_layout")
