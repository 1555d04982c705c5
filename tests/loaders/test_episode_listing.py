"""Where tables of episodes are kept when the cache folder takes none: never in a folder that somebody else can fill."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from dataengine.loaders import Field, dataset
from tests.loaders.conftest import LENGTHS


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose temporary folder is empty, and whose cache folder is a file."""
    (tmp_path / "cache").write_text("takes no folder")
    monkeypatch.setenv("DATAENGINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_without_a_cache_the_table_is_kept_in_a_folder_of_the_user_alone(lab: Path, temporary: Path) -> None:
    for _ in range(2):
        assert len(dataset(f"{lab}#lab", {"action": Field()})) == sum(LENGTHS)
    (own,) = temporary.iterdir()
    assert own.stat().st_mode & 0o777 == 0o700
    assert len(list((own / "episodes").iterdir())) == 1


def test_a_folder_that_others_may_write_to_is_not_trusted(lab: Path, temporary: Path) -> None:
    assert len(dataset(f"{lab}#lab", {"action": Field()})) == sum(LENGTHS)
    (own,) = temporary.iterdir()
    (table,) = (own / "episodes").iterdir()
    for planted in table.iterdir():
        planted.write_bytes(b"planted")
    own.chmod(0o777)
    assert len(dataset(f"{lab}#lab", {"action": Field()})) == sum(LENGTHS)
    assert len(list(temporary.iterdir())) == 2
