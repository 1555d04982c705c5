"""A source without a recording is a wrong call, which says what was there instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataengine.core.errors import NothingRecognised
from pipelines.plan import find_items
from tests.support.shared import shared_data


def test_an_archive_of_pictures_is_nothing_and_is_described() -> None:
    with pytest.raises(NothingRecognised, match=r"sample\.tgz: an archive whose first members are of cls, png"):
        find_items([str(shared_data("egocentric"))], None, ())


def test_other_files_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(NothingRecognised, match="found 1 other file"):
        find_items([str(tmp_path)], None, ())
