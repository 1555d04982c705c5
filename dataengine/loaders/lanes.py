"""The order of an epoch: clips are permuted and dealt to lanes, and within each lane samples are spread over a window.

Everything is a pure function of (seed, epoch, lane, place) over numbers, so that any place of the order is found without walking there, and it is the same
whatever the number of workers, ranks, and the timing.

A lane is a run of the permuted clips. Its samples stand in decoding order at places 0, 1, 2, ...; sample i is emitted by the key i + u_i, where
u_i is hashed from [0, spread): so it comes out up to `spread` places later than it went in, and about half that many wait at any time. The first clip of a lane is turned
by a hashed number of steps, so that lanes do not begin their clips in step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dataengine.core.arrays import Array, require
from dataengine.core.randomness import hash64, mix64
from dataengine.loaders.clips import ALIGN_STEPS, Clips

_FRACTION_BITS = 20
LONG_LANE = 12  # blocks: in longer lanes a cut anywhere costs less than lanes of unequal length
_BLOCK = 1024  # places whose keys are sorted together
_PERMUTE, _TURN, _SPREAD, _DEAL = 1, 2, 3, 4  # what a hash is for


@dataclass(frozen=True)
class Shuffle:
    """How thoroughly an epoch is shuffled, and with it how much waits in memory.

    A rank of one process holds about lanes_a_rank * (spread / 2 + a group of pictures) decoded samples, shared among its workers.

    Attributes:
        clip_steps: clips are at most this long; each is decoded in sequence. Shorter ones shuffle better, longer ones decode less twice where key frames are rare.
        spread: by how many places of its lane a sample may be late.
        lanes: lanes of each rank. A batch takes a sample from each lane of a group in turn; one that is larger is made of parts from several groups.
        groups: groups of lanes of each rank; a worker owns whole groups, so that this many workers can share the work.
    """

    clip_steps: int = 20
    spread: int = 32
    lanes: int = 256
    groups: int = 8

    def __post_init__(self) -> None:
        require(self.clip_steps >= 2 * ALIGN_STEPS, f"Shuffle.clip_steps: must be at least {2 * ALIGN_STEPS}, got {self.clip_steps}")
        require(self.spread >= 1, f"Shuffle.spread: must be at least 1, got {self.spread}")
        require(1 <= self.groups <= self.lanes, f"Shuffle: must have 1 to lanes={self.lanes} groups, got {self.groups}")

    @property
    def waiting(self) -> int:
        """Return about how many decoded samples of a rank wait at any time: half the spread of each lane, and a group of pictures."""
        return self.lanes * (self.spread // 2 + ALIGN_STEPS)


@dataclass(frozen=True)
class Piece:
    """A run of consecutive samples that a lane decodes together: steps [start, stop) of a segment, from place `place` of the lane."""

    segment: int
    start: int
    stop: int
    place: int


class Lane:
    """One lane of an epoch: its pieces in decoding order, and the order in which their samples come out."""

    def __init__(self, segment: Array, start: Array, stop: Array, turn: int, late: np.uint64, spread: int) -> None:
        self._late, self._spread = late, spread  # the hash of this lane, from which those of its places are made
        ends = np.cumsum(stop - start)
        if len(segment):
            turn %= int(ends[-1])
            first = int(np.searchsorted(ends, turn, side="right"))
            into = start[first] + turn - (ends[first] - (stop[first] - start[first]))
            cut = max(int(start[first]), int(into) // ALIGN_STEPS * ALIGN_STEPS)
            roll = np.roll(np.arange(len(segment)), -first)
            segment, start, stop = segment[roll], start[roll].copy(), stop[roll].copy()
            if cut > start[0]:
                segment, stop = np.append(segment, segment[0]), np.append(stop, cut)
                start = np.append(start, start[0])
                start[0] = cut
        self._segment, self._start, self._stop = segment, start, stop
        self._places = np.concatenate([[0], np.cumsum(stop - start)]).astype(np.int64)
        self._length = int(self._places[-1])
        self._block = lru_cache(maxsize=4)(self._emitted)

    def __len__(self) -> int:
        return self._length

    @property
    def pieces(self) -> int:
        """Return how many pieces the lane has."""
        return len(self._segment)

    def piece(self, number: int) -> Piece:
        """Return a piece by number."""
        return Piece(int(self._segment[number]), int(self._start[number]), int(self._stop[number]), int(self._places[number]))

    def _keys(self, low: int, high: int) -> Array:
        """Return the emission keys of places [low, high), (n,) uint64 with 20 bits behind the point."""
        places = np.arange(low, high, dtype=np.uint64)
        late = mix64(self._late ^ places) % np.uint64(self._spread << _FRACTION_BITS)
        return (places << np.uint64(_FRACTION_BITS)) + late

    def _before(self, bound: int) -> int:
        """Return how many samples have a key below `bound`, which counts whole places."""
        if not bound:
            return 0
        low = min(max(0, bound - self._spread), len(self))
        high = min(bound, len(self))
        return low + int(np.count_nonzero(self._keys(low, high) < np.uint64(bound << _FRACTION_BITS)))

    def _emitted(self, block: int) -> tuple[int, list[int], list[int], list[int]]:
        """Return the number of the first emission of a block, and piece, segment and step of each of its emissions in order."""
        low, high = block * _BLOCK, (block + 1) * _BLOCK
        first = min(max(0, low - self._spread), len(self))
        keys = self._keys(first, min(high, len(self)))
        inside = np.flatnonzero((keys >= np.uint64(low << _FRACTION_BITS)) & (keys < np.uint64(high << _FRACTION_BITS)))
        places = first + inside[np.argsort(keys[inside], kind="stable")]
        piece = np.searchsorted(self._places, places, side="right") - 1
        steps = self._start[piece] + (places - self._places[piece])
        return self._before(low), piece.tolist(), self._segment[piece].tolist(), steps.tolist()

    def emitted(self, emission: int) -> tuple[int, int, int]:
        """Return piece, segment and step of what comes out at an emission in [0, len(lane))."""
        block = emission // _BLOCK  # as many have come out before a block as it has places before it, or up to `spread` fewer
        while True:
            first, pieces, segments, steps = self._block(block)
            at = emission - first
            if at < len(pieces):
                return pieces[at], segments[at], steps[at]
            block += 1

    def settled(self, emission: int) -> int:
        """Return a place before which every sample has come out when that emission comes."""
        return max(0, emission - 2 * self._spread)


def lane_count(clips: Clips, least: int) -> int:
    """Return in how many lanes clips are best dealt: at least so many, and so that all of them hold equally many blocks of `ALIGN_STEPS` steps.

    A lane that is longer than the others would be read alone at the end of the epoch, and its batches would be of one clip.
    """
    blocks = int(clips.blocks.sum())
    return max(1, -(-blocks // max(1, blocks // least)))


class EpochOrder:
    """The order of one epoch of some clips.

    The permuted clips are cut into lanes of equally many blocks, on multiples of `ALIGN_STEPS` steps, so that no group of pictures of our own videos is decoded in two
    lanes. Where lanes are long, blocks that an episode's end cuts short add up, and the decoding that a cut in mid-group costs does not: there they are cut at exact numbers of samples.

    Args:
        clips: the clips.
        seed, epoch: of the order.
        lanes: in how many lanes they are dealt.
        spread: see `Shuffle`.
        capped: (C,) bool, clips of which only the first come to their turn, up to `cap` samples of the epoch; None for none.
    """

    def __init__(self, clips: Clips, seed: int, epoch: int, lanes: int, spread: int, capped: Array | None = None, cap: int = 0) -> None:
        self._clips, self._spread = clips, spread
        count = len(clips)
        require(count < 1 << 32, f"clips: must be fewer than 2**32, got {count}")
        # The upper half of each hash with the clip's number below it: distinct, so that sorting the numbers alone permutes the clips.
        low = np.uint64((1 << 32) - 1)
        keys = (hash64(seed, _PERMUTE, epoch, np.arange(count)) & ~low) | np.arange(count, dtype=np.uint64)
        self._order = (np.sort(keys) & low).astype(np.int64)
        lengths = clips.lengths[self._order]
        if capped is not None:
            those = capped[self._order]
            self._order = self._order[~those | (np.cumsum(np.where(those, lengths, 0)) <= cap)]
            lengths = clips.lengths[self._order]
        ends = np.cumsum(lengths)
        self.samples = int(ends[-1]) if len(ends) else 0
        cut_clip, cut_sample = self._cuts(lanes, ends, lengths)
        # Which lane gets which run turns with the epoch: where there are fewer clips than lanes, none stays empty for ever.
        shift = int(hash64(seed, _DEAL, epoch)) % lanes
        self._run = np.roll(np.arange(lanes), shift)  # of each lane
        self._cut_clip, self._cut_sample = cut_clip, cut_sample  # (L + 1,) where runs begin: the clip, and the sample counted over all clips
        self._begins = ends - lengths
        self.lengths = np.diff(cut_sample)[self._run]  # (L,) samples of each lane
        self._turn = hash64(seed, _TURN, epoch, np.arange(lanes))  # of each lane
        self._late = hash64(seed, _SPREAD, epoch, np.arange(lanes))
        self._lanes: dict[int, Lane] = {}

    def _cuts(self, lanes: int, ends: Array, lengths: Array) -> tuple[Array, Array]:
        """Return where the runs of the lanes begin, (L + 1,) each: the place of the clip in the order, and the sample counted over all clips."""
        blocks = self._clips.blocks[self._order]
        block_ends = np.cumsum(blocks)
        total = int(block_ends[-1]) if len(blocks) else 0
        each = -(-total // lanes)
        if each > LONG_LANE:
            samples = self.samples * np.arange(lanes + 1) // lanes
            return np.searchsorted(ends, samples, side="right"), samples
        cuts = np.minimum(np.arange(lanes + 1) * each, total)
        clip = np.searchsorted(block_ends, cuts, side="right")
        inside = clip < len(blocks)
        at = np.minimum(clip, max(0, len(blocks) - 1))
        if not len(blocks):
            return clip, np.zeros(lanes + 1, np.int64)
        _, start, _ = self._clips.bounds(self._order[at])
        block = cuts - (block_ends[at] - blocks[at])  # of the clip
        step = np.maximum(start, (start // ALIGN_STEPS + block) * ALIGN_STEPS)
        return clip, np.where(inside, ends[at] - lengths[at] + step - start, self.samples)

    def lane(self, number: int) -> Lane:
        """Return a lane by number."""
        if number not in self._lanes:
            run = int(self._run[number])
            first, last = int(self._cut_sample[run]), int(self._cut_sample[run + 1])
            clips = np.arange(self._cut_clip[run], min(int(self._cut_clip[run + 1]) + 1, len(self._order)))
            segment, start, stop = self._clips.bounds(self._order[clips])
            begins = self._begins[clips]
            low, high = np.maximum(first - begins, 0), np.minimum(last - begins, stop - start)
            kept = high > low
            self._lanes[number] = Lane(segment[kept], (start + low)[kept], (start + high)[kept], int(self._turn[number]), self._late[number], self._spread)
        return self._lanes[number]
