"""What no file of the house may do, and what no tracked file may hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.house import MAX_LINES, file_breaches, house_sources

# Put together from parts, so that this file does not hold what it looks for.
MACHINE_PATHS = tuple(part.encode() for part in ("/" + "work" + "/", "/tmp/" + "bash" + "_jobs", "/tmp/" + "brief", "/root" + "/", "/home" + "/runner"))


def test_each_file_keeps_the_rules(repository: Path) -> None:
    breaches = [breach for path, source in house_sources(repository).items() for breach in file_breaches(path, source)]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(
    ("path", "source", "breach"),
    [
        ("dataengine/core/a.py", '"""A."""\n' + "x = 1\n" * MAX_LINES, f"dataengine/core/a.py:1: has {MAX_LINES + 2} lines, at most {MAX_LINES}"),
        ("dataengine/core/utils.py", '"""A."""', "'utils' does not say what the file is"),
        ("dataengine/core/shard_helpers.py", '"""A."""', "'shard_helpers' does not say what the file is"),
        ("dataengine/core/a.py", "x = 1", "a.py:1: the module has no docstring"),
        ("dataengine/core/a.py", '"""A."""\n\ndef f():\n    return 1\n', "a.py:3: f is public and has no docstring"),
        ("dataengine/core/a.py", '"""A."""\nclass B:\n    x = 1\n', "a.py:2: B is public and has no docstring"),
        ("dataengine/core/a.py", '"""A."""\ntry:\n    x = 1\nexcept:\n    raise\n', "a.py:4: a bare except"),
        (
            "dataengine/core/a.py",
            '"""A."""\nfor x in ():\n    try:\n        y = 1\n    except Exception:\n        continue\n',
            "a.py:5: swallows every error in silence",
        ),
        ("dataengine/core/a.py", '"""A."""\ntry:\n    y = 1\nexcept (ValueError, BaseException):\n    pass\n', "a.py:4: swallows every error in silence"),
    ],
)
def test_a_planted_breach_is_named(path: str, source: str, breach: str) -> None:
    (found,) = file_breaches(path, source)
    assert breach in found


def test_what_is_allowed_is_not_named() -> None:
    source = '"""A."""\n\n\ndef _f():\n    try:\n        return 1\n    except ValueError:\n        pass\n    try:\n        return 2\n    except Exception as error:\n        raise RuntimeError from error\n'
    assert file_breaches("dataengine/core/database.py", source) == []


def files_of_the_project(repository: Path) -> list[Path]:
    """Return the files that git tracks or would track; skip where there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=repository, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the files of the project are listed by git: {error}")
    return [path for name in listed.decode().split("\0") if name and (path := repository / name).is_file()]


def machine_paths(name: str, content: bytes) -> list[str]:
    return [f"{name}:{number}: holds {needle.decode()!r}" for number, line in enumerate(content.split(b"\n"), 1) for needle in MACHINE_PATHS if needle in line]


def test_no_file_names_a_path_of_some_machine(repository: Path) -> None:
    found = [hit for path in files_of_the_project(repository) for hit in machine_paths(path.relative_to(repository).as_posix(), path.read_bytes())]
    assert not found, "\n".join(found)


def test_a_planted_path_is_named() -> None:
    needle = MACHINE_PATHS[0]
    assert machine_paths("a.md", b"one\nsee " + needle + b"main\n") == [f"a.md:2: holds {needle.decode()!r}"]
    assert machine_paths("a.md", b"the network/path, /workers/, artwork/") == []


def test_no_file_of_the_project_is_large(repository: Path) -> None:
    large = [f"{path.relative_to(repository)}: {path.stat().st_size} bytes" for path in files_of_the_project(repository) if path.stat().st_size > 1 << 20]
    assert not large, "\n".join(large)
