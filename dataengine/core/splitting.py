"""Episodes held out of training, each as a whole, by a hash of its id: never by frame, and the same whatever the order in which they are listed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dataengine.core.errors import UsageError
from dataengine.core.randomness import hash64, text_key

MOST = 256  # episodes that are held out of a large dataset: more would tell no more


def held_out(episode_ids: Iterable[str], seed: int, share: float, most: int = MOST) -> list[str]:
    """Return which episodes are held out, in the order of their ids.

    Args:
        episode_ids: all ids.
        seed: another seed is another split.
        share: of them, rounded, at least one of two or more where it is not 0.
        most: at most so many.

    Raises:
        UsageError: the share is not from 0 up to, and less than, 1.
    """
    if not 0 <= share < 1:
        raise UsageError(f"share of the episodes that is held out: must be from 0 to less than 1, got {share}")
    ids = sorted(set(episode_ids))
    if share == 0 or len(ids) < 2:
        return []
    count = min(max(1, round(share * len(ids))), most, len(ids) - 1)
    keys = hash64(seed, text_key("held out"), np.array([text_key(one) for one in ids], dtype=np.uint64))
    return sorted(ids[place] for place in np.argsort(keys, kind="stable")[:count].tolist())
