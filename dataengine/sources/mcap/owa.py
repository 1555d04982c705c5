"""Desktop recordings of OWA (D2E): an MCAP of JSON messages whose screens stand in a video beside it, at a variable rate.

The messages land as those of any MCAP. What they mean is laid out beside them:

- `observation.images.screen`: the frames of the video that the messages refer to, each at the times of its message. A message names a frame by its time in the
  video (`media_ref.pts_ns`), which is looked up among the container's own times. Pictures that stand in the messages as data URIs are items of it.
- `action.keyboard` (256,) bool: which keys are down after each key event, by virtual-key code; snapshots (`keyboard/state`) set it right.
- `action.mouse.position` (2,) px on the screen, `action.mouse.buttons` (5,) bool, `action.mouse.scroll` (2,): after each mouse event.

They are what a person did, as the events came: absolute, and commanded. Steps are the screens. Source: the message schemas in the recordings themselves.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from posixpath import dirname, join, normpath, splitext
from typing import Any
from urllib.parse import unquote

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Camera, Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording
from dataengine.core.pictures import picture_header
from dataengine.core.problem import Problem
from dataengine.core.protocols import Item, Listing, Opener, SourceFile
from dataengine.core.stream import Buffer, Items, Rows
from dataengine.sources.kept_video import KeptVideos, frame_column, frame_rows
from dataengine.sources.mcap.records import MAGIC
from dataengine.video.index import FrameIndex

PROFILE = b"owa"
SCREEN = "observation.images.screen"
BUTTONS = ("left", "right", "middle", "x1", "x2")
KEYS = 256
VIDEO_EXTENSIONS = (".mkv", ".mp4", ".webm")

# A container may round times to milliseconds; frames are at least some 4 ms apart.
SAME_FRAME_NS = 1_500_000
MAX_EVENTS = 20_000_000

_ABSOLUTE = ActionSpace("other", absolute=True)
_SCROLL_DOC = "steps that the wheel was turned by the event"


def is_owa(listing: Listing, path: str) -> bool:
    """Return whether an MCAP says in its header that it is of this profile."""
    head = listing.head(path, 64)
    start = len(MAGIC) + 9  # of the header's body: a byte of opcode and eight of length stand before it
    return head[len(MAGIC) : len(MAGIC) + 1] == b"\x01" and head[start : start + 4 + len(PROFILE)] == len(PROFILE).to_bytes(4, "little") + PROFILE


def films_beside(listing: Listing, path: str) -> tuple[SourceFile, ...]:
    """Return the video that the recorder wrote beside an MCAP of this profile: it belongs to the recording."""
    if not is_owa(listing, path):
        return ()
    stem = splitext(path)[0]
    return tuple(listing.files[stem + extension] for extension in VIDEO_EXTENSIONS if stem + extension in listing.files)


@dataclass
class _Screens:
    """The screens of one topic: where each message says its picture is, and the message's times."""

    uris: list[str] = field(default_factory=list)
    pts_ns: list[int | None] = field(default_factory=list)
    utc_ns: list[int | None] = field(default_factory=list)
    clocks: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, message: Mapping[str, Any]) -> None:
        found = message.get("media_ref")
        reference: Mapping[str, Any] = found if isinstance(found, dict) else {}
        uri, pts, utc = reference.get("uri"), reference.get("pts_ns"), message.get("utc_ns")
        self.uris.append(uri if isinstance(uri, str) else "")
        self.pts_ns.append(pts if type(pts) is int and abs(pts) < 2**62 else None)
        self.utc_ns.append(utc if type(utc) is int and abs(utc) < 2**62 else None)


@dataclass
class _Events:
    """The events of one device: numbers of each, and their times."""

    rows: list[Array] = field(default_factory=list)
    clocks: dict[str, list[Array]] = field(default_factory=dict)
    count: int = 0

    def add(self, rows: list[list[int]], clocks: Mapping[str, Array], width: int) -> None:
        if not rows or self.count > MAX_EVENTS:
            return
        self.count += len(rows)
        self.rows.append(np.array(rows, dtype=np.int64).reshape(-1, width))
        for name, stamps in clocks.items():
            self.clocks.setdefault(name, []).append(stamps)

    def whole(self) -> tuple[Array, dict[str, Array]]:
        """Return the rows in the order of the log, and their times."""
        clocks = {name: np.concatenate(parts) for name, parts in self.clocks.items()}
        order = np.argsort(clocks["log"], kind="stable")
        return np.concatenate(self.rows)[order], {name: stamps[order] for name, stamps in clocks.items()}


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and -(2**62) < value < 2**62 else 0


