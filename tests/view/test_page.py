"""Pages: one document that stands alone, with everything that was read escaped."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from dataengine.view.markup import Markup, element, number
from dataengine.view.page import Section, facts, page, picture, table


class Seen(HTMLParser):
    """Collects tags and addresses, and fails on a tag that is closed by another."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_stands_alone() -> None:
    parts = [table(["what", "R²"], [["<idm>", 0.5]], strong=[0]), facts({"store": "a&b"}), picture(b"\x89PNG", "seen"), "said <i>"]
    text = page("Labels & more", [Section("One", parts), Section("Two", []), Section("Three", [])], lead="a < b", footer="made")
    seen = Seen()
    seen.feed(text)
    assert not seen.open
    assert "script" not in seen.tags
    assert "link" not in seen.tags
    assert all(address.startswith(("#", "data:")) for address in seen.addresses)
    assert len(seen.addresses) == 4
    for written in ("&lt;idm&gt;", "a&amp;b", "<p>said &lt;i&gt;</p>", "Labels &amp; more", "a &lt; b"):
        assert written in text
    assert "http" not in text


def test_markup_is_not_escaped_twice() -> None:
    assert element("b", element("i", "<"), "&") == "<b><i>&lt;</i>&amp;</b>"
    assert element("i", class_="a", stroke_width=1.5, style=None) == '<i class="a" stroke-width="1.50"></i>'
    assert isinstance(element("i"), Markup)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (-12.345, "−12.3"),
        (1234.5, "1234"),
        (None, "–"),
        (float("nan"), "–"),
        (1234567, "1 234 567"),
        (0.0, "0"),
        (2.5e-6, "2.50e−06"),
        (True, "True"),
        ("x", "x"),
    ],
)
def test_numbers_as_people_read_them(value: object, text: str) -> None:
    assert number(value) == text
