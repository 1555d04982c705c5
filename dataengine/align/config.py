"""How streams are put on one clock: what a user may choose."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dataengine.core.config import Config

Method = Literal["nearest", "previous", "linear", "slerp", "commanded"]


class AlignConfig(Config):
    """Choices of one alignment; everything here changes the steps that come out, nothing here changes the native streams.

    `follow` names the stream whose times become the steps. `rate_hz` puts a regular clock over the time that the control stream
    spans instead; both may be given. Without either the rule of `dataengine.align.control` chooses.

    A sample may be used for a step when it is at most the staleness bound away from it. The bound of a stream is its entry in
    `staleness_ns_by_stream`, else `staleness_ns`, else `staleness_periods` times the stream's own median period: three periods
    bridge two lost samples, and no more. `methods` overrides how a column is taken, see `dataengine.align.methods`.
    """

    follow: str | None = None
    rate_hz: float | None = Field(default=None, ge=0.001, le=1_000_000, allow_inf_nan=False)
    staleness_ns: int | None = Field(default=None, ge=0, lt=2**62)
    staleness_ns_by_stream: dict[str, int] = Field(default_factory=dict)
    staleness_periods: float = Field(default=3.0, gt=0, le=1_000_000, allow_inf_nan=False)
    methods: dict[str, Method] = Field(default_factory=dict)
