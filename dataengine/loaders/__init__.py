"""Batches for training: windows over stored trajectories, shuffled, mixed, exact over ranks and workers, and resumable."""

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
