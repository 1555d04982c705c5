"""GPMF that the samples write: times, scales and types worked out by hand, beside a video and alone; and damage."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Items, MediaFrames
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.gopro import PAYLOAD_MS, add_telemetry, entry, nest, numbers, payloads_of, text
from dataengine.samples.video import VideoOptions, write_film
from dataengine.sources import video
from dataengine.sources.gopro import klv, reader
from dataengine.sources.gopro.sensors import Payload, Sensors
from dataengine.sources.listing import list_source
from dataengine.sources.registry import READERS
from dataengine.video.data_tracks import data_tracks

CONFIG = ArmConfig(48, 64, cameras=("wrist",), max_steps=60)
STEP_NS = PAYLOAD_MS * 1_000_000


@pytest.fixture(scope="module")
def recording() -> ArmRecording:
    return record(0, 1, CONFIG)


@pytest.fixture
def film(tmp_path: Path, recording: ArmRecording) -> Path:
    return write_film(tmp_path / "lab" / "GX010042.MP4", recording, ["wrist"], VideoOptions())


def read_one(folder: Path, module: Any = video) -> Episode:
    listing = list_source(str(folder))
    (item,) = module.find(listing).items
    (episode,) = episodes_of(module.read(item, listing.opener, ReadOptions()))
    assert isinstance(episode, Episode)
    return episode


def checks(episode: Episode) -> list[str]:
    return [problem.check for problem in episode.info.problems]


def device(*streams: bytes, identity: int = 1, name: str = "Camera") -> bytes:
    return nest("DEVC", entry("DVID", "L", 4, 1, struct.pack(">I", identity)), text("DVNM", name), *streams)


def raw(folder: Path, *payloads: bytes) -> Episode:
    folder.mkdir(exist_ok=True)
    (folder / "a.raw").write_bytes(b"".join(payloads))
    return read_one(folder, reader)


def test_the_sensors_stand_beside_the_film_on_its_clock(film: Path, recording: ArmRecording) -> None:
    payloads = payloads_of(recording)
    add_telemetry(film, payloads)
    episode = read_one(film.parent)
    assert isinstance(episode.streams["observation.images.main"].values, MediaFrames)
    kept = episode.streams["gopro.payloads"]
    assert isinstance(kept.values, Items)
    assert [bytes(data) for data in kept.values.data] == payloads
    np.testing.assert_array_equal(kept.clocks["payload"], np.arange(len(payloads)) * STEP_NS)
    rows = len(episode.streams["gopro.accl"])
    accl, gyro = np.asarray(episode.streams["gopro.accl"].values), np.asarray(episode.streams["gopro.gyro"].values)
    np.testing.assert_allclose(accl, recording.linear_acceleration[:rows], atol=0.5 / 418 + 1e-9)
    np.testing.assert_allclose(gyro, recording.angular_velocity[:rows], atol=0.5 / 3755 + 1e-9)
    np.testing.assert_array_equal(np.rint(accl * 418), np.rint(recording.linear_acceleration[:rows] * 418))  # the integers come back
    column = episode.info.columns["gopro.accl"]
    assert (column.unit, column.dims, column.dtype, column.extra["scale"]) == ("m/s²", ("x", "y", "z"), "float64", 418)
    assert checks(episode) == []
    assert episode.info.metadata["gopro"]["handler"] == "GoPro MET"


def test_samples_are_spread_over_their_payload_and_stmp_is_a_clock_of_its_own(film: Path, recording: ArmRecording) -> None:
    add_telemetry(film, payloads_of(recording))
    stream = read_one(film.parent).streams["gopro.accl"]
    imu_ns = recording.imu_t_ns
    first = [int(np.flatnonzero(imu_ns >= start)[0]) for start in (0, STEP_NS, 2 * STEP_NS)]
    for number in (0, 1):
        count = first[number + 1] - first[number]
        expected = number * STEP_NS + np.arange(count) * STEP_NS // count
        np.testing.assert_array_equal(stream.clocks["payload"][first[number] : first[number + 1]], expected)
        assert stream.clocks["stmp"][first[number]] == imu_ns[first[number]] // 1000 * 1000
    # Between two stamps the sensor's own jittered times are met within three of its jitters.
    apart_ns = np.abs(stream.clocks["stmp"][: first[2]] - imu_ns[: first[2]])
    assert apart_ns.max() < 3 * 5_000_000
    assert stream.timestamps_ns is not None
    np.testing.assert_array_equal(stream.timestamps_ns, stream.clocks["payload"])


def test_an_empty_edit_delays_the_telemetry(film: Path, recording: ArmRecording) -> None:
    add_telemetry(film, payloads_of(recording), delay_ms=250)
    with film.open("rb") as file:
        (track,) = data_tracks(file, frozenset([b"gpmd"]), "film")
    assert track.start_ns[0] == 250_000_000  # FFmpeg writes the movie's scale as 1000
    assert read_one(film.parent).streams["gopro.payloads"].clocks["payload"][1] == 250_000_000 + STEP_NS


def test_a_typed_structure_becomes_scaled_numbers(film: Path, recording: ArmRecording) -> None:
    add_telemetry(film, payloads_of(recording))
    episode = read_one(film.parent)
    values = np.asarray(episode.streams["gopro.gps9"].values)
    np.testing.assert_allclose(values[1], [47.5, 8.25, 400, 0.5, 0.51, 9500, 1.001, 1.25, 3], rtol=1e-12)
    assert episode.info.columns["gopro.gps9"].extra["type"] == "lllllllSS"


def test_settings_of_the_header_are_metadata(film: Path, recording: ArmRecording) -> None:
    settings = device(nest("STRM", text("MINF", "HERO99"), entry("PIMX", "L", 4, 1, struct.pack(">I", 800))), name="Video Global Settings")
    add_telemetry(film, payloads_of(recording), settings)
    assert read_one(film.parent).info.metadata["gopro"]["settings"] == [{"DVID": 1, "DVNM": "Video Global Settings", "STRM": {"MINF": "HERO99", "PIMX": 800}}]


def test_a_film_without_telemetry_is_as_before(film: Path) -> None:
    episode = read_one(film.parent)
    assert set(episode.streams) == {"observation.images.main"}
    assert "gopro" not in episode.info.metadata


def test_a_damaged_payload_costs_its_rows_only(film: Path, recording: ArmRecording) -> None:
    payloads = payloads_of(recording)
    payloads[1] = payloads[1][:20] + b"\xff\xff\xff\xff" + payloads[1][24:]
    add_telemetry(film, payloads)
    episode = read_one(film.parent)
    assert "damaged_telemetry" in checks(episode)
    kept = episode.streams["gopro.payloads"].values
    assert isinstance(kept, Items)
    assert bytes(kept.data[1]) == payloads[1]
    times = episode.streams["gopro.accl"].timestamps_ns
    assert times is not None
    assert not ((times >= STEP_NS) & (times < 2 * STEP_NS)).any()


def test_samples_that_the_camera_counted_and_the_file_lacks_are_named(film: Path, recording: ArmRecording) -> None:
    payloads = payloads_of(recording)
    add_telemetry(film, [payloads[0], payloads[2]])
    assert checks(read_one(film.parent)) == ["samples_missing"] * 3


def test_tables_that_lie_cost_the_telemetry_and_not_the_film(film: Path, recording: ArmRecording) -> None:
    add_telemetry(film, payloads_of(recording))
    data = film.read_bytes()
    at = data.rindex(b"mdhd") + 16  # the time scale: FFmpeg takes 1 for 0, here it is refused
    film.write_bytes(data[:at] + struct.pack(">I", 0) + data[at + 4 :])
    episode = read_one(film.parent)
    assert checks(episode) == ["telemetry_not_read"]
    assert set(episode.streams) == {"observation.images.main"}


def test_a_raw_file_goes_by_its_stamps(tmp_path: Path, recording: ArmRecording) -> None:
    episode = raw(tmp_path / "cut", *payloads_of(recording))
    assert (episode.info.clock, episode.info.dataset) == ("measured", "cut")
    stream = episode.streams["gopro.gyro"]
    assert stream.timestamps_ns is not None
    np.testing.assert_array_equal(stream.timestamps_ns, stream.clocks["stmp"])
    assert episode.info.columns["gopro.gyro"].steps
    without = raw(tmp_path / "bare", *payloads_of(recording, stmp=False))
    assert (without.info.clock, checks(without)) == ("unknown", ["no_times"])
    assert not without.info.columns["gopro.gyro"].steps
    assert len(without.streams["gopro.gyro"]) == len(stream)


def test_types_of_the_format(tmp_path: Path) -> None:
    """One stream for each type, with values whose bytes are written here by hand."""
    streams = [
        nest("STRM", entry("AAAA", "b", 1, 2, b"\x7f\x80")),
        nest("STRM", entry("AAAB", "S", 2, 1, b"\xff\xfe")),
        nest("STRM", entry("AAAC", "q", 4, 1, b"\x00\x01\x80\x00")),
        nest("STRM", entry("AAAD", "d", 8, 1, struct.pack(">d", 0.1))),
        nest("STRM", entry("AAAE", "j", 8, 1, struct.pack(">q", -(2**62)))),
        nest("STRM", entry("AAAF", "F", 4, 2, b"SNOWBEAC")),
        nest("STRM", entry("AAAG", "G", 16, 1, bytes(range(16)))),
        nest("STRM", text("TYPE", "Ff[2]"), entry("AAAH", "?", 12, 2, b"SNOW" + struct.pack(">ff", 0.5, 2) + b"BEAC" + struct.pack(">ff", 0.25, 4))),
        nest("STRM", entry("SCAL", "s", 2, 1, b"\x00\x00"), entry("AAAI", "s", 2, 1, b"\x00\x05")),
        nest("STRM", entry("AAAJ", "#", 3, 1, b"abc")),
        nest("STRM", text("STNM", "Nothing here")),
        nest("STRM", numbers("AAAK", "f", np.array([[1, 2], [3, 4]], ">f4")), numbers("AAAK", "f", np.array([[5, 6]], ">f4"))),
    ]
    episode = raw(tmp_path, device(*streams))
    values = {name: stream.values for name, stream in episode.streams.items()}
    assert np.asarray(values["gopro.aaaa"]).tolist() == [127, -128]
    assert np.asarray(values["gopro.aaab"]).tolist() == [65534]
    assert np.asarray(values["gopro.aaac"]).tolist() == [1.5]
    assert np.asarray(values["gopro.aaad"]).tolist() == [0.1]
    assert np.asarray(values["gopro.aaae"]).tolist() == [-(2**62)]
    assert values["gopro.aaaf"].data == [b"SNOW", b"BEAC"]  # type: ignore[union-attr]
    assert values["gopro.aaag"].data == [bytes(range(16)).hex().encode()]  # type: ignore[union-attr]
    assert np.asarray(values["gopro.aaah"]).tolist() == [[0.5, 2], [0.25, 4]]
    assert values["gopro.aaah.field_0"].data == [b"SNOW", b"BEAC"]  # type: ignore[union-attr]
    assert (np.asarray(values["gopro.aaai"]).tolist(), values["gopro.aaai"].dtype) == ([5], np.int16)  # type: ignore[union-attr]
    assert np.asarray(values["gopro.aaak"]).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert checks(episode) == ["telemetry_not_laid_out"] * 2 + ["no_times"]
    assert episode.info.metadata["gopro"]["streams_without_rows"] == ["Nothing here"]


def test_a_second_device_has_streams_of_its_own(tmp_path: Path) -> None:
    stream = nest("STRM", entry("TMPC", "f", 4, 1, struct.pack(">f", 20)), entry("ACCL", "b", 1, 1, b"\x01"))
    other = nest("STRM", entry("ACCL", "b", 1, 1, b"\x02"))
    both = device(stream) + device(other, identity=9, name="Heart Rate Belt")
    episode = raw(tmp_path, both, both)
    assert np.asarray(episode.streams["gopro.accl"].values).tolist() == [1, 1]
    assert np.asarray(episode.streams["gopro.heart-rate-belt.accl"].values).tolist() == [2, 2]
    assert np.asarray(episode.streams["gopro.accl.tmpc"].values).tolist() == [20, 20]
    assert len(episode.streams["gopro.payloads"]) == 2


@pytest.mark.parametrize(
    ("content", "check"),
    [
        (lambda data: data[:-9], "truncated"),
        (lambda data: data[:20], "truncated"),
        (lambda data: data + b"rest", "truncated"),
        (lambda data: data + bytes(12) + b"rest", "damaged_gpmf"),
        (lambda data: data + text("ABCD", "xx"), "damaged_gpmf"),
        (lambda data: data[:20] + b"\xff" * 4 + data[24:], "damaged_gpmf"),
    ],
)
def test_a_broken_raw_file_is_rejected(tmp_path: Path, recording: ArmRecording, content: Any, check: str) -> None:
    with pytest.raises(BadRecording) as caught:
        raw(tmp_path, content(payloads_of(recording)[0]))
    assert caught.value.check == check


def test_raw_files_are_known_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(device(nest("STRM", entry("ACCL", "b", 1, 1, b"\x01"))))
    (tmp_path / "b.raw").write_bytes(b"DEVC is a word")
    (tmp_path / "c.raw").write_bytes(b"")
    found = {name: [item.path for item in module.find(list_source(str(tmp_path))).items] for name, module in READERS.items()}
    assert found["gpmf"] == ["a.bin"]


def test_entries_nested_or_repeated_beyond_reason_are_refused() -> None:
    deep = b""
    for _ in range(12):
        deep = nest("STRM", deep) if deep else nest("STRM", text("STNM", "x"))
    for data in (deep, nest("DEVC", *[entry("AAAA", "b", 0, 0, b"")] * 8000) * 9):
        with pytest.raises(BadRecording) as caught:
            klv.parse(data, "here")
        assert caught.value.check == "absurd_size"


def test_rows_are_given_on_before_the_end(recording: ArmRecording) -> None:
    """4 MiB of payloads are held at most: of the last payload the rows wait for the next one's stamp."""
    sensors = Sensors("here")
    payloads = payloads_of(recording)
    given = [rows for number in range(300) for rows in sensors.add(Payload(payloads[0] + bytes(20_000), number * STEP_NS, (number + 1) * STEP_NS))]
    assert given
    assert sum(len(rows.values) for rows in given if rows.stream == "gopro.payloads") > 150
    given += list(sensors.flush())
    assert sum(len(rows.values) for rows in given if rows.stream == "gopro.payloads") == 300
