"""A small folder of every kind of recording for `dataengine demo`, with one broken file and one leaked episode in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataengine.samples.aloha import AlohaOptions, write_aloha
from dataengine.samples.arm import ArmConfig, record
from dataengine.samples.breakage import break_file, leaked_splits
from dataengine.samples.defects import with_defect
from dataengine.samples.mcap import McapOptions, write_mcap
from dataengine.samples.rlds import RldsOptions, write_rlds
from dataengine.samples.robomimic import write_robomimic
from dataengine.samples.video import VideoOptions, write_video


@dataclass(frozen=True)
class Demo:
    """What a demo folder holds: `recordings` by its first-level folder (the broken one and the leaked one included), and the broken files."""

    folder: Path
    recordings: dict[str, int]
    broken: tuple[Path, ...]
    leaked: int


def write_demo(folder: Path, seed: int = 0) -> Demo:
    """Write the demo's recordings below `folder`.

    RLDS: 10 episodes, one of which stands in both splits. ALOHA: 3 files, the last one truncated. robomimic: one file of 4 demos. MCAP: one
    ROS 2 file of an episode whose camera froze, one ROS 1 file. Video: 2 episodes seen by 2 cameras, one file each.
    """
    config = ArmConfig(height=112, width=112)
    small = ArmConfig(height=64, width=64)
    write_rlds(folder / "rlds", leaked_splits([record(seed, index, config) for index in range(10)]), RldsOptions(name="arm_block", quality=92))
    aloha = write_aloha(folder / "aloha-block", [record(seed, 100 + index, small) for index in range(3)], AlohaOptions(compress=True))
    broken = break_file(aloha[-1], "truncated", seed)
    write_robomimic(folder / "robomimic-block" / "demos.hdf5", [record(seed, 200 + index, small) for index in range(4)])
    write_mcap(folder / "teleop-arm" / "session_0.mcap", [with_defect(record(seed, 300, config), "frozen_frames", seed)])
    write_mcap(folder / "teleop-arm" / "session_1.mcap", [record(seed, 301, config)], McapOptions("ros1", "lz4"))
    films = [record(seed, 400 + index, ArmConfig(height=160, width=160)) for index in range(2)]
    write_video(folder / "arm-films", films, VideoOptions(variable_rate=True, b_frames=2))
    counts = {"rlds": 11, "aloha-block": 3, "robomimic-block": 4, "teleop-arm": 2, "arm-films": 4}
    return Demo(folder, counts, (broken,), leaked=1)
