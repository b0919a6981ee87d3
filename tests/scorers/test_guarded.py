"""A user's scorer that fails: unscored rows with their reasons, everything else as it was."""

import pickle

import pytest

from medrft.errors import RecipeError
from medrft.rewards import build_reward
from medrft.scorers import build_scorer
from medrft.scorers.base import score_with_reasons
from score_items import item

SOURCE = '''
from medrft.errors import RecipeError

class Picky:
    """Scores numbers, raises on words; counts how it is called."""
    name = "picky"; range = (0.0, 1.0); needs = (); about = "form"
    def __init__(self): self.calls = []
    def applies(self, item):
        if item.answer == "undecided": raise KeyError("kind")
        return item.kind == "open"
    def __call__(self, items):
        self.calls.append(len(items))
        return [float(item.answer) for item in items]
    def explain(self, item): yield "as it says"

def short(items): return [1.0] * (len(items) - 1 if len(items) > 1 else 1)
def words(items): return ["good" if i.answer == "x" else 0.5 for i in items]
def infinite(items): return [float("inf") if i.answer == "x" else 0.5 for i in items]
def mistaken(items): raise RecipeError("give it a key")
def interrupted(items): raise KeyboardInterrupt
def broken(items): raise TypeError("always")
'''


@pytest.fixture
def load(tmp_path):
    (tmp_path / "own.py").write_text(SOURCE)
    return lambda name: build_scorer(f"own.py:{name}", base_dir=tmp_path)


def test_only_the_row_that_raises_is_unscored(load):
    scorer = load("Picky")
    with pytest.warns(UserWarning, match="picky: 1 of 3 unscored: 1 x ValueError: could not convert"):
        scores, reasons = score_with_reasons(scorer, [item("0.5"), item("word"), item("1")])
    assert scores == [0.5, None, 1.0] and list(reasons) == [1]
    assert reasons[1].endswith("(own.py, line 13)") and "ValueError: could not convert string" in reasons[1]
    assert scorer.calls == [3, 1, 1, 1]


def test_a_scorer_that_works_is_called_once_and_keeps_all_it_has(load):
    scorer = load("Picky")
    assert scorer([item("0.5"), item("1")]) == [0.5, 1.0] and scorer.calls == [2]
    assert (scorer.name, scorer.range, scorer.about, list(scorer.explain(None))) == (
        *("picky", (0.0, 1.0), "form"),
        ["as it says"],
    )
    again = pickle.loads(pickle.dumps(scorer))
    assert again([item("1")]) == [1.0] and not hasattr(again, "no_such_thing")


@pytest.mark.filterwarnings("ignore:picky")
def test_where_it_cannot_say_whether_it_applies_the_item_counts_and_is_unscored(load, tmp_path):
    scorer = load("Picky")
    undecided = item("undecided")
    assert scorer.applies(undecided) and not scorer.applies(item("1", kind="closed"))
    scores, reasons = scorer.scored([item("1"), undecided])
    assert scores == [1.0, None] and "could not convert" in reasons[1]
    reward = build_reward({"parts": [{"scorer": "own.py:Picky", "weight": 1.0}]}, base_dir=tmp_path)
    first, second = reward([item("1"), undecided])
    assert first.reward == 1.0 and second.reward is None and "picky (" in second.unscored_reason


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "expected", "reason"),
    [
        ("short", [1.0, 1.0], None),  # alone each is one of one
        ("words", [0.5, None], "a score is str, not a number"),
        ("infinite", [0.5, None], "a score is inf"),
        ("broken", [None, None], "TypeError: always (own.py, line 21)"),
    ],
)
def test_what_is_no_list_of_numbers(load, name, expected, reason):
    scores, reasons = load(name).scored([item("y"), item("x")])
    assert scores == expected and reasons.get(1) == reason


@pytest.mark.parametrize(("name", "error"), [("mistaken", RecipeError), ("interrupted", KeyboardInterrupt)])
def test_a_users_mistake_and_ctrl_c_go_on(load, name, error):
    with pytest.raises(error):
        load(name)([item("y")])


@pytest.mark.filterwarnings("ignore:broken")
def test_a_gate_that_fails_is_not_applied_and_says_so(tmp_path, load):
    gate = {"scorer": "own.py:broken", "below": 0.5}
    reward = build_reward({"parts": [{"scorer": "bleu1", "weight": 1.0}], "gate": gate}, base_dir=tmp_path)
    (raw,) = reward.score([item("left", "left", "right")])
    assert raw.reasons == {"gate": "TypeError: always (own.py, line 21)"}
    (outcome,) = reward.combine([raw])
    assert outcome.reward == 1.0 and outcome.gate is None and outcome.unscored_reason is None
