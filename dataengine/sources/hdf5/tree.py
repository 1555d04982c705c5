"""Walk an HDF5 file that nobody vouches for: open it, follow only links that stay inside it, and turn attributes into JSON.

The HDF5 library follows external links, and soft links through them, to any file of the machine. Here every step looks at the link before it
is taken: hard links only, and soft links whose every part is a hard link. Cycles, depth and the number of objects are bounded.
Source: HDF5 File Format Specification 3.0, sections II (superblock, user block) and IV.A.2.g (link messages).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataengine.core.errors import BadRecording, UsageError, printable
from dataengine.core.problem import Problem
from dataengine.core.protocols import Opener
from dataengine.sources.hdf5.heap import Heap

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SIGNATURE_OFFSETS = (0, 512, 1024, 2048)  # after a user block, whose size is a power of two

MAX_DEPTH = 32
MAX_OBJECTS = 20_000  # groups and datasets of one recording
MAX_LINKS = 200_000  # names in one group: a file may hold as many demonstrations
MAX_SOFT_LINKS = 8  # soft links that point to soft links
MAX_ATTRIBUTE_BYTES = 4 << 20
MAX_METADATA_BYTES = 16 << 20  # attributes and small values of one recording
MAX_PROBLEMS = 100
CHUNK_CACHE_BYTES = 32 << 20  # for chunks that span more rows than are read in one go

DAMAGED = "make the copy again from the original, or look at the file with h5dump"


@contextmanager
def guarded(where: str, expected: str = "an intact HDF5 object") -> Iterator[None]:
    """Turn what h5py raises for a damaged object into BadRecording; only calls into h5py stand under it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, MemoryError, SystemError) as error:
        text = printable(str(error)) or type(error).__name__
        inner = re.search(r"\((.+)\)['\"]?$", text)  # h5py: what it was doing (what the library says)
        text = inner.group(1) if inner else text
        raise BadRecording(where, expected, text[:300], DAMAGED, check="damaged_hdf5") from error


def problem_of(error: BadRecording) -> Problem:
    """Return the problem that an error describes."""
    return Problem(error.check, str(error), error.where, "error", error.expected, error.found, error.advice)


@dataclass
class Notes:
    """What is gathered of one recording beside its streams: metadata and problems, both bounded."""

    metadata: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _bytes: int = 0
    _left_out: int = 0

    def warn(self, check: str, where: str, message: str, advice: str = "") -> None:
        """Note a problem that does not cost the recording."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(check, f"{where}: {message}" + (f"; {advice}" if advice else ""), where, advice=advice))
        else:
            self._left_out += 1

    def keep(self, section: str, name: str, value: Any, size: int, where: str) -> None:
        """Keep a value as metadata; a problem where it is too large."""
        if self._bytes + size > MAX_METADATA_BYTES:
            self.warn("metadata_too_large", where, f"{size} bytes were left out, as the recording holds more than {MAX_METADATA_BYTES} bytes of metadata")
            return
        self._bytes += size
        self.metadata.setdefault(section, {})[name] = value

    def all_problems(self) -> tuple[Problem, ...]:
        """Return the problems, the last of which says how many more there were."""
        if not self._left_out:
            return tuple(self.problems)
        return (*self.problems, Problem("more_problems", f"{self._left_out} more problems of this recording are not listed"))


@dataclass(frozen=True)
class Tree:
    """An open HDF5 file: its root group, its path below the source's root, its size in bytes, its number in the library, and its heap."""

    root: Any
    path: str
    size: int
    number: int
    heap: Heap

    def where(self, path: str) -> str:
        """Name an object for a message."""
        return f"{self.path}:/{printable(path.strip('/'))}"


@contextmanager
def open_tree(files: Opener, path: str, size: int) -> Iterator[Tree]:
    """Open a file for reading, local or remote; raise BadRecording where it is no HDF5 file or its superblock is damaged."""
    try:
        import h5py
    except ImportError as error:
        raise UsageError(f"{path}: reading HDF5 needs h5py; install it with: pip install 'robot-dataengine[hdf5]'") from error
    local = files.local(path)
    handle: Any = local if local is not None else files.open(path)
    try:
        with guarded(path, "an HDF5 file"):
            locking = {"locking": False} if local is not None else {}
            root = h5py.File(handle, "r", rdcc_nbytes=CHUNK_CACHE_BYTES, rdcc_w0=1.0, **locking)
        try:
            with guarded(path, "an HDF5 file with a root group"):
                number = h5py.h5o.get_info(root.id).fileno
                base = root.userblock_size
                address_bytes, length_bytes = root.id.get_create_plist().get_sizes()
            with files.open(path) as raw:
                yield Tree(root, path, size, number, Heap(raw, path, size, base, address_bytes, length_bytes))
        finally:
            root.close()
    finally:
        if local is None:
            handle.close()


