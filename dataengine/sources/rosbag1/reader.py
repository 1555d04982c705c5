"""ROS 1 bags (format 2.0): every message as recorded, its numbers, pictures, texts and transforms beside it.

A bag is read once, front to back, a chunk at a time (none, bz2, lz4); its index is compared with the messages. Streams are those of `mcap.reader`, and

- `a.b.publisher`: which of its topic's publishers a message is from, where there are several; it goes row by row with `a.b`.

Rows carry the clocks "log" (when the recorder received the message) and "stamp" (the header's). What the connections say (caller, latching, md5sum) stands in
the metadata.

Config: `episodes`, `clock`, `streams` as for MCAP; `recover_truncated: true` lands what is whole of a bag that was cut off or never closed ("reindex needed").
"""

from __future__ import annotations

from collections.abc import Iterator

from dataengine.core.episode import Event
from dataengine.core.errors import BadRecording
from dataengine.core.names import dataset_from_path
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.messages.recording import Recording
from dataengine.sources.rosbag1.reading import BagFile
from dataengine.sources.rosbag1.records import ANY_MAGIC, OLD_MAGICS

NAME = "rosbag1"
VERSION = "1"
RECOGNISED_BY = "files that begin with the line of a ROS 1 bag (#ROSBAG V), or end in .bag"
KEEPS = "every message's bytes and definition; numbers, pictures, texts and transforms beside them; receive and header times; what the connections say"

_ENDINGS = (".bag", ".bag.active")


def find(listing: Listing) -> Found:
    """Claim the files that are bags by content, and those named so (they are rejected when read, with the reason)."""
    items = []
    for path, file in listing.files.items():
        known = listing.head(path, 16).startswith((ANY_MAGIC, *OLD_MAGICS))
        if known or path.lower().endswith(_ENDINGS):
            items.append(Item(NAME, listing.root, path, dataset_from_path(listing.name, path), (file,), by_name=not known))
    return Found(items, frozenset(item.path for item in items))


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Yield the rows of each episode of a bag, then its end.

    Raises:
        BadRecording: the bag is damaged, cut off, of another format, or holds no message.
        ConfigError: `options` are not valid.
    """
    bag = BagFile(item.path)
    recording = Recording(item, options, bag.heads)
    with files.open(item.path) as file:
        yield from bag.events(recording, file, item.size)
    if recording.empty:
        advice = "nothing before the cut is whole: restore it from a copy" if bag.cut else "nothing was recorded: remove the file"
        raise BadRecording(item.path, "at least one message", "none", advice, check="no_messages")
    yield from bag.end()
