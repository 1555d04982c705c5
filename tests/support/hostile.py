"""A reader whose files do what their text says: land, kill their process, hang, eat memory, raise. For tests of what a job makes of such files.

Child processes import this module with `ingest_unit`, and so know the reader too.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.stream import Rows
from dataengine.sources.registry import READERS
from pipelines.unit import Unit, UnitResult
from pipelines.unit import ingest_unit as real_ingest_unit


class Hostile:
    """The reader, as a module would be one."""

    NAME = "hostile"
    VERSION = "1"
    RECOGNISED_BY = "files *.hostile"
    KEEPS = "one stream of numbers"

    def find(self, listing: Listing) -> Found:
        """Claim the files."""
        files = [file for path, file in listing.files.items() if path.endswith(".hostile")]
        items = [Item(self.NAME, listing.root, file.path, "hostile", (file,)) for file in files]
        return Found(items, frozenset(file.path for file in files))

    def read(self, item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
        """Do what the lines of the file say: `land N` is a recording; `die`, `die unless PATH` exists, `hang`, `eat`, `raise`, `name` with half a
        character in its names."""
        for number, line in enumerate(files.read_bytes(item.path).decode().splitlines()):
            what, _, rest = line.partition(" ")
            if what == "die":
                marker = Path(rest.removeprefix("unless ")) if rest else None
                if marker is None or not marker.exists():
                    if marker is not None:
                        marker.write_text("was here")
                    os.kill(os.getpid(), signal.SIGSEGV)
                continue
            elif what == "hang":
                time.sleep(3600)
            elif what == "eat":
                held = []
                while True:
                    held.append(b"\x01" * (8 << 20))
                    time.sleep(0.005)
            elif what == "raise":
                raise ValueError("a slip of the reader")
            if what == "name":
                yield Rows("observation.\udcff", np.arange(3.0)[:, None], {})
                yield EpisodeInfo("hostile", {"observation.\udcff": Column("observation.\udcff", shape=(1,), dtype="float64")}, "unknown", "\udcfe")
                continue
            values = np.arange(3.0) + (float(rest) if what == "land" else 0.0)
            yield Rows("observation.state", values[:, None], {})
            yield EpisodeInfo("hostile", {"observation.state": Column("observation.state", shape=(1,), dtype="float64")}, "unknown", str(number))


READERS.setdefault(Hostile.NAME, Hostile())


def ingest_unit(unit: Unit) -> UnitResult:
    """Do what the job's own function does, with the hostile reader known."""
    return real_ingest_unit(unit)
