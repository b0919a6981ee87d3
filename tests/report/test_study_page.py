"""A study's page and tables: escaped, self-contained, and honest about what is not there yet."""

import re

import pytest

from medrft.report.study import label_of, study_markdown, study_page, verdict, write_study_page

FOUND = {"mean": 0.02, "low": 0.01, "high": 0.03, "n": 800, "per_seed": {"1": 0.03, "2": 0.01}, "positive": 2}
EVIL = "<script>alert(1)</script>|x"


def facts(**changes):
    row = {"arm": "a", "mean": 0.6, "low": 0.5, "high": 0.7, "n": 800, "seeds": 2, "controls": {"blank": 0.3}}
    row |= {"flips": {"side_flip": 0.05, "polarity_flip": None}, "difference": FOUND}
    cost = dict.fromkeys(
        ("steps", "completions", "seen", "tokens", "seconds", "evaluation_seconds", "shared_seconds"), 1.0
    )
    made = {
        "study": "toy",
        "question": EVIL,
        "claim": EVIL,
        "seeds": [1, 2],
        "stale": [],
        "missing": ["a-seed3"],
        "encoder": ["mini"],
        "form": {"answered": 0.1, "well_formed": 0.0, "n": 800},
        "primary": {"a": "a", "against": "b", "dataset": EVIL, "kind": "all", "metric": "truth", "outcome": FOUND},
        "tables": [
            {
                "dataset": "phantom",
                "kind": "all",
                "metric": "truth",
                "rows": [row, {**row, "arm": "b", "difference": None}],
            }
        ],
        "metrics": [{"dataset": "phantom", "arm": "a", "metrics": {"cosine": FOUND, "n_tokens": FOUND}}],
        "difficulty": [{"dataset": "phantom", "arm": "a", "easy": FOUND, "hard": None}],
        "pass_at": {"a": {"phantom": {"1": 0.5, "8": 0.9}}},
        "cost": {
            **{"rule": "wall_clock", "statement": EVIL, "tolerance": 0.25, "ratio": 1.5, "kept": False, "hours": 1.0},
            "arms": [{"arm": "a", "seeds": 2, **cost}],
        },
        "curves": {"a": {"step": [1, 2, 3], "reward": [0.1, None, 0.3]}},
        "power": [{"dataset": "phantom", "arm": "a", "sd": 0.02, "seeds": 3, "questions": 400, "needed": {"0.01": 34}}],
    }
    return {**made, **changes}


def test_the_page_escapes_and_reaches_for_nothing():
    page = study_page(facts())
    assert "<script" not in page and "&lt;script&gt;" in page and "not kept" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page) and "a-seed3" in page


def test_an_empty_study_has_a_page():
    empty = facts(
        tables=[], metrics=[], difficulty=[], pass_at={}, curves={}, power=[], form=None, seeds=[], encoder=[]
    )
    empty["cost"] = {**empty["cost"], "arms": [], "ratio": None}
    empty["primary"] = {**empty["primary"], "outcome": None}
    assert "no result yet" in study_page(empty) and "no result yet" in study_markdown(empty)


@pytest.mark.parametrize(
    ("low", "high", "mean", "claim", "css"),
    [
        (0.01, 0.03, 0.02, "a is better than b", "better"),
        (-0.03, -0.01, -0.02, "a is worse than b", "worse"),
        (-0.01, 0.03, 0.01, "Undecided at this power", "unclear"),
        (None, None, 0.01, "Undecided at this power", "unclear"),  # one image
    ],
)
def test_the_verdict_follows_the_interval(low, high, mean, claim, css):
    given = facts()
    given["primary"] = {**given["primary"], "outcome": {**FOUND, "low": low, "high": high, "mean": mean}}
    assert (verdict(given)["claim"], verdict(given)["css"]) == (claim, css)


def test_markdown_has_each_arm_and_no_broken_cell():
    text = study_markdown(facts())
    rows = [line for line in text.splitlines() if line.startswith("| a |")]
    assert "+2.0 [+1.0, +3.0]" in rows[0] and "60.0 [50.0, 70.0]" in rows[0]
    assert "<script" not in text and label_of(None) == "–"


def test_files_of_a_study(tmp_path):
    page = write_study_page(facts(), tmp_path / "s")
    assert page.name == "study.html" and {p.name for p in page.parent.iterdir()} == {
        "study.html",
        "study.json",
        "table.md",
    }
