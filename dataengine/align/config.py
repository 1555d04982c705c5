"""How streams are put on one clock: what a user may choose."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dataengine.core.config import Config

Method = Literal["nearest", "previous", "linear", "slerp", "commanded"]


class ClockOffsetConfig(Config):
    """What is done about cameras whose clock is off the clock of the body's motion; see `dataengine.align.offset`.

    `estimate`: compare cameras with motion that has times of its own (`own_clocks`), also with motion on the very times of the camera (`always`), or not at
    all (`never`); estimates are reported, and change nothing. `apply`: offsets in ms by camera as they are reported, or `estimated` for whatever was
    estimated of the episode: steps are then made with the camera's times minus its offset. The native streams keep the times that were recorded.
    """

    estimate: Literal["own_clocks", "always", "never"] = "own_clocks"
    apply: Literal["estimated"] | dict[str, Annotated[float, Field(ge=-10_000, le=10_000, allow_inf_nan=False)]] = Field(default_factory=dict)


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
    clock_offset: ClockOffsetConfig = Field(default_factory=ClockOffsetConfig)
