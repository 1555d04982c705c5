"""The texts, keys and names of one recording, with what the rules are about taken out.

What stands under a key that a rule names is a secret of the recording: it is replaced there and wherever else it stands, in names of streams, texts, paths and
problems. Replacements are plain words, so that what was scrubbed stays readable and links between its parts stay whole.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dataengine.core.digest import digest_bytes
from dataengine.privacy.config import RulesConfig, ScrubRule
from dataengine.privacy.rules import active_rules, matches, snake

MAX_DEPTH = 64
# Shorter values ("A", "12") stand in many places by chance.
SECRET_LETTERS = 4
PLACE_DIGITS = 6
MAX_SECRETS = 1000
# A run of so many digits in a stream's name is a serial number, not a count.
SERIAL = re.compile(r"(?<![A-Za-z0-9])(\d{7,20})(?![A-Za-z0-9])")
# In the parts of a path also with letters in front (a camera's C3441328164125), but no date, no time in s, ms, us or ns since 1970, and no number that is filled up with zeros.
PATH_SERIAL = re.compile(
    r"(?<![A-Za-z0-9])(?!(?:19|20)\d{2}[01]\d[0-3]\d(?:\d{4}|\d{6}|\d{9}|\d{12})?(?![A-Za-z0-9]))(?!1[4-9]\d{8}(?:\d{3}){0,3}(?![A-Za-z0-9]))(?!0)"
    r"([A-Z]{0,4}\d{7,20})(?![A-Za-z0-9])"
)
_NOTHING = frozenset(["", "none", "null", "unknown", "n/a", "na", "default", "test", "true", "false", "0", "-1"])


class Words:
    """Replaces what the rules are about in one recording; `counts` says how often each rule did and where, never what it found.

    Args:
        config: the rules.
        shared: secrets that are known of the item before, {text: replacement}.
    """

    def __init__(self, config: RulesConfig, shared: Mapping[str, str] | None = None) -> None:
        self.config = config
        self.rules = active_rules(config)
        self.counts: Counter[tuple[str, str]] = Counter()
        self._keys = {rule.name: tuple(re.compile(pattern) for pattern in rule.keys) for rule in self.rules}
        self._streams = {rule.name: tuple(re.compile(pattern) for pattern in rule.streams) for rule in self.rules}
        self._schemas = {rule.name: tuple(re.compile(pattern, re.IGNORECASE) for pattern in rule.schemas) for rule in self.rules}
        self._keep = tuple(re.compile(pattern) for pattern in config.keep_keys)
        # Places first: the digits of one may look like a telephone number, which would take only half of it.
        ordered = sorted(self.rules, key=lambda rule: rule.name != "location")
        self._texts = [(rule, re.compile(pattern)) for rule in ordered for pattern in rule.texts]
        self._bytes = [(rule, re.compile(pattern.pattern.encode(), pattern.flags & re.IGNORECASE)) for rule, pattern in self._texts]
        self._words = [(rule, _whole(word)) for rule in self.rules for word in rule.words]
        self._secrets: dict[str, tuple[str, str]] = {text: ("serials", name) for text, name in (shared or {}).items()}
        self._numbers: Counter[str] = Counter()
        self._pseudonyms: dict[str, str] = {}
        self._compiled: list[tuple[str, re.Pattern[str], re.Pattern[bytes], str, bool]] | None = None

    # -- rules

    def rule_of_key(self, key: str) -> ScrubRule | None:
        """Return the rule that a key's value falls under, None for none."""
        name = snake(key)
        if matches(self._keep, name):
            return None
        return next((rule for rule in self.rules if matches(self._keys[rule.name], name)), None)

    def rule_of_words(self, names: Iterable[str]) -> ScrubRule | None:
        """Return the rule that a word of one of the names (of streams, dimensions, fields) falls under."""
        for name in names:
            for word in re.split(r"[^a-z0-9]+", name.lower()) + snake(name).split("_"):
                for rule in self.rules:
                    if word and matches(self._streams[rule.name], word):
                        return rule
        return None

    def rule_of_schema(self, schema: str) -> ScrubRule | None:
        """Return the rule that messages of a type fall under."""
        return next((rule for rule in self.rules if matches(self._schemas[rule.name], schema)), None)

    # -- secrets

    def replacement(self, rule: ScrubRule, value: Any, hint: str = "") -> str:
        """Return what stands for a value from now on; `hint` is the key it stood under."""
        if rule.action != "pseudonym":
            return f"[{rule.name}]"
        text = str(value).strip()
        if text not in self._pseudonyms:
            label = "camera" if rule.label == "device" and re.search(r"cam|lens|image|stereo", snake(hint)) else rule.label
            if self.config.salt is not None:
                self._pseudonyms[text] = f"{label}_{digest_bytes(self.config.salt.encode(), bytes(1), text.encode())[:12]}"
            else:
                self._numbers[label] += 1
                self._pseudonyms[text] = f"{label}_{self._numbers[label]}"
        return self._pseudonyms[text]

    def learn(self, metadata: Any, depth: int = 0) -> None:
        """Note every value that stands under a key of a rule."""
        if depth > MAX_DEPTH:
            return
        if isinstance(metadata, Mapping):
            for key, value in _pairs(metadata):
                rule = None if _of_channels(value) else self.rule_of_key(str(key))
                if rule is None:
                    self.learn(value, depth + 1)
                    continue
                for part in _scalars(value):
                    self._learn_value(rule, part, str(key))
        elif isinstance(metadata, list | tuple):
            for value in metadata:
                self.learn(value, depth + 1)
        elif isinstance(metadata, str):
            content = _json_text(metadata)
            if content is not None:
                self.learn(content, depth + 1)

    def _learn_value(self, rule: ScrubRule, value: Any, key: str) -> None:
        text = str(value).strip()
        if not _telling(value) or text.lower() in _NOTHING or (rule.name == "people" and text.startswith("/")):
            return  # a topic such as "/operator" names nobody
        name = self.replacement(rule, value, key)
        # A short code ("P01") is a person's wherever it stands as a word of its own; a short name or number stands in many places by chance.
        code = rule.name == "people" and _is_code(text)
        if rule.name == "location" and isinstance(value, int) and len(text) < PLACE_DIGITS:
            return  # a count of fixes, a number of a floor
        if (len(text) >= SECRET_LETTERS or code) and not isinstance(value, float) and len(self._secrets) < MAX_SECRETS:
            self._secrets.setdefault(text, (rule.name, name))
            self._compiled = None

    def learn_names(self, names: Iterable[str]) -> None:
        """Note the serial numbers in names of streams."""
        rule = next((rule for rule in self.rules if rule.name == "serials"), None)
        for name in sorted(names) if rule is not None else ():
            for serial in SERIAL.findall(name):
                assert rule is not None
                self._learn_value(rule, serial, name)

    def learn_paths(self, text: str) -> None:
        """Note the serial numbers in the paths that a text holds: of a recording that broke nothing else may be known."""
        rule = next((rule for rule in self.rules if rule.name == "serials"), None)
        if rule is not None:
            for path in re.findall(r"\S*[/\\]\S*", text):
                for serial in PATH_SERIAL.findall(path):
                    self._learn_value(rule, serial, "path")

    def _patterns(self) -> list[tuple[str, re.Pattern[str], re.Pattern[bytes], str, bool]]:
        """Return of each secret, longest first: its rule, patterns, replacement, and whether it is telling enough to be looked for in sentences."""
        if self._compiled is None:
            found = sorted(self._secrets.items(), key=lambda pair: (-len(pair[0]), pair[0]))
            self._compiled = [(rule, _whole(text), _in_bytes(text), name, _unmistakable(text)) for text, (rule, name) in found]
        return self._compiled

    # -- texts

    def text(self, text: str, place: str, sentence: bool = False) -> str:
        """Return a text without what the rules are about. `sentence`: it is free text, where a bare lower-case word is not taken for a secret."""
        found = text
        for rule, pattern in self._words:
            found = self._replace(pattern, f"[{rule.name}]", found, rule.name, place)
        for name, whole, _, replacement, telling in self._patterns():
            if telling or not sentence:
                found = self._replace(whole, replacement, found, name, place)
        for rule, pattern in self._texts:
            found = self._mask(rule, pattern, found, place)
        return found

    def _replace(self, pattern: re.Pattern[str], replacement: str, text: str, rule: str, place: str) -> str:
        found, times = pattern.subn(lambda _: replacement, text)
        if times:
            self.counts[rule, place] += times
        return found

    def _mask(self, rule: ScrubRule, pattern: re.Pattern[str], text: str, place: str) -> str:
        def masked(match: re.Match[str]) -> str:
            whole, name = match.group(0), f"[{rule.name}]"
            if pattern.groups and match.group(1) is not None:
                start, end = match.start(1) - match.start(), match.end(1) - match.start()
                return whole[:start] + name + whole[end:]
            return name

        found, times = pattern.subn(masked, text)
        if times and found != text:
            self.counts[rule.name, place] += times
        return found

    def name(self, name: str) -> str:
        """Return a stream's name without secrets and words."""
        found = name
        for rule, pattern in self._words:
            found = self._replace(pattern, rule.name, found, rule.name, "names of streams")
        for rule_name, whole, _, replacement, _ in self._patterns():
            found = self._replace(whole, replacement.strip("[]"), found, rule_name, "names of streams")
        return found

    def found_in(self, data: bytes) -> str | None:
        """Return the rule that something in a binary payload falls under, None where nothing does."""
        for name, _, pattern, _, telling in self._patterns():
            if telling and pattern.search(data):
                return name
        for rule, whole in self._words:
            if whole.search(data.decode("utf-8", "replace")):
                return rule.name
        for rule, masked in self._bytes:
            if masked.search(data):
                return rule.name
        return None

    # -- metadata

    def metadata(self, value: Any, place: str = "metadata", depth: int = 0) -> Any:
        """Return metadata without the values under keys of rules, and with every text scrubbed."""
        if depth > MAX_DEPTH:
            return None
        if isinstance(value, Mapping):
            kept: dict[str, Any] = {}
            for key, part in value.items():
                named = _named_value(value, str(key))
                rule = None if _of_channels(part) else self.rule_of_key(named if named is not None else str(key))
                if rule is None or not any(_telling(scalar) for scalar in _scalars(part)):
                    kept[self.text(str(key), f"keys of {place}")] = self.metadata(part, place, depth + 1)
                    continue
                self.counts[rule.name, f"{place}: {snake(named or str(key))}"] += 1
                if rule.action != "remove":
                    kept[str(key)] = self._replaced(rule, part, str(key))
            return kept
        if isinstance(value, list | tuple):
            return [self.metadata(part, place, depth + 1) for part in value]
        if isinstance(value, str):
            content = _json_text(value)
            if content is not None:
                scrubbed = self.metadata(content, place, depth + 1)
                return value if scrubbed == content else json.dumps(scrubbed, ensure_ascii=False)
            return self.text(value, place, sentence=True)
        if isinstance(value, int) and not isinstance(value, bool) and str(value) in self._secrets:
            rule_name, name = self._secrets[str(value)]
            self.counts[rule_name, place] += 1
            return name
        return value

    def _replaced(self, rule: ScrubRule, value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            return {str(inner): self._replaced(rule, part, key) for inner, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._replaced(rule, part, key) for part in value]
        return self.replacement(rule, value, key) if _telling(value) and str(value).strip().lower() not in _NOTHING else value


def _whole(text: str) -> re.Pattern[str]:
    """Return the pattern of a text that no letter or digit continues."""
    return re.compile(rf"(?<![A-Za-z0-9]){_loose(text)}(?![A-Za-z0-9])", re.IGNORECASE)


def _loose(text: str) -> str:
    """Return the pattern of a text; of a code like "worker_001" also as it stands in names of files: "worker001"."""
    return "[_-]?".join(re.escape(part) for part in re.split("[_-]", text)) if _is_code(text) and " " not in text else re.escape(text)


def _in_bytes(text: str) -> re.Pattern[bytes]:
    """Return the pattern of a text in a binary payload; a short one must stand between signs or zeros, as strings do there, or it were found by chance."""
    escaped = _loose(text).encode()
    sign = rb"[\x00-/:-@\[-`{-\x7f]"
    return re.compile(escaped if len(text) >= SECRET_LETTERS else rb"(?:(?<=" + sign + rb")|\A)" + escaped + rb"(?=" + sign + rb"|\Z)")


def _is_code(text: str) -> bool:
    """Whether a text is letters and digits mixed ("P01"): no word of a sentence, and no count."""
    return any(letter.isdigit() for letter in text) and any(letter.isalpha() for letter in text)


def _telling(value: Any) -> bool:
    """Whether a value can be somebody's: a text or a number, not yes, no or nothing."""
    return (isinstance(value, str) and bool(value.strip())) or (isinstance(value, int | float) and not isinstance(value, bool))


def _unmistakable(text: str) -> bool:
    """Whether a text is no word that a sentence may hold by chance: it has a capital, a digit, a space or a sign."""
    return not (text.isalpha() and text.islower())


def _scalars(value: Any, depth: int = 0) -> Iterable[Any]:
    if depth > MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _scalars(part, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _scalars(part, depth + 1)
    else:
        yield value


def _of_channels(value: Any) -> bool:
    """Whether a value describes the channels of a recording by stream: a stream called "operator" makes nobody of its channel's number."""
    return isinstance(value, list) and bool(value) and all(isinstance(part, Mapping) and {"id", "topic"} <= part.keys() for part in value)


def _named_value(mapping: Mapping[Any, Any], key: str) -> str | None:
    """Return the name of a value that is written as {"key": name, "value": value}, None for any other entry."""
    if key.lower() != "value":
        return None
    return next((named for label, named in mapping.items() if str(label).lower() in ("key", "name") and isinstance(named, str)), None)


def _pairs(mapping: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in mapping.items():
        yield _named_value(mapping, str(key)) or str(key), value


def _json_text(text: str) -> Any | None:
    """Return what a text holds as JSON, None where it is no JSON object or list."""
    if len(text) < 2 or text[0] not in "{[" or text[-1] not in "}]" or len(text) > 1 << 24:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
