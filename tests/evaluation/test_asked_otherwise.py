"""Every control asked of a tiny model, from real pictures to the table: phantom data, VQA-RAD and SLAKE."""

from __future__ import annotations

import json

import pytest

from families import SIZES
from medrft.data import load_data
from medrft.errors import ModelError
from medrft.evaluation.controls.rewording import mirrored_side
from medrft.evaluation.controls.table import CONTROLS, left_out
from medrft.evaluation.engines import Transformers, check_text_only
from medrft.evaluation.runner import evaluate, write_metrics
from medrft.models.load import load_policy, resolve_base
from medrft.models.prompts import get_prompt
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_jsonl
from medrft.types import Example

SMALL = {**SIZES, "vision_layers": 1, "layers": 1}
DATA = {
    "phantom": {"images": 4, "validation_images": 0, "test_images": 8, "size": 32},
    "vqa_rad": {},
    "slake": {},
}


def make_recipe(dataset, root, *, family="llava", **evaluation):
    return parse_recipe(
        {
            "name": "toy",
            "prompt": "direct",
            "model": {"id": f"tiny:{family}", "tiny": SMALL, "device": "cpu"},
            "data": {"name": dataset, "root": str(root), "max_pixels": 1024, **DATA[dataset]},
            "stages": [{"name": "sft", "kind": "sft"}],
            "eval": {"max_new_tokens": 3, "controls": "all", **evaluation},
        }
    )


def tiny_policy(recipe, examples, folder):
    texts = list(get_prompt("direct").texts(examples))
    return load_policy(recipe.model, resolve_base(recipe.model, texts=texts, output=folder, seed=0))


def asked(recipe, examples, folder):
    """The test rows asked in every way: metrics, and the rows of the file."""
    test = [e for e in examples if e.split == "test"]
    train = [e for e in examples if e.split == "train"]
    policy, run = tiny_policy(recipe, examples, folder / "model"), RunDir.create(folder / "run")
    ticks = []
    found = evaluate(
        Transformers(policy),
        recipe,
        stage="sft",
        examples_by_dataset={recipe.data.name: test},
        train=train,
        run=run,
        on_progress=lambda done, total: ticks.append((done, total)),
    )
    assert ticks[-1][0] == ticks[-1][1] == len(test) * (1 + len(CONTROLS))
    path = run.evaluation("sft", recipe.data.name) / "predictions.jsonl"
    header, *rows = read_jsonl(path)
    return test, found[recipe.data.name], header, rows, path


def check(test, metrics, header, rows):
    """Rows keep ids and pictures, and rows and left-out ones add up in every control."""
    images = {row["id"]: row["images"] for row in rows if row["control"] == "none"}
    assert set(images) == {example.id for example in test} and all(images.values())
    for control in CONTROLS:
        some = [row for row in rows if row["control"] == control]
        assert header["left_out"].get(control, {}) == left_out(control, test, seed=0)
        assert len(some) + sum(header["left_out"].get(control, {}).values()) == len(test)
        assert all(row["images"] == images[row["id"]] for row in some)
        kinds = metrics["controls"][control]["kinds"]
        assert sum(figures["n"] for figures in kinds.values()) == len(some)
    assert {"yes", "length"} <= set(metrics["biases"])


def test_every_control_on_phantom_data(tmp_path):
    recipe = make_recipe("phantom", tmp_path / "data")
    examples = [e for e in load_data(recipe.data, seed=0).examples if e.dataset == "phantom"]
    test, metrics, header, rows, path = asked(recipe, examples, tmp_path)
    check(test, metrics, header, rows)
    negated = [row for row in rows if row["control"] == "negated"]
    plain = {row["id"]: row for row in rows if row["control"] == "none"}
    assert negated and all(row["question"].startswith("Is it true that ") for row in negated)
    assert all(row["references"] != plain[row["id"]]["references"] for row in negated)
    assert header["left_out"]["paraphrase"] == {"no human rephrasing": len(test)}
    # the table is made of rows alone: it comes out the same without a model
    before = json.loads(path.with_name("metrics.json").read_text())
    path.with_name("metrics.json").unlink()
    assert write_metrics(path) == before


@pytest.mark.parametrize(("dataset", "folder"), [("vqa_rad", "vqa_rad"), ("slake", "slake")])
def test_every_control_on_real_rows(dataset, folder, shared_data, tmp_path):
    recipe = make_recipe(dataset, shared_data / folder)
    examples = load_data(recipe.data, seed=0).examples
    train = [e for e in examples if e.split == "train"][:200]
    every = [e for e in examples if e.split == "test"]
    sided = [e for e in every if isinstance(mirrored_side(e), Example)][:5]
    test = [e for e in every if e not in sided][:8] + sided
    test, metrics, header, rows, _ = asked(recipe, [*train, *test], tmp_path)
    check(test, metrics, header, rows)
    assert {row["control"] for row in rows} >= {"none", "question_only", "flip", "negated"}
    for row in rows:
        if row["control"] in ("sides", "flip") and row["kind"] == "closed":
            assert row["references"] == [] and row["scores"]["correct"] is None  # not known what is there


def test_vqa_rads_rephrasings(shared_data):
    examples = load_data(make_recipe("vqa_rad", shared_data / "vqa_rad").data, seed=0).examples
    test = [e for e in examples if e.split == "test"]
    reasons = left_out("paraphrase", test, seed=0)
    assert len(test) - sum(reasons.values()) == 108
    assert reasons["its rephrasing asks something else (inversion)"] == 4


@pytest.mark.parametrize("family", ["llava", "gemma3", "idefics3"])
def test_models_are_asked_without_a_picture(family, tmp_path):
    recipe = make_recipe("phantom", tmp_path / "data", family=family)
    examples = load_data(recipe.data, seed=0).examples[:8]
    check_text_only(tiny_policy(recipe, examples, tmp_path), get_prompt("direct"))


def test_a_model_that_needs_a_picture_is_named_with_the_way_out(tmp_path):
    recipe = make_recipe("phantom", tmp_path / "data")
    policy = tiny_policy(recipe, load_data(recipe.data, seed=0).examples[:8], tmp_path)
    forward = policy.model.forward

    def needs_pixels(*args, pixel_values=None, **kwargs):
        if pixel_values is None:
            raise ValueError("You have to specify pixel_values")
        return forward(*args, pixel_values=pixel_values, **kwargs)

    policy.model.forward = needs_pixels
    with pytest.raises(ModelError, match=r"question_only: .* cannot be asked without a picture .*pixel_values"):
        check_text_only(policy, get_prompt("direct"))
