"""The episodes that a loader reads, and their samples, as plain arrays that every process maps."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataengine.core.arrays import Array
from dataengine.loaders.clips import Segments


@dataclass(frozen=True, eq=False)
class EpisodeTable:
    """Episodes of one dataset in order of their id, which does not depend on how and when they landed.

    `arrays` holds (E,) arrays `steps`, `shard`, `ordinal`, `features`, `task` (-1 = none), `embodiment` (-1 = unknown), `rate_hz` (NaN = unknown), `synthetic`, `steps_back` (a clock does), `address<n>` (of the n-th label set, -1 = not labelled), `episode_id` (S32), those of the
    segments (`segment_episode`, `segment_start`, `segment_length`), and the texts that codes stand for, as bytes and offsets.
    """

    arrays: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.arrays["steps"])

    @property
    def segments(self) -> Segments:
        """Return the runs of steps that are samples."""
        return Segments(self.arrays["segment_episode"], self.arrays["segment_start"], self.arrays["segment_length"])

    def text(self, name: str, code: int) -> str:
        """Return the text that a code of `shard`, `features`, `task` or `embodiment` stands for; "" for -1."""
        if code < 0:
            return ""
        offsets = self.arrays[f"{name}_offsets"]
        return bytes(self.arrays[f"{name}_text"][int(offsets[code]) : int(offsets[code + 1])]).decode()

    def texts(self, name: str, most: int | None = None) -> list[str]:
        """Return all texts of a name, or the first few, in order of their codes."""
        count = len(self.arrays[f"{name}_offsets"]) - 1
        return [self.text(name, code) for code in range(count if most is None else min(most, count))]

    def save(self, folder: Path) -> None:
        """Write the arrays to a folder, which appears whole or not at all."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".table-", dir=folder.parent))
        for name, values in self.arrays.items():
            np.save(staged / f"{name}.npy", values, allow_pickle=False)
        try:
            os.rename(staged, folder)
        except OSError:  # another process was faster: what it wrote is the same
            shutil.rmtree(staged, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path) -> EpisodeTable:
        """Map the arrays of a folder."""
        # Plain views of the maps: numpy's own class for these takes several times as long to give one value.
        return cls({path.stem: np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) for path in sorted(folder.glob("*.npy"))})
