"""A loader as torch's own loaders take it: an iterable dataset of ready batches, with a state."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from dataengine.core.errors import UsageError
from dataengine.loaders.streaming import Loader


class TorchStream(IterableDataset):  # type: ignore[misc]
    """The batches of a loader for `torch.utils.data.DataLoader(stream, batch_size=None)` and torchdata's `StatefulDataLoader(stream, batch_size=None)`.

    ```python
    stream = TorchStream(loader(mixture, fields, batch_size=64, workers=8))
    for batch in StatefulDataLoader(stream, batch_size=None, pin_memory=True): ...
    ```

    Reading ahead is the loader's own work (`loader(..., workers=N)`), so `num_workers=0` is right for almost everybody. With `num_workers=1` the loader is made anew in
    torch's worker, at the place that it had here, and batches are copied once more; each `for` loop then takes a new epoch. More torch workers would each read everything.

    The state goes on batch for batch, also of a `StatefulDataLoader` in mid-epoch. One loop that is left early and begun again without a state goes on where it was with
    `num_workers=0`, and from the beginning of its epoch with `num_workers=1`.

    Args:
        loader: made by `loader(...)`; the rank and the number of ranks are its own, so that no distributed sampler is needed.
    """

    def __init__(self, loader: Loader) -> None:
        super().__init__()
        self._loader, self._process, self._restored = loader, os.getpid(), False
        self._epochs = torch.zeros((), dtype=torch.int64).share_memory_()  # that torch's worker has ended: the next worker begins after them

    def __getstate__(self) -> dict[str, Any]:
        return {"loader": self._loader, "epochs": self._epochs}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._loader, self._epochs = state["loader"], state["epochs"]
        self._process, self._restored = os.getpid(), False

    def _here(self) -> Loader:
        """Return the loader of this process; one that was forked keeps the other's, whose workers are not its own, untouched."""
        if self._process != os.getpid():
            self._forked_from, self._loader = self._loader, self._loader.copy()
            self._process = os.getpid()
        return self._loader

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield what is left of the running epoch.

        Raises:
            UsageError: torch has several workers.
        """
        info = get_worker_info()
        if info is None:
            return iter(self._loader)
        if info.num_workers > 1:
            raise UsageError(f"DataLoader: num_workers must be 0 or 1 around a TorchStream, got {info.num_workers}; give workers=N to loader(...) instead")
        return self._in_worker()

    def _in_worker(self) -> Iterator[dict[str, Any]]:
        here = self._here()
        if not self._restored and here.epoch < int(self._epochs):
            here.begin_epoch(int(self._epochs))
        self._restored = True
        yield from here
        self._epochs.fill_(here.epoch)

    def __len__(self) -> int:
        """Return how many batches the running epoch has in all; raise TypeError for a weighted mixture, which has no end."""
        return self._loader.steps

    def state_dict(self) -> dict[str, Any]:
        """Return the place between the last batch and the next, see `Loader.state_dict`."""
        return self._here().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the place of a state, see `Loader.load_state_dict`."""
        self._here().load_state_dict(state)
        self._restored = True

    def close(self) -> None:
        """End the loader's workers and close all files."""
        self._here().close()