def names(tree: Tree, group: Any, path: str) -> list[str]:
    """Return the names in a group, sorted."""
    where = tree.where(path)
    with guarded(where, "a group whose names can be listed"):
        count = group.id.get_num_objs()
    if count > MAX_LINKS:
        raise BadRecording(where, f"at most {MAX_LINKS} names in a group", str(count), DAMAGED, check="absurd_size")
    with guarded(where, "a group whose names can be listed"):
        found = sorted({name.decode("utf-8", "surrogateescape") for name in group.id})
    for name in found:
        if "/" in name or name in ("", ".", ".."):
            raise BadRecording(where, "names without '/' that are not '.' or '..'", repr(name)[:100], DAMAGED, check="path_escapes")
    return found


def child(tree: Tree, group: Any, path: str, name: str, soft_links: int = 0) -> Any:
    """Open one member of a group; raise BadRecording for a link that leaves the file or leads nowhere."""
    import h5py

    raw = name.encode("utf-8", "surrogateescape")
    where = tree.where(f"{path}/{name}")
    with guarded(where, "a link that can be read"):
        kind = group.id.links.get_info(raw).type
        target = b"" if kind == h5py.h5l.TYPE_HARD else group.id.links.get_val(raw)
    if kind == h5py.h5l.TYPE_SOFT and isinstance(target, bytes):
        if soft_links >= MAX_SOFT_LINKS:
            raise BadRecording(where, f"at most {MAX_SOFT_LINKS} soft links in a row", "more", DAMAGED, check="link_cycle")
        return _follow(tree, group, path, target.decode("utf-8", "surrogateescape"), where, soft_links + 1)
    if kind != h5py.h5l.TYPE_HARD:
        raise BadRecording(
            where,
            "data inside this file",
            f"an external link to {target!r}"[:200],
            "copy the linked data into the file (h5repack does not; h5copy does)",
            check="external_link",
        )
    with guarded(where):
        opened = group[raw]
        number = h5py.h5o.get_info(opened.id).fileno
    if number != tree.number:
        raise BadRecording(where, "data inside this file", "an object of another file", "copy the linked data into the file", check="external_link")
    return opened


def _follow(tree: Tree, group: Any, path: str, target: str, where: str, soft_links: int) -> Any:
    """Open the target of a soft link part by part, each one looked at before it is taken."""
    import h5py

    current, at = (tree.root, "") if target.startswith("/") else (group, path)
    parts = [part for part in target.split("/") if part not in ("", ".")]
    if len(parts) > MAX_DEPTH:
        raise BadRecording(where, f"a soft link of at most {MAX_DEPTH} parts", str(len(parts)), DAMAGED, check="link_cycle")
    for part in parts:
        if part == ".." or not isinstance(current, h5py.Group):
            raise BadRecording(where, "a soft link to an object of this file", repr(target)[:200], DAMAGED, check="path_escapes")
        if not has(current, part):
            raise BadRecording(where, "a soft link to an object of this file", f"{target!r}, which is absent"[:200], DAMAGED, check="dangling_link")
        current, at = child(tree, current, at, part, soft_links), f"{at}/{part}"
    return current


def has(group: Any, name: str) -> bool:
    """Return whether a group has a member of that name, without opening it."""
    with guarded(name, "a group that can be searched"):
        return bool(group.id.links.exists(name.encode("utf-8", "surrogateescape")))


def find(tree: Tree, group: Any, path: str, *parts: str) -> Any:
    """Open a member by its parts below a group, None where one of them is absent or no group."""
    import h5py

    for part in parts:
        if not isinstance(group, h5py.Group) or not has(group, part):
            return None
        group, path = child(tree, group, path, part), f"{path}/{part}"
    return group


