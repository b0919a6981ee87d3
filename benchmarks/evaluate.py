"""How much faster is an evaluation that reads each picture once? A test set of the shape of SLAKE's English one.

    python benchmarks/evaluate.py [--thoughts] [--quick] [--json] [--data SLAKE]

1,061 questions about 96 pictures, the real ones where --data names SLAKE's folder, drawn ones elsewhere. Three ways to
answer them greedily, in one process and with one model (`tiny:llava` with about 8 million parameters, random, float32;
256 image tokens a prompt):

    one       `generate` for one question after another, as most medical repositories have it
    batched   `generate` in batches sorted by length, of the size that was fastest on a first slice
    ours      `medrft.models.generate.stream_completions` at the default batch size

The questions are cut into slices of whole pictures, and the three take turns on each slice; `ratio` is of the summed
seconds, `median` and `slices` of the slices. Seconds are this process's own, so that other work on the machine does not
count: use one thread (OMP_NUM_THREADS=1). Many tokens end an answer, so that answers differ in length, to 64 tokens
at most; with `--thoughts` the prompt asks for a thought, and an answer has up to 256. `differ` counts answers that
are not those of `one`, with the smallest gap between the two best logits on the
way of each such answer: padding changes the last digits of float32, and so the winner of a tie.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import numpy as np
import torch
from PIL import Image

from medrft.config import DataConfig
from medrft.data import load_data
from medrft.data.images import open_image
from medrft.models.encode import encode_chats
from medrft.models.generate import Generation, complete_chats, generation_config, stream_completions
from medrft.models.policy import Policy, make_checkpointable, make_head_fast
from medrft.models.prompts import get_prompt, with_images
from medrft.models.stems import prompt_length
from medrft.models.tiny import build_tiny
from medrft.types import Example

SIZES = {"patch": 4, "vision_hidden": 256, "vision_layers": 4, "hidden": 256, "layers": 6, "heads": 8, "mlp": 1024}
VOCAB = 2048
IMAGE = 256
QUESTIONS, PICTURES = 1061, 96
SLICES = 8
CANDIDATES = (16, 32, 64)
LIMITS = {"one": 5.0, "batched": 2.0}
"""The ratio that each comparison must reach."""
WORDS = (
    "is",
    "there",
    "a",
    "large",
    "round",
    "opacity",
    "in",
    "the",
    "upper",
    "left",
    "lobe",
    "which",
    "organ",
    "plane",
)


@dataclass(frozen=True)
class Form:
    """What is asked for."""

    prompt: str
    new: int
    """Tokens of an answer, at most."""
    end_every: int
    """One in so many tokens ends an answer."""


SHORT, THOUGHTS = Form("direct", 64, 12), Form("think", 256, 64)


def drawn() -> list[Example]:
    """Questions of 4 to 16 words about pictures of noise, about 11 for each."""
    rng = Random(0)
    folder = Path(mkdtemp())
    paths = [folder / f"{i}.png" for i in range(PICTURES)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (512, 512, 3), dtype=np.uint8)).save(path)
    return [
        Example(
            id=f"drawn/test/{i}",
            dataset="drawn",
            split="test",
            images=(paths[i * PICTURES // QUESTIONS],),
            question=" ".join(rng.choice(WORDS) for _ in range(rng.randint(4, 16))) + "?",
            references=("yes",),
            kind="open",
        )
        for i in range(QUESTIONS)
    ]


def slake(root: str) -> list[Example]:
    """SLAKE's English test questions, by picture."""
    loaded = load_data(DataConfig(name="slake", root=root, lang="en"), seed=0)
    return sorted((e for e in loaded.examples if e.split == "test"), key=lambda e: e.images)


def build(examples: list[Example], form: Form) -> Policy:
    """A random model whose weights depend on nothing but its sizes and the questions."""
    texts = list(get_prompt("short" if form is SHORT else form.prompt).texts(examples))
    model, processor = build_tiny("llava", texts=texts, sizes={**SIZES, "image": IMAGE, "vocab": VOCAB}, seed=0)
    with torch.no_grad():
        model.resize_token_embeddings(VOCAB, mean_resizing=False)
    make_checkpointable(model)
    make_head_fast(model)
    model.eval()
    model.generation_config.eos_token_id = list(range(5, VOCAB, form.end_every))
    return Policy(model, processor, "tiny:llava", torch.device("cpu"))


def open_all(example: Example) -> list[Image.Image]:
    """An example's pictures, from disk."""
    return [open_image(path, max_pixels=401_408) for path in example.images]


def opener():
    """The same, but the pictures opened last are held."""
    held = lru_cache(maxsize=8)(lambda path: open_image(path, max_pixels=401_408))
    return lambda example: [held(path) for path in example.images]


def by_generate(policy: Policy, examples: list[Example], form: Form, size: int) -> list:
    """Completions by stock generation, in batches of `size`, longest first."""
    prompt, images = get_prompt(form.prompt).bound(policy.processor), open_all if size == 1 else opener()
    order = (
        range(len(examples))
        if size == 1
        else sorted(range(len(examples)), key=lambda i: prompt_length(examples[i]))[::-1]
    )
    found = {}
    for start in range(0, len(examples), size):
        batch = list(order[start : start + size])
        chats = [with_images(prompt.messages(examples[i]), images(examples[i])) for i in batch]
        texts = complete_chats(policy, chats, max_new_tokens=form.new, temperature=0.0)
        found.update(zip(batch, texts, strict=True))
    return [found[i] for i in range(len(examples))]


