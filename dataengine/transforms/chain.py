"""Transforms one after the other, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Transform = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Chain:
    """Apply transforms in order. `inverse` applies the inverses of those that have one, last first: a policy's output in the terms of the data."""

    transforms: tuple[Transform, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", tuple(self.transforms))

    @property
    def inverse(self) -> Chain:
        """Return the way back; what has no inverse (a crop, a change of colours) is left out."""
        backwards = (getattr(transform, "inverse", None) for transform in reversed(self.transforms))
        return Chain(tuple(transform for transform in backwards if transform is not None))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        changed = dict(batch)
        for transform in self.transforms:
            changed = transform(changed)
        return changed
