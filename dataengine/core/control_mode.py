"""How a body is commanded, in a few words: what tells actions that can be mixed from those that cannot."""

from __future__ import annotations

from collections.abc import Mapping

from dataengine.core.column import Column


def control_mode(columns: Mapping[str, Column]) -> str | None:
    """Return kind, whether absolute, and frame of the action columns, such as "ee_delta, relative, in base"; None where no column says any of it.

    Where several action columns say something each is named, in order of name: "action: joint_position, absolute; action.hand: ...".
    """
    actions = [column for _, column in sorted(columns.items()) if column.meaning == "action" and column.kind == "numeric"]
    words = [(column.name, said) for column in actions if (said := _words(column))]
    if not words:
        return None
    return words[0][1] if len(words) == 1 else "; ".join(f"{name}: {said}" for name, said in words)


def _words(column: Column) -> str:
    space = column.action_space
    if space is None:
        return ""
    frame = space.frame or column.frame
    absolute = {True: ", absolute", False: ", relative", None: ""}[space.absolute]
    return f"{space.kind}{absolute}" + (f", in {frame}" if frame else "")
