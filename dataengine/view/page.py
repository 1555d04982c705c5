"""A page that stands alone: one HTML file, no scripts, nothing fetched from elsewhere, readable in light and in dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dataengine.view.markup import Markup, element, escaped, joined, number

STYLE = """
:root{--ink:#1c2128;--soft:#5b6470;--line:#d5dae0;--paper:#fff;--panel:#f6f7f9;--bad:#b42318;--good:#146c3c;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#b0579a;--c4:#a37b00;--c5:#3a9bd1;--c6:#7a5195;--c7:#6b7280}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa4b0;--line:#363d47;--paper:#14181d;--panel:#1c2127;--bad:#ff8a7a;--good:#5fd08f;
--c0:#58aee6;--c1:#ff9552;--c2:#35cfa2;--c3:#e39ccd;--c4:#e2b93b;--c5:#8fd0f5;--c6:#b79be0;--c7:#a0a8b3}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 24px 64px}
h1{font-size:25px;line-height:1.25;margin:0 0 4px}h2{font-size:19px;margin:40px 0 10px;padding-top:14px;border-top:1px solid var(--line)}h3{font-size:15px;margin:20px 0 6px}
p{margin:6px 0;max-width:85ch}.lead{color:var(--soft);margin-bottom:18px}.soft{color:var(--soft)}.bad{color:var(--bad)}.good{color:var(--good)}
nav{margin:10px 0 0;display:flex;flex-wrap:wrap;gap:4px 16px;font-size:14px}a{color:var(--c0);text-decoration:none}a:hover{text-decoration:underline}
.scroll{overflow-x:auto;margin:10px 0 16px}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}
caption{caption-side:top;text-align:left;color:var(--soft);padding-bottom:4px}
th,td{padding:4px 12px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}th{font-weight:600;color:var(--soft);white-space:normal;vertical-align:bottom;min-width:6ch}
th:first-child,td:first-child{text-align:left;padding-left:4px}.range{color:var(--soft);font-size:11.5px}details{margin:8px 0}summary{cursor:pointer;color:var(--c0);font-size:14px}
td.text,th.text{text-align:left;white-space:normal;max-width:60ch}tr.strong td{font-weight:650;background:var(--panel)}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;font-size:14px;margin:12px 0}.facts dt{color:var(--soft)}.facts dd{margin:0;overflow-wrap:anywhere}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(350px,100%),1fr));gap:18px 22px;margin:12px 0}.figures.wide{grid-template-columns:1fr}
figure{margin:0;min-width:0}figcaption{font-size:13.5px;font-weight:600;margin-bottom:2px}.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:12.5px;color:var(--soft)}
.legend i{display:inline-block;width:12px;height:3px;margin-right:5px;vertical-align:middle}.legend i.dot{height:8px;width:8px;border-radius:4px}
svg{display:block;width:100%;height:auto}svg text{font-size:11px;fill:var(--soft)}svg .frame{stroke:var(--line);fill:none}svg .grid{stroke:var(--line);stroke-width:.6}
footer{margin-top:48px;color:var(--soft);font-size:13px}
@media print{nav{display:none}h2{break-after:avoid}figure,table{break-inside:avoid}}
"""


@dataclass(frozen=True)
class Section:
    """A part of a page: a heading and what stands under it. Parts that are plain text become paragraphs."""

    title: str
    parts: Sequence[object]


def page(title: str, sections: Sequence[Section], lead: str = "", footer: str = "") -> str:
    """Return a whole HTML document, with links to its sections where there are several.

    Args:
        title: of the page.
        sections: in order.
        lead: one or two sentences under the title.
        footer: what made the page.
    """
    anchors = [f"part-{place}" for place in range(len(sections))]
    links = [element("a", section.title, href=f"#{anchor}") for section, anchor in zip(sections, anchors, strict=True)]
    body = joined(
        element("h1", title),
        element("p", lead, class_="lead") if lead else "",
        element("nav", *links) if len(sections) > 2 else "",
        *(
            joined(element("h2", section.title, id=anchor), *(part if isinstance(part, Markup) else element("p", part) for part in section.parts))
            for section, anchor in zip(sections, anchors, strict=True)
        ),
        element("footer", footer) if footer else "",
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{escaped(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{element("main", body)}</body></html>\n'


def table(head: Sequence[object], rows: Sequence[Sequence[object]], caption: str = "", strong: Sequence[int] = (), text: Sequence[int] = ()) -> Markup:
    """Return a table; numbers are written with three significant digits.

    Args:
        head: of each column.
        rows: cells: text, numbers, None for what is not known, or markup.
        caption: what the table says.
        strong: which rows stand out.
        text: which columns, besides the first, hold text.
    """
    kinds = ["text" if place in text else None for place in range(len(head))]
    lines = [
        element("tr", *(element("td", cell if isinstance(cell, Markup) else number(cell), class_=kind) for cell, kind in zip(row, kinds, strict=True)))
        if place not in strong
        else element(
            "tr",
            *(element("td", cell if isinstance(cell, Markup) else number(cell), class_=kind) for cell, kind in zip(row, kinds, strict=True)),
            class_="strong",
        )
        for place, row in enumerate(rows)
    ]
    top = element("thead", element("tr", *(element("th", cell, class_=kind) for cell, kind in zip(head, kinds, strict=True))))
    return element("div", element("table", element("caption", caption) if caption else "", top, element("tbody", *lines)), class_="scroll")


def facts(pairs: Mapping[str, object]) -> Markup:
    """Return a list of names and what they are."""
    return element(
        "dl",
        *(joined(element("dt", name), element("dd", value if isinstance(value, Markup) else number(value))) for name, value in pairs.items()),
        class_="facts",
    )


def figures(*parts: Markup, wide: bool = False) -> Markup:
    """Return charts beside each other, as many as fit; `wide` puts each on a line of its own."""
    return element("div", *parts, class_="figures wide" if wide else "figures")


def heading(text: str) -> Markup:
    """Return a heading inside a section."""
    return element("h3", text)


def picture(png: bytes, caption: str = "", width_px: int | None = None) -> Markup:
    """Return a PNG as a figure of the page itself."""
    import base64

    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    image = Markup(f'<img src="{source}" alt="{escaped(caption)}" style="max-width:100%{f";width:{width_px}px" if width_px else ""}">')
    return element("figure", element("figcaption", caption) if caption else "", image)
