"""Makes the page of `medrft compare`: differences with their intervals, and the answers that changed.

It is made from the comparison's JSON alone, and from the thumbnails that the runs keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft import __version__
from medrft.evaluation.compare.matching import say_pairing
from medrft.evaluation.own_scorers import is_share, scale_note
from medrft.evaluation.run_files import read_thumbnail
from medrft.report.charts import difference_mark, scale_reach
from medrft.report.html import png_address, render_template
from medrft.report.page import KIND_NAMES
from medrft.report.wording import percent_points, plain_number, plain_percent, signed_number

OUTCOMES = {"wrong to right": "gained", "right to wrong": "lost", "wrong to other wrong": "other"}
"""Outcome -> the style it is shown in."""

SHOWN = 400
"""Most changed answers shown per data set, kind and outcome; a page of tens of thousands would not open."""


def render_comparison(found: Mapping[str, Any]) -> str:
    """The page as text; loads nothing from outside itself and runs no script."""
    reach = scale_reach(_difference(test) for test in found["tests"] if is_share(test))
    tests = [_shown(test, reach) for test in found["tests"]]
    against = [
        {
            **other,
            "tests": [test for test in tests if test["b"] == other["name"]],
            "verdict": comparison_verdict(
                found["baseline"], other["name"], [t for t in tests if t["b"] == other["name"]]
            ),
            "pairing": say_pairing(other["name"], other["paired_by_question"]),
            "groups": _groups(other["changes"]["examples"], _folders(found, other["name"])),
        }
        for other in found["against"]
    ]
    pictures = any(example["pictures"] for other in against for group in other["groups"] for example in group["shown"])
    return render_template(
        "compare.html.j2",
        found=found,
        against=against,
        sides=[{**side, "facts": _facts(side)} for side in found["sides"]],
        pictures=pictures,
        outcomes=OUTCOMES,
        kind_names=KIND_NAMES,
        version=__version__,
    )


def comparison_verdict(baseline: str, other: str, tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The comparison in one sentence: CSS class, sign, claim, and the figures that it rests on.

    A figure counts as clear if its corrected p-value is below 0.05 and its interval does not hold 0.
    """
    clear = [test for test in tests if test["css"] != "unclear" and _beside_zero(test)]
    better, worse = ([test for test in clear if test["css"] == css] for css in ("better", "worse"))
    if not tests:
        return {"css": "unclear", "sign": "…", "claim": f"{other} and {baseline} share no question", "figures": []}
    of = f"of {len(tests)} figure{'' if len(tests) == 1 else 's'}"
    if better and worse:
        claim = f"{other} is better than {baseline} in {len(better)} {of} and worse in {len(worse)}"
        return {"css": "unclear", "sign": "≈", "claim": claim, "figures": clear}
    if clear:
        word = "better" if better else "worse"
        claim = f"{other} is {word} than {baseline} in {len(clear)} {of}, and {'worse' if better else 'better'} in none"
        return {"css": word, "sign": "▲" if better else "▼", "claim": claim, "figures": clear}
    claim = (
        f"No clear difference between {other} and {baseline} in {'the one figure' if len(tests) == 1 else f'any {of}'}"
    )
    known = [test for test in tests if test["low"] is not None]
    return {"css": "unclear", "sign": "≈", "claim": claim, "figures": (known or list(tests))[:1]}


def _beside_zero(test: Mapping[str, Any]) -> bool:
    return test["low"] is not None and (test["low"] > 0 or test["high"] < 0)


def _facts(side: Mapping[str, Any]) -> dict[str, str]:
    """What is known of a side, in words; what is not known is left out."""
    facts = {name: value for name, value in side.items() if name not in ("name", "runs", "examples")}
    return {name: text for name, value in facts.items() if (text := _said(value))}


def _said(value: Any) -> str:
    """A setting in words.

    >>> _said({"id": "all-MiniLM-L6-v2", "revision": None, "layer": 5}), _said(None), _said("think")
    ('all-MiniLM-L6-v2, layer 5', '', 'think')
    """
    if isinstance(value, Mapping):
        known = {name: _said(inner) for name, inner in value.items() if inner is not None}
        return ", ".join(text if name == "id" else f"{name} {text}" for name, text in known.items())
    return "" if value is None else str(value)


def _difference(test: Mapping[str, Any]) -> dict[str, Any]:
    return {**test, "mean": test["difference"]}


def _shown(test: Mapping[str, Any], reach: float) -> dict[str, Any]:
    """A test ready for the template. A metric that is not a share of 0 to 1 is not in percent and gets no mark."""
    share = is_share(test)
    difference, level = (percent_points, plain_percent) if share else (signed_number, plain_number)
    better = (test["difference"] > 0) == (test.get("better", "higher") == "higher")
    return {
        **test,
        "css": ("better" if better else "worse") if test["p_holm"] < 0.05 else "unclear",
        "mark": difference_mark(_difference(test), reach=reach) if share else "",
        "scale": scale_note(test),
        "apart": [difference(test[key]) for key in ("difference", "low", "high")],
        "means": [level(test[key]) for key in ("mean_a", "mean_b")],
    }


def _folders(found: Mapping[str, Any], name: str) -> list[Path]:
    """Thumbnail folders of the baseline's runs and of those of `name`."""
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
    """The thumbnails that the runs keep, as addresses; images without one are left out."""
    found = (next((png for folder in folders if (png := read_thumbnail(folder, sha256))), None) for sha256 in hashes)
    return [png_address(png) for png in found if png is not None]
