"""Arrays that cannot be changed, and checks on construction."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def read_only(array: Array) -> Array:
    """Return a view of `array` that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds: for values that our own code built wrongly."""
    if not condition:
        raise ValueError(message)
