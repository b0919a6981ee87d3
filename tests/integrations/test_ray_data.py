"""What a Ray worker does with a batch; integrations/test_ray.py sends real data sets through Ray."""

import math

import numpy as np
import pyarrow as pa
import pytest

from foreign_rows import LEARNS, RANKS
from medrft.errors import RecipeError, UserError
from medrft.integrations.ray_data import RayScorer
from medrft.rewards import build_reward
from medrft.rewards.rows import read_row

ROWS = [
    {"reference": "left lung", "answer": "Left lung.", "n_tokens": None},
    {"reference": "left lung", "completion": "<think>x</think><answer>lung</answer>", "n_tokens": 3},
    {"reference": "?", "answer": "lung", "kind": "open"},
    {"reference": None, "answer": "lung"},
    {"reference": "CT", "options": ["MRI", "CT"], "answer": "B"},
]
NAMES = list(dict.fromkeys(name for row in ROWS for name in row))


def arrow():
    return pa.Table.from_pylist([{name: row.get(name) for name in [*NAMES, "id"]} | {"id": 7} for row in ROWS])


def arrays():
    """As Ray makes them: objects where there is text, floats with NaN where a whole number is missing."""
    columns = {name: np.empty(len(ROWS), dtype=object) for name in NAMES}
    for place, row in enumerate(ROWS):
        for name in NAMES:
            columns[name][place] = (
                np.array(row[name], dtype=object) if name == "options" and name in row else row.get(name)
            )
    return {**columns, "n_tokens": np.array([math.nan, 3.0, math.nan, math.nan, math.nan]), "id": np.full(5, 7)}


@pytest.mark.parametrize("make", [arrow, arrays])
def test_the_numbers_are_ours_and_each_row_keeps_its_place(make):
    made = RayScorer("text")(make())
    assert isinstance(made, pa.Table if make is arrow else dict)
    columns = made.to_pydict() if make is arrow else {name: list(column) for name, column in made.items()}
    for i, row in enumerate(ROWS):
        if i == 3:
            assert (
                columns["unscored_reason"][i]
                == "row 3 of a batch: `reference` is a string or a list of strings, got None"
            )
            continue
        ours = build_reward("text")([read_row(row, where="").item])[0]
        for name, value in {"reward": ours.reward, "raw.bleu1": ours.raw["bleu1"]}.items():
            assert columns[name][i] == value or (
                value is None and (columns[name][i] is None or math.isnan(columns[name][i]))
            )
    assert columns["id"] == [7] * 5 and columns["unscored_reason"][2] == "unscored: bleu1, rouge1"


def test_columns_of_an_earlier_scoring_are_replaced():
    once = RayScorer("text")(arrow())
    assert RayScorer("text")(once).equals(once)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (LEARNS, "no state.*--fit state.json"),
        (RANKS, r"map_batches cuts groups; use rows.groupby\('group'\).map_groups\(RayScorer"),
        ("armd", "did you mean 'armed'"),
    ],
)
def test_what_would_not_work_is_refused_when_a_worker_starts(reward, message):
    with pytest.raises(UserError, match=message):
        RayScorer(reward)


def test_a_reward_that_compares_takes_one_whole_group():
    rows = [{"reference": "left lung", "answer": answer, "group": 4} for answer in ("lung", "x y", "left lung")]
    made = RayScorer(RANKS, group="group")(
        pa.Table.from_pylist([*rows, {"reference": None, "answer": "x", "group": 4}])
    )
    assert made["reward"].to_pylist() == [0.5, 0.0, 1.0, None]
    with pytest.raises(UserError, match=r"a batch holds 2 groups; .*groupby\('group'\).map_groups"):
        RayScorer(RANKS, group="group")(pa.Table.from_pylist([*rows, {**rows[0], "group": 5}]))
    with pytest.raises(RecipeError, match="group 4 holds one"):
        RayScorer(RANKS, group="group")(pa.Table.from_pylist(rows[:1]))
