"""Where each fact of a known dataset is published: every fact that is not null has a source, and no source stands idle.

`cite` maps the address of a fact to a source. An address is the name of a fact of the dataset (`rate_hz`), or one of

- `columns.<column>.<fact>`: one fact of one column (`columns.action.action_space.gripper`; `columns.action.action_space` holds all of its parts),
- `columns.*.<fact>`: this fact of every column (`columns.*.camera`),
- `columns.<column>`: every other fact of one column,
- `columns`: whatever the others leave; it also covers `actions`.

The first of these that names a fact is its source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

DATASET_FACTS = ("rate_hz", "embodiment", "origin", "licence", "actions")
# `also` and `align` are no facts of a dataset: names that sources give a column, and how the project aligns it.
COLUMN_FACTS = ("meaning", "unit", "dims", "frame", "action_source", "camera", "doc")
SPACE_FACTS = ("kind", "rotation", "frame", "absolute", "gripper", "rate_hz")


def _said(value: Any) -> bool:
    return value is not None and value != "" and value != ()


def column_facts(column: Any) -> Iterator[str]:
    """Yield the names of the facts that a column's description holds."""
    yield from (fact for fact in COLUMN_FACTS if _said(getattr(column, fact)))
    if column.action_space is not None:
        yield from (f"action_space.{fact}" for fact in SPACE_FACTS if _said(getattr(column.action_space, fact)))


def facts(description: Any) -> list[tuple[str | None, str]]:
    """Return the facts of a description that are not null, as (column, fact); the column of a fact of the dataset is None."""
    own: list[tuple[str | None, str]] = [(None, fact) for fact in DATASET_FACTS if _said(getattr(description, fact))]
    return own + [(name, fact) for name, column in description.columns.items() for fact in column_facts(column)]


def address(column: str | None, fact: str) -> str:
    """Return how a fact is written in `cite`."""
    return fact if column is None else f"columns.{column}.{fact}"


def candidates(column: str | None, fact: str) -> list[str]:
    """Return the addresses in `cite` that may hold the source of a fact, the most telling first."""
    if column is None:
        return [fact, "columns"] if fact == "actions" else [fact]
    parts = [fact] + ([fact.partition(".")[0]] if "." in fact else [])
    return [f"columns.{owner}.{part}" for owner in (column, "*") for part in parts] + [f"columns.{column}", "columns"]


def source_of(cite: Mapping[str, str], column: str | None, fact: str) -> tuple[str, str] | None:
    """Return the address in `cite` that covers a fact and the source there, None where nothing covers it."""
    return next(((place, cite[place]) for place in candidates(column, fact) if place in cite), None)


def citations(description: Any) -> dict[str, str]:
    """Return the source of every fact that is not null, by the fact's address."""
    found = {}
    for column, fact in facts(description):
        source = source_of(description.cite, column, fact)
        if source is not None:
            found[address(column, fact)] = source[1]
    return found


def faults(description: Any) -> list[str]:
    """Return what is wrong with the citations: facts without a source, and sources of nothing."""
    uncited, used = [], set()
    for column, fact in facts(description):
        source = source_of(description.cite, column, fact)
        if source is None:
            uncited.append(address(column, fact))
        else:
            used.add(source[0])
    idle = [place for place in description.cite if place not in used]
    empty = [place for place, source in description.cite.items() if not source.strip()]
    found = [f"cite: must say where {', '.join(uncited[:8])} is published, or the field must be null"] if uncited else []
    found += [f"cite: names {', '.join(idle)}, which holds no fact here"] if idle else []
    return found + ([f"cite: {', '.join(empty)} must not be empty"] if empty else [])
