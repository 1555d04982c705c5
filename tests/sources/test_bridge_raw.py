"""Raw BridgeData: every picture's bytes in the order of their numbers, and pickles that stay closed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Reader
from dataengine.core.stream import Items
from dataengine.samples.barcode import Barcode, read_barcode
from dataengine.samples.bridge_raw import write_bridge_raw
from dataengine.sources import bridge_raw
from tests.support.child import run_over, run_reader, tally
from tests.support.mutate import mutants
from tests.support.reading import checks, episodes, find, trajectory

READER: Reader = bridge_raw


def test_pictures_land_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folders = [write_bridge_raw(tmp_path / "bridge_raw", number=number) for number in range(2)]
    found = find(READER, tmp_path / "bridge_raw")
    assert [(item.dataset, len(item.files)) for item in found.items] == [("bridge_raw", 2 * 12 + 3)] * 2
    assert {item.dataset for item in find(READER, tmp_path).items} == {"bridge_raw"}
    for number, episode in enumerate(episodes(READER, tmp_path / "bridge_raw")):
        assert (episode.info.tasks, episode.info.clock, episode.info.metadata["text"]) == (("put the pot on the stove",), "unknown", ["confidence: 1.0"])
        assert checks(episode) == ["pickle_not_read"]
        for camera in range(2):
            values = episode.streams[f"observation.images.image_{camera}"].values
            assert isinstance(values, Items)
            assert list(values.data) == [(folders[number] / f"images{camera}" / f"im_{frame}.jpg").read_bytes() for frame in range(12)]
            pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in values.data]
            assert [read_barcode(picture) for picture in pictures] == [Barcode(frame, camera, number) for frame in range(12)]
        assert trajectory(episode).steps == 12


def test_gaps_texts_and_damage_are_named(tmp_path: Path) -> None:
    folder = write_bridge_raw(tmp_path / "set", frames=5, cameras=1)
    (folder / "images0" / "im_2.jpg").unlink()
    (folder / "lang.txt").write_bytes(b"\xff\xfe\xff")
    (episode,) = episodes(READER, tmp_path / "set")
    assert checks(episode) == ["pickle_not_read", "missing_frames", "unreadable_text"]
    assert len(episode.streams["observation.images.image_0"]) == 4
    (folder / "images0" / "im_0.jpg").write_text("no picture")
    assert not find(READER, tmp_path / "set").items


def test_a_picture_that_cannot_be_read_rejects_its_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bridge_raw(tmp_path / "set", frames=3, cameras=1)
    monkeypatch.setattr(bridge_raw, "MAX_PICTURE_BYTES", 100)
    with pytest.raises(BadRecording, match=r"im_0\.jpg: expected at most 100 bytes"):
        episodes(READER, tmp_path / "set")


def test_mutants(tmp_path: Path) -> None:
    folder = write_bridge_raw(tmp_path, frames=2, cameras=1)
    data = (folder / "images0" / "im_0.jpg").read_bytes()
    beside = {"traj0/images0/im_1.jpg": data, "traj0/obs_dict.pkl": b"cos\nabort\n(tR."}
    outcomes = run_over(partial(run_reader, "dataengine.sources.bridge_raw"), mutants(data, 48, 1), file_name="traj0/images0/im_0.jpg", beside=beside)
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "unrecognised")], tally(outcomes)
