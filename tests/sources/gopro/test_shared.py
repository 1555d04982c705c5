"""The telemetry of real cameras: every figure of the page of facts, and what two other decoders read of the same bytes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Items, MediaFrames
from dataengine.sources.gopro import klv
from dataengine.sources.listing import list_source
from dataengine.sources.registry import READERS
from tests.support.shared import SHARED_DATA, shared_data

RAW = ["gopro_gpmf/hero5.raw", "gopro_gpmf/hero6+ble.raw", "gopro_gpmf/hero6.raw", "gopro_telemetry/hero7.raw", "gopro_telemetry/mp4header.raw"]
FILES = [*RAW, "gopro_gpmf/hero7.mp4"]


@cache
def read_file(name: str) -> Episode:
    """Return the one recording that a shared file holds, read by whichever reader claims it."""
    listing = list_source(str(shared_data("umi", *name.split("/"))))
    items = [(reader, item) for reader in READERS.values() for item in reader.find(listing).items if not item.by_name]
    ((reader, item),) = items
    (episode,) = episodes_of(reader.read(item, listing.opener, ReadOptions()))
    assert isinstance(episode, Episode)
    return episode


def facts(name: str) -> dict[str, Any]:
    shared_data("umi")
    page: dict[str, Any] = json.loads((SHARED_DATA / "FACTS.json").read_text())
    found: dict[str, Any] = page[f"umi/{name}"]["gpmf"]
    return found


def payloads(episode: Episode) -> list[bytes]:
    values = episode.streams["gopro.payloads"].values
    assert isinstance(values, Items)
    return [bytes(data) for data in values.data]


def blocks_of(episode: Episode) -> dict[str, list[klv.Entry]]:
    """Return for each device and key the last entry of each STRM, as the page counts them."""
    found: dict[str, list[klv.Entry]] = {}
    for data in payloads(episode):
        for device in klv.parse(data, "payload"):
            name = next(klv.plain(entry) for entry in device.inside if entry.key == "DVNM")
            for strm in (entry for entry in device.inside if entry.key == "STRM" and entry.inside):
                found.setdefault(f"{name}/{strm.inside[-1].key}", []).append(strm.inside[-1])
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_stream_has_the_samples_and_values_of_the_page(name: str) -> None:
    episode, known = read_file(name), facts(name)
    blocks = blocks_of(episode)
    assert blocks.keys() == known["streams"].keys()
    compared = 0
    for path, fact in known["streams"].items():
        entries = blocks[path]
        assert len(entries) == fact["blocks"], path
        assert sum(entry.repeat for entry in entries) == fact["samples"], path
        assert {entry.size for entry in entries} == {fact["elem_bytes"]}, path
        assert {entry.kind for entry in entries} == {fact["type"]}, path
        device, key = path.split("/")
        prefix = "gopro.sensorb6" if device == "SENSORB6" else "gopro.highlights" if device == "Highlights" else "gopro"
        stream = f"{prefix}.{key.lower()}"
        if fact["tsmp_last"] is not None:
            assert episode.info.metadata["gopro"]["samples_counted"][stream] == fact["tsmp_last"], path
        if "first" not in fact:
            continue
        values = episode.streams[stream].values
        assert isinstance(values, np.ndarray)
        assert len(values) == fact["samples"], path
        np.testing.assert_allclose(np.atleast_1d(values[0]), fact["first"], atol=6e-7, err_msg=path)
        np.testing.assert_allclose(np.atleast_1d(values[-1]), fact["last"], atol=6e-7, err_msg=path)
        scale = episode.info.columns[stream].extra.get("scale")
        assert (None if scale is None else [scale] if isinstance(scale, int) else scale) == fact["scal"], path
        compared += 1
    assert compared >= (1 if name.endswith("mp4header.raw") else 5)


def test_the_payloads_of_the_film_have_the_times_of_its_table() -> None:
    episode = read_file("gopro_gpmf/hero7.mp4")
    stream = episode.streams["gopro.payloads"]
    assert stream.timestamps_ns is not None
    np.testing.assert_array_equal(stream.timestamps_ns, np.arange(11) * 1_001_000_000)
    np.testing.assert_array_equal(stream.clocks["end"] - stream.clocks["payload"], np.full(11, 1_001_000_000))
    # 189 samples of the first payload, spread evenly: sample 1 lies at 1.001 s / 189.
    accl = episode.streams["gopro.accl"]
    assert accl.timestamps_ns is not None
    count = int(klv.parse(payloads(episode)[0], "")[0].inside[2].inside[-1].repeat)
    assert accl.timestamps_ns[:2].tolist() == [0, 1_001_000_000 // count]
    assert accl.timestamps_ns[count] == 1_001_000_000
    assert (np.diff(accl.timestamps_ns) > 0).all()


def test_the_film_keeps_its_pictures_beside_the_telemetry() -> None:
    episode = read_file("gopro_gpmf/hero7.mp4")
    frames = episode.streams["observation.images.main"].values
    assert isinstance(frames, MediaFrames)
    assert len(frames) == 352
    assert episode.info.follow == "observation.images.main"
    settings = episode.info.metadata["gopro"]["settings"][0]["STRM"]
    assert (settings["MINF"], settings["FMWR"], settings["PIMX"]) == ("HERO7 Black", "HD7.01.01.70.00", 800)
    assert [problem.check for problem in episode.info.problems] == []


def test_what_describes_a_stream_stands_in_its_column() -> None:
    columns = read_file("gopro_gpmf/hero5.raw").info.columns
    assert columns["gopro.accl"].dims == ("up_down", "right_left", "forward_back")
    assert (columns["gopro.accl"].unit, columns["gopro.gyro"].unit, columns["gopro.shut"].unit) == ("m/s²", "rad/s", "s")
    assert columns["gopro.gyro"].dims == ("z", "x", "y")
    assert columns["gopro.gps5"].extra["units"] == ["deg", "deg", "m", "m/s", "m/s"]
    assert columns["gopro.gps5"].dims == ("latitude", "longitude", "altitude", "speed_2d", "speed_3d")
    extra = read_file("gopro_gpmf/hero6+ble.raw").info.columns["gopro.accl"].extra
    assert (extra["orientation_in"], extra["orientation_out"]) == ("YxZ", "ZXY")
    assert extra["matrix"] == [0, 0, 1, 0, -1, 0, 1, 0, 0]


def test_a_raw_file_has_no_times() -> None:
    episode = read_file("gopro_gpmf/hero6+ble.raw")
    assert episode.info.clock == "unknown"
    assert all(stream.timestamps_ns is None for stream in episode.streams.values())
    assert {problem.check for problem in episode.info.problems} == {"no_times"}
    assert bytes(episode.streams["gopro.gps5.gpsu"].values.data[0]) == b"180323225139.829"  # type: ignore[union-attr]
    assert episode.streams["gopro.sensorb6.acc1"].values.shape == (82, 16)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", RAW)
def test_the_payloads_are_the_file(name: str) -> None:
    data = shared_data("umi", *name.split("/")).read_bytes()
    joined = b"".join(payloads(read_file(name)))
    assert data.startswith(joined)
    assert not any(data[len(joined) :])
    if name == "gopro_telemetry/hero7.raw":
        assert len(payloads(read_file(name))) == 17


def test_the_integers_are_those_of_the_javascript_decoder() -> None:
    """`parsed.json` is what gopro-telemetry reads of the same file: raw integers, so scaled values times their scale."""
    episode = read_file("gopro_gpmf/hero6+ble.raw")
    (parsed,) = [device for device in json.loads(shared_data("umi", "gopro_telemetry", "partials", "parsed.json").read_text())["DEVC"] if device["DVID"] == 1]
    compared = []
    for strm in parsed["STRM"]:
        for key in ("ACCL", "GYRO", "GPS5", "ISOE", "SHUT", "WBAL", "WRGB", "FCNM"):
            if key not in strm:
                continue
            values = np.asarray(episode.streams[f"gopro.{key.lower()}"].values)
            scale = np.asarray(strm.get("SCAL", 1))
            if "SCAL" in strm:
                np.testing.assert_array_equal(np.rint(values * scale), np.asarray(strm[key]), err_msg=key)
            else:
                np.testing.assert_allclose(values, np.asarray(strm[key]), rtol=1e-7, err_msg=key)
            assert strm["TSMP"] == len(values)
            compared.append(key)
    assert compared == ["ACCL", "GYRO", "GPS5", "FCNM", "ISOE", "SHUT", "WBAL", "WRGB"]


def test_the_numbers_are_those_of_the_rust_library() -> None:
    """telemetry-parser gives scaled, re-ordered axes: acceleration in the order of ORIN as its normalised streams, rotation in degrees."""
    library = pytest.importorskip("telemetry_parser")
    rows = library.Parser(str(shared_data("umi", "gopro_gpmf", "hero7.mp4"))).normalized_imu()
    episode = read_file("gopro_gpmf/hero7.mp4")
    accl, gyro = np.asarray(episode.streams["gopro.accl"].values), np.asarray(episode.streams["gopro.gyro"].values)
    assert len(rows) == len(accl) == len(gyro) == 2175
    theirs = np.array([row["accl"] for row in rows])
    np.testing.assert_allclose(np.sort(np.abs(theirs), axis=1), np.sort(np.abs(accl), axis=1), atol=1e-4)
    turned = np.array([row["gyro"] for row in rows])
    np.testing.assert_allclose(np.sort(np.abs(turned), axis=1), np.sort(np.abs(np.degrees(gyro)), axis=1), atol=1e-3)


def test_the_shared_folder_lands_in_one_run(tmp_path: Path) -> None:
    folder = shared_data("umi", "gopro_gpmf")
    found = [(name, item.path, item.dataset) for name, reader in READERS.items() for item in reader.find(list_source(str(folder))).items if not item.by_name]
    assert found == [
        ("gpmf", "hero5.raw", "gopro_gpmf"),
        ("gpmf", "hero6+ble.raw", "gopro_gpmf"),
        ("gpmf", "hero6.raw", "gopro_gpmf"),
        ("video", "hero7.mp4", "gopro_gpmf"),
    ]
