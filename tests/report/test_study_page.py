"""A study's page and tables: escaped, self-contained, and honest about what is not there yet."""

import re

import pytest

from medrft.report.study import study_page, write_study_page
from medrft.report.study_markdown import label_of, study_markdown, study_verdict

FOUND = {"mean": 0.02, "low": 0.01, "high": 0.03, "n": 800, "per_seed": {"1": 0.03, "2": 0.01}, "positive": 2}
TOKENS = {**FOUND, "mean": -2.5, "low": -3.0, "high": -2.0}
EVIL = "<script>alert(1)</script>|x"


def facts(**changes):
    row = {"arm": "a", "mean": 0.6, "low": 0.5, "high": 0.7, "n": 800, "seeds": 2, "controls": {"blank": 0.3}}
    row |= {"flips": {"side_flip": {"mean": 0.05, "difference": FOUND}, "polarity_flip": None}, "difference": FOUND}
    row |= {"share": None}
    cost = dict.fromkeys(
        ("steps", "completions", "seen", "tokens", "seconds", "evaluation_seconds", "shared_seconds"), 1.0
    )
    pair = {"dataset": "phantom", "arm": "a", "against": "b", "metrics": {"cosine": FOUND, "n_tokens": TOKENS}}
    length = {"dataset": "phantom", "arm": "a", "right": {"mean": 31.0}, "wrong": None}
    length |= {"right_difference": TOKENS, "wrong_difference": None}
    start = {"dataset": "phantom", "start": "s", "after": "s_rl", "seeds": 2, "greedy": 0.4, "pass_at": {"8": 0.9}}
    start |= {"reached": 0.5, "gain": FOUND}
    made = {
        "study": "toy",
        "question": EVIL,
        "claim": EVIL,
        "seeds": [1, 2],
        "planned_seeds": [1, 2],
        "stale": [],
        "unplanned": [],
        "missing": ["a-seed3"],
        "datasets": ["phantom"],
        "encoder": ["mini"],
        "form": {"answered": 0.1, "well_formed": 0.0, "n": 800},
        "primary": {
            "a": "a",
            "against": "b",
            "dataset": EVIL,
            "kind": "all",
            "metric": "truth",
            "source": "none",
            "outcome": FOUND,
        },
        "control": {"state": "absent", "start": None, "gain": None},
        "predicts": None,
        "tables": [
            {
                "dataset": "phantom",
                "kind": "all",
                "metric": "truth",
                "source": "none",
                "rows": [row, {**row, "arm": "b", "difference": None}],
            }
        ],
        "metrics": [pair],
        "comparisons": [{**pair, "against": "c"}],
        "difficulty": [
            {"dataset": "phantom", "arm": "a", "easy": FOUND, "hard": None, "easy_tokens": TOKENS, "hard_tokens": None}
        ],
        "lengths": [length],
        "learning": [
            {
                "arm": "a",
                "reward": {"first": 0.4, "last": 0.42, **FOUND},
                "correct": None,
                "parts": {"fact": {"first": 0.3, "last": 0.9}},
            }
        ],
        "starts": [start],
        "predictors": [{"dataset": "phantom", "predictor": "pass@8", "agree": 5, "of": 6}],
        "pass_at": {"a": {"phantom": {"1": 0.5, "8": 0.9}}},
        "cost": {
            **{"rule": "wall_clock", "statement": EVIL, "tolerance": 0.25, "ratio": 1.5, "kept": False, "hours": 1.0},
            "arms": [{"arm": "a", "seeds": 2, **cost}],
            "equal": [],
        },
        "curves": {"a": {"step": [1, 2, 3], "reward": [0.1, None, 0.3]}},
        "power": [
            {
                "dataset": "phantom",
                "arm": "a",
                "sd": 0.02,
                "within_sd": 0.01,
                "seeds": 3,
                "questions": 400,
                "needed": {"0.01": 34},
            }
        ],
    }
    return {**made, **changes}


def test_the_page_escapes_and_reaches_for_nothing():
    page = study_page(facts())
    assert "<script" not in page and "&lt;script&gt;" in page and "not kept" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page) and "not run: a (seed 3)" in page


