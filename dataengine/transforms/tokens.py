"""Actions as tokens: every number on its own, in bins of equal width, as RT-1 (Brohan et al. 2022) and RT-2 (Brohan et al. 2023) have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.transforms.batch_fields import demand, field_of, floats_of, padding_of


@dataclass(frozen=True)
class UniformTokens:
    """Turn numbers into int64 tokens 0 to bins - 1: the bin of [low, high] that they lie in, the last bin with its upper end.

    What lies outside goes to the first or last bin. The way back gives the middle of the bin: off by at most `max_error`, half a bin, for what lies
    within; and the tokens of that are the same tokens. A dim whose low and high are equal has the token 0 and comes back as that value.
    NaN in a padded step (`<name>_is_pad`) has the token 0; elsewhere it is an error.

    Args:
        low: lower end of each of the D dims.
        high: upper end of each.
        bins: how many bins; 256 in RT-1 and RT-2.
        name: the field (..., D) of floats.
        into: the field for the tokens; by default they take the place of the numbers.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    bins: int = 256
    name: str = "action"
    into: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", tuple(float(value) for value in self.low))
        object.__setattr__(self, "high", tuple(float(value) for value in self.high))
        ends = np.array([self.low, self.high]) if len(self.low) == len(self.high) else np.array([[np.nan], [np.nan]])
        demand(
            bool(np.isfinite(ends).all() and (ends[0] <= ends[1]).all() and ends.shape[1]),
            f"UniformTokens: low and high must be finite, one for each dim, and low <= high; got {self.low} and {self.high}",
        )
        demand(2 <= self.bins <= 1 << 20, f"UniformTokens: bins must lie in [2, {1 << 20}], got {self.bins}")

    @property
    def inverse(self) -> UniformNumbers:
        """Return the way back."""
        return UniformNumbers(self)

    @property
    def max_error(self) -> tuple[float, ...]:
        """Return half a bin for each dim: how far numbers within [low, high] are from what comes back, but for float rounding."""
        return tuple((high - low) / self.bins / 2 for low, high in zip(self.low, self.high, strict=True))

    def encode(self, numbers: Array) -> Array:
        """Return (..., D) int64 tokens of (..., D) numbers, which must be finite."""
        low, width = self._ends()
        demand(numbers.shape[-1:] == low.shape, f"numbers: must be (..., {len(low)}), got {numbers.shape}")
        demand(bool(np.isfinite(numbers).all()), f"numbers: must be finite to become tokens, got {int((~np.isfinite(numbers)).sum())} that are not")
        bins = np.floor((numbers.astype(np.float64) - low) / np.where(width > 0, width, np.inf))
        return np.clip(bins, 0, self.bins - 1).astype(np.int64)

    def decode(self, tokens: Array) -> Array:
        """Return (..., D) float32 numbers, the middle of each token's bin; raise UsageError for what is no token."""
        low, width = self._ends()
        demand(tokens.dtype.kind in "iu" and tokens.shape[-1:] == low.shape, f"tokens: must be integers (..., {len(low)}), got {tokens.dtype} {tokens.shape}")
        demand(bool(((tokens >= 0) & (tokens < self.bins)).all()), f"tokens: must lie in [0, {self.bins - 1}], got {tokens.min()} to {tokens.max()}")
        return (low + (tokens + 0.5) * width).astype(np.float32)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        numbers = floats_of(batch, self.name, f"which become {self.bins} tokens a dim")
        demand(numbers.shape[-1] == len(self.low), f"batch[{self.name!r}]: must be (..., {len(self.low)}), as low and high are; got {numbers.shape}")
        padded = padding_of(batch, self.name, numbers.shape[:-1])[..., None]
        numbers = np.where(padded & ~np.isfinite(numbers), np.asarray(self.low, numbers.dtype), numbers)
        demand(bool(np.isfinite(numbers).all()), f"batch[{self.name!r}]: must be finite to become tokens, got NaN or infinite numbers")
        return {**batch, self.into or self.name: self.encode(numbers)}

    def _ends(self) -> tuple[Array, Array]:
        low = np.asarray(self.low)
        return low, (np.asarray(self.high) - low) / self.bins


@dataclass(frozen=True)
class UniformNumbers:
    """Turn the tokens of `UniformTokens` back into numbers, in the field they came from."""

    tokens: UniformTokens

    @property
    def inverse(self) -> UniformTokens:
        """Return the way back."""
        return self.tokens

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        name = self.tokens.into or self.tokens.name
        numbers = self.tokens.decode(field_of(batch, name, "the tokens of actions"))
        return {**{key: value for key, value in batch.items() if key != name}, self.tokens.name: numbers}
