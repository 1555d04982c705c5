"""One element of a large JSON file at a time: the places of all are found in one pass that holds one of them, and any is then read by itself.

For files that describe every video of a dataset (hundreds of MB), of which a reader needs one video's part: `{"videos": [{"video_uid": ...}, ...]}`,
`{"videos": {uid: ...}}` or `{uid: ...}`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Opener

READ_BYTES = 1 << 20
MAX_ELEMENT_BYTES = 64 << 20
MAX_ELEMENTS = 1_000_000
KEPT_PLACES = 32  # files whose places stay known in a process, so that the next item need not look again

Places = dict[str, tuple[int, int]]
_known: OrderedDict[tuple[str, str, str], Places] = OrderedDict()
_SPACE = " \t\r\n"


class _Window:
    """Text that is read as far as it is needed and let go behind; one letter is one byte (latin-1), so that places are exact."""

    def __init__(self, handle: BinaryIO, where: str) -> None:
        self._handle, self._where = handle, where
        self._text, self._first, self.at = "", 0, 0
        self._ended = False
        self._decoder = json.JSONDecoder()

    @property
    def place(self) -> int:
        """Return the byte that comes next."""
        return self._first + self.at

    def _more(self, least: int = 0) -> bool:
        if self._ended:
            return False
        data = self._handle.read(least or READ_BYTES)
        self._ended = not data
        self._text, self._first, self.at = self._text[self.at :] + data.decode("latin-1"), self._first + self.at, 0
        return bool(data)

    def damaged(self, found: str) -> BadRecording:
        return BadRecording(f"{self._where}: byte {self.place}", "JSON", found, "the file is damaged: fetch it again", check="unreadable_json")

    def peek(self) -> str:
        """Return the next letter that is no space, "" at the end."""
        while True:
            while self.at < len(self._text) and self._text[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self._text) or not self._more():
                return self._text[self.at : self.at + 1]

    def take(self, letters: str) -> str:
        """Take one of some letters."""
        found = self.peek()
        if not found or found not in letters:
            raise self.damaged(f"{found!r} instead of one of {letters!r}" if found else "its end")
        self.at += 1
        return found

    def value(self) -> Any:
        """Take a whole value."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self.at)
            except RecursionError as error:
                raise self.damaged("values within values beyond reason") from error
            except ValueError as error:
                if len(self._text) - self.at > MAX_ELEMENT_BYTES or not self._more(max(READ_BYTES, len(self._text) - self.at)):
                    raise self.damaged(f"{str(error)[:100]}") from error
                continue
            if end < len(self._text) or not self._more():  # a number may go on behind what was read
                self.at = end
                return found


def _elements(window: _Window, depth: int = 0) -> Iterator[tuple[str, int, int, Any]]:
    """Yield (key, first byte, bytes, value) of the elements of the object or list that comes next; those of "videos" instead of it."""
    kind = window.take("{[")
    close = "}" if kind == "{" else "]"
    if window.peek() == close:
        window.take(close)
        return
    while True:
        key = ""
        if kind == "{":
            key = window.value()
            if not isinstance(key, str):
                raise window.damaged("a key that is no text")
            window.take(":")
        window.peek()
        start = window.place
        if depth == 0 and key == "videos" and window.peek() in "[{":
            yield from _elements(window, 1)
        else:
            value = window.value()
            yield key, start, window.place - start, value
        if window.take("," + close) == close:
            return


def places(handle: BinaryIO, where: str, name: str) -> Places:
    """Return (first byte, bytes) of each element by its key, or by what stands in it under `name`; raise BadRecording."""
    found: Places = {}
    for key, start, size, value in _elements(_Window(handle, where)):
        if not isinstance(value, dict):
            continue
        own = value.get(name, key)
        if isinstance(own, str) and own:
            if len(found) >= MAX_ELEMENTS:
                raise BadRecording(where, f"at most {MAX_ELEMENTS} elements", "more", check="too_large")
            found[own] = start, size
    return found


def element(files: Opener, root: str, path: str, fingerprint: str, key: str, name: str) -> Any:
    """Return one element of a file, None where there is none of that key.

    Args:
        files: access to the file.
        root, path, fingerprint: what tells the file from all others, so that its places need to be found only once in a process.
        key: which element.
        name: what the key is called in elements of a list ("video_uid").

    Raises:
        BadRecording: the file is no JSON, or damaged.
    """
    known = (root, path, fingerprint)
    if known not in _known:
        with files.open(path) as handle:
            _known[known] = places(handle, path, name)
        while len(_known) > KEPT_PLACES:
            _known.popitem(last=False)
    place = _known[known].get(key)
    if place is None:
        return None
    with files.open(path) as handle:
        handle.seek(place[0])
        data = handle.read(place[1])
    try:
        return json.loads(data.decode("utf-8", "backslashreplace"))
    except (ValueError, RecursionError) as error:
        raise BadRecording(f"{path}: {key}", "JSON", str(error)[:200], "the file changed while it was read", check="unreadable_json") from error
