"""Names of datasets from the folders that recordings lie in."""

from __future__ import annotations

import pytest

from dataengine.core.names import dataset_from_path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("moto/oxe/videos/a.mp4", "oxe"),
        ("teleop/rosbag2_2025_09_10-13_03_56/a.mcap", "teleop"),
        ("teleop/2024-01-02-15-04-05/a.bag", "teleop"),
        ("teleop/sqlite3/a.db3", "teleop"),
        ("teleop/ros1bag/rosbag2_py/a.db3", "rosbag2_py"),
        ("a.bag", "lab"),
    ],
)
def test_a_dataset_is_named_by_the_nearest_folder_that_tells_something(path: str, name: str) -> None:
    assert dataset_from_path("lab", path) == name
