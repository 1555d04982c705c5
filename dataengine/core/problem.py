"""A named thing that is wrong, with where it is and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dataengine.core.errors import printable

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Problem:
    """One finding of a check; `check` is the slug named for the fault it finds (`frozen_frames`, `time_gaps`)."""

    check: str
    message: str
    where: str = ""
    severity: Severity = "warning"
    expected: str = ""
    found: str = ""
    advice: str = ""
    episode_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("message", "where", "expected", "found", "advice"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dict for JSON."""
        return asdict(self)
