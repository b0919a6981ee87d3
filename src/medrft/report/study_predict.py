"""Shows whether an audit predicted what rewards gained: one sentence, tables, and a picture with a point per reward."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from medrft.audit.figures import FIGURES
from medrft.errors import naming_extras
from medrft.report.charts import as_px, axis_ticks
from medrft.report.forest import svg_file
from medrft.report.study_markdown import label_of, markdown_table
from medrft.report.wording import NONE, percent_points, plain_number

with naming_extras():
    from markupsafe import Markup

Row = Mapping[str, Any]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 64, 190, 34, 46
COLOURS = (
    *(("#0072b2", "#56b4e9"), ("#d55e00", "#e69f00"), ("#009e73", "#2bc69b"), ("#cc79a7", "#e3a3c6")),
    *(("#8a6d00", "#f0e442"), ("#5d4fb3", "#a99cf0"), ("#333333", "#dddddd"), ("#a11d33", "#ff8095")),
)
"""Colour of a family's points on light and on dark ground."""
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #222 }
.faint { fill: #666 } .grid { stroke: #ddd } .zero { stroke: #888 } .whisker { stroke-width: 1.5; opacity: 0.5 }
"""
DARK = "text { fill: #ddd } .faint { fill: #aaa } .grid { stroke: #444 } .zero { stroke: #999 }"
LIGHT_POINTS, DARK_POINTS = (
    "".join(f".c{i} {{ stroke: {pair[scheme]}; fill: {pair[scheme]} }}" for i, pair in enumerate(COLOURS))
    for scheme in (0, 1)
)
HOLLOW = ".apart { fill: none }"
PLOT_STYLE = (
    f"{STYLE}{LIGHT_POINTS} {HOLLOW}\n@media (prefers-color-scheme: dark) {{ {DARK} {DARK_POINTS} {HOLLOW} }}\n"
)


def predict_words(facts: Row) -> str:
    """Whether the primary figure predicts the gains, in one sentence."""
    found = facts["predicts"]
    if found["hash"] is None:
        return "The rewards have not been audited yet: medrft study … --audit"
    told, name = found["correlations"].get(found["figure"]), figure_label(found["figure"])
    if told is None:
        return f"The rewards are audited (hash {found['hash']}), and fewer than three of them are trained"
    says = f"Spearman {correlation_cell(told)}, {told['rewards']} rewards of {told['families']} families, "
    says += f"{told['seeds']} seed{'s' if told['seeds'] > 1 else ''}"
    if told["low"] is None or told["low"] <= 0 <= told["high"]:
        return f"That the audit's {name} predicts the gained truth is not shown: {says}"
    if told["high"] < 0:
        return f"The audit's {name} predicts the contrary of the gained truth: {says}"
    least = min((value for value in told["without"].values() if value is not None), default=None)
    least_said = "" if least is None else f"; without one family {least:.2f} or more"
    return f"The audit's {name} predicts the gained truth: {says}{least_said}"


def figure_label(name: str) -> str:
    """A figure of the audit for people."""
    return {"auroc": "AUROC", "group_auroc": "AUROC in groups", "snr": "signal to noise"}.get(
        name, name.replace("_", " ")
    )


def correlation_cell(found: Row) -> str:
    """A correlation with its interval.

    >>> correlation_cell({"rho": 0.62, "low": 0.31, "high": 0.8}), correlation_cell({"rho": None, "low": None})
    ('0.62 [0.31, 0.80]', '–')
    """
    if found["rho"] is None:
        return NONE
    bounds = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return (f"{found['rho']:.2f}" + bounds).replace("-", "−")


def correlation_rows(found: Row) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table of figures: each with its correlation, and that without each family."""
    families = list(dict.fromkeys(name for told in found["correlations"].values() for name in told["without"]))
    heads = ["figure of the audit", "Spearman with the gain", *(f"without {family}" for family in families)]
    order = sorted(found["correlations"].items(), key=lambda one: 2.0 if one[1]["rho"] is None else -one[1]["rho"])
    rows = []
    for name, told in order:
        left = (told["without"].get(family) for family in families)
        cells = [NONE if value is None else f"{value:.2f}".replace("-", "−") for value in left]
        star = " (primary)" if name == found["figure"] else ""
        rows.append([f"{figure_label(name)}{star}: {FIGURES[name][1]}", correlation_cell(told), *cells])
    return heads, rows


def reward_rows(found: Row) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table of rewards: what the audit said, what training gained, and grave findings."""
    heads = ["reward", "family", *map(figure_label, FIGURES), "gain, points", "errors found"]
    rows = []
    for row in found["rewards"]:
        figures = [plain_number(row["figures"].get(name)) for name in FIGURES]
        grave = [one.removeprefix("error ").replace("_", " ") for one in row["findings"] if one.startswith("error ")]
        apart = " (apart)" if row["family"] in found["without"] else ""
        rows.append([row["arm"], row["family"] + apart, *figures, label_of(row["gain"]), ", ".join(grave) or NONE])
    return heads, rows


def error_words(found: Row) -> str:
    """Which rewards the primary figure places worst; empty without any."""
    placed = (f"{row['arm']} ({row['audit']:g} by the audit, {row['gain']:g} by its gain)" for row in found["worst"])
    said = ", ".join(placed)
    return f"Farthest from its gain by the primary figure, by rank: {said}" if said else ""


def late_words(found: Row) -> str:
    """Which rewards were not trained after this audit; empty where all were."""
    return f"Not trained after this audit: {', '.join(found['late'])}" if found["late"] else ""


def predict_lines(facts: Row) -> list[str]:
    """The Markdown of a study's prediction; empty for a study without one."""
    found = facts["predicts"]
    if found is None:
        return []
    lines = [f"**{predict_words(facts)}.**", ""]
    for words in (error_words(found), late_words(found)):
        lines += [f"{words}.", ""] if words else []
    lines += markdown_table("What each figure of the audit says of the gain:", *correlation_rows(found))
    if found["hash"] is not None:
        says = f"What the audit said before training (hash {found['hash']}), and what training gained over its start:"
        lines += markdown_table(says, *reward_rows(found))
    return lines


# ---- the picture ----------------------------------------------------------------------------------------------------


def predict_plot(facts: Row) -> str:
    """One SVG file: a point per reward, the audit's primary figure across, its gain up; empty without three of them."""
    found = facts["predicts"]
    name = found["figure"] if found else ""
    points = [row for row in found["rewards"] if row["gain"] and row["figures"].get(name) is not None] if found else []
    if len(points) < 3:
        return ""
    across = _Scale([row["figures"][name] for row in points], LEFT, WIDTH - RIGHT)
    up = _Scale([end for row in points for end in (0.0, *_ends(row["gain"]))], HEIGHT - BOTTOM, TOP)
    families = list(dict.fromkeys(row["family"] for row in points))
    body = _axes(across, up, figure_label(name))
    for row in points:
        body += _point(
            row, name, across, up, families.index(row["family"]) % len(COLOURS), row["family"] in found["without"]
        )
    body += [_key(i, family, apart=family in found["without"]) for i, family in enumerate(families)]
    says = f"{facts['study']}: {predict_words(facts)}"
    return svg_file(body, width=WIDTH, height=HEIGHT, says=says, style=Markup(PLOT_STYLE))


def embedded_plot(facts: Row) -> str:
    """The picture as a `data:` address for a page; empty without one."""
    drawn = predict_plot(facts)
    return f"data:image/svg+xml;base64,{b64encode(drawn.encode()).decode()}" if drawn else ""


class _Scale:
    """From values to places in the picture, with a little room at both ends."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        low, high = min(values), max(values)
        room = 0.06 * (high - low or 1.0)
        self.low, self.high, self.first, self.last = low - room, high + room, first, last

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def _ends(gain: Row) -> list[float]:
    return [value for value in (gain["low"], gain["mean"], gain["high"]) if value is not None]


def _axes(across: _Scale, up: _Scale, name: str) -> list[Markup]:
    line = Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    text = Markup('<text class="faint" x="{}" y="{}" text-anchor="{}">{}</text>')
    body = [text.format(0, 16, "start", "gained truth, points"), text.format(WIDTH - RIGHT, HEIGHT - 8, "end", name)]
    for value in axis_ticks(up.low, up.high, count=5):
        y = as_px(up(value))
        body.append(line.format("zero" if abs(value) < 1e-9 else "grid", LEFT, WIDTH - RIGHT, y, y))
        body.append(text.format(LEFT - 8, as_px(up(value) + 4), "end", percent_points(value) if value else "0"))
    for value in axis_ticks(across.low, across.high, count=6):
        x = as_px(across(value))
        body.append(line.format("grid", x, x, TOP, HEIGHT - BOTTOM))
        body.append(text.format(x, HEIGHT - BOTTOM + 18, "middle", plain_number(value)))
    return body


def _point(row: Row, name: str, across: _Scale, up: _Scale, colour: int, apart: bool) -> list[Markup]:
    x, gain = as_px(across(row["figures"][name])), row["gain"]
    body = []
    if gain["low"] is not None:
        whisker = Markup('<line class="whisker c{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>')
        body.append(whisker.format(colour, as_px(up(gain["low"])), as_px(up(gain["high"])), x=x))
    dot = Markup('<circle class="c{}{}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>')
    hollow = Markup(" apart") if apart else ""
    return [*body, dot.format(colour, hollow, x, as_px(up(gain["mean"])), f"{row['arm']}: {label_of(gain)}")]


def _key(number: int, family: str, *, apart: bool) -> Markup:
    x, y = WIDTH - RIGHT + 16, TOP + 10 + 20 * number
    dot = Markup('<circle class="c{}{}" cx="{}" cy="{}" r="4.5"/><text x="{}" y="{}">{}</text>')
    says = f"{family.replace('_', ' ')}{' (apart)' if apart else ''}"
    return dot.format(number % len(COLOURS), Markup(" apart") if apart else "", x, y, x + 12, y + 4, says)
