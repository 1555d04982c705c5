"""What a reader of a format must offer, and what it is given."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from dataengine.core.episode import Event
from dataengine.core.problem import Problem


@dataclass(frozen=True)
class SourceFile:
    """One file of a source as listed: its path below the root, size in bytes, and fingerprint (mtime in ns, or etag)."""

    path: str
    size: int
    fingerprint: str


@dataclass(frozen=True)
class Item:
    """What a reader opens in one go: a file, or the files of one recording; it holds one recording or many.

    `path` names the main file below `root`. `files` are all files that belong to it: their sizes and fingerprints decide whether the item is
    known already. `dataset` is the proposed name; `splits` what the source says; `recordings` how many it should hold, where the
    source says so; `extra` whatever the reader wants to hand to its own `read` (JSON-able). `by_name`: only the file's name speaks for this format, not
    its content; another reader that knows the content takes the file, and without one it is rejected when read.
    """

    reader: str
    root: str
    path: str
    dataset: str
    files: tuple[SourceFile, ...]
    splits: tuple[str, ...] = ()
    recordings: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    by_name: bool = False

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def fingerprint(self) -> str:
        """Return one string that changes when any of the files does, and not with the root below which the item was found."""
        folder = posixpath.dirname(self.path)
        return ";".join(f"{posixpath.relpath(file.path, folder or '.')}|{file.size}|{file.fingerprint}" for file in self.files)


@dataclass(frozen=True)
class Found:
    """What a reader claims of a listing: items, files that belong to them, and parts that are declared but absent."""

    items: Sequence[Item] = ()
    claimed: frozenset[str] = frozenset()
    problems: Sequence[Problem] = ()


class Listing(Protocol):
    """The files below a source root, as the readers see them."""

    @property
    def root(self) -> str:
        """Address of the root (a local folder or file, `s3://...`)."""

    @property
    def name(self) -> str:
        """Last part of the root's path, for naming datasets."""

    @property
    def files(self) -> Mapping[str, SourceFile]:
        """Files by path below the root, in path order, without those that an earlier reader has claimed."""

    def head(self, path: str, size: int = 64) -> bytes:
        """Return the first bytes of a file (cached)."""

    def read_bytes(self, path: str, limit: int = 64 << 20) -> bytes:
        """Return a whole small file; raise BadRecording when it is larger than `limit`."""


class Opener(Protocol):
    """Access to the bytes of an item's files, local or remote; paths never leave the root."""

    def open(self, path: str) -> BinaryIO:
        """Open a file below the root for reading: seekable, buffered."""

    def local(self, path: str) -> str | None:
        """Return the path on this machine, None for a remote file."""

    def read_bytes(self, path: str, limit: int = 64 << 20) -> bytes:
        """Return a whole small file; raise BadRecording when it is larger than `limit`."""


@dataclass(frozen=True)
class ReadOptions:
    """What a user may ask of a reader; everything here that changes its output enters the reading's digest."""

    rate_hz: float | None = None
    description: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


class Reader(Protocol):
    """One format: recognises its recordings and reads them as events. A module with these names is a reader.

    `read` yields for each recording its `Rows` in the order of the file, then its `EpisodeInfo` (or `Rejected`). Raising BadRecording rejects the
    recording that is being read and ends the item. It never holds more than a bounded part of the file.

    A module may have `find_asked(listing, config, asked)` too, which is then called instead of `find`: `config` holds what the job chose for this reader,
    `asked` whether the user named the format.
    """

    NAME: str
    VERSION: str
    RECOGNISED_BY: str
    KEEPS: str

    def find(self, listing: Listing) -> Found:
        """Claim what is this format in a listing."""

    def read(self, item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
        """Read an item."""
