from __future__ import annotations

import json

import pytest

from medrft.errors import DataError
from medrft.evaluation import runner
from medrft.evaluation.engines import Transformers, weights_hash
from medrft.evaluation.runner import evaluate
from medrft.models.load import load_policy, resolve_base
from medrft.models.prompts import get_prompt
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_jsonl
from medrft.types import Example

SIZES = {"image": 32, "vision_hidden": 32, "vision_layers": 1, "hidden": 32, "layers": 1, "mlp": 32, "vocab": 400}


def make_recipe(**evaluation):
    return parse_recipe(
        {
            "name": "toy",
            "prompt": "direct",
            "model": {"id": "tiny:llava", "tiny": SIZES, "device": "cpu"},
            "data": {"name": "table", "max_pixels": 1024},
            "stages": [{"name": "sft", "kind": "sft"}],
            "eval": {"max_new_tokens": 5, "batch_size": 4, **evaluation},
        }
    )


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    paths = []
    for shade in range(3):
        paths.append(folder / f"{shade}.png")
        Image.new("L", (40, 30), 60 + 60 * shade).save(paths[-1])
    kinds = [
        ("closed", "Is it large?", "no", ()),
        ("choice", "Which plane?", "axial", ("axial", "coronal")),
        ("open", "What is shown?", "left lung", ()),
    ]
    return [
        Example(
            id=f"toy/{split}/{i}",
            dataset="toy",
            split=split,
            images=(paths[i // 2],),
            question=kinds[i % 3][1],
            references=(kinds[i % 3][2],),
            kind=kinds[i % 3][0],
            options=kinds[i % 3][3],
            metadata={"modality": "CR", "more": "not kept"},
        )
        for split in ("train", "test")
        for i in range(6)
    ]


@pytest.fixture(scope="module")
def policy(tmp_path_factory, examples):
    config = make_recipe().model
    texts = list(get_prompt("direct").texts(examples))
    source = resolve_base(config, texts=texts, output=tmp_path_factory.mktemp("model"), seed=0)
    return Transformers(load_policy(config, source))


def run_stage(policy, recipe, run, examples, stage="sft", **more):
    train, test = ([e for e in examples if e.split == split] for split in ("train", "test"))
    return evaluate(policy, recipe, stage=stage, examples_by_dataset={"toy": test}, train=train, run=run, **more)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, policy, examples):
    run = RunDir.create(tmp_path_factory.mktemp("run"))
    recipe = make_recipe(sampled={"temperature": 1.0, "samples": 2}, controls=["blank", "shuffled"])
    ticks = []
    metrics = run_stage(policy, recipe, run, examples, on_progress=lambda done, total: ticks.append((done, total)))
    return run, recipe, metrics["toy"], ticks


def rows_of(run, stage="sft"):
    header, *rows = read_jsonl(run.evaluation(stage, "toy") / "predictions.jsonl")
    return header, rows


def test_predictions_hold_every_answer_of_every_pass(evaluated):
    header, rows = rows_of(evaluated[0])
    counts = {}
    for row in rows:
        key = (row["control"], row["temperature"])
        counts[key] = counts.get(key, 0) + 1
    assert counts == {
        ("none", 0.0): 6,
        ("none", 1.0): 12,
        ("blank", 0.0): 6,
        ("shuffled", 0.0): 6,
        ("frequent_type", 0.0): 6,
        ("frequent_question", 0.0): 6,
    }
    assert {"model", "checkpoint", "prompt_hash", "generation", "encoder", "seed"} <= header.keys()
    assert header["prompt"] == "direct"


def test_a_row_is_what_the_contract_says(evaluated):
    _, rows = rows_of(evaluated[0])
    row = next(row for row in rows if row["kind"] == "open" and row["control"] == "none")
    assert row["id"] == "toy/test/2" and row["split"] == "test"
    assert len(row["images"][0]) == 64
    assert row["metadata"] == {"modality": "CR", "frequency": "head"}
    assert set(row["scores"]) == {
        *("exact_match", "clinical", "recall", "bleu1", "rouge1", "bertscore", "cosine", "answer_format", "correct"),
    }
    assert row["n_tokens"] <= 5 and isinstance(row["truncated"], bool)


def test_a_blank_data_set_is_answered_as_the_blank_control_is(evaluated, policy, examples, tmp_path):
    recipe = make_recipe(controls=[])
    run = RunDir.create(tmp_path / "run")
    blank = recipe.model_copy(update={"data": recipe.data.model_copy(update={"blank": True})})
    run_stage(policy, blank, run, examples)
    header, rows = rows_of(run)
    assert header["generation"]["pictures"] == "blank"
    before, known = rows_of(evaluated[0])
    assert "pictures" not in before["generation"]

    def said(rows, control):
        return {row["id"]: row["prediction"] for row in rows if row["control"] == control and not row["temperature"]}

    assert said(rows, "none") == said(known, "blank")
    assert [row["images"] for row in rows if row["control"] == "none"] == [
        row["images"] for row in known if row["control"] == "blank"
    ]  # the true ones: what intervals resample


def test_each_kind_has_its_metrics_with_n_and_interval(evaluated):
    results = evaluated[2]["results"]
    assert set(results["none"]) == {"closed", "choice", "open", "all"}
    assert results["none"]["closed"]["accuracy"]["n"] == 2
    assert set(results["none"]["open"]) >= {"exact_match", "recall", "average", "truncated", "answer_format"}
    assert results["sampled"]["open"]["correct"]["n"] == 2  # questions, not samples
    assert results["sampled"]["open"]["pass@2"]["n"] == results["sampled"]["open"]["maj@2"]["n"] == 2
    assert "pass@1" not in results["none"]["open"]
    assert evaluated[2]["conditional_on"] == "this training seed"
    assert evaluated[2]["strata"]["none"]["closed"]["modality"]["CR"]["accuracy"]["n"] == 2
    # train asks the same three questions as test, so the most frequent answer is always right here
    assert results["frequent_question"]["closed"]["accuracy"]["mean"] == 1.0
    assert results["frequent_question"]["choice"]["accuracy"]["mean"] == 1.0
    assert results["frequent_question"]["open"]["exact_match"]["mean"] == 1.0
    assert "answer_format" not in results["frequent_question"]["open"]


def test_explanations_are_for_greedy_answers_to_open_questions(evaluated):
    _, rows = rows_of(evaluated[0])
    explained = [row for row in rows if "explanation" in row]
    assert {(row["kind"], row["control"], row["temperature"]) for row in explained} <= {("open", "none", 0.0)}


def test_progress_reaches_its_total(evaluated):
    ticks = evaluated[3]
    assert ticks[-1] == (30, 30)
    assert [done for done, _ in ticks] == sorted(done for done, _ in ticks)


def test_thumbnails_are_kept_for_the_report(evaluated, policy, examples, tmp_path):
    assert len(list(evaluated[0].images.glob("*.png"))) == 3
    recipe = make_recipe().model_copy(update={"report": type(make_recipe().report)(images="none")})
    run = RunDir.create(tmp_path / "run")
    run_stage(policy, recipe, run, examples)
    assert not run.images.exists()


def test_finished_predictions_are_kept_and_metrics_made_again(evaluated, policy, examples):
    run, recipe, metrics, _ = evaluated
    folder = run.evaluation("sft", "toy")
    (folder / "metrics.json").unlink()
    before = (folder / "predictions.jsonl").stat().st_mtime_ns
    ticks = []
    again = run_stage(policy, recipe, run, examples, on_progress=lambda *tick: ticks.append(tick))
    assert (folder / "predictions.jsonl").stat().st_mtime_ns == before
    assert again["toy"] == metrics == json.loads((folder / "metrics.json").read_text())
    assert ticks == [(30, 30)]


def test_another_setting_makes_them_again(policy, examples, tmp_path):
    run = RunDir.create(tmp_path / "run")
    run_stage(policy, make_recipe(), run, examples)
    first = rows_of(run)
    run_stage(policy, make_recipe(max_new_tokens=3), run, examples)
    second = rows_of(run)
    assert first[0]["generation"] != second[0]["generation"]
    assert max(row["n_tokens"] for row in second[1] if row["n_tokens"]) <= 3


def test_the_start_model_is_asked_for_a_short_answer_and_has_no_controls(policy, examples, tmp_path):
    run = RunDir.create(tmp_path / "run")
    results = run_stage(policy, make_recipe(), run, examples, stage="base")["toy"]["results"]
    header, rows = rows_of(run, "base")
    assert header["prompt"] == "short"
    assert set(results) == {"none", "frequent_type", "frequent_question"}
    assert all("answer_format" not in row["scores"] for row in rows)
    assert all(row["answer"] == row["prediction"].strip() or row["answer"] is None for row in rows)


def test_a_data_set_without_examples_is_an_error(policy, tmp_path):
    with pytest.raises(DataError, match="toy has no examples"):
        evaluate(
            policy,
            make_recipe(),
            stage="sft",
            examples_by_dataset={"toy": []},
            train=[],
            run=RunDir.create(tmp_path / "run"),
        )


def test_other_weights_have_another_hash(tmp_path):
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    a, b, c = (weights_hash(tmp_path / name) for name in "abc")
    assert a == c != b


class Interrupted:
    """An engine that breaks after some answers, and counts them."""

    def __init__(self, engine, after=None):
        self.engine, self.after, self.given = engine, after, 0
        self.id, self.describe = engine.id, engine.describe

    def answers(self, *args, **kwargs):
        for found in self.engine.answers(*args, **kwargs):
            if self.given == self.after:
                raise KeyboardInterrupt
            self.given += 1
            yield found


@pytest.mark.parametrize("after", [3, 8, 20])
def test_an_interrupted_evaluation_goes_on_with_the_same_answers(
    evaluated, policy, examples, tmp_path, monkeypatch, after
):
    """Sampled answers too: their draws depend on neither the batch nor what was answered before."""
    monkeypatch.setattr(runner, "KEPT", 1)
    run, recipe = RunDir.create(tmp_path / "run"), evaluated[1]
    with pytest.raises(KeyboardInterrupt):
        run_stage(Interrupted(policy, after), recipe, run, examples)
    rest = Interrupted(policy)
    ticks = []
    run_stage(rest, recipe, run, examples, on_progress=lambda *tick: ticks.append(tick))
    assert rest.given == 24 - after
    assert ticks[-1] == (30, 30)
    names = ("predictions.jsonl", "metrics.json")
    assert [(run.evaluation("sft", "toy") / n).read_bytes() for n in names] == [
        (evaluated[0].evaluation("sft", "toy") / n).read_bytes() for n in names
    ]