def test_an_empty_study_has_a_page():
    lists = ("tables", "metrics", "comparisons", "difficulty", "lengths", "starts", "predictors", "power", "datasets")
    empty = facts(**{name: [] for name in lists}, pass_at={}, curves={}, form=None, seeds=[], encoder=[])
    empty["cost"] = {**empty["cost"], "arms": [], "ratio": None}
    empty["primary"] = {**empty["primary"], "outcome": None}
    assert "no result yet" in study_page(empty) and "no result yet" in study_markdown(empty)


@pytest.mark.parametrize(
    ("low", "high", "mean", "claim", "css"),
    [
        (0.01, 0.03, 0.02, "a is better than b", "better"),
        (-0.03, -0.01, -0.02, "a is worse than b", "worse"),
        (-0.01, 0.03, 0.01, "No clear difference between a and b", "unclear"),
        (None, None, 0.01, "No clear difference between a and b", "unclear"),  # one image
    ],
)
def test_the_verdict_follows_the_interval(low, high, mean, claim, css):
    given = facts()
    given["primary"] = {**given["primary"], "outcome": {**FOUND, "low": low, "high": high, "mean": mean}}
    assert (study_verdict(given)["claim"], study_verdict(given)["css"]) == (claim, css)


def test_an_unclear_outcome_says_what_it_leaves_open():
    given = facts()
    given["primary"] = {**given["primary"], "outcome": {**FOUND, "low": -0.01, "high": 0.03, "mean": 0.01}}
    assert study_verdict(given)["detail"].endswith("anything from −1.0 to +3.0 points fits what was seen")


def test_the_page_opens_with_one_sentence_and_one_picture():
    page = study_page(with_primary())
    head = page[page.index('<section id="results">') : page.index("<table")]
    assert head.index("a is better than b") < head.index("Each arm minus b") < head.index("Seeds 1, 2")
    assert 'class="forest-row better"' in head


def with_primary(**changes):
    """Facts whose primary outcome is another."""
    given = facts()
    own = given["primary"]
    outcome = {**own["outcome"], **changes.pop("outcome", {})}
    return {**given, **changes, "primary": {**own, "dataset": "phantom", "outcome": outcome}}


def test_one_seed_decides_nothing_and_few_seeds_say_so_far():
    one = study_verdict(with_primary(outcome={"per_seed": {"1": 0.03}}))
    assert one["css"] == "unclear" and "One seed" in one["claim"]
    few = study_verdict(with_primary(planned_seeds=[1, 2, 3]))
    assert few["claim"] == "So far, a is better than b" and "2 of 3 planned seeds" in few["detail"]


def test_fewer_flipped_answers_are_better():
    given = with_primary()
    given["primary"]["metric"] = "side_flip"
    assert study_verdict(given)["claim"] == "a is worse than b"


def test_a_data_set_that_no_result_has_is_named():
    given = facts()
    given["primary"] = {**given["primary"], "dataset": "phantm", "outcome": None}
    assert study_verdict(given)["claim"] == "The result files lack the data set"
    assert study_verdict(given)["detail"].endswith("the data sets there are phantom")


def test_all_that_is_left_out_is_named():
    given = facts(missing=["a-seed3", "c-seed1", "c-seed2"], stale=["b-seed1"], unplanned=["a-seed9"])
    for text in (study_markdown(given), study_page(given)):
        assert "not run: a (seed 3), c;" in text and "another content: b-seed1" in text and "seed: a-seed9" in text


def test_a_base_that_writes_too_much_or_too_little_in_the_form_is_named():
    assert "in 10 % of 800 completions at T = 1." in study_markdown(facts(missing=[]))
    given = facts(form={"answered": 0.02, "well_formed": 0.0, "n": 800})
    assert "in 2 % of 800 completions at T = 1, not in 5 to 30 %" in study_markdown(given)


def test_controls_and_flips_are_columns_only_where_there_are_any():
    given = facts()
    row = given["tables"][0]["rows"][0]
    none = {"side_flip": None, "polarity_flip": None}
    other = {**row, "flips": none, "controls": {"shuffled": 0.4, "question_only": 0.2}}
    real = {**given, "tables": [{**given["tables"][0], "rows": [other]}]}
    for text in (study_markdown(real), study_page(real)):
        assert "shuffled" in text and "question only" in text and "blank" not in text and "side flips" not in text
    assert "| 5.0 (+2.0 [+1.0, +3.0]) |" in study_markdown(given) and "side flips" in study_page(given)


