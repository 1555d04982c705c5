"""What Ego4D's annotation files say of one video: narrations at moments, summaries and benchmark segments with a start and an end.

Files as documented (https://ego4d-data.org/docs/data/annotations-schemas/): `narration.json` holds passes of narrations (timestamp_sec, timestamp_frame, narration_text,
annotation_uid) and summaries; moments, fho, nlq, vq, av hold segments at many depths, whose times in the video are called video_start_sec, video_start_time or
start_sec. Times within a clip (start_time, clip_start_sec) are not taken for times of the video.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from posixpath import basename, splitext
from typing import Any

from dataengine.sources.cuts import Segment

SPANS = (("video_start_sec", "video_end_sec"), ("video_start_time", "video_end_time"), ("start_sec", "end_sec"))
TEXTS = ("narration_text", "summary_text", "label", "query", "transcription", "structured_verb", "object_title", "scenario")
MAX_SEGMENTS = 200_000
MAX_DEPTH = 12
_PLAIN = (str, int, float, bool)


def kind_of(path: str) -> str:
    """Return what an annotation file is about: "moments" of moments_train.json, "fho_main" of fho_main.json."""
    stem = splitext(basename(path))[0].lower()
    return (
        re.sub(r"[^a-z0-9]+", "_", re.sub(r"_(train|val|test|all|unannotated|public)\b|_(train|val|test_unannotated|test)$", "", stem)).strip("_")
        or "annotation"
    )


def _ns(value: Any) -> int | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or abs(value) > 1e8:
        return None
    return math.floor(value * 1e9)


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands in an object itself: texts, numbers and short lists of them."""
    kept: dict[str, Any] = {}
    for key, value in content.items():
        short = isinstance(value, list) and len(value) <= 32 and all(entry is None or isinstance(entry, _PLAIN) for entry in value)
        if value is None or isinstance(value, _PLAIN) or short:
            kept[key] = value
    return kept


def narrations(content: Any) -> list[Segment]:
    """Return the narrations and summaries of a video out of `narration.json`."""
    found: list[Segment] = []
    if not isinstance(content, dict):
        return found
    for name, part in content.items():
        if not isinstance(part, dict) or not name.startswith("narration_pass"):
            continue
        stream = "language.narration" if name == "narration_pass_1" else f"language.{kind_of(name)}"
        for record in part.get("narrations") or ():
            start = _ns(record.get("timestamp_sec")) if isinstance(record, dict) else None
            if start is not None:
                about = {**_plain(record), "pass": name}
                found.append(Segment(start, None, str(record.get("narration_text") or ""), str(record.get("annotation_uid") or ""), about, stream=stream))
        for record in part.get("summaries") or ():
            start, end = (_ns(record.get("start_sec")), _ns(record.get("end_sec"))) if isinstance(record, dict) else (None, None)
            if start is not None and end is not None:
                about = {**_plain(record), "pass": name}
                found.append(Segment(start, end, str(record.get("summary_text") or ""), about=about, stream="language.summary"))
    return found[:MAX_SEGMENTS]


def _walk(content: Any, around: Mapping[str, Any], depth: int) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each object in a value, with the identifiers of those that it stands in."""
    if depth > MAX_DEPTH:
        return
    if isinstance(content, dict):
        own = {key: value for key, value in content.items() if isinstance(value, str) and key.endswith("_uid")}
        yield content, around
        for value in content.values():
            yield from _walk(value, {**around, **own}, depth + 1)
    elif isinstance(content, list):
        for value in content:
            yield from _walk(value, around, depth + 1)


def segments(content: Any, kind: str) -> list[Segment]:
    """Return every object of a benchmark's annotations that has a text and a start and an end in the video."""
    found: list[Segment] = []
    for record, around in _walk(content, {}, 0):
        text = next((record[name] for name in TEXTS if isinstance(record.get(name), str) and record[name].strip()), None)
        if text is None:
            continue
        for first, last in SPANS:
            start, end = _ns(record.get(first)), _ns(record.get(last))
            if start is not None and end is not None:
                key = next((record[name] for name in ("uid", "annotation_uid", "query_uid") if isinstance(record.get(name), str)), "")
                found.append(Segment(start, end, text, key, {**around, **_plain(record), "benchmark": kind}, stream=f"language.{kind}"))
                break
        if len(found) >= MAX_SEGMENTS:
            break
    return found
