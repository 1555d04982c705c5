"""How well the codes of a model are used, over all labels that are seen, not those of one batch: a batch is too few to tell a rare code from a dead one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dataengine.core.arrays import Array

MOST_COUNTED = 1 << 22  # codes of all tokens of one dataset that are counted one by one


class CodebookHealth:
    """Counts of the codes of L tokens with K codes each, by dataset.

    Args:
        tokens: L.
        size: K.
    """

    def __init__(self, tokens: int, size: int) -> None:
        if tokens * size > MOST_COUNTED:
            raise ValueError(f"codes: at most {MOST_COUNTED} can be counted, got {tokens} tokens of {size}")
        self._shape = (tokens, size)
        self._counts: dict[str, Array] = {}

    def add(self, dataset: str, codes: Array) -> None:
        """Count codes (n, L) of a dataset's labels."""
        tokens, size = self._shape
        counts = self._counts.setdefault(dataset, np.zeros(self._shape, dtype=np.int64))
        for token in range(tokens):
            counts[token] += np.bincount(codes[:, token], minlength=size)

    def report(self) -> dict[str, Any]:
        """Return `labels` (how many), and, each a mean over tokens: `usage`, the share of the codes that occur; `perplexity`, exp of their entropy; `entropy_bits`.

        `dead` is the number of codes, of all tokens, that never occur; `entropy_bits_by_dataset` tells datasets apart that use few codes of a book that all use well;
        `perplexity_by_token` tells a token that has collapsed from its neighbours.
        """
        total = sum(self._counts.values(), np.zeros(self._shape, dtype=np.int64))
        entropy = _entropy_bits(total)
        return {
            "labels": int(total[0].sum()),
            "usage": float((total > 0).mean()),
            "dead": int((total == 0).sum()),
            "perplexity": float((2.0**entropy).mean()),
            "perplexity_by_token": [float(value) for value in 2.0**entropy],
            "entropy_bits": float(entropy.mean()),
            "most_bits": math.log2(self._shape[1]),
            "entropy_bits_by_dataset": {name: float(_entropy_bits(counts).mean()) for name, counts in sorted(self._counts.items())},
        }


def _entropy_bits(counts: Array) -> Array:
    """Return the entropy in bits of each row of counts (L, K): (L,)."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return -(share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=1)
