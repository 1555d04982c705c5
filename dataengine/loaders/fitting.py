"""How thoroughly a loader shuffles when nobody says: as short clips as key frames allow, and as many samples in waiting as memory does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from dataengine.core.errors import BadRecording, StoreError
from dataengine.loaders.clips import ALIGN_STEPS
from dataengine.loaders.episode_files import EpisodeFiles
from dataengine.loaders.lanes import Shuffle
from dataengine.loaders.opened import Opened
from dataengine.loaders.windows import Window
from dataengine.store.media import read_index
from dataengine.store.stored_streams import media_of

WAITING_BYTES = 5 << 28  # of decoded pictures on a rank, 1.25 GiB
LONGEST_CLIP = 100
_GROUPS_A_CLIP = 4  # a clip begins in the middle of a group of pictures: this many of them in a clip bound what is decoded for nothing


def fitted_shuffle(opened: Opened, windows: Sequence[Window]) -> Shuffle:
    """Return the most thorough shuffle that decodes little twice and whose waiting pictures fit into memory."""
    chosen = Shuffle(clip_steps=clip_steps(_key_frame_gap(opened, windows)))
    picture_bytes = waiting_bytes(windows)
    while chosen.waiting * picture_bytes > WAITING_BYTES and (chosen.spread > 8 or chosen.lanes > 32):
        chosen = replace(chosen, spread=chosen.spread // 2) if chosen.spread > 8 else replace(chosen, lanes=chosen.lanes // 2)
    return chosen


def clip_steps(key_frame_gap: int) -> int:
    """Return the length of clips for videos with a key frame every so many frames: short where cuts fall on key frames, long where they do not."""
    if ALIGN_STEPS % max(1, key_frame_gap) == 0:
        return 2 * ALIGN_STEPS
    return min(LONGEST_CLIP, max(4 * ALIGN_STEPS, -(-_GROUPS_A_CLIP * key_frame_gap // ALIGN_STEPS) * ALIGN_STEPS))


def _key_frame_gap(opened: Opened, windows: Sequence[Window]) -> int:
    """Return the largest usual distance of key frames among the videos that are read, as one episode of each dataset has them; 1 where there are none."""
    files = EpisodeFiles(opened, (), (), timed=False)
    gap = 1
    for number in range(len(opened.parts)):
        for window in windows:
            if window.kind == "pictures":
                with suppress(StoreError, BadRecording):  # what is damaged is told when it is read
                    gap = max(gap, _gap_of(files, number, window))
    return gap


def _gap_of(files: EpisodeFiles, number: int, window: Window) -> int:
    """Return the usual distance of key frames in the video that a part's first episode has for a window; 1 where it has none."""
    episode = int(files.opened.first_episode[number])
    names = window.columns.get(files.features(episode), ())
    entry = files.entry(episode, names[0]) if names else None
    if entry is None or entry["kind"] not in ("video", "media"):
        return 1
    _, dataset, shard, _ = files.place(episode)
    columns, _ = read_index(files.opened.objects[number], media_of({"dataset": dataset, "shard": shard}, entry), int(entry["track"]))
    keys = np.flatnonzero(columns["key"])
    return int(np.median(np.diff(keys))) if len(keys) > 1 else len(columns["key"])


def waiting_bytes(windows: Sequence[Window]) -> int:
    """Return about what the pictures of a sample take while they wait: planar YUV, half of RGB, where they keep their size.

    A window of several steps counts once: its pictures are those of neighbouring samples.
    """
    pictures = [window for window in windows if window.kind == "pictures"]
    return sum(
        int(np.prod(window.shape)) * np.dtype(window.dtype).itemsize // (1 if window.field.size or window.dtype != "uint8" else 2) for window in pictures
    )
