"""A row of the catalog or of a shard's index, by column: what the parts of a store hand to each other, without the table library behind it."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
