"""What the columns of a dataset mean: names of their dimensions, meaning, cameras, the parts that GR00T's modality.json gives names to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dataengine.core.column import ActionSpace, Camera, Column, Kind, Meaning
from dataengine.core.problem import Problem
from dataengine.sources.kept_video import depth_column, frame_column
from dataengine.sources.lerobot.cells import CellType
from dataengine.sources.lerobot.info import Feature, count_of
from dataengine.video.index import FrameIndex

# Columns that count rows: they stand in the native streams, and say nothing to train on.
BOOKKEEPING: dict[str, Meaning] = {"timestamp": "time", "frame_index": "other", "episode_index": "other", "index": "other"}
MAX_NAME_LETTERS = 200

_MEANINGS: dict[str, Meaning] = {
    "action": "action",
    "observation.state": "state",
    "next.reward": "reward",
    "reward": "reward",
    "next.done": "flag",
    "next.success": "flag",
    "next.truncated": "flag",
    "next.terminated": "flag",
    "done": "flag",
    "success": "flag",
    "timestamp": "time",
}


def stream_name(key: str, camera: bool) -> str:
    """Return the stream's name of a feature: its key; a camera's stands under `observation.images.`."""
    if not camera or key.startswith("observation.images."):
        return key
    return "observation.images." + key.removeprefix("observation.")


def meaning_of(key: str, numeric: bool) -> Meaning:
    """Return the meaning of a column by its key, as the format fixes it."""
    if key in _MEANINGS:
        return _MEANINGS[key]
    if key.startswith("action."):
        return "action"
    if key.startswith("observation.") and numeric:
        return "state"
    if key == "task" or key.startswith(("language", "annotation.")) or "instruction" in key:
        return "other" if numeric else "language"
    return "other"


def dims_of(names: Any, width: int) -> tuple[str, ...] | None:
    """Return the names of `width` dimensions, None where there are none that fit.

    Writers give a list, a list in a list, an object with one list (`motors`, `axes`), one with several lists (their keys are put before), or an object of
    name to place.
    """
    found: list[Any] | None = None
    if isinstance(names, list):
        while len(names) == 1 and isinstance(names[0], list):
            names = names[0]
        found = names
    elif isinstance(names, dict) and names:
        parts = list(names.values())
        if all(isinstance(part, list) for part in parts):
            found = parts[0] if len(parts) == 1 else [f"{key}.{name}" for key, part in names.items() for name in part]
        elif sorted(place for part in parts if (place := count_of(part)) is not None) == list(range(width)) and len(parts) == width:
            found = sorted(names, key=lambda name: int(names[name]))
    if found is None or len(found) != width or width == 0:
        return None
    texts = [str(name)[:MAX_NAME_LETTERS] for name in found if isinstance(name, (str, int))]
    return tuple(texts) if len(texts) == width and all(texts) else None


def unit_of(feature: Feature | None) -> str | None:
    """Return the unit that a feature states for all its dimensions; the format has no field for one, some writers add it."""
    for name in ("unit", "units"):
        stated = feature.declared.get(name) if feature is not None else None
        if isinstance(stated, str) and 0 < len(stated) <= 40:
            return stated
    return None


def declared(feature: Feature | None) -> dict[str, Any]:
    """Return what stands in a column's `extra` of its declaration."""
    return {} if feature is None else {"declared": {name: value for name, value in feature.declared.items() if value is not None}}


def number_column(name: str, key: str, feature: Feature | None, dtype: str, shape: tuple[int, ...], parts: Mapping[str, Any] | None = None) -> Column:
    """Return the column of numbers.

    Args:
        name: the stream's name.
        key: the feature's key.
        feature: what is declared of it, None where nothing is.
        dtype: that of the table.
        shape: that of a row in the table.
        parts: its named parts in modality.json.
    """
    extra: dict[str, Any] = {"source": key, **declared(feature), **({"parts": dict(parts)} if parts else {})}
    dims = dims_of(feature.names, shape[-1]) if feature is not None and len(shape) == 1 else None
    if dims is None and parts and len(shape) == 1:
        dims = _dims_of_parts(parts, shape[0])
    meaning = meaning_of(key, True)
    return Column(
        name=name,
        dtype=dtype,
        shape=shape,
        dims=dims,
        unit="s" if key == "timestamp" and dtype.startswith("float") else unit_of(feature),
        meaning=meaning,
        action_space=_action_space(parts) if meaning == "action" else None,
        action_source="commanded" if meaning == "action" else None,
        steps=key not in BOOKKEEPING,
        extra=extra,
    )


def _dims_of_parts(parts: Mapping[str, Any], width: int) -> tuple[str, ...] | None:
    names: list[str | None] = [None] * width
    for part, facts in parts.items():
        for place in range(facts["start"], min(facts["end"], width)):
            names[place] = f"{part}.{place - facts['start']}"
    return tuple(name or "" for name in names) if all(names) else None


