"""What an audit's summary says of people: its tables for the console and the page, and the bars of the page.

Candidates and references come from data sets and models. Nothing here is marked as safe but constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from medrft.errors import naming_extras
from medrft.report.charts import as_px, axis_ticks
from medrft.report.wording import plain_number, whole_percent

with naming_extras():
    from markupsafe import Markup

Row = Mapping[str, Any]
Table = tuple[str, list[str], list[list[str]], list[str]]
"""Title, columns, rows, notes."""

FIGURES = {"tau": "Kendall's tau", "auroc": "AUROC", "orderings": "orders kept"}
LEAST = {"tau": 0.0, "auroc": 0.5, "orderings": 0.0}
"""Where the bars begin: at what a coin reaches."""
WIDTH, NAMES, FIGURE, STEP = 640, 170, 128, 24


def people_table(judged: Row) -> Table:
    """The table of one set: a row per reward, and the people among themselves last."""
    others = list(dict.fromkeys(name for row in judged["rewards"].values() for name in row["differences"]))
    paid = judged["kind"] == "labels"
    columns = ["", FIGURES[judged["figure"]], *(f"minus {name}" for name in others)]
    columns += ["right paid", "wrong paid"] if paid else []
    columns += ["near 0", "unscored", "encoder"]
    rows = []
    for name, row in judged["rewards"].items():
        cells = [name, say_figure(row["figure"])]
        cells += [say_interval(row["differences"].get(other), signed=True) for other in others]
        cells += [say_interval(row["paid"][side], bounds=False) for side in ("right", "wrong")] if paid else []
        rows.append([*cells, whole_percent(row["near_zero"]), str(row["unscored"]), row["encoder"] or "–"])
    if judged["ceiling"] is not None:
        empty = [""] * (len(columns) - 2)
        rows.append(["people among themselves", say_interval(judged["ceiling"]), *empty])
    return say_title(judged), columns, rows, list(notes_of(judged))


def say_title(judged: Row) -> str:
    """What was measured, on how much."""
    if judged["kind"] == "orderings":
        return f"{judged['name']}: {judged['n']} orders that people gave"
    raters = len(judged["raters"])
    by = f"{judged['kind']} by {raters} raters" if raters > 1 else judged["kind"]
    return f"{judged['name']}: {judged['n']:,} rows of {judged['studies']:,} studies, {by}"


def notes_of(judged: Row) -> Iterator[str]:
    """What a reader of the figures must know."""
    yield from judged["notes"]
    if judged["tolerance"] is not None:
        yield f"an order holds if a preferred answer earns more, and equal ones lie within {judged['tolerance']:g}"
    ceiling = judged["ceiling"]
    if ceiling is not None and ceiling["alone"] is not None:
        yield f"each rater with the mean of the others: {say_interval(ceiling['alone'])}"
    if ceiling is not None and ceiling["same"] is not None:
        yield f"two raters give the same label in {whole_percent(ceiling['same']['mean'])} of cases"
    for name, row in judged["rewards"].items():
        each = [
            f"above {label} {say_interval(found['auroc'])}, paid {plain_number(found['paid']['mean'])}"
            for label, found in row["labels"].items()
            if found["auroc"] is not None
        ]
        if each and len(row["labels"]) > 2:
            yield f"{name}: right {'; '.join(each)}"


def say_figure(figure: Row | None) -> str:
    """A figure with its interval; of orders, how many are kept.

    >>> say_figure({"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8, "right": 4})
    '4 of 8, 0.50 [0.25, 0.75]'
    """
    kept = f"{figure['right']} of {figure['n']}, " if figure is not None and "right" in figure else ""
    return kept + say_interval(figure)


def say_interval(figure: Row | None, *, signed: bool = False, bounds: bool = True) -> str:
    """A mean and its interval with two digits; a dash where it is not defined.

    >>> say_interval({"mean": -0.1, "low": -0.2, "high": 0.0, "n": 9}, signed=True), say_interval(None)
    ('-0.10 [-0.20, +0.00]', '–')
    """
    if figure is None:
        return "–"
    form = "+.2f" if signed else ".2f"
    known = bounds and figure["low"] is not None
    return f"{figure['mean']:{form}}" + (f" [{figure['low']:{form}}, {figure['high']:{form}}]" if known else "")


def people_sections(summary: Row) -> list[dict[str, Any]]:
    """The sets of an audit, ready for the template."""
    found = []
    for judged in summary.get("people", ()):
        title, columns, rows, notes = people_table(judged)
        found.append(
            {
                "title": title,
                "kind": judged["kind"],
                "chart": agreement_bars(judged),
                "ceiling": None if judged["ceiling"] is None else say_interval(judged["ceiling"]),
                "columns": columns,
                "rows": rows,
                "notes": notes,
                "worst": [
                    {"name": name, "rows": judged["rewards"][name]["worst"]}
                    for name in judged["audited"]
                    if judged["rewards"][name]["worst"]
                ],
            }
        )
    return found


def agreement_bars(judged: Row) -> Markup:
    """A bar with its interval for each reward, and a line where the people themselves agree."""
    least = LEAST[judged["figure"]]
    rows = [(name, row["figure"]) for name, row in judged["rewards"].items()]
    ends = [figure[key] for _, figure in rows if figure for key in ("mean", "low") if figure[key] is not None]
    scale = (float(min([least, *ends])), 1.0)
    height = STEP * len(rows) + 22

    def x(value: float) -> float:
        share: float = (min(1.0, max(scale[0], value)) - scale[0]) / (scale[1] - scale[0])
        return NAMES + share * (WIDTH - NAMES - FIGURE)

    body = Markup("")
    for tick in axis_ticks(*scale, count=5):
        line = Markup('<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{}"/>').format(height - 18, x=as_px(x(tick)))
        text = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
        body += line + text.format(as_px(x(tick)), height - 4, plain_number(round(tick, 2)))
    for place, (name, figure) in enumerate(rows):
        body += _bar(name, figure, y=place * STEP, x=x, least=max(least, scale[0]))
    if judged["ceiling"] is not None:
        top = judged["ceiling"]["mean"]
        line = Markup('<line class="ceiling" x1="{x}" x2="{x}" y1="0" y2="{}"><title>{}</title></line>')
        body += line.format(height - 18, f"people among themselves {say_interval(judged['ceiling'])}", x=as_px(x(top)))
    label = f"{FIGURES[judged['figure']]} of {len(rows)} rewards"
    return Markup('<svg class="strips people" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, body
    )


def _bar(name: str, figure: Row | None, *, y: float, x: Callable[[float], float], least: float) -> Markup:
    text = Markup('<text x="{}" y="{}" text-anchor="end">{}</text>')
    body = text.format(NAMES - 8, as_px(y + 15), name if len(name) < 24 else f"{name[:22]}…")
    if figure is None:
        return body + Markup('<text x="{}" y="{}">not defined</text>').format(as_px(x(least) + 4), as_px(y + 15))
    left, right = sorted((x(least), x(figure["mean"])))
    bar = Markup('<rect class="bin" x="{}" y="{}" width="{}" height="14"><title>{}</title></rect>')
    body += bar.format(as_px(left), as_px(y + 4), as_px(max(1.0, right - left)), f"{name}: {say_figure(figure)}")
    if figure["low"] is not None:
        whisker = Markup('<line class="whisker" x1="{}" x2="{}" y1="{y}" y2="{y}"/>')
        body += whisker.format(as_px(x(figure["low"])), as_px(x(figure["high"])), y=as_px(y + 11))
    return body + Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
        WIDTH - 2, as_px(y + 15), say_interval(figure)
    )
