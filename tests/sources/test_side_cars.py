import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.protocols import Found, ReadOptions
from dataengine.core.stream import Items
from dataengine.sources import video
from dataengine.sources.listing import list_source
from dataengine.sources.ragged_csv import evened
from tests.support.child import run_over, run_reader, tally
from tests.support.films import numbered, write_film
from tests.support.mutate import mutants

MS, S = 1_000_000, 1_000_000_000


def ingest(folder: Path, **config: Any) -> tuple[Found, Episode]:
    """Write 30 frames in one second as a.mp4 into a folder with side-cars, and read it."""
    write_film(folder / "a.mp4", numbered(30))
    listing = list_source(str(folder))
    found = video.find(listing)
    (item,) = found.items
    (episode,) = [event for event in episodes_of(video.read(item, listing.opener, ReadOptions(config=config))) if isinstance(event, Episode)]
    return found, episode


def checks(episode: Episode) -> list[str]:
    return sorted(problem.check for problem in episode.info.problems)


def test_poses_of_a_csv_are_a_stream_on_the_times_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp_ns,x [m],y [m],z [m],qx,qy,qz,qw\n0,1.5,2,3,0,0,0,1\n33333333,1.25,2,3,0,0,1,0\n999999999,-1,2,3,1,0,0,0\n")
    found, episode = ingest(tmp_path)
    assert found.claimed == {"a.mp4", "a.csv"}
    stream = episode.streams["observation.pose"]
    assert isinstance(stream.values, np.ndarray)
    assert stream.values.tolist() == [[1.5, 2, 3, 0, 0, 0, 1], [1.25, 2, 3, 0, 0, 1, 0], [-1, 2, 3, 1, 0, 0, 0]]
    assert stream.values.dtype == np.float64
    assert stream.clocks["stamp"].tolist() == [0, 33_333_333, 999_999_999]
    assert stream.timestamps_ns.tolist() == [0, 33_333_333, 999_999_999]
    assert (stream.column.dims, stream.column.unit, stream.column.meaning) == (("x", "y", "z", "qx", "qy", "qz", "qw"), "m", "state")
    assert stream.column.action_space is not None
    assert stream.column.action_space.rotation == "quat_xyzw"
    assert checks(episode) == []


def test_an_imu_beside_a_video_has_its_vectors_units_and_clock(tmp_path: Path) -> None:
    (tmp_path / "a_imu.csv").write_text(
        "time (ms),ax [m/s^2],ay [m/s^2],az [m/s^2],gyro_x,gyro_y,gyro_z,temperature_deg,state\n"
        "-5.25,0,0,9.81,0.1,0.2,0.3,21,ok\n0.000001,1,0,9.81,0.1,0.2,0.4,21.5,ok\n4.9999999,2,0,9.81,,0.2,0.5,22,lost\n"
    )
    _, episode = ingest(tmp_path)
    accel = episode.streams["observation.imu.accelerometer"]
    assert (accel.column.unit, accel.column.dims, accel.column.extra["source"]) == ("m/s^2", ("x", "y", "z"), "ax [m/s^2], ay [m/s^2], az [m/s^2]")
    assert accel.clocks["stamp"].tolist() == [-5_250_000, 1, 4_999_999]
    gyro = episode.streams["observation.imu.gyro"]
    assert isinstance(gyro.values, np.ndarray)
    assert np.isnan(gyro.values[2, 0])
    assert (gyro.values[1].tolist(), gyro.column.unit) == ([0.1, 0.2, 0.4], None)
    assert episode.streams["observation.imu.temperature"].column.unit == "deg"
    state = episode.streams["observation.imu.state"].values
    assert isinstance(state, Items)
    assert list(state.data) == [b"ok", b"ok", b"lost"]


