"""The files behind the episodes of a mixture, opened once and kept for a while: a process's own view of the stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from dataengine.core.arrays import Array, read_only
from dataengine.core.cached_objects import CachedObjects
from dataengine.core.errors import EpisodePurged, StoreError
from dataengine.core.kept import Kept
from dataengine.core.labels import Labels
from dataengine.core.objects import Objects
from dataengine.loaders.native import NOT_IN_ORDER, NativeStream
from dataengine.loaders.opened import Opened
from dataengine.loaders.picture_source import ArrayPictures, ItemPictures, PictureSource, Tally, VideoPictures
from dataengine.store import layout
from dataengine.store.array_reader import ArrayReader
from dataengine.store.arrow_numpy import numbers, plain, present
from dataengine.store.damage import naming_damage
from dataengine.store.labels import LabelsFile, label_key
from dataengine.store.media import read_index
from dataengine.store.parquet import table_of
from dataengine.store.row import Row
from dataengine.store.steps import StepsFile
from dataengine.store.stored_streams import array_key, media_of, read_items
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex

SHARDS = 256
ENTRIES = 4096  # of shards' indexes: some 2 KB each
INDEX_BYTES = 96 << 20  # of the frame indexes of whole films
READER_FRAMES = 1 << 20  # of the readers of episodes: some 100 B each
STEPS_BYTES = 96 << 20


@dataclass(frozen=True, eq=False)
class EpisodeSteps:
    """What the fields need of an episode's trajectory: `t_ns` (T,) or None, numbers (T, D) with valid (T,) or None, frames (T,) with -1 for none."""

    count: int
    t_ns: Array | None
    numbers: Mapping[str, tuple[Array, Array | None]]
    frames: Mapping[str, Array]

    @property
    def bytes(self) -> int:
        """Return roughly what it takes in memory."""
        return 256 + sum(values.nbytes for values, _ in self.numbers.values()) + sum(frames.nbytes for frames in self.frames.values()) + 8 * self.count