def _action_space(parts: Mapping[str, Any] | None) -> ActionSpace | None:
    """Return what modality.json says of the whole action: absolute or not, where it says the same of each part."""
    said = {facts.get("absolute") for facts in (parts or {}).values()}
    if len(said) != 1 or not isinstance(absolute := next(iter(said)), bool):
        return None
    return ActionSpace("other", absolute=absolute)


def item_column(name: str, key: str, feature: Feature | None, cell: CellType, encoding: str) -> Column:
    """Return the column of texts, pictures, bytes or JSON in the table; `encoding` is that of its rows."""
    extra: dict[str, Any] = {"source": key, **declared(feature)}
    if cell.form == "text":
        return Column(name, "text", "string", meaning=meaning_of(key, False), encoding="utf-8", extra=extra)
    if cell.form == "picture":
        shape = feature.picture_shape if feature is not None else None
        kind: Kind = "depth" if feature is not None and feature.is_depth else "image"
        return Column(name, kind, "uint16" if kind == "depth" else "uint8", shape or (None, None, 3), encoding=encoding, camera=Camera(), extra=extra)
    meaning: Meaning = "language" if key.startswith("language_") else "other"
    return Column(name, "message", "bytes", meaning=meaning, encoding=encoding, steps=False, extra=extra)


DEPTH_FACTS = ("depth_min", "depth_max", "shift", "use_log", "depth_unit")


def camera_column(name: str, key: str, feature: Feature | None, index: FrameIndex, modality: str | None = None) -> Column:
    """Return the column of a camera whose video is kept; of a depth camera, `extra["depth"]` says what a grey value means (`video.depth`)."""
    column = frame_column(name, index)
    column = replace(column, extra={**column.extra, "source": key, **declared(feature), **({"modality": modality} if modality else {})})
    if feature is None or not feature.is_depth:
        return column
    facts = {short: feature.facts[full] for short in DEPTH_FACTS for full in (f"video.{short}", short) if full in feature.facts}
    return replace(depth_column(column), extra={**column.extra, "depth": facts})


class Modality:
    """What GR00T's modality.json says: named parts of columns, names of cameras and annotations."""

    def __init__(self, content: Any = None, where: str = "") -> None:
        """Take parsed JSON; what is wrong in it becomes a problem."""
        self.parts: dict[str, dict[str, Any]] = {}
        self.cameras: dict[str, str] = {}
        self.annotations: dict[str, str] = {}
        self.problems: list[Problem] = []
        if content is None:
            return
        if not isinstance(content, dict):
            self._note(where, "an object", type(content).__name__)
            return
        for section, default in (("state", "observation.state"), ("action", "action")):
            for name, facts in self._entries(content, section, where):
                start, end = count_of(facts.get("start")), count_of(facts.get("end"))
                if start is None or end is None or end <= start:
                    self._note(where, f"start and end of {section}.{name}", facts)
                    continue
                key = facts.get("original_key")
                known = {part: value for part, value in facts.items() if value is not None}
                self.parts.setdefault(key if isinstance(key, str) else default, {})[name] = {**known, "start": start, "end": end}
        for name, facts in self._entries(content, "video", where):
            key = facts.get("original_key")
            self.cameras[key if isinstance(key, str) else f"observation.images.{name}"] = name
        for name, facts in self._entries(content, "annotation", where):
            key = facts.get("original_key")
            self.annotations[key if isinstance(key, str) else f"annotation.{name}"] = name

    def _entries(self, content: Mapping[str, Any], section: str, where: str) -> list[tuple[str, Mapping[str, Any]]]:
        entries = content.get(section, {})
        if not isinstance(entries, dict):
            self._note(where, f"{section} as an object", type(entries).__name__)
            return []
        found: list[tuple[str, Mapping[str, Any]]] = []
        for name, facts in entries.items():
            if isinstance(facts, dict):
                found.append((name, facts))
            else:
                self._note(where, f"{section}.{name} as an object", facts)
        return found

    def _note(self, where: str, expected: str, found: Any) -> None:
        shown = repr(found)[:200]
        self.problems.append(Problem("bad_modality", f"{where}: expected {expected}, found {shown}", where, "warning", expected, shown))

    def range_problem(self, key: str, width: int, where: str) -> Problem | None:
        """Return a problem where a part of a column reaches beyond its `width` dimensions."""
        beyond = [name for name, facts in self.parts.get(key, {}).items() if facts["end"] > width]
        if not beyond:
            return None
        expected, found = f"the parts of {key!r} within its {width} dimensions", f"{', '.join(beyond)[:200]} beyond"
        return Problem("modality_range", f"{where}: expected {expected}, found {found}", where, "warning", expected, found)


__all__ = [
    "BOOKKEEPING",
    "Modality",
    "camera_column",
    "dims_of",
    "item_column",
    "meaning_of",
    "number_column",
    "stream_name",
]
