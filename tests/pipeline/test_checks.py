"""What is refused, or said, before data and model are loaded."""

import pytest

from medrft.errors import DataError, ModelError, RecipeError, UnknownNameError
from medrft.pipeline import checks
from medrft.pipeline.job import open_job
from medrft.pipeline.run import check_names, run_recipe
from medrft.recipes import parse_recipe


def recipe_with(stage=None, **changes):
    table = {
        "name": "toy",
        "prompt": "direct",
        "model": {"id": "tiny:llava", "device": "cpu"},
        "data": {"name": "phantom", "images": 4, "validation_images": 1, "test_images": 1, "size": 64},
        "stages": [{"name": "grpo", "kind": "grpo", "trl": {}} | (stage or {})],
    }
    return parse_recipe(table | changes)


@pytest.mark.parametrize(
    ("trl", "told"),
    [
        ({"learning_rate": "1e-6"}, r"learning_rate takes a number, got '1e-6' \(str\); write 1.0e-6"),
        ({"num_generations": "8"}, r"num_generations takes a whole number, got '8' \(str\); write 8"),
        ({"max_steps": 2.5}, "max_steps takes a whole number, got 2.5"),
        ({"bf16": "yes"}, "bf16 takes true or false, got 'yes'"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing takes true or false, got 1"),
        ({"beta": None}, "beta takes a number, got None"),
        ({"lr_scheduler_type": 3}, "lr_scheduler_type takes text, got 3"),
        ({"use_vllm": True}, "use_vllm, which needs vllm"),
        ({"optim": "paged_adamw_8bit"}, "needs bitsandbytes"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_values_of_trl_are_one_line(trl, told):
    with pytest.raises(RecipeError, match=told):
        check_names(recipe_with({"trl": trl}))


def test_right_values_of_trl_pass():
    values = {"learning_rate": 1, "num_train_epochs": 2, "report_to": [], "logging_steps": 0.5, "optim": "adafactor"}
    more = {"lr_scheduler_type": "cosine", "generation_kwargs": {"top_k": 5}, "top_k": 3, "save_strategy": "no"}
    check_names(recipe_with({"trl": values | more}))


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'adamw_8bit'"):
        check_names(recipe_with({"trl": {"optim": "adamw_8bits"}}))


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        ({"r": "16"}, "model.lora.r takes a whole number, got '16'"),
        ({"rank": 8}, r"unknown model.lora key 'rank'; did you mean 'r'\?"),
        ({"lora_rank": 8}, r"did you mean 'r'\?"),
        ({"lora_r": 8}, r"did you mean 'r'\?"),
        ({"alpha": 16}, r"did you mean 'lora_alpha'\?"),
        ({"dropout": 0.1}, r"did you mean 'lora_dropout'\?"),
        ({"targets": "all-linear"}, r"did you mean 'target_modules'\?"),
        ({"lora_target": "all"}, r"did you mean 'target_modules'\?"),
    ],
)
def test_wrong_adapters_are_one_line(lora, told):
    with pytest.raises((RecipeError, UnknownNameError), match=told):
        check_names(recipe_with(model={"id": "tiny:llava", "lora": lora}))


def test_thoughts_that_nobody_wrote_are_missed_before_the_model(tmp_path):
    rows = "image,question,answer,split\n" + "".join(
        f"{i}.png,Is it large?,yes,{s}\n" for i, s in enumerate(["train", "test"])
    )
    table(tmp_path, rows)
    recipe = recipe_with(
        {"name": "sft", "kind": "sft"}, prompt="think", data={"name": "table", "root": str(tmp_path / "rows.csv")}
    )
    with pytest.raises(DataError, match="has a rationale"):
        open_job(recipe, output=tmp_path / "run")


def test_missing_test_rows_are_told_with_the_way_out_and_leave_no_folder(tmp_path):
    table(tmp_path, "image,question,answer,split\n0.png,Is it large?,yes,train\n1.png,Is it small?,no,train\n")
    recipe = recipe_with(data={"name": "table", "root": str(tmp_path / "rows.csv")})
    output = tmp_path / "run"
    for _ in range(2):  # the second start is told the same, not that a run is there
        with pytest.raises(DataError, match=r"no test rows.*data\.by_image"):
            open_job(recipe, output=output)
    assert not output.exists()
    quiet = recipe_with({"evaluate": False}, data=recipe.data.model_dump(), eval={"base": "skip"})
    open_job(quiet, output=output)


def table(folder, rows):
    from PIL import Image

    for i in range(2):
        Image.new("RGB", (32, 32), (60 * i, 0, 0)).save(folder / f"{i}.png")
    (folder / "rows.csv").write_text(rows, encoding="utf-8")


def test_a_model_without_processor_ends_the_run_before_data(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("medrft.data.load_data", lambda *a, **k: pytest.fail("data were loaded"))
    with pytest.raises(ModelError):
        run_recipe(recipe_with(model={"id": str(tmp_path / "model")}), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "gpus", "told"),
    [
        ({}, 0, []),
        ({}, 1, []),
        ({}, 4, ["--num_processes 4"]),
        ({"WORLD_SIZE": "2"}, 0, ["processes: 2"]),
        ({"ACCELERATE_USE_CPU": "True"}, 0, ["torchrun --nproc_per_node"]),
    ],
)
def test_processes_are_told(environment, gpus, told, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name in [name for name in checks.os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    lines = checks.process_lines()
    assert len(lines) == len(told) and all(part in line for part, line in zip(told, lines, strict=True))
