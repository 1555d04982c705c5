"""Tables, JSON and progress for the terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from dataengine.core.errors import printable


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    print(printable(json.dumps(value, indent=1, ensure_ascii=False, default=str)))


def note(message: str) -> None:
    """Print a message on stderr."""
    print(message, file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """Print a table on stdout; plain columns where stdout is no terminal."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        grid.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in ("episode", "version"))
    for row in rows:
        grid.add_row(*["" if cell is None else str(cell) for cell in row])
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(grid)


def size(count: float) -> str:
    """Return bytes in words: 3.4 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def when(created_ns: int) -> str:
    """Return a time as text in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(created_ns / 1e9))


def confirm(question: str, yes: bool) -> bool:
    """Ask before something is removed; without a terminal, only --yes is a yes."""
    if yes:
        return True
    if not sys.stdin.isatty():
        note(f"{question} Nothing was done: say --yes to do it without being asked.")
        return False
    note(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


class Bar:
    """Progress on stderr: a bar on a terminal, plain lines otherwise."""

    def __init__(self, unit: str = "units") -> None:
        self._unit = unit
        self._tty = sys.stderr.isatty()
        self._last = 0.0
        self._shown = False

    def __call__(self, message: str, done: int, total: int) -> None:
        """Show where a job stands."""
        if self._tty:
            filled = "" if not total else "#" * int(30 * done / total)
            print(f"\r\033[K[{filled:<30}] {done}/{total} {message}"[: 160 + 8], end="", file=sys.stderr, flush=True)
            self._shown = True
        elif time.monotonic() - self._last > 5 or (total and done == total):
            note(f"{done}/{total} {self._unit}: {message}" if total else message)
            self._last = time.monotonic()

    def end(self) -> None:
        """End the line of the bar."""
        if self._shown:
            print(file=sys.stderr)


def count(number: int, what: str) -> str:
    """Return "1 episode", "2 episodes"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def summary(report: Mapping[str, Any]) -> str:
    """Return one line that says what a job did."""
    return ", ".join(f"{report[key]:,} {key}" for key in ("found", "landed", "skipped", "rejected", "ignored"))