class ShardIndex:
    """A shard's index by stream and ordinal."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        key = f"{prefix}/{layout.INDEX}"
        with naming_damage(objects, key, "a shard index"):
            table = table_of(objects.get(key))
            ordinals, streams = table["ordinal"].to_pylist(), table["stream"].to_pylist()
            self._row = {(stream, ordinal): at for at, (stream, ordinal) in enumerate(zip(streams, ordinals, strict=True))}
            self._columns = {name: table[name].combine_chunks() for name in table.column_names}

    def entry(self, stream: str, ordinal: int) -> Row | None:
        """Return where a stream of an episode lies, None where the episode lacks it."""
        at = self._row.get((stream, ordinal))
        return None if at is None else {name: column[at].as_py() for name, column in self._columns.items()}


class EpisodeFiles:
    """Opens what the fields need of episodes.

    Args:
        opened: the mixture.
        numbers, pictures: all columns that are read as numbers, and as pictures or texts.
    """

    def __init__(self, opened: Opened, numbers: Iterable[str], pictures: Iterable[str], timed: bool) -> None:
        self.opened = opened
        self._numbers, self._pictures = tuple(numbers), tuple(pictures)
        self._wanted = (*self._numbers, *self._pictures, *(("t_ns",) if timed else ()))
        self._indexes = Kept(SHARDS)
        self._entries = Kept(ENTRIES)
        self._tables = Kept(SHARDS, StepsFile.close)
        self._steps = Kept(STEPS_BYTES)
        self._native = Kept(SHARDS)
        self._labels = Kept(SHARDS, LabelsFile.close)
        self._films = Kept(INDEX_BYTES)
        self._readers = Kept(READER_FRAMES, lambda made: made[0].close())
        self._decoders: dict[tuple[Any, ...], Any] = {}
        self._scratch: dict[tuple[int, ...], Array] = {}
        self.tally = Tally()

    def close(self) -> None:
        """Close every file."""
        self._readers.clear()
        self._tables.clear()
        self._labels.clear()

    def place(self, episode: int) -> tuple[int, str, str, int]:
        """Return part, dataset, shard and ordinal of an episode."""
        part, local = self.opened.part_of(episode)
        table = self.opened.tables[part]
        return part, self.opened.parts[part].dataset, table.text("shard", int(table.arrays["shard"][local])), int(table.arrays["ordinal"][local])

    def features(self, episode: int) -> tuple[int, str]:
        """Return the part of an episode and the digest of its feature document."""
        part, local = self.opened.part_of(episode)
        table = self.opened.tables[part]
        return part, table.text("features", int(table.arrays["features"][local]))

    def entry(self, episode: int, stream: str) -> Row | None:
        """Return where a stream of an episode lies, None where it lacks it."""
        return self._entries.get((episode, stream), lambda: self._find_entry(episode, stream))

    def _find_entry(self, episode: int, stream: str) -> Row | None:
        part, dataset, shard, ordinal = self.place(episode)
        prefix = layout.shard_prefix(dataset, shard)
        index = self._indexes.get((part, shard), lambda: ShardIndex(self.opened.objects[part], prefix))
        return index.entry(stream, ordinal)

    def steps(self, episode: int) -> EpisodeSteps:
        """Return what is needed of an episode's trajectory."""
        return self._steps.get(episode, lambda: self._read_steps(episode), lambda steps: steps.bytes)

    def _read_steps(self, episode: int) -> EpisodeSteps:
        part, dataset, shard, ordinal = self.place(episode)
        objects, key = self.opened.objects[part], layout.steps_key(dataset, shard)
        with naming_damage(objects, key, "trajectories"):
            file = self._tables.get((part, shard), lambda: StepsFile(objects, key))
            names = [name for name in self._wanted if name in file.names]
            table = file.table(ordinal, ["step", *names])
            found, frames = {}, {}
            for name in names:
                column = table[name].combine_chunks()
                there = present(column)
                if name == "t_ns" or not there.any():
                    continue
                if name in file.shapes:
                    values = numbers(column).reshape(len(there), -1)
                    found[name] = read_only(values), None if there.all() else read_only(there)
                else:
                    frames[name] = read_only(plain(column, -1))
            times = table["t_ns"] if "t_ns" in names else None
            t_ns = None if times is None or times.null_count else plain(times.combine_chunks())
        if len(table) != self._count(episode):
            raise self._changed(episode, len(table))
        return EpisodeSteps(len(table), t_ns, found, frames)

    def _count(self, episode: int) -> int:
        part, local = self.opened.part_of(episode)
        return int(self.opened.tables[part].arrays["steps"][local])

    def _changed(self, episode: int, found: int) -> StoreError:
        where = f"{self.opened.parts[self.opened.part_of(episode)[0]].address}: episode {self.opened.episode_id(episode)}"
        if found == 0:
            return EpisodePurged(f"{where}: was purged since it was listed; open the loader again")
        return StoreError(f"{where}: expected {self._count(episode)} steps as the catalog says, found {found}; restore the steps file from a copy")

    def pictures(self, episode: int, stream: str, colour: bool, exact: bool) -> PictureSource | None:
        """Return the pictures of a camera of an episode, None where it lacks it.

        Without `colour`, grey video gives its sample values as they are coded; `exact` pictures (depth, masks) are scaled without mixing values.
        """
        entry = self.entry(episode, stream)
        if entry is None:
            return None
        part, dataset, shard, _ = self.place(episode)
        objects = self.opened.objects[part]
        row = {"dataset": dataset, "shard": shard}
        where = f"{self.opened.episode_id(episode)}: {stream}"
        if entry["kind"] == "items":
            items = read_items(objects, array_key(row, entry), entry).data
            return ItemPictures(items, where, exact)  # type: ignore[arg-type]
        if entry["kind"] == "array":
            return ArrayPictures(ArrayReader(objects, f"{array_key(row, entry)}/values"), int(entry["row_start"]), where, exact)
        media, track = media_of(row, entry), int(entry["track"])

        first, count = int(entry["first_frame"]), int(entry["frames"])

        def cut() -> tuple[FrameReader, int]:
            return self._readers.get(
                (part, media, track, first), lambda: self._open_video(objects, (part, media, track), first, count), lambda made: 20 + len(made[0])
            )

        def reader() -> FrameReader:
            return cut()[0]

        fetch = partial(objects.prefetch, media) if isinstance(objects, CachedObjects) else None
        grey = not colour and str(reader().index.facts["pix_fmt"]).startswith("gray")
        return VideoPictures(reader, first - cut()[1], grey, fetch, self._scratch, exact, self.tally)

    def _open_video(self, objects: Objects, film: tuple[int, str, int], first: int, count: int) -> tuple[FrameReader, int]:
        """Return a reader of an episode's part of a film, and which frame of the film is its first."""
        _, media, track = film
        index = self._films.get(film, lambda: FrameIndex.from_columns(*read_index(objects, media, track)), lambda made: 64 * len(made))
        local = objects.local(media)
        with naming_damage(objects, media, "a video file as its index describes it"):
            part, before = index.part(first, count)
            return FrameReader(str(local) if local is not None else objects.open(media), part, media, self._decoders), before

    def native(self, episode: int, stream: str) -> NativeStream | None:
        """Return a stream of an episode on its own clock, None where the episode lacks it."""
        return self._native.get((episode, stream), lambda: self._open_native(episode, stream))

    def _open_native(self, episode: int, stream: str) -> NativeStream | None:
        entry = self.entry(episode, stream)
        if entry is None:
            return None
        part, dataset, shard, _ = self.place(episode)
        steps_back = bool(self.opened.tables[part].arrays["steps_back"][episode - int(self.opened.first_episode[part])])
        row = {"episode_id": self.opened.episode_id(episode), "dataset": dataset, "shard": shard, "flags": [NOT_IN_ORDER] if steps_back else []}
        return NativeStream(self.opened.objects[part], row, entry)

    def labels(self, episode: int, label_set: str, column: str) -> Labels | None:
        """Return the labels that a set has of a column of an episode, None where it has none."""
        part, local = self.opened.part_of(episode)
        table, number = self.opened.tables[part], self.opened.parts[part].label_sets.index(label_set)
        address = table.text(f"address{number}", int(table.arrays[f"address{number}"][local]))
        if not address:
            return None
        objects = self.opened.objects[part]
        key, ordinal = label_key(label_set, address)
        with naming_damage(objects, key, "labels"):
            file = self._labels.get((part, key), lambda: LabelsFile(objects, key))
            if column not in file.about.columns:
                return None
            return file.labels(ordinal, self.opened.episode_id(episode), (column,))

    def texts(self, episode: int, stream: str, rows: Array) -> list[str]:
        """Return texts of a stream by row, "" for -1."""
        entry = self.entry(episode, stream)
        if entry is None or entry["kind"] != "items":
            return [""] * len(rows)
        part, dataset, shard, _ = self.place(episode)
        items = read_items(self.opened.objects[part], array_key({"dataset": dataset, "shard": shard}, entry), entry).data
        return [bytes(items[row]).decode("utf-8", "replace") if row >= 0 else "" for row in rows.tolist()]
