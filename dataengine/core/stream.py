"""One sensor on its own clock, and the forms its rows can take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataengine.core.arrays import Array, read_only, require
from dataengine.core.column import Column

Buffer = bytes | memoryview


@dataclass(frozen=True, eq=False)
class Items:
    """Rows that are kept as the bytes they came in: JPEG and PNG frames, messages, texts (UTF-8), packets.

    `encodings` is one name for all rows or one a row; a row that is absent in the source is an empty buffer.
    """

    data: Sequence[Buffer]
    encodings: str | Sequence[str]

    def __len__(self) -> int:
        return len(self.data)

    def encoding(self, row: int) -> str:
        """Return the encoding of one row."""
        return self.encodings if isinstance(self.encodings, str) else self.encodings[row]


@dataclass(frozen=True, eq=False)
class Frames:
    """Raw pictures, (N, H, W) or (N, H, W, C): uint8 ones with 3 channels are encoded as video unless `exact` (depth, masks, tactile) or the config says otherwise."""

    pixels: Array
    exact: bool = False

    def __post_init__(self) -> None:
        require(self.pixels.ndim in (3, 4), f"frames: must be (N, H, W) or (N, H, W, C), got {self.pixels.shape}")
        object.__setattr__(self, "pixels", read_only(self.pixels))

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class MediaFrames:
    """Frames of a video file whose own bytes are kept: `count` frames of track `track` from frame `first`, in presentation order.

    `uri` is where the file can be read: a path below the source's root before it lands, an address inside the store after.
    `index` holds the columns of the track's frame index (see `dataengine.video.index`), `facts` what the container says of the track; both speak of the whole
    track. `span` is (first byte, bytes) of a video that lies inside another file, a tar say: only that part is kept (see `dataengine.core.slices`).
    """

    uri: str
    track: int
    first: int
    count: int
    digest: str | None = None
    index: Mapping[str, Array] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    span: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.count


Values = Array | Items | Frames | MediaFrames


@dataclass(frozen=True, eq=False)
class Rows:
    """Consecutive rows of one stream of the episode that is being read, in the order of the source.

    `clocks` maps a clock's name ("stamp", "log", "publish", "pts") to (n,) int64 ns on that clock's own epoch; empty where the source
    has no time for the rows. `EpisodeInfo` says at the end which of them is the stream's clock.
    """

    stream: str
    values: Values
    clocks: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, stamps in self.clocks.items():
            if stamps.dtype != np.int64 or stamps.shape != (len(self.values),):  # no `require`: its message would be made for each of many rows
                raise ValueError(f"stream {self.stream!r}: clock {name!r} must be ({len(self.values)},) int64, got {stamps.shape} {stamps.dtype}")


@dataclass(frozen=True, eq=False)
class Stream:
    """A whole stream: N rows and their times.

    `timestamps_ns` is (N,) int64 from the episode's start, None where the clock is unknown; other recorded clocks stand in `clocks`.
    """

    column: Column
    values: Values
    timestamps_ns: Array | None = None
    clocks: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.timestamps_ns is not None:
            require(
                self.timestamps_ns.dtype == np.int64 and self.timestamps_ns.shape == (len(self.values),),
                f"stream {self.column.name!r}: timestamps_ns must be ({len(self.values)},) int64, got {self.timestamps_ns.shape} {self.timestamps_ns.dtype}",
            )
            object.__setattr__(self, "timestamps_ns", read_only(self.timestamps_ns))

    def __len__(self) -> int:
        return len(self.values)
