"""The readers, in the order in which they claim files: formats of whole folders first, single files after."""

from __future__ import annotations

from dataengine.core.errors import UnknownName
from dataengine.core.protocols import Reader
from dataengine.sources import egodex, epic_kitchens, video
from dataengine.sources.ego4d import reader as ego4d
from dataengine.sources.hdf5 import reader as hdf5
from dataengine.sources.mcap import reader as mcap
from dataengine.sources.rlds import reader as rlds
from dataengine.sources.webdataset import reader as egocentric_tar

READERS: dict[str, Reader] = {
    "rlds": rlds,
    "egodex": egodex,
    "hdf5": hdf5,
    "mcap": mcap,
    "egocentric_tar": egocentric_tar,
    "epic_kitchens": epic_kitchens,
    "ego4d": ego4d,
    "video": video,
}


def reader(name: str) -> Reader:
    """Return a reader by name; raise UnknownName."""
    if name not in READERS:
        raise UnknownName("format", name, READERS)
    return READERS[name]
