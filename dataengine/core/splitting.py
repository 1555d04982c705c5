"""Episodes in groups, each as a whole, by a hash of its id: never by frame, and the same whatever else a store holds."""

from __future__ import annotations

from collections.abc import Mapping

from dataengine.core.errors import UsageError
from dataengine.core.randomness import text_key, uniforms


def part_of(episode_id: str, seed: int, shares: Mapping[str, float]) -> str:
    """Return the part of a split that an episode falls into.

    Args:
        episode_id: its id.
        seed: another seed is another split.
        shares: the share of each part, in order; they add up to 1.

    Raises:
        UsageError: they do not.
    """
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise UsageError(f"shares of a split: must be positive and add up to 1, got {dict(shares)}")
    at = float(uniforms(seed, text_key("split"), text_key(episode_id)))
    parts = list(shares)
    for part in parts:
        at -= shares[part]
        if at < 0:
            return part
    return parts[-1]