class _Desktop:
    """What the messages of one episode mean."""

    def __init__(self, item: Item, files: Opener, videos: KeptVideos) -> None:
        self._item, self._files, self._videos = item, files, videos
        self._kinds: dict[str, str] = {}
        self._screens: dict[str, _Screens] = {}
        self._keys, self._mouse, self._snapshots = _Events(), _Events(), _Events()
        self._odd = 0
        self.columns: dict[str, Column] = {}
        self.clocks: dict[str, str] = {}
        self.problems: list[Problem] = []

    def _note(self, check: str, expected: str, found: str, advice: str = "", severity: Any = "warning") -> None:
        where = self._item.path
        message = f"{where}: expected {expected}, found {found}" + (f"; {advice}" if advice else "")
        self.problems.append(Problem(check, message, where, severity, expected, found, advice))

    def take(self, rows: Rows) -> Iterator[Rows]:
        """Note what the messages of a batch say; yield the pictures in them."""
        items = rows.values
        assert isinstance(items, Items)
        messages = [_parsed(data) for data in items.data]
        kind = self._kinds.get(rows.stream)
        if kind is None:
            kind = self._kinds[rows.stream] = next((_kind(message) for message in messages if message), "")
        clocks = {name: stamps for name, stamps in rows.clocks.items() if name != "publish"}
        if kind == "screen":
            yield from self._take_screens(rows.stream, messages, rows.clocks)
        elif kind == "keys":
            chosen = [row for row, message in enumerate(messages) if self._is_key(message)]
            found = [[messages[row]["vk"], messages[row]["event_type"] == "press"] for row in chosen]
            self._keys.add(found, {name: stamps[chosen] for name, stamps in clocks.items()}, 2)
        elif kind == "mouse":
            chosen = [row for row, message in enumerate(messages) if message]
            self._mouse.add([_mouse_row(messages[row]) for row in chosen], {name: stamps[chosen] for name, stamps in clocks.items()}, 6)
        elif kind == "snapshots":
            for row, message in enumerate(messages):
                keys = message.get("buttons")
                down = [key for key in keys if type(key) is int and 0 <= key < KEYS] if isinstance(keys, list) else []
                # The last column is one key that is down, -1 for none.
                self._snapshots.add(
                    [[key] for key in down] or [[-1]], {name: np.repeat(stamps[row : row + 1], max(1, len(down))) for name, stamps in clocks.items()}, 1
                )

    def _is_key(self, message: Mapping[str, Any]) -> bool:
        key = message.get("vk")
        sound = type(key) is int and 0 <= key < KEYS and message.get("event_type") in ("press", "release")
        self._odd += bool(message) and not sound
        return sound

    # --- screens

    def _take_screens(self, stream: str, messages: list[dict[str, Any]], clocks: Mapping[str, Array]) -> Iterator[Rows]:
        screens = self._screens.setdefault(stream, _Screens())
        pictures: list[bytes] = []
        at: list[int] = []
        for row, message in enumerate(messages):
            screens.add(message)
            uri = screens.uris[-1]
            if uri.startswith("data:"):
                pictures.append(_embedded(uri))
                at.append(row)
                screens.uris[-1] = ""
        for name, stamps in clocks.items():
            screens.clocks.setdefault(name, []).append(stamps)
        if not pictures:
            return
        if not all(pictures):
            self._note("unreadable_picture", "pictures in base64 in the messages", f"{pictures.count(b'')} that are none", "these rows are empty")
        headers = [picture_header(picture) for picture in pictures]
        known = next((header for header in headers if header is not None), None)
        encodings = [header.encoding if header is not None else "unknown" for header in headers]
        shape = (known.height, known.width, known.channels) if known is not None else (None, None, 3)
        self.columns.setdefault(SCREEN, Column(SCREEN, "image", "uint8", shape, encoding=encodings[0], camera=Camera(), extra={"topic": stream}))
        self.clocks[SCREEN] = "log"
        yield Rows(SCREEN, Items(pictures, encodings), {name: stamps[at] for name, stamps in clocks.items() if name != "publish"})

    def _film_rows(self) -> Iterator[Rows]:
        for stream, screens in self._screens.items():
            clocks = {name: np.concatenate(parts) for name, parts in screens.clocks.items()}
            for uri in dict.fromkeys(uri for uri in screens.uris if uri):
                rows = [row for row, other in enumerate(screens.uris) if other == uri]
                path = self._place(uri)
                found = None if path is None else self._index(path)
                if path is None or found is None:
                    continue
                timed = [row for row in rows if screens.pts_ns[row] is not None]
                if len(timed) < len(rows):
                    self._note("messages_without_frame", f"pts_ns in each message that refers to {uri!r}"[:300], f"{len(rows) - len(timed)} without")
                utc = {"utc": [screens.utc_ns[row] for row in timed]} if timed and all(screens.utc_ns[row] is not None for row in timed) else {}
                times = {name: stamps[timed] for name, stamps in clocks.items()} | {name: np.array(values, dtype=np.int64) for name, values in utc.items()}
                wanted = np.array([screens.pts_ns[row] for row in timed], dtype=np.int64)
                yield from self._frames(stream, path, found, wanted, times)

    def _place(self, uri: str) -> str | None:
        """Return the path of a video below the source's root, None (and a problem) where it is none."""
        if "://" in uri and not uri.startswith("file://"):
            self._note("external_media", "videos beside the recording", f"the address {uri!r}"[:300], "download it, and refer to the file")
            return None
        text = unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri
        path = normpath(join(dirname(self._item.path), text.replace("\\", "/")))
        if text.startswith(("/", "\\")) or text[1:2] == ":" or "\0" in text or path == ".." or path.startswith("../"):
            self._note("path_escapes", "a path inside the source's folder", f"{uri!r}"[:300], "put the video beside the recording, and refer to it by its name")
            return None
        return path

    def _index(self, path: str) -> FrameIndex | None:
        try:
            index = self._videos.main(path)
        except BadRecording as error:
            check = "missing_media" if error.check == "unreadable_file" else "unreadable_video"
            advice = "copy the video beside the recording"
            self.problems.append(Problem(check, f"{error}; {advice}", path, "warning", error.expected, error.found, advice))
            return None
        problem = self._videos.decodes(path, index)
        self.problems += [problem] if problem is not None else []
        return index

    def _frames(self, stream: str, path: str, index: FrameIndex, wanted: Array, clocks: Mapping[str, Array]) -> Iterator[Rows]:
        """Yield the frames that messages refer to, at the messages' times."""
        after = np.clip(np.searchsorted(index.pts_ns, wanted), 1, max(1, len(index) - 1))
        before = after - 1
        last = len(index) - 1
        nearest = np.where(np.abs(index.pts_ns[np.minimum(after, last)] - wanted) < np.abs(index.pts_ns[before] - wanted), np.minimum(after, last), before)
        there = np.abs(index.pts_ns[nearest] - wanted) <= SAME_FRAME_NS
        if not there.all():
            self._note("messages_without_frame", f"a frame of {path} for each of {len(wanted)} messages", f"none for {int((~there).sum())}")
        frames, rows = np.unique(nearest[there], return_index=True)
        if not len(frames):
            return
        if len(frames) < int(there.sum()):
            self._note("frames_repeat", f"a frame of its own for each message, in {path}", f"{int(there.sum()) - len(frames)} that share one", severity="info")
        first, count = int(frames[0]), int(frames[-1]) - int(frames[0]) + 1
        beside = len(index) - len(frames)
        if beside:
            advice = "those between others stand in the stream" if count > len(frames) else "they are kept in the file only"
            self._note("frames_without_message", f"a message for each of the {len(index)} frames of {path}", f"none for {beside}", advice, "info")
        times = {name: stamps[there][rows] for name, stamps in clocks.items() if name != "publish" or count == len(frames)}
        chosen = "log"
        if count > len(frames):
            # A frame without a message has no time of its own but the container's: it counts on from the message before.
            log_ns, pts_ns = times["log"], index.pts_ns[first : first + count]
            message = np.searchsorted(frames, np.arange(first, first + count), side="right") - 1
            times, chosen = {"video": log_ns[message] + pts_ns - index.pts_ns[frames[message]]}, "video"
        name = SCREEN
        while name in self.columns:
            name += "_"
        self.columns[name] = replace(frame_column(name, index), extra={"topic": stream, "source": path})
        self.clocks[name] = chosen
        yield frame_rows(name, path, index, first, count, times)

    # --- keys and mouse

    def _key_rows(self) -> Iterator[Rows]:
        if not self._keys.count:
            return
        keys, clocks = self._keys.whole()
        seen, seen_at = self._snapshots.whole() if self._snapshots.count else (np.empty((0, 1), np.int64), {"log": np.empty(0, np.int64)})
        down = np.zeros(KEYS, dtype=bool)
        out = np.zeros((len(keys), KEYS), dtype=bool)
        at = differs = 0
        for row, (key, press) in enumerate(keys.tolist()):
            while at < len(seen) and seen_at["log"][at] <= clocks["log"][row]:
                end = int(np.searchsorted(seen_at["log"], seen_at["log"][at], side="right"))
                held = np.zeros(KEYS, dtype=bool)
                held[[value for value in seen[at:end, 0].tolist() if value >= 0]] = True
                differs += row > 0 and bool((held != down).any())
                down, at = held, end
            down[key] = bool(press)
            out[row] = down
        if differs:
            self._note("key_state_differs", "snapshots of the keyboard that agree with its events", f"{differs} that do not", "the snapshots count", "info")
        doc = "keys that are down, by virtual-key code of Windows"
        yield self._action("action.keyboard", out, clocks, None, None, doc)

    def _mouse_rows(self) -> Iterator[Rows]:
        if not self._mouse.count:
            return
        found, clocks = self._mouse.whole()
        buttons = np.zeros((len(found), len(BUTTONS)), dtype=bool)
        held = np.zeros(len(BUTTONS), dtype=bool)
        for row in range(len(found)):
            if found[row, 2] >= 0:
                held[found[row, 2]] = bool(found[row, 3])
            buttons[row] = held
        yield self._action("action.mouse.position", np.ascontiguousarray(found[:, :2]), clocks, ("x", "y"), "px", "on the screen")
        yield self._action("action.mouse.buttons", buttons, clocks, BUTTONS, None, "buttons that are down")
        if found[:, 4:].any():
            yield self._action("action.mouse.scroll", np.ascontiguousarray(found[:, 4:]), clocks, ("dx", "dy"), None, _SCROLL_DOC)

    def _action(self, name: str, values: Array, clocks: Mapping[str, Array], dims: tuple[str, ...] | None, unit: str | None, doc: str) -> Rows:
        space = replace(_ABSOLUTE, absolute=False) if name.endswith("scroll") else _ABSOLUTE
        column = Column(
            name,
            "numeric",
            values.dtype.name,
            values.shape[1:],
            dims,
            unit,
            meaning="action",
            action_space=space,
            action_source="commanded",
            doc=doc,
            extra={"events": True},
        )
        self.columns[name] = replace(column, align="previous") if not name.endswith("scroll") else column
        self.clocks[name] = "log"
        return Rows(name, values, clocks)

    def end(self) -> Iterator[Rows]:
        """Yield what the whole episode gives."""
        yield from self._film_rows()
        yield from self._key_rows()
        yield from self._mouse_rows()
        if self._odd:
            self._note("odd_key_events", f"press or release of a key from 0 to {KEYS - 1}", f"{self._odd} others", "they stand in the messages only")
        if max(self._keys.count, self._mouse.count) > MAX_EVENTS:
            self._note("too_many_events", f"at most {MAX_EVENTS} events", "more", "the rest stands in the messages only")


