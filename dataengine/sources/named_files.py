"""Paths that a recording names: taken only where they stay below the folder they count from."""

from __future__ import annotations

from posixpath import normpath


def is_inside(path: str) -> bool:
    """Return whether a relative path stays below the folder it counts from, by its name; links are the opener's concern."""
    return bool(path) and "\0" not in path and "\\" not in path and not path.startswith("/") and normpath(path).split("/")[0] not in ("..", ".")


def below(folder: str, path: str) -> str:
    """Return a path that `is_inside` as one from the source's root."""
    return normpath(f"{folder}/{path}".lstrip("/"))
