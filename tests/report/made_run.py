"""A run folder written through the product's own writers, without training anything: fast and always the same."""

from __future__ import annotations

import io
import random
from pathlib import Path

from PIL import Image, ImageDraw

from medrft.config import Recipe
from medrft.evaluation.runner import write_metrics
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, write_atomic, write_json, write_jsonl
from medrft.store import RolloutWriter

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>&lt;</pre></style>'

PARTS = ("bleu1", "rouge1", "bertscore", "cosine", "answer_format")
WEIGHTS = (0.2, 0.2, 0.08, 0.32, 0.2)

QUESTIONS = {
    "closed": [("Is there a pleural effusion?", "yes"), ("Is the heart enlarged?", "no")],
    "choice": [("Which plane is this?", "axial")],
    "open": [("What is the abnormality?", "left pleural effusion"), ("Which organ is shown?", "lungs")],
}
WRONG = {"yes": "no", "no": "yes", "axial": "coronal", "left pleural effusion": "right nodule", "lungs": "brain"}


def recipe(dataset: str = "phantom") -> Recipe:
    return parse_recipe(
        {
            "name": "quickstart",
            "model": {"id": "tiny:llava"},
            "data": {"name": dataset},
            "reward": {
                "parts": [
                    {"scorer": name, "weight": weight, "calibrate": "adaptive" if name == "cosine" else "none"}
                    for name, weight in zip(PARTS, WEIGHTS, strict=True)
                ]
            },
            "stages": [
                {"name": "sft", "kind": "sft", "trl": {"learning_rate": 1e-3, "max_steps": 400}},
                {"name": "grpo", "kind": "grpo", "trl": {"temperature": 1.0, "beta": 0.02, "num_generations": 8}},
            ],
            "eval": {"sampled": {"temperature": 1.0, "samples": 4}},
        }
    )


def make_run(folder: Path, *, dataset: str = "phantom", examples: int = 120, steps: int = 60) -> Path:
    """A finished run: SFT, then GRPO that helps a little."""
    made = recipe(dataset)
    run = RunDir.create(folder)
    run.write_recipe(made.model_dump(mode="json"))
    run.write_environment(seed=0, prompts={"think": "0" * 16}, encoder={"id": "all-MiniLM-L6-v2"})
    write_json(run.path / "data.json", _data(dataset))
    hashes = [_picture(run, i) for i in range(24)]
    _log(run, steps)
    _records(run, steps)
    _rollouts(run, hashes, steps)
    for stage, skill in (("base", 0.02), ("sft", 0.55), ("grpo", 0.7)):
        path = run.evaluation(stage, dataset) / "predictions.jsonl"
        header = {"stage": stage, "dataset": dataset, "seed": 0, "model": "tiny:llava", "images": 24}
        write_jsonl(path, [header, *_predictions(stage, skill, dataset, examples, hashes)])
        write_metrics(path)
    return folder


def _data(dataset: str) -> dict[str, object]:
    kinds = {"closed": 400, "choice": 200, "open": 400}
    split = {"examples": 1000, "images": 200, "kinds": kinds, "datasets": {dataset: 1000}, "fingerprint": "0" * 16}
    return {
        "dataset": dataset,
        "splits": {"train": split, "test": {**split, "examples": 120, "images": 24}},
        "left_out": {"reasons": {"empty answer": 2, "missing image": 1}, "rows": []},
        "notes": ["203 of 203 test images are also in train: figures on this split flatter any model that memorises."],
    }


def _picture(run: RunDir, number: int) -> str:
    digest = f"{number:064x}"
    image = Image.new("L", (96, 96), 10)
    draw = ImageDraw.Draw(image)
    draw.ellipse((12, 12, 46, 84), fill=60 + 5 * number)
    draw.ellipse((50, 12, 84, 84), fill=170 - 5 * number)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_atomic(run.images / f"{digest}.png", buffer.getvalue())
    return digest


