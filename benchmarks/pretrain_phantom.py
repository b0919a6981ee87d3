"""Pretrain `phantom-base`, the small model that ships with medrft, on drawn pictures. One command, which may be killed.

    OMP_NUM_THREADS=1 python benchmarks/pretrain_phantom.py --output runs/phantom_base_v1 --steps 4000

A picture with ten to fifteen questions is one row: every question sees the picture and itself, and no other question,
so that an answer is learned exactly as it is asked for later, and the picture is read once for all of them. The loss is
on answers alone. The vision tower also names the facts of the picture through a linear head, which is not saved.

Started again with the same arguments it goes on from its last checkpoint, to the same weights; with other --steps too,
as long as the decay of the learning rate has not begun. `curve.jsonl` in the folder grows as it goes. --finish writes
the model of the last checkpoint to `final/`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pretraining_rows import SEED, SHARD, SIZE, Batch, Drawings, Writer, make_batch, normal, order_of, tokenizer_texts
from torch import nn
from torch.nn import functional

from medrft.config import ModelConfig
from medrft.data.images import blank_like
from medrft.data.phantom import grade_answer, load_phantom
from medrft.data.phantom.lessons import draw_lesson, fact_names, facts_of
from medrft.files import write_atomic
from medrft.models.generate import Generation, generate
from medrft.models.load import load_policy
from medrft.models.policy import Policy
from medrft.models.prompts import get_prompt
from medrft.models.saved import save_model
from medrft.models.tiny import build_tiny
from medrft.types import Example

HELD_OUT_SEED = 1001
"""Of the pictures of the curve; no study and no evaluation uses it, as `pretraining_rows.SEED`."""
SIZES = {"vision_hidden": 192, "vision_layers": 5}
TRAINED = "training.pt"
BATCH = 16
"""Pictures in a step; 16 of them have about 190 questions."""
RATE, WARMUP, DECAY = 2e-3, 100, 1500
"""The learning rate, and the steps in which it rises at the beginning and falls at the end."""
FACTS = 0.1
"""Weight of the head that names facts."""
TELL, KEEP, EXAMINE = 20, 200, 300
"""Every how many steps a line is written, a checkpoint kept, and a line added to the curve."""
EXAM_IMAGES = 60


# ---- the curve ------------------------------------------------------------------------------------------------------


class Exam:
    """Questions about pictures of another seed, as users ask them: `short` prompt, greedy, judged by the oracle."""

    def __init__(self, policy: Policy, folder: Path, images: int) -> None:
        loaded = load_phantom(
            folder, seed=HELD_OUT_SEED, images=0, validation_images=0, test_images=images, questions=6, size=SIZE
        )
        self.policy = policy
        self.examples = loaded.examples
        self.lessons = [draw_lesson(HELD_OUT_SEED, number, SIZE) for number in range(2 * images)]

    def take(self, student: Student) -> dict[str, Any]:
        inside = [example for example in self.examples if example.dataset == "phantom"]
        outside = [example for example in self.examples if example.dataset != "phantom"]
        return {
            "truth": self._truth(inside, open_pictures),
            "blank": self._truth(inside, lambda example: [blank_like(image) for image in open_pictures(example)])[
                "all"
            ],
            "out_of_domain": self._truth(outside, open_pictures)["all"],
            "facts": self._facts(student),
        }

    def _truth(self, examples: list[Example], images: Any) -> dict[str, float]:
        wanted = Generation(max_new_tokens=24, batch_size=128)
        said = generate(self.policy, get_prompt("short"), examples, wanted, images=images)
        found: dict[str, list[bool]] = {}
        for example, (completion,) in zip(examples, said, strict=True):
            right = grade_answer(example, completion.text).correct
            for key in ("all", example.kind, f"{example.kind} {example.metadata['question_type']}"):
                found.setdefault(key, []).append(right)
        return {key: round(float(np.mean(values)), 3) for key, values in sorted(found.items())}

    def _facts(self, student: Student) -> dict[str, float]:
        """Of pictures: share whose facts the head names all, and none that are not there; of facts: share named."""
        names = fact_names()
        truth = np.array([[name in facts_of(lesson.scene) for name in names] for lesson in self.lessons])
        pixels = torch.from_numpy(np.stack([lesson.pixels for lesson in self.lessons]))
        with torch.no_grad():
            said = np.concatenate([(student.name_facts(normal(part)) > 0).numpy() for part in pixels.split(64)])
        return {
            "pictures": round(float((said == truth).all(1).mean()), 3),
            "named": round(float(said[truth].mean()), 3),
            "true": round(float(truth[said].mean()), 3) if said.any() else 0.0,
        }


def open_pictures(example: Example) -> list[Any]:
    return [Image.open(path).convert("RGB") for path in example.images]


# ---- training -------------------------------------------------------------------------------------------------------


class Student(nn.Module):
    """The model, and the head that names facts."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        wide = model.config.image_seq_length * model.config.text_config.hidden_size
        self.facts = nn.Linear(wide, len(fact_names()))
        nn.init.zeros_(self.facts.weight)
        nn.init.constant_(self.facts.bias, -3.0)

    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        """Image tokens, (B, N, hidden)."""
        inner = self.model.model
        out = inner.vision_tower(pixels, output_hidden_states=True)
        return inner.multi_modal_projector(out.hidden_states[inner.config.vision_feature_layer])

    def name(self, seen: torch.Tensor) -> torch.Tensor:
        """The facts that image tokens show, as logits, (B, facts)."""
        return self.facts(functional.layer_norm(seen, seen.shape[-1:]).flatten(1))

    def name_facts(self, pixels: torch.Tensor) -> torch.Tensor:
        """The facts that pictures show, as logits, (B, facts)."""
        return self.name(self.see(pixels))

    def forward(self, batch: Batch, *, image: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The loss of answers and of facts, and whether each answer token is right."""
        seen = self.see(batch.pixels)
        named = self.name(seen)
        facts = functional.binary_cross_entropy_with_logits(named, batch.facts, reduction="sum") / len(seen)
        inner = self.model.model
        texts = inner.get_input_embeddings()(batch.ids)
        where = (batch.ids == image)[..., None]
        hidden = inner.language_model(
            inputs_embeds=texts.masked_scatter(where, seen.to(texts.dtype)),
            attention_mask=batch.mask,
            position_ids=batch.places,
            use_cache=False,
        ).last_hidden_state
        logits = self.model.lm_head(hidden.flatten(0, 1)[batch.source])
        losses = functional.cross_entropy(logits, batch.target, reduction="none")
        return (losses * batch.weight).sum() / batch.weight.sum(), facts, logits.argmax(-1) == batch.target


def rate_of(step: int, steps: int) -> float:
    """Warmup, a plateau, and a cosine down to a fiftieth over the last steps."""
    if step < WARMUP:
        return RATE * (step + 1) / WARMUP
    left = min(steps - step, DECAY)
    return RATE * (0.02 + 0.98 * 0.5 * (1 - math.cos(math.pi * left / DECAY)))


def build_student(folder: Path) -> tuple[Student, Policy]:
    """The random model of the seed, whose processor is saved for the process that draws."""
    start = folder / "start"
    if not (start / "config.json").is_file():
        save_model(*build_tiny("llava", texts=tokenizer_texts(), sizes=SIZES, seed=SEED), start)
    policy = load_policy(ModelConfig(id=str(start), dtype="float32", device="cpu"), start)
    return Student(policy.model), policy


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024), https://kellerjordan.github.io/posts/muon, in float32.

    torch.optim.Muon computes in bfloat16, which takes longer than the whole step on a core without such instructions.
    Updates have the size of AdamW's, as in Liu et al. (2025), arXiv:2502.16982.
    """

    def __init__(self, weights: list[nn.Parameter], *, lr: float, momentum: float = 0.95, decay: float = 0.05) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                kept = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                kept.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonal(weight.grad.lerp(kept, group["momentum"]))
                weight.mul_(1 - group["lr"] * group["decay"])
                weight.add_(update, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix with singular values of about 1: five steps of Newton and Schulz, Jordan's coefficients."""
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / found.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = found @ found.T
        found = 3.4445 * found + (-4.7750 * gram + 2.0315 * gram @ gram) @ found
    return found.T if tall else found


def build_optimisers(student: Student) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of layers, AdamW for embeddings, tables, norms and the head of facts."""
    named = dict(student.named_parameters())
    apart = ("embed", "bias_table", "facts", "lm_head")
    inner = [w for name, w in named.items() if w.ndim == 2 and not any(word in name for word in apart)]
    held = {id(weight) for weight in inner}
    outer = [weight for weight in named.values() if id(weight) not in held]
    groups = [
        {"params": [weight for weight in outer if weight.ndim > 1], "weight_decay": 0.05},
        {"params": [weight for weight in outer if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return [Muon(inner, lr=RATE), torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), foreach=True)]


def save_state(folder: Path, student: Student, optimisers: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    scratch = folder / f"{TRAINED}.part"
    kept = {"student": student.state_dict(), "optimisers": [optimiser.state_dict() for optimiser in optimisers]}
    torch.save({**kept, **state}, scratch)
    os.replace(scratch, folder / TRAINED)


def train(folder: Path, steps: int) -> None:
    torch.manual_seed(SEED)
    student, policy = build_student(folder)
    writer = Writer(policy.processor)
    exam = Exam(policy, folder / "exam", EXAM_IMAGES)
    optimisers = build_optimisers(student)
    state = {"step": 0, "questions": 0, "seconds": 0.0}
    if (folder / TRAINED).is_file():
        found = torch.load(folder / TRAINED, weights_only=True)
        student.load_state_dict(found.pop("student"))
        for optimiser, kept in zip(optimisers, found.pop("optimisers"), strict=True):
            optimiser.load_state_dict(kept)
        state = found
        for name in ("train.jsonl", "curve.jsonl"):
            forget_after(folder / name, state["step"])
    drawings = Drawings(folder / "drawn", folder / "start")
    began, before = time.monotonic(), state["seconds"]
    recent: list[list[float]] = []
    try:
        for number, place in places_from(state["step"], steps):
            shard = drawings.get(number, ahead=2)
            rate = rate_of(state["step"], steps)
            batch = make_batch(shard, order_of(shard, number, BATCH)[place], writer)
            recent.append(take_step(student, optimisers, batch, writer.image, rate))
            state["step"] += 1
            state["questions"] += batch.questions
            state["seconds"] = before + time.monotonic() - began
            last = state["step"] == steps
            if state["step"] % TELL == 0 or last:
                tell(folder, state, recent, rate)
                recent = []
            if state["step"] % EXAMINE == 0 or last:
                examine(folder, state, exam, student)
            if state["step"] % KEEP == 0 or last:
                save_state(folder, student, optimisers, state)
    finally:
        drawings.close()


def places_from(step: int, steps: int) -> Iterator[tuple[int, int]]:
    """The shard of each step that is left, and the place of its batch in the shard."""
    for number in range(step, steps):
        yield divmod(number, SHARD // BATCH)


def take_step(
    student: Student, optimisers: list[torch.optim.Optimizer], batch: Batch, image: int, rate: float
) -> list[float]:
    """One step; its loss of answers and of facts, the share of right answer tokens, and the norm of the gradient."""
    for group in [group for optimiser in optimisers for group in optimiser.param_groups]:
        group["lr"] = rate
    loss, facts, right = student(batch, image=image)
    (loss + FACTS * facts).backward()
    norm = nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return [float(loss.detach()), float(facts.detach()), float(right.float().mean()), float(norm)]


def forget_after(path: Path, step: int) -> None:
    """Leave out the lines of steps that are taken again, because the checkpoint is older than they are."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_atomic(path, "".join(line for line in lines if json.loads(line)["step"] <= step))


def tell(folder: Path, state: dict[str, Any], recent: list[list[float]], rate: float) -> None:
    loss, facts, right, norm = np.mean(recent, axis=0)
    row = {
        **{key: round(value, 1) for key, value in state.items()},
        "loss": round(loss, 4),
        "facts_loss": round(facts, 4),
        "tokens_right": round(right, 4),
        "norm": round(norm, 3),
        "rate": round(rate, 6),
    }
    with (folder / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def examine(folder: Path, state: dict[str, Any], exam: Exam, student: Student) -> None:
    """Add a line to the curve."""
    row = {**{key: round(value, 1) for key, value in state.items()}, **exam.take(student)}
    with (folder / "curve.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps({key: value for key, value in row.items() if key != "truth"}), row["truth"], flush=True)


def finish(folder: Path) -> None:
    """Write the model of the last checkpoint to `final/`, as any saved model."""
    student, policy = build_student(folder)
    found = torch.load(folder / TRAINED, weights_only=True)
    student.load_state_dict(found["student"])
    policy.processor.tokenizer.name_or_path = "phantom-base"
    save_model(policy.model, policy.processor, folder / "final")
    hours = found["seconds"] / 3600
    print(f"{folder}/final: step {found['step']}, {found['questions']:,} questions, {hours:.2f} hours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--finish", action="store_true", help="write the model of the last checkpoint, train nothing")
    options = parser.parse_args()
    if options.finish:
        finish(options.output)
    else:
        torch.set_flush_denormal(True)  # of the whole process, so not in `train`
        train(options.output, options.steps)


if __name__ == "__main__":
    main()
