"""The readers, in the order in which they claim files: formats of whole folders first, single files after."""

from __future__ import annotations

from dataengine.core.errors import UnknownName
from dataengine.core.protocols import Reader
from dataengine.sources import bridge_raw, egodex, epic_kitchens, json_mp4, video
from dataengine.sources.droid import reader as droid
from dataengine.sources.ego4d import reader as ego4d
from dataengine.sources.gopro import reader as gpmf
from dataengine.sources.hdf5 import reader as hdf5
from dataengine.sources.lerobot import reader as lerobot
from dataengine.sources.mcap import reader as mcap
from dataengine.sources.npz_mp4 import reader as npz_mp4
from dataengine.sources.parquet_log import reader as parquet_log
from dataengine.sources.replay_buffer import reader as replay_buffer
from dataengine.sources.rlds import reader as rlds
from dataengine.sources.rosbag1 import reader as rosbag1
from dataengine.sources.rosbag2 import reader as rosbag2
from dataengine.sources.umi import reader as umi_session
from dataengine.sources.webdataset import reader as egocentric_tar

READERS: dict[str, Reader] = {
    "rlds": rlds,
    "lerobot": lerobot,
    "droid": droid,
    "json_mp4": json_mp4,
    "npz_mp4": npz_mp4,
    "bridge_raw": bridge_raw,
    "replay_buffer": replay_buffer,
    "umi_session": umi_session,
    "ego4d": ego4d,
    "epic_kitchens": epic_kitchens,
    "egodex": egodex,
    "egocentric_tar": egocentric_tar,
    "rosbag2": rosbag2,
    "hdf5": hdf5,
    "mcap": mcap,
    "rosbag1": rosbag1,
    "gpmf": gpmf,
    "parquet_log": parquet_log,
    "video": video,
}


def reader(name: str) -> Reader:
    """Return a reader by name; raise UnknownName."""
    if name not in READERS:
        raise UnknownName("format", name, READERS)
    return READERS[name]
