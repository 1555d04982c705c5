"""What is to become of each stream of a recording, decided from what the survey saw of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.column import LOSSLESS_KINDS, Column
from dataengine.core.stream import Frames, Items, MediaFrames, Values
from dataengine.privacy.config import PrivacyConfig
from dataengine.privacy.payloads import SchemaFacts, is_opaque, message_type, schema_facts
from dataengine.privacy.picture_bytes import DECODED, channels_first
from dataengine.privacy.survey import Sight, Survey
from dataengine.privacy.words import Words

# A numeric row of bytes that is longer than this could be a picture that nobody declared.
SMALL_NUMBERS = 256
SMALLEST_PICTURE_PX = 24

Treatment = Literal["keep", "blur", "withhold", "film", "pictures", "bytes"]


@dataclass(frozen=True)
class StreamPlan:
    """What is done with one stream.

    `keep`: nothing. `blur`: its pictures are searched and blurred. `withhold`: no row of it goes on, because of `why`. `film`: kept video is
    written anew. `pictures`: what stands beside the pictures in their bytes is taken out. `bytes`: each row is looked into, with `searched` also for
    pictures that nobody searched for faces, and with `unread` emptied where nothing can read it.
    """

    treatment: Treatment
    why: str = ""
    schema: SchemaFacts | None = None
    message: str = ""
    searched: bool = False
    unread: bool = False


def _schema_of(column: Column) -> Mapping[str, Any] | None:
    schema = column.extra.get("schema")
    return schema if isinstance(schema, Mapping) else None


def _picture_like(values: Any) -> bool:
    """Whether numbers have the form of pictures that can be searched: rows of (H, W), (H, W, 1 to 4) or (1 to 4, H, W) of some size."""
    shape = values.shape[1:]
    plain = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    sides = shape[1:] if channels_first(shape) else shape[:2] if plain else ()
    return len(sides) == 2 and min(sides) >= SMALLEST_PICTURE_PX and values.dtype.kind in "uif"


def _picture_sized(shape: tuple[int, ...]) -> bool:
    """Whether rows have two sides that a picture could have, in whatever order."""
    return sum(side >= SMALLEST_PICTURE_PX for side in shape) >= 2


def _under_blur(column: Column, sight: Sight, config: PrivacyConfig, left_alone: dict[str, str]) -> StreamPlan | None:
    """Return what blurring wants of a stream, None where it wants nothing."""
    values: Values = sight.first
    if any(re.fullmatch(pattern, column.name) for pattern in config.faces.keep_streams):
        left_alone[column.name] = "named in `keep_streams`"
        return None
    if column.kind in LOSSLESS_KINDS:
        left_alone[column.name] = f"{column.kind} pictures are not searched"
        return None
    if column.kind == "audio":
        return None
    if isinstance(values, MediaFrames):
        return StreamPlan("blur")
    if isinstance(values, Frames):
        if values.pixels.dtype.kind in "uif" and (values.pixels.ndim == 3 or values.pixels.shape[-1] <= 4):
            return StreamPlan("blur")
        return StreamPlan("withhold", f"its pictures ({values.pixels.dtype} {list(values.pixels.shape[1:])}) cannot be searched for faces")
    if isinstance(values, Items):
        if column.kind == "image" or sight.encodings & set(DECODED):
            unknown = sorted(sight.encodings - set(DECODED))
            if unknown:
                return StreamPlan("withhold", f"pictures encoded as {', '.join(unknown)[:100]} cannot be searched for faces")
            return StreamPlan("blur")
        return None
    if int(np.prod(values.shape[1:], dtype=np.int64)) <= SMALL_NUMBERS:
        return None
    if _picture_like(values):
        return StreamPlan("blur")
    if column.kind == "image" or _picture_sized(values.shape[1:]):
        return StreamPlan("withhold", f"its rows ({values.dtype} {list(values.shape[1:])}) could be pictures in a form that cannot be searched for faces")
    if values.dtype.itemsize == 1 and values.dtype.kind in "iu":
        return StreamPlan("withhold", "its rows of bytes could be pictures, and cannot be searched for faces")
    return None


def _under_scrub(column: Column, sight: Sight, words: Words, facts: SchemaFacts | None, message: str) -> str | None:
    """Return which rule a whole stream falls under, None for none."""
    if column.kind in ("image", "depth", "mask", "tactile", "audio"):
        return None
    rule = words.rule_of_words([column.name, *(column.dims or ())])
    if rule is not None:
        return f"rule {rule.name}: the name of the stream or of its dimensions"
    texts = isinstance(sight.first, Items)
    rule = next((rule for part in re.split(r"[./]", column.name) if (rule := words.rule_of_key(part))), None) if texts else None
    if rule is not None:
        return f"rule {rule.name}: the name of the stream"
    if column.kind != "message":
        return None
    rule = words.rule_of_schema(message) if message else None
    if rule is not None:
        return f"rule {rule.name}: the type of its messages"
    if _unread(column, sight, words, facts) and not sight.texts and all(is_opaque(encoding) for encoding in sight.encodings):
        return f"its messages ({', '.join(sorted(sight.encodings))[:100]}) are bytes that no schema explains: what is in them cannot be taken out"
    for field in sorted(facts.fields) if facts is not None else ():
        rule = words.rule_of_words([field]) or words.rule_of_key(field)
        if rule is not None:
            return f"rule {rule.name}: field {field!r} of its messages"
    return None


def _unread(column: Column, sight: Sight, words: Words, facts: SchemaFacts | None) -> bool:
    """Whether nothing says what the messages of a stream hold, and the user does not vouch for them."""
    kept = any(re.fullmatch(pattern, column.name) for pattern in words.config.keep_streams)
    return column.kind == "message" and isinstance(sight.first, Items) and facts is None and not kept and not sight.encodings & set(DECODED)


def plan_streams(
    survey: Survey, columns: Mapping[str, Column], config: PrivacyConfig, words: Words | None, left_alone: dict[str, str]
) -> dict[str, StreamPlan]:
    """Return what is to become of each stream of a recording; `left_alone` is filled with the pictures that are not searched, and why."""
    plans: dict[str, StreamPlan] = {}
    for name, sight in survey.streams.items():
        column = columns.get(name) or Column(name, kind="message" if isinstance(sight.first, Items) else "numeric")
        schema = _schema_of(column)
        facts, message = schema_facts(schema), message_type(schema) if schema is not None else ""
        reason = _under_scrub(column, sight, words, facts, message) if words is not None else None
        if reason is not None:
            plans[name] = StreamPlan("withhold", reason)
            continue
        wanted = _under_blur(column, sight, config, left_alone) if config.blur_faces else None
        if wanted is not None:
            plans[name] = wanted
        elif isinstance(sight.first, MediaFrames):
            plans[name] = StreamPlan("film")
        elif isinstance(sight.first, Items) and sight.encodings & set(DECODED) and not sight.encodings - set(DECODED):
            plans[name] = StreamPlan("pictures") if words is not None else StreamPlan("keep")
        elif isinstance(sight.first, Items):
            unread = words is not None and _unread(column, sight, words, facts)
            plans[name] = StreamPlan("bytes", "", facts, message, config.blur_faces and name not in left_alone, unread)
        else:
            plans[name] = StreamPlan("keep")
    return plans
