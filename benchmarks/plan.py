"""How near is `medrft run --plan`? Its bytes against those that torch allocates in a real step, on a CPU.

    python benchmarks/plan.py [--quick] [--json]
    python benchmarks/plan.py --table [MODEL …]

Random models of four families (Qwen2.5-VL, Qwen3-VL, Qwen3.5 and LLaVA, 10 to 100 million parameters) take GRPO steps
through TRL's trainer, on a picture and question of the planner's size. Measured are the bytes of weights, gradients and
AdamW's state, and the peak of what torch's allocator hands out (its profiler's memory events, not resident memory) in
rollouts and in a forward and backward pass, beyond what was held before. `ratio` is the plan by the measurement.
`--table` measures nothing: it prints what the plan says of a GRPO step of recipes/armed_1gpu.yaml for common models.
"""

import argparse
import gc
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import isqrt
from pathlib import Path

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()  # before TRL is imported

import torch
from datasets import Dataset
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from trl import GRPOConfig, GRPOTrainer

from medrft.config import ModelConfig
from medrft.models.load import load_policy
from medrft.models.prompts import get_prompt
from medrft.models.tiny import build_tiny
from medrft.pipeline.planning import open_planner
from medrft.recipes import load_recipe, parse_recipe
from medrft.training.planning.memory import QUESTION
from medrft.training.planning.plan import setting_of, usable_memory
from medrft.training.sharing.fallback import Sharing
from medrft.training.sharing.groups import GROUP
from medrft.training.sharing.trainer import SharesPrompts
from medrft.types import Example

SMALL = {"image": 128, "vision_hidden": 192, "vision_layers": 4, "hidden": 256, "layers": 6, "heads": 8, "mlp": 1024}
MIDDLE = {"image": 256, "vision_hidden": 384, "vision_layers": 6, "hidden": 768, "layers": 8, "heads": 12, "mlp": 3072}


@dataclass(frozen=True)
class Case:
    """One model and one way to train it."""

    family: str
    sizes: str = "small"
    checkpointing: bool = False
    autocast: bool = False
    shared: bool = True
    rows: int = 8
    group: int = 4
    completion: int = 96
    together: int | None = None
    """Completions at a time (`rollout_batch_size`)."""

    @property
    def pixels(self) -> int:
        """Pixels of the picture."""
        return (MIDDLE if self.sizes == "middle" else SMALL)["image"] ** 2


QUICK = [
    Case("qwen2_5_vl", checkpointing=True, completion=48),
    Case("llava", shared=False, rows=4, completion=32),
    Case("llava", rows=24, group=8, completion=48, together=8),
]
HYBRID = [
    Case("qwen3_5", checkpointing=True, completion=48),
    Case("qwen3_5", rows=4),
]
CASES = [
    *QUICK,
    Case("qwen2_5_vl"),
    Case("qwen2_5_vl", rows=4, checkpointing=True, completion=256),
    Case("llava"),
    Case("llava", checkpointing=True, completion=192),
    Case("qwen2_5_vl", "middle", checkpointing=True, rows=4),
    Case("llava", "middle", rows=4),
    Case("qwen2_5_vl", checkpointing=True, autocast=True, completion=32, rows=4),
    Case("qwen3_vl", checkpointing=True, completion=48),
    *HYBRID,
]


class Ours(SharesPrompts, GRPOTrainer):
    """TRL's trainer with shared prompts and nothing else of ours."""

    def __init__(self, *args, shared: bool, together: int | None, **kwargs):
        self.sharing = Sharing(on=shared, verify="never", together=together)
        super().__init__(*args, **kwargs)


def lengths(prompts, completions, completion_ids, **kwargs) -> list[float]:
    """A reward that costs nothing and differs within a group."""
    return [sum(ids) % 97 / 97 for ids in completion_ids]


def recipe_of(case: Case, folder: Path):
    """The recipe that the planner reads."""
    trl = {
        "per_device_train_batch_size": case.rows,
        "num_generations": case.group,
        "max_completion_length": case.completion,
        "gradient_checkpointing": case.checkpointing,
        "bf16": case.autocast,
    }
    stage = {
        "name": "grpo",
        "kind": "grpo",
        "trl": trl,
        "share_prefix": case.shared,
        "rollout_batch_size": case.together,
    }
    return parse_recipe(
        {
            "name": "plan",
            "prompt": "think",
            "model": {"id": str(folder), "device": "cpu", "dtype": "float32"},
            "data": {"name": "phantom", "max_pixels": case.pixels},
            "stages": [stage],
        }
    )


