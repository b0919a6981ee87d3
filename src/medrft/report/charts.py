"""Draws static SVG charts: series of numbers go in; line charts with a band, or interval marks, come out as `Markup`.

There is no script and no chart library. So a page stays small (plotly.js alone is 4 MB), opens offline, prints,
follows the reader's light or dark mode through CSS, and can forbid scripts, which untrusted model output calls for.
Values under the pointer are SVG titles. Colours are those of Okabe and Ito, made for colour-blind readers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrft.errors import naming_extras
from medrft.report.wording import percent_points, plain_number

with naming_extras():
    from markupsafe import Markup

Write = Callable[[float], str]

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 26
POINTS = 160
"""Longer series are averaged into at most this many points."""
SMOOTHED_FROM = 40
"""Series at least this long are drawn faintly, with a running mean over them."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart: values by step. Steps without a value are left out."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    spread: Sequence[float] | None = None
    """Half the width of a band around the line, at each step."""
    color: int = 0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The ranges of steps and values that a chart shows, and where each lies on the picture."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, step: float) -> float:
        """Horizontal position of a step."""
        share = (step - self.x0) / (self.x1 - self.x0) if self.x1 > self.x0 else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Vertical position of a value, kept inside the frame."""
        share = (value - self.y0) / (self.y1 - self.y0)
        return HEIGHT - BOTTOM - min(1.0, max(0.0, share)) * (HEIGHT - TOP - BOTTOM)


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    at_least: float,
    floor: float | None = None,
    ceiling: float | None = None,
    write: Write = plain_number,
) -> Markup:
    """Lines over training steps, as an inline SVG; `write` turns a value into text.

    The vertical scale spans at least `at_least`, so that the noise of a constant does not look like a trend. It stays
    within `floor` and `ceiling`, the bounds of the quantity.
    """
    thinned = [thin_series(one) for one in series]
    frame = frame_of(thinned, at_least=at_least, floor=floor, ceiling=ceiling)
    body = [*_y_axis(frame, write), *_x_axis(frame)]
    body += [mark for one in thinned if one.spread for mark in _band(one, frame)]
    body += [mark for one in thinned for mark in _line(one, frame, write)]
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="xMidYMid meet">{}</svg>'
    ).format(WIDTH, HEIGHT, label, Markup("").join(body))


def thin_series(series: Series) -> Series:
    """A series averaged into at most `POINTS` points, so that a long run keeps its page small."""
    size = math.ceil(len(series.values) / POINTS)
    if size < 2:
        return series
    return Series(
        name=series.name,
        steps=_blocks(series.steps, size),
        values=_blocks(series.values, size),
        spread=_blocks(series.spread, size) if series.spread else None,
        color=series.color,
    )


def smooth_values(values: Sequence[float]) -> list[float]:
    """A centred running mean over a tenth of the series, narrower at its ends.

    >>> smooth_values([0.0, 0.0, 0.0, 3.0, 3.0, 3.0])
    [0.0, 0.0, 1.0, 2.0, 3.0, 3.0]
    """
    reach = max(1, len(values) // 20)
    result = []
    for i in range(len(values)):
        width = min(reach, i, len(values) - 1 - i)
        near = values[i - width : i + width + 1]
        result.append(sum(near) / len(near))
    return result


def frame_of(
    series: Sequence[Series], *, at_least: float, floor: float | None = None, ceiling: float | None = None
) -> Frame:
    """The steps and values that a chart shows: all of them, with a little room."""
    steps = [step for one in series for step in one.steps]
    ends = [end for one in series for end in _ends(one)]
    low, high = min(ends), max(ends)
    room = max((at_least - (high - low)) / 2, 0.06 * (high - low), 1e-9)
    low, high = low - room, high + room
    if floor is not None and low < floor:
        low, high = floor, max(high, min(floor + at_least, ceiling if ceiling is not None else math.inf))
    if ceiling is not None and high > ceiling:
        low, high = min(low, max(ceiling - at_least, floor if floor is not None else -math.inf)), ceiling
    return Frame(x0=min(steps), x1=max(steps), y0=low, y1=high)


def axis_ticks(low: float, high: float, *, count: int) -> list[float]:
    """About `count` round numbers between two bounds.

    >>> axis_ticks(0.0, 1.0, count=4)
    [0.0, 0.5, 1.0]
    >>> axis_ticks(12, 118, count=4)
    [50.0, 100.0]
    """
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _ends(series: Series) -> list[float]:
    if not series.spread:
        return list(series.values)
    pairs = list(zip(series.values, series.spread, strict=True))
    return [v - s for v, s in pairs] + [v + s for v, s in pairs]


def _blocks(values: Sequence[float], size: int) -> list[float]:
    parts = [values[i : i + size] for i in range(0, len(values), size)]
    return [sum(part) / len(part) for part in parts]


def _y_axis(frame: Frame, write: Write) -> list[Markup]:
    marks = []
    for value in axis_ticks(frame.y0, frame.y1, count=5):
        y = frame.y(value)
        marks.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                LEFT, WIDTH - RIGHT, as_px(y), as_px(y)
            )
        )
        marks.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(LEFT - 6, as_px(y + 3.5), write(value))
        )
    return marks


def _x_axis(frame: Frame) -> list[Markup]:
    whole = [step for step in axis_ticks(frame.x0, frame.x1, count=4) if step == int(step)] or [frame.x0]
    marks = []
    for step in whole:
        x = frame.x(step)
        anchor = "end" if x > WIDTH - RIGHT - 12 else "middle"
        text = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
        marks.append(text.format(as_px(x), HEIGHT - BOTTOM + 16, anchor, plain_number(step)))
    return marks


def _band(series: Series, frame: Frame) -> list[Markup]:
    assert series.spread is not None
    rows = list(zip(series.steps, series.values, series.spread, strict=True))
    upper = [f"{as_px(frame.x(step))},{as_px(frame.y(value + spread))}" for step, value, spread in rows]
    lower = [f"{as_px(frame.x(step))},{as_px(frame.y(value - spread))}" for step, value, spread in reversed(rows)]
    return [Markup('<polygon class="band c{}" points="{}"/>').format(series.color, " ".join(upper + lower))]


def _line(series: Series, frame: Frame, write: Write) -> list[Markup]:
    points = [(frame.x(step), frame.y(value)) for step, value in zip(series.steps, series.values, strict=True)]
    long = len(points) >= SMOOTHED_FROM
    marks = [_path(points, f"line c{series.color}{' faint' if long else ''}")]
    if long:
        steady = [(frame.x(s), frame.y(v)) for s, v in zip(series.steps, smooth_values(series.values), strict=True)]
        marks.append(_path(steady, f"line c{series.color}"))
    radius = 3 if len(points) <= 12 else 0
    for i, (x, y) in enumerate(points):
        says = f"{series.name}, step {plain_number(series.steps[i])}: {write(series.values[i])}"
        if series.spread:
            says += f" ± {write(series.spread[i])}"
        if radius:
            marks.append(
                Markup('<circle class="dot c{}" cx="{}" cy="{}" r="{}"/>').format(
                    series.color, as_px(x), as_px(y), radius
                )
            )
        marks.append(
            Markup('<circle class="hit" cx="{}" cy="{}" r="7"><title>{}</title></circle>').format(
                as_px(x), as_px(y), says
            )
        )
    return marks


def _path(points: Sequence[tuple[float, float]], css: str) -> Markup:
    return Markup('<polyline class="{}" points="{}"/>').format(
        css, " ".join(f"{as_px(x)},{as_px(y)}" for x, y in points)
    )


def ends_of(difference: Mapping[str, Any] | None) -> list[float]:
    """The mean of a difference and the bounds that it has."""
    return [] if difference is None else [difference[k] for k in ("mean", "low", "high") if difference[k] is not None]


def scale_reach(differences: Iterable[Mapping[str, Any] | None]) -> float:
    """How far a scale must go to either side of 0 to hold all these differences; at least 0.05 (five points)."""
    return max([0.05, *(abs(end) for difference in differences for end in ends_of(difference))]) * 1.05


def difference_mark(difference: Mapping[str, Any], *, reach: float) -> Markup:
    """A difference of shares (`mean`, `low`, `high`, `n`) with its interval, on a scale of `reach` around 0."""
    mean, low, high = (difference[key] for key in ("mean", "low", "high"))
    reaches = f"95 % interval {percent_points(low)} to {percent_points(high)}"
    says = f"{percent_points(mean)} points, {reaches if low is not None else 'too few for an interval'}"
    return interval_mark(mean, low, high, scale=(-reach, reach), says=f"{says}, n {difference['n']}", zero=True)


def interval_mark(
    mean: float, low: float | None, high: float | None, *, scale: tuple[float, float], says: str, zero: bool = False
) -> Markup:
    """A dot with its interval on a horizontal scale, as an SVG that fills its place; `zero` draws a line at 0."""

    def at(value: float) -> str:
        share = (value - scale[0]) / (scale[1] - scale[0]) if scale[1] > scale[0] else 0.5
        return f"{as_px(2 + 96 * min(1.0, max(0.0, share)))}%"

    body = Markup('<line class="track" x1="0%" x2="100%" y1="11" y2="11"/>')
    if zero:
        body += Markup('<line class="zero" x1="{x}" x2="{x}" y1="0" y2="22"/>').format(x=at(0.0))
    if low is not None and high is not None:
        body += Markup('<line class="whisker" x1="{}" x2="{}" y1="11" y2="11"/>').format(at(low), at(high))
    body += Markup('<circle class="mean" cx="{}" cy="11" r="5"/>').format(at(mean))
    return Markup('<svg class="mark" role="img" aria-label="{}"><title>{}</title>{}</svg>').format(says, says, body)


def as_px(number: float) -> str:
    """A coordinate with at most one digit after the point."""
    return f"{number:.1f}".removesuffix(".0")
