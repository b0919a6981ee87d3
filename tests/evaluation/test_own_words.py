"""`clinical: {lexicon: …}` of a recipe reaches every place where the recipe has an answer read clinically."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medrft.audit import audit_run_reward
from medrft.audit.subject import load_subject
from medrft.curation.rules import Rules
from medrft.errors import DataError
from medrft.evaluation.scoring import Answer, Marker, as_row
from medrft.pipeline.run import check_names
from medrft.recipes import load_recipe
from medrft.rewards import correct_of, reward_of
from medrft.scorers.base import item_of
from medrft.studies.arms import _portable, json_digest
from medrft.types import Completion, Example

RECIPE = """
name: own
model: {id: "tiny:llava"}
data: {name: phantom}
clinical: {lexicon: words.yaml}
correct: {scorer: clinical, at_least: 0.95}
reward:
  parts: [{scorer: clinical, weight: 1}]
  gate: {scorer: clinical, below: 0.5}
"""
WORDS = "findings:\n  flumox: {is_a: lesion, names: [grumbly flumes, fmx]}\n"
EXAMPLE = Example(
    id="toy/test/0",
    dataset="toy",
    split="test",
    images=(),
    question="What is seen?",
    references=("flumox",),
    kind="open",
    options=(),
    metadata={},
)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "words.yaml").write_text(WORDS)
    (tmp_path / "own.yaml").write_text(RECIPE)
    return tmp_path / "own.yaml"


def answer(text="fmx"):
    completion = Completion(
        text=f"<think>Small grumbly flumes are seen there.</think><answer>{text}</answer>", n_tokens=9, truncated=False
    )
    return item_of(EXAMPLE, completion, form="think"), completion


def test_one_file_for_reward_gate_correct_metric_and_explanation(path, tmp_path):
    recipe, (item, completion) = load_recipe(path), answer()
    assert recipe.clinical.lexicon == (str(tmp_path / "words.yaml"),)
    outcome = reward_of(recipe)([item])[0]
    assert outcome.reward == 1.0 and outcome.gate is False
    assert correct_of(recipe)([item]) == [1.0]
    marker = Marker(recipe)
    given = Answer(example=EXAMPLE, item=item, completion=completion, control="none")
    scores = marker([given])[0]
    assert scores["clinical"] == 1.0
    assert as_row(given, scores, marker.lexicon)["explanation"]["matched"] == ["finding: flumox"]
    assert "close" in as_row(given, scores)["explanation"]  # by our words alone it is another one
    assert Rules(recipe)([EXAMPLE], [completion])[0].rule is None


def test_curation_reads_thoughts_by_it(path):
    path.with_name("words.yaml").write_text(WORDS + "definitions: {right lung: [the glorp]}\n")
    rules, asked = Rules(load_recipe(path)), "Where is the flumox?"
    example = replace(EXAMPLE, question=asked, references=("left lung",))
    thought = "<think>I can see many grumbly flumes in the glorp.</think><answer>left lung</answer>"
    assert rules([example], [Completion(text=thought, n_tokens=9, truncated=False)])[0].rule == "contradiction"


def test_the_audit_of_a_recipe_explains_by_it(path, tmp_path):
    recipe, out = load_recipe(path), tmp_path / "audit"
    assert load_subject(str(path)).describe()["stacks"]["all"]["parts"][0]["lexicon"].keys() == {"words.yaml"}
    summary = audit_run_reward(reward_of(recipe), [EXAMPLE] * 4, out, seed=0, form="think")
    assert "not in the lexicon: flumox" not in str(summary)


def test_a_file_that_is_gone_ends_a_run_before_it_begins(path):
    recipe = load_recipe(path)
    path.with_name("words.yaml").unlink()
    with pytest.raises(DataError, match=r"no lexicon at .*words.yaml"):
        check_names(recipe)


def test_a_study_knows_a_changed_file(path):
    table = load_recipe(path).clinical.model_dump(mode="json")
    before = json_digest(_portable(table))
    path.with_name("words.yaml").write_text(WORDS + "\n# more\n")
    assert json_digest(_portable(table)) != before
