"""Where a figure becomes a problem: every threshold of the plausibility checks, with its reason."""

from __future__ import annotations

from pydantic import Field

from dataengine.core.config import Config


class CheckLimits(Config):
    """Thresholds, chosen so that recordings that are in use today pass.

    A gap is longer than `gap_periods` median steps and than `gap_s`; a clock whose 90th percentile step exceeds `regular_periods` medians has no
    period to miss (events, not samples). `jitter_share` is the spread from the 10th to the 90th percentile over the median step.
    """

    gap_periods: float = Field(default=5.0, gt=1)
    gap_s: float = Field(default=0.1, ge=0)
    regular_periods: float = Field(default=2.0, gt=1)
    jitter_share: float = Field(default=0.5, gt=0)
    min_rows: int = Field(default=5, ge=1)  # fewer give no training window
    signal_rows: int = Field(default=20, ge=8)  # fewer say nothing about how a signal behaves
    idle_range: float = Field(default=1e-3, ge=0)  # rad or m: what an encoder reads while an arm rests
    jump_factor: float = Field(default=10.0, gt=1)
    jump_floor: float = Field(default=0.05, ge=0)  # rad or m: smaller ones are a joint that settles
    jump_range_share: float = Field(default=0.4, gt=0, le=1)
    saturated_share: float = Field(default=0.2, gt=0, le=1)
    chatter_changes: int = Field(default=6, ge=2)
    chatter_rows: float = Field(default=3.0, gt=0)  # no operator opens and closes a gripper again within three rows, six times
    frozen_frames: int = Field(default=15, ge=2)  # half a second at 30 Hz: sensor noise makes equal JPEGs improbable
    blank_bytes_per_px: float = Field(default=0.02, ge=0)  # a JPEG of one colour has 0.005 to 0.01 of them behind its header
