"""Rows and metadata that are kept as bytes and texts: scrubbed where they can be, given up where not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dataengine.privacy.payloads import SMALL_BYTES, TEXTS, holds_picture_text, is_plain_text, json_of, keys_in
from dataengine.privacy.words import Words

UNSEARCHED = "bytes that could hold pictures, which cannot be searched for faces"
UNREAD = "bytes that no schema explains, so that what is in them cannot be taken out"


def scrubbed_bytes(data: bytes, encoding: str, words: Words, stream: str) -> tuple[bytes, str | None]:
    """Return a row that is kept as bytes without what the rules are about, and the rule that its whole content falls under where it cannot be taken out.

    JSON and plain texts are written anew where something was found; anything else is kept or given up whole.
    """
    place = f"stream {stream}"
    content = json_of(data)
    if content is not None:
        scrubbed = words.metadata(content, place)
        return (data if scrubbed == content else json.dumps(scrubbed, ensure_ascii=False).encode("utf-8", "backslashreplace")), None
    if encoding in TEXTS or (encoding not in ("cdr", "ros1", "protobuf") and is_plain_text(data)):
        text = data.decode("utf-8", "replace")
        found = words.text(text, place, sentence=True)
        return (data if found == text else found.encode()), None
    if "json" in encoding:
        for key in keys_in(data):
            rule = words.rule_of_key(key)
            if rule is not None:
                return b"", rule.name
    return data, words.found_in(data)


def without_picture_texts(value: Any, emptied: Counter[tuple[str, str]], depth: int = 0) -> Any:
    """Return metadata without texts that are long enough in base64 and the like to hold a picture."""
    if depth > 64:
        return None
    if isinstance(value, Mapping):
        return {key: without_picture_texts(part, emptied, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        numbers = len(value) > SMALL_BYTES * 2 and all(isinstance(part, int) and 0 <= part <= 255 for part in value)
        if numbers:
            emptied["metadata", UNSEARCHED] += 1
            return []
        return [without_picture_texts(part, emptied, depth + 1) for part in value]
    if isinstance(value, str | bytes):
        data = value.encode("utf-8", "backslashreplace") if isinstance(value, str) else value
        if len(data) > SMALL_BYTES and (isinstance(value, bytes) or holds_picture_text(data)):
            emptied["metadata", UNSEARCHED] += 1
            return ""
    return value
