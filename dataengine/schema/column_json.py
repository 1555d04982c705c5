"""Columns as JSON, and the document that names a dataset's features by their content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from dataengine.core.column import ActionSpace, Camera, Column, Gripper
from dataengine.core.digest import digest_json
from dataengine.core.errors import CorruptStore
from dataengine.schema.schema import validate

# Written for every column, whatever their value: a reader of the JSON needs no defaults for what matters most.
_ALWAYS = ("name", "kind", "dtype", "shape", "meaning", "steps")


def _plain(value: ActionSpace | Gripper) -> dict[str, Any]:
    """Return the fields that are not null."""
    return {field.name: getattr(value, field.name) for field in fields(value) if getattr(value, field.name) is not None}


def _action_space_to_json(space: ActionSpace) -> dict[str, Any]:
    content = _plain(space)
    if space.gripper is not None:
        content["gripper"] = _plain(space.gripper)
    return content


def _camera_to_json(camera: Camera) -> dict[str, Any]:
    content: dict[str, Any] = {"role": camera.role}
    if camera.intrinsics_px is not None:
        content["intrinsics_px"] = list(camera.intrinsics_px)
    if camera.distortion is not None:
        content["distortion"] = {"model": camera.distortion[0], "coefficients": list(camera.distortion[1])}
    if camera.base_from_camera is not None:
        content["base_from_camera"] = list(camera.base_from_camera)
    if camera.pose_stream is not None:
        content["pose_stream"] = camera.pose_stream
    return content


def column_to_json(column: Column) -> dict[str, Any]:
    """Return a column as `column.schema.json` wants it; a field that is null or empty is left out, so that new fields change no digest.

    Raises:
        ValueError: `extra` holds what JSON cannot keep (NaN, tuples, keys that are no text).
    """
    content: dict[str, Any] = {}
    for field in fields(column):
        value = getattr(column, field.name)
        if field.name in _ALWAYS or (value is not None and value != "" and value != {}):
            content[field.name] = list(value) if isinstance(value, tuple) else value
    if column.action_space is not None:
        content["action_space"] = _action_space_to_json(column.action_space)
    if column.camera is not None:
        content["camera"] = _camera_to_json(column.camera)
    if json.loads(json.dumps(content, allow_nan=False)) != content:
        raise ValueError(f"column {column.name!r}: extra must hold what JSON keeps (text, numbers, true, false, null, lists, and mappings with text as keys)")
    return content


def column_from_json(content: Any, where: str = "column") -> Column:
    """Return the column that was written by `column_to_json`; raise CorruptStore where the JSON is not valid."""
    problems = validate("column", content)
    if problems:
        raise CorruptStore(f"{where}: expected a column as in schemas/v1/column.schema.json, found {'; '.join(problems[:3])}; restore the document from a copy")
    return _column(content, where)


def _column(content: Mapping[str, Any], where: str) -> Column:
    values = {**content, "shape": tuple(content["shape"])}
    if "dims" in content:
        values["dims"] = tuple(content["dims"])
    if "action_space" in content:
        space = dict(content["action_space"])
        if "gripper" in space:
            space["gripper"] = Gripper(**space["gripper"])
        values["action_space"] = ActionSpace(**space)
    if "camera" in content:
        camera = dict(content["camera"])
        for name in ("intrinsics_px", "base_from_camera"):
            if name in camera:
                camera[name] = tuple(camera[name])
        if "distortion" in camera:
            camera["distortion"] = (camera["distortion"]["model"], tuple(camera["distortion"]["coefficients"]))
        values["camera"] = Camera(**camera)
    try:
        return Column(**values)
    except ValueError as error:
        raise CorruptStore(f"{where}: {error}; restore the document from a copy") from None


def features_document(
    dataset: str, columns: Iterable[Column], description: str | None, embodiment: str | None, lossless: bool, privacy: Mapping[str, bool] | None = None
) -> dict[str, Any]:
    """Return the content of datasets/<name>/<digest>.json: columns in order of name; `privacy` stands in it only where something was protected."""
    ordered = sorted(columns, key=lambda column: column.name)
    content = [column_to_json(column) for column in ordered]
    document = {"dataset": dataset, "columns": content, "description": description, "embodiment": embodiment, "lossless": lossless}
    return document if privacy is None else document | {"privacy": dict(privacy)}


def features_digest(document: Mapping[str, Any]) -> str:
    """Return the digest that names a features document: of its canonical JSON (keys sorted, no spaces)."""
    return digest_json(dict(document))


def features_columns(document: Any, where: str = "features") -> dict[str, Column]:
    """Return the columns of a features document by name; raise CorruptStore where it is not valid."""
    problems = validate("features", document)
    if problems:
        raise CorruptStore(
            f"{where}: expected features as in schemas/v1/features.schema.json, found {'; '.join(problems[:3])}; restore the document from a copy"
        )
    columns = {content["name"]: _column(content, where) for content in document["columns"]}
    if len(columns) != len(document["columns"]):
        raise CorruptStore(
            f"{where}: expected each column once, found {len(document['columns'])} columns of {len(columns)} names; restore the document from a copy"
        )
    return columns
