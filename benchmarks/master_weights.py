"""How much of a training at a small learning rate is lost where weights are kept in bfloat16.

    python benchmarks/master_weights.py [--model tiny:llava] [--steps 50] [--stages 1] [--learning-rate 1e-6] [--json]

The same bfloat16 start model is fine-tuned (SFT) on the same batches in four ways: all in float32; as medrft does
(float32 weights, bfloat16 autocast); with `master_dtype: bfloat16`; and the second way's weights rounded to bfloat16 at
the end, as its final folder holds them. Each change of the weights is compared with that of float32. `--stages 2`
splits the steps into two stages, and adds the second way with each stage from the rounded folder of the one before.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from medrft.data import load_data
from medrft.models.load import load_policy, resolve_base
from medrft.models.policy import Policy
from medrft.models.prompts import get_prompt
from medrft.models.saved import save_final
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir
from medrft.training import update_check
from medrft.types import Example

WAYS: dict[str, dict[str, str]] = {
    "float32": {"dtype": "float32"},
    "bf16 autocast, float32 weights": {"dtype": "bfloat16"},
    "bfloat16 weights": {"dtype": "bfloat16", "master_dtype": "bfloat16"},
}
AUTOCAST = list(WAYS)[1]
ROUNDED = "the same, rounded between stages"

SIZES = {"image": 32, "vision_hidden": 32, "vision_layers": 1, "hidden": 64, "layers": 2, "mlp": 128, "vocab": 400}
"""Of the random model: enough weights to count, and a minute on a CPU, whose bfloat16 is slow."""


def recipe_of(model: str, *, steps: int, learning_rate: float, batch: int, stages: int = 1, **dtypes: str) -> Any:
    """SFT on short answers about drawn pictures in one stage or several of equal length, each with one checkpoint."""
    steps //= stages
    trl = {
        "max_steps": steps,
        "save_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "constant",
        "logging_steps": steps,
    }
    return parse_recipe(
        {
            "name": "master_weights",
            "prompt": "short",
            "model": {"id": model, "device": "cpu", "tiny": SIZES, **dtypes},
            "data": {"name": "phantom", "images": 12, "validation_images": 1, "test_images": 1, "size": 64},
            "reward": "clinical",
            "stages": [{"name": f"sft{number}", "kind": "sft", "trl": trl} for number in range(stages)],
        }
    )


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: value.double() for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()
    }


def start_of(model: str, train: Sequence[Example], output: Path) -> Path:
    """The start model, saved in bfloat16."""
    recipe = recipe_of(model, steps=1, learning_rate=1e-6, batch=1, dtype="bfloat16")
    source = resolve_base(recipe.model, texts=get_prompt("short").texts(train), output=output / "random", seed=0)
    loaded = load_policy(recipe.model, source)
    return save_final(Policy(loaded.model, loaded.processor, str(output), loaded.device), output / "start")


def compare(
    model: str, *, steps: int, learning_rate: float, batch: int, output: Path, stages: int = 1
) -> list[dict[str, Any]]:
    """For each way the cosine of its change of the weights with float32's, its length, and the share that moved."""
    data = recipe_of(model, steps=1, learning_rate=1e-6, batch=1).data
    examples = load_data(data, seed=0, cache=output / "data").examples
    train = [example for example in examples if example.split == "train"]
    start = start_of(model, train, output)
    before = weights_of(start)
    update_check.REFUSED = 0.0  # medrft would refuse the third way
    after = {}
    for number, (name, dtypes) in enumerate(WAYS.items()):
        given = {"steps": steps, "learning_rate": learning_rate, "batch": batch, "stages": stages}
        recipe = recipe_of(str(start), **given, **dtypes)
        run = trained(recipe, start, train, output / f"run{number}")
        after[name] = last_weights(run, recipe)
        if name == AUTOCAST:
            after["the same, rounded at the end"] = weights_of(run.final(recipe.stages[-1].name))
            if stages > 1:
                run = trained(recipe, start, train, output / "rounded", forget=True)
                after[ROUNDED] = last_weights(run, recipe)
    true = change(before, after["float32"])
    rows = []
    for name, weights in after.items():
        found = change(before, weights)
        rows.append(
            {
                "way": name,
                "cosine": round(float(found @ true / (found.norm() * true.norm()).clamp(min=1e-300)), 4),
                "length": round(float(found.norm() / true.norm()), 4),
                "moved": round(float((found != 0).double().mean()), 4),
            }
        )
    return rows


def trained(recipe: Any, start: Path, train: Sequence[Example], output: Path, *, forget: bool = False) -> RunDir:
    """All stages done; `forget` what a stage keeps beside its final folder for the next."""
    from medrft.training.sft import run_sft  # once load_policy has prepared transformers

    run = RunDir.create(output)
    for stage in recipe.stages:
        start = run_sft(stage, recipe, start=start, train=train, validation=[], run=run)
        if forget:
            run.masters(stage.name).unlink(missing_ok=True)
    return run


def last_weights(run: RunDir, recipe: Any) -> dict[str, torch.Tensor]:
    """The weights as the last stage trained them."""
    last = recipe.stages[-1]
    return weights_of(run.checkpoints(last.name) / f"checkpoint-{last.trl['max_steps']}")


def change(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([(after[name] - value).flatten() for name, value in before.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny:llava")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--stages", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = {"steps": told.steps, "learning_rate": told.learning_rate, "batch": told.batch, "stages": told.stages}
        rows = compare(told.model, **given, output=Path(folder))
    if told.json:
        print(json.dumps(rows, indent=2))
        return
    print("| way | cosine with float32's change | length | entries that moved |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['way']} | {row['cosine']:.4f} | {row['length']:.3f} | {100 * row['moved']:.1f} % |")


if __name__ == "__main__":
    main()
