"""Roles: names for columns that differ from dataset to dataset, such as "camera:primary", "state" and "action"."""

from __future__ import annotations

from collections.abc import Mapping

from dataengine.core.column import CAMERA_KINDS, Column

CAMERA = "camera:"
ROLES: dict[str, str] = {"state": "observation.state", "action": "action"}  # role → the column that is taken where there is one of that name


def columns_of(name: str, columns: Mapping[str, Column]) -> tuple[str, ...]:
    """Return the columns that a name or role stands for among those of an episode, () where there is none.

    Several columns of a role are meant one after the other.
    """
    if name in columns:
        return (name,)
    if name.startswith(CAMERA):
        role = name.removeprefix(CAMERA)
        cameras = [each for each in columns.values() if each.kind in CAMERA_KINDS and each.camera is not None and each.camera.role == role and each.steps]
        pictures = sorted((each.kind != "image", each.name) for each in cameras)
        return (pictures[0][1],) if pictures else ()
    if name in ROLES:
        if ROLES[name] in columns:
            return (ROLES[name],)
        return tuple(sorted(each.name for each in columns.values() if each.kind == "numeric" and each.steps and each.meaning == name))
    return ()
