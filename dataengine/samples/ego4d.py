"""Recordings in the layout of Ego4D's downloader: `v2/full_scale/<uid>.mp4`, clips of them, manifests, annotations and inertial samples.

Source: https://github.com/facebookresearch/Ego4d (ego4d/cli: names of folders, columns of manifests) and https://ego4d-data.org/docs (schemas of ego4d.json and of the annotation
files, a sample of an IMU's CSV).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataengine.samples.arm import ArmRecording
from dataengine.samples.video import VideoOptions, write_film


@dataclass(frozen=True)
class Ego4dOptions:
    """How a release is written.

    Args:
        version: the folder's name.
        uid_keyed: narrations as `{uid: ...}` at the top, as the first release had them, instead of below "videos".
        absent: uids that the manifest names and that have no file.
        clips: of each video one clip, this many frames long, from `clip_start_s` on; 0 for none.
        clip_start_s: where clips begin in their videos, in s.
        imu_hz: rate of inertial samples; 0 for none.
    """

    version: str = "v2"
    uid_keyed: bool = False
    absent: tuple[str, ...] = ()
    clips: int = 0
    clip_start_s: float = 0.2
    imu_hz: float = 200.0


def _manifest(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _narrations(task: str, uid: str) -> dict[str, Any]:
    said = [(0.05, f"#C C {task}"), (0.35, "#C C moves the hand"), (0.55, "#O A man X looks")]
    first = [
        {"timestamp_sec": at, "timestamp_frame": int(at * 30), "narration_text": text, "annotation_uid": f"{uid}-n{number}"}
        for number, (at, text) in enumerate(said)
    ]
    summary = {"start_sec": 0.0, "end_sec": 0.7, "summary_text": "#Summary C tidied up", "start_frame": 0, "end_frame": 21, "annotation_uid": f"{uid}-s0"}
    return {
        "narration_pass_1": {"narrations": first, "summaries": [summary]},
        "narration_pass_2": {"narrations": first[:1], "summaries": []},
        "status": "complete",
    }


def _moments(uid: str) -> dict[str, Any]:
    label = {"primary": True, "start_time": 0.0, "end_time": 0.2, "label": "put_away", "video_start_time": 0.2, "video_end_time": 0.4, "video_start_frame": 6}
    clip = {"clip_uid": f"{uid}-c", "video_start_sec": 0.2, "video_end_sec": 0.6, "annotations": [{"annotator_uid": "a1", "labels": [label]}]}
    return {"video_uid": uid, "split": "train", "clips": [clip]}


def write_ego4d(root: Path, recordings: Mapping[str, ArmRecording], options: Ego4dOptions | None = None) -> Path:
    """Write a release with the recordings as videos by their uid; return the release's folder."""
    options = options or Ego4dOptions()
    release = root / options.version
    manifest, clip_rows, described = [], [], []
    for uid, recording in recordings.items():
        camera = next(iter(recording.cameras))
        write_film(release / "full_scale" / f"{uid}.mp4", recording, [camera], VideoOptions())
        images = recording.cameras[camera].images
        manifest.append(
            {"video_uid": uid, "type": "mp4", "canonical_s3_location": f"s3://ego4d-unict/public/{options.version}/full_scale/{uid}.mp4", "benchmarks": "[EM]"}
        )
        described.append(_described(uid, len(images) / 30.0))
        if options.imu_hz:
            _write_imu(release / "imu" / f"{uid}.csv", recording, options.imu_hz, len(images) / 30.0)
        if options.clips:
            clip = f"clip-of-{uid}"
            first = round(options.clip_start_s * 30)
            part = _part(recording, camera, first, options.clips)
            write_film(release / "clips" / f"{clip}.mp4", part, [camera], VideoOptions())
            end_s = options.clip_start_s + options.clips / 30
            clip_rows.append(
                {
                    "exported_clip_uid": clip,
                    "parent_video_uid": uid,
                    "parent_start_sec": options.clip_start_s,
                    "parent_end_sec": end_s,
                    "s3_path": f"s3://ego4d-speac/public/{options.version}/clips/{clip}.mp4",
                }
            )
    manifest += [{"video_uid": uid, "type": "mp4", "canonical_s3_location": f"s3://x/{uid}.mp4", "benchmarks": ""} for uid in options.absent]
    _manifest(release / "full_scale", manifest)
    if clip_rows:
        _manifest(release / "clips", clip_rows)
    annotations = release / "annotations"
    annotations.mkdir()
    narrated = {uid: _narrations(recording.task, uid) for uid, recording in recordings.items()}
    whole: dict[str, Any] = narrated if options.uid_keyed else {"version": "2.0", "date": "2023", "videos": narrated, "description": "narrations"}
    (annotations / "narration.json").write_text(json.dumps(whole))
    (annotations / "moments_train.json").write_text(json.dumps({"version": "1", "videos": [_moments(uid) for uid in recordings]}))
    (release / "ego4d.json").write_text(json.dumps({"date": "2023", "version": "v2", "description": "Ego4D", "videos": described, "concurrent_video_sets": []}))
    return release


def _part(recording: ArmRecording, camera: str, first: int, count: int) -> ArmRecording:
    track = recording.cameras[camera]
    return replace(recording, cameras={camera: replace(track, images=track.images[first : first + count], t_ns=track.t_ns[first : first + count])})


def _described(uid: str, seconds: float) -> dict[str, Any]:
    component = {"component_uid": f"{uid}-0", "video_uid": uid, "component_idx": 0, "redacted": True, "canonical_video_start_sec": 0.0}
    return {
        "video_uid": uid,
        "duration_sec": seconds,
        "scenarios": ["Cleaning"],
        "video_metadata": {"fps": 30.0, "num_frames": round(seconds * 30)},
        "split_em": "train",
        "split_av": None,
        "split_fho": "multi",
        "device": "GoPro Hero 7",
        "fb_participant_id": 17,
        "video_components": [component],
        "has_redacted_regions": True,
        "redacted_intervals": [{"start_sec": 0.1, "end_sec": 0.2, "start_frame": 3, "end_frame": 6}],
        "gaps": None,
    }


def _write_imu(path: Path, recording: ArmRecording, rate_hz: float, seconds: float) -> None:
    """Write the hand's inertial samples; the last ones, which the video was trimmed of, have no time in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["component_idx", "component_timestamp_ms", "canonical_timestamp_ms", "gyro_x", "gyro_y", "gyro_z", "accl_x", "accl_y", "accl_z"])
        for row in range(int(seconds * rate_hz) + 4):
            at_ms = row * 1000 / rate_hz
            place = min(row, len(recording.angular_velocity) - 1)
            canonical = at_ms if at_ms < seconds * 1000 else ""
            writer.writerow([0, at_ms, canonical, *recording.angular_velocity[place].tolist(), *recording.linear_acceleration[place].tolist()])
