"""Markup: text that is HTML already, so that nothing is escaped twice and nothing that was read is left unescaped."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping


class Markup(str):
    """Text that is HTML; plain `str` is text that is still to be escaped."""

    __slots__ = ()


def escaped(text: object) -> Markup:
    """Return text as HTML; markup stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def element(name: str, *content: object, **attributes: object) -> Markup:
    """Return an element; `class_` and `stroke_width` stand for the attributes `class` and `stroke-width`, and None leaves one out."""
    written = _attributes({key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None})
    return Markup(f"<{name}{written}>{''.join(escaped(part) for part in content)}</{name}>")


def joined(*parts: object) -> Markup:
    """Return parts one after the other."""
    return Markup("".join(escaped(part) for part in parts))


def number(value: object, digits: int = 3) -> str:
    """Return a number as a person reads it: `digits` significant ones, "–" where there is none; what is no number stays as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}".replace("-", "−") if abs(value) >= 1e-4 and abs(value) < 1e7 else f"{value:.{digits - 1}e}".replace("-", "−")


def _attributes(attributes: Mapping[str, object]) -> str:
    return "".join(f' {key}="{html.escape(f"{value:.2f}" if isinstance(value, float) else str(value), quote=True)}"' for key, value in attributes.items())
