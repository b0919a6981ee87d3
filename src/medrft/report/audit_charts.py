"""Draws the charts of an audit as SVG: strips of scores by kind of answer, and histograms of spread within groups.

They are static like all charts of the report: no script, and colours from the page's CSS.
"""

from __future__ import annotations

from collections.abc import Sequence

from medrft.errors import naming_extras
from medrft.report.wording import plain_number

with naming_extras():
    from markupsafe import Markup

WIDTH = 420
LEFT, RIGHT = 112, 10
ROW = 26
COLORS = {"right": 2, "paraphrase": 0, "contradiction": 1, "wrong": 4, "prediction": 5, "hack": 3}
NAMES = {
    "right": "the reference itself",
    "paraphrase": "in other words",
    "contradiction": "one detail wrong",
    "wrong": "another answer",
    "prediction": "real answers",
    "hack": "tricks",
}
SHORT = {
    "right": "right",
    "paraphrase": "in other words",
    "contradiction": "one detail wrong",
    "wrong": "wrong",
    "prediction": "real answers",
    "hack": "tricks",
}


def strip_chart(rows: Sequence[tuple[str, Sequence[float]]], *, scale: tuple[float, float], label: str) -> Markup:
    """One strip per kind of answer: a faint line for each score, and a mark at the median."""
    height = ROW * len(rows) + 20
    body = _scale(scale, height)
    for place, (kind, values) in enumerate(rows):
        y = place * ROW + 4
        text = Markup('<text x="{}" y="{}" text-anchor="end">{}</text>')
        body += text.format(LEFT - 8, y + 13, SHORT.get(kind, kind))
        for value in values:
            x = _x(value, scale)
            tick = Markup('<line class="tick c{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>')
            body += tick.format(COLORS.get(kind, 6), y + 1, y + 17, x=x)
        middle = sorted(values)[len(values) // 2]
        mark = Markup('<path class="median" d="M{x} {a}l5 5l-5 5l-5 -5z"><title>{says}</title></path>')
        says = f"{NAMES.get(kind, kind)}: median {plain_number(middle)}, {len(values)} shown"
        body += mark.format(x=_x(middle, scale), a=y + 4, says=says)
    return _svg("strips", WIDTH, height, label, body)


def spread_histogram(
    before: Sequence[int] | None, after: Sequence[int], *, top: float, floor: float, label: str
) -> Markup:
    """Spread within groups: bars after calibration, an outline before it, a line at the floor."""
    width, height, low = 300, 96, 14
    most = max([1, *after, *(before or [])])
    step = width / len(after)

    def y(count: int) -> float:
        return round((height - low) * (1 - count / most), 1)

    body = Markup("")
    for i, count in enumerate(after):
        bar = Markup('<rect class="bin" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>')
        says = f"{plain_number(i * top / len(after))} to {plain_number((i + 1) * top / len(after))}: {count} groups"
        body += bar.format(
            round(i * step + 0.5, 1), y(count), round(step - 1, 1), round(height - low - y(count), 1), says
        )
    if before is not None and list(before) != list(after):
        points = []
        for i, count in enumerate(before):
            points += [f"{i * step:.1f},{y(count)}", f"{(i + 1) * step:.1f},{y(count)}"]
        body += Markup('<polyline class="outline" points="{}"/>').format(" ".join(points))
    at = round(width * min(1.0, floor / top), 1)
    body += Markup('<line class="floor" x1="{x}" x2="{x}" y1="0" y2="{}"/>').format(height - low, x=at)
    for share in (0, 0.5, 1):
        anchor = {0: "start", 0.5: "middle", 1: "end"}[share]
        text = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
        body += text.format(
            round(width * share), height - 2, anchor, plain_number(top * share) + ("+" if share == 1 else "")
        )
    return _svg("spread", width, height, label, body)


def share_bar(share: float, *, label: str, bad: bool = False) -> Markup:
    """A share in [0, 1] as a thin bar."""
    width = round(100 * min(1.0, max(0.0, share)), 1)
    return Markup(
        '<svg class="gain{}" role="img" aria-label="{}" viewBox="0 0 100 8" preserveAspectRatio="none">'
        '<rect class="bar-back" width="100" height="8"/><rect class="bar-fill" width="{}" height="8"/></svg>'
    ).format(" bad" if bad else "", label, width)


def _scale(scale: tuple[float, float], height: int) -> Markup:
    body = Markup("")
    for share in (0, 0.25, 0.5, 0.75, 1):
        value = scale[0] + share * (scale[1] - scale[0])
        x = _x(value, scale)
        body += Markup('<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{}"/>').format(height - 16, x=x)
        text = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
        body += text.format(x, height - 3, plain_number(round(value, 2)))
    return body


def _x(value: float, scale: tuple[float, float]) -> float:
    share = (value - scale[0]) / (scale[1] - scale[0]) if scale[1] > scale[0] else 0.5
    return round(LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT), 1)


def _svg(css: str, width: float, height: float, label: str, body: Markup) -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        css, width, height, label, body
    )