def walk(tree: Tree, group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path below the root, object) for the group itself and everything below it, in the order of names."""
    import h5py

    count = 0
    stack: list[tuple[str, Any, frozenset[int]]] = [(path, group, frozenset())]
    while stack:
        at, current, above = stack.pop()
        count += 1
        if count > MAX_OBJECTS or len(above) > MAX_DEPTH:
            raise BadRecording(tree.where(at), f"at most {MAX_OBJECTS} objects, {MAX_DEPTH} deep", "more", DAMAGED, check="absurd_size")
        yield at, current
        if not isinstance(current, h5py.Group):
            continue
        with guarded(tree.where(at)):
            address = int(h5py.h5o.get_info(current.id).addr)
        if address in above:
            raise BadRecording(tree.where(at), "groups that do not hold themselves", "a cycle of links", DAMAGED, check="link_cycle")
        below = [(f"{at}/{name}".lstrip("/"), child(tree, current, at, name), above | {address}) for name in names(tree, current, at)]
        stack.extend(reversed(below))


def attributes(tree: Tree, thing: Any, path: str, notes: Notes | None = None) -> dict[str, Any]:
    """Return an object's attributes as JSON values; one that cannot be read or is too large is a problem of `notes`."""
    import h5py

    found: dict[str, Any] = {}
    where = tree.where(path)
    with guarded(where, "attributes that can be listed"):
        count = h5py.h5a.get_num_attrs(thing.id)
        listed = [h5py.h5a.open(thing.id, index=index).name for index in range(min(count, 10_000))]
    for raw in sorted(set(listed)):
        name = printable(raw.decode("utf-8", "surrogateescape"))
        try:
            value, size = _attribute(tree, thing, raw, f"{where}@{name}")
        except BadRecording as error:
            if notes is not None:
                notes.warn("unreadable_attribute", f"{where}@{name}", f"the attribute is not kept: {error.found}")
            continue
        found[name] = value
        if notes is not None:
            notes.keep("attributes", f"/{printable(path)}@{name}", value, size, f"{where}@{name}")
    return found


def _attribute(tree: Tree, thing: Any, raw: bytes, where: str) -> tuple[Any, int]:
    """Return the value of an attribute and its size, whose shape and type are looked at first."""
    import h5py

    with guarded(where, "an attribute that can be read"):
        opened = h5py.h5a.open(thing.id, raw)
        shape, dtype = opened.shape, opened.dtype
        text = h5py.check_string_dtype(dtype)
        address = int(h5py.h5o.get_info(thing.id).addr)
    if shape is None:
        return None, 0
    count = int(np.prod([int(part) for part in shape], dtype=object)) if shape else 1
    if count * max(dtype.itemsize, 1) > MAX_ATTRIBUTE_BYTES:
        raise BadRecording(where, f"an attribute of at most {MAX_ATTRIBUTE_BYTES} bytes", f"shape {shape} of {dtype}", check="absurd_size")
    if text is not None and text.length is None:
        references = tree.heap.attribute_references(address, raw, count, where)
        if references is not None:
            texts = [data.split(b"\0")[0] for data in tree.heap.resolve(references, where)]
            return json_value(np.array(texts, dtype=object).reshape(shape) if shape else texts[0], where)
    elif dtype.kind not in "biufS" or dtype.subdtype is not None:
        raise BadRecording(where, "text or numbers", f"type {dtype}", check="unknown_type")
    with guarded(where, "an attribute that can be read"):
        value = thing.attrs[raw]
    return json_value(value, where)


def json_value(value: Any, where: str) -> tuple[Any, int]:
    """Return a value as JSON can hold it, and its size in bytes; raise BadRecording for references and other kinds."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        if len(value) > MAX_ATTRIBUTE_BYTES:
            raise BadRecording(where, f"text of at most {MAX_ATTRIBUTE_BYTES} characters", f"{len(value)}", check="absurd_size")
        return printable(value), len(value)
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, bool | int):
        return value, 8
    if isinstance(value, float):
        return (value if np.isfinite(value) else repr(value)), 8
    if isinstance(value, bytes | str):
        return json_value(value, where)
    if value is None:
        return None, 0
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufSO":
        parts = [json_value(part, where) for part in (value if value.ndim > 1 else value.tolist())]
        return [part for part, _ in parts], sum(size for _, size in parts)
    raise BadRecording(where, "text or numbers", type(value).__name__, check="unknown_type")


def number_of(values: Mapping[str, Any], *candidates: str) -> float | None:
    """Return the first of the named values that is a positive finite number."""
    for name in candidates:
        value = values.get(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6:
            return float(value)
    return None


def truth_of(values: Mapping[str, Any], name: str) -> bool | None:
    """Return the named value where it is a truth value or 0 or 1, else None."""
    value = values.get(name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None
