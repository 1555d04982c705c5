"""Raw BridgeData folders: JPEG by number, instructions, and pickles as the recorder leaves them (here: bytes that nobody reads)."""

from __future__ import annotations

from pathlib import Path

from dataengine.samples.numbered_film import numbered_frames
from dataengine.samples.pictures import encode_picture

TEXT = "put the pot on the stove\nconfidence: 1.0\n"


def write_bridge_raw(root: Path, frames: int = 12, cameras: int = 2, number: int = 0) -> Path:
    """Write one trajectory below the set's folder `root`; return its folder."""
    folder = root / "rss" / "toykitchen2" / "set_table" / "00" / "2022-01-01_00-00-00" / "raw" / "traj_group0" / f"traj{number}"
    for camera in range(cameras):
        (folder / f"images{camera}").mkdir(parents=True, exist_ok=True)
        for frame, image in enumerate(numbered_frames(frames, camera, number, 48, 64)):
            (folder / f"images{camera}" / f"im_{frame}.jpg").write_bytes(encode_picture(image, "jpeg"))
    for name in ("obs_dict.pkl", "policy_out.pkl"):
        (folder / name).write_bytes(b"cos\nabort\n(tR.")  # a pickle that would end the process that reads it
    (folder / "lang.txt").write_text(TEXT)
    return folder
