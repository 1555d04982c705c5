"""JPEG XL pictures in a store: kept as their bytes, looked at by their headers, decoded when frames are asked for."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dataengine.core.column import Camera, Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.errors import StoreError, UsageError
from dataengine.core.objects import LocalObjects
from dataengine.core.stream import Items, Rows
from dataengine.store.pixels import decode_picture
from dataengine.store.store import open_store
from dataengine.versions.check import check
from tests.support.units import SourceItem, ingest, new_store

imagecodecs = pytest.importorskip("imagecodecs")
CAMERA = "observation.images.camera0"


def scene(seed: int, height: int = 24, width: int = 40, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, channels), dtype=np.uint8)


def jxl(pixels: np.ndarray, **options: object) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels[..., 0] if pixels.shape[2] == 1 else pixels, **(options or {"lossless": True})))


@pytest.fixture
def objects(tmp_path) -> LocalObjects:
    return new_store(tmp_path / "store")


def landed(objects, frames: list[bytes]):
    column = Column(CAMERA, kind="image", dtype="uint8", shape=(24, 40, 3), encoding="jxl", camera=Camera("wrist"))
    rows = [Rows(CAMERA, Items(frames, "jxl")), Rows("x", np.arange(len(frames), dtype=np.float32))]
    info = EpisodeInfo("lab", {CAMERA: column, "x": Column("x")}, "unknown", "k")
    return ingest(objects, [SourceItem("a", [*rows, info])])


def test_frames_come_back_as_their_bytes_and_as_pictures(objects) -> None:
    frames = [jxl(scene(seed)) for seed in range(6)]
    done = landed(objects, frames)
    store = open_store(objects.url)
    items = store.read_episode(done.ids[0]).streams[CAMERA].values
    assert list(items.data) == frames
    assert items.encodings == "jxl"
    np.testing.assert_array_equal(store.read_frames(done.ids[0], CAMERA, [4, 1]), np.stack([scene(4), scene(1)]))
    assert [problem for problem in done.committer.tally.problems if problem["severity"] != "info"] == []
    assert not [finding for finding in check(open_store(objects.url), deep=True) if finding.severity != "info"]


def test_checks_see_what_is_wrong_with_jpeg_xl_pictures(objects) -> None:
    frames = [jxl(scene(0)), b"", jxl(scene(1, 32)), b"\xff\x0a", jxl(scene(2, channels=1)), jxl(scene(3))]
    done = landed(objects, frames)
    found = {problem["check"] for problem in done.committer.tally.problems}
    assert found >= {"missing_frames", "damaged_frames", "mixed_frame_sizes", "grey_among_colour"}
    with pytest.raises(StoreError, match="frame 3: expected a picture"):
        open_store(objects.url).read_frames(done.ids[0], CAMERA, [3])


def test_grey_alpha_and_deep_pictures() -> None:
    np.testing.assert_array_equal(decode_picture(jxl(scene(1, channels=1)), ""), np.repeat(scene(1, channels=1), 3, axis=2))
    np.testing.assert_array_equal(decode_picture(jxl(scene(1, channels=4)), ""), scene(1, channels=4)[..., :3])
    deep = np.random.default_rng(1).integers(0, 60_000, (24, 40, 3), dtype=np.uint16)
    np.testing.assert_array_equal(decode_picture(jxl(deep), ""), deep)
    cut = jxl(scene(1))
    with pytest.raises(StoreError, match="here: expected a picture"):
        decode_picture(cut[: len(cut) // 3], "here")


def test_a_picture_that_claims_to_be_huge_is_refused_before_memory_is_taken() -> None:
    # 1 + 30 bits of height and width, and the header's other bits: 2^30 x 2^30.
    bits = "0" + "11" + "1" * 30 + "000" + "11" + "1" * 30 + "1"
    body = int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")
    with pytest.raises(StoreError, match="at most 67108864 px"):
        decode_picture(b"\xff\x0a" + body + bytes(40), "here")


def test_without_the_library_the_message_names_the_extra(monkeypatch) -> None:
    data = jxl(scene(1))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(UsageError, match=r"robot-dataengine\[umi\]"):
        decode_picture(data, "here")
