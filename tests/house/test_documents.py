"""What the documents say is true: commands exist with that help, examples validate, tables are those of the format."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from dataengine.schema.schema import KINDS, validate
from dataengine.schema.tables import TABLES, row_problems
from tests.support.format_tables import rendered_readme

COMMANDS = (
    "demo",
    "ingest",
    "sources",
    "ls",
    "show",
    "check",
    "log",
    "diff",
    "tag",
    "restore",
    "rm",
    "gc",
    "rejects",
    "stats",
    "materialize",
    "export webdataset",
    "collect",
    "train",
    "label",
    "evaluate labels",
    "evaluate downstream",
    "evaluate values",
    "bench load",
    "bench label",
)
GROUPS = ("export", "bench", "evaluate")  # commands whose second word is a command too


def commands_in(text: str) -> list[list[str]]:
    """Return the `dataengine …` commands in the console and bash blocks of a Markdown text, as words; continued lines are joined."""
    found = []
    for block in re.findall(r"^```(?:console|bash|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.strip().removeprefix("$ "), comments=True) if re.match(r"\s*(\$ )?dataengine\b", line) else []
            for stop in ("|", ">", ">>", "2>", "&&", ";"):
                words = words[: words.index(stop)] if stop in words else words
            if words:
                found.append(words)
    return found


def options_in(words: list[str]) -> list[str]:
    """Return the options of a command, without their values."""
    return [word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?|-[a-zA-Z]", word)]


@cache
def help_of(command: str) -> str:
    """Return what a command prints for --help; fail where it does not exist."""
    environment = {**os.environ, "COLUMNS": "240", "TERM": "dumb", "NO_COLOR": "1", "TERMINAL_WIDTH": "240"}
    arguments = [*command.split(), "--help"]
    done = subprocess.run(
        [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, f"dataengine {command} --help: exit {done.returncode}: {done.stderr[-500:]}"
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def test_commands_are_found_in_a_document() -> None:
    text = "```console\n$ dataengine ls data/store --json | head\nrow\n$ dataengine ingest a \\\n    --store b # note\n```\n```python\ndataengine = 1\n```\n"
    assert commands_in(text) == [["dataengine", "ls", "data/store", "--json"], ["dataengine", "ingest", "a", "--store", "b"]]
    assert options_in(["dataengine", "ingest", "--store=x", "-n", "--rate", "-5"]) == ["--store", "-n", "--rate"]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    text = help_of(command)
    assert len(text) > 100
    assert command in text


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_each_command_in_a_document_exists_with_its_options(repository: Path, document: str) -> None:
    faults = []
    for words in commands_in((repository / document).read_text()):
        if len(words) == 1:
            continue
        command = "" if words[1].startswith("-") else " ".join(words[1:3]) if words[1] in GROUPS and len(words) > 2 else words[1]
        text = help_of(command)
        faults += [f"{document}: {shlex.join(words)}: {option} is not in its help" for option in options_in(words) if option != "--help" and option not in text]
    assert not faults, "\n".join(faults)


def test_the_changelog_has_a_place_for_what_comes(repository: Path) -> None:
    assert re.search(r"^## Unreleased$", (repository / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_examples_in_the_format_document_are_valid(repository: Path) -> None:
    text = (repository / "schemas" / "README.md").read_text()
    shown = re.findall(r"<!-- example: (\w+) -->\n```json\n(.*?)```", text, re.DOTALL)
    assert {kind for kind, _ in shown} >= {"store", "version", "tag", "job", "features", "shard", "catalog", "index"}
    for kind, example in shown:
        document = json.loads(example)
        problems = validate(kind, document) if kind in KINDS else [problem for row in document for problem in row_problems(row, kind)]
        assert problems == [], kind


def test_tables_in_the_format_document_are_those_of_the_format(repository: Path) -> None:
    path = repository / "schemas" / "README.md"
    text = path.read_text()
    assert [name for name in TABLES if f"<!-- table: {name} -->" not in text] == []
    assert text == rendered_readme(text), "run: python -m tests.support.format_tables"
