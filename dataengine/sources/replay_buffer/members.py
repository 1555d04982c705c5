"""The objects of one Zarr store by key, whether it is a folder or a zip file: only keys that were listed are read, whole and within bounds."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Protocol

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Item, Opener
from dataengine.sources.replay_buffer.zip_members import LOCAL_MAGIC, ZipMembers

# What marks the group of a replay buffer, in Zarr 2 and 3, below its root.
MARKS = ("meta/episode_ends/.zarray", "meta/episode_ends/zarr.json")


class Members(Protocol):
    """Objects by key."""

    def __contains__(self, name: str) -> bool: ...

    def names(self) -> Iterable[str]:
        """Return all keys."""

    def read(self, name: str, limit: int) -> bytes | None:
        """Return an object whole, None where there is none; raise BadRecording where it is larger than `limit` or damaged."""


class FolderMembers:
    """The files of an item, by their paths below the source's root."""

    def __init__(self, files: Opener, paths: Iterable[str]) -> None:
        self._files, self._paths = files, frozenset(paths)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def names(self) -> Iterable[str]:
        """Return all paths."""
        return self._paths

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a file whole, None where it was not listed."""
        return self._files.read_bytes(name, limit) if name in self._paths else None


class Below:
    """Members below a prefix, which their keys then lack."""

    def __init__(self, members: Members, prefix: str) -> None:
        self._members, self._prefix = members, prefix

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._members

    def names(self) -> Iterable[str]:
        """Yield the keys below the prefix."""
        return (name[len(self._prefix) :] for name in self._members.names() if name.startswith(self._prefix))

    def read(self, name: str, limit: int) -> bytes | None:
        """Return an object whole, None where there is none."""
        return self._members.read(self._prefix + name, limit)


def roots(names: Iterable[str]) -> list[str]:
    """Return the prefixes ("" or with a slash at the end) below which a replay buffer stands, in order."""
    return sorted({name[: -len(mark)] for name in names for mark in MARKS if name == mark or name.endswith("/" + mark)})


def open_members(item: Item, files: Opener) -> AbstractContextManager[Members]:
    """Return the members of an item's replay buffer, keys from its root on.

    Raises:
        BadRecording: a zip file that cannot be read, or one that holds no replay buffer, or several.
    """
    if not item.extra.get("zip"):
        return nullcontext(Below(FolderMembers(files, (file.path for file in item.files)), f"{item.path}/" if item.path else ""))
    handle = files.open(item.path)
    head = handle.read(4)
    if head != LOCAL_MAGIC:
        handle.close()
        shown = f"a file that starts with {head!r}" if head else "an empty file"
        raise BadRecording(item.path, "a zip file", shown, "make the copy again from the original, or correct the extension", check="not_zip")
    try:
        members = ZipMembers(handle, item.path)
    except BaseException:
        handle.close()
        raise
    found = roots(members.names())
    if len(found) != 1:
        members.close()
        raise BadRecording(item.path, f"one replay buffer ({MARKS[0]})", f"{len(found)}", "pack one buffer in a zip file", check="unknown_layout")
    return _closing(members, found[0])


def _closing(members: ZipMembers, prefix: str) -> AbstractContextManager[Members]:
    class _Open(Below):
        def close(self) -> None:
            members.close()

    return closing(_Open(members, prefix))
