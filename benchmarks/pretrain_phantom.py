"""Pretrain `phantom-base`, the small model that ships with medrft, on drawn pictures. One command, which may be killed.

    OMP_NUM_THREADS=1 python benchmarks/pretrain_phantom.py --output runs/phantom_base_v1 --steps 12000

A picture with ten to fifteen questions is one row: every question sees the picture and itself, and no other question,
so that an answer is learned exactly as it is asked for later, and the picture is read once for all of them. The loss is
on answers alone. The vision tower also names the facts of the picture through a linear head, which is not saved.

Started again with the same arguments it goes on from its last checkpoint, to the same weights; with other --steps too,
as long as the decay of the learning rate has not begun. `curve.jsonl` in the folder grows as it goes. --finish writes
the model of the last checkpoint to `final/`, in half precision.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from medrft.config import ModelConfig
from medrft.data.images import blank_like
from medrft.data.phantom import grade_answer, load_phantom
from medrft.data.phantom.composed import composed_texts
from medrft.data.phantom.lessons import draw_lesson, fact_names, facts_of
from medrft.models.generate import Generation, generate
from medrft.models.load import load_policy, load_processor
from medrft.models.policy import Policy
from medrft.models.prompts import get_prompt, render_chat
from medrft.models.saved import save_model
from medrft.models.tiny import build_tiny
from medrft.types import Example

SEED = 1000
"""Of weights and pictures. No study and no evaluation uses it."""
HELD_OUT_SEED = 1001
"""Of the pictures of the curve."""
SIZE = 64
SHARD = 2048
"""Pictures that are drawn and kept together."""
SIZES = {"vision_hidden": 192, "vision_layers": 5}
PROMPTS = ("short", "plain")
TRAINED = "training.pt"


class Shard(NamedTuple):
    """Drawn lessons as arrays; `tokens` of all pairs lie behind each other."""

    pixels: Any
    facts: Any
    prompts: Any
    tokens: Any
    starts: Any
    """Where each pair begins in `tokens`, and where the last one ends."""
    answers: Any
    """How many tokens at the end of each pair are answer."""
    first: Any
    """The first pair of each picture, and the number of all pairs."""


class Batch(NamedTuple):
    """Rows of one step: B pictures, L tokens."""

    pixels: torch.Tensor
    ids: torch.Tensor
    places: torch.Tensor
    mask: torch.Tensor
    source: torch.Tensor
    """Flat positions (of B times L) whose next token is learned."""
    target: torch.Tensor
    weight: torch.Tensor
    facts: torch.Tensor
    questions: int


# ---- texts to tokens ------------------------------------------------------------------------------------------------


class Writer:
    """Pairs and prompts as tokens, in the words of the processor's own chat template."""

    def __init__(self, processor: Any) -> None:
        self.tokenizer = processor.tokenizer
        self.image = self.tokenizer.convert_tokens_to_ids("<image>")
        self.prefixes, self.between = [], ""
        cells = processor.patch_size
        self.cells = (SIZE // cells) ** 2
        for name in PROMPTS:
            example = Example(
                id="x",
                dataset="x",
                split="train",
                images=(Path("x"),),
                question="QUESTION",
                references=("a",),
                kind="open",
            )
            text = render_chat(processor, get_prompt(name).bound(processor).messages(example), generation=True)
            before, self.between = text.split("QUESTION")
            before = before.replace("<image>", "<image>" * self.cells)
            self.prefixes.append(np.array(self.encode(before), dtype=np.int32))
        self.end = self.tokenizer.eos_token

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def pair(self, question: str, answer: str) -> tuple[list[int], int]:
        """A question and its answer, and how many of the tokens are answer."""
        said = self.encode(answer + self.end)
        return self.encode(question + self.between) + said, len(said)


def tokenizer_texts() -> list[str]:
    texts = [f"{get_prompt(name).role} {get_prompt(name).instruction}" for name in ("short", "direct", "think")]
    for number in range(1500):
        texts += [text for pair in draw_lesson(SEED, number, 32).pairs for text in pair]
    return [*texts, *composed_texts(SEED, 2000)]


# ---- lessons to arrays ----------------------------------------------------------------------------------------------

_WRITER: Writer | None = None


def start_drawing(tokenizer_folder: str) -> None:
    """Of the process that draws: it gives way to the one that trains."""
    global _WRITER
    os.nice(15)
    _WRITER = Writer(load_processor(tokenizer_folder, ModelConfig(id=tokenizer_folder)))


def draw_shard(path: Path, number: int) -> Path:
    if path.is_file():
        return path
    assert _WRITER is not None
    names = {name: place for place, name in enumerate(fact_names())}
    lessons = [draw_lesson(SEED, number * SHARD + offset, SIZE) for offset in range(SHARD)]
    facts = np.zeros((SHARD, len(names)), dtype=np.uint8)
    tokens: list[int] = []
    starts, answers, first = [0], [], [0]
    for row, lesson in enumerate(lessons):
        facts[row, [names[fact] for fact in facts_of(lesson.scene)]] = 1
        for question, answer in lesson.pairs:
            ids, said = _WRITER.pair(question, answer)
            tokens += ids
            starts.append(len(tokens))
            answers.append(said)
        first.append(len(answers))
    scratch = path.with_suffix(".part.npz")
    np.savez(
        scratch,
        pixels=np.stack([lesson.pixels for lesson in lessons]),
        facts=facts,
        prompts=np.array([PROMPTS.index(lesson.prompt) for lesson in lessons], dtype=np.int8),
        tokens=np.array(tokens, dtype=np.int16),
        starts=np.array(starts, dtype=np.int32),
        answers=np.array(answers, dtype=np.int16),
        first=np.array(first, dtype=np.int32),
    )
    os.replace(scratch, path)
    return path


def read_shard(path: Path) -> Shard:
    with np.load(path) as found:
        return Shard(**{name: found[name] for name in Shard._fields})


class Drawings:
    """Shards by number, drawn in another process while the ones before are trained on."""

    def __init__(self, folder: Path, tokenizer: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.pool = ProcessPoolExecutor(1, initializer=start_drawing, initargs=(str(tokenizer),))
        self.asked: dict[int, Future[Path]] = {}

    def ask(self, number: int) -> None:
        if number not in self.asked:
            self.asked[number] = self.pool.submit(draw_shard, self.folder / f"{number:04d}.npz", number)

    def get(self, number: int, *, ahead: int) -> Shard:
        for later in range(number, number + ahead + 1):
            self.ask(later)
        return read_shard(self.asked.pop(number).result())


# ---- arrays to batches ----------------------------------------------------------------------------------------------


def order_of(shard: Shard, number: int, batch: int) -> list[np.ndarray]:
    """Rows of about the same length together, the batches in random order."""
    rng = np.random.default_rng([SEED, 7, number])
    lengths = shard.starts[shard.first[1:]] - shard.starts[shard.first[:-1]]
    order = np.argsort(lengths + rng.uniform(0, 20, len(lengths)))
    batches = [order[at : at + batch] for at in range(0, len(order) - batch + 1, batch)]
    return [batches[int(place)] for place in rng.permutation(len(batches))]


def make_batch(shard: Shard, rows: np.ndarray, writer: Writer) -> Batch:
    built = [_row(shard, int(row), writer) for row in rows]
    length = max(len(ids) for ids, *_ in built)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    segments = np.full((len(rows), length), -1, dtype=np.int16)
    places = np.zeros((len(rows), length), dtype=np.int64)
    source, target, weight = [], [], []
    questions = 0
    for number, (row_ids, row_segments, row_places, row_source, row_target, row_weight) in enumerate(built):
        ids[number, : len(row_ids)] = row_ids
        segments[number, : len(row_ids)] = row_segments
        places[number, : len(row_ids)] = row_places
        source.append(row_source + number * length)
        target.append(row_target)
        weight.append(row_weight)
        questions += int(row_segments[-1])
    pixels = normal(torch.from_numpy(shard.pixels[rows]))
    found = torch.from_numpy(segments)
    same = (found[:, :, None] == found[:, None, :]) | (found[:, None, :] == 0)
    mask = torch.ones(length, length, dtype=torch.bool).tril()[None] & same
    return Batch(
        pixels=pixels,
        ids=torch.from_numpy(ids),
        places=torch.from_numpy(places),
        mask=mask[:, None],
        source=torch.from_numpy(np.concatenate(source)),
        target=torch.from_numpy(np.concatenate(target)),
        weight=torch.from_numpy(np.concatenate(weight)),
        facts=torch.from_numpy(shard.facts[rows]).float(),
        questions=questions,
    )


def _row(shard: Shard, row: int, writer: Writer) -> tuple[np.ndarray, ...]:
    prefix = writer.prefixes[int(shard.prompts[row])]
    ids, segments, places = [prefix], [np.zeros(len(prefix), np.int16)], [np.arange(len(prefix))]
    source, target, weight = [], [], []
    at = len(prefix)
    for number, pair in enumerate(range(shard.first[row], shard.first[row + 1]), start=1):
        tokens = shard.tokens[shard.starts[pair] : shard.starts[pair + 1]].astype(np.int64)
        said = int(shard.answers[pair])
        # The last token is only predicted, so that nothing is computed for it.
        kept = len(tokens) - 1
        ids.append(tokens[:-1])
        segments.append(np.full(kept, number, np.int16))
        places.append(len(prefix) + np.arange(kept))
        source.append(at + np.arange(len(tokens) - said - 1, kept))
        target.append(tokens[-said:])
        weight.append(np.full(said, said**-0.5, np.float32))
        at += kept
    return tuple(np.concatenate(parts) for parts in (ids, segments, places, source, target, weight))


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


def normal(pixels: torch.Tensor) -> torch.Tensor:
    """8-bit grey (B, size, size) as the processor gives it, (B, 3, size, size)."""
    return ((pixels.float() / 255 - 0.4) / 0.3)[:, None].expand(-1, 3, -1, -1)


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


def rate_of(step: int, options: argparse.Namespace) -> float:
    """Warmup, a plateau, and a cosine down to a fiftieth over the last steps."""
    if step < options.warmup:
        return options.rate * (step + 1) / options.warmup
    left = options.steps - step
    if left >= options.decay:
        return options.rate
    return options.rate * (0.02 + 0.98 * 0.5 * (1 - np.cos(np.pi * left / options.decay)))


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


def build_optimisers(student: Student, options: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of layers, AdamW for embeddings, tables, norms and the head of facts."""
    named = dict(student.named_parameters())
    apart = ("embed", "bias_table", "facts", "lm_head")
    inner = [w for name, w in named.items() if w.ndim == 2 and not any(word in name for word in apart)]
    if options.adamw:
        inner = []
    held = {id(weight) for weight in inner}
    outer = [weight for weight in named.values() if id(weight) not in held]
    groups = [
        {"params": [weight for weight in outer if weight.ndim > 1], "weight_decay": 0.05},
        {"params": [weight for weight in outer if weight.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98), foreach=True)
    return [Muon(inner, lr=options.rate), adamw] if inner else [adamw]


def save_state(folder: Path, student: Student, optimisers: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    scratch = folder / f"{TRAINED}.part"
    kept = {"student": student.state_dict(), "optimisers": [optimiser.state_dict() for optimiser in optimisers]}
    torch.save({**kept, **state}, scratch)
    os.replace(scratch, folder / TRAINED)


def train(options: argparse.Namespace) -> None:
    folder: Path = options.output
    torch.manual_seed(SEED)
    torch.set_flush_denormal(True)
    student, policy = build_student(folder)
    writer = Writer(policy.processor)
    exam = Exam(policy, folder / "exam", options.exam_images)
    optimisers = build_optimisers(student, options)
    state = {"step": 0, "questions": 0, "seconds": 0.0}
    if (folder / TRAINED).is_file():
        found = torch.load(folder / TRAINED, weights_only=True)
        student.load_state_dict(found.pop("student"))
        for optimiser, kept in zip(optimisers, found.pop("optimisers"), strict=True):
            optimiser.load_state_dict(kept)
        state = found
    drawings = Drawings(folder / "drawn", folder / "start")
    a_shard = SHARD // options.batch
    began, before = time.monotonic(), state["seconds"]
    recent: list[list[float]] = []
    while state["step"] < options.steps:
        number = state["step"] // a_shard
        shard = drawings.get(number % options.shards, ahead=2)
        for rows in order_of(shard, number, options.batch)[state["step"] % a_shard :]:
            recent.append(take_step(student, optimisers, make_batch(shard, rows, writer), writer, options, state))
            state["seconds"] = before + time.monotonic() - began
            if state["step"] % options.every == 0 or state["step"] == options.steps:
                tell(folder, state, recent, rate_of(state["step"], options))
                recent = []
            if state["step"] % options.exam_every == 0 or state["step"] == options.steps:
                examine(folder, state, exam, student)
            if state["step"] % options.keep == 0 or state["step"] == options.steps:
                save_state(folder, student, optimisers, state)
            if state["step"] >= options.steps:
                break
    drawings.pool.shutdown(cancel_futures=True)


def take_step(
    student: Student,
    optimisers: list[torch.optim.Optimizer],
    batch: Batch,
    writer: Writer,
    options: argparse.Namespace,
    state: dict[str, Any],
) -> list[float]:
    for group in [group for optimiser in optimisers for group in optimiser.param_groups]:
        group["lr"] = rate_of(state["step"], options)
    loss, facts, right = student(batch, image=writer.image)
    (loss + options.facts * facts).backward()
    norm = nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    state["step"] += 1
    state["questions"] += batch.questions
    return [float(loss.detach()), float(facts.detach()), float(right.float().mean()), float(norm)]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=32, help="pictures in a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--decay", type=int, default=4000, help="steps at the end in which the rate falls")
    parser.add_argument("--facts", type=float, default=0.1, help="weight of the head that names facts")
    parser.add_argument("--shards", type=int, default=100, help="different shards; after them the first comes again")
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--exam-every", type=int, default=400)
    parser.add_argument("--exam-images", type=int, default=60)
    parser.add_argument("--keep", type=int, default=200)
    parser.add_argument("--adamw", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
