"""ROS 2 bags: the files of a bag (SQLite or MCAP, split, packed or not) as one recording; streams and clocks are those of `mcap.reader`.

A bag is a folder with a metadata.yaml that lists its files; without one, files of one name that are numbered from 0 belong together. Messages that were packed one by
one are kept as they were before. Message definitions are those of the bag; where it holds none that fit, those that ROS 2 comes with (`messages.ros_known`); where
there are none either, the messages are kept whole.

Config: `episodes`, `clock`, `streams` as for MCAP; `recover_truncated: true` lands what is whole of files that were cut off.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataengine.core.episode import Event
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.rosbag2.finding import find_bags
from dataengine.sources.rosbag2.reading import Bag

NAME = "rosbag2"
VERSION = "1"
RECOGNISED_BY = "folders with the metadata.yaml of a bag; SQLite files with its tables, or .db3; split or zstd-packed .db3 and .mcap files"
KEEPS = "every message's bytes and definition; numbers, pictures, texts and transforms beside them; receive, publish (MCAP) and header times; the metadata"


def find(listing: Listing) -> Found:
    """Claim whole bags, each as one item."""
    return find_bags(listing, NAME)


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Yield the rows of each episode of a bag, then its end.

    Raises:
        BadRecording: a file of the bag is damaged, cut off, or no bag, or there is no message.
        ConfigError: `options` are not valid.
    """
    yield from Bag(item, files, options).events()
