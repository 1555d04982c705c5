"""Keeps the tables in `schemas/README.md` the same as `schemas/v1/columns`: `python -m tests.support.format_tables` writes them."""

from __future__ import annotations

import re

from dataengine.schema.tables import Table, table
from tests.support.shared import REPOSITORY

_BETWEEN = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def markdown(described: Table) -> str:
    """Return a table of the format as Markdown, one line a column."""
    kinds = described.kinds
    head = ["column", "type", *(["kinds"] if kinds else ["null"]), "unit", "meaning"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for column in described.columns:
        if kinds:
            listed = ["all" if column.kinds == kinds else ", ".join(column.kinds)]
            required = [kind for kind in column.kinds if kind in column.required]
            note = listed[0] if tuple(required) == column.kinds else f"{listed[0]}; may be null" + (f" but in {', '.join(required)}" if required else "")
        else:
            note = "may be null" if column.nullable else "never"
        unit = "" if column.unit in (None, "1") else str(column.unit)
        if column.frame is not None and column.frame != column.unit:
            unit = f"{unit} ({column.frame})".strip()
        lines.append("| " + " | ".join((f"`{column.name}`", _cell(column.type), note, unit, _cell(column.doc))) + " |")
    return "\n".join(lines) + "\n"


def rendered_readme(text: str) -> str:
    """Return a document with each `<!-- table: name -->` … `<!-- end -->` filled in."""
    return _BETWEEN.sub(lambda match: match[1] + markdown(table(match[2])) + match[3], text)


if __name__ == "__main__":
    document = REPOSITORY / "schemas" / "README.md"
    document.write_text(rendered_readme(document.read_text()))
