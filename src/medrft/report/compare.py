"""The page of `medrft compare`: differences drawn with their intervals, and every answer that changed.

Made from the JSON of the comparison alone, and from the thumbnails that the runs keep.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft import __version__
from medrft.errors import naming_extras
from medrft.report.charts import interval_mark
from medrft.report.page import KIND_NAMES, page_templates
from medrft.report.wording import percent_points

with naming_extras():
    from markupsafe import Markup

OUTCOMES = {"wrong to right": "gained", "right to wrong": "lost", "wrong to other wrong": "other"}
"""Outcome -> the style it is shown in."""

SHOWN = 400
"""Changed answers shown per model, kind and outcome; a page of tens of thousands would not open."""


def render_comparison(found: Mapping[str, Any]) -> str:
    """The page as text; loads nothing from outside itself and runs no script."""
    reach = _reach(found["tests"])
    against = [
        {
            **other,
            "tests": [{**test, "mark": _mark(test, reach)} for test in found["tests"] if test["b"] == other["name"]],
            "groups": _groups(other["changes"]["examples"], _folders(found, other["name"])),
        }
        for other in found["against"]
    ]
    pictures = any(example["pictures"] for other in against for group in other["groups"] for example in group["shown"])
    return str(
        page_templates()
        .get_template("compare.html.j2")
        .render(
            found=found,
            against=against,
            pictures=pictures,
            outcomes=OUTCOMES,
            kind_names=KIND_NAMES,
            version=__version__,
        )
    )


def _reach(tests: Sequence[Mapping[str, Any]]) -> float:
    ends: list[float] = [
        abs(test[name]) for test in tests for name in ("difference", "low", "high") if test[name] is not None
    ]
    return max([0.05, *ends]) * 1.05


def _mark(test: Mapping[str, Any], reach: float) -> Markup:
    mean, low, high = (percent_points(test[key]) for key in ("difference", "low", "high"))
    says = f"{mean} points, 95 % interval {low} to {high}"
    return interval_mark(
        test["difference"], test["low"], test["high"], scale=(-reach, reach), says=f"{says}, n {test['n']}", zero=True
    )


def _folders(found: Mapping[str, Any], name: str) -> list[Path]:
    """Folders of thumbnails of the baseline's runs and those of `name`."""
    runs = [run for side in found["sides"] if side["name"] in (found["baseline"], name) for run in side["runs"]]
    return [Path(run["path"]) / "images" for run in runs]


def _groups(examples: Sequence[Mapping[str, Any]], folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Changed answers by data set, kind and outcome, with their pictures."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for example in examples:
        groups.setdefault((example["dataset"], example["kind"], example["outcome"]), []).append(example)
    return [
        {
            "dataset": dataset,
            "kind": kind,
            "outcome": outcome,
            "count": len(members),
            "shown": [{**example, "pictures": _pictures(example["images"], folders)} for example in members[:SHOWN]],
        }
        for (dataset, kind, outcome), members in groups.items()
    ]


def _pictures(hashes: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Data addresses of the thumbnails that the runs keep; a name that is no hash is never a path."""
    found = []
    for sha256 in hashes:
        if len(sha256) == 64 and sha256.isalnum():
            paths = [path for folder in folders if (path := folder / f"{sha256}.png").is_file()]
            found += [base64.b64encode(path.read_bytes()).decode("ascii") for path in paths[:1]]
    return [f"data:image/png;base64,{data}" for data in found]
