"""Parquet logs with episodes that are broken, and with films that change: a broken episode costs itself alone, and no film is lost in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataengine.core.episode import Noticed, Rejected
from dataengine.core.protocols import Reader
from dataengine.samples.barcode import Barcode, read_barcode
from dataengine.samples.numbered_film import numbered_frames, write_numbered_film
from dataengine.sources.parquet_log import reader as parquet_log
from pipelines.ingest import IngestJob, run
from pipelines.runtime import Runtime
from tests.support.reading import checks, decoded, read_all, trajectory

READER: Reader = parquet_log


def write(folder: Path, columns: dict[str, Any], mapping: str, **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "log.parquet", **options)
    (folder / "log.mapping.yaml").write_text(mapping)


def _spoilt(columns: dict[str, Any], fault: str) -> dict[str, Any]:
    if fault == "time":
        columns["t"][5] = float("nan")
    elif fault == "list":
        columns["c"][5] = [1.0]
    elif fault == "frame":
        columns["f"][6] = 0
    return columns


@pytest.mark.parametrize(
    ("fault", "check"), [("time", "odd_times"), ("list", "ragged_lists"), ("frame", "odd_frames"), ("film", None), ("film of nothing", None)]
)
def test_a_broken_episode_costs_itself_alone(tmp_path: Path, fault: str, check: str | None) -> None:
    runs = [name for name in "abcd" for _ in range(4)]
    columns = {"a": [float(row) for row in range(16)], "c": [[1.0, 2.0]] * 16, "t": [row / 4 for row in range(16)], "e": runs}
    columns["f"] = [0, 1, 2, 3] * 4
    mapping = "streams: {observation.state: {columns: [a]}, observation.images.x: {video: 'videos/{episode}.mp4', frame: f}}\nepisode: e\ntime: {column: t}"
    write(tmp_path, _spoilt(columns, fault), mapping, row_group_size=3)  # episodes go across batches
    for number, name in enumerate("abcd"):
        write_numbered_film(tmp_path / "videos" / f"{name}.mp4", numbered_frames(4, 0, number), 4.0)
    film = tmp_path / "videos" / "b.mp4"
    film.write_bytes(film.read_bytes()[: 600 if fault == "film" else 0] if fault.startswith("film") else film.read_bytes())
    events = read_all(READER, tmp_path)
    assert [event.key if isinstance(event, Rejected) else event.info.key for event in events if not isinstance(event, Noticed)] == ["a", "b", "c", "d"]
    assert not [event for event in events if isinstance(event, Noticed)]  # the film of the broken episode is named by its rows
    rejected = events[1]
    assert isinstance(rejected, Rejected)
    assert (check is None or rejected.problem.check == check, rejected.problem.severity) == (True, "error")
    assert rejected.problem.message.startswith("episode 'b': ")
    for event, first in zip((events[0], events[2], events[3]), (0.0, 8.0, 12.0), strict=True):
        assert event.streams["observation.state"].values.tolist() == [first + row for row in range(4)]  # type: ignore[union-attr]
        assert len(event.streams["observation.images.x"]) == 4  # type: ignore[union-attr]
    if fault != "film":
        return
    report = run(IngestJob((str(tmp_path),), str(tmp_path.parent / "store")), Runtime(local=True, workers=1))
    assert (report.landed, report.rejected) == (3, 1)


def _film_log(folder: Path, films: list[str | None], extra: str = "", **columns: Any) -> Path:
    rows = len(films)
    stream = "observation.images.front: {video: 'videos/{film}.mp4'}"
    mapping = f"time: {{column: t}}\nstreams: {{observation.state: {{columns: [a]}}, {stream}}}\n{extra}"
    write(folder, {"a": [float(row) for row in range(rows)], "t": [row / 4 for row in range(rows)], "film": films} | columns, mapping)
    for number, film in enumerate("xyz"):
        write_numbered_film(folder / "videos" / f"{film}.mp4", numbered_frames(5, 0, number), 4.0)
    return folder


def test_every_film_of_an_episode_is_kept_and_one_that_no_row_names_is_said(tmp_path: Path) -> None:
    _film_log(tmp_path, [*"xxxxx", None, *"yyyyy"])
    episode, notice = read_all(READER, tmp_path)
    assert isinstance(notice, Noticed)
    assert (notice.problem.check, notice.problem.severity) == ("video_without_episode", "warning")
    assert "1 film that no row of the log names: they land in no episode: videos/z.mp4" in notice.problem.message
    assert not isinstance(episode, Rejected | Noticed)
    assert checks(episode) == ["several_films", "null_rows"]
    assert "'videos/y.mp4' as observation.images.front.film_2" in episode.info.problems[0].message
    first, second = episode.streams["observation.images.front"], episode.streams["observation.images.front.film_2"]
    assert first.clocks["time"].tolist() == [row * 250_000_000 for row in range(5)]
    assert second.clocks["time"].tolist() == [row * 250_000_000 for row in range(6, 11)]
    assert (first.column.steps, second.column.steps) == (True, False)
    for stream, number in (("observation.images.front", 0), ("observation.images.front.film_2", 1)):
        assert [read_barcode(picture) for picture in decoded(tmp_path, episode, stream, [0, 4])] == [Barcode(0, 0, number), Barcode(4, 0, number)]
    assert trajectory(episode).columns["observation.state"].tolist() == [0, 1, 2, 3, 4]
    (tmp_path / "log.mapping.yaml").write_text((tmp_path / "log.mapping.yaml").read_text() + "episode: film\n")  # as is advised
    parts = [event for event in read_all(READER, tmp_path) if not isinstance(event, Rejected | Noticed)]
    assert [(part.info.key, len(part.streams["observation.images.front"]), checks(part)) for part in parts] == [("x", 5, []), ("y", 5, [])]


def test_films_that_another_log_may_name_are_worth_knowing_only(tmp_path: Path) -> None:
    _film_log(tmp_path, [*"xxxxx"])
    (tmp_path / "two.parquet").write_bytes((tmp_path / "log.parquet").read_bytes())
    (tmp_path / "two.mapping.yaml").write_bytes((tmp_path / "log.mapping.yaml").read_bytes())
    notices = [event.problem for event in read_all(READER, tmp_path) if isinstance(event, Noticed)]
    assert [(problem.check, problem.severity, "videos/y.mp4, videos/z.mp4" in problem.message) for problem in notices] == [
        ("video_without_episode", "info", True)
    ] * 2


def test_more_films_than_a_camera_has_cost_their_episode_alone(tmp_path: Path) -> None:
    _film_log(tmp_path, ["x"] * 5 + [f"none{row}" for row in range(101)], "episode: e", e=[1] * 5 + [2] * 101)
    events = [event for event in read_all(READER, tmp_path) if not isinstance(event, Noticed)]
    assert [event.problem.check if isinstance(event, Rejected) else event.info.key for event in events] == ["1", "several_films"]
