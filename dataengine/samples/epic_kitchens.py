"""Recordings in the layout of EPIC-KITCHENS-100: videos below their participants, and tables of segments apart from them.

Source: the README and tables of https://github.com/epic-kitchens/epic-kitchens-100-annotations (columns, formats of times, names of files).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataengine.samples.arm import ArmRecording
from dataengine.samples.video import VideoOptions, write_film

HEADER = [
    "narration_id",
    "participant_id",
    "video_id",
    "narration_timestamp",
    "start_timestamp",
    "stop_timestamp",
    "start_frame",
    "stop_frame",
    "narration",
    "verb",
    "verb_class",
    "noun",
    "noun_class",
    "all_nouns",
    "all_noun_classes",
]


@dataclass(frozen=True)
class EpicSegment:
    """One segment of a video: when it begins and ends in s, what is said of it, and when it was said."""

    start_s: float
    stop_s: float
    narration: str
    narrated_s: float = 0.0


def clock_text(seconds: float, digits: int = 2) -> str:
    """Return a time as the tables write it: `00:01:02.50`."""
    ticks = round(seconds * 10**digits)
    whole, rest = divmod(ticks, 10**digits)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{rest:0{digits}d}"


def segment_rows(video: str, segments: Sequence[EpicSegment], rate_hz: float) -> list[dict[str, Any]]:
    """Return the rows of a table for one video; frames are counted from 1."""
    rows = []
    for number, part in enumerate(segments):
        verb, _, noun = part.narration.partition(" ")
        rows.append(
            {
                "narration_id": f"{video}_{number}",
                "participant_id": video.split("_")[0],
                "video_id": video,
                "narration_timestamp": clock_text(part.narrated_s, 3),
                "start_timestamp": clock_text(part.start_s),
                "stop_timestamp": clock_text(part.stop_s),
                "start_frame": int(part.start_s * rate_hz) + 1,
                "stop_frame": int(part.stop_s * rate_hz) + 1,
                "narration": part.narration,
                "verb": verb,
                "verb_class": 3,
                "noun": noun,
                "noun_class": 7,
                "all_nouns": str([noun]),
                "all_noun_classes": "[7]",
            }
        )
    return rows


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], header: Sequence[str] = HEADER) -> Path:
    """Write a table of segments; columns that are not in `header` are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(header), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_epic_kitchens(root: Path, recordings: Mapping[str, ArmRecording], segments: Mapping[str, Sequence[EpicSegment]], split: str = "train") -> list[Path]:
    """Write each recording as a video by its id (`P01_01`), a table of the segments of a split, and the table of videos; return the videos."""
    folder = root / "epic-kitchens-100-annotations"
    paths = []
    infos = []
    for video, recording in recordings.items():
        path = root / "EPIC-KITCHENS" / video.split("_")[0] / "videos" / f"{video}.MP4"
        camera = next(iter(recording.cameras))
        scratch = write_film(path.with_suffix(".mp4"), recording, [camera], VideoOptions())
        scratch.rename(path)
        images, rate_hz = recording.cameras[camera].images, recording.config.camera_hz
        infos.append({"video_id": video, "duration": len(images) / rate_hz, "fps": rate_hz, "resolution": f"{images.shape[2]}x{images.shape[1]}"})
        paths.append(path)
    rows = [row for video, parts in segments.items() for row in segment_rows(video, parts, 30.0)]
    # The table of the test set says nothing of what is done, and is called after its times.
    tested = split == "test"
    write_table(folder / f"EPIC_100_{split}{'_timestamps' if tested else ''}.csv", rows, HEADER[:8] if tested else HEADER)
    write_table(folder / "EPIC_100_video_info.csv", infos, ["video_id", "duration", "fps", "resolution"])
    return paths
