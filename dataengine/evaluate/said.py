"""What was said of the steps of a part, by a labeller, a label set in the store, or a rule of thumb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.labels import Labels
from dataengine.evaluate.folds import Part


@dataclass(frozen=True, eq=False)
class Said:
    """Values (N, D) float64 with (N,) bool where there is one, and perhaps intervals (N, D) and confidences (N,), NaN where there is none."""

    values: Array
    valid: Array
    low: Array | None = None
    high: Array | None = None
    confidence: Array | None = None


# What says something of a part: the name of the label column → what is said of it.
Speaker = Callable[[Part], Mapping[str, Said]]


def said_of_labels(labels: Labels, rows: slice = slice(None)) -> dict[str, Said]:
    """Return what labels say, column by column, of some steps."""
    found = {}
    for name, values in labels.columns.items():
        flat = values.reshape(len(values), -1)[rows].astype(np.float64)
        ends = [group[name].reshape(len(values), -1)[rows].astype(np.float64) if name in group else None for group in (labels.low, labels.high)]
        sure = labels.confidence[name][rows].astype(np.float64) if name in labels.confidence else None
        found[name] = Said(flat, labels.valid[name][rows], ends[0], ends[1], sure)
    return found


def joined(parts: Sequence[Said | None], sizes: Sequence[int], width: int) -> Said:
    """Return what was said of parts, one after the other; where nothing was said of a part there is no value."""

    def rows(get: Callable[[Said], Array | None], shape: tuple[int, ...]) -> Array | None:
        if not any(part is not None and get(part) is not None for part in parts):
            return None
        filled = []
        for part, size in zip(parts, sizes, strict=True):
            own = get(part) if part is not None else None
            filled.append(own if own is not None else np.full((size, *shape), np.nan))
        return np.concatenate(filled) if filled else np.zeros((0, *shape))

    values = rows(lambda said: said.values, (width,))
    valid = np.concatenate(
        [part.valid if part is not None else np.zeros(size, np.bool_) for part, size in zip(parts, sizes, strict=True)] or [np.zeros(0, bool)]
    )
    plain = values if values is not None else np.full((len(valid), width), np.nan)
    return Said(
        plain,
        valid & np.isfinite(plain).all(1),
        rows(lambda said: said.low, (width,)),
        rows(lambda said: said.high, (width,)),
        rows(lambda said: said.confidence, ()),
    )
