"""Archives in the layout of Egocentric-10K: `factory_XXX/workers/worker_XXX/factoryXXX_workerXXX_partNN.tar` of MP4 and JSON, and `intrinsics.json` beside.

Source: the data cards on the hub (builddotai/Egocentric-10K and -100K) and the features that loaders declare for the JSON members.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dataengine.samples.arm import ArmRecording
from dataengine.samples.video import VideoOptions, write_film

_FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@dataclass(frozen=True)
class EgocentricTarOptions:
    """How an archive is written.

    Args:
        form: of the archive's headers.
        codec: of the videos; the published ones are H.265.
        json_first: each JSON member before its video.
        folder: what stands before each member's name; long ones need an extension header.
        factory, worker, part: numbers in the names.
    """

    form: Literal["ustar", "gnu", "pax"] = "ustar"
    codec: Literal["libx264", "libx265"] = "libx264"
    json_first: bool = False
    folder: str = ""
    factory: int = 1
    worker: int = 1
    part: int = 0


def intrinsics(width: int, height: int) -> dict[str, float | int | str]:
    """Return the lens of a worker's camera."""
    focal: dict[str, float | int | str] = {"fx": 0.5 * width, "fy": 0.51 * width, "cx": width / 2, "cy": height / 2}
    return {"model": "fisheye", "image_width": width, "image_height": height, **focal, "k1": 0.11, "k2": -0.02, "k3": 0.003, "k4": -0.0004}


def write_egocentric_tar(root: Path, recordings: Sequence[ArmRecording], options: EgocentricTarOptions | None = None) -> Path:
    """Write one archive of a worker's clips, one for each recording, and the worker's intrinsics; return the archive."""
    options = options or EgocentricTarOptions()
    folder = root / f"factory_{options.factory:03d}" / "workers" / f"worker_{options.worker:03d}"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"factory{options.factory:03d}_worker{options.worker:03d}"
    path = folder / f"{name}_part{options.part:02d}.tar"
    scratch = folder / "clip.mp4"
    with tarfile.open(path, "w", format=_FORMATS[options.form]) as archive:
        for number, recording in enumerate(recordings):
            camera = next(iter(recording.cameras))
            film = write_film(scratch, recording, [camera], VideoOptions(codec=options.codec)).read_bytes()
            images = recording.cameras[camera].images
            said = {
                "factory_id": f"factory_{options.factory:03d}",
                "worker_id": f"worker_{options.worker:03d}",
                "video_index": number,
                "duration_sec": len(images) / recording.config.camera_hz,
                "width": images.shape[2],
                "height": images.shape[1],
                "fps": recording.config.camera_hz,
                "size_bytes": len(film),
                "codec": "hevc" if options.codec == "libx265" else "h264",
            }
            parts = [("mp4", film), ("json", json.dumps(said).encode())]
            for extension, data in reversed(parts) if options.json_first else parts:
                member = tarfile.TarInfo(f"{options.folder}{name}_{number:05d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    scratch.unlink()
    first = recordings[0].cameras[next(iter(recordings[0].cameras))].images
    (folder / "intrinsics.json").write_text(json.dumps(intrinsics(first.shape[2], first.shape[1])))
    return path
