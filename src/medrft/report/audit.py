"""Makes `audit.html` from the `summary.json` of an audit, and the few lines of it that a run's report shows.

The summary holds text of policies and data sets, which is untrusted: Jinja escapes it, and the page runs no script.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.errors import DataError, naming_extras
from medrft.report.audit_charts import share_bar, spread_histogram, strip_chart
from medrft.report.audit_people import people_sections
from medrft.report.html import render_template
from medrft.report.wording import whole_percent
from medrft.rundir import read_json, write_atomic

with naming_extras():
    from markupsafe import Markup

TOP = 0.5
"""Upper end of the histograms of spread, a standard deviation."""
WORST = 12
"""How many inverted pairs are shown."""
KINDS = ("right", "paraphrase", "contradiction", "wrong", "prediction", "hack")
VERDICTS = {
    "error": ("Do not train with this reward", "worse", "✗"),
    "warning": ("Look at this before training", "unclear", "!"),
    "note": ("Sound, with notes", "better", "✓"),
    "sound": ("No fault found", "better", "✓"),
}
SHORT = {"error": "do not train", "warning": "look first", "note": "sound", "sound": "sound"}
Row = Mapping[str, Any]


def write_audit_page(folder: Path) -> Path:
    """Write `audit.html` beside the folder's `summary.json` and return it; raises `DataError` without one."""
    path = folder / "audit.html"
    write_atomic(path, audit_page(read_summary(folder)))
    return path


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of an audit; raises `DataError` where there is none."""
    path = folder / "summary.json"
    if not path.is_file():
        raise DataError(f"{folder} holds no audit: it has no summary.json")
    summary: dict[str, Any] = read_json(path)
    return summary


def audit_page(summary: Row) -> str:
    """The whole page as text."""
    sections = [_section(name, row, summary) for name, row in summary["rewards"].items()]
    people = people_sections(summary)
    audited = (name for judged in summary.get("people", ()) for name in judged["audited"])
    return render_template(
        "audit.html.j2",
        summary=summary,
        names=list(dict.fromkeys([*summary["rewards"], *audited])),
        sections=sections,
        people=people,
        comparison=list(comparison_rows(summary)),
        verdicts=VERDICTS,
    )


def run_fragment(summary: Row) -> dict[str, Any] | None:
    """What a run's report shows of the audit made before training; `None` if there was none."""
    if not summary.get("rewards"):
        return None
    name, row = next(iter(summary["rewards"].items()))
    rows = [(label, cells) for label, cells in comparison_rows(summary) if label != "verdict"]
    return {"name": name, "verdict": VERDICTS[row["verdict"]], "findings": row["findings"], "rows": rows}


def comparison_rows(summary: Row) -> Iterator[tuple[str, list[str]]]:
    """The short table: a label, and one cell per reward."""
    rewards = list(summary["rewards"].values())
    yield "verdict", [SHORT[row["verdict"]] for row in rewards]
    yield "right above wrong (AUROC)", [_area(row, "total") for row in rewards]
    facets = sorted({facet for row in rewards for facet in (row["auroc"] or {"facets": {}})["facets"]})
    for facet in facets:
        yield f"  {facet}", [_area(row, facet) for row in rewards]
    yield "right above wrong in a group", [_figure(row, "collapse", "signal", "auroc") for row in rewards]
    yield "signal to noise of the advantage", [_figure(row, "collapse", "signal", "snr") for row in rewards]
    yield (
        "mixed groups without spread",
        [whole_percent(_at(row, "collapse", "total", "calibrated", "under_floor")) for row in rewards],
    )
    yield "all-wrong groups that push", [whole_percent(_at(row, "collapse", "signal", "phantom")) for row in rewards]
    yield "best trick", [_best_hack(row) for row in rewards]
    for severity in ("error", "warning", "note"):
        count = [sum(f["severity"] == severity for f in row["findings"]) for row in rewards]
        yield f"{severity}s", [str(n) for n in count]
    yield "encoder", [row["encoder"] or "–" for row in rewards]


def _area(row: Row, name: str) -> str:
    areas = row["auroc"]
    area = None if areas is None else areas["total"] if name == "total" else areas["facets"].get(name, {}).get("total")
    if area is None:
        return "–"
    bounds = "" if area["low"] is None else f" [{area['low']:.2f}, {area['high']:.2f}]"
    return f"{area['mean']:.2f}{bounds}" if name == "total" else f"{area['mean']:.2f}"


def _at(row: Row, *path: str) -> Any:
    found: Any = row
    for key in path:
        found = None if found is None else found.get(key)
    return found


def _figure(row: Row, *path: str) -> str:
    value = _at(row, *path)
    return "–" if value is None else f"{value:.2f}"