def test_narrations_become_timed_texts_and_cut_the_video(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('start_s,end_s,text,verb,id\n0.5,0.9,"take cup, then wait",take,n2\n0.1,0.3,open door,open,n1\n')
    _, episode = ingest(tmp_path)
    texts = episode.streams["language.narration"]
    assert isinstance(texts.values, Items)
    assert list(texts.values.data) == [b"open door", b"take cup, then wait"]
    assert (texts.clocks["start"].tolist(), texts.clocks["end"].tolist()) == ([100 * MS, 500 * MS], [300 * MS, 900 * MS])
    about = episode.streams["annotation"].values
    assert isinstance(about, Items)
    assert [json.loads(row) for row in about.data] == [{"verb": "open", "id": "n1"}, {"verb": "take", "id": "n2"}]
    listing = list_source(str(tmp_path))
    (item,) = video.find(listing).items
    options = ReadOptions(config={"episodes": {"by": "annotation", "rest": "drop"}})
    cut = [event for event in episodes_of(video.read(item, listing.opener, options)) if isinstance(event, Episode)]
    assert [(part.info.key, part.info.tasks, len(part.streams["observation.images.main"])) for part in cut] == [
        ("n1", ("open door",), 6),
        ("n2", ("take cup, then wait",), 12),
    ]


@pytest.mark.parametrize("header", ["timestamp,x,y,z", "time,ax,ay,az", "t,x,y,z"])
def test_a_time_without_a_unit_is_no_clock_unless_the_configuration_says_its_unit(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\n0,1,2,3\n0.5,1,2,3\n")
    _, episode = ingest(tmp_path)
    name = next(name for name in episode.streams if name.startswith("observation.") and "images" not in name and len(episode.streams[name].column.shape) == 1)
    assert episode.streams[name].timestamps_ns is None
    kept = episode.streams[f"observation.{header.split(',')[0]}"].values
    assert isinstance(kept, np.ndarray)
    assert kept.tolist() == [0, 0.5]
    assert checks(episode) == ["unknown_time_unit"]
    (tmp_path / "a.mp4").unlink()
    _, episode = ingest(tmp_path, time_unit="s")
    assert episode.streams[name].timestamps_ns.tolist() == [0, 500 * MS]
    assert checks(episode) == []


def test_times_of_day_need_no_unit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp,text\n00:00:00.14,open\n0:00:01.5,close\n")
    _, episode = ingest(tmp_path)
    assert episode.streams["language.narration"].clocks["start"].tolist() == [140 * MS, 1500 * MS]


def test_times_of_another_clock_are_kept_and_are_not_the_streams_clock(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp_ns,ax,ay,az\n1700000000000000001,1,2,3\n1700000000033333334,1,2,4\n")
    _, episode = ingest(tmp_path)
    stream = episode.streams["observation.accelerometer"]
    assert stream.timestamps_ns is None
    assert stream.clocks["stamp"].tolist() == [1700000000000000001, 1700000000033333334]  # beyond what a float64 holds
    assert checks(episode) == ["other_clock"]


def test_seconds_since_the_epoch_are_read_to_the_ns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp_s,v\n1700000000.123456789,1\n1700000000.2,2\n")
    _, episode = ingest(tmp_path)
    assert episode.streams["observation.v"].clocks["stamp"].tolist() == [1700000000123456789, 1700000000200000000]


def test_rows_without_a_time_are_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t_ms,v\n0,1\n,2\n7,3\n")
    _, episode = ingest(tmp_path)
    assert episode.streams["observation.v"].values.tolist() == [1, 3]  # type: ignore[union-attr]
    assert episode.streams["observation.v_untimed"].values.tolist() == [2]  # type: ignore[union-attr]
    assert checks(episode) == ["rows_without_time"]


def test_json_lines_and_json_hold_poses_as_matrices(tmp_path: Path) -> None:
    pose = [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"timestamp_s": 0.1 * row, "pose": pose, "ok": True}) for row in range(3)))
    narrations = [{"timestamp_sec": 0.25, "text": "wave"}]
    (tmp_path / "a.json").write_text(json.dumps({"caption": "greet", "rig": 3.5, "narrations": narrations}))
    found, episode = ingest(tmp_path)
    assert found.claimed == {"a.mp4", "a.jsonl", "a.json"}
    stream = episode.streams["observation.pose"]
    assert isinstance(stream.values, np.ndarray)
    assert (stream.values.shape, stream.values[2].tolist()) == ((3, 4, 4), pose)
    assert stream.column.action_space is not None
    assert stream.column.action_space.rotation == "matrix"
    assert stream.clocks["stamp"].tolist() == [0, 100 * MS, 200 * MS]
    texts = episode.streams["language.narration"]
    assert (list(texts.values.data), texts.clocks["start"].tolist()) == ([b"wave"], [250 * MS])  # type: ignore[union-attr]
    assert episode.info.tasks == ("greet",)
    assert episode.info.metadata["side_cars"]["a.json"] == {"caption": "greet", "rig": 3.5}


