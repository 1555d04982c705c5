"""Genuine HDF5 recordings of the ALOHA/ACT family: `episode_<i>.hdf5` with raw frames, or with JPEG rows padded to one length.

Source: `record_sim_episodes.py` of act, and the description of Mobile ALOHA's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataengine.samples.arm import ArmRecording
from dataengine.samples.pictures import encoded_frames
from dataengine.samples.steps import control_steps, offset_rows


@dataclass(frozen=True)
class AlohaOptions:
    """How files are written.

    Args:
        compress: JPEG rows padded with zeros to one length, with `compress_len`, instead of raw frames.
        quality: of JPEG frames.
        sim: the attribute `sim`.
        effort: writes `observations/effort`, as real robots do.
        timestamps: writes `timestamps` (T,) float64, seconds since the epoch.
        language: writes `language_instruction` as a string dataset.
    """

    compress: bool = False
    quality: int = 95
    sim: bool = True
    effort: bool = True
    timestamps: bool = False
    language: bool = True


def write_aloha(folder: Path, recordings: Sequence[ArmRecording], options: AlohaOptions | None = None) -> list[Path]:
    """Write one file for each recording, named by its place in the list; return the files."""
    import h5py

    options = options or AlohaOptions()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, recording in enumerate(recordings):
        steps = control_steps(recording)
        path = folder / f"episode_{number}.hdf5"
        with h5py.File(path, "w", track_order=True) as file:
            file.attrs["sim"] = options.sim
            file.attrs["compress"] = options.compress
            observations = file.create_group("observations")
            images = observations.create_group("images")
            lengths = []
            for name, track in recording.cameras.items():
                rows = offset_rows(recording, name, steps.frame[name])
                if options.compress:
                    frames = encoded_frames(track, "jpeg", options.quality)
                    seen = [frames[row] for row in rows]
                    padded = max((len(frame) for frame in seen), default=0)
                    table = np.zeros((len(seen), padded), dtype=np.uint8)
                    for row, frame in enumerate(seen):
                        table[row, : len(frame)] = np.frombuffer(frame, dtype=np.uint8)
                    images.create_dataset(name, data=table, chunks=(1, padded))
                    lengths.append([len(frame) for frame in seen])
                else:
                    images.create_dataset(name, data=track.images[rows], chunks=(1, *track.images.shape[1:]))
            observations.create_dataset("qpos", data=offset_rows(recording, "state", steps.qpos))
            observations.create_dataset("qvel", data=steps.qvel)
            if options.effort:
                observations.create_dataset("effort", data=steps.effort)
            file.create_dataset("action", data=offset_rows(recording, "action", steps.action))
            if lengths and len({len(row) for row in lengths}) == 1:
                file.create_dataset("compress_len", data=np.array(lengths, dtype=np.int64))
            if options.timestamps:
                file.create_dataset("timestamps", data=(recording.start_ns + steps.t_ns) / 1e9)
            if options.language:
                file.create_dataset("language_instruction", data=recording.task)
        paths.append(path)
    return paths
