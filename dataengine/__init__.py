"""dataengine: the data engine for robot learning. Importing it imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataengine.store.store import Store, open_store

__all__ = ["Store", "open_store"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("dataengine.store.store"), name)
    raise AttributeError(f"module 'dataengine' has no attribute {name!r}")