def _best_hack(row: Row) -> str:
    gains = {name: hack["gain"] for name, hack in (row["hacks"] or {}).items() if hack["gain"] is not None}
    if not gains or max(gains.values()) <= 0:
        return "none pays"
    name = max(gains, key=lambda key: gains[key])
    return f"{name.replace('_', ' ')} {whole_percent(gains[name])}"


def _section(name: str, row: Row, summary: Row) -> dict[str, Any]:
    """One reward, ready for the template."""
    headline, css, sign = VERDICTS[row["verdict"]]
    return {
        "name": name,
        "row": row,
        "headline": headline,
        "css": css,
        "sign": sign,
        "parts": list(row["auroc"]["parts"]) if row["auroc"] else [],
        "heat": list(_heat(row)),
        "strips": list(_strips(row)),
        "spreads": list(_spreads(row)),
        "hacks": _hacks(row, summary["thresholds"]),
        "alternatives": _at(row, "collapse", "alternatives") or [],
        "weights": _weights(row),
        "worst": (row["auroc"] or {}).get("inverted_pairs", [])[:WORST],
    }


def _heat(row: Row) -> Iterator[dict[str, Any]]:
    """Rows of the heat map of AUROCs: all facets together, then each facet."""
    areas = row["auroc"]
    if areas is None:
        return
    total = areas["total"]
    parts = _at(row, "collapse", "parts") or {}
    shown = [name for name, part in parts.items() if part["judges_answer"]]
    if total is not None:
        yield {
            "facet": "all together",
            "n": total["contradictions"],
            "cells": _cells(total, areas["parts"], shown),
            "total": total,
        }
    for facet, found in areas["facets"].items():
        yield {
            "facet": facet,
            "n": found["n"],
            "cells": _cells(found["total"], found["parts"], shown),
            "total": found["total"],
        }


def _cells(total: Row | None, parts: Mapping[str, Row | None], shown: Sequence[str]) -> list[dict[str, Any]]:
    """Cells of a row: the whole reward, then the parts that judge the answer."""
    several = {name: parts[name] for name in shown} if len(parts) > 1 else {}
    return [
        # The CSS class goes from `h0` (always wrong) to `h10` (always right).
        {"part": name, "area": area, "css": "none" if area is None else f"h{round(10 * area['mean'])}"}
        for name, area in {"total": total, **several}.items()
    ]


def _strips(row: Row) -> Iterator[dict[str, Any]]:
    """Strips of scores by kind of answer, for the total and every part that a calibration changes."""
    for name, kinds in row["strips"].items():
        before = [(kind, [pair[0] for pair in kinds[kind]]) for kind in KINDS if kind in kinds]
        after = [(kind, [pair[1] for pair in kinds[kind]]) for kind in KINDS if kind in kinds]
        changed = before != after
        if name != "total" and not changed:
            continue
        title = "the whole reward" if name == "total" else name
        ends = [v for _, values in (*before, *after) for v in values]
        scale = (min(0.0, min(ends)), max(1.0, max(ends)))
        charts: list[tuple[str, Markup]] = []
        if changed:
            charts.append(("before calibration", strip_chart(before, scale=scale, label=f"{title} before calibration")))
        label = f"{title}{' after calibration' if changed else ''}"
        charts.append(("after calibration" if changed else "", strip_chart(after, scale=scale, label=label)))
        yield {"title": title, "charts": charts}


def _spreads(row: Row) -> Iterator[dict[str, Any]]:
    """Histograms of spread within groups, for the whole reward and its parts."""
    found = row["collapse"]
    if found is None:
        return
    columns: dict[str, Row] = {"the whole reward": found["total"]}
    if len(found["parts"]) > 1:
        columns |= found["parts"]
    for name, column in columns.items():
        after, before = column["calibrated"], column["raw"]
        if after is None:
            continue
        chart = spread_histogram(
            before["histogram"] if before else None,
            after["histogram"],
            top=TOP,
            floor=found["floor"],
            label=f"{name}: spread within groups, median {after['std_median']:.2f}",
        )
        yield {"name": name, "chart": chart, "before": before, "after": after, "column": column}


def _hacks(row: Row, limits: Row) -> list[dict[str, Any]]:
    """Hacks with the best paid first."""
    found = []
    for name, hack in (row["hacks"] or {}).items():
        gain = hack["gain"]
        bad = any(finding["name"] == f"hackable:{name}" for finding in row["findings"])
        drawn = (
            None if gain is None else share_bar(gain, label=f"{whole_percent(gain)} of a right answer's pay", bad=bad)
        )
        found.append({"name": name, "bad": bad, "drawn": drawn, **hack})
    return sorted(found, key=lambda hack: -(hack["gain"] if hack["gain"] is not None else -9))


def _weights(row: Row) -> list[dict[str, Any]]:
    """Parts of a reward of ours, by kind of question."""
    stacks = row["describe"].get("stacks") or {}
    return [
        {"kind": key, "combine": stack["combine"], "gate": stack["gate"], "parts": stack["parts"]}
        for key, stack in stacks.items()
    ]
