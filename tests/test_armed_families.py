"""recipes/armed.yaml as a user starts it: a model folder in the hub's layout, VQA-RAD's layout, all three stages."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medrft.pipeline.run import run_recipe
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_json, read_jsonl
from vqa_rad_rows import vqa_rad_row

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"image": 32, "vision_hidden": 16, "vision_layers": 1, "hidden": 64, "layers": 2, "mlp": 128, "vocab": 600}
TAUGHT = (
    ("Is the heart enlarged?", "Yes", "The shadow in the middle is wider than half of the chest."),
    ("Is there free air?", "No", "Nothing dark lies under the dome on this film."),
    ("Which organ is shown?", "lung", "Both fields are dark and filled with thin vessels."),
    ("Which plane is this?", "axial", "The slice cuts from front to back through it."),
)
"""Questions with answers and thoughts that a small model can learn by heart."""
TRAIN, TEST = range(8), range(8, 10)
"""Numbers of the pictures."""


@pytest.fixture(scope="module")
def vqa_rad(tmp_path_factory):
    """A release in VQA-RAD's layout, and beside it a table of the same train rows with thoughts."""
    root = tmp_path_factory.mktemp("armed")
    folder = root / "VQA_RAD Image Folder"
    folder.mkdir()
    rows, taught = [], []
    for number in (*TRAIN, *TEST):
        shades = np.random.default_rng(number).integers(0, 255, (32, (32, 48)[number % 2]), dtype=np.uint8)
        Image.fromarray(shades).save(folder / f"{number}.jpg")
        for question, answer, thought in TAUGHT:
            kind = {"answer_type": "CLOSED" if answer in ("Yes", "No") else "OPEN"}
            phrase = {"phrase_type": "test_freeform" if number in TEST else "freeform"}
            rows.append(vqa_rad_row(len(rows), f"{number}.jpg", question, answer, **kind, **phrase))
            row = {"image": f"{folder.name}/{number}.jpg", "question": question, "answer": answer, "rationale": thought}
            if number in TRAIN:
                taught.append(row)
    (root / "VQA_RAD Dataset Public.json").write_text(json.dumps(rows), encoding="utf-8")
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in taught), encoding="utf-8")
    return root


def instructed(family, root, folder):
    """The folder of a tiny model of a family that has learned the form and some answers, as an instruct model has."""
    step = {"max_steps": 150, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "eval_steps": 150}
    table = {
        "name": "instructed",
        "model": {"id": f"tiny:{family}", "tiny": SIZES, "device": "cpu", "dtype": "float32"},
        "data": {"name": "table", "root": str(root / "train.jsonl")},
        "stages": [{"name": "sft", "kind": "sft", "evaluate": False, "trl": step}],
        "eval": {"base": "skip"},
    }
    return run_recipe(parse_recipe(table), output=folder).final("sft")


def settings(model, root):
    """`--set` for a few steps on a CPU: the recipe's own model, data, encoder and lengths need GPUs and the hub."""
    few = {"max_steps": 1, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    grpo = {**few, "num_generations": 4, "max_completion_length": 48}
    values = {
        "model.id": model,
        "data.root": root,
        "encoder.id": "all-MiniLM-L6-v2",
        "encoder.bertscore": "null",
        "curate.tau": 4,
        "curate.clusters": 2,
        "eval.limit": 4,
        "eval.batch_size": 4,
        "eval.max_new_tokens": 48,
    }
    for stage, table in (("armed_i", grpo), ("armed_a", few), ("armed_r", grpo)):
        values |= {f"stages.{stage}.trl.{key}": value for key, value in table.items()}
        values[f"stages.{stage}.validation_limit"] = 2
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


@pytest.mark.parametrize(
    "family",
    ["qwen2_5_vl", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3_vl", "internvl", "gemma3_it"))],
)
def test_the_papers_recipe_runs_all_three_stages(family, vqa_rad, tmp_path, monkeypatch, capsys):
    from medrft.cli.main import main

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = instructed(family, vqa_rad, tmp_path / "instructed")
    words = ["run", str(ROOT / "recipes" / "armed.yaml"), "--output", str(tmp_path / "run"), *settings(model, vqa_rad)]
    monkeypatch.setattr(sys, "argv", ["medrft", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    run = RunDir(tmp_path / "run")
    stages = {name: read_json(run.stage(name) / "stage.json") for name in ("armed_i", "armed_a", "armed_r")}
    assert {facts["status"] for facts in stages.values()} == {"done"}
    assert 0 < stages["armed_a"]["curated"]["rows"] < stages["armed_a"]["curated"]["of"]
    for name in ("armed_i", "armed_r"):
        assert stages[name]["prefix"]["fallbacks"] == {}
        assert set(stages[name]["prefix"]["completions"]) == {"rollouts/shared", "loss/shared"}
        rows = [row for row in read_jsonl(run.metrics) if row["stage"] == name and row["split"] == "train"]
        assert rows and all(row["shared_prompts"] == 1 for row in rows)
    for name in ("base", *stages):
        header = next(read_jsonl(run.evaluation(name, "vqa_rad") / "predictions.jsonl"))
        assert header["sharing"] == "image and prompt"
    assert (run.final("armed_r") / "config.json").is_file() and run.report.is_file()
