"""The files of a UMI session: which folder is a demonstration, and what lies beside it for all of them.

<session>/demos/{demo_<serial>_<date>, mapping, gripper_calibration_<serial>_<date>}/raw_video.mp4 with camera_trajectory.csv, imu_data.json,
gripper_range.json, tx_slam_tag.json, tag_detection.pkl; <session>/dataset_plan.pkl; <session>/raw_videos/ with links to the videos.
Source: scripts_slam_pipeline in github.com/real-stanford/universal_manipulation_interface.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from posixpath import basename, dirname
from typing import Any

from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing
from dataengine.sources.umi.camera_trajectory import is_trajectory
from dataengine.video.container import sniff

VIDEO = "raw_video.mp4"
TRAJECTORIES = ("camera_trajectory.csv", "mapping_camera_trajectory.csv")
IMU, TAGS, PLAN = "imu_data.json", "tag_detection.json", "dataset_plan.json"
PICKLES = ("tag_detection.pkl", "dataset_plan.pkl")

_ROLE = re.compile(r"(demo|mapping|gripper_cal(?:ibration)?)(?:_.*)?", re.IGNORECASE)
_HEAD_BYTES = 512


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def role_of(folder: str) -> str | None:
    """Return what a folder of a session is by its name: "demo", "mapping" or "gripper_calibration"; None for others."""
    match = _ROLE.fullmatch(basename(folder))
    return None if match is None else "gripper_calibration" if match[1].lower().startswith("gripper") else match[1].lower()


def _is_demo(listing: Listing, folder: str) -> bool:
    """Return whether a folder with a video is a part of a session: by the trajectory, telemetry or tags beside it, else by its name below `demos`."""
    for name in TRAJECTORIES:
        path = _below(folder, name)
        if path in listing.files and is_trajectory(listing.head(path, _HEAD_BYTES)):
            return True
    role = role_of(folder or listing.name)
    beside = any(_below(folder, name) in listing.files for name in (IMU, TAGS, *PICKLES, "gripper_range.json", "tx_slam_tag.json"))
    return role is not None and (beside or basename(dirname(folder)) == "demos")


def _dataset(listing: Listing, session: str) -> str:
    if session:
        return dataset_from_path(listing.name, f"{session}/x")
    # The source is the session, its folder `demos`, or one demonstration: name it by the first folder that says more.
    above = [part for part in listing.root.rstrip("/").split("/") if part]
    while len(above) > 1 and (above[-1] == "demos" or role_of(above[-1]) is not None):
        above.pop()
    return dataset_from_path(above[-1] if above else listing.name, "")


def find_session(listing: Listing, reader: str) -> Found:
    """Claim the demonstrations of every session in a listing, one item each."""
    items: list[Item] = []
    claimed: set[str] = set()
    problems: list[Problem] = []
    ranges: dict[str, list[str]] = {}
    for path in listing.files:
        if basename(path) == "gripper_range.json":
            ranges.setdefault(dirname(dirname(path)), []).append(path)
    copies: dict[tuple[int, str], list[str]] = {}
    for path, file in listing.files.items():
        if "raw_videos/" in path:
            copies.setdefault((file.size, file.fingerprint), []).append(path)
    for path, file in listing.files.items():
        folder = dirname(path)
        if basename(path) in TRAJECTORIES and _below(folder, VIDEO) not in listing.files and role_of(folder) is not None:
            message = f"{path}: a demonstration should have its {VIDEO} beside the trajectory, found none: it is not read"
            problems.append(Problem("missing_video", message, folder, "warning", f"{VIDEO} beside it", "none", "copy the video to its place"))
        if basename(path) != VIDEO or not _is_demo(listing, folder):
            continue
        demos = dirname(folder)
        session = dirname(demos) if basename(demos) == "demos" else demos
        extra: dict[str, Any] = {"role": role_of(folder or listing.name), "ranges": sorted(ranges.get(demos, ()))}
        wanted: Mapping[str, list[str]] = {
            "trajectory": [_below(folder, name) for name in TRAJECTORIES],
            "imu": [_below(folder, IMU)],
            "tags": [_below(folder, TAGS)],
            "plan": [_below(session, PLAN)],
            "tag_pose": [_below(folder, "tx_slam_tag.json"), _below(_below(demos, "mapping"), "tx_slam_tag.json")],
        }
        for key, places in wanted.items():
            extra[key] = next((place for place in places if place in listing.files), None)
        extra["pickles"] = [place for place in (_below(folder, PICKLES[0]), _below(session, PICKLES[1])) if place in listing.files]
        used = [path, *(extra[key] for key in wanted if extra[key]), *extra["ranges"]]
        claimed.update(used)
        claimed.update(copies.get((file.size, file.fingerprint), ()))
        items.append(
            Item(
                reader,
                listing.root,
                path,
                _dataset(listing, session),
                tuple(listing.files[name] for name in dict.fromkeys(used)),
                recordings=1,
                extra=extra,
                by_name=sniff(listing.head(path)) is None,
            )
        )
    return Found(items, frozenset(claimed), problems)
