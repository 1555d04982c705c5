"""One topic of a recording as streams: its messages whole, and beside them its numbers, pictures, texts and transforms."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Camera, Column
from dataengine.core.digest import digest_bytes
from dataengine.core.problem import Problem
from dataengine.core.stream import Buffer, Items, Rows
from dataengine.sources.messages.fields import Decoded, Decoder, MessageSchema, SchemaProblem
from dataengine.sources.messages.json_messages import JsonDecoder, parse_json
from dataengine.sources.messages.numbers import NumberStreams
from dataengine.sources.messages.picture_streams import PictureStream
from dataengine.sources.messages.pictures import picture_kind
from dataengine.sources.messages.protobuf_messages import ProtobufDecoder
from dataengine.sources.messages.ros_messages import RosDecoder
from dataengine.sources.messages.ros_transforms import Frames, ParsedTransforms, Transformer, TransformsDecoder, is_transforms
from dataengine.sources.messages.stream_names import StreamNames, camera_name, topic_name

MAX_FRAME_PAIRS = 256

_CAMERA_INFOS = ("sensor_msgs/CameraInfo", "foxglove/CameraCalibration", "foxglove_msgs/CameraCalibration")
# What these say is about the recording, not about the robot: their numbers are streams, and stay out of trajectories.
_NOT_IN_STEPS = (*_CAMERA_INFOS, "rcl_interfaces/Log", "rosgraph_msgs/Log", "rosgraph_msgs/Clock", "foxglove/Log")
_FRAME_IDS = ("header.frame_id", "frame_id")
_TEXTS = (*_FRAME_IDS, "distortion_model", "encoding", "data")


def decoder_of(encoding: str, schema: MessageSchema | None) -> Decoder | None:
    """Return what reads messages of an encoding and schema, None for a pair that is kept as payload only; raise SchemaProblem."""
    pair = (encoding, schema.encoding if schema is not None else "")
    picture = "data" if schema is not None and picture_kind(schema) else None
    texts = tuple(path for path in _TEXTS if path != "data" or (schema is not None and schema.message_name == "std_msgs/String"))
    if schema is not None and pair in (("cdr", "ros2msg"), ("ros1", "ros1msg")):
        return RosDecoder(schema, encoding == "cdr", picture, texts)
    if schema is not None and pair == ("protobuf", "protobuf"):
        return ProtobufDecoder(schema, picture, texts)
    if encoding == "json" and pair[1] in ("jsonschema", ""):
        return JsonDecoder(schema, picture, texts)
    return None


def transforms_of(encoding: str, schema: MessageSchema | None) -> Transformer | None:
    """Return what reads lists of transforms, None for messages that are none; raise SchemaProblem."""
    if schema is None or not is_transforms(schema):
        return None
    if encoding in ("cdr", "ros1"):
        return TransformsDecoder(schema, encoding == "cdr")
    if encoding == "protobuf":
        return ParsedTransforms(ProtobufDecoder(schema).parse)
    return ParsedTransforms(parse_json) if encoding == "json" else None


class _Stamps:
    """What the header stamps of a stream were: whether every row has one, the earliest, and how far they are from the log times."""

    def __init__(self) -> None:
        self.every = True
        self.earliest: int | None = None

    def note(self, stamps_ns: Array) -> None:
        self.every = self.every and bool((stamps_ns != 0).all())
        if len(stamps_ns):
            least = int(stamps_ns.min())
            self.earliest = least if self.earliest is None else min(self.earliest, least)


class Topic:
    """Turns the messages of one topic (of one schema and encoding) into rows.

    `rows` takes batches in the order of the recording. Payloads are kept byte for byte: whole in the stream `messages`, or without a picture that stands in
    the camera's stream (see `messages.pictures`). Everything else is a view of them, laid out for reading.

    Args:
        topic: the topic's name as recorded.
        encoding: of its messages: "cdr", "ros1", "protobuf", "json", ...
        schema: its schema, None where the recording has none.
        names: the names of the episode's streams.

    `clocks` of `rows` must hold "log"; a header stamp becomes the clock "stamp".
    """

    def __init__(self, topic: str, encoding: str, schema: MessageSchema | None, names: StreamNames) -> None:
        self.topic, self.encoding, self.schema = topic, encoding, schema
        self._names = names
        identity = digest_bytes(*(part.encode() for part in (encoding, *((schema.name, schema.encoding) if schema else ()))), schema.data if schema else b"")
        self.messages = names.take(topic_name(topic), f"{topic}|{identity}")
        # A second schema under one topic makes streams of its own.
        owner = topic if self.messages == topic_name(topic) else f"{topic}|{identity}"
        self._numbers = NumberStreams(topic, owner, self.messages, names)
        self._decoder: Decoder | None = None
        self._transforms: Transformer | None = None
        self._pictures: PictureStream | None = None
        self._pairs: dict[Frames, tuple[str, _Stamps]] = {}
        self._pairs_left_out = 0
        self._static = topic.rstrip("/").endswith("tf_static")
        self._text: str | None = None
        self._frame: bytes | None = None
        self._frame_changes = False
        self._stamped: bool | None = None
        self._stamps = _Stamps()
        self._bounds: dict[str, int] = {}
        self._failed = 0
        self._reason = ""
        self.count = 0
        self.camera_info: dict[str, Any] | None = None
        self._camera_info_changes = False
        self._problem: Problem | None = None
        try:
            self._transforms = transforms_of(encoding, schema)
            if self._transforms is None:
                self._decoder = decoder_of(encoding, schema)
                if self._decoder is None:
                    raise SchemaProblem(f"messages encoded as {encoding!r} with a schema in {schema.encoding if schema else ''!r} are not taken apart")
        except SchemaProblem as error:
            self._problem = Problem("schema_not_read", f"topic {topic!r}: {error}; its messages are kept whole, without columns", where=topic, severity="info")
        kind = picture_kind(schema) if schema is not None and self._decoder is not None else None
        if kind is not None and (encoding, kind) != ("json", "raw"):
            wanted = f"observation.images.{camera_name(topic)}"
            stream = names.take(wanted, owner)
            if stream != wanted and stream != names.targets.get(owner):
                stream = names.take(f"observation.images.{self.messages.replace('.', '_')}", f"{owner} picture")
            self._pictures = PictureStream(topic, stream, self.messages, kind)

    def rows(self, payloads: Sequence[Buffer], clocks: Mapping[str, Array]) -> Iterator[Rows]:
        """Yield the rows of one batch of messages; `clocks` are (n,) int64 ns ("log", "publish")."""
        self.count += len(payloads)
        for name, stamps in clocks.items():
            self._bounds[name] = min(self._bounds.get(name, int(stamps[0])), int(stamps.min()))
        if self._transforms is not None:
            yield Rows(self.messages, Items(payloads, self.encoding), clocks)
            yield from self._transform_rows(self._transforms, payloads, clocks)
            return
        if self._decoder is None:
            yield Rows(self.messages, Items(payloads, self.encoding), clocks)
            return
        decoded = self._decoder.decode(payloads)
        self._note_failed(decoded.failed, self.count - len(payloads))
        clocks = dict(clocks)
        if self._stamped is None:
            self._stamped = decoded.stamp_ns is not None
        if self._stamped:
            stamp_ns = np.zeros(len(payloads), dtype=np.int64) if decoded.stamp_ns is None else decoded.stamp_ns
            clocks["stamp"] = stamp_ns
            self._stamps.note(stamp_ns)
        self._note_frame(decoded)
        beside = {name: stamps for name, stamps in clocks.items() if name != "publish"}
        kept: Sequence[Buffer] = payloads
        encodings: str | list[str] = self.encoding
        pictures: Rows | None = None
        if self._pictures is not None:
            kept, encodings, pictures = self._pictures.split(payloads, self.encoding, decoded, beside)
        yield Rows(self.messages, Items(kept, encodings), clocks)
        if pictures is not None:
            yield pictures
        if self._pictures is None:
            self._note_camera_info(decoded)
            yield from self._numbers.rows(decoded, beside)
            yield from self._text_rows(decoded, beside)

    def _note_failed(self, failed: Mapping[int, str], first: int) -> None:
        if failed and not self._failed:
            row = min(failed)
            self._reason = f"message {first + row}: {failed[row]}"
        self._failed += len(failed)

    def _note_frame(self, decoded: Decoded) -> None:
        for path in _FRAME_IDS:
            for _, frame in decoded.texts.get(path, ()):
                if self._frame is None:
                    self._frame = frame
                elif frame != self._frame:
                    self._frame_changes = True
                    return

    def _note_camera_info(self, decoded: Decoded) -> None:
        if self.schema is None or self.schema.message_name not in _CAMERA_INFOS or self._camera_info_changes:
            return
        models = dict(decoded.texts.get("distortion_model", ()))
        for part in decoded.numbers.get("k", decoded.numbers.get("K", [])):
            values = {tuple(row) for row in part.values.reshape(len(part.rows), -1).tolist()}
            coefficients = {
                tuple(row) for found in decoded.numbers.get("d", decoded.numbers.get("D", [])) for row in found.values.reshape(len(found.rows), -1).tolist()
            }
            model = models.get(int(part.rows[0]), b"").decode("utf-8", "replace")
            if len(values) > 1 or len(coefficients) > 1:
                self._camera_info_changes, self.camera_info = True, None
                return
            info = {"k": next(iter(values)), "d": next(iter(coefficients), ()), "model": model, "frame": self.frame}
            if self.camera_info is not None and (info["k"], info["d"], info["model"]) != (
                self.camera_info["k"],
                self.camera_info["d"],
                self.camera_info["model"],
            ):
                self._camera_info_changes, self.camera_info = True, None
                return
            self.camera_info = info

    def _text_rows(self, decoded: Decoded, clocks: Mapping[str, Array]) -> Iterator[Rows]:
        if self.schema is None or self.schema.message_name != "std_msgs/String" or not decoded.texts.get("data"):
            return
        found = sorted(decoded.texts["data"])
        self._text = self._text or self._names.take(f"{self.messages}.data", f"{self.topic}:data")
        at = np.array([row for row, _ in found])
        texts = [text.decode("utf-8", "replace").encode() for _, text in found]
        yield Rows(self._text, Items(texts, "utf-8"), {name: stamps[at] for name, stamps in clocks.items()})

    def _transform_rows(self, decoder: Transformer, payloads: Sequence[Buffer], clocks: Mapping[str, Array]) -> Iterator[Rows]:
        transforms, failed = decoder.decode(payloads)
        self._note_failed(failed, self.count - len(payloads))
        for frames, found in transforms.items():
            if frames not in self._pairs:
                if len(self._pairs) >= MAX_FRAME_PAIRS:
                    self._pairs_left_out += len(found.rows)
                    continue
                wanted = "tf." + ".".join(topic_name(frame).replace(".", "_") for frame in frames)
                self._pairs[frames] = (self._names.take(wanted, f"{self.topic} {frames}"), _Stamps())
            stream, stamps = self._pairs[frames]
            stamps.note(found.stamp_ns)
            log = {name: times[found.rows] for name, times in clocks.items() if name == "log"}
            yield Rows(stream, found.poses, {**log, "stamp": found.stamp_ns})

    @property
    def frame(self) -> str | None:
        """Return the frame_id that all messages share, None where there is none or it changes."""
        return self._frame.decode("utf-8", "replace") if self._frame and not self._frame_changes else None

    @property
    def log_start_ns(self) -> int:
        """Return the earliest log time of its messages so far; there must be one."""
        return self._bounds["log"]

    @property
    def is_picture(self) -> bool:
        """Whether the topic's messages hold pictures."""
        return self._pictures is not None

    def columns(self, camera: Camera | None = None) -> dict[str, Column]:
        """Return the columns of all streams that had rows; `camera` is what is known of the camera of a picture topic."""
        found: dict[str, Column] = {}
        extra: dict[str, Any] = {"topic": self.topic}
        if self.schema is not None:
            extra["schema"] = schema_as_json(self.schema)
        if self._pictures is not None:
            column = self._pictures.column(camera or Camera())
            if column is not None:
                found[column.name] = column
                extra["picture"] = self._pictures.rule()
        found[self.messages] = Column(self.messages, kind="message", dtype="bytes", encoding=self.encoding, steps=False, extra=extra)
        if self._decoder is not None:
            beside = self.schema is not None and self.schema.message_name in _NOT_IN_STEPS
            numbers = self._numbers.columns(self._decoder.facts, self.frame)
            found.update({name: replace(column, steps=False) if beside else column for name, column in numbers.items()})
        if self._text is not None:
            found[self._text] = Column(self._text, kind="text", dtype="string", encoding="utf-8", extra={"topic": self.topic, "field": "data"})
        for frames, (stream, _) in self._pairs.items():
            found[stream] = Column(
                stream,
                dtype="float64",
                shape=(7,),
                dims=("x", "y", "z", "qx", "qy", "qz", "qw"),
                frame=frames[0],
                extra={"topic": self.topic, "parent": frames[0], "child": frames[1], "units": ["m"] * 3 + ["1"] * 4},
            )
        return found

    def stamp_offset_ns(self) -> int | None:
        """Return how far the header stamps are from the log time, earliest to earliest; None where the topic goes by the log.

        It does where a message has no stamp (or zero). Static transforms hold for all time: their stamps say nothing.
        """
        kinds = [stamps for _, stamps in self._pairs.values()] or [self._stamps]
        if self._static or not all(stamps.every and stamps.earliest is not None for stamps in kinds):
            return None
        return min(stamps.earliest for stamps in kinds if stamps.earliest is not None) - self._bounds["log"]

    def clock_of(self, columns: Mapping[str, Column], by_log: bool) -> dict[str, tuple[str, int]]:
        """Return for each stream its clock and the earliest time on it: the header stamp, or the log where `by_log` or nothing else is there."""
        pairs = dict(self._pairs.values())
        found = {}
        for stream in columns:
            stamps = pairs.get(stream, self._stamps)
            if by_log or stamps.earliest is None:
                found[stream] = ("log", self._bounds["log"])
            else:
                found[stream] = ("stamp", stamps.earliest)
        return found

    def problems(self) -> Iterator[Problem]:
        """Yield what was found wrong in the topic's messages."""
        if self._problem is not None:
            yield self._problem
        if self._failed:
            yield Problem(
                "undecodable_messages",
                f"topic {self.topic!r}: {self._failed} of {self.count} messages do not fit their schema and are kept whole, without columns ({self._reason})",
                where=self.topic,
            )
        if self._frame_changes:
            yield Problem("frame_changes", f"topic {self.topic!r}: frame_id is not the same in all messages", where=self.topic, severity="info")
        if self._camera_info_changes:
            yield Problem("intrinsics_change", f"topic {self.topic!r}: the intrinsics change; they stand in columns only", where=self.topic, severity="info")
        if self._pairs_left_out:
            yield Problem(
                "many_frames", f"topic {self.topic!r}: more than {MAX_FRAME_PAIRS} pairs of frames; the rest stands in the payload only", where=self.topic
            )
        if self._pictures is not None:
            yield from self._pictures.problems()
        yield from self._numbers.problems()


def schema_as_json(schema: MessageSchema) -> dict[str, str]:
    """Return a schema for a column's `extra`: its text, or its bytes in base64."""
    found = {"name": schema.name, "encoding": schema.encoding}
    if schema.encoding != "protobuf":
        try:
            return {**found, "text": schema.data.decode("utf-8")}
        except UnicodeDecodeError:
            pass
    return {**found, "base64": base64.b64encode(schema.data).decode()}
