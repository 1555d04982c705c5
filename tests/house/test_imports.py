"""The floors of the house: who may import whom, lazily and for types too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.house import FLOORS, circles, house_sources, import_breaches


def test_every_room_imports_lower_floors_only(repository: Path) -> None:
    breaches = [breach for path, source in house_sources(repository).items() for breach in import_breaches(path, source)]
    assert not breaches, "\n".join(breaches)


def test_no_circle_inside_a_room(repository: Path) -> None:
    sources = house_sources(repository)
    rooms = {"/".join(path.split("/")[:2]) for path in sources}
    found = [circle for room in sorted(rooms) for circle in circles({path: text for path, text in sources.items() if path.startswith(f"{room}/")})]
    assert not found, "\n".join(found)


def test_every_folder_is_a_room(repository: Path) -> None:
    folders = {path.name for path in (repository / "dataengine").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= set(FLOORS)


@pytest.mark.parametrize(
    ("path", "source", "breach"),
    [
        (
            "dataengine/video/a.py",
            "from dataengine.align import b",
            "dataengine/video/a.py:1: imports dataengine.align: video and align are siblings on floor 2",
        ),
        (
            "dataengine/core/a.py",
            "def f():\n    import dataengine.store.catalog",
            "core/a.py:2: imports dataengine.store.catalog: core (floor 1) must not import store (floor 4)",
        ),
        (
            "dataengine/schema/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dataengine.sources import x",
            "a.py:3: imports dataengine.sources: schema (floor 2)",
        ),
        ("dataengine/store/a.py", "from pipelines import ingest", "nothing inside dataengine imports pipelines"),
        ("dataengine/__init__.py", "from pipelines import ingest", "nothing inside dataengine imports pipelines"),
        ("pipelines/ingest.py", "def f():\n    from ray import data", "pipelines/ingest.py:2: imports ray: only pipelines/runtime.py imports ray"),
        ("dataengine/store/a.py", "class A:\n    def f(self):\n        import ray.data", "a.py:3: imports ray.data: only pipelines/runtime.py"),
        ("dataengine/video/a.py", "import av", "video/a.py:1: imports av: av is heavy"),
        ("dataengine/video/a.py", "try:\n    import cv2\nexcept ImportError:\n    cv2 = None", "a.py:2: imports cv2: cv2 is heavy"),
        ("dataengine/sources/a.py", "from google.protobuf import message", "google.protobuf is heavy"),
        ("dataengine/sources/a.py", "import polars as pl", "polars is slow to import"),
        ("dataengine/store/a.py", "from dataengine import open_store", "'open_store' is no room of the house"),
        ("dataengine/store/a.py", "from .. import versions", "a.py:1: imports dataengine.versions: store (floor 4) must not import versions (floor 5)"),
        (
            "dataengine/core/a.py",
            "from importlib import import_module\ndef f():\n    return import_module('dataengine.schema.arrow')",
            "a.py:3: imports dataengine.schema.arrow",
        ),
        ("dataengine/attic/a.py", "import dataengine.core.clock", "attic is no room of the house"),
    ],
)
def test_a_planted_breach_is_named(path: str, source: str, breach: str) -> None:
    (found,) = import_breaches(path, source)
    assert breach in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "dataengine/store/a.py",
            "from dataengine.schema.arrow import x\nfrom dataengine.core import clock\nimport pyarrow\nfrom dataengine.store import layout",
        ),
        ("dataengine/video/a.py", "def f():\n    import av\n    from dataengine.version import __version__"),
        ("dataengine/video/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import av\n    import pyarrow"),
        ("dataengine/core/a.py", "import raylib\nimport average\nfrom dataengine.core.clock import NS_PER_S"),
        ("pipelines/runtime.py", "import ray"),
        ("pipelines/cli.py", "from dataengine.versions import log\nfrom dataengine import open_store\nfrom pipelines.ingest import run"),
        ("dataengine/__init__.py", "from importlib import import_module\nimport_module('dataengine.store.store')"),
    ],
)
def test_what_is_allowed_is_not_named(path: str, source: str) -> None:
    assert import_breaches(path, source) == []


def test_a_planted_circle_is_named() -> None:
    sources = {
        "dataengine/store/a.py": "from dataengine.store import b",
        "dataengine/store/b.py": "def f():\n    from dataengine.store.c import x",
        "dataengine/store/c.py": "import dataengine.store.a\nimport dataengine.store.d",
        "dataengine/store/d.py": "",
    }
    assert circles(sources) == ["dataengine/store/a.py → dataengine/store/b.py → dataengine/store/c.py → dataengine/store/a.py"]
    assert circles({**sources, "dataengine/store/c.py": "import dataengine.store.d"}) == []
