"""Names of datasets, tags and label sets, and where the project's own data files lie."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from dataengine.core.errors import UsageError

SLUG = re.compile(r"[a-z0-9][a-z0-9._-]*")

# Folder names that say what a folder holds, not what the recordings are.
GENERIC_FOLDERS = frozenset(
    [
        "data",
        "dataset",
        "datasets",
        "recordings",
        "recording",
        "episodes",
        "episode",
        "raw",
        "videos",
        "video",
        "mp4",
        "hdf5",
        "mcap",
        "sqlite3",
        "db3",
        "ros1bag",
        "rosbag",
        "rosbags",
        "rosbag2",
        "bags",
        "bag",
        "logs",
        "train",
        "val",
        "validation",
        "test",
        "tests",
        "demos",
        "demo",
        "files",
        "out",
        "output",
    ]
)

# A name that says only when something was recorded: "rosbag2_2025_09_10-13_03_56", "2024-01-02-15-04-05".
_STAMP = re.compile(r"(?:rosbag2_)?[\d._-]+")


def slug(text: str) -> str:
    """Return `text` as a slug `[a-z0-9][a-z0-9._-]*`; "recordings" where nothing of it is left."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
    return cleaned[:100] or "recordings"


def require_slug(what: str, name: str) -> str:
    """Return `name` when it is a slug; raise UsageError."""
    if not SLUG.fullmatch(name) or len(name) > 100:
        raise UsageError(f"{what} {name!r}: must be a slug [a-z0-9][a-z0-9._-]* of at most 100 characters; try {slug(name)!r}")
    return name


def dataset_from_path(root_name: str, path: str) -> str:
    """Name a dataset by the nearest folder of a file that says more than what kind of files it holds.

    `path` is the file's path below the root, `root_name` the root's own name: ("robot_video", "moto/oxe/videos/a.mp4") gives "oxe".
    """
    for folder in reversed([root_name, *path.split("/")[:-1]]):
        if folder and folder.lower() not in GENERIC_FOLDERS and not _STAMP.fullmatch(folder):
            return slug(folder)
    return slug(root_name)


def data_folder(name: str) -> Path:
    """Return the folder of the project's own data files, `schemas` or `configs`: package data in a wheel, the checkout's folder otherwise."""
    package = Path(str(resources.files("dataengine")))
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
