"""Batches for training: windows over stored trajectories, shuffled, mixed, exact over ranks and workers, and resumable.

    for batch in loader(mixture, fields, batch_size=64, workers=8): ...                       # tensors, which need no copy

    stream = TorchStream(loader(mixture, fields, batch_size=64, workers=8))                   # where torch's own loaders are expected
    for batch in StatefulDataLoader(stream, batch_size=None, pin_memory=True): ...
    for batch in DataLoader(dataset(mixture, fields), batch_size=64, sampler=..., num_workers=8): ...

    for batch in loader(mixture, fields, batch_size=64, workers=8, framework="numpy"):        # JAX
        arrays = jax.device_put({name: value for name, value in batch.items() if isinstance(value, np.ndarray)})

Arrays and tensors are the user's: they may be kept and written into. They look at memory that a worker fills anew only when nobody holds a view of it any more, be it an
array, a tensor, or a device that still copies it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataengine.loaders.field import Field
    from dataengine.loaders.lanes import Shuffle
    from dataengine.loaders.map_style import MapDataset, dataset
    from dataengine.loaders.mixture import Mixture, Source
    from dataengine.loaders.streaming import Loader, loader
    from dataengine.loaders.torch_stream import TorchStream

_HOMES = {
    "Field": "field",
    "Loader": "streaming",
    "MapDataset": "map_style",
    "Mixture": "mixture",
    "Shuffle": "lanes",
    "Source": "mixture",
    "TorchStream": "torch_stream",
    "dataset": "map_style",
    "loader": "streaming",
}

__all__ = ["Field", "Loader", "MapDataset", "Mixture", "Shuffle", "Source", "TorchStream", "dataset", "loader"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"dataengine.loaders.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dataengine.loaders' has no attribute {name!r}")
