"""The readers, in the order in which they claim files: formats of whole folders first, single files after."""

from __future__ import annotations

from dataengine.core.errors import UnknownName
from dataengine.core.protocols import Reader
from dataengine.sources import video
from dataengine.sources.gopro import reader as gpmf
from dataengine.sources.hdf5 import reader as hdf5
from dataengine.sources.mcap import reader as mcap
from dataengine.sources.replay_buffer import reader as replay_buffer
from dataengine.sources.rlds import reader as rlds
from dataengine.sources.umi import reader as umi_session

READERS: dict[str, Reader] = {
    "rlds": rlds,
    "replay_buffer": replay_buffer,
    "umi_session": umi_session,
    "hdf5": hdf5,
    "mcap": mcap,
    "gpmf": gpmf,
    "video": video,
}


def reader(name: str) -> Reader:
    """Return a reader by name; raise UnknownName."""
    if name not in READERS:
        raise UnknownName("format", name, READERS)
    return READERS[name]
