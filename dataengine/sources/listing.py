"""The files of a source as the readers see them, and their bytes: local or in an object store, never outside the root."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from dataengine.core.errors import BadRecording, StoreError, UsageError
from dataengine.core.objects import LocalObjects, Objects, is_remote, open_objects, safe_key
from dataengine.core.problem import Problem
from dataengine.core.protocols import SourceFile

HEAD_BYTES = 64  # what most signatures need; kept for every file that was looked at


def _escapes(path: str, target: str) -> BadRecording:
    return BadRecording(
        path,
        "a file inside the source's folder",
        f"a link to {target!r}"[:300],
        "give the folder that the link points to as the source, or copy the file in",
        check="path_escapes",
    )


class SourceOpener:
    """Bytes of the files below one root.

    Every path is checked: one that leaves the root, by its name or through a symbolic link, raises BadRecording(check="path_escapes");
    a file that is gone or cannot be read raises BadRecording(check="unreadable_file").
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        root = objects.local("")
        self._real_root = None if root is None else os.path.realpath(root)

    def _checked(self, path: str) -> str:
        safe_key(path, path)
        local = self._objects.local(path)
        if local is not None and self._real_root is not None:
            real = os.path.realpath(local)
            if os.path.commonpath([real, self._real_root]) != self._real_root:
                raise _escapes(path, real)
            if os.path.exists(real) and not os.path.isfile(real):
                raise BadRecording(path, "a regular file", "a folder, pipe or device", "give the files themselves", check="unreadable_file")
        return path

    def open(self, path: str) -> BinaryIO:
        """Open a file below the root for reading: seekable, buffered."""
        try:
            return self._objects.open(self._checked(path))
        except OSError as error:
            raise _unreadable(path, error) from error

    def local(self, path: str) -> str | None:
        """Return the path on this machine, None for a remote file."""
        found = self._objects.local(self._checked(path))
        return None if found is None else str(found)

    def read_bytes(self, path: str, limit: int = 64 << 20) -> bytes:
        """Return a whole small file; raise BadRecording when it is larger than `limit`."""
        with self.open(path) as handle:
            try:
                data = handle.read(limit + 1)
            except OSError as error:
                raise _unreadable(path, error) from error
        if len(data) > limit:
            raise BadRecording(path, f"at most {limit} bytes", "more", "check that this is the file it claims to be", check="too_large")
        return data


def _unreadable(path: str, error: OSError) -> BadRecording:
    return BadRecording(path, "a file that can be read", error.strerror or str(error), "check that it exists and may be read", check="unreadable_file")


class SourceListing:
    """The files below one root, in path order.

    `root` is always the address of a folder or prefix (of the folder of the file, where the source is one file), so that `root` and a
    path of `files` are enough to open it again. `problems` names the entries that are left out of `files`: links that leave the root,
    pipes and devices, names that are not Unicode.
    """

    def __init__(self, objects: Objects, name: str, only: str = "") -> None:
        """List `objects` (below the key `only`, where given) under the root's `name`."""
        self._objects = objects
        self._name = name
        self._opener = SourceOpener(objects)
        self._heads: dict[str, bytes] = {}
        self.problems: list[Problem] = []
        found = [meta for meta in objects.list(only) if meta.key and not meta.key.endswith("/")]
        kept = _inside(Path(objects.url), [meta.key for meta in found], self.problems) if isinstance(objects, LocalObjects) else None
        listed = {meta.key: SourceFile(meta.key, meta.size, meta.fingerprint) for meta in found if kept is None or meta.key in kept}
        self._files: Mapping[str, SourceFile] = {path: listed[path] for path in sorted(listed)}

    @property
    def root(self) -> str:
        """Address of the root folder or prefix."""
        return self._objects.url

    @property
    def name(self) -> str:
        """Last part of the root's path, for naming datasets."""
        return self._name

    @property
    def files(self) -> Mapping[str, SourceFile]:
        """Files by path below the root, in path order, without those that were claimed."""
        return self._files

    @property
    def opener(self) -> SourceOpener:
        """Access to the files' bytes."""
        return self._opener

    def without(self, claimed: Iterable[str]) -> SourceListing:
        """Return the listing without the files that a reader has claimed; what was read of the others stays known."""
        gone = frozenset(claimed)
        rest = object.__new__(SourceListing)
        rest.__dict__.update(self.__dict__)
        rest._files = {path: file for path, file in self._files.items() if path not in gone}
        return rest

    def head(self, path: str, size: int = HEAD_BYTES) -> bytes:
        """Return the first bytes of a file (cached); none for a file that cannot be read, which `problems` then names."""
        file = self._files[path]
        wanted = min(max(size, HEAD_BYTES), file.size)
        known = self._heads.get(path, b"")
        if len(known) < wanted:
            try:
                with self._opener.open(path) as handle:
                    known = handle.read(wanted)
            except (BadRecording, OSError) as error:
                self._note(path, error)
                return b""
            self._heads[path] = known
        return known[:size]

    def read_bytes(self, path: str, limit: int = 64 << 20) -> bytes:
        """Return a whole small file; raise BadRecording when it is larger than `limit` or cannot be read."""
        return self._opener.read_bytes(path, limit)

    def _note(self, path: str, error: BadRecording | OSError) -> None:
        if not any(problem.where == path and problem.check == "unreadable_file" for problem in self.problems):
            self.problems.append(Problem("unreadable_file", str(error), where=path, severity="error"))


