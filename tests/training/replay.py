"""Records the rollouts of toy GRPO stages, or replays them: `replay.py FOLDER OUT START CASES`, under any launcher.

Replayed, each process takes its share of the very completions that one process drew, so that everything after the
generation can be compared: rewards, advantages, calibration and gradients.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import torch
from transformers import TrainerCallback

from conftest import GRPO as TRL
from conftest import toy_recipe
from medrft.rundir import RunDir
from medrft.training import grpo

ADAPTIVE = {"kind": "adaptive", "t_min": 0.0}
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def vowels(items):
    """A score that any text has, so that a random model earns different things."""
    texts = [item.completion for item in items]
    return [sum(text.count(vowel) for vowel in "aeiou") / max(1, len(text)) for text in texts]


class Steps(TrainerCallback):
    """Keeps the gradient and the calibration's state of each optimizer step, as this process sees them."""

    def __init__(self):
        self.gradients, self.states, self.trainer = [], [], None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        named = self.trainer.accelerator.unwrap_model(model).named_parameters()
        self.gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})
        self.states.append(json.dumps(self.trainer.grader.reward.state_dict(), sort_keys=True))


def replaying(drawn, steps):
    """A trainer that records what it draws into an empty list, or takes its share of what is there."""
    record, taken = not drawn, []

    class Replaying(grpo.GRPO):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            steps.trainer = self
            self.add_callback(steps)

        def _generate_single_turn(self, prompt_ids, *args, **kwargs):
            if record:
                rows = super()._generate_single_turn(prompt_ids, *args, **kwargs)[0]
                drawn.append([ids[: 2 + sum(ids) % 7] for ids in rows])  # of different lengths
                return drawn[-1], None
            batch, n = drawn[len(taken)], len(prompt_ids)
            taken.append(None)
            assert len(batch) == n * WORLD
            return batch[RANK * n : (RANK + 1) * n], None

    return Replaying


def one(name, case, *, folder, out, start, examples):
    """Train one case; what was drawn lies in the folder, what came of it goes to `out`."""
    per_device = case["batch"] // WORLD
    trl = {**TRL, "max_steps": 3, "per_device_train_batch_size": per_device, "loss_type": case["loss"]}
    trl |= {"num_generations": case["group"], "gradient_accumulation_steps": case.get("accumulate", 1)}
    trl["max_grad_norm"] = 0.0  # clipping would hide a wrong scale
    stages = [{"name": "grpo", "kind": "grpo", "trl": trl}]
    parts = [{"scorer": "bleu1", "weight": 0.5}]
    parts.append({"scorer": f"{__file__}:vowels", "weight": 0.5, "calibrate": case.get("calibrate", ADAPTIVE)})
    reward = {"combine": case.get("combine", "weighted_sum"), "parts": parts}
    recipe = toy_recipe(stages=stages, reward=reward)
    path = folder / f"{name}.drawn"
    drawn = pickle.loads(path.read_bytes()) if path.is_file() else []
    steps, run = Steps(), RunDir(out / name)
    if RANK == 0:
        RunDir.create(out / name)
    grpo.GRPO, plain = replaying(drawn, steps), grpo.GRPO
    try:
        grpo.run_grpo(recipe.stages[0], recipe, start=start, train=examples, validation=[], run=run)
    finally:
        grpo.GRPO = plain
    if WORLD == 1:
        path.write_bytes(pickle.dumps(drawn))
    torch.save({"gradients": steps.gradients, "states": steps.states}, out / f"{name}-{RANK}.pt")


def main(folder, out, start, cases):
    examples = pickle.loads((folder / "examples").read_bytes())
    for name, case in json.loads(cases).items():
        one(name, case, folder=folder, out=out, start=start, examples=examples)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
