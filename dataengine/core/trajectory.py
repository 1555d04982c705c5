"""An episode on one control clock: every column has T rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dataengine.core.arrays import Array, read_only, require
from dataengine.core.clock import ClockKind
from dataengine.core.column import Column


@dataclass(frozen=True, eq=False)
class Trajectory:
    """T steps at the control clock.

    `t_ns` is (T,) int64 from the episode's start, None where the rate is unknown. `columns[name]` are (T, ...) numbers;
    `valid[name]` is (T,) bool, False where no sample was fresh enough (the number there means nothing and is stored as null).
    `sampled_ns[name]` is (T,) int64, the measured time of the sample used (of the later one where two were interpolated), -1 where
    there is none. `frames[name]` is (T,) int64 for a camera: the frame seen, counted from the episode's first, -1 = none.
    `action[t]` was commanded at step t, after `observation[t]` and before `observation[t+1]`.
    """

    t_ns: Array | None
    columns: Mapping[str, Array]
    specs: Mapping[str, Column]
    valid: Mapping[str, Array] = field(default_factory=dict)
    sampled_ns: Mapping[str, Array] = field(default_factory=dict)
    frames: Mapping[str, Array] = field(default_factory=dict)
    clock: ClockKind = "measured"
    rate_hz: float | None = None
    steps: int = 0
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for group in (self.columns, self.valid, self.sampled_ns, self.frames):
            for name, array in group.items():
                if len(array) != self.steps:  # no `require`: its message would be made for each of many columns
                    raise ValueError(f"column {name!r}: must have {self.steps} rows, got {len(array)}")
        require(self.t_ns is None or (self.t_ns.dtype == np.int64 and len(self.t_ns) == self.steps), "t_ns must be (T,) int64")
        object.__setattr__(self, "columns", {name: read_only(array) for name, array in self.columns.items()})