def _inside(root: Path, paths: list[str], problems: list[Problem]) -> frozenset[str]:
    """Return the paths that are regular files inside `root`, links followed; name the others in `problems`."""
    top = str(root)
    real_root = os.path.realpath(top)
    real_folders: dict[str, str] = {}
    kept = []
    for path in paths:
        if path.encode("utf-8", "ignore").decode() != path:  # surrogates stand for bytes that are no UTF-8
            shown = path.encode("utf-8", "backslashreplace").decode()
            problems.append(
                Problem("unreadable_name", f"{shown}: expected a file name in UTF-8, found other bytes; rename the file", where=shown, severity="error")
            )
            continue
        full = os.path.join(top, path)
        folder = os.path.dirname(full)
        if folder not in real_folders:
            real_folders[folder] = os.path.realpath(folder)
        facts = os.lstat(full)
        real = os.path.join(real_folders[folder], os.path.basename(full))
        if stat.S_ISLNK(facts.st_mode):
            real = os.path.realpath(full)
            facts = os.stat(real)
        if os.path.commonpath([real, real_root]) != real_root:
            error = _escapes(path, real)
            problems.append(Problem("path_escapes", str(error), where=path, severity="error", expected=error.expected, found=error.found, advice=error.advice))
        elif not stat.S_ISREG(facts.st_mode):
            problems.append(Problem("unreadable_file", f"{path}: expected a regular file, found a pipe, socket or device", where=path, severity="error"))
        else:
            kept.append(path)
    return frozenset(kept)


def _telling_name(folder: Path) -> str:
    """Return the folder's name, its parent's where it is only a number or version (`bridge_dataset/1.0.0`)."""
    return folder.parent.name if re.fullmatch(r"[\d._-]+", folder.name) and folder.parent.name else folder.name


def list_source(url: str, storage_options: Mapping[str, str] | None = None) -> SourceListing:
    """List a source: a local file or folder, or an object or prefix of an object store.

    Args:
        url: a local path, `file://...`, `s3://bucket/prefix`, `gs://...`, `az://...`.
        storage_options: options of the object store (see `dataengine.core.objects.open_objects`).

    Raises:
        UsageError: the source does not exist, or cannot be listed.
    """
    if is_remote(url):
        return _list_remote(url.rstrip("/"), storage_options)
    if "://" in url and not url.startswith("file://"):
        open_objects(url)  # names the kinds of addresses that are known
    path = Path(os.path.abspath(Path(url.removeprefix("file://")).expanduser()))
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise UsageError(f"{url}: this folder may not be read; change its permissions")
        return SourceListing(LocalObjects(path), _telling_name(path))
    if path.exists():
        return SourceListing(LocalObjects(path.parent), _telling_name(path.parent), only=path.name)
    raise UsageError(f"{url}: no such file or folder; check the path")


def _list_remote(url: str, storage_options: Mapping[str, str] | None) -> SourceListing:
    scheme, _, rest = url.partition("://")
    try:
        listing = SourceListing(open_objects(url, storage_options), _telling_name(Path(rest)))
        if listing.files:
            return listing
        folder, _, name = rest.rpartition("/")
        if folder:
            single = SourceListing(open_objects(f"{scheme}://{folder}", storage_options), _telling_name(Path(folder)), only=name)
            if single.files:
                return single
    except (StoreError, OSError) as error:
        raise UsageError(f"{url}: cannot be listed: {error}; check the address and the storage options"[:1000]) from error
    raise UsageError(f"{url}: there is nothing under this address; check the path")
