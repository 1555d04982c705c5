"""MCAP recordings (ROS 1, ROS 2, protobuf, JSON): every message as recorded, its numbers, pictures, texts and transforms beside it.

A file is read once, front to back, a chunk at a time; all its checksums are compared. Streams of a topic `/a/b`:

- `a.b`: the messages. Their bytes and schema are kept; a picture inside stands in the camera's stream instead (`messages.pictures` puts it back).
- `a.b.<field>`: a numeric field (`messages.numbers`). `a.b.data`: the text of std_msgs/String.
- `observation.images.<camera>`: the pictures of a CompressedImage (their own bytes) or Image (raw pixels).
- `tf.<parent>.<child>`: transforms, (7,) x y z qx qy qz qw.
- `a.b.sequence`: the recorder's sequence numbers where they do not simply count up; it goes row by row with `a.b`.
- `attachments`: attached files; their names stand in the metadata.
- of the profile "owa" also what `owa` says: the video beside it, keys and mouse.

Rows carry the clocks "log", "publish" (messages only) and "stamp" (the header's). A stream goes by "stamp" where all messages of its topic have one that is not
zero, else by "log"; see `messages.episode.topics_by_log` for stamps of a clock that was never set. Times count from the earliest one of any stream.

Config: `episodes` (see `episode_rules`), `clock: log` to go by the log time, `recover_truncated: true` to land what is whole of a file that was cut off,
`streams: {observation.state: "/joint_states:position"}` to name streams (`stream_names.stream_targets`); one named `action` is the control clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from dataengine.core.episode import Event
from dataengine.core.names import dataset_from_path
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.mcap import owa
from dataengine.sources.mcap.reading import McapFile, mcap_heads, no_messages
from dataengine.sources.mcap.records import MAGIC
from dataengine.sources.messages.recording import Recording

NAME = "mcap"
VERSION = "2"
RECOGNISED_BY = 'files that begin with the MCAP magic, or end in .mcap; of the profile "owa" also the video of its name beside it'
KEEPS = "every message's bytes and schema; numbers, pictures, texts and transforms beside them; log, publish and header times; attachments and metadata; of desktop recordings the video's bytes"


def find(listing: Listing) -> Found:
    """Claim the files that are MCAP by content, and those named so (they are rejected when read, with the reason)."""
    items = []
    for path, file in listing.files.items():
        known = listing.head(path, len(MAGIC)) == MAGIC
        if known or path.lower().endswith(".mcap"):
            beside = owa.films_beside(listing, path) if known else ()
            extra = {"owa": True} if known and owa.is_owa(listing, path) else {}
            items.append(Item(NAME, listing.root, path, dataset_from_path(listing.name, path), (file, *beside), extra=extra, by_name=not known))
    return Found(items, frozenset(file.path for item in items for file in item.files))


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Yield the rows of each episode of a file, then its end.

    Raises:
        BadRecording: the file is damaged, cut off, or holds no message.
        ConfigError: `options` are not valid.
    """
    recording = Recording(item, options, mcap_heads)
    with files.open(item.path) as file:
        yield from owa.with_desktop(_messages(McapFile(recording, item.path, item.size), recording, file), item, files)


def _messages(part: McapFile, recording: Recording, file: BinaryIO) -> Iterator[Event]:
    yield from part.events(file)
    if recording.empty:
        raise no_messages(recording.where)
    yield from part.end()
