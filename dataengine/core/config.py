"""Strict configuration: YAML into frozen pydantic models, where a misspelt key is an error that names the nearest known one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dataengine.core.errors import ConfigError

MAX_CONFIG_BYTES = 4 << 20
MAX_DEPTH = 50


class Config(BaseModel):
    """Base of every configuration: unknown keys are refused, values never change, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Model = TypeVar("Model", bound=BaseModel)


# libyaml reads the dozens of known datasets five times faster than Python does, and every job reads them.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(_SafeLoader):  # type: ignore[misc]
    """A safe loader that refuses a key that stands twice."""


def _mapping_without_repeats(loader: _UniqueKeyLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return dict(yaml.constructor.SafeConstructor.construct_mapping(loader, node, deep=True))


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Return a YAML (or JSON) mapping that nobody vouches for; raise ConfigError that names the file and the line.

    Aliases are refused: a few lines of them stand for more values than any memory holds.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{where}: a configuration must be smaller than {MAX_CONFIG_BYTES} bytes")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ConfigError(f"{where}: must not be nested deeper than {MAX_DEPTH} levels")
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{where}: must not hold YAML aliases (*name); write the values out")
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - derives from SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid YAML: {error}"[:1000]) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{where}: must be a mapping of keys to values, got {type(content).__name__}")
    return content


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; raise ConfigError that names the file and the line."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: a configuration must be smaller than {MAX_CONFIG_BYTES} bytes")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - derives from SafeLoader
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, got {type(content).__name__}")
    return content


def _known_keys(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Return the keys that the model at `location` knows, following nested models as far as they can be seen."""
    current: Any = model
    inside = False  # of a mapping or a tuple of models, whose keys and places are no fields
    for part in location:
        if inside:
            inside = False
            continue
        field = getattr(current, "model_fields", {}).get(part)
        annotation = field.annotation if field is not None else None
        arguments = getattr(annotation, "__args__", ())
        nested = [candidate for candidate in (annotation, *arguments) if hasattr(candidate, "model_fields")]
        inside = bool(nested) and getattr(annotation, "__origin__", None) in (dict, list, tuple)
        current = nested[0] if nested else None
    return sorted(getattr(current, "model_fields", {}))


def parse_config(model: type[Model], content: Any, where: str) -> Model:
    """Validate `content` as `model`; raise ConfigError that names the file, the key, and the nearest known key."""
    try:
        return model.model_validate_json(json.dumps(content))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise ConfigError(f"{where}: holds a value that is no plain text, number, list or mapping: {error}") from error
        lines = []
        for problem in error.errors():
            location = problem["loc"]
            key = ".".join(str(part) for part in location)
            if problem["type"] == "extra_forbidden":
                known = _known_keys(model, location[:-1])
                close = get_close_matches(str(location[-1]), known, n=1)
                hint = f", did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}" if known else ""
                lines.append(f"{where}: unknown key {key!r}{hint}")
            else:
                lines.append(f"{where}: {key}: {problem['msg']}, got {problem['input']!r}"[:400])
        raise ConfigError("\n".join(lines)) from None


def merged(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what is given in the place of theirs, section by section. A section of another `kind` is as given: the base's settings are of its own kind."""
    found = dict(base)
    for name, value in given.items():
        under = base.get(name)
        alike = isinstance(under, Mapping) and isinstance(value, Mapping) and value.get("kind", under.get("kind")) == under.get("kind")
        found[name] = merged(under, value) if alike and isinstance(under, Mapping) else value
    return found


def read_config(model: type[Model], path: str | Path) -> Model:
    """Read a YAML file as `model`."""
    return parse_config(model, read_yaml(path), str(path))