def _parsed(data: Buffer) -> dict[str, Any]:
    try:
        message = json.loads(bytes(data))
    except (ValueError, RecursionError):
        return {}  # the decoder of messages names it
    return message if isinstance(message, dict) else {}


def _kind(message: Mapping[str, Any]) -> str:
    if "media_ref" in message:
        return "screen"
    if "event_type" in message:
        return "keys" if "vk" in message else "mouse" if "x" in message and "y" in message else ""
    return "snapshots" if "buttons" in message and "x" not in message else ""


def _mouse_row(message: Mapping[str, Any]) -> list[int]:
    """Return x, y, button (-1: none), pressed, dx, dy of a mouse event."""
    button = BUTTONS.index(message["button"]) if message.get("button") in BUTTONS and isinstance(message.get("pressed"), bool) else -1
    return [
        _number(message.get("x")),
        _number(message.get("y")),
        button,
        message.get("pressed") is True,
        _number(message.get("dx")),
        _number(message.get("dy")),
    ]


def _embedded(uri: str) -> bytes:
    """Return the bytes of a picture in a data URI, empty where they are none."""
    head, comma, text = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def with_desktop(events: Iterator[Event], item: Item, files: Opener) -> Iterator[Event]:
    """Add to the events of a recording of this profile what its messages mean; those of any other go through as they are."""
    if not item.extra.get("owa"):
        yield from events
        return
    videos = KeptVideos(files)
    desktop = _Desktop(item, files, videos)
    for event in events:
        if isinstance(event, Rows):
            yield event
            if isinstance(event.values, Items) and event.values.encodings == "json":
                yield from desktop.take(event)
        elif isinstance(event, EpisodeInfo):
            yield from desktop.end()
            names = {name: clock for name, clock in desktop.clocks.items() if name in desktop.columns}
            yield replace(
                event,
                columns={**event.columns, **desktop.columns},
                stream_clocks={**event.stream_clocks, **names},
                follow=event.follow or (SCREEN if SCREEN in desktop.columns else None),
                problems=(*event.problems, *desktop.problems),
            )
            desktop = _Desktop(item, files, videos)
        else:
            yield event
