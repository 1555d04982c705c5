"""Samples as tar archives of bounded size, the same bytes for the same samples: no times, no owners."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BLOCK = 512
NUMBERED = 6  # digits of a shard's number


@dataclass(frozen=True)
class TarShard:
    """A finished archive: its samples and bytes, its digest, and the keys of its first and last sample."""

    name: str
    samples: int
    bytes: int
    sha256: str
    first: str
    last: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


class _Digested(io.RawIOBase):
    """A file that is written in one go, and its digest."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb", buffering=1 << 20)
        self.sha256, self.size = hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class TarShards:
    """Writes `<name>-000000.tar`, `<name>-000001.tar`, ... into a folder.

    A sample lies in one archive. An archive ends before the sample that would make it larger than `shard_bytes`; a larger sample has one of its own.
    """

    def __init__(self, folder: Path, name: str, shard_bytes: int) -> None:
        self.folder, self.name, self.shard_bytes = folder, name, shard_bytes
        self.shards: list[TarShard] = []
        self._file: _Digested | None = None
        self._tar: tarfile.TarFile | None = None
        self._samples = self._filled = 0
        self._first = self._last = ""

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Write a sample: a member `<key>.<name>` for each entry, in order of name."""
        size = sum(BLOCK + -(-len(data) // BLOCK) * BLOCK for data in members.values())
        if self._samples and self._filled + size > self.shard_bytes:
            self.close()
        if self._tar is None:
            self._file = _Digested(self.folder / self._path)
            self._tar = tarfile.open(fileobj=self._file, mode="w|", format=tarfile.GNU_FORMAT)
            self._first = key
        for name in sorted(members):
            entry = tarfile.TarInfo(f"{key}.{name}")
            entry.size, entry.mode = len(members[name]), 0o644
            self._tar.addfile(entry, io.BytesIO(members[name]))
        self._samples += 1
        self._filled += size
        self._last = key

    @property
    def _path(self) -> str:
        return f"{self.name}-{len(self.shards):0{NUMBERED}d}.tar"

    def close(self) -> None:
        """End the archive that is being written, if there is one."""
        if self._tar is None or self._file is None:
            return
        self._tar.close()
        self._file.close()
        self.shards.append(TarShard(self._path, self._samples, self._file.size, self._file.sha256.hexdigest(), self._first, self._last))
        self._tar, self._file = None, None
        self._samples = self._filled = 0
