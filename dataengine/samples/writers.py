"""The writers of the samples by name: each takes a folder and recordings, and returns the files that it wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dataengine.core.errors import UnknownName
from dataengine.samples.aloha import AlohaOptions, write_aloha
from dataengine.samples.arm import ArmRecording
from dataengine.samples.lerobot import LerobotOptions, write_lerobot
from dataengine.samples.mcap import McapOptions, write_mcap
from dataengine.samples.rlds import RldsOptions, write_rlds
from dataengine.samples.robomimic import write_robomimic
from dataengine.samples.topics import TopicOptions
from dataengine.samples.video import VideoOptions, write_video

Writer = Callable[[Path, Sequence[ArmRecording]], list[Path]]


def _rlds(options: RldsOptions) -> Writer:
    def write(folder: Path, recordings: Sequence[ArmRecording]) -> list[Path]:
        cut = max(len(recordings) * 4 // 5, 1)
        splits = {"train": recordings[:cut], "val": recordings[cut:]}
        root = write_rlds(folder, {split: items for split, items in splits.items() if items}, options)
        return sorted(root.iterdir())

    return write


def _mcap(options: McapOptions) -> Writer:
    return lambda folder, recordings: [write_mcap(folder / f"{recording.name}.mcap", [recording], options) for recording in recordings]


WRITERS: Mapping[str, Writer] = {
    "rlds": _rlds(RldsOptions()),
    "rlds_png": _rlds(RldsOptions(name="sample_arm_png", picture="png", ragged=True, languages=3, shards=2)),
    "aloha": lambda folder, recordings: write_aloha(folder, recordings),
    "aloha_jpeg": lambda folder, recordings: write_aloha(folder, recordings, AlohaOptions(compress=True, timestamps=True)),
    "robomimic": lambda folder, recordings: [write_robomimic(folder / "demos.hdf5", recordings)],
    "lerobot": lambda folder, recordings: write_lerobot(folder, recordings),
    "lerobot_v21": lambda folder, recordings: write_lerobot(folder, recordings, LerobotOptions("v2.1")),
    "lerobot_gr00t": lambda folder, recordings: write_lerobot(folder, recordings, LerobotOptions("v2.0", gr00t=True)),
    "mcap_ros2": _mcap(McapOptions()),
    "mcap_ros1": _mcap(McapOptions("ros1", "lz4")),
    "mcap_protobuf": _mcap(McapOptions("protobuf", "none")),
    "mcap_json": _mcap(McapOptions("json")),
    "mcap_raw": _mcap(McapOptions(topics=TopicOptions(raw_images=True, points_hz=5.0))),
    "video": lambda folder, recordings: write_video(folder, recordings),
    "video_variable_rate": lambda folder, recordings: write_video(folder, recordings, VideoOptions(variable_rate=True, b_frames=2, together=True, audio=True)),
    "video_mkv": lambda folder, recordings: write_video(folder, recordings, VideoOptions("mkv", "libx265", crf=24, b_frames=3)),
    "video_webm": lambda folder, recordings: write_video(folder, recordings, VideoOptions("webm", "libvpx-vp9", crf=36, audio=True)),
}


def writer(name: str) -> Writer:
    """Return a writer by name; raise UnknownName."""
    if name not in WRITERS:
        raise UnknownName("writer", name, WRITERS)
    return WRITERS[name]
