"""Tables as a paper prints them, in Markdown, LaTeX (booktabs) and CSV: values with intervals, n, footnotes.

    | model | accuracy | n |               \\begin{tabular}{llr} \\toprule …
    | grpo  | **61.3** [55.0, 67.1] | 251 |

A value is bold only where it is clearly the best: each builder says in a footnote what that means there.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrft.errors import RecipeError
from medrft.report.wording import NONE, metric_label, percent_points, plain_number, plain_percent, signed_number

Facts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number with its interval; a share is printed in percent, a difference with its sign."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    share: bool = True
    signed: bool = False
    best: bool = False

    def words(self) -> tuple[str, str]:
        """The number and its interval, without marks.

        >>> Value(mean=0.6125, low=0.55, high=0.671).words(), Value(mean=-0.02, signed=True).words()
        (('61.3', '[55.0, 67.1]'), ('−2.0', ''))
        """
        say = {
            (True, False): plain_percent,
            (True, True): percent_points,
            (False, False): plain_number,
            (False, True): signed_number,
        }[self.share, self.signed]
        return say(self.mean), "" if self.low is None else f"[{say(self.low)}, {say(self.high)}]"

    def numbers(self) -> list[float | None]:
        """Mean, low and high in the table's unit, for a file that is read by programs."""
        scale = 100.0 if self.share else 1.0
        return [None if one is None else round(scale * one, 4) for one in (self.mean, self.low, self.high)]


Cell = str | int | Value


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table and what stands under it."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


# ---- writing --------------------------------------------------------------------------------------------------------


def as_markdown(table: PaperTable) -> str:
    """The table in Markdown, its caption above and its footnotes below."""

    def cell(value: Cell) -> str:
        if not isinstance(value, Value):
            return escape_markdown(str(value))
        number, bounds = value.words()
        return f"{f'**{number}**' if value.best else number} {bounds}".strip()

    lines = [escape_markdown(table.caption), "", *_markdown_rows(map(escape_markdown, table.heads), _right(table))]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in table.rows]
    return "\n".join([*lines, "", *(f"- {escape_markdown(note)}" for note in table.notes)]) + "\n"


def _markdown_rows(heads: Iterable[str], right: Sequence[bool]) -> list[str]:
    return [f"| {' | '.join(heads)} |", f"|{'|'.join('---:' if one else '---' for one in right)}|"]


def as_latex(table: PaperTable) -> str:
    """The table in LaTeX; it needs `\\usepackage{booktabs}` alone."""

    def cell(value: Cell) -> str:
        if not isinstance(value, Value):
            return escape_latex(str(value))
        number, bounds = map(escape_latex, value.words())
        number = f"\\textbf{{{number}}}" if value.best else number
        return f"{number} {{\\scriptsize {bounds}}}" if bounds else number

    columns = "".join("r" if one else "l" for one in _right(table))
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape_latex(table.caption)}}}",
    ]
    lines += [
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        f"{' & '.join(map(escape_latex, table.heads))} \\\\",
        "\\midrule",
    ]
    # A row that begins with [ or * would be read as an argument of the line's end before it.
    rows = [" & ".join(map(cell, row)) for row in table.rows]
    lines += [f"{'{}' if row[:1] in ('[', '*') else ''}{row} \\\\" for row in rows]
    lines += ["\\bottomrule", "\\end{tabular}"]
    if table.notes:
        notes = " ".join(escape_latex(note.rstrip(".") + ".") for note in table.notes)
        lines += ["", f"\\smallskip\\parbox{{\\linewidth}}{{\\footnotesize {notes}}}"]
    return "\n".join([*lines, "\\end{table}"]) + "\n"


