"""The configuration of an ingest job: what a YAML file given with `--config` may hold."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dataengine.align.config import ActionLagConfig, AlignConfig
from dataengine.core.config import Config
from dataengine.privacy.config import PrivacyConfig
from dataengine.privacy.policy import affecting
from pipelines.reader_config import ReadersConfig


class EncodingConfig(Config):
    """How raw frames are encoded as video, and what happens where the encoding loses something that matters.

    `on_loss`: encode again with a higher quality, and reject the recording where even the highest loses something (`raise_quality`); keep the frames exact
    (`lossless`); reject the recording at once (`reject`).
    """

    crf: int = Field(default=20, ge=1, le=51)
    gop: int = Field(default=5, ge=1, le=600)
    on_loss: Literal["raise_quality", "lossless", "reject"] = "raise_quality"


class UnitConfig(Config):
    """How recordings are grouped into units of work, and when a unit's shard is full."""

    bytes: int = Field(default=256 << 20, ge=1)
    recordings: int = Field(default=200, ge=1)


class CommitConfig(Config):
    """How often a job commits while it runs."""

    every_s: float = Field(default=60.0, ge=0.0)
    bytes: int = Field(default=2 << 30, ge=1)


class LimitsConfig(Config):
    """What reading may cost a process: resident memory, and seconds for one recording; what needs more is stopped and rejected."""

    memory_bytes: int = Field(default=4 << 30, ge=64 << 20)
    seconds: float = Field(default=3600.0, gt=0)


class IngestConfig(Config):
    """Everything a user may choose about an ingest job.

    `rate_hz` is the control rate of recordings that do not state theirs. `lossless` keeps raw frames exact. `readers` holds options of single readers
    by format, `align` how streams are put on one clock, `privacy` what is blurred and scrubbed before it reaches the store. `embodiment`, `licence` and `consent` are written to episodes that do not say.
    """

    rate_hz: float | None = Field(default=None, gt=0)
    lossless: bool = False
    embodiment: str | None = None
    licence: str | None = None
    consent: str | None = None
    align: AlignConfig = Field(default_factory=AlignConfig)
    encoding: EncodingConfig = Field(default_factory=EncodingConfig)
    readers: ReadersConfig = Field(default_factory=ReadersConfig)
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig)
    units: UnitConfig = Field(default_factory=UnitConfig)
    commits: CommitConfig = Field(default_factory=CommitConfig)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)

    def affecting(self, reader: str) -> dict[str, Any]:
        """Return what of the configuration changes a reader's output: part of the digest of the reading."""
        content = self.model_dump(mode="json", include={"rate_hz", "lossless", "align", "encoding", "embodiment", "licence", "consent"})
        if self.align.action_lag == ActionLagConfig():
            del content["align"]["action_lag"]  # as before there was any: what was read stays known
        privacy = affecting(self.privacy)
        return content | {"reader": self.readers.of(reader)} | ({"privacy": privacy} if privacy else {})
