"""The members of WebDataset samples: what the steps of a stored episode hold, as JPEG, PNG, MP4, NPY and JSON.

Everything is read once, from the first step to the last, and a camera is decoded as it is needed, so that an episode may be of any length.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.column import LOSSLESS_KINDS, Column
from dataengine.core.errors import BadRecording
from dataengine.core.pictures import picture_header
from dataengine.core.trajectory import Trajectory
from dataengine.store import layout
from dataengine.store.copying import as_colour, nearest_seen
from dataengine.store.exact_frames import encode_png, png_can_hold
from dataengine.store.row import Row
from dataengine.store.seen_pictures import decode_item, encoded_pictures, pictures
from dataengine.store.steps import read_steps
from dataengine.store.store import Store
from dataengine.store.stored_streams import StoredItems, array_key, read_items
from dataengine.video.encode import EncodeConfig, VideoWriter
from dataengine.video.fit import Size, fitted, fitted_camera

By = Literal["step", "clip"]
TEXT = "utf-8"
CLIP = EncodeConfig(crf=20, gop=10)
UNTIMED_NS = NS_PER_S // 30  # from frame to frame of a clip whose steps have no times
STEP_DIGITS = 6


@dataclass(frozen=True)
class SampleForm:
    """How steps become samples: one a step or one for up to `clip_steps` of them; pictures as they are or brought to a size; the quality of new JPEGs."""

    by: By = "step"
    size: Size | None = None
    quality: int = 95
    clip_steps: int = 100


def npy(values: Array) -> bytes:
    """Return an array as the bytes of a `.npy` file (format 1.0)."""
    sink = io.BytesIO()
    np.lib.format.write_array(sink, np.ascontiguousarray(values).reshape(values.shape), version=(1, 0), allow_pickle=False)
    return sink.getvalue()


def jpeg(picture: Array, quality: int) -> bytes:
    """Return a picture (H, W, 3) uint8 RGB as JPEG."""
    import cv2

    done, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} and dtype {picture.dtype} cannot be encoded as JPEG")
    return bytes(data.data)


def exported(column: Column, size: Size | None) -> Column:
    """Return a column as its samples are: of a camera that is brought to a size, with that size and intrinsics to it."""
    if size is None or not column.is_camera:
        return replace(column, encoding=None) if column.is_camera else column
    height, width, *channels = column.shape or (None, None)
    camera = column.camera
    if camera is not None:
        camera = replace(camera, intrinsics_px=None) if height is None or width is None else fitted_camera(camera, height, width, size)
    return replace(column, shape=(size.height, size.width, *channels), dims=None, encoding=None, camera=camera)


@dataclass
class Features:
    """What samples hold: each column once, and the name of its members. Names are told apart without regard to case, since readers fold it."""

    columns: dict[str, Column] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def member(self, column: Column) -> str:
        """Return what a column is called in a sample."""
        if column.name not in self.members:
            wanted = name = layout.node_name(column.name).lower()
            taken, number = set(self.members.values()), 1
            while name in taken:
                name, number = f"{wanted}~{number}", number + 1
            self.members[column.name] = name
            self.columns[column.name] = column
        return self.members[column.name]


class EpisodeSamples:
    """The samples of one episode.

    Args:
        store: the version that is exported.
        row: the episode's row in the catalog.
        form: how steps become samples.
        features: gains the columns of the episode.
    """

    def __init__(self, store: Store, row: Row, form: SampleForm, features: Features) -> None:
        self.store, self.row, self.form, self.features = store, row, form, features
        columns = store.columns(row)
        self.entries = {str(entry["stream"]): entry for entry in store.index(row)}
        steps = read_steps(store.objects, layout.steps_key(row["dataset"], row["shard"]), row["ordinal"], columns)
        self.steps: Trajectory = replace(steps, rate_hz=row["rate_hz"])
        self.numbers = {name: features.member(steps.specs[name]) for name in sorted(steps.columns)}
        self.cameras = {name: features.member(steps.specs[name]) for name in sorted(steps.frames) if steps.specs[name].is_camera}
        self.texts = sorted(name for name in steps.frames if name not in self.cameras and self._is_text(name))
        features.left_out |= set(steps.frames) - self.cameras.keys() - set(self.texts)
        self._digits = max(STEP_DIGITS, len(str(max(0, steps.steps - 1))))

    def _is_text(self, name: str) -> bool:
        return self.steps.specs[name].kind == "text" and self.entries[name]["encoding"] == TEXT

    def samples(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yield (key, members by name) in order of steps.

        Raises:
            BadRecording: a picture cannot be decoded.
            CorruptStore: part of the episode is missing or damaged.
        """
        yield from self._by_step() if self.form.by == "step" else self._by_clip()

    def _key(self, step: int) -> str:
        return f"{self.row['episode_id']}_{step:0{self._digits}d}"

    def _json(self, **more: Any) -> bytes:
        row = self.row
        said = {name: row[name] for name in ("dataset", "episode_id", "origin", "action_source", "embodiment", "success", "rate_hz", "splits", "tasks")}
        document = said | {"task": (row["tasks"] or [None])[0]} | more
        return json.dumps(document, ensure_ascii=False, sort_keys=True).encode()

    def _all_texts(self) -> dict[str, dict[int, str]]:
        """Return the texts that the steps see, by column and row: each is read once."""
        found: dict[str, dict[int, str]] = {}
        for name in self.texts:
            items = read_items(self.store.objects, array_key(self.row, self.entries[name]), self.entries[name])
            assert isinstance(items.data, StoredItems)
            rows = np.unique(self.steps.frames[name])
            rows = rows[rows >= 0]
            found[name] = {row: text.decode("utf-8", "replace") for row, text in zip(rows.tolist(), items.data.of(rows), strict=True)}
        return found

    def _valid(self, name: str) -> Array:
        steps = self.steps
        return steps.valid[name] if name in steps.valid else np.ones(steps.steps, dtype=bool)

    # -- one sample a step

    def _by_step(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        steps, texts = self.steps, self._all_texts()
        cameras = {name: self._encoded(name) for name in self.cameras}
        for step in range(steps.steps):
            members: dict[str, bytes] = {}
            missing = []
            for name, member in self.numbers.items():
                if self._valid(name)[step]:
                    members[f"{member}.npy"] = npy(steps.columns[name][step])
                else:
                    missing.append(name)
            for name, member in self.cameras.items():
                if steps.frames[name][step] >= 0:
                    data, ending = next(cameras[name])
                    members[f"{member}.{ending}"] = data
                else:
                    missing.append(name)
            said = {name: texts[name][row] for name in self.texts if (row := int(steps.frames[name][step])) >= 0}
            t_ns = None if steps.t_ns is None else int(steps.t_ns[step])
            members["json"] = self._json(step=step, steps=1, t_ns=t_ns, texts=said, missing=sorted(missing))
            yield self._key(step), members

    def _encoded(self, name: str) -> Iterator[tuple[bytes, str]]:
        """Yield (bytes, ending) of a camera's picture for each step that sees one; a stored JPEG that has the size is given as it is."""
        entry, column = self.entries[name], self.steps.specs[name]
        frames = self.steps.frames[name]
        frames = frames[frames >= 0]
        if entry["kind"] != "items":
            for picture in pictures(self.store.objects, self.row, entry, frames):
                yield self._picture(picture, column)
            return
        for data, encoding in encoded_pictures(self.store.objects, self.row, entry, frames):
            header = picture_header(data)
            size = self.form.size
            fits = header is not None and (size is None or (header.height, header.width) == (size.height, size.width))
            if encoding == "jpeg" and fits and column.kind not in LOSSLESS_KINDS:
                yield data, "jpg"
            else:
                yield self._picture(decode_item(data, f"{self.row['episode_id']}: {name}"), column)

    def _fitted(self, picture: Array, column: Column) -> Array:
        colour = None if column.kind in LOSSLESS_KINDS else as_colour(picture)
        shown = picture if colour is None else colour
        return shown if self.form.size is None else fitted(shown, self.form.size, exact=colour is None)

    def _picture(self, picture: Array, column: Column) -> tuple[bytes, str]:
        shown = self._fitted(picture, column)
        if column.kind not in LOSSLESS_KINDS and shown.dtype == np.uint8 and shown.ndim == 3 and shown.shape[2] == 3:
            return jpeg(shown, self.form.quality), "jpg"
        return (encode_png(shown), "png") if png_can_hold(shown[None]) else (npy(shown), "npy")

    # -- one sample a clip

    def _by_clip(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        steps, texts, length = self.steps, self._all_texts(), self.form.clip_steps
        shown = {name: pictures(self.store.objects, self.row, self.entries[name], nearest_seen(steps.frames[name])) for name in self.cameras}
        with tempfile.TemporaryDirectory(prefix="dataengine-") as scratch:
            for first in range(0, steps.steps, length):
                rows = slice(first, min(steps.steps, first + length))
                members: dict[str, bytes] = {}
                for name, member in self.numbers.items():
                    self._put(members, member, npy(steps.columns[name][rows]), "npy", self._valid(name)[rows])
                for name, member in self.cameras.items():
                    data, ending = self._clip(name, shown[name], rows, Path(scratch) / "clip.mp4")
                    self._put(members, member, data, ending, steps.frames[name][rows] >= 0)
                said = {name: self._changes(steps.frames[name][rows], texts[name]) for name in self.texts}
                t_ns = None if steps.t_ns is None else steps.t_ns[rows].tolist()
                members["json"] = self._json(step=first, steps=rows.stop - first, t_ns=t_ns, texts=said)
                yield self._key(first), members

    def _put(self, members: dict[str, bytes], member: str, data: bytes, ending: str, valid: Array) -> None:
        """Add a column of a clip, with what of it counts where not all does; one that no step has is left out."""
        if valid.any():
            members[f"{member}.{ending}"] = data
            if not valid.all():
                members[f"{member}.valid.npy"] = npy(valid)

    def _clip(self, name: str, shown: Iterator[Array], rows: slice, path: Path) -> tuple[bytes, str]:
        """Return a camera's pictures of some steps: as video, or as an array where they must stay exact. Pictures are taken from `shown`, one a step."""
        column, steps = self.steps.specs[name], self.steps
        writer: VideoWriter | None = None
        exact: list[Array] = []
        for step in range(rows.start, rows.stop):
            picture = self._fitted(next(shown), column)
            if column.kind in LOSSLESS_KINDS or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
                exact.append(picture)
                continue
            if writer is not None and picture.shape[:2] != (writer.height, writer.width):
                found = f"{picture.shape[0]}x{picture.shape[1]} px"
                raise BadRecording(
                    f"{self.row['episode_id']}: {name}", f"pictures of {writer.height}x{writer.width} px in a clip", found, "give them one with --size"
                )
            if writer is None:
                writer = VideoWriter(path, picture.shape[1], picture.shape[0], CLIP, name)
                writer.begin()
            writer.add(picture[None], np.array([step * UNTIMED_NS if steps.t_ns is None else steps.t_ns[step]], dtype=np.int64))
        if writer is None:
            return npy(np.stack(exact)), "npy"
        writer.commit()
        writer.close()
        data = path.read_bytes()
        path.unlink()
        return data, "mp4"

    def _changes(self, rows: Array, texts: Mapping[int, str]) -> list[list[Any]]:
        """Return [step of the clip, text] wherever another text begins, null where there is none."""
        found: list[list[Any]] = []
        for step, row in enumerate(rows.tolist()):
            text = texts.get(row)
            if not found or found[-1][1] != text:
                found.append([step, text])
        return found