def as_csv(table: PaperTable) -> str:
    """The table as CSV; an interval has two columns of its own, and footnotes follow as comments."""
    columns = [[row[i] for row in table.rows] for i in range(len(table.heads))]
    wide = [any(isinstance(cell, Value) and cell.low is not None for cell in column) for column in columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [
        [head, f"{head} low", f"{head} high"] if more else [head] for head, more in zip(table.heads, wide, strict=True)
    ]
    writer.writerow([name for group in heads for name in group])
    for row in table.rows:
        cells: list[Any] = []
        for value, more in zip(row, wide, strict=True):
            numbers = value.numbers() if isinstance(value, Value) else [_plain(value), "", ""]
            cells += numbers if more else numbers[:1]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue() + "".join(f"# {' '.join(note.split())}\n" for note in table.notes)


FORMATS: dict[str, Callable[[PaperTable], str]] = {"markdown": as_markdown, "latex": as_latex, "csv": as_csv}


def write_table(table: PaperTable, form: str) -> str:
    """The table in one of `FORMATS`."""
    return FORMATS[form](table)


def chosen_format(*, markdown: bool, latex: bool, as_csv: bool, json: bool = False) -> str | None:
    """The one format that was asked for, `None` for none; raises `RecipeError` for several."""
    asked = [name for name, given in (("markdown", markdown), ("latex", latex), ("csv", as_csv)) if given]
    if len(asked) + json > 1:
        raise RecipeError("a table is printed in one form: pass one of --markdown, --latex and --csv, without --json")
    return asked[0] if asked else None


def _right(table: PaperTable) -> list[bool]:
    """Which columns hold numbers alone."""
    return [all(not isinstance(row[i], str) or row[i] == NONE for row in table.rows) for i in range(len(table.heads))]


def _plain(value: Cell) -> Cell:
    """A cell of text that no spreadsheet takes for a formula: models and data sets name things."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t" and value else value


def escape_markdown(text: str) -> str:
    """Text that cannot leave its cell, nor be read as marks or tags.

    >>> escape_markdown("a|b <x> *c*")
    'a\\\\|b &lt;x> \\\\*c\\\\*'
    """
    return re.sub(r"([\\|*_`])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{
        "−": "$-$",
        "–": "--",
        "—": "---",
        "±": "$\\pm$",
        "≥": "$\\geq$",
        "≤": "$\\leq$",
        "×": "$\\times$",
        "…": "\\ldots{}",
    },
    **{"<": "$<$", ">": "$>$", '"': "''"},
}


def escape_latex(text: str) -> str:
    """Text in which no sign is a command.

    >>> escape_latex("exact_match −2.0 % of {a}")
    'exact\\\\_match $-$2.0 \\\\% of \\\\{a\\\\}'
    """
    return "".join(LATEX.get(sign, sign) for sign in " ".join(text.split()))


# ---- what commands print --------------------------------------------------------------------------------------------


def comparison_table(found: Facts) -> PaperTable:
    """The tests of `medrft compare`: a row for each, the better value bold where its corrected p is below 0.05."""
    from medrft.evaluation.compare.matching import say_pairing
    from medrft.evaluation.own_scorers import is_share

    several = len(found["against"]) > 1
    rows: list[tuple[Cell, ...]] = []
    for test in found["tests"]:
        share, clear = is_share(test), test["p_holm"] < 0.05
        upwards = (test["difference"] > 0) == (test.get("better", "higher") != "lower")
        a = Value(mean=test["mean_a"], share=share, best=clear and not upwards)
        b = Value(mean=test["mean_b"], share=share, best=clear and upwards)
        apart = Value(mean=test["difference"], low=test["low"], high=test["high"], share=share, signed=True)
        name = (test["b"],) if several else ()
        rows.append(
            (
                *name,
                test["dataset"],
                test["kind"],
                metric_label(test["metric"]),
                a,
                b,
                apart,
                test["n"],
                _p(test["p_holm"]),
            )
        )
    one = "B" if several else found["against"][0]["name"]
    pairings = [say_pairing(other["name"], other["paired_by_question"]) for other in found["against"]]
    heads = (*(("B",) if several else ()), "data set", "kind", "metric", found["baseline"], one, "difference", "n", "p")
    return PaperTable(
        caption=f"Against {found['baseline']}: shares in percent, differences in points",
        heads=heads,
        rows=tuple(rows),
        notes=(
            f"Brackets: {found['interval']}",
            f"p: {found['p']}; {found['correction']}; bold where it is below 0.05",
            f"Clusters: {found['clusters']}",
            *_encoders(side.get("encoder") for side in found["sides"]),
            *(said[:1].upper() + said[1:] for said in pairings if said),
            *(
                f"Left out: {n['count']} examples, {why}"
                for one in found["against"]
                for why, n in one["left_out"].items()
            ),
            found["conditional"][:1].upper() + found["conditional"][1:],
        ),
    )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def rescored_table(header: Facts, report: Facts) -> PaperTable:
    """The figures of `medrft rescore`; nothing is bold, for there is one model."""
    rows: list[tuple[Cell, ...]] = []
    for dataset, sources in report["results"].items():
        for kind, metrics in sources["none"].items():
            for name, metric in metrics.items():
                if metric["mean"] is not None and not (name == "correct" and kind != "open"):
                    value = Value(mean=metric["mean"], low=metric["low"], high=metric["high"], share=name != "n_tokens")
                    rows.append((dataset, kind, metric_label(name), value, metric["n"]))
    left = report["left_out"]["reasons"].items()
    return PaperTable(
        caption=f"Answers of {header['model'] or header['source']}, scored again; shares in percent",
        heads=("data set", "kind", "metric", "value", "n"),
        rows=tuple(rows),
        notes=(
            f"Brackets: {report['interval']}",
            *_encoders([header["encoder"]]),
            f"Answers from {header['evaluator']}; {report['no_answer']} hold no single answer and count as wrong",
            *(f"Left out: {count} rows, {reason}" for reason, count in left),
            "No control is among these answers",
        ),
    )


def _encoders(found: Iterable[Any]) -> list[str]:
    """A footnote on the sentence encoders behind similarity metrics."""
    names = dict.fromkeys(one["id"] for one in found if isinstance(one, Mapping) and one.get("id"))
    return [f"Similarity metrics use {', '.join(names)}"] if names else []