def test_a_matrix_in_sixteen_columns_is_one_stream(tmp_path: Path) -> None:
    names = ",".join(f"T{row}{column}" for row in range(4) for column in range(4))
    (tmp_path / "a.csv").write_text(f"time_s,{names}\n0,{','.join(map(str, range(16)))}\n")
    _, episode = ingest(tmp_path)
    stream = episode.streams["observation.pose_matrix"]
    assert stream.values.tolist() == [np.arange(16.0).reshape(4, 4).tolist()]  # type: ignore[union-attr]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_comma_in_a_text_without_quotes_is_a_part_of_it(tmp_path: Path, ending: str) -> None:
    lines = ["start_s,end_s,narration", '0.0,0.2,"wash, dry"', "", "0.2,0.5,open the door, then close it", "0.5,0.6,,,wait,", "0.6,0.9,leave", "0.9,0.95,go,,"]
    (tmp_path / "a.csv").write_bytes(ending.join(lines).encode())
    _, episode = ingest(tmp_path)
    texts = episode.streams["language.narration"]
    assert list(texts.values.data) == [b"wash, dry", b"open the door, then close it", b",,wait,", b"leave", b"go"]  # type: ignore[union-attr]
    assert texts.clocks["end"].tolist() == [200 * MS, 500 * MS, 600 * MS, 900 * MS, 950 * MS]
    (problem,) = episode.info.problems
    assert (problem.check, problem.severity) == ("ragged_rows", "warning")
    assert "a.csv: 2 of 5 rows have more fields than the header, the first in line 4; the rest is joined" in problem.message


def test_fields_beyond_a_header_of_numbers_are_a_column_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp_s,ax,ay,az\n0,1,2,3\n0.1,1,2,3,77,lost\n0.2,4,5,6\n0.3,4,5,6,nan\n")
    _, episode = ingest(tmp_path)
    assert episode.streams["observation.accelerometer"].values.tolist() == [[1, 2, 3], [1, 2, 3], [4, 5, 6], [4, 5, 6]]  # type: ignore[union-attr]
    assert list(episode.streams["observation.surplus"].values.data) == [b"", b"77,lost", b"", b"nan"]  # type: ignore[union-attr]
    (problem,) = episode.info.problems
    assert "2 of 4 rows have more fields than the header, the first in line 3" in problem.message


def test_a_film_is_cut_by_narrations_with_commas(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("start_s,end_s,narration\n0.0,0.5,open the door, then close it\n")
    write_film(tmp_path / "a.mp4", numbered(30))
    listing = list_source(str(tmp_path))
    (item,) = video.find(listing).items
    options = ReadOptions(config={"episodes": {"by": "annotation", "rest": "drop"}})
    (cut,) = [event for event in episodes_of(video.read(item, listing.opener, options)) if isinstance(event, Episode)]
    assert cut.info.tasks == ("open the door, then close it",)
    assert checks(cut) == ["ragged_rows"]


def test_commas_at_the_ends_of_rows_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp_s,v\n0,1,\n0.1,2, ,\n")
    _, episode = ingest(tmp_path)
    assert episode.streams["observation.v"].values.tolist() == [1, 2]  # type: ignore[union-attr]
    assert checks(episode) == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (b"1,2,3\n4,5\n", b"a,b,surplus\n1,2,3\n4,5,\n"),  # a number: a column of its own
        (b"1,x,3\n", b'a,b\n1,"x,3"\n'),  # no whole row: by the odd ones
        (b"1,x,3\n2,00:01:02.5\n", b"a,b,surplus\n1,x,3\n2,00:01:02.5,\n"),  # whole rows hold times there
        (b"1,5,6\n2,none\n3,x\n", b'a,b\n1,"5,6"\n2,none\n3,x\n'),
        (b'1,"u\nv",w\n', b'a,b\n1,"u\nv,w"\n'),
    ],
)
def test_rows_are_made_even(rows: bytes, expected: bytes) -> None:
    even, problem = evened(b"a,b\n" + rows, "a.csv")
    assert even == expected
    assert problem is not None
    assert "the first in line 2" in problem.message


