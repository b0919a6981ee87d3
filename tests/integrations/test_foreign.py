"""The core: rows to items, and what a calibration with a state may and may not do in somebody else's trainer."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from foreign_rows import COLUMNS, LEARNS, RANKS, TEXT, completions
from medrft.errors import DataError, RecipeError, UnknownNameError
from medrft.integrations import ForeignReward, items_of
from medrft.integrations.rows import fields_of, text_of
from medrft.rewards import build_reward
from medrft.rewards.gather import score_gathered
from score_items import think


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("<answer>no</answer>", "<answer>no</answer>"),
        ([{"role": "assistant", "content": "no"}], "no"),
        ([{"role": "user", "content": "?"}, {"role": "assistant", "content": [{"type": "text", "text": "no"}]}], "no"),
        ({"role": "assistant", "content": "no"}, "no"),
        ([], ""),
        ([{"role": "assistant", "content": None}], ""),  # a turn of tool calls alone
    ],
)
def test_the_text_of_a_completion(completion, text):
    assert text_of(completion) == text


def test_columns_by_their_usual_names_and_by_name():
    made = items_of(
        ["<think>x</think><answer>B</answer>", "y</think><answer>no</answer>"],
        {
            "gold": [["CT", "computed tomography"], "no"],
            "choices": [["MRI", "CT"], None],
            "problem": ["Which?", "Any?"],
        },
        names={"references": "gold"},
        n_tokens=[5, 6],
        max_tokens=8,
    )
    assert [item.kind for item in made] == ["choice", "closed"]
    assert made[0].references == ("CT", "computed tomography") and made[0].options == ("MRI", "CT")
    assert (made[1].answer, made[1].thinking) == ("no", "y")  # the template opened the thought
    assert [item.question for item in made] == ["Which?", "Any?"] and made[1].n_tokens == 6
    kept = items_of(["a"], {"solution": ["b"], "modality": ["CT"]})[0]
    assert kept.metadata == {"modality": "CT"}


@pytest.mark.parametrize(
    ("columns", "names", "error", "says"),
    [
        ({"text": ["no"]}, None, DataError, "no column holds the reference answers; the data set has text"),
        ({"solution": ["no", "no"]}, None, DataError, "'solution' has 2 rows for 1 completions"),
        ({"solution": ["no"]}, {"references": "gold"}, RecipeError, "said to be in 'gold'"),
        ({"solution": ["no"]}, {"reference": "solution"}, UnknownNameError, "did you mean 'references'"),
        ({"solution": [None]}, None, DataError, "`reference` is a string or a list of strings"),
    ],
)
def test_columns_that_cannot_be_read(columns, names, error, says):
    with pytest.raises(error, match=says):
        items_of(["<answer>no</answer>"], columns, names=names)


def test_a_label_is_plain_text_or_a_table():
    assert fields_of("no") == {"reference": "no"}
    assert fields_of('{"reference": "no", "kind": "closed"}') == {"reference": "no", "kind": "closed"}
    assert fields_of("{not json") == {"reference": "{not json"}
    assert fields_of({"reference": ["a"]}) == {"reference": ["a"]}


def test_the_numbers_are_those_of_our_own_reward():
    items = items_of(completions(), COLUMNS)
    ours = build_reward(TEXT)(items)
    held = ForeignReward(TEXT)
    assert [one.reward for one in held(items)] == [one.reward for one in ours]
    assert [held(items[n : n + 1])[0].reward for n in range(8)] == [one.reward for one in ours]  # row by row
    assert held.counts["rows"] == 16 and held.counts["unscored"] == 0


def test_a_calibration_without_a_state_is_refused_with_the_way_out():
    with pytest.raises(RecipeError, match=r"no state: row by row .* medrft score ROWS.jsonl .* --fit state.json"):
        ForeignReward(LEARNS)
    with pytest.raises(RecipeError, match="scores one row a call"):
        ForeignReward(LEARNS, update=True, rows="single")
    with pytest.raises(RecipeError, match="scores one row a call"):
        ForeignReward(RANKS, rows="single")


def fitted(tmp_path, reward=LEARNS):
    """A state as --fit writes it."""
    held = ForeignReward(reward, update=True)
    held.reward.fit(held.reward.score(items_of(completions(), COLUMNS)))
    held.save_state(tmp_path / "state.json")
    return tmp_path / "state.json"


def test_with_a_fitted_state_rows_alone_and_together_are_alike(tmp_path):
    state = fitted(tmp_path)
    items = items_of(completions(), COLUMNS)
    held = ForeignReward(LEARNS, state=state, rows="single")
    together = [one.reward for one in held(items)]
    assert [held([item])[0].reward for item in items] == together
    assert len(set(together)) > 4  # and not one number for all that is inexact


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"scorer": "rouge1", "weight": 0.8, "calibrate": {"kind": "adaptive", "t_min": 0.1}},
            "calibrate.t_min of rouge1",
        ),
        ({"scorer": "bleu1", "weight": 0.8, "calibrate": "adaptive"}, "holds nothing of bleu1"),
    ],
)
def test_a_state_of_another_reward_is_refused(tmp_path, change, says):
    other = {"parts": [change, LEARNS["parts"][1]]}
    with pytest.raises(RecipeError, match=says):
        ForeignReward(other, state=fitted(tmp_path))


def test_a_state_of_another_version_is_refused(tmp_path):
    state = fitted(tmp_path)
    state.write_text(json.dumps({**json.loads(state.read_text()), "medrft_state": 9}))
    with pytest.raises(RecipeError, match="another version"):
        ForeignReward(LEARNS, state=state)


def test_groups_are_needed_and_hold_more_than_one():
    held = ForeignReward(RANKS)
    items = items_of(completions(), COLUMNS)
    with pytest.raises(RecipeError, match="pass each row's group"):
        held(items)
    with pytest.raises(RecipeError, match="group 0 holds one"):
        held(items, groups=list(range(8)))
    assert {one.reward for one in held(items, groups=[0] * 4 + [1] * 4)} >= {0.0, 1.0}


def test_two_processes_stay_in_step():
    """Each scores its half; both see all raw scores, so states and thresholds are those of one process."""
    items = items_of(completions(), COLUMNS)
    alone = build_reward(LEARNS)
    whole = score_gathered(alone, items, update=True)
    mine, theirs = build_reward(LEARNS), build_reward(LEARNS)
    rows = [(raw, None) for raw in mine.score(items)]
    first = score_gathered(mine, items[:4], update=True, gather=lambda own: (rows, 0))
    second = score_gathered(theirs, items[4:], update=True, gather=lambda own: (rows, 4))
    assert [one.reward for one in [*first, *second]] == [one.reward for one in whole]
    assert mine.state_dict() == theirs.state_dict() == alone.state_dict()


def test_an_evaluation_teaches_nothing():
    held = ForeignReward(LEARNS, update=True)
    items = items_of(completions(), COLUMNS)
    held(items)
    before = held.state_dict()
    held(items[:3], learns=False)
    assert held.state_dict() == before


def test_unscored_is_counted_and_stands_for_what_the_user_chose():
    held = ForeignReward({"parts": [{"scorer": "choice_match", "weight": 1.0}]}, unscored=-1.0)
    scored = items_of([think("CT")], {"solution": ["PET"], "options": [["CT", "MRI"]]})
    made = held(scored)
    assert made[0].reward is None  # the reference is none of the options
    assert held.values(made) == [-1.0] and held.counts["unscored"] == 1
    assert held.columns(made[0]).keys() == {"score", "unscored", "choice_match"}


def test_threads_share_one_reward(tmp_path):
    held = ForeignReward(LEARNS, state=fitted(tmp_path), rows="single")
    items = items_of(completions(), COLUMNS) * 8
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: held([item])[0].reward, items))
    assert found == [one.reward for one in held(items)] and held.counts["rows"] == 2 * len(items)
