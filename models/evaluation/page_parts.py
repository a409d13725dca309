"""The parts that pages are made of: sections, figures with their numbers as tables, tables, folds."""

import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

import plotly.graph_objects as go

Cell = str | int | float | None
SHOWN_ROWS = 20  # a longer table starts folded
MOST_LETTERS = 40  # of a cell on one line
PRINTED_CELLS = 600  # a folded table with more cells stays folded on paper
LIBRARY = "plotly-cartesian.min.js"  # with all that our figures are drawn with, at a third of the whole library


class Section(NamedTuple):
    """One part of a page, under its own heading."""

    title: str
    content: str

    @property
    def anchor(self) -> str:
        """Its name in the page's links."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def html(self) -> str:
        """The section as an element."""
        return f'<section id="{self.anchor}"><h2>{escape(self.title)}</h2>{self.content}</section>'


def whole_page(
    kind: str, title: str, headlines: Sequence[str], facts: dict[str, Cell], parts: Sequence[Section]
) -> str:
    """A document that loads nothing; `kind`: what sort of report, `headlines`: its findings, the last one above all."""
    links = "".join(f'<li><a href="#{part.anchor}">{escape(part.title)}</a></li>' for part in parts)
    return Template(_asset("page.html")).substitute(
        kind=escape(kind),
        title=escape(title),
        style=_asset("page.css"),
        script=_asset("page.js"),
        plotly=plotting_library(),
        headlines="".join(f"<li>{escape(sentence)}</li>" for sentence in headlines),
        facts="".join(f"<div><dt>{escape(name)}</dt><dd>{_text(value, 3)}</dd></div>" for name, value in facts.items()),
        links=links,
        sections="\n".join(part.html() for part in parts),
    )


@lru_cache(maxsize=1)
def plotting_library() -> str:
    """The library that draws the figures, its licence at the top."""
    return _asset(LIBRARY)


def figure(drawn: go.Figure, spoken: str, caption: str, content: str, is_open: bool = False) -> str:
    """A figure with its spoken description, its caption and its numbers as a table."""
    least = (drawn.layout.meta or {}).get("width")  # wider figures scroll inside their frame
    width, focus = (f"min-width:{least}px;", ' tabindex="0"') if least else ("", "")
    label = f' role="region" aria-label="{escape(spoken.split(":")[0].split(".")[0])}"' if least else ""
    data = drawn.to_json().replace("<", "\\u003c")  # no text of ours can end the script element
    return (
        f'<figure><div class="scroll"{focus}{label}>'
        f'<div class="plot" role="img" aria-label="{escape(spoken)}" style="{width}min-height:{drawn.layout.height}px">'
        f'<script type="application/json">{data}</script></div></div>'
        + (f"<figcaption>{escape(caption)}</figcaption>" if caption else "")
        + folded("Data table", content, is_open)
        + "</figure>"
    )


def folded(title: str, content: str, is_open: bool = False) -> str:
    """Content behind a line that opens it; on paper it is open unless it is long."""
    long = ' class="long"' if content.count("<td") > PRINTED_CELLS else ""
    return f"<details{long}{' open' if is_open else ''}><summary>{escape(title)}</summary>{content}</details>"


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], name: str, digits: int = 3) -> str:
    """Rows under the names of their columns, in a frame that scrolls; `name` is spoken."""
    head = "".join(f'<th scope="col"{_wide(column)}>{escape(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(_cell(value, digits) for value in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def note(text: str) -> str:
    """A sentence beside the matter."""
    return f'<p class="note">{escape(text)}</p>'


def number(value: float, digits: int = 3) -> str:
    """With so many decimals, from 1,000 on in whole numbers, from a thousand million on with a power of ten."""
    size = abs(value)
    return f"{value:.{digits}f}" if size < 1e3 else f"{value:,.0f}" if size < 1e9 else f"{value:.{digits}g}"


def with_interval(value: float, ends: tuple[float, float] | None) -> str:
    """A score and, where known, what 95 % of resamplings lie between; lines break between the two alone."""
    return f"{value:.3f}" if ends is None else f"{value:.3f} {unbroken(f'({ends[0]:.3f} to {ends[1]:.3f})')}"


def unbroken(text: str) -> str:
    """Words that stay on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def short(digest: str) -> str:
    """A digest as people compare it."""
    return digest.removeprefix("sha256:")[:12]


def _cell(value: Cell, digits: int) -> str:
    if isinstance(value, str):
        return f"<td{_wide(value)}>{escape(value)}</td>"
    return f'<td class="number">{_text(value, digits)}</td>'


def _wide(text: str) -> str:
    """What lets a long name break into lines."""
    return ' class="long"' if len(text) > MOST_LETTERS else ""


def _text(value: Cell, digits: int) -> str:
    if isinstance(value, str):
        return escape(value)
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else number(value, digits)


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
