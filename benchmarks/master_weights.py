"""How much of a training at a small learning rate is lost where weights are kept in bfloat16.

    python benchmarks/master_weights.py [--model tiny:llava] [--steps 50] [--learning-rate 1e-6] [--json]

The same bfloat16 start model is fine-tuned (SFT) on the same batches in four ways: all in float32; as medrft does
(float32 weights, bfloat16 autocast); with `master_dtype: bfloat16`; and the second way's weights rounded to bfloat16 at
the end, as its final folder holds them. Each change of the weights is compared with that of float32.
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


SIZES = {"image": 32, "vision_hidden": 32, "vision_layers": 1, "hidden": 64, "layers": 2, "mlp": 128, "vocab": 400}
"""Of the random model: enough weights to count, and a minute on a CPU, whose bfloat16 is slow."""


def recipe_of(model: str, *, steps: int, learning_rate: float, batch: int, **dtypes: str) -> Any:
    """SFT on short answers about drawn pictures, from one checkpoint at the end."""
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
            "stages": [{"name": "sft", "kind": "sft", "trl": trl}],
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


def compare(model: str, *, steps: int, learning_rate: float, batch: int, output: Path) -> list[dict[str, Any]]:
    """For each way the cosine of its change of the weights with float32's, its length, and the share that moved."""
    data = recipe_of(model, steps=1, learning_rate=1e-6, batch=1).data
    examples = load_data(data, seed=0, cache=output / "data").examples
    train = [example for example in examples if example.split == "train"]
    start = start_of(model, train, output)
    from medrft.training.sft import run_sft  # once load_policy has prepared transformers

    before = weights_of(start)
    update_check.REFUSED = 0.0  # medrft would refuse the third way
    after = {}
    for number, (name, dtypes) in enumerate(WAYS.items()):
        recipe = recipe_of(str(start), steps=steps, learning_rate=learning_rate, batch=batch, **dtypes)
        run = RunDir.create(output / f"run{number}")
        run_sft(recipe.stages[0], recipe, start=start, train=train, validation=[], run=run)
        after[name] = weights_of(run.checkpoints("sft") / f"checkpoint-{steps}")
        if number == 1:
            after["the same, rounded at the end"] = weights_of(run.final("sft"))
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


def change(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([(after[name] - value).flatten() for name, value in before.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny:llava")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=1e-6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(
            told.model, steps=told.steps, learning_rate=told.learning_rate, batch=told.batch, output=Path(folder)
        )
    if told.json:
        print(json.dumps(rows, indent=2))
        return
    print("| way | cosine with float32's change | length | entries that moved |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['way']} | {row['cosine']:.4f} | {row['length']:.3f} | {100 * row['moved']:.1f} % |")


if __name__ == "__main__":
    main()
