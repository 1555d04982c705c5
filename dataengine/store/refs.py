"""Addresses of stores, versions and tags: `STORE`, `STORE@12`, `STORE@name`, `STORE@open`, and `#dataset` last where one is meant.

Version and tag files are put-if-absent: what a number or a name means never changes.
"""

from __future__ import annotations

import getpass
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dataengine.core.errors import AlreadyThere, CorruptStore, UsageError, VersionNotFound
from dataengine.core.names import require_slug
from dataengine.core.objects import Objects
from dataengine.store import layout

OPEN = "open"


@dataclass(frozen=True)
class Address:
    """A parsed store address; `ref` is None for the latest version, "open" for everything that is committed, else a number or tag."""

    url: str
    ref: str | None = None
    dataset: str | None = None


def parse_address(text: str) -> Address:
    """Split `URL[@REF][#dataset]` at its last "#" and its last "@" after the last "/"."""
    url, _, dataset = text.rpartition("#") if "#" in text.rsplit("/", 1)[-1] else (text, "", "")
    head, slash, last = url.rpartition("/")
    ref: str | None = None
    if "@" in last:
        last, _, ref = last.rpartition("@")
        url = head + slash + last
    if not url:
        raise UsageError(f"{text!r}: must name a store, got nothing before '@'")
    return Address(url, ref or None, require_slug("dataset", dataset) if dataset else None)


@dataclass(frozen=True)
class Version:
    """What the store held when a job ended.

    Rows of a job in `open_jobs` whose commit number is greater than the one given there are not part of the version.
    """

    number: int
    catalog_version: int
    job: str
    command: str = ""
    config_digest: str = ""
    counts: Mapping[str, Any] = field(default_factory=dict)
    open_jobs: Mapping[str, int] = field(default_factory=dict)
    created_ns: int = 0
    created_by: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the version as its file holds it."""
        return {
            "version": self.number,
            "catalog_version": self.catalog_version,
            "job": self.job,
            "command": self.command,
            "config_digest": self.config_digest,
            "counts": dict(self.counts),
            "open_jobs": dict(self.open_jobs),
            "created_ns": self.created_ns,
            "created_by": self.created_by,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Version:
        """Read the version from its file's content."""
        return cls(
            number=document["version"],
            catalog_version=document["catalog_version"],
            job=document["job"],
            command=document["command"],
            config_digest=document["config_digest"],
            counts=document["counts"],
            open_jobs=document["open_jobs"],
            created_ns=document["created_ns"],
            created_by=document["created_by"],
        )


def who() -> str:
    """Return user@host for the record of who did it."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def read_json(objects: Objects, key: str) -> dict[str, Any]:
    """Return a JSON object of the store; raise FileNotFoundError, or CorruptStore where it is not one."""
    try:
        document = json.loads(objects.get(key))
    except ValueError as error:
        raise CorruptStore(f"{objects.url}/{key}: expected JSON, found something else ({error}); restore it from a copy") from error
    if not isinstance(document, dict):
        raise CorruptStore(f"{objects.url}/{key}: expected a JSON object, found {type(document).__name__}; restore it from a copy")
    return document


def version_numbers(objects: Objects) -> list[int]:
    """Return the numbers of all versions, ascending."""
    names = (meta.key.rsplit("/", 1)[-1] for meta in objects.list(layout.VERSIONS))
    return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())


def read_version(objects: Objects, number: int) -> Version:
    """Return a version by number; raise VersionNotFound, which says who removed it and when where gc wrote that down."""
    try:
        return Version.from_dict(read_json(objects, layout.version_key(number)))
    except KeyError as error:
        raise CorruptStore(f"{objects.url}/{layout.version_key(number)}: expected the key {error}, found none; restore the file from a copy") from None
    except FileNotFoundError:
        pass
    for meta in objects.list(layout.REMOVED):
        record = read_json(objects, meta.key)
        if number in record.get("forgotten", []):
            when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record["created_ns"] / 1e9))
            raise VersionNotFound(f"{objects.url}@{number}: this version was forgotten by {record['created_by']} on {when} (gc --forget); choose another")
    known = version_numbers(objects)
    raise VersionNotFound(
        f"{objects.url}@{number}: no such version; the store has {'versions ' + str(known[0]) + ' to ' + str(known[-1]) if known else 'no version yet'}"
    )


def latest_version(objects: Objects) -> Version | None:
    """Return the newest version, None for a store without any."""
    numbers = version_numbers(objects)
    return read_version(objects, numbers[-1]) if numbers else None


def put_version(objects: Objects, version: Version, checksums: Mapping[str, str] | None = None) -> Version:
    """Write a version under its number, with the checksums of the catalog's files that it brings; raise AlreadyThere where another writer took it."""
    document = version.as_dict() | {"created_ns": time.time_ns(), "created_by": who(), "checksums": dict(checksums or {})}
    objects.put_if_absent(layout.version_key(version.number), json.dumps(document, indent=1).encode())
    return Version.from_dict(document)


def put_tag(objects: Objects, name: str, number: int) -> None:
    """Name a version; raise UsageError where the name is taken for another version or is all digits."""
    require_slug("tag", name)
    if name.isdigit() or name == OPEN:
        raise UsageError(f"tag {name!r}: must not be all digits and not {OPEN!r}, so that a reference can be told from a version number")
    read_version(objects, number)
    document = {"tag": name, "version": number, "created_ns": time.time_ns(), "created_by": who()}
    try:
        objects.put_if_absent(layout.tag_key(name), json.dumps(document, indent=1).encode())
    except AlreadyThere:
        there = read_json(objects, layout.tag_key(name))["version"]
        if there != number:
            raise UsageError(f"tag {name!r}: stands for version {there} already, and a tag never moves; choose another name") from None


def tags(objects: Objects) -> dict[str, int]:
    """Return all tags and the versions they name."""
    found = {}
    for meta in objects.list(layout.TAGS):
        if meta.key.endswith(".json"):
            document = read_json(objects, meta.key)
            found[str(document["tag"])] = int(document["version"])
    return found


def resolve(objects: Objects, ref: str | None) -> Version | None:
    """Return the version a reference names; None for an empty store's latest version."""
    if ref is None:
        return latest_version(objects)
    if ref.isdecimal():
        return read_version(objects, int(ref))
    require_slug("tag", ref)
    try:
        number = int(read_json(objects, layout.tag_key(ref))["version"])
    except FileNotFoundError:
        known = tags(objects)
        raise VersionNotFound(f"{objects.url}@{ref}: no such tag; known tags: {', '.join(sorted(known)) or 'none'}") from None
    return read_version(objects, number)
