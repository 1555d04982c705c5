"""The readers, in the order in which they claim files: formats of whole folders first, single files after."""

from __future__ import annotations

from dataengine.core.errors import UnknownName
from dataengine.core.protocols import Reader
from dataengine.sources import rlds

READERS: dict[str, Reader] = {"rlds": rlds}


def reader(name: str) -> Reader:
    """Return a reader by name; raise UnknownName."""
    if name not in READERS:
        raise UnknownName("format", name, READERS)
    return READERS[name]
