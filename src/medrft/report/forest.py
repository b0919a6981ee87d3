"""Draws a study as a forest plot: each arm's difference from the baseline with its interval, as one SVG file.

The SVG brings its own colours, for light and dark systems, so that Markdown pages can show it as an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medrft.errors import naming_extras
from medrft.report.charts import as_px, axis_ticks, ends_of
from medrft.report.study_markdown import label_of
from medrft.report.wording import metric_label, percent_points

with naming_extras():
    from markupsafe import Markup

Row = Mapping[str, Any]

WIDTH, NAMES, FIGURES, ROW, TOP, BOTTOM = 760, 180, 190, 19, 34, 30
FAR = 5.0
"""An end more than this many times the median end is left outside the scale; a mean outside it is an arrow."""

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #222 }
.faint { fill: #666 } .grid { stroke: #ddd } .zero { stroke: #888 }
.c0 { stroke: #0072b2; fill: #0072b2 } .c1 { stroke: #d55e00; fill: #d55e00 } .whisker { stroke-width: 2 }
text.c0, text.c1 { stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .faint { fill: #aaa } .grid { stroke: #444 } .zero { stroke: #999 }
  .c0 { stroke: #56b4e9; fill: #56b4e9 } .c1 { stroke: #e69f00; fill: #e69f00 }
}
"""


def reach_of(ends: Iterable[float]) -> float:
    """Half the width of a scale around 0 that shows most of `ends`; the few that lie far out do not widen it.

    >>> reach_of([0.02, -0.03, 0.05, -0.9])
    0.05
    """
    sizes = sorted(abs(end) for end in ends if end)
    if not sizes:
        return 0.01
    limit = FAR * sizes[(len(sizes) - 1) // 2]
    return max([0.01, *(size for size in sizes if size <= limit)])


def forest_plot(facts: Row) -> str:
    """The plot for a study's primary kind: a row per arm, a mark per data set (two at most); empty without arms."""
    own = facts["primary"]
    tables = [table for table in facts["tables"] if table["kind"] == own["kind"]][:2]
    arms = list(dict.fromkeys(r["arm"] for t in tables for r in t["rows"] if r["difference"] is not None))
    if not arms:
        return ""
    reach = 1.08 * reach_of(end for table in tables for row in table["rows"] for end in ends_of(row["difference"]))
    height = TOP + len(arms) * ROW * len(tables) + 6 * len(arms) + BOTTOM
    body = [*_heading(tables, own["against"]), *_axis(reach, height)]
    for i, arm in enumerate(arms):
        body += _arm(arm, tables, y=TOP + i * (ROW * len(tables) + 6) + ROW / 2, reach=reach)
    says = (
        f"{facts['study']}: each arm minus {own['against']}, {own['kind']}, {metric_label(tables[0]['metric'])}, points"
    )
    return svg_file(body, width=WIDTH, height=height, says=says, style=Markup(STYLE))


def svg_file(body: Sequence[Markup], *, width: float, height: float, says: str, style: Markup) -> str:
    """A picture as the text of an SVG file: `says` is its title, `style` the rules of its classes."""
    shape = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img">'
    head = Markup(shape + "<title>{says}</title><style>{style}</style>")
    filled = head.format(w=as_px(width), h=as_px(height), says=says, style=style)
    return str(filled + Markup("\n").join(body) + Markup("</svg>\n"))


def _x(value: float, reach: float) -> float:
    """Horizontal position of a difference, kept inside the picture."""
    share = (min(reach, max(-reach, value)) + reach) / (2 * reach)
    return NAMES + share * (WIDTH - NAMES - FIGURES)


def _heading(tables: Sequence[Row], against: str) -> list[Markup]:
    text = Markup('<text x="{}" y="16"{}>{}</text>')
    body = [text.format(0, Markup(' class="faint"'), f"minus {against}, points")]
    for i, table in enumerate(tables):
        says = f"● {table['dataset']}, {table['kind']}, {metric_label(table['metric'])}"
        body.append(text.format(NAMES + 290 * i, Markup(' class="c{}"').format(i), says))
    return body


def _axis(reach: float, height: float) -> list[Markup]:
    line = Markup('<line class="{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>')
    text = Markup('<text class="faint" x="{}" y="{}" text-anchor="middle">{}</text>')
    body = []
    for value in axis_ticks(-reach, reach, count=6):
        x = as_px(_x(value, reach))
        body.append(line.format("zero" if abs(value) < 1e-9 else "grid", TOP - 8, as_px(height - BOTTOM + 4), x=x))
        body.append(text.format(x, as_px(height - BOTTOM + 20), percent_points(value) if value else "0"))
    return body


def _arm(arm: str, tables: Sequence[Row], *, y: float, reach: float) -> list[Markup]:
    middle = y + ROW * (len(tables) - 1) / 2
    body = [Markup('<text x="0" y="{}">{}</text>').format(as_px(middle + 4), arm)]
    for i, table in enumerate(tables):
        apart = next((row["difference"] for row in table["rows"] if row["arm"] == arm), None)
        if apart is not None:
            body += _mark(apart, y=y + i * ROW, reach=reach, colour=i)
    return body


def _mark(apart: Row, *, y: float, reach: float, colour: int) -> list[Markup]:
    body = []
    if apart["low"] is not None:
        whisker = Markup('<line class="whisker c{}" x1="{}" x2="{}" y1="{y}" y2="{y}"/>')
        body.append(whisker.format(colour, as_px(_x(apart["low"], reach)), as_px(_x(apart["high"], reach)), y=as_px(y)))
    if abs(apart["mean"]) <= reach:
        dot = Markup('<circle class="c{}" cx="{}" cy="{}" r="4.5"/>')
        body.append(dot.format(colour, as_px(_x(apart["mean"], reach)), as_px(y)))
    else:
        side = -1 if apart["mean"] < 0 else 1
        tip = _x(side * reach, reach)
        arrow = Markup('<path class="c{}" d="M{} {} l{} -5 v10 z"/>')
        body.append(arrow.format(colour, as_px(tip), as_px(y), -9 * side))
    figure = Markup('<text x="{}" y="{}" text-anchor="end">{}</text>')
    return [*body, figure.format(WIDTH - 4, as_px(y + 4), label_of(apart))]