def save_model(case: Case, folder: Path) -> None:
    """A random model and its processor, saved as a checkpoint is."""
    sizes = MIDDLE if case.sizes == "middle" else SMALL
    texts = [QUESTION, get_prompt("think").instruction, get_prompt("think").role]
    model, processor = build_tiny(case.family, texts=texts * 3, sizes=sizes, seed=0)
    with torch.no_grad():
        model.resize_token_embeddings(16_000, mean_resizing=False)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def allocated(work: Callable[[], object]) -> tuple[object, int]:
    """What the work returns, and the most bytes that torch's allocator held for it at a time."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        found = work()
    now = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return found, peak


def trainer_of(case: Case, folder: Path, output: Path):
    """TRL's trainer on the saved model, and the rows of one generation batch."""
    policy = load_policy(ModelConfig(id=str(folder), device="cpu", dtype="float32"), folder)
    example = Example(
        id="plan", dataset="plan", split="train", images=(), question=QUESTION, references=("yes",), kind="open"
    )
    messages = get_prompt("think").bound(policy.processor).messages(example)
    messages[-1]["content"].insert(0, {"type": "image"})
    side = isqrt(case.pixels)
    rows = [{"prompt": messages, "images": [Image.new("RGB", (side, side))]} for _ in range(case.rows)]
    args = GRPOConfig(
        output_dir=str(output),
        per_device_train_batch_size=case.rows,
        num_generations=case.group,
        max_completion_length=case.completion,
        generation_kwargs={"min_new_tokens": case.completion, "suppress_tokens": [policy.model.config.image_token_id]},
        gradient_checkpointing=case.checkpointing,
        beta=0.0,
        use_cpu=True,
        bf16=case.autocast,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    trainer = Ours(
        model=policy.model,
        reward_funcs=lengths,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["unused"] * case.rows}),
        processing_class=policy.processor,
        shared=case.shared,
        together=case.together,
    )
    trainer.current_gradient_accumulation_steps = 1
    if case.checkpointing:  # as `train` does when it begins
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    trainer.model = trainer.model_wrapped = trainer.accelerator.prepare_model(trainer.model)
    trainer.create_optimizer()
    return trainer, rows


def measured(case: Case, folder: Path) -> dict[str, int]:
    """Bytes of a real step."""
    with tempfile.TemporaryDirectory() as output:
        trainer, rows = trainer_of(case, folder, Path(output))
        model = trainer.model
        model.train()
        torch.manual_seed(0)
        batch, rollouts = allocated(lambda: trainer._generate_and_score_completions(rows))
        batch[GROUP] = torch.arange(case.rows) // case.group

        def update() -> None:
            with trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(model, batch)
            loss.backward()

        update()  # gradients are there from now on, as in every micro-batch but the first
        _, peak = allocated(update)
        trainer.optimizer.step()
        states = [value for state in trainer.optimizer.state.values() for value in state.values()]
        return {
            "weights": sum(weight.nbytes for weight in model.parameters()),
            "gradients": sum(weight.grad.nbytes for weight in model.parameters() if weight.grad is not None),
            "optimizer": sum(value.nbytes for value in states if torch.is_tensor(value)),
            "activations": peak,
            "rollouts": rollouts,
        }


def planned(case: Case, folder: Path) -> dict[str, float]:
    """The same bytes as the plan has them."""
    recipe = recipe_of(case, folder)
    planner = open_planner(recipe)
    memory = planner.memory(setting_of(recipe.stages[0], recipe, checkpoint=planner.checkpoint), "one GPU", 1)
    return {name: getattr(memory, name) for name in ("weights", "gradients", "optimizer", "activations", "rollouts")}


def compare(case: Case) -> dict[str, dict[str, float]]:
    """Plan, measurement and their ratio, by part, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(case, Path(folder))
        plan, real = planned(case, Path(folder)), measured(case, Path(folder))
    mib = 2**20
    return {
        part: {"plan": plan[part] / mib, "measured": real[part] / mib, "ratio": plan[part] / real[part]}
        for part in plan
    }


TABLE = (
    "Qwen/Qwen2-VL-2B-Instruct",
    "OpenGVLab/InternVL3-2B-hf",
    "Qwen/Qwen2.5-VL-3B-Instruct",
    "google/medgemma-4b-it",
    "Qwen/Qwen3-VL-4B-Instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct",
)


def table_row(model: str) -> str:
    """GiB per GPU of one model: everything on one GPU, with 8-bit AdamW, with LoRA, and sharded over four and eight."""
    path = Path(__file__).resolve().parents[1] / "recipes" / "armed_1gpu.yaml"
    recipe = load_recipe(path, overrides={"model.id": model})
    planner = open_planner(recipe)
    lora = setting_of(recipe.stages[0], recipe, checkpoint=planner.checkpoint)
    whole = recipe.model_copy(update={"model": recipe.model.model_copy(update={"lora": None})})
    full = setting_of(recipe.stages[0], whole, checkpoint=planner.checkpoint)
    ways = [
        planner.memory(full, "one GPU", 1),
        planner.memory(replace(full, optim="adamw_8bit"), "one GPU", 1),
        planner.memory(lora, "one GPU", 1),
        planner.memory(full, "FSDP2", 4),
        planner.memory(full, "FSDP2", 8),
    ]
    cells = [
        f"**{way.peak / 2**30:.0f}**" if way.peak > usable_memory(80) else f"{way.peak / 2**30:.0f}" for way in ways
    ]
    return f"| {model} | {planner.parameters(None).total / 1e9:.2f} B | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small cases")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--table", nargs="*", metavar="MODEL")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.table is not None:
        for model in args.table or TABLE:
            print(table_row(model), flush=True)
        return
    results = []
    for case in QUICK if args.quick else CASES:
        found = compare(case)
        results.append({"case": asdict(case), "found": found})
        if not args.json:
            told = ", ".join(
                f"{part} {x['plan']:.1f}/{x['measured']:.1f} ({x['ratio']:.3f})" for part, x in found.items()
            )
            print(case, told, flush=True)
    if args.json:
        json.dump(results, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
