"""Rules that cut one long recording into episodes: at pauses, at messages of a marker topic, or after a fixed time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataengine.core.clock import NS_PER_S
from dataengine.core.errors import ConfigError

RULES = {"gap": "seconds", "duration": "seconds", "topic": "topic"}


@dataclass
class EpisodeRule:
    """Says for each message, in the order of the recording, whether it begins a new episode.

    `by` "gap": more than `seconds_ns` after the latest log time so far. "duration": `seconds_ns` or more after the episode's first message.
    "topic": a message on `topic`; it belongs to the episode that it begins, what lies before the first marker is an episode of its own.
    """

    by: str
    seconds_ns: int = 0
    topic: str = ""
    _first_ns: int | None = None
    _latest_ns: int = 0

    def begins(self, topic: str, log_ns: int) -> bool:
        """Return whether this message begins a new episode; never for the first of all."""
        if self._first_ns is None:
            self._first_ns = self._latest_ns = log_ns
            return False
        if self.by == "topic":
            new = topic == self.topic
        else:
            new = log_ns - self._latest_ns > self.seconds_ns if self.by == "gap" else log_ns - self._first_ns >= self.seconds_ns
        if new:
            self._first_ns = log_ns
        self._latest_ns = max(self._latest_ns, log_ns)
        return new


def episode_rule(config: Mapping[str, Any]) -> EpisodeRule | None:
    """Return the rule of a config's `episodes`, None for a file that is one episode.

    `{"by": "gap", "seconds": 5}`, `{"by": "duration", "seconds": 60}` or `{"by": "topic", "topic": "/episode"}`.

    Raises:
        ConfigError: it is none of these.
    """
    given = config.get("episodes")
    if given is None:
        return None
    expected = "episodes: must be {by: gap, seconds: S}, {by: duration, seconds: S} or {by: topic, topic: NAME}"
    if not isinstance(given, Mapping) or given.get("by") not in RULES or set(given) != {"by", RULES[given["by"]]}:
        raise ConfigError(f"{expected}, got {given!r}"[:300])
    if given["by"] == "topic":
        if not isinstance(given["topic"], str) or not given["topic"]:
            raise ConfigError(f"{expected}, got {given!r}"[:300])
        return EpisodeRule("topic", topic=given["topic"])
    seconds = given["seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
        raise ConfigError(f"{expected} with a positive number of seconds, got {given!r}"[:300])
    return EpisodeRule(given["by"], seconds_ns=round(seconds * NS_PER_S))
