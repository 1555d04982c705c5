"""Things that are dear to make, kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")


class Kept:
    """Things by key, the least recently used given up when they weigh too much together."""

    def __init__(self, limit: int, let_go: Callable[[Any], None] | None = None) -> None:
        self._limit, self._let_go, self._weight = limit, let_go, 0
        self._things: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Value], weigh: Callable[[Value], int] = lambda value: 1) -> Value:
        """Return what is kept under a key, made where it is not there."""
        if key in self._things:
            self._things.move_to_end(key)
            found: Value = self._things[key][0]
            return found
        thing = make()
        weight = weigh(thing)
        self._things[key] = thing, weight
        self._weight += weight
        while self._weight > self._limit and len(self._things) > 1:
            _, (old, lost) = self._things.popitem(last=False)
            self._weight -= lost
            if self._let_go is not None:
                self._let_go(old)
        return thing

    def clear(self) -> None:
        """Give everything up."""
        while self._things:
            _, (old, _) = self._things.popitem()
            if self._let_go is not None:
                self._let_go(old)
        self._weight = 0
