"""Parts of episodes as labellers see them, and what a labeller says of a part."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from dataengine.core.labelling import Labeller, Needs, Watched
from dataengine.core.labels import Labels
from dataengine.evaluate.folds import Part, whole
from dataengine.store.open_shards import OpenShards
from dataengine.store.row import Row
from dataengine.store.store import Store
from dataengine.store.watching import watch

MEASURED = ("action", "state", "contact")  # what is compared with, and what steps are grouped by
KEPT_BYTES = 2 << 30
ROWS = 256  # steps that are answered for at once


class Viewer:
    """Opens parts of episodes; those that fit into memory stay there, since several labellers look at the same pictures. It is closed after use."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._shards = OpenShards(store)
        self._kept: OrderedDict[tuple[object, ...], Watched] = OrderedDict()
        self._bytes = 0

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self._shards.close()
        self._kept.clear()

    def view(self, part: Part, needs: Needs) -> Watched:
        """Return a part with the pictures that are asked for, the numbers asked for, and the measured ones."""
        wanted = replace(needs, columns=tuple(dict.fromkeys((*needs.columns, *MEASURED))), before_s=0.0, after_s=0.0)
        key = (part.row["dataset"], part.row["episode_id"], part.start, part.stop, wanted)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        seen = watch(self.store, part.row, wanted, (part.start, part.stop), self._shards)
        self._kept[key] = seen
        self._bytes += _size(seen)
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._bytes -= _size(old)
        return seen

    def views(self, parts: Sequence[Part], needs: Needs) -> Iterator[Watched]:
        """Yield parts one after the other."""
        for part in parts:
            yield self.view(part, needs)

    def measured(self, part: Part) -> Watched:
        """Return a part's numbers alone."""
        return self.view(part, Needs(columns=MEASURED))


def whole_views(viewer: Viewer, rows: Sequence[Row], needs: Needs) -> Iterator[Watched]:
    """Yield whole episodes one after the other, given their rows in the catalog."""
    return viewer.views([whole(row) for row in rows], needs)


def _size(seen: Watched) -> int:
    return sum(array.nbytes for group in (seen.pictures, seen.columns) for array in group.values())


def labels_of(labeller: Labeller, seen: Watched) -> Labels:
    """Return the labels of all steps of a part, as if it were an episode."""
    answers: dict[str, list[np.ndarray]] = {}
    for start in range(0, seen.steps, ROWS):
        inputs = labeller.inputs(seen, np.arange(start, min(start + ROWS, seen.steps)))
        for name, array in labeller.answer(inputs).items():
            answers.setdefault(name, []).append(array)
    return labeller.labels(replace(seen, first=0, pictures={}, seen={}), {name: np.concatenate(arrays) for name, arrays in answers.items()})
