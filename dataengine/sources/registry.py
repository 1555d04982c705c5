"""The readers, in the order in which they claim files: formats of whole folders first, single files after."""

from __future__ import annotations

from dataengine.core.errors import UnknownName
from dataengine.core.protocols import Reader
from dataengine.sources import bridge_raw, json_mp4, video
from dataengine.sources.droid import reader as droid
from dataengine.sources.hdf5 import reader as hdf5
from dataengine.sources.mcap import reader as mcap
from dataengine.sources.npz_mp4 import reader as npz_mp4
from dataengine.sources.parquet_log import reader as parquet_log
from dataengine.sources.rlds import reader as rlds

READERS: dict[str, Reader] = {
    "rlds": rlds,
    "droid": droid,
    "hdf5": hdf5,
    "mcap": mcap,
    "json_mp4": json_mp4,
    "npz_mp4": npz_mp4,
    "bridge_raw": bridge_raw,
    "parquet_log": parquet_log,
    "video": video,
}


def reader(name: str) -> Reader:
    """Return a reader by name; raise UnknownName."""
    if name not in READERS:
        raise UnknownName("format", name, READERS)
    return READERS[name]
