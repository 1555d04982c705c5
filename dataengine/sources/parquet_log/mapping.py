"""What the columns of a log mean: the side-car that a user writes beside a Parquet file, or puts into the configuration of the job.

    # arm.mapping.yaml beside arm.parquet; or below the key `parquet_log` of dataengine.yaml in its folder or one above
    episode: run                      # column; without it the file is one episode
    time: {column: stamp, unit: s, epoch: true}
    clocks: {log: {column: log_ns, unit: ns}}
    task: instruction
    success: done
    streams:
      observation.state: {columns: [q0, q1, q2], unit: rad, meaning: state}
      action: {columns: [target], meaning: action, action_space: {kind: joint_position, absolute: true}}
      observation.images.front: {image: front_jpeg, camera: primary}
      observation.images.wrist: {video: "videos/{episode}_wrist.mp4", frame: frame_number, camera: wrist}
    follow: action

Every key is checked; columns that no stream names become streams of their own, unless `rest: leave`.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from dataengine.core.column import ActionSource, CameraRole, Meaning
from dataengine.core.config import Config, parse_config, parse_yaml
from dataengine.core.episode import Origin
from dataengine.core.errors import ConfigError
from dataengine.schema.descriptions import ActionTerms
from dataengine.sources.named_files import is_inside

SIDE_CAR_ENDS = (".mapping.yaml", ".mapping.yml", ".mapping.json")
FOLDER_FILE = "dataengine.yaml"
FOLDER_KEY = "parquet_log"
HOW_TO = "write the mapping into <name>.mapping.yaml beside the file: streams: {observation.state: {columns: [a, b]}}, time: {column: t, unit: s}"

Unit = Literal["s", "ms", "us", "ns"]
NS_IN: dict[str, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
PLACES = re.compile(r"\{([^{}]*)\}")


class TimeMapping(Config):
    """A column of times: its unit, and whether it counts from 1970. A column of Arrow's type timestamp brings its own unit."""

    column: str = Field(min_length=1)
    unit: Unit = "s"
    epoch: bool = False


class StreamMapping(Config):
    """One stream: exactly one of `columns`, `image`, `video`, `text`.

    `columns`: numbers; one column of numbers or lists, or several of numbers that together are a vector. `image`: a column of JPEG or PNG bytes.
    `video`: a path from the log's folder with {episode} and {stem} in it, or `{column}` for the path that stands in a column of that name; `frame` names the
    column of the frame that a row shows, else frame k belongs to row k, or with `offset_s` frames have the container's times plus so much. Rows of one episode
    that name several films have the first as this stream and each further one as `<stream>.film_2` and so on: name that column as `episode` to part them.
    `text`: a column of texts.
    """

    columns: tuple[str, ...] = ()
    image: str | None = None
    video: str | None = None
    frame: str | None = None
    offset_s: float | None = Field(default=None, ge=-1e9, le=1e9)
    text: str | None = None
    meaning: Meaning = "other"
    unit: str | None = None
    dims: tuple[str, ...] | None = None
    reference_frame: str | None = None
    action_space: ActionTerms | None = None
    action_source: ActionSource | None = None
    camera: CameraRole | None = None
    align: Literal["nearest", "previous", "linear", "slerp"] | None = None
    doc: str = ""

    @model_validator(mode="after")
    def _is_one_thing(self) -> StreamMapping:
        kinds = [name for name in ("columns", "image", "video", "text") if getattr(self, name)]
        if len(kinds) != 1:
            raise ValueError(f"must have exactly one of columns, image, video, text, got {', '.join(kinds) or 'none'}")
        if self.video is None and (self.frame is not None or self.offset_s is not None):
            raise ValueError("frame and offset_s belong to video")
        if self.video is not None and not is_inside(self.video):
            raise ValueError("video must be a path below the log's folder")
        return self

    def sources(self) -> tuple[str, ...]:
        """Return the columns that the stream is made of."""
        named = [self.image, self.text, self.frame, *PLACES.findall(self.video or "")]
        return (*self.columns, *(name for name in named if name and name not in ("episode", "stem")))


class LogMapping(Config):
    """What a log holds; see the module."""

    episode: str | None = None
    time: TimeMapping | None = None
    clocks: dict[str, TimeMapping] = Field(default_factory=dict)
    rate_hz: float | None = Field(default=None, gt=0, lt=1e6)
    task: str | None = None
    success: str | None = None
    streams: dict[str, StreamMapping] = Field(min_length=1, max_length=2000)
    rest: Literal["keep", "leave"] = "keep"
    follow: str | None = None
    embodiment: str | None = None
    origin: Origin = "teleop"
    licence: str | None = None

    @model_validator(mode="after")
    def _follows_a_stream(self) -> LogMapping:
        if self.follow is not None and self.follow not in self.streams:
            raise ValueError(f"follow: must be one of the streams {', '.join(self.streams)}, got {self.follow!r}")
        if "time" in self.clocks:
            raise ValueError("clocks: the name 'time' is that of the main clock")
        return self

    def sources(self) -> dict[str, str]:
        """Return every column that is named, with the key that names it."""
        named: dict[str, str] = {}
        for key, column in (("episode", self.episode), ("task", self.task), ("success", self.success), ("time", self.time and self.time.column)):
            if column:
                named.setdefault(column, key)
        for name, clock in self.clocks.items():
            named.setdefault(clock.column, f"clocks.{name}")
        for name, stream in self.streams.items():
            for column in stream.sources():
                named.setdefault(column, f"streams.{name}")
        return named


class FolderFile(Config):
    """What dataengine.yaml in a folder of recordings may say."""

    parquet_log: LogMapping


def parse_mapping(text: str, where: str) -> LogMapping:
    """Return the mapping of a side-car; raise ConfigError that names the file, the key, and the nearest known key."""
    if where.rsplit("/", 1)[-1] == FOLDER_FILE:
        return parse_config(FolderFile, parse_yaml(text, where), where).parquet_log
    return parse_config(LogMapping, parse_yaml(text, where), where)


def require_columns(mapping: LogMapping, columns: list[str], where: str) -> None:
    """Raise ConfigError where the mapping names a column that the table lacks."""
    from difflib import get_close_matches

    for column, key in mapping.sources().items():
        if column not in columns:
            close = get_close_matches(column, columns, n=1)
            hint = f", did you mean {close[0]!r}?" if close else f"; columns: {', '.join(columns[:40])}"
            raise ConfigError(f"{where}: {key}: no column {column!r}{hint}")
