"""Draws dots with intervals, a row per arm, as one SVG file: of a study what each arm reached and what that is worth.

The SVG brings its own colours, for light and dark systems, so that Markdown pages can show it as an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrft.errors import naming_extras
from medrft.report.charts import Write, as_px, axis_ticks, ends_of
from medrft.report.study_controls import share_cell
from medrft.report.study_markdown import label_of
from medrft.report.wording import NONE, metric_label, percent_points, plain_percent, whole_percent
from medrft.studies.controls import ORACLE

with naming_extras():
    from markupsafe import Markup

Row = Mapping[str, Any]

WIDTH, NAMES, ROW, TOP, BOTTOM = 760, 140, 19, 50, 30
FAR = 5.0
"""An end more than this many times the median end is left outside a scale around 0; a mean outside it is an arrow."""

GROUND = """
.ground { fill: #fff }
@media (prefers-color-scheme: dark) { .ground { fill: #131416 } }"""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One value with its interval, and its figures as text; without a mean there is only the text."""

    mean: float | None
    low: float | None
    high: float | None
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One scale across the picture: its dots, row by row and colour by colour, and their figures to the right of it."""

    title: str
    left: float
    right: float
    """Where the scale begins and ends, in pixels."""
    figures: float
    """Where the figures end, in pixels."""
    low: float
    high: float
    dark: Sequence[float]
    """Values that the reader compares with: their lines are darker."""
    write: Write
    dots: Sequence[Sequence[Dot | None]]

    def x(self, value: float) -> float:
        """Horizontal position of a value, kept inside the scale."""
        share = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)


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
    """The plot for a study's primary kind: a row per arm, a colour per data set (two at most); empty without arms.

    To the left stands what each arm reached, to the right its share of the oracle's gain, or, where no share is
    determined, its difference from the baseline.
    """
    own = facts["primary"]
    tables = [table for table in facts["tables"] if table["kind"] == own["kind"]]
    tables = sorted(tables, key=lambda table: table["dataset"] != own["dataset"])[:2]
    arms = list(dict.fromkeys(row["arm"] for table in tables for row in table["rows"]))
    if len(arms) < 2:
        return ""
    arms.sort(key=lambda arm: arm != own["against"])
    by_arm = [{row["arm"]: row for row in table["rows"]} for table in tables]
    rows = [[found.get(arm) for found in by_arm] for arm in arms]
    metric = metric_label(tables[0]["metric"]) + (", sampled" if tables[0]["source"] == "sampled" else "")
    shares = any(row and row["share"] and row["share"]["share"] is not None for pair in rows for row in pair)
    worth = _share_panel(rows) if shares else _difference_panel(rows, own["against"])
    legend = [f"{table['dataset']}, {table['kind']}" for table in tables]
    says = f"{facts['study']}: {metric} of each arm, percent, and {worth.title}"
    return dot_plot(arms, [_reached_panel(rows, metric), worth], legend=legend, says=says)


def dot_plot(names: Sequence[str], panels: Sequence[Panel], *, legend: Sequence[str], says: str) -> str:
    """A picture with a row per name: `legend` says what each colour is, `says` is the picture's title."""
    step = ROW * len(legend) + 6
    height = TOP + len(names) * step + BOTTOM
    text = Markup('<text x="{}" y="{}"{}>{}</text>')
    body = [text.format(NAMES + 290 * i, 36, Markup(' class="c{}"').format(i), f"● {s}") for i, s in enumerate(legend)]
    for panel in panels:
        body += [text.format(as_px(panel.left), 16, Markup(' class="faint"'), panel.title), *_axis(panel, height)]
    for i, name in enumerate(names):
        y = TOP + i * step + ROW / 2
        body.append(text.format(0, as_px(y + ROW * (len(legend) - 1) / 2 + 4), "", name))
        for panel in panels:
            dots = enumerate(panel.dots[i])
            body += [part for j, dot in dots if dot for part in _mark(dot, panel, y=y + j * ROW, colour=j)]
    return svg_file(body, width=WIDTH, height=height, says=says, style=Markup(STYLE))


def svg_file(body: Sequence[Markup], *, width: float, height: float, says: str, style: Markup) -> str:
    """A picture as the text of an SVG file: `says` is its title, `style` the rules of its classes.

    It has a ground of its own: a page may be dark where the system is light, and the picture follows the system.
    """
    shape = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -4 {w} {h}" width="{w}" height="{h}" role="img">'
    head = Markup(
        shape
        + '<title>{says}</title><style>{style}</style><rect class="ground" x="-8" y="-4" width="{w}" height="{h}"/>'
    )
    filled = head.format(w=as_px(width + 16), h=as_px(height + 8), says=says, style=Markup(GROUND) + style)
    return str(filled + Markup("\n").join(body) + Markup("</svg>\n"))


Rows = Sequence[Sequence[Row | None]]
"""The rows of a study's tables: arm by arm, data set by data set."""


def _reached_panel(rows: Rows, metric: str) -> Panel:
    """What each arm reached, with a line at what the baseline, the first arm, reached on the primary data set."""
    ends = [end for pair in rows for row in pair for end in ends_of(row)]
    room = 0.06 * (max(ends) - min(ends)) or 0.01
    return Panel(
        title=f"{metric}, percent",
        left=NAMES,
        right=365,
        figures=404,
        low=min(ends) - room,
        high=max(ends) + room,
        write=lambda value: f"{100 * value:.0f}",
        dark=[rows[0][0]["mean"]] if rows[0][0] else [],
        dots=[[_dot(row, plain_percent(row["mean"])) if row else None for row in pair] for pair in rows],
    )


def _difference_panel(rows: Rows, against: str) -> Panel:
    """Each arm's difference from the baseline."""
    found = [[row["difference"] if row else None for row in pair] for pair in rows]
    reach = 1.08 * reach_of(end for pair in found for apart in pair for end in ends_of(apart))
    return Panel(
        title=f"minus {against}, points",
        left=424,
        right=625,
        figures=WIDTH - 4,
        low=-reach,
        high=reach,
        dark=[0.0],
        write=lambda value: percent_points(value) if abs(value) > 1e-9 else "0",
        dots=[[_dot(apart, label_of(apart)) if apart else None for apart in pair] for pair in found],
    )


def _share_panel(rows: Rows) -> Panel:
    """Each arm's share of the oracle's gain; the oracle itself, whose share is 100 %, has its gain as text."""
    told = [row["share"] for pair in rows for row in pair if row and row["share"] and row["share"]["share"] is not None]
    ends = [share[key] for share in told for key in ("low", "high")]
    return Panel(
        title="share of the oracle's gain",
        left=424,
        right=645,
        figures=WIDTH - 4,
        low=max(-1.0, min(-0.05, *ends)),
        high=min(2.0, max(1.05, *ends)),
        dark=[0.0, 1.0],
        write=whole_percent,
        dots=[[_share_dot(row) for row in pair] for pair in rows],
    )


def _share_dot(row: Row | None) -> Dot | None:
    if row is None or (row["share"] is None and row["arm"] != ORACLE):
        return None
    if row["share"] is None:
        apart = row["difference"]
        return Dot(mean=None, low=None, high=None, says=f"{percent_points(apart['mean'])} points" if apart else NONE)
    share = row["share"]
    return Dot(mean=share["share"], low=share["low"], high=share["high"], says=share_cell(share))


def _dot(found: Row, says: str) -> Dot:
    return Dot(mean=found["mean"], low=found["low"], high=found["high"], says=says)


def _axis(panel: Panel, height: float) -> list[Markup]:
    line = Markup('<line class="{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>')
    text = Markup('<text class="faint" x="{}" y="{}" text-anchor="middle">{}</text>')
    body = []
    ticks = axis_ticks(panel.low, panel.high, count=4)
    for css, values in (("grid", ticks), ("zero", panel.dark)):
        body += [line.format(css, TOP - 8, as_px(height - BOTTOM + 4), x=as_px(panel.x(value))) for value in values]
    at = as_px(height - BOTTOM + 20)
    return [*body, *(text.format(as_px(panel.x(value)), at, panel.write(value)) for value in ticks)]


def _mark(dot: Dot, panel: Panel, *, y: float, colour: int) -> list[Markup]:
    figure = Markup('<text x="{}" y="{}" text-anchor="end">{}</text>')
    body = [figure.format(as_px(panel.figures), as_px(y + 4), dot.says)]
    if dot.low is not None and dot.high is not None:
        whisker = Markup('<line class="whisker c{}" x1="{}" x2="{}" y1="{y}" y2="{y}"/>')
        body.append(whisker.format(colour, as_px(panel.x(dot.low)), as_px(panel.x(dot.high)), y=as_px(y)))
    if dot.mean is None:
        return body
    if panel.low <= dot.mean <= panel.high:
        circle = Markup('<circle class="c{}" cx="{}" cy="{}" r="4.5"/>')
        return [*body, circle.format(colour, as_px(panel.x(dot.mean)), as_px(y))]
    arrow = Markup('<path class="c{}" d="M{} {} l{} -5 v10 z"/>')
    return [*body, arrow.format(colour, as_px(panel.x(dot.mean)), as_px(y), 9 if dot.mean < panel.low else -9)]
