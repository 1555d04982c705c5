"""Work that runs ahead of whoever needs its results, in a thread: so much ahead and no more."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_LOOK_S = 0.1  # how often a thread that waits looks whether anybody still needs it


@contextlib.contextmanager
def ahead(results: Iterator[T], most: int) -> Iterator[Iterator[T]]:
    """Give results that a thread of its own draws from an iterator, in their order, up to `most` of them ahead; an error comes where its result would have.

    The thread is gone when the context ends, also when it ends early.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(most)
    over = threading.Event()

    def put(what: str, value: Any) -> bool:
        while not over.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((what, value), timeout=_LOOK_S)
                return True
        return False

    def draw() -> None:
        try:
            for result in results:
                if not put("result", result):
                    return
        except BaseException as error:  # noqa: BLE001 - whatever it is, the consumer raises it
            put("error", error)
        else:
            put("end", None)

    def taken() -> Iterator[T]:
        while True:
            what, value = ready.get()
            if what == "end":
                return
            if what == "error":
                raise value
            yield value

    thread = threading.Thread(target=draw, name="ahead", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        over.set()
        thread.join()
