"""How streams are put on one clock: what a user may choose."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class ActionLagConfig(Config):
    """What is done to see whether actions stand beside the pictures that they belong to; see `dataengine.align.lag_profile`.

    `estimate`: from pictures that are looked at anyway (raw ones, and those whose clock is compared), and those of one episode in sixty-four (`sampled`), of all
    episodes (`always`), or not at all (`never`). `expected`: the first and last lag in steps that a sound recording of this source has; None: none after the
    motion, and before it a quarter of a second at most. It is reported, and changes nothing.
    """

    estimate: Literal["sampled", "always", "never"] = "sampled"
    expected: Annotated[list[Annotated[int, Field(ge=-5, le=5)]], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> ActionLagConfig:
        if self.expected is not None and self.expected[0] > self.expected[1]:
            raise ValueError(f"expected: must be the first and the last lag, got {self.expected}")
        return self


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
    action_lag: ActionLagConfig = Field(default_factory=ActionLagConfig)
