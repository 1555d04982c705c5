"""What a user may choose about privacy: whether faces are blurred and facts scrubbed, how, and by which rules."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from dataengine.core.config import Config

Action = Literal["remove", "pseudonym", "mask"]


def _require_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return patterns


class FacesConfig(Config):
    """How faces are found and blurred.

    `detector` is "lbp" (the frontal-face cascade inside scikit-image), the path of a cascade file of the same kind on this machine, or "module:function" of code
    that is installed here: the function is called with `parameters` and returns an object with `detect(frame)`. `longest_px`: larger pictures are made smaller before the search.
    `smallest_px`: side of the smallest face that is looked for, in the picture that is searched. `sure`: a find with this score counts by itself (of "lbp" the score is the number of neighbouring windows that show the face; a find without a score is sure);
    one with at least `unsure` counts where it continues a sure one. `every`: each so many frames are searched. `gap`: two finds of one face so
    many frames apart are joined. `pad`: a find is blurred so many frames before and after. `margin`: what a box grows on each side, in parts of it. `cells`: a
    blurred box is so many flat squares wide. `quality`: of JPEG pictures that are encoded again. `keep_streams`: names (regular
    expressions) of streams that are left as they are.
    """

    detector: str = "lbp"
    parameters: dict[str, int | float | str | bool] = Field(default_factory=dict)
    longest_px: int = Field(default=480, ge=64, le=8192)
    smallest_px: int = Field(default=24, ge=24, le=1024)
    scale_step: float = Field(default=1.1, gt=1.01, le=2.0)
    window_step: float = Field(default=1.5, ge=1.0, le=4.0)
    sure: float = Field(default=5.0, ge=0.0)
    unsure: float = Field(default=2.0, ge=0.0)
    every: int = Field(default=2, ge=1, le=30)
    gap: int = Field(default=16, ge=0, le=120)
    pad: int = Field(default=4, ge=0, le=60)
    margin: float = Field(default=0.6, ge=0.0, le=3.0)
    cells: int = Field(default=4, ge=1, le=6)
    quality: int = Field(default=95, ge=50, le=100)
    keep_streams: tuple[str, ...] = ()

    _patterns = field_validator("keep_streams")(_require_patterns)


class ScrubRule(Config):
    """One rule: what is personal, where it stands, and what becomes of it.

    `keys` are regular expressions that a whole key of metadata (in lower_snake_case) must match: its value is what the rule is about, also where the value stands
    elsewhere in the recording. `streams` must match a word of a stream's name, of its dimensions or of a message's field. `schemas` must match a message type. `texts` are searched in every text;
    where one has a group, only the group is masked. `words` are plain texts that are looked for everywhere. `action`: the value is removed, replaced by
    a pseudonym that is the same wherever it stands, or masked. `label` begins the pseudonyms.
    """

    name: str = Field(pattern=r"[a-z][a-z0-9_]*")
    keys: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    action: Action = "mask"
    label: str = Field(default="private", pattern=r"[a-z][a-z0-9_]*")

    _patterns = field_validator("keys", "streams", "schemas", "texts")(_require_patterns)


class RulesConfig(Config):
    """Which rules scrub: the built-in ones without those named in `without`, and the user's own.

    `salt`: with one, pseudonyms are keyed digests, the same in all recordings; without, numbers that count from 1 in each recording. `words` are names and
    other texts that are masked wherever they stand. `keep_keys` are keys (regular expressions) that no rule touches. `keep_streams` are names (regular expressions)
    of streams whose messages are kept as they are although no schema says what their bytes mean; others of that kind are withheld, for nobody can tell what is in them.
    """

    without: tuple[str, ...] = ()
    add: tuple[ScrubRule, ...] = ()
    salt: str | None = Field(default=None, min_length=8)
    words: tuple[str, ...] = ()
    keep_keys: tuple[str, ...] = ()
    keep_streams: tuple[str, ...] = ()

    _patterns = field_validator("keep_keys", "keep_streams")(_require_patterns)


class PrivacyConfig(Config):
    """Privacy of an ingest job; off by default.

    `weaken` allows a job to bring recordings as they are into a dataset whose others were protected; without it such a job is refused.
    """

    blur_faces: bool = False
    scrub: bool = False
    weaken: bool = False
    faces: FacesConfig = Field(default_factory=FacesConfig)
    rules: RulesConfig = Field(default_factory=RulesConfig)

    @property
    def on(self) -> bool:
        """Whether anything is protected."""
        return self.blur_faces or self.scrub

    def record(self) -> dict[str, bool]:
        """Return what a dataset's features say of it."""
        return {"blur_faces": self.blur_faces, "scrub": self.scrub}