@pytest.mark.parametrize("row", [b"1," * (1 << 20), b'"\n",' * (1 << 19), b'1,2,"3'])
def test_rows_without_end_are_refused(row: bytes) -> None:
    with pytest.raises(BadRecording, match="rows of a CSV file"):
        evened(b"a,b\n" + row, "a.csv")


def test_tables_of_other_things_are_left_alone_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,score\nbob,3\n")
    (tmp_path / "notes.csv").write_text("timestamp_s,x\n0,1\n")
    (tmp_path / "ab_imu.csv").write_text("timestamp_s,x\n0,1\n")
    found, episode = ingest(tmp_path)
    assert found.claimed == {"a.mp4"}
    assert [(problem.check, problem.severity, problem.where) for problem in found.problems] == [("unknown_side_car", "info", "a.csv")]
    assert sorted(episode.streams) == ["observation.images.main"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"timestamp_s,x",
        b"timestamp_s,x\n\xff\xfe\x00",
        b"timestamp_s,x\n1,2,3,4\n5\n",
        b'timestamp_s,x\n"1,2\n3',
        b"timestamp_s,x\nnan,1\ninf,2\n1e300,3\n",
    ],
)
def test_broken_tables_never_cost_the_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "a.jsonl").write_bytes(content)
    _, episode = ingest(tmp_path)
    assert len(episode.streams["observation.images.main"]) == 30
    assert "unreadable_side_car" in checks(episode)  # the .jsonl in any case


def test_a_wrong_unit_in_the_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="time_unit"):
        ingest(tmp_path, time_unit="minutes")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_mutants_of_tables_never_cost_the_video(tmp_path: Path, name: str) -> None:
    rows = [{"timestamp_ms": 10.5 * row, "x": row, "y": 2, "z": 3, "note": "n"} for row in range(40)]
    table = "timestamp_ms,x,y,z,note\n" + "\n".join(",".join(str(value) for value in row.values()) for row in rows)
    contents = {"a.csv": table, "a.jsonl": "\n".join(map(json.dumps, rows)), "a.json": json.dumps({"samples": rows})}
    film = write_film(tmp_path / "film.mp4", numbered(5)).read_bytes()
    outcomes = run_over(
        partial(run_reader, "dataengine.sources.video"),
        mutants(contents[name].encode(), 32, seed=4),
        file_name=name,
        beside={"a.mp4": film},
        memory_bytes=256 << 20,
        preload=("av", "polars", "dataengine.sources.video"),
    )
    assert {outcome.status for outcome in outcomes} == {"ok"}, tally(outcomes)


def test_times_of_whole_seconds_fit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"start [s],end [s],label\n0,{10**18},a\n")
    _, episode = ingest(tmp_path)
    assert checks(episode) == ["unreadable_times"]
    assert episode.streams["language.narration"].clocks["start"].tolist() == [0 * S]


def test_subtitles_are_timed_texts_and_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(
        "1\n00:00:00,140 --> 00:00:00,5\n<i>open</i>\nthe door\n\n2\n00:00:00,600 --> 01:00:00,000 X1:5\nclose\n\n3\n00:00:01,000 --> 00:00:00,900\nback\n"
    )
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n00:00.250 --> 00:00.300\nknock\n")
    _, episode = ingest(tmp_path)
    texts = episode.streams["language.subtitle"]
    assert list(texts.values.data) == [b"open the door", b"knock", b"close"]  # type: ignore[union-attr]
    assert texts.clocks["start"].tolist() == [140 * MS, 250 * MS, 600 * MS]
    assert texts.clocks["end"].tolist() == [500 * MS, 300 * MS, 3600 * S]
    assert episode.info.metadata["side_cars"]["a.vtt"].startswith("WEBVTT")


def test_a_million_letters_of_subtitles_take_no_time(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("00:00:00,140 --> " * 20_000 + "x" * 100_000 + "\n" + "<" * 100_000)
    _, episode = ingest(tmp_path)
    assert "language.subtitle" not in episode.streams
