"""What labels the steps of an episode: what it needs to see, what it is shown, and what it must offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from dataengine.core.arrays import Array, read_only, require
from dataengine.core.clock import steps_near
from dataengine.core.column import Column
from dataengine.core.errors import UsageError
from dataengine.core.labels import Labels, LabelSet


@dataclass(frozen=True)
class Needs:
    """What a labeller must see of an episode.

    Attributes:
        cameras: columns or roles ("camera:primary") of the pictures; an episode has one of them at least, and of those that it lacks nothing is seen.
        size: (height, width) in px that they are brought to, uint8 RGB.
        fit: how: "stretch", "pad" or "crop".
        columns: columns or roles ("state", "action") of numbers; an episode that lacks one has no entry of that name.
        before_s, after_s: how far before and after a step the pictures that its answer needs may lie, in s, 0 or more.
    """

    cameras: tuple[str, ...] = ()
    size: tuple[int, int] = (64, 64)
    fit: str = "stretch"
    columns: tuple[str, ...] = ()
    before_s: float = 0.0
    after_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Watched:
    """T steps of an episode as a labeller sees them: all of its steps, or a part of a long one.

    `first` is the part's first step, counted in the episode. `pictures[camera]` are (T, H, W, 3) uint8 RGB and `seen[camera]` (T,) bool: where it is False
    the picture means nothing. A Watched without pictures stands for the whole episode when answers become labels. `columns[name]` are (T, ...) numbers, `valid[name]` (T,) bool;
    `specs[name]` say what they mean. `t_ns` is (T,) int64 from the episode's start, None where the rate is unknown. `action[t]` was commanded at step t, after what
    is seen at t and before what is seen at t + 1; the last step of a recording may have none.
    """

    episode_id: str
    dataset: str
    steps: int
    first: int = 0
    embodiment: str | None = None
    rate_hz: float | None = None
    t_ns: Array | None = None
    pictures: Mapping[str, Array] = field(default_factory=dict)
    seen: Mapping[str, Array] = field(default_factory=dict)
    columns: Mapping[str, Array] = field(default_factory=dict)
    valid: Mapping[str, Array] = field(default_factory=dict)
    specs: Mapping[str, Column] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    success: bool | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        for group_name in ("pictures", "seen", "columns", "valid"):
            group = getattr(self, group_name)
            for name, array in group.items():
                require(len(array) == self.steps, f"watched {name!r}: must have {self.steps} rows, got {len(array)}")
            object.__setattr__(self, group_name, {name: read_only(array) for name, array in group.items()})
        require(self.t_ns is None or (self.t_ns.dtype == np.int64 and len(self.t_ns) == self.steps), "t_ns must be (T,) int64")

    def near(self, steps: Array, seconds: tuple[float, ...]) -> tuple[Array, Array]:
        """Return which steps lie at offsets in s from some steps, and whether that is beyond what is there: (n, K) int64 and (n, K) bool.

        The same rule as that of a loader's `Field(seconds=...)`.

        Raises:
            UsageError: the episode's rate is unknown.
        """
        if self.t_ns is None:
            raise UsageError(f"episode {self.episode_id}: offsets in seconds need a known rate, and its is unknown; ingest it with --rate")
        return steps_near(self.t_ns, steps, seconds)


class Labeller(Protocol):
    """A model or a method that labels every step of an episode.

    A step's answer depends on the inputs of that step alone, never on what stands beside it in a batch, so that batches may be cut across episodes. `answer` is the only
    slow part: it runs where the model lives. Answers are put in the order of the steps before `labels` sees them.
    """

    @property
    def needs(self) -> Needs:
        """What it must see."""

    def label_set(self, name: str) -> LabelSet:
        """Return what all its labels have in common, under a name: the model's digest, what it was trained on, its parameters."""

    def inputs(self, part: Watched, steps: Array) -> dict[str, Array]:
        """Return the inputs of some steps (n,) of a part, counted in the part: arrays (n, ...)."""

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the model's answers, arrays (n, ...), row by row."""

    def labels(self, episode: Watched, answers: Mapping[str, Array]) -> Labels:
        """Return the labels of a whole episode (without pictures) from the answers for all its steps, arrays (T, ...)."""
