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


class RldsConfig(Config):
    """How RLDS datasets are read: bounds on the bytes of one record, and on what its compressed parts may grow to."""

    max_record_bytes: int | None = Field(default=None, gt=0)
    max_decoded_bytes: int | None = Field(default=None, gt=0)


class VideoConfig(Config):
    """How video is read: `origin` says who acts in it."""

    origin: Origin | None = None


class Hdf5Config(Config):
    """How HDF5 files are read: nothing to choose yet."""


class ParquetLogConfig(Config):
    """How Parquet logs are read: the mapping of those that have none beside them; see `dataengine.sources.parquet_log.mapping`."""

    mapping: LogMapping | None = None


class ReadersConfig(Config):
    """Options of single readers, by format."""

    rlds: RldsConfig = Field(default_factory=RldsConfig)
    hdf5: Hdf5Config = Field(default_factory=Hdf5Config)
    mcap: McapConfig = Field(default_factory=McapConfig)
    video: VideoConfig = Field(default_factory=VideoConfig)
    parquet_log: ParquetLogConfig = Field(default_factory=ParquetLogConfig)

    def of(self, reader: str) -> dict[str, Any]:
        """Return what was chosen for a reader, without what is as it would be anyway."""
        chosen: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True).get(reader, {})
        return chosen
