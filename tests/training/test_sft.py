"""SFT on a tiny model: what it leaves behind, what it trains on, what it refuses."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from medrft.errors import DataError, RecipeError
from medrft.rundir import RunDir, read_json, read_jsonl
from medrft.training.sft import run_sft
from medrft.training.state import write_stage


@pytest.fixture(scope="module")
def done(trained, tmp_path_factory, recipe):
    run = RunDir.create(tmp_path_factory.mktemp("runs") / "sft")
    assert trained(run_sft, recipe(), run=run) == run.final("sft")
    return run


def test_a_stage_leaves_model_card_metrics_and_record(done):
    run, final = done, done.final("sft")
    AutoModelForImageTextToText.from_pretrained(final)
    assert AutoProcessor.from_pretrained(final).chat_template
    assert "Not a medical device" in (final / "README.md").read_text()
    record = read_json(run.stage("sft") / "stage.json")
    assert (record["status"], record["steps"], record["start"]) == ("done", 4, "base")
    assert record["seconds"] > 0 and record["best"]["metric"] == "eval_loss"
    assert record["examples"] == {"train": 32, "validation": 8, "left_out": []}
    rows = list(read_jsonl(run.metrics))
    assert [row["step"] for row in rows if row["split"] == "train"] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if row["split"] == "validation"] == [2, 4]
    assert all({"loss", "entropy", "seconds"} <= set(row) and row["stage"] == "sft" for row in rows)
    assert read_json(run.stage("sft") / "preflight.json")["passed"]


def test_the_best_checkpoint_on_validation_is_kept(done):
    losses = {r["step"]: r["loss"] for r in read_jsonl(done.metrics) if r["split"] == "validation"}
    best = read_json(done.stage("sft") / "stage.json")["best"]
    assert best["step"] == min(losses, key=losses.get) and best["value"] == pytest.approx(min(losses.values()))


def test_the_final_model_is_the_best_checkpoint_and_not_the_last(trained, run, recipe):
    trl = {**recipe().stages[0].trl, "learning_rate": 0.5, "lr_scheduler_type": "constant", "eval_steps": 1}
    final = trained(run_sft, recipe(stages=[{"name": "sft", "kind": "sft", "trl": trl}]), run=run)
    best = read_json(run.stage("sft") / "stage.json")["best"]["step"]
    assert best < 4  # such a rate destroys the model
    kept, last = (
        {**load_file(folder / "model.safetensors")}
        for folder in (run.checkpoints("sft") / f"checkpoint-{best}", run.checkpoints("sft") / "checkpoint-4")
    )
    saved = load_file(final / "model.safetensors")
    assert saved.keys() == kept.keys()
    assert all(torch.equal(saved[name], kept[name]) for name in saved)
    assert not all(torch.equal(saved[name], last[name]) for name in saved)


def test_think_leaves_out_what_has_no_thought_and_names_it(trained, run, recipe, drawn):
    train = [replace(e, rationale=None) if i < 3 else e for i, e in enumerate(drawn["train"])]
    validation = [replace(e, rationale=None) for e in drawn["validation"]]
    trained(run_sft, recipe(prompt="think"), run=run, train=train, validation=validation)
    record = read_json(run.stage("sft") / "stage.json")
    assert record["examples"]["left_out"] == [e.id for e in train[:3]]
    assert record["examples"]["train"] == 29 and record["examples"]["validation"] == 0
    assert record["best"] is None  # nothing to choose on: the last step


def test_think_without_any_thought_is_an_error(trained, run, recipe, drawn):
    with pytest.raises(DataError, match="use prompt: direct"):
        trained(run_sft, recipe(prompt="think"), run=run, train=[replace(e, rationale=None) for e in drawn["train"]])


def test_a_refused_table_stops_before_anything_is_loaded(trained, run, recipe):
    bad = recipe(stages=[{"name": "sft", "kind": "sft", "trl": {"output_dir": "x"}}])
    with pytest.raises(RecipeError, match="--output"):
        trained(run_sft, bad, run=run)


def test_a_stage_may_train_for_as_long_as_another(trained, run, recipe, drawn):
    trl = {"per_device_train_batch_size": 4, "num_train_epochs": 1}
    more = {"name": "more", "kind": "sft", "wall_clock_of": "sft", "trl": trl}
    two = recipe(stages=[recipe().stages[0].model_dump(), more])
    with pytest.raises(DataError, match="run it first"):
        trained(run_sft, two, 1, run=run)
    write_stage(run, "sft", status="done", seconds=3.0)
    trained(run_sft, two, 1, run=run, train=drawn["train"][:4])
    record = run.record("more")
    assert record["wall_clock"] == {"of": "sft", "seconds": 3.0}
    assert record["seconds"] >= 3.0 and record["best"]["metric"] == "eval_loss"
    assert record["steps"] > 1  # where TRL's own epochs end


def test_lora_is_merged_into_the_final_model(trained, run, recipe):
    model = {**recipe().model.model_dump(), "lora": {"r": 2, "target_modules": ["q_proj", "v_proj"]}}
    final = trained(run_sft, recipe(model=model), run=run)
    assert not (final / "adapter_config.json").exists() and (final / "config.json").is_file()
