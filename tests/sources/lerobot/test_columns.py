"""Names, shapes and parts of columns as their writers declare them."""

from __future__ import annotations

from typing import Any

import pytest

from dataengine.sources.lerobot.columns import Modality, dims_of, number_column, stream_name
from dataengine.sources.lerobot.dataset import body_of, inside
from dataengine.sources.lerobot.info import DatasetInfo, Feature, parse_info, split_problems
from dataengine.sources.lerobot.paths import TableName, table_name, video_files


@pytest.mark.parametrize(
    ("names", "dims"),
    [
        (["x", "y", "z"], ("x", "y", "z")),
        ([["x", "y", "z"]], ("x", "y", "z")),
        ({"motors": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"left": ["a"], "right": ["a", "b"]}, ("left.a", "right.a", "right.b")),
        ({"z": 2, "x": 0, "y": 1}, ("x", "y", "z")),
        ({"z": 2, "x": 0, "y": 2}, None),
        (["x", "y"], None),
        (["x", "", "z"], None),
        ("xyz", None),
        (None, None),
        ([[["x", "y", "z"]]], ("x", "y", "z")),
    ],
)
def test_names_in_every_form(names: Any, dims: tuple[str, ...] | None) -> None:
    assert dims_of(names, 3) == dims


@pytest.mark.parametrize(
    ("shape", "names", "expected"),
    [
        ((3, 720, 1280), None, (720, 1280, 3)),
        ((3, 240, 320), ["channel", "height", "width"], (240, 320, 3)),
        ((720, 1280, 3), ["height", "width", "channels"], (720, 1280, 3)),
        ((3, 720, 1280), ["height", "width", "channels"], (720, 1280, 3)),
        ((3, 4, 3), None, (3, 4, 3)),
        ((720, 1280), None, None),
    ],
)
def test_channels_come_last(shape: tuple[int, ...], names: Any, expected: Any) -> None:
    assert Feature("camera", "video", shape, names).picture_shape == expected


def test_parts_give_dimensions_their_names() -> None:
    modality = Modality(
        {
            "state": {"arm": {"start": 0, "end": 2}, "hand": {"start": 2, "end": 3}},
            "action": {"arm": {"start": 0, "end": 2, "absolute": False, "range": None}, "bad": {"start": 3, "end": 1}},
            "video": {"top": {}, "side": {"original_key": "observation.images.cam1"}},
            "annotation": 7,
        },
        "modality.json",
    )
    column = number_column("observation.state", "observation.state", None, "float32", (3,), modality.parts["observation.state"])
    assert column.dims == ("arm.0", "arm.1", "hand.0")
    assert modality.parts["action"] == {"arm": {"start": 0, "end": 2, "absolute": False}}
    assert modality.cameras == {"observation.images.top": "top", "observation.images.cam1": "side"}
    assert [problem.check for problem in modality.problems] == ["bad_modality", "bad_modality"]
    problem = modality.range_problem("observation.state", 2, "here")
    assert problem is not None
    assert problem.check == "modality_range"
    # A part that is missing leaves the names out: half of them would be wrong.
    assert number_column("action", "action", None, "float32", (3,), modality.parts["action"]).dims is None


def test_names_of_streams() -> None:
    assert stream_name("observation.image", True) == "observation.images.image"
    assert stream_name("observation.images.top", True) == "observation.images.top"
    assert stream_name("cam", True) == "observation.images.cam"
    assert stream_name("action", False) == "action"


def test_units_only_where_they_are_said() -> None:
    stated = Feature("observation.force", "float32", (1,), declared={"unit": "N"})
    assert number_column("f", "observation.force", stated, "float32", ()).unit == "N"
    assert number_column("action", "action", None, "float32", (2,)).unit is None


def test_known_robots_only() -> None:
    assert body_of("Franka") == "franka_panda"
    assert body_of("ALOHA") == "aloha_bimanual"
    assert body_of("Unitree_G1_Inspire") is None


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "https://x/y.mp4", "C:\\x", "\\\\host\\x", "", "a\0b"])
def test_paths_stay_inside(path: str) -> None:
    assert inside("set", path) is None


def test_a_path_inside() -> None:
    assert inside("set", "videos/../images/./a.png") == "set/images/a.png"


def test_paths_of_every_layout() -> None:
    assert table_name("data/chunk-001/episode_001002.parquet") == TableName(episode=1002)
    assert table_name("data/chunk-001/file-012.parquet") == TableName(file=(1, 12))
    assert table_name("data/train-00001-of-00002.parquet") == TableName(shard=("data/train", 1, 2))
    found = video_files(
        [
            "videos/chunk-000/observation.images.top/episode_000003.mp4",
            "videos/observation.images.top/chunk-002/file-001.mp4",
            "videos/observation.images.side_episode_000004.mp4",
            "mp4/side/episode_5.mp4",
            "videos/chunk-000/extra/episode_000003.mp4",
            "preview.mp4",
        ],
        ["observation.images.top", "observation.images.side"],
    )
    assert found.by_episode == {
        ("observation.images.top", 3): "videos/chunk-000/observation.images.top/episode_000003.mp4",
        ("observation.images.side", 4): "videos/observation.images.side_episode_000004.mp4",
        ("observation.images.side", 5): "mp4/side/episode_5.mp4",
        ("extra", 3): "videos/chunk-000/extra/episode_000003.mp4",
    }
    assert found.by_file == {("observation.images.top", 2, 1): "videos/observation.images.top/chunk-002/file-001.mp4"}
    assert found.unplaced == ["preview.mp4"]


def test_info_by_its_parts() -> None:
    content = {
        "codebase_version": "v2.0",
        "fps": 29.97,
        "features": {"cam": {"dtype": "video", "shape": [2, 3, 3], "video_info": {"video.is_depth_map": True}}},
        "splits": {"train": "0:3", "val": "3:9"},
        "total_episodes": 5.0,
        "chunks_size": 1000,
    }
    info = parse_info(content, "info.json")
    assert (info.fps, info.totals, info.rest, info.problems) == (29.97, {"total_episodes": 5}, {"chunks_size": 1000}, ())
    assert info.features["cam"].is_depth
    assert (info.splits_of(2), info.splits_of(4)) == (("train",), ("val",))
    assert [problem.check for problem in split_problems(info, "info.json")] == ["split_range"]
    assert DatasetInfo().splits_of(0) == ()
