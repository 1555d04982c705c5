"""What many episodes of a store share, kept open while they are read one after the other: an episode of a second then costs little more than its pictures."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.errors import CorruptStore
from dataengine.core.kept import Kept
from dataengine.core.trajectory import Trajectory
from dataengine.schema.arrow import index_schema
from dataengine.store import layout
from dataengine.store.damage import naming_damage
from dataengine.store.parquet import table_of
from dataengine.store.row import Row
from dataengine.store.seen_pictures import frame_reader, is_video, pictures
from dataengine.store.steps import StepsFile
from dataengine.store.store import Store, of_row
from dataengine.store.stored_streams import media_of
from dataengine.video.decode import FrameReader

SHARDS, FILMS, FEATURES = 4, 8, 64  # kept at once


class OpenShards:
    """Episodes of a version of a store, read by the rows of its catalog, best in the order in which they lie in their shards.

    It belongs to one thread at a time, and is closed after use.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._columns = Kept(FEATURES)
        self._indexes = Kept(SHARDS)
        self._steps = Kept(SHARDS, StepsFile.close)
        self._last = Kept(1)
        self._films = Kept(FILMS, lambda found: found[0].close())

    def columns(self, row: Row) -> dict[str, Column]:
        """Return the columns of an episode by stream name."""
        found: dict[str, Column] = self._columns.get((row["dataset"], row["features"]), lambda: self.store.columns(row))
        return found

    def trajectory(self, row: Row, names: Collection[str] | None = None) -> Trajectory:
        """Return an episode on its control clock: all of its columns, or those named; raise EpisodePurged or CorruptStore."""
        self.store.require_readable(row)
        asked = (row["dataset"], row["shard"], row["ordinal"], None if names is None else frozenset(names))
        found: Trajectory = self._last.get(asked, lambda: self._read(row, names))
        return found

    def _read(self, row: Row, names: Collection[str] | None) -> Trajectory:
        key = layout.steps_key(row["dataset"], row["shard"])
        with naming_damage(self.store.objects, key, "trajectories"):
            file: StepsFile = self._steps.get(key, lambda: StepsFile(self.store.objects, key))
            return of_row(row, file.trajectory(int(row["ordinal"]), self.columns(row), names))

    def entry(self, row: Row, stream: str) -> Row:
        """Return where a stream of an episode lies, a row of its shard's index; raise CorruptStore."""
        key = f"{layout.shard_prefix(row['dataset'], row['shard'])}/{layout.INDEX}"
        found: Row | None = self._indexes.get(key, lambda: self._index(key)).get((stream, row["ordinal"]))
        if found is None:
            raise CorruptStore(
                f"{self.store.objects.url}/{key}: expected the stream {stream!r} of episode {row['episode_id']}, found none; restore it from a copy"
            )
        return found

    def _index(self, key: str) -> dict[tuple[str, int], Row]:
        with naming_damage(self.store.objects, key, "a shard index"):
            table = table_of(self.store.objects.get(key)).select(index_schema().names)
            return {(entry["stream"], entry["ordinal"]): entry for entry in table.to_pylist()}

    def pictures(self, row: Row, stream: str, frames: Array) -> Iterator[Array]:
        """Yield the picture of each of some frames of a camera, in their order: see `seen_pictures.pictures`."""
        entry = self.entry(row, stream)
        if not is_video(entry):
            return pictures(self.store.objects, row, entry, frames)
        media, track = media_of(row, entry), int(entry["track"])
        film: tuple[FrameReader, bool] = self._films.get((media, track), lambda: frame_reader(self.store.objects, row, entry, f"{stream} in {media}"))
        return pictures(self.store.objects, row, entry, frames, film)

    def __enter__(self) -> OpenShards:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go what is open."""
        for kept in (self._steps, self._films, self._indexes, self._columns, self._last):
            kept.clear()