def by_us(policy: Policy, examples: list[Example], form: Form) -> list:
    """Completions as `medrft eval` makes them."""
    generation = Generation(max_new_tokens=form.new)
    found = dict(stream_completions(policy, get_prompt(form.prompt), examples, generation, images=opener()))
    return [found[i][0] for i in range(len(examples))]


def timed(call, *args) -> tuple[list, float]:
    began = time.process_time()
    found = call(*args)
    return found, time.process_time() - began


def gap(policy: Policy, example: Example, form: Form) -> float:
    """The smallest gap between the two best logits while stock generation answers one question."""
    prompt = get_prompt(form.prompt).bound(policy.processor)
    inputs = encode_chats(policy, [with_images(prompt.messages(example), open_all(example))])
    config = generation_config(policy, form.new, 0.0)
    config.output_scores = config.return_dict_in_generate = True
    with torch.inference_mode():
        scores = policy.model.generate(**inputs, generation_config=config).scores
    best = torch.stack(scores)[:, 0].topk(2).values
    return float((best[:, 0] - best[:, 1]).min())


def cut(examples: list[Example], pieces: int) -> list[list[Example]]:
    """Slices of whole pictures."""
    pictures = list(dict.fromkeys(e.images for e in examples))
    chosen = [set(pictures[i::pieces]) for i in range(pieces)]
    return [[e for e in examples if e.images in part] for part in chosen]


def measure(examples: list[Example], form: Form, *, slices: int, pieces: int, sizes: tuple[int, ...]) -> dict:
    """All figures, from the first `slices` of so many pieces."""
    policy = build(examples, form)
    parts = cut(examples, pieces)[:slices]
    first = parts[0][:48]
    by_us(policy, first[:16], form)  # warm up
    trials = {size: timed(by_generate, policy, first, form, size)[1] for size in sizes}
    size = min(trials, key=trials.get)
    seconds: dict[str, list[float]] = {"one": [], "batched": [], "ours": []}
    differ = {"one": [], "batched": []}
    tokens = []
    for number, part in enumerate(parts):
        answers = {}
        answers["one"], spent = timed(by_generate, policy, part, form, 1)
        seconds["one"].append(spent)
        for name in ("batched", "ours") if number % 2 else ("ours", "batched"):
            call = (by_us, policy, part, form) if name == "ours" else (by_generate, policy, part, form, size)
            answers[name], spent = timed(*call)
            seconds[name].append(spent)
        tokens += [c.n_tokens for c in answers["one"]]
        differ["one"] += [
            gap(policy, e, form) for e, a, b in zip(part, answers["ours"], answers["one"], strict=True) if a != b
        ]
        differ["batched"] += [
            gap(policy, e, form) for e, a, b in zip(part, answers["batched"], answers["one"], strict=True) if a != b
        ]
        print({name: round(values[-1], 1) for name, values in seconds.items()}, file=sys.stderr, flush=True)
    asked = [e for part in parts for e in part]
    result: dict = {
        "questions": len(asked),
        "pictures": len({e.images for e in asked}),
        "data": asked[0].dataset,
        "parameters": sum(p.numel() for p in policy.model.parameters()),
        "threads": torch.get_num_threads(),
        "batch": {"batched": size, "ours": 32, "trial_seconds": trials},
        "tokens": {"mean": statistics.mean(tokens), "most": max(tokens)},
        "seconds": {name: sum(values) for name, values in seconds.items()},
    }
    for name in LIMITS:
        ratios = [a / b for a, b in zip(seconds[name], seconds["ours"], strict=True)]
        whole = sum(seconds[name]) / sum(seconds["ours"])
        result[f"over_{name}"] = {"ratio": whole, "median": statistics.median(ratios), "slices": ratios}
    result["differ"] = {
        "ours_from_one": {"answers": len(differ["one"]), "largest_gap": max(differ["one"], default=0.0)},
        "batched_from_one": {"answers": len(differ["batched"]), "largest_gap": max(differ["batched"], default=0.0)},
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 of 24 slices, batches of 32")
    parser.add_argument("--thoughts", action="store_true", help="answers with a thought, of up to 256 tokens")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", metavar="SLAKE", help="SLAKE's folder; drawn questions and pictures without it")
    parser.add_argument("--slices", type=int, default=SLICES, help=f"of {SLICES}; all by default")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    examples = slake(args.data) if args.data else drawn()
    pieces, slices, sizes = (24, 2, (32,)) if args.quick else (SLICES, args.slices, CANDIDATES)
    form = THOUGHTS if args.thoughts else SHORT
    result = measure(examples, form, slices=slices, pieces=pieces, sizes=sizes)
    if args.json:
        return print(json.dumps(result, indent=2))
    for name, limit in LIMITS.items():
        found = result[f"over_{name}"]
        verdict = "ok" if found["ratio"] >= limit else "below"
        print(f"{found['ratio']:.1f} times {name} (median {found['median']:.1f}; asked {limit:g}: {verdict})")
    print(
        f"answers that differ: {result['differ']}; tokens: {result['tokens']}; batches of {result['batch']['batched']}"
    )


if __name__ == "__main__":
    main()
