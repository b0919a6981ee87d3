"""Plain TRL with a reward of ours: no trainer of medrft's, no recipe.

    python examples/trl_reward.py MODEL OUTPUT [--steps 2] [--reward armed_clinical] [--prompt think] [--resume]

MODEL is a vision-language model's folder or hub id. The rows here are drawn pictures with their questions; your own
need the columns `prompt`, `images`, `solution` (the reference) and `id` (one value per question and picture).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()  # only beside a CPU build of torch

import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer

from medrft.config import DataConfig
from medrft.data import load_data
from medrft.integrations.trl import trl_reward
from medrft.models.prompts import Prompt, get_prompt


def drawn_rows(images: int, prompt: Prompt) -> Dataset:
    """Questions about drawn pictures, as TRL reads them."""
    rows = []
    for example in load_data(DataConfig(name="phantom", images=images, size=64), seed=0).examples:
        if example.split == "train":
            rows.append(
                {
                    "prompt": prompt.messages(example),
                    "images": [Image.open(path).convert("RGB") for path in example.images],
                    "solution": list(example.references),
                    "question": example.question,
                    "options": list(example.options),
                    "kind": example.kind,
                    "id": example.id,
                }
            )
    return Dataset.from_list(rows)


def train(
    model: str, output: Path, *, reward: str, steps: int, prompt: str = "think", resume: bool = False
) -> GRPOTrainer:
    """A few GRPO steps; the calibrations learn as in our own trainer, and their state lies in each checkpoint."""
    asked = get_prompt(prompt)
    paid = trl_reward(reward, form=asked.form, update=True, group_by="id")
    arguments = GRPOConfig(
        output_dir=str(output),
        max_steps=steps,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=16,
        save_steps=1,
        logging_steps=1,
        learning_rate=1e-4,
        report_to=[],
        gradient_checkpointing=False,  # the tiny Swin towers of the tests cannot; leave it out for a real model
        use_cpu=not torch.cuda.is_available(),
        seed=0,
    )
    trainer = GRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(model),
        processing_class=AutoProcessor.from_pretrained(model, padding_side="left"),
        reward_funcs=[paid],
        callbacks=[paid.callback()],
        args=arguments,
        train_dataset=drawn_rows(4, asked),
    )
    trainer.train(resume_from_checkpoint=resume or None)
    return trainer


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--reward", default="armed_clinical")
    parser.add_argument("--prompt", default="think", help="think, direct or short")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--each-state", type=Path, metavar="FOLDER", help="write each process's state at the end")
    given = parser.parse_args()
    trainer = train(
        given.model,
        given.output,
        reward=given.reward,
        steps=given.steps,
        prompt=given.prompt,
        resume=given.resume,
    )
    if given.each_state is not None:
        trainer.reward_funcs[0].held.save_state(given.each_state / f"state-{trainer.args.process_index}.json")


if __name__ == "__main__":
    main()
