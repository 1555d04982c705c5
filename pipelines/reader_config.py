"""What a user may choose about single formats: the `readers` part of an ingest configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dataengine.core.config import Config
from dataengine.core.episode import Origin
from dataengine.sources.parquet_log.mapping import LogMapping


class GapRule(Config):
    """A new episode begins after a pause."""

    by: Literal["gap"]
    seconds: float = Field(gt=0, lt=1e9)


class DurationRule(Config):
    """A new episode begins after a fixed time."""

    by: Literal["duration"]
    seconds: float = Field(gt=0, lt=1e9)


class TopicRule(Config):
    """A new episode begins with each message of a marker topic."""

    by: Literal["topic"]
    topic: str = Field(min_length=1)


class McapConfig(Config):
    """How MCAP files are read.

    `episodes` cuts a file into several; `streams` maps stream names to "topic:field" (of a picture topic: the topic alone); `clock` is the
    header stamp where all messages of a topic have one, or always the log time; `recover_truncated` lands what is whole in a file that was cut off.
    """

    episodes: Annotated[GapRule | DurationRule | TopicRule, Field(discriminator="by")] | None = None
    streams: dict[str, str] = Field(default_factory=dict)
    clock: Literal["stamp", "log"] = "stamp"
    recover_truncated: bool = False


class Rosbag1Config(McapConfig):
    """How ROS 1 bags are read: as MCAP files; `recover_truncated` also lands what is whole of a bag that was never closed."""


class Rosbag2Config(McapConfig):
    """How ROS 2 bags are read: as MCAP files."""


class RldsConfig(Config):
    """How RLDS datasets are read: bounds on the bytes of one record, and on what its compressed parts may grow to."""

    max_record_bytes: int | None = Field(default=None, gt=0)
    max_decoded_bytes: int | None = Field(default=None, gt=0)


class LengthCut(Config):
    """A video is cut into episodes of a length; the last is as long as what is left."""

    by: Literal["length"]
    seconds: float = Field(gt=0, lt=1e9)


class SceneCut(Config):
    """A video is cut where the whole picture changes at once: `threshold` times more than around it, no sooner than `shortest_s` after the last cut."""

    by: Literal["scene"]
    threshold: float | None = Field(default=None, gt=0)
    shortest_s: float = Field(default=0.5, gt=0, lt=1e9)


class AnnotationCut(Config):
    """A video is cut into what its annotations name; frames outside of them are episodes too, or are left out."""

    by: Literal["annotation"]
    rest: Literal["keep", "drop"] = "keep"


class CutConfig(Config):
    """How recordings that are long videos are read: `episodes` cuts them; None leaves each whole, with its annotations as timed texts."""

    episodes: Annotated[LengthCut | SceneCut | AnnotationCut, Field(discriminator="by")] | None = None


class VideoConfig(CutConfig):
    """How video is read: `origin` says who acts in it, `time_unit` what unit times in side-cars have whose headers name none."""

    origin: Origin | None = None
    time_unit: Literal["ns", "us", "ms", "s"] | None = None


class ReplayBufferConfig(Config):
    """How replay buffers are read: `frames` that came losslessly packed stay exact, or are encoded as video as other raw frames are."""

    frames: Literal["exact", "video"] = "exact"


class NothingYet(Config):
    """A format that has nothing to choose yet."""


class ParquetLogConfig(Config):
    """How Parquet logs are read: the mapping of those that have none beside them; see `dataengine.sources.parquet_log.mapping`."""

    mapping: LogMapping | None = None


class ReadersConfig(Config):
    """Options of single readers, by format."""

    rlds: RldsConfig = Field(default_factory=RldsConfig)
    lerobot: NothingYet = Field(default_factory=NothingYet)
    droid: NothingYet = Field(default_factory=NothingYet)
    json_mp4: NothingYet = Field(default_factory=NothingYet)
    npz_mp4: NothingYet = Field(default_factory=NothingYet)
    bridge_raw: NothingYet = Field(default_factory=NothingYet)
    replay_buffer: ReplayBufferConfig = Field(default_factory=ReplayBufferConfig)
    umi_session: NothingYet = Field(default_factory=NothingYet)
    ego4d: CutConfig = Field(default_factory=CutConfig)
    epic_kitchens: CutConfig = Field(default_factory=CutConfig)
    egodex: CutConfig = Field(default_factory=CutConfig)
    egocentric_tar: CutConfig = Field(default_factory=CutConfig)
    rosbag2: Rosbag2Config = Field(default_factory=Rosbag2Config)
    hdf5: NothingYet = Field(default_factory=NothingYet)
    mcap: McapConfig = Field(default_factory=McapConfig)
    rosbag1: Rosbag1Config = Field(default_factory=Rosbag1Config)
    gpmf: NothingYet = Field(default_factory=NothingYet)
    parquet_log: ParquetLogConfig = Field(default_factory=ParquetLogConfig)
    video: VideoConfig = Field(default_factory=VideoConfig)

    def of(self, reader: str) -> dict[str, Any]:
        """Return what was chosen for a reader, without what is as it would be anyway."""
        chosen: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True).get(reader, {})
        return chosen