def test_partners_that_are_fewer_are_counted():
    given = facts()
    row = given["tables"][0]["rows"][0]
    given["tables"][0]["rows"][0] = {**row, "n": 900}
    assert "+2.0 [+1.0, +3.0], n 800 |" in study_markdown(given) and "n 800" in study_page(given)


def test_more_arms_than_colours_have_dashed_lines():
    curve = {"step": [1, 2, 3], "reward": [0.1, 0.2, 0.3]}
    page = study_page(facts(curves={f"a{i}": curve for i in range(9)}))
    assert 'class="line c8"' in page and ".line.c8 {" in page and 'class="key c8"' in page


def test_markdown_has_each_arm_and_no_broken_cell():
    text = study_markdown(with_primary())
    rows = [line for line in text.splitlines() if line.startswith("| a |")]
    assert "+2.0 [+1.0, +3.0]" in rows[0] and "60.0 [50.0, 70.0]" in rows[0]
    assert "<script" not in study_markdown(facts()) and label_of(None) == "–"


def test_every_section_stands_in_the_markdown_and_on_the_page():
    given = with_primary()
    text, page = study_markdown(given), study_page(given)
    assert "| a | +2.0 [+1.0, +3.0] | −2.5 [−3.0, −2.0] |" in text and "| a − c |" in text
    assert "| a | +2.0 [+1.0, +3.0] | – | −2.5 [−3.0, −2.0] | – |" in text  # easy and hard
    assert "| a | 40.0 to 42.0 | +2.0 [+1.0, +3.0] | – | – | fact 30.0 to 90.0 |" in text
    assert "fact 30.0 to 90.0" in page
    assert "| a | 31 | −2.5 [−3.0, −2.0] | – | – |" in text  # lengths
    assert "| s | s_rl | phantom | 40.0 | 8: 90.0 | 50.0 | +2.0 [+1.0, +3.0] |" in text
    assert "phantom: pass@8 5 of 6." in text and "| a | 2.0 | 1.0 | 3 | 34 |" in text
    for part in ("Other pairs of arms", "Lengths", "Easy and hard", "pass@8 5 of 6", "8: 90.0"):
        assert part in page


def test_files_of_a_study(tmp_path):
    page = write_study_page(facts(), tmp_path / "s")
    assert page.name == "study.html" and {p.name for p in page.parent.iterdir()} == {
        "study.html",
        "study.json",
        "table.md",
    }


@pytest.mark.parametrize(
    ("state", "gain", "says"),
    [
        ("absent", None, "No positive control"),
        ("missing", None, "The positive control has not been run"),
        ("one_seed", FOUND, "has one seed"),
        ("unclear", {**FOUND, "low": -0.01}, "This study can decide nothing"),
        ("clear", FOUND, "Positive control"),
    ],
)
def test_the_positive_control_stands_above_the_verdict(state, gain, says):
    given = with_primary(control={"state": state, "start": "s", "gain": gain})
    for text in (study_markdown(given), study_page(given)):
        assert text.index(says) < text.index("a is better than b")
        assert ("oracle − s, phantom, all, oracle accuracy: +2.0 points" in text) == (gain is not None)


def test_shares_of_the_oracle_are_a_column_and_a_sentence():
    given = with_primary()
    assert "oracle's gain" not in study_markdown(given) and "of what the truth would" not in study_page(given)
    row, other = given["tables"][0]["rows"]
    row["share"] = {"share": 0.6, "low": 0.45, "high": 0.8}
    other["share"] = {"share": None, "low": None, "high": None}
    text, page = study_markdown(given), study_page(given)
    assert "a teaches 60 % [45, 80] of what the truth would." in text and "of the oracle's gain" in text
    assert "| 60 % [45, 80] |" in text and "| not determined |" in text
    assert "a teaches 60 % [45, 80] of what the truth would." in page and "not determined" in page
    row["share"] = {"share": None, "low": None, "high": None}
    assert "What a teaches of what the truth would is not determined." in study_markdown(given)


def test_what_controls_spent_beside_the_oracle():
    given = with_primary()
    given["cost"]["equal"] = [{"arm": "sft_on", "rule": "wall_clock", "ratio": 1.4, "kept": False}]
    for text in (study_markdown(given), study_page(given)):
        assert "beside the oracle: sft_on 1.40 times its wall clock, not kept." in text
