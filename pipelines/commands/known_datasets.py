"""`dataengine sources --datasets`: the datasets that are known as data, printed."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Any

from dataengine.schema.descriptions import DatasetDescription, descriptions
from pipelines.commands.printing import count, print_json, table

NAME_WIDTH = 62  # of the longest name in Open X-Embodiment
NARROW_NAME, NARROW_ACTION = 37, 15  # so that a table fits a terminal of 100 columns


def known_datasets(as_json: bool) -> None:
    """List the known datasets; as JSON with every fact and where it is published."""
    known = list(descriptions().values())
    if as_json:
        print_json([as_record(described) for described in known])
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 160
    wide = columns >= 150
    rows = [
        [
            _name(described, NAME_WIDTH if wide else NARROW_NAME),
            f"{described.rate_hz:g}" if described.rate_hz is not None else None,
            described.embodiment,
            described.licence,
            textwrap.fill(action_in_words(described), 60 if wide else NARROW_ACTION),
            len(described.defects) or None,
        ]
        for described in known
    ]
    table(["dataset", "Hz", "body", "licence", "action", "defects"], rows, right=["Hz", "defects"])
    cited = sum(len(described.citations()) for described in known)
    print(
        f"{count(len(known), 'dataset')}, {count(cited, 'fact')}; what is not published is left empty; --json says where each fact is published, and the defects"
    )


def as_record(described: DatasetDescription) -> dict[str, Any]:
    """Return everything that is known of a dataset, with the source of each fact by its address."""
    return described.model_dump(mode="json") | {"citations": described.citations()}


def action_in_words(described: DatasetDescription) -> str:
    """Return what the action is, in a few words: kinds, kind of rotation, gripper."""
    spaces = [space for name in described.actions if (space := described.columns[name].action_space) is not None]
    kinds = [space.kind for space in spaces if space.kind != "other"]
    rotations = [space.rotation for space in spaces if space.rotation is not None]
    gripper = ["gripper"] if any(space.gripper is not None for space in spaces) else []
    return ", ".join(dict.fromkeys([*kinds, *rotations, *gripper])) or ("not known" if described.actions else "none")


def _name(described: DatasetDescription, width: int) -> str:
    """Return the name, broken at an underscore where it is too long, and the title below it."""
    lines: list[str] = []
    line = ""
    for part in described.name.replace("_", "_\0").split("\0"):
        if line and len(line) + len(part) > width:
            lines.append(line)
            line = "  "
        line += part
    return "\n".join([*lines, line, *(f"  {text}" for text in textwrap.wrap(described.title, width - 2))])
