"""Every fact of a known dataset says where it is published: the addresses of facts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataengine.core.errors import ConfigError
from dataengine.schema.citations import COLUMN_FACTS, SPACE_FACTS, candidates
from dataengine.schema.descriptions import ActionTerms, ColumnDescription, DatasetDescription, descriptions, read_descriptions

TEXT = """
name: a
title: A dataset
rate_hz: 7
licence: MIT
cite:
  rate_hz: its paper
  licence: its repository
  columns: its page
  columns.*.camera: a loader
  columns.action: its builder
  columns.action.action_space: a transform
  columns.action.action_space.gripper: a driver
columns:
  action: {meaning: action, dims: [x, gripper], unit: m, action_space: {kind: ee_delta, absolute: false, gripper: {dimension: 1, closed: 1, open: 0}}}
  action.other: {doc: another}
  observation.images.image: {camera: wrist, doc: seen from the hand}
actions: [action]
"""


def read(folder: Path, text: str) -> DatasetDescription:
    (folder / "a.yaml").write_text(text)
    return read_descriptions(folder)["a"]


def test_the_most_telling_source_is_that_of_a_fact(tmp_path: Path) -> None:
    assert read(tmp_path, TEXT).citations() == {
        "rate_hz": "its paper",
        "licence": "its repository",
        "actions": "its page",
        "columns.action.meaning": "its builder",
        "columns.action.dims": "its builder",
        "columns.action.unit": "its builder",
        "columns.action.action_space.kind": "a transform",
        "columns.action.action_space.absolute": "a transform",
        "columns.action.action_space.gripper": "a driver",
        "columns.action.other.doc": "its page",  # a column whose name begins with another's is not covered by it
        "columns.observation.images.image.camera": "a loader",
        "columns.observation.images.image.doc": "its page",
    }


def test_candidates_of_a_part_of_an_action_space() -> None:
    assert candidates("action", "action_space.gripper") == [
        "columns.action.action_space.gripper",
        "columns.action.action_space",
        "columns.*.action_space.gripper",
        "columns.*.action_space",
        "columns.action",
        "columns",
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  rate_hz: its paper\n", "", "must say where rate_hz is published, or the field must be null"),
        ("  columns: its page\n", "", r"must say where actions, columns\.action\.other\.doc, columns\.observation\.images\.image\.doc is published"),
        ("rate_hz: 7\n", "rate_hz: null\n", "names rate_hz, which holds no fact here"),
        ("columns.action: its builder", "columns.acton: its builder", r"names columns\.acton, which holds no fact here"),
        ("  columns.*.camera: a loader", "  columns.*.frame: a loader", r"names columns\.\*\.frame, which holds no fact here"),
        ("  licence: its repository", '  licence: ""', "licence must not be empty"),
        ("cite:\n", "site:\n", "unknown key 'site', did you mean 'cite'"),
        ("camera: wrist, doc", "camra: wrist, doc", r"unknown key 'columns\.observation\.images\.image\.camra', did you mean 'camera'"),
        ("dimension: 1, closed", "dimension: 1, close", r"unknown key 'columns\.action\.action_space\.gripper\.close', did you mean 'closed'"),
    ],
)
def test_what_is_not_cited_or_cites_nothing(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, TEXT.replace(old, new, 1))


def test_every_field_is_a_fact_or_is_known_not_to_be_one() -> None:
    """A field that is added to the schema must be cited, or stand here with its reason."""
    assert set(ColumnDescription.model_fields) == {*COLUMN_FACTS, "action_space", "also", "align"}  # names that sources use; how the project aligns
    assert set(ActionTerms.model_fields) == set(SPACE_FACTS)
    assert set(DatasetDescription.model_fields) == {
        "name",
        "title",
        "aliases",
        "rate_hz",
        "embodiment",
        "origin",
        "licence",
        "cite",
        "columns",
        "actions",
        "defects",
    }


@pytest.mark.parametrize("name", sorted(descriptions()))
def test_every_fact_in_the_project_has_a_source(name: str) -> None:
    described = descriptions()[name]
    cited = described.citations()
    for fact in ("rate_hz", "embodiment", "origin", "licence"):
        assert (getattr(described, fact) is None) == (fact not in cited)
    for column, entry in described.columns.items():
        for fact in COLUMN_FACTS:
            assert (f"columns.{column}.{fact}" in cited) == (getattr(entry, fact) not in (None, ""))
        for fact in SPACE_FACTS:
            said = entry.action_space is not None and getattr(entry.action_space, fact) is not None
            assert (f"columns.{column}.action_space.{fact}" in cited) == said
    places = [*cited.values(), *(defect.cite for defect in described.defects)]
    own = name == "sample_arm"  # the project's own data is described by its own files
    assert all(own or "http" in place or place.startswith("README of") for place in places), places


def test_what_is_for_people_affects_nothing() -> None:
    described = descriptions()["bridge_dataset"]
    other = described.model_copy(update={"title": "another title", "cite": {**described.cite, "rate_hz": "another place"}, "defects": ()})
    assert other.affecting() == described.affecting()
    assert described.model_copy(update={"rate_hz": 6.0}).affecting() != described.affecting()
