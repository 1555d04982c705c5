"""Chunks of actions as few tokens: a cosine transform along the steps, rounded, and byte-pair encoded. After FAST (Pertsch et al. 2025, arXiv:2501.09747).

    tokens = train_fast_tokens(chunks, vocab_size=1024, scale=10)  # chunks (N, A, D), normalised to about [-1, 1]
    encoded = tokens.encode(chunks)  # a list of (L,) int64
    tokens.decode(encoded)  # (N, A, D) float32, within tokens.max_error of the chunks

A chunk (A, D) becomes A x D coefficients of the orthonormal DCT-II along its steps, times `scale`, rounded to integers: `quantise`. They are laid out
with the lowest frequency of all dims first, and a smooth chunk ends in zeros. Integers in [low, high], the range met in training, are a symbol each.
One outside is an escape symbol and its digits, so that `decode` gives back the rounded coefficients of any chunk, not only of those trained on.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array, read_only
from dataengine.core.errors import UsageError
from dataengine.transforms.batch_fields import demand, field_of, floats_of, padding_of
from dataengine.transforms.pair_merging import MAX_SYMBOLS, expansions, learn_merges, merge_sequences, rank_table

MAX_SIDE = 4096  # of a chunk; a matrix of its steps is held
FORMAT = "fast-tokens/1"
LARGEST = 1 << 30  # a coefficient beyond is no action


@lru_cache(maxsize=32)
def dct_matrix(steps: int) -> Array:
    """Return the (A, A) float64 orthonormal DCT-II: row k holds sqrt(2 / A) cos(pi (t + 1/2) k / A), row 0 sqrt(1 / A)."""
    t, k = np.arange(steps) + 0.5, np.arange(steps)[:, None]
    matrix = np.sqrt(2 / steps) * np.cos(np.pi * t * k / steps)
    matrix[0] = np.sqrt(1 / steps)
    return read_only(matrix)


@dataclass(frozen=True)
class FastTokens:
    """A trained vocabulary: symbols for the integers low to high, one for the escape, and one for each merge of two symbols.

    Args:
        steps: A of the chunks.
        dims: D of the chunks.
        scale: coefficients are multiplied by it before they are rounded.
        low: the smallest integer that has a symbol of its own.
        high: the largest.
        merges: pairs of symbols; the k-th stands for symbol high - low + 2 + k.
    """

    steps: int
    dims: int
    scale: float
    low: int
    high: int
    merges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        for name in ("steps", "dims", "low", "high"):
            object.__setattr__(self, name, operator.index(getattr(self, name)))
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "merges", tuple((int(first), int(second)) for first, second in self.merges))
        sides = 1 <= self.steps <= MAX_SIDE and 1 <= self.dims <= MAX_SIDE
        demand(sides and 0 < self.scale < np.inf, f"FastTokens: steps and dims must lie in [1, {MAX_SIDE}], scale above 0; got {self._settings()}")
        demand(self.low < self.high, f"FastTokens: low must lie below high, got {self._settings()}")
        demand(self.vocab_size <= MAX_SYMBOLS, f"FastTokens: may have {MAX_SYMBOLS} symbols, got {self.vocab_size}; take a smaller scale")
        lengths, longest = [1] * self.symbols, self.steps * self.dims * (1 + self._digits())
        for number, pair in enumerate(self.merges):
            demand(all(0 <= symbol < self.symbols + number for symbol in pair), f"FastTokens: merge {number} must be of symbols before it, got {pair}")
            lengths.append(lengths[pair[0]] + lengths[pair[1]])
            demand(lengths[-1] <= longest, f"FastTokens: merge {number} must stand for at most {longest} symbols, those of a chunk; got {lengths[-1]}")
        demand(len(set(self.merges)) == len(self.merges), "FastTokens: no pair may be merged twice")

    @property
    def symbols(self) -> int:
        """Return the number of symbols before any merge: the integers and the escape."""
        return self.high - self.low + 2

    @property
    def vocab_size(self) -> int:
        """Return the number of tokens: they are 0 to vocab_size - 1."""
        return self.symbols + len(self.merges)

    @property
    def max_error(self) -> float:
        """Return how far any number of any chunk can be from what comes back, but for float rounding: each coefficient is off by half a step at most."""
        return float(0.5 / self.scale * np.abs(dct_matrix(self.steps)).sum(axis=0).max())

    def quantise(self, chunks: Array) -> Array:
        """Return (N, A, D) int64 rounded coefficients of (N, A, D) chunks, the lowest frequency first; raise UsageError."""
        return _rounded(self._checked(chunks), self.scale)

    def dequantise(self, coefficients: Array) -> Array:
        """Return (N, A, D) float32 chunks of rounded coefficients."""
        return _along_steps(dct_matrix(self.steps).T, coefficients / self.scale).astype(np.float32)

    def encode(self, chunks: Array) -> list[Array]:
        """Return for each of (N, A, D) chunks its (L,) int64 tokens; the same ones whichever chunks it comes with."""
        coefficients = self.quantise(chunks).reshape(len(chunks), self.steps * self.dims)
        plain = (coefficients >= self.low) & (coefficients <= self.high)
        if plain.all():
            rows: Sequence[Array] = list(coefficients - self.low)
        else:
            simple = np.asarray(plain.all(axis=1))
            rows = [row - self.low if simple[number] else self._escaped(row) for number, row in enumerate(coefficients)]
        return [row.astype(np.int64) for row in merge_sequences(rows, _table(self), self.symbols)]

    def decode(self, tokens: Sequence[Array], strict: bool = True) -> Array:
        """Return (N, A, D) float32 chunks: the inverse of `encode`, up to the rounding of coefficients.

        Args:
            tokens: for each chunk its (L,) integers.
            strict: whether tokens that give too few or too many coefficients are an error; otherwise (a policy's own) the missing ones, which are of
                the highest frequencies, are 0, and those over are left out.
        """
        return self.dequantise(self.coefficients(tokens, strict))

    def coefficients(self, tokens: Sequence[Array], strict: bool = True) -> Array:
        """Return (N, A, D) int64 rounded coefficients of tokens: exactly those that `quantise` gave; see `decode`."""
        wanted = self.steps * self.dims
        found = np.zeros((len(tokens), wanted), np.int64)
        lengths, starts, table = _expansion_table(self)
        for number, sequence in enumerate(tokens):
            row = np.asarray(sequence)
            demand(row.ndim == 1 and (row.dtype.kind in "iu" or not len(row)), f"tokens of chunk {number}: must be (L,) integers, got {row.dtype} {row.shape}")
            row = row.astype(np.int64)
            demand(
                not len(row) or (row.min() >= 0 and row.max() < self.vocab_size), f"tokens of chunk {number}: must lie in [0, {self.vocab_size - 1}], got {row}"
            )
            each = lengths[row]
            inside = np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
            symbols = table[np.repeat(starts[row], each) + inside]
            values = self._unescaped(symbols) if (symbols == self.symbols - 1).any() else symbols + self.low
            demand(
                not strict or len(values) == wanted, f"tokens of chunk {number}: must stand for {wanted} coefficients, got {len(values)}; strict=False fills up"
            )
            found[number, : min(len(values), wanted)] = values[:wanted]
        return found.reshape(len(tokens), self.steps, self.dims)

    def _settings(self) -> str:
        return f"steps={self.steps}, dims={self.dims}, scale={self.scale}, low={self.low}, high={self.high}"

    def _checked(self, chunks: Array) -> Array:
        chunks = np.asarray(chunks)
        demand(
            chunks.dtype.kind == "f" and chunks.shape[1:] == (self.steps, self.dims) and chunks.ndim == 3,
            f"chunks: must be floats (N, {self.steps}, {self.dims}), got {chunks.dtype} {chunks.shape}",
        )
        return chunks

    def _digits(self) -> int:
        """Return how many digits, symbols 0 to high - low, a number after an escape has."""
        digits, reach = 1, self.high - self.low + 1
        while reach < 4 * LARGEST:
            digits, reach = digits + 1, reach * (self.high - self.low + 1)
        return digits

    def _escaped(self, row: Array) -> Array:
        base, found = self.high - self.low + 1, []
        for value in row.tolist():
            if self.low <= value <= self.high:
                found.append(value - self.low)
                continue
            rest = 2 * value if value >= 0 else -2 * value - 1  # the sign in the lowest bit
            found.append(self.symbols - 1)
            found.extend(rest // base**place % base for place in range(self._digits()))
        return np.array(found, np.int64)

    def _unescaped(self, symbols: Array) -> Array:
        base, digits, found, place = self.high - self.low + 1, self._digits(), [], 0
        while place < len(symbols):
            if symbols[place] != self.symbols - 1:
                found.append(int(symbols[place]) + self.low)
                place += 1
                continue
            rest = sum(int(symbol) * base**power for power, symbol in enumerate(symbols[place + 1 : place + 1 + digits]))
            found.append(rest // 2 if rest % 2 == 0 else -(rest + 1) // 2)
            place += 1 + digits
        return np.array([min(max(value, -LARGEST), LARGEST) for value in found], np.int64)  # a policy's digits may say anything


def train_fast_tokens(chunks: Array, vocab_size: int = 1024, scale: float = 10.0) -> FastTokens:
    """Return the vocabulary learnt from chunks: the same for the same chunks in any order.

    Args:
        chunks: (N, A, D) floats, normalised to about [-1, 1] in every dim.
        vocab_size: how many tokens there may be; fewer are made where no pair occurs twice.
        scale: coefficients are multiplied by it before they are rounded; the larger, the more exact and the more tokens.

    Raises:
        UsageError: the chunks are not finite, or their coefficients alone are more than the vocabulary holds.
    """
    chunks = np.asarray(chunks)
    demand(
        chunks.ndim == 3 and chunks.dtype.kind == "f" and bool(chunks.size), f"chunks: must be floats (N, A, D), not empty, got {chunks.dtype} {chunks.shape}"
    )
    demand(0 < vocab_size <= MAX_SYMBOLS, f"vocab_size: must lie in [1, {MAX_SYMBOLS}], got {vocab_size}")
    demand(0 < scale < np.inf, f"scale: must be positive, got {scale}")
    count, steps, dims = chunks.shape
    demand(max(steps, dims) <= MAX_SIDE, f"chunks: must have at most {MAX_SIDE} steps and dims, got {chunks.shape}")
    coefficients = _rounded(chunks, scale).reshape(count, steps * dims)
    low, high = int(coefficients.min()), int(coefficients.max())
    high = max(high, low + 1)
    symbols = high - low + 2
    if symbols > vocab_size:
        raise UsageError(f"vocab_size: must hold the {symbols} symbols of coefficients {low} to {high}, got {vocab_size}; take a smaller scale, or normalise")
    return FastTokens(steps, dims, float(scale), low, high, learn_merges(list(coefficients - low), symbols, vocab_size))


@dataclass(frozen=True)
class FastActionTokens:
    """Turn chunks (..., A, D) of a batch into FAST tokens (..., L) int64, with -1 behind the last one of each and `<into>_is_pad` True there.

    Steps that do not exist (`<name>_is_pad`) hold the last that does, or before it the first: a jump in the chunk would cost tokens.

    Args:
        tokens: the trained vocabulary.
        name: the field of the chunks, which stays.
        into: the field for the tokens.
        length: L; by default that of the longest chunk in the batch. A longer one is then an error.
    """

    tokens: FastTokens
    name: str = "action"
    into: str = "action_tokens"
    length: int | None = None

    @property
    def inverse(self) -> FastActionChunks:
        """Return the way back: chunks within `tokens.max_error`."""
        return FastActionChunks(self.tokens, self.name, self.into, self.length)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        chunks = floats_of(batch, self.name, "which becomes tokens")
        wanted = (self.tokens.steps, self.tokens.dims)
        demand(chunks.shape[-2:] == wanted, f"batch[{self.name!r}]: must be (..., {wanted[0]}, {wanted[1]}), as trained; got {chunks.shape}")
        rows = self.tokens.encode(_held(chunks, padding_of(batch, self.name, chunks.shape[:-1])).reshape(-1, *wanted))
        lengths = np.array([len(row) for row in rows], np.int64)
        longest = int(lengths.max(initial=0))
        length = longest if self.length is None else self.length
        demand(longest <= length, f"batch[{self.name!r}]: must become at most {length} tokens a chunk, got {longest}; raise length")
        there = np.arange(length) < lengths[:, None]
        out = np.full(there.shape, -1, np.int64)
        out[there] = np.concatenate([*rows, np.zeros(0, np.int64)])
        leading = chunks.shape[:-2]
        return {**batch, self.into: out.reshape(*leading, length), f"{self.into}_is_pad": ~there.reshape(*leading, length)}


@dataclass(frozen=True)
class FastActionChunks:
    """Turn FAST tokens of a batch back into chunks; -1 ends a row. Tokens for too few coefficients are filled up with 0, as a policy's may be."""

    tokens: FastTokens
    name: str = "action"
    into: str = "action_tokens"
    length: int | None = None

    @property
    def inverse(self) -> FastActionTokens:
        """Return the way back."""
        return FastActionTokens(self.tokens, self.name, self.into, self.length)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        array = field_of(batch, self.into, "the tokens of chunks")
        demand(array.ndim >= 1 and array.dtype.kind in "iu", f"batch[{self.into!r}]: must be integers (..., L), got {array.dtype} {array.shape}")
        rows = array.reshape(int(np.prod(array.shape[:-1])), array.shape[-1])
        ends = [int(np.argmax(row < 0)) if (row < 0).any() else len(row) for row in rows]
        chunks = self.tokens.decode([row[:end] for row, end in zip(rows, ends, strict=True)], strict=False)
        rest = {key: value for key, value in batch.items() if key not in (self.into, f"{self.into}_is_pad")}
        return {**rest, self.name: chunks.reshape(*array.shape[:-1], self.tokens.steps, self.tokens.dims)}


def save_fast_tokens(tokens: FastTokens, path: Path) -> None:
    """Write a vocabulary as JSON."""
    kept = {"steps": tokens.steps, "dims": tokens.dims, "scale": tokens.scale, "low": tokens.low, "high": tokens.high}
    path.write_text(json.dumps({"format": FORMAT, **kept, "merges": tokens.merges}) + "\n")


def load_fast_tokens(path: Path) -> FastTokens:
    """Return the vocabulary that `save_fast_tokens` wrote, equal to it; raise UsageError for what is none."""
    try:
        said = json.loads(path.read_text())
        if said.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        return FastTokens(**{**said, "merges": tuple((first, second) for first, second in said["merges"])})
    except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: must hold a vocabulary of format {FORMAT!r}, got {error!r}") from error


def _held(chunks: Array, padded: Array) -> Array:
    """Return (..., A, D) chunks whose padded steps are the last step before that is not, or the first such; 0 where there is none."""
    if not padded.any():
        return chunks
    latest = np.maximum.accumulate(np.where(padded, -1, np.arange(padded.shape[-1])), axis=-1)
    index = np.where(latest < 0, np.expand_dims(np.argmin(padded, axis=-1), -1), latest)
    found = np.take_along_axis(chunks, index[..., None], axis=-2)
    nothing = np.asarray(padded.all(axis=-1, keepdims=True))[..., None]
    return np.where(nothing, 0, found).astype(chunks.dtype)


def _along_steps(matrix: Array, chunks: Array) -> Array:
    """Return matrix @ chunk for each of (N, A, D), added up step by step: bit for bit the same whichever chunks stand beside it."""
    found = np.zeros(chunks.shape)
    for step in range(chunks.shape[1]):
        found += matrix[:, step, None] * chunks[:, None, step]
    return found


def _rounded(chunks: Array, scale: float) -> Array:
    demand(bool(np.isfinite(chunks).all()), f"chunks: must be finite, got {int((~np.isfinite(chunks)).sum())} numbers that are not")
    scaled = _along_steps(dct_matrix(chunks.shape[1]), chunks.astype(np.float64)) * scale
    demand(
        bool((np.abs(scaled) < LARGEST).all()), f"chunks: coefficients times scale must stay below {LARGEST}, got {np.abs(scaled).max(initial=0):g}; normalise"
    )
    return np.rint(scaled).astype(np.int64)


@lru_cache(maxsize=4)
def _table(tokens: FastTokens) -> Array:
    return read_only(rank_table(tokens.merges, tokens.symbols))


@lru_cache(maxsize=4)
def _expansion_table(tokens: FastTokens) -> tuple[Array, Array, Array]:
    """Return for each token how many symbols it stands for, where they start, and all of them one behind the other."""
    found = expansions(tokens.merges, tokens.symbols)
    lengths = np.array([len(symbols) for symbols in found])
    return lengths, np.cumsum(lengths) - lengths, np.array([symbol for symbols in found for symbol in symbols])
