"""Real recordings of GoPro cameras under --scrub: no place and no serial number of theirs can be found in the store, in whatever form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Items
from dataengine.sources.gopro import klv
from dataengine.sources.listing import list_source
from dataengine.sources.registry import READERS
from tests.support.jobs import dataengine, episodes
from tests.support.needles import found_in
from tests.support.shared import shared_data

FILES = ("hero7.mp4", "hero5.raw")
ROWS = {"hero7.mp4": 199, "hero5.raw": 18}
EVERY = 18
# The lens, the camera and a part of the media identifier of hero7.mp4.
SERIALS = ("LAJ8051935600462", "C3281324500963", "3767502431")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("gopro") / "cameras"
    found.mkdir()
    for name in FILES:
        shutil.copy(shared_data("umi", "gopro_gpmf", name), found / name)
    return found


def fixes(folder: Path) -> dict[str, bytes]:
    """Return GPS rows from all over the recordings: latitude and longitude as the camera wrote them, and as numbers."""
    listing = list_source(str(folder))
    found: dict[str, bytes] = {}
    for reader in READERS.values():
        for item in reader.find(listing).items if reader.NAME in ("gpmf", "video") else ():
            name = Path(item.path).name
            if (reader.NAME == "gpmf") != name.endswith(".raw"):
                continue
            (episode,) = (part for part in episodes_of(reader.read(item, listing.opener, ReadOptions())) if isinstance(part, Episode))
            values = episode.streams["gopro.payloads"].values
            assert isinstance(values, Items)
            raw = [
                entry.data
                for payload in values.data
                for device in klv.parse(bytes(payload), name)
                for stream in device.inside or ()
                for entry in stream.inside or ()
                if entry.key == "GPS5"
            ]
            whole = b"".join(raw)
            positions = np.asarray(episode.streams["gopro.gps5"].values)
            assert (len(positions), len(whole)) == (ROWS[name], ROWS[name] * 20)
            for row in range(0, len(positions), EVERY):
                found[f"{name} {row} raw"] = whole[row * 20 : row * 20 + 8]
                found[f"{name} {row} numbers"] = positions[row, :2].astype("<f8").tobytes()
    assert len(found) == 2 * (12 + 1)
    return found


def test_no_place_and_no_serial_number_of_a_camera_is_left(folder: Path, tmp_path: Path) -> None:
    needles = fixes(folder) | {serial: serial.encode() for serial in SERIALS}
    plain, scrubbed = tmp_path / "plain", tmp_path / "scrubbed"
    for store, flags in ((plain, ()), (scrubbed, ("--scrub",))):
        done = dataengine("ingest", folder, "--store", store, "--local", "--json", *flags)
        assert done.code == 0, done.err
        assert done.json["landed"] == 2
    assert found_in(plain, needles).keys() == needles.keys()  # otherwise the search would prove nothing
    assert found_in(scrubbed, needles) == {}
    for row in episodes(scrubbed):
        withheld = json.loads(row["metadata"])["privacy"]["streams_withheld"]
        assert {"gopro.gps5", "gopro.gps5.gpsu", "gopro.payloads"} <= set(withheld)
