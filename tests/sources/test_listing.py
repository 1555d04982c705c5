"""Listings of local and remote sources, and the bytes of their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataengine.core.errors import BadRecording, UsageError
from dataengine.sources.listing import list_source


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "lab"
    (root / "b" / "1.0.0").mkdir(parents=True)
    (root / "b" / "1.0.0" / "z.bin").write_bytes(b"z" * 100)
    (root / "a.bin").write_bytes(b"0123456789")
    (root / "b.txt").write_bytes(b"text")
    (root / "b" / ".DS_Store").write_bytes(b"")
    return root


def test_files_come_in_path_order_with_size_and_fingerprint(tree: Path) -> None:
    listing = list_source(str(tree))
    assert list(listing.files) == ["a.bin", "b.txt", "b/.DS_Store", "b/1.0.0/z.bin"]
    assert (listing.root, listing.name, listing.problems) == (str(tree), "lab", [])
    file = listing.files["a.bin"]
    assert (file.path, file.size, file.fingerprint) == ("a.bin", 10, str((tree / "a.bin").stat().st_mtime_ns))


def test_claimed_files_go(tree: Path) -> None:
    listing = list_source(str(tree))
    rest = listing.without({"a.bin", "unknown"})
    assert list(rest.files) == ["b.txt", "b/.DS_Store", "b/1.0.0/z.bin"]
    assert next(iter(listing.files)) == "a.bin"
    assert rest.head("b.txt") == b"text"


def test_a_single_file_is_listed_below_its_folder(tree: Path) -> None:
    listing = list_source(str(tree / "b" / "1.0.0" / "z.bin"))
    assert (listing.root, listing.name, list(listing.files)) == (str(tree / "b" / "1.0.0"), "b", ["z.bin"])
    assert list_source(f"file://{tree}/a.bin").name == "lab"


def test_one_source_has_one_root_however_it_is_written(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "b")
    assert list_source("..").root == list_source(f"{tree}/b/../").root == str(tree)


def test_heads_and_whole_files(tree: Path) -> None:
    listing = list_source(str(tree))
    assert listing.head("a.bin", 4) == b"0123"
    assert listing.head("a.bin", 1000) == b"0123456789"
    assert listing.head("b/1.0.0/z.bin", 90) == b"z" * 90
    assert listing.head("b/.DS_Store") == b""
    assert listing.read_bytes("a.bin", limit=10) == b"0123456789"
    with pytest.raises(BadRecording, match=r"a\.bin: expected at most 9 bytes"):
        listing.read_bytes("a.bin", limit=9)


def test_the_opener_reads_local_files(tree: Path) -> None:
    opener = list_source(str(tree)).opener
    with opener.open("b/1.0.0/z.bin") as handle:
        handle.seek(-3, 2)
        assert handle.read() == b"zzz"
    assert opener.local("a.bin") == str(tree / "a.bin")
    with pytest.raises(BadRecording, match="gone: expected a file that can be read"):
        opener.open("gone")
    with pytest.raises(BadRecording, match="expected a regular file"):
        opener.open("b")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "b/../../secret", "", "a\\b", "b//z", "a\0b", "."])
def test_paths_out_of_the_root_are_refused(tree: Path, path: str) -> None:
    (tree.parent / "secret").write_bytes(b"secret")
    opener = list_source(str(tree)).opener
    for call in (opener.open, opener.local, opener.read_bytes):
        with pytest.raises(BadRecording) as caught:
            call(path)
        assert caught.value.check == "path_escapes"


def test_links_may_lead_inside_only(tree: Path) -> None:
    (tree.parent / "secret").write_bytes(b"secret")
    (tree.parent / "lab-2").mkdir()
    (tree.parent / "lab-2" / "near").write_bytes(b"a folder whose name begins as the root's")
    (tree / "inside").symlink_to(tree / "a.bin")
    (tree / "out").symlink_to(tree.parent / "secret")
    (tree / "near").symlink_to(tree.parent / "lab-2" / "near")
    (tree / "broken").symlink_to(tree / "nothing")
    (tree / "folder").symlink_to(tree.parent / "lab-2")
    (tree / "loop").symlink_to(tree)
    listing = list_source(str(tree))
    assert [path for path in listing.files if path in ("inside", "out", "near", "broken", "folder/near")] == ["inside"]
    assert sorted((problem.check, problem.where) for problem in listing.problems) == [
        ("path_escapes", "folder/near"),
        ("path_escapes", "near"),
        ("path_escapes", "out"),
    ]
    assert listing.head("inside") == b"0123456789"
    with pytest.raises(BadRecording, match="out: expected a file inside the source's folder, found a link to"):
        listing.opener.open("out")


def test_a_root_that_is_a_link_is_followed(tree: Path) -> None:
    (tree.parent / "alias").symlink_to(tree)
    listing = list_source(str(tree.parent / "alias"))
    assert next(iter(listing.files)) == "a.bin"
    assert listing.head("a.bin", 2) == b"01"
    assert listing.problems == []


def test_pipes_and_names_that_are_no_unicode_are_left_out(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    Path(os.fsdecode(os.fsencode(tree) + b"/bad\xff.bin")).write_bytes(b"x")
    listing = list_source(str(tree))
    assert "pipe" not in listing.files
    assert all(path.isprintable() for path in listing.files)
    assert sorted((problem.check, problem.where) for problem in listing.problems) == [("unreadable_file", "pipe"), ("unreadable_name", "bad\\udcff.bin")]


def test_sources_that_do_not_exist_are_wrong_calls(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        list_source(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="unknown kind of address"):
        list_source("ftp://host/x")


def test_an_empty_folder_is_a_listing_without_files(tmp_path: Path) -> None:
    assert dict(list_source(str(tmp_path)).files) == {}