def _records(run: RunDir, steps: int) -> None:
    check = {"name": "image_tokens", "passed": True, "measured": 0.0, "limit": 0.0, "fix": "", "detail": "16 = 16"}
    missing = {**check, "name": "loss_mask", "passed": None, "measured": None, "limit": None, "detail": "no target"}
    for stage, best in (("sft", {"step": 300, "metric": "eval_loss", "value": 0.44}), ("grpo", None)):
        took = {"status": "done", "steps": steps, "seconds": 125.0, "best": best}
        counts = {"rollouts/shared": 2400, "loss/shared": 64, "loss/plain": 2336}
        prefix = {"fallbacks": {"loss": f"log-probabilities differ by 0.3 {HOSTILE}"}, "completions": counts}
        prefix |= {"whole": f"attention with softcap cannot be taken apart {HOSTILE}", "attention": {"by mask": 64}}
        more = {"prefix": prefix} if stage == "grpo" else {}
        write_json(run.stage(stage) / "stage.json", {"name": stage, "kind": stage, **took, **more})
        write_json(run.stage(stage) / "preflight.json", {"passed": True, "checks": [check, missing]})


def _log(run: RunDir, steps: int) -> None:
    rng = random.Random(0)
    for step in range(10, 401, 10):
        loss = 0.3 + 2.5 * 0.985**step + 0.05 * rng.random()
        place = {"kind": "sft", "step": step, "epoch": step / 100, "seconds": step * 0.2}
        run.append_metrics(
            "sft", place | {"split": "train", "loss": loss, "mean_token_accuracy": 1 - loss / 4, "grad_norm": loss}
        )
        if step % 100 == 0:
            run.append_metrics("sft", place | {"split": "validation", "loss": loss + 0.1})
    for step in range(1, steps + 1):
        share = step / steps
        row = {"kind": "grpo", "split": "train", "step": step, "seconds": step * 2.0, "loss": 0.0}
        row |= {"reward": 0.5 + 0.2 * share + 0.03 * rng.gauss(0, 1), "reward_std": 0.15 * (1 - 0.6 * share)}
        row |= {"kl": 0.02 * share, "entropy": 1.2 - 0.8 * share, "grad_norm": 0.5 + 0.1 * rng.random()}
        row |= {"completion_length": 32 + rng.random(), "truncated": 0.02 * rng.random(), "unscored": 0.0}
        row |= {"near_zero_spread": 0.1 + 0.5 * share, "correct": 0.5 + 0.15 * share, "no_answer": 0.05 * (1 - share)}
        for i, name in enumerate(PARTS):
            row[f"part/{name}/raw"] = 0.4 + 0.1 * i + 0.1 * share
            row[f"part/{name}/raw_std"] = 0.05 * (i + 1) * (1 - 0.8 * share)
            row[f"part/{name}/calibrated"] = row[f"part/{name}/raw"] - (0.2 if name == "cosine" else 0)
            row[f"part/{name}/calibrated_std"] = row[f"part/{name}/raw_std"] * (2 if name == "cosine" else 1)
        run.append_metrics("grpo", row)


def _rollouts(run: RunDir, hashes: list[str], steps: int, size: int = 8) -> None:
    rng = random.Random(1)
    writer = RolloutWriter(run.rollouts, stage="grpo", split="train", parts=PARTS)
    for step in range(0, steps, 6):
        for group in range(4):
            kind = ("open", "closed", "choice", "open")[group]
            question, reference = rng.choice(QUESTIONS[kind])
            rows = [
                _rollout(rng, step, group, sample, kind, question, reference, rng.choice(hashes))
                for sample in range(size)
            ]
            mean = sum(row["reward"] for row in rows) / size
            for row in rows:
                row["advantage"] = row["reward"] - mean
                row["image_sha256"] = rows[0]["image_sha256"]
            writer.write(rows, group_size=size)
    writer.flush()


