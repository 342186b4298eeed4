"""The skeleton of a report: one HTML page that carries its own style and script, and asks the network for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources

# The browser itself then refuses whatever is not in the page.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its HTML; sections without HTML are left out of the page and its table of contents."""

    anchor: str
    title: str
    html: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One number that is to be seen first; `tone` is good, bad, warn or empty."""

    label: str
    number: str
    note: str = ""
    tone: str = ""


def render_page(title: str, subtitle: str, sections: Iterable[Section]) -> str:
    """The whole page as text."""
    shown = [section for section in sections if section.html]
    contents = "".join(f'<li><a href="#{s.anchor}">{text(s.title)}</a></li>' for s in shown)
    body = "".join(f'<section id="{s.anchor}"><h2>{text(s.title)}</h2>{s.html}</section>' for s in shown)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_asset('style.css')}</style></head>"
        f'<body><div class="layout"><nav aria-label="contents"><ol>{contents}</ol></nav>'
        f"<main><header><h1>{text(title)}</h1><p>{text(subtitle)}</p></header>{body}</main></div>"
        f"<script>{_asset('points.js')}</script></body></html>\n"
    )


def text(value: object) -> str:
    """Any value as text that HTML shows as it is, in element and attribute alike."""
    return escape(str(value), quote=True)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = (), last: str = "") -> str:
    """A table of cells that are HTML already; columns in `numbers` align right; `last` is the last row's class."""
    right = set(numbers)

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = [' class="num"' if i in right else "" for i in range(len(row))]
        return "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    body = [f"<tr>{cells('td', row)}</tr>" for row in rows]
    if last and body:
        body[-1] = body[-1].replace("<tr>", f'<tr class="{last}">', 1)
    head = cells("th", [text(name) for name in header])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def tiles(numbers: Iterable[Tile]) -> str:
    """Numbers in boxes side by side."""
    boxes = "".join(
        f'<div class="tile"><div class="label">{text(t.label)}</div>'
        f'<div class="number {t.tone}">{text(t.number)}</div><div class="note">{text(t.note)}</div></div>'
        for t in numbers
    )
    return f'<div class="tiles">{boxes}</div>' if boxes else ""


def sentences(lines: Iterable[str]) -> str:
    """A list of plain sentences (text, not HTML)."""
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f'<ul class="summary">{items}</ul>' if items else ""


def folded(summary: str, html: str) -> str:
    """HTML behind a line that opens it."""
    return f"<details><summary>{text(summary)}</summary>{html}</details>" if html else ""


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
