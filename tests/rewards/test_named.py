"""What a user calls a reward: a preset's name, a reward's YAML file, or a recipe's."""

from __future__ import annotations

import pytest

from medrft.errors import RecipeError
from medrft.rewards.named import load_reward, read_reward

RECIPE = "name: x\ndata: {name: phantom}\nreward: armed\nencoder: {id: a, bertscore: b}\n"


@pytest.mark.parametrize(
    ("text", "asked", "expected"),
    [
        (RECIPE, {}, ("a", "b")),
        (RECIPE, {"encoder": "c"}, ("c", None)),  # of BERTScore too, as --encoder says
        (RECIPE, {"bertscore": "d"}, ("a", "d")),
        (RECIPE, {"encoder": "c", "bertscore": "d"}, ("c", "d")),
        ("parts: [{scorer: cosine, weight: 1}]", {"encoder": "c"}, ("c", None)),
    ],
)
def test_an_encoder_asked_for_replaces_both_of_the_recipe(text, asked, expected, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    found = read_reward(tmp_path / "r.yaml", **asked).encoder
    assert (found.id, found.bertscore) == expected


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("reward: text", "text"),
        ("parts: [{scorer: rouge1, weight: 1}]", {"parts": [{"scorer": "rouge1", "weight": 1}]}),
        ("closed: text\nopen: text", {"closed": "text", "open": "text"}),
        ("data: {name: phantom}", "armed"),  # what a recipe without `reward:` trains with
        ("text", "text"),
    ],
)
def test_what_a_file_holds(text, table, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    assert read_reward(tmp_path / "r.yaml").table == table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"r\.yaml holds a NoneType; a reward is"),
        ("[1, 2]", r"r\.yaml holds a list; a reward is"),
        ("reward: text\ncorrect: {at_leest: 1}", r"r\.yaml: unknown key 'correct.at_leest'; did you mean 'at_least'"),
        ("reward: text\nencoder: some/model", r"r\.yaml: encoder: .*got 'some/model'"),
        ("part: []", "reward: "),  # a mistyped reward is no recipe
    ],
)
def test_mistakes(text, message, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_reward(tmp_path / "r.yaml")
