"""The planner: published sizes, bytes against torch's own, what is said of work, and the smallest change that fits."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from medrft.config import ModelConfig
from medrft.errors import ModelError, RecipeError
from medrft.models.shapes import model_shape, shipped_shapes
from medrft.models.sketch import block_kinds, block_stacks, cut_to, sketch_model
from medrft.pipeline.planning import measured_step, open_planner, parse_size, plan_recipe
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir
from medrft.training.planning import trace as plan_trace
from medrft.training.planning.memory import Parameters, state_bytes
from medrft.training.planning.plan import checkpoint_bytes, hours_of, setting_of, smallest_change, stage_work

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("plan_benchmark", ROOT / "benchmarks" / "plan.py")
benchmark = importlib.util.module_from_spec(spec)
sys.modules["plan_benchmark"] = benchmark
spec.loader.exec_module(benchmark)


def grpo_recipe(folder, **trl):
    table = {"per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 16, "bf16": False, **trl}
    return parse_recipe(
        {
            "name": "plan",
            "prompt": "think",
            "model": {"id": str(folder)},
            "data": {"name": "phantom", "images": 8, "validation_images": 2, "test_images": 2, "size": 64},
            "stages": [{"name": "grpo", "kind": "grpo", "trl": table}],
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Qwen2.5-VL with its processor."""
    path = tmp_path_factory.mktemp("qwen")
    benchmark.save_model(benchmark.Case("qwen2_5_vl"), path)
    return path


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-3B-Instruct", "google/medgemma-4b-it"])
def test_shipped_shapes_have_the_published_number_of_parameters(name):
    shape = model_shape(ModelConfig(id=name))
    model, _ = sketch_model(shape.config)
    total = sum(weight.numel() for weight in model.parameters())
    assert shape.source == "shipped" and total == pytest.approx(shape.published, rel=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(shipped_shapes()))
def test_all_shipped_shapes_do(name):
    shape = model_shape(ModelConfig(id=name))
    model, _ = sketch_model(shape.config)
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(shape.published, rel=0.002)


def test_a_model_whose_shape_nobody_has_is_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"model\.id=FOLDER"):
        model_shape(ModelConfig(id=str(tmp_path)))


QUICK = [benchmark.QUICK[0], *(pytest.param(case, marks=pytest.mark.slow) for case in benchmark.QUICK[1:])]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.family)
def test_bytes_are_those_that_torch_allocates(case):
    found = benchmark.compare(case)
    for part in ("weights", "gradients", "optimizer"):
        assert found[part]["ratio"] == pytest.approx(1, abs=0.02)
    for part in ("activations", "rollouts"):
        assert found[part]["ratio"] == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_image_features_of_inner_layers_are_counted():
    found = benchmark.compare(benchmark.Case("qwen3_vl", checkpointing=True, completion=48))
    assert found["activations"]["ratio"] == pytest.approx(1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [True, False])
def test_few_blocks_tell_of_all(folder, monkeypatch, checkpointing):
    recipe = grpo_recipe(folder, gradient_checkpointing=checkpointing)
    planner = open_planner(recipe)
    setting = setting_of(recipe.stages[0], recipe, checkpoint=planner.checkpoint)
    short = planner.peak(setting.load, setting)
    monkeypatch.setattr(plan_trace, "FEW", 99)
    planner._peaks.clear()
    assert short == pytest.approx(planner.peak(setting.load, setting), rel=0.01)


def test_a_sketch_allocates_nothing_large_and_its_depth_comes_back(folder):
    model, _ = sketch_model(AutoConfig.from_pretrained(folder))
    embedding = model.get_input_embeddings().weight
    assert type(embedding).__name__ == "Parameter" or isinstance(embedding, torch.nn.Parameter)
    depths = {name: len(stack) for name, stack in block_stacks(model).items()}
    assert depths and all(depth > 3 for depth in depths.values())
    with cut_to(model, {name: [0] for name in depths}):
        assert not block_stacks(model)
    assert {name: len(stack) for name, stack in block_stacks(model).items()} == depths


def test_blocks_of_a_hybrid_model_keep_their_types_where_some_are_cut():
    """transformers looks up by place in the stack which mask a layer gets."""
    config = model_shape(ModelConfig(id="Qwen/Qwen3.5-0.8B")).config
    model, _ = sketch_model(config)
    name = "model.language_model.layers"
    linear, full = block_kinds(block_stacks(model)[name])
    assert full == list(range(3, 24, 4)) and sorted(linear + full) == list(range(24))
    before = list(config.text_config.layer_types)
    with cut_to(model, {name: [22, 23]}):
        assert config.text_config.layer_types == ["linear_attention", "full_attention"]
        assert [block.block_type for block in model.model.language_model.layers] == config.text_config.layer_types
    assert config.text_config.layer_types == before and len(model.model.language_model.layers) == 24


