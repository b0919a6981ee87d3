from __future__ import annotations

import pytest

from medrft.errors import RecipeError
from medrft.evaluation.scoring import Answer, Marker
from medrft.pipeline.run import check_names
from medrft.recipes import parse_recipe
from medrft.types import Example

TABLE = {"name": "a", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}}


@pytest.mark.parametrize("scorer", ["answer_format", "yes_no_match", "choice_match"])
def test_what_does_not_judge_open_answers_cannot_say_what_is_correct(scorer):
    recipe = parse_recipe({**TABLE, "correct": {"scorer": scorer}})
    for check in (Marker, check_names):
        with pytest.raises(RecipeError, match=f"correct.scorer: '{scorer}' does not judge a plain answer"):
            check(recipe)


def test_a_bare_answer_is_marked_by_the_recipes_own_test():
    marker = Marker(parse_recipe({**TABLE, "correct": {"scorer": "rouge1", "at_least": 0.5}}))
    example = Example(
        id="x/test/1",
        dataset="x",
        split="test",
        images=(),
        question="What is shown?",
        references=("left pleural effusion",),
        kind="open",
    )
    answers = [Answer.bare(example, text, control="frequent_type") for text in ("pleural effusion", "a nodule", "")]
    assert [row["correct"] for row in marker(answers)] == [1.0, 0.0, 0.0]
