"""What a job says of an item that was scrubbed: catalog rows and problems without what the rules are about, in addresses, keys and messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dataengine.privacy.config import PrivacyConfig
from dataengine.privacy.words import Words
from dataengine.store.outcome import Outcome, hidden_fingerprint

# What a person reads of a row or problem; the rest are digests, numbers, and names that the project gives.
TEXTS = ("source_uri", "source_key", "where", "expected", "found", "advice", "message", "source")


def text_of(config: PrivacyConfig) -> Callable[[str], str]:
    """Return what scrubs a text about which nothing but the rules is known."""
    if not config.scrub:
        return str
    words = Words(config.rules)

    def text(said: str) -> str:
        words.learn_paths(said)
        return words.text(said, "catalog")

    return text


def hide(outcome: Outcome, text: Callable[[str], str], config: PrivacyConfig) -> Outcome:
    """Return an outcome as it may be committed: with `text` over all that was said, and with the policy in each rejection.

    An address that changes gets the beginning of its row's `fact` behind it, so that two items never share one.
    """
    policy = json.dumps({"privacy": config.record()})
    if config.on:
        for row in outcome.rejects:
            row["metadata"] = policy
    if not config.scrub:
        return outcome
    address, fact = str(outcome.source["source_uri"]), str(outcome.source["fact"])
    hidden = text(address)
    shown = address if hidden == address else f"{hidden}#{fact[:8]}"

    def clean(content: dict[str, Any]) -> None:
        for name in TEXTS:
            value = content.get(name)
            if isinstance(value, str):
                content[name] = shown if value == address else text(value.replace(address, shown))
        if isinstance(content.get("fingerprint"), str):
            content["fingerprint"] = hidden_fingerprint(content["fingerprint"])

    for content in (outcome.source, *outcome.episodes, *outcome.rejects, *outcome.problems):
        clean(content)
    for duplicate in outcome.duplicates:
        duplicate.source_key = text(duplicate.source_key)
    return outcome
