"""What every job says of itself when it is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class JobReport:
    """What a job did; found = landed + skipped + rejected, in episodes. `ignored` are what it took for none of its own."""

    found: int = 0
    landed: int = 0
    skipped: int = 0
    rejected: int = 0
    ignored: int = 0
    steps: int = 0
    bytes: int = 0
    version: int | None = None
    rejects: list[dict[str, Any]] = field(default_factory=list)
    ignored_files: list[str] = field(default_factory=list)
    units: int = 0
    seconds: float = 0.0
    job: str = ""
    store: str = ""

    @property
    def exit_code(self) -> int:
        """Return 0 where everything landed or was there, 3 where something was rejected."""
        return 3 if self.rejected else 0