@pytest.mark.slow
@pytest.mark.parametrize("case", benchmark.HYBRID, ids=lambda case: f"checkpointing={case.checkpointing}")
def test_both_kinds_of_layers_of_a_hybrid_model_are_counted(case):
    found = benchmark.compare(case)
    assert found["activations"]["ratio"] == pytest.approx(1, abs=0.05)
    assert found["rollouts"]["ratio"] == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("optim", "per", "embedding"),
    [("adamw_torch_fused", 8, 8), ("adamw_8bit", 2, 8), ("lion_32bit", 4, 4), ("sgd", 0, 0), ("stable_adamw", 8, 8)],
)
def test_optimizer_state(optim, per, embedding):
    n = Parameters(total=150, trained=100, embedding=40, block=10, root=50)
    assert state_bytes(optim, n) == per * 60 + embedding * 40


def test_the_smallest_change_makes_it_fit(folder):
    recipe = grpo_recipe(folder, gradient_checkpointing=False)
    planner = open_planner(recipe)
    stage = recipe.stages[0]
    setting = setting_of(stage, recipe, checkpoint=planner.checkpoint)
    whole = planner.memory(setting, "one GPU", 1).peak
    lighter = replace(setting, load=replace(setting.load, checkpointing=True))
    eased = planner.memory(lighter, "one GPU", 1).peak
    assert eased < whole

    def changes(peak):
        return smallest_change(planner, stage, setting, way="one GPU", gpus=1, gpu=peak / 2**30 / 0.99)

    assert changes(whole + 1) == []
    one = changes((whole + eased) / 2)
    assert [change.keys for change in one] == ["--set stages.grpo.trl.gradient_checkpointing=true"]
    assert changes(2**28) is None


def test_work_counts_steps_questions_and_validations_share():
    recipe = grpo_recipe("x", gradient_accumulation_steps=2, num_train_epochs=1, eval_steps=10)
    work = stage_work(recipe.stages[0], gpus=2, rows=160, validation=20, max_tokens=16)
    assert work["steps"] == 160 * 4 // 16 and work["questions_a_step"] == 4 and work["generate_calls"] == 40
    assert work["evaluations"] == 4 and work["validation_completions"] == 4 * 20 * 2
    assert work["validation_generate_calls"] == 4 * 5  # 40 completions, 8 at a time
    assert work["validation_share_of_calls"] == pytest.approx(20 / 60)
    assert work["most_tokens_written"] == (160 * 4 + 160) * 16
    unknown = stage_work(recipe.stages[0], gpus=1, rows=None, validation=None, max_tokens=16)
    assert unknown["steps"] is None


@pytest.mark.parametrize(("dtype", "saved"), [("bfloat16", 2), ("float32", 4)])
def test_disk_counts_the_weights_that_a_later_stage_starts_from(folder, dtype, saved):
    table = grpo_recipe(folder).model_dump(mode="json")
    table["model"]["dtype"], sft = dtype, {"name": "sft", "kind": "sft", "trl": {}}
    recipe = parse_recipe({**table, "stages": [sft, *table["stages"]]})
    planner = open_planner(recipe)
    n = planner.parameters(None).total
    kept = []
    for stage in recipe.stages:
        disk = checkpoint_bytes(planner, stage, setting_of(stage, recipe, checkpoint=planner.checkpoint))
        assert disk["final"] == saved * n
        kept.append(disk["masters"])
    assert kept == [4 * n if saved == 2 else 0, 0]


def test_hours_come_from_a_measured_step_or_a_stated_speed(tmp_path):
    run = RunDir(tmp_path)
    for step, seconds in ((1, 10.0), (2, 14.0), (3, 18.0), (4, 100.0)):
        run.append_metrics("grpo", {"step": step, "seconds": seconds})
    assert measured_step(tmp_path, "grpo") == 4.0 and measured_step(tmp_path, "sft") is None
    with run.metrics.open("a") as log:
        log.write('{"stage": "grpo", "step": 5, "sec')  # a run that was killed, or still trains
    assert measured_step(tmp_path, "grpo") == 4.0
    work = {"steps": 900, "most_tokens_written": 7_200_000}
    assert hours_of(work, tokens_per_second=None, step_seconds=4.0)["hours"] == 1.0
    assert hours_of(work, tokens_per_second=1000, step_seconds=None)["hours"] == 2.0
    assert "--tokens-per-second" in hours_of(work, tokens_per_second=None, step_seconds=None)["from"]
    assert "follow from the data" in hours_of({"steps": None}, tokens_per_second=1000, step_seconds=None)["from"]
    assert "writes nothing" in hours_of({"steps": 9}, tokens_per_second=1000, step_seconds=None)["from"]


@pytest.mark.parametrize("text", ["0", "-8GB", "much", "80TB", "nan"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(RecipeError, match="--gpu"):
        parse_size(text)


def test_a_plan_is_json_and_holds_every_way(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDRFT_CACHE", str(tmp_path))
    found = plan_recipe(grpo_recipe(folder), gpu=80.0, gpus=2)
    assert json.loads(json.dumps(found)) == found
    memory = found["stages"][0]["memory"]
    assert set(memory) == {"one_gpu", "ddp", "fsdp2", "zero3"} and all(way["fits"] for way in memory.values())
    assert memory["fsdp2"]["weights_gib"] == pytest.approx(memory["one_gpu"]["weights_gib"] / 2, abs=0.002)
    assert found["model"]["shape_from"] == "folder" and found["rows"]["train"] > 0