def _rollout(
    rng: random.Random, step: int, group: int, sample: int, kind: str, question: str, reference: str, digest: str
) -> dict:
    right = rng.random() < 0.6
    answer = reference if right else WRONG[reference]
    broken = sample == 3 and group == 0
    text = f"<think>{'The lungs show a dense area. ' * 4}</think><answer>{answer}</answer>"
    scores = {name: round(rng.uniform(0.6, 1) if right else rng.uniform(0, 0.4), 3) for name in PARTS}
    scores["answer_format"] = 0.0 if broken else 1.0
    return {
        "step": step,
        "generation_step": step,
        "stage": "grpo",
        "split": "train",
        "group_id": f"grpo/train/{step}/{group}",
        "sample": sample,
        "example_id": f"phantom/train/{step}-{group}",
        "dataset": "phantom",
        "kind": kind,
        "image_sha256": [digest],
        "question": question,
        "references": [reference],
        "completion": HOSTILE if broken else text,
        "answer": None if broken else answer,
        "n_tokens": 40,
        "truncated": broken,
        "correct": right and not broken,
        "truth": right and not broken,
        "reward": sum(w * scores[name] for name, w in zip(PARTS, WEIGHTS, strict=True)),
        "unscored_reason": None,
        "gate": None,
        "raw": scores,
        "calibrated": {**scores, "cosine": scores["cosine"] / 2},
        "applicable": dict.fromkeys(PARTS, True),
        "metadata": {"organ": "chest"},
    }


def _predictions(stage: str, skill: float, dataset: str, examples: int, hashes: list[str]) -> list[dict]:
    rows = []
    passes = [("none", 0.0, skill, 0)]
    if stage != "base":
        passes += [("none", 1.0, skill - 0.05 * sample, sample) for sample in range(4)] + [("blank", 0.0, 0.3, 0)]
    passes += [("frequent_type", 0.0, 0.35, 0), ("frequent_question", 0.0, 0.4, 0)]
    for control, temperature, chance, sample in passes:
        for i in range(examples):
            kind = ("open", "closed", "choice", "open", "closed")[i % 5]
            question, reference = QUESTIONS[kind][i % len(QUESTIONS[kind])]
            right = (i * 37 % 101) / 101 < chance or (i * 17 % 89) / 89 < chance / 8
            row = _prediction(dataset, i, kind, question, reference, right, control, temperature, hashes)
            rows.append({**row, "sample": sample})
    return rows


def _prediction(
    dataset: str,
    i: int,
    kind: str,
    question: str,
    reference: str,
    right: bool,
    control: str,
    temperature: float,
    hashes: list[str],
) -> dict:
    answer = reference if right else HOSTILE if i == 7 else WRONG[reference]
    hit = float(right)
    match = {"closed": {"yes_no_match": hit}, "choice": {"choice_match": hit}}
    four = dict.fromkeys(("exact_match", "clinical", "recall", "bleu1", "rouge1"), hit)
    scores = match.get(kind, {**four, "bertscore": 0.5 + hit / 2, "cosine": 0.4 + hit / 2})
    scores = {**scores, "correct": hit}
    if dataset == "phantom":
        scores |= {"truth": hit, "in_grammar": 1.0}
    wrote = control in ("none", "blank")
    if wrote:
        scores["answer_format"] = 1.0
    return {
        "id": f"{dataset}/test/{i}",
        "dataset": dataset,
        "split": "test",
        "kind": kind,
        "images": [hashes[i // 5 % len(hashes)]],
        "question": question,
        "references": [reference],
        "options": ["coronal", "axial"] if kind == "choice" else [],
        "sample": 0,
        "temperature": temperature,
        "control": control,
        "prediction": f"<answer>{answer}</answer>",
        "answer": answer,
        "truncated": False if wrote else None,
        "n_tokens": 12 if wrote else None,
        "scores": scores,
        "metadata": {"modality": ("CT", "MR")[i % 2], "organ": HOSTILE, "frequency": "head" if i % 3 else "tail"},
        **({"explanation": _clash(reference)} if kind == "open" and not right and control == "none" else {}),
    }


def _clash(reference: str) -> dict:
    return {"contradiction": True, "route": "findings", "reference": reference, "clashed": [f"side: left / {HOSTILE}"]}
