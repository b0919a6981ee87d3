"""What writing rollouts costs, by how the weights come to it, how the batch is kept full, and what a prompt leaves.

    OMP_NUM_THREADS=1 python benchmarks/rollouts.py dtypes [--repeats 5]
    OMP_NUM_THREADS=1 python benchmarks/rollouts.py refill [CASE …] [--repeats 3]
    OMP_NUM_THREADS=1 python benchmarks/rollouts.py hybrid [CASE …] [--repeats 3]
    python benchmarks/rollouts.py page      the table of docs/performance.md from the result file

`dtypes`: TRL's own way (`generate`, prompts not shared) in bfloat16. The same random Qwen2.5-VL writes the same number
of tokens for a batch of prompts: with float32 weights under one autocast around all tokens, as medrft does; with an
autocast around each forward pass, as accelerate does by itself; and with a bfloat16 copy of the weights.

`refill`: 8 groups of 8 completions that share their prompts, by the model of grpo_step.py with two layers in each
tower. Random weights never end, so the end token is ruled out, and put where each completion is to end: the lengths are
drawn from a log-normal distribution (sigma 1, or 0.1 for `even`), cut at c. In all ways the tokens are the same.

    refill     with `rollout_batch_size`: where completions end, others begin
    waves      as many at a time, but the next ones begin once all of these have ended (ended ones are taken out)
    at once    all 64, which is what is written without `rollout_batch_size`

Cases are named by prompt tokens, the most tokens of a completion and completions at a time. `idle` is the share of
places, token by token, in which nothing is written, `held` the most MiB of keys and values that rows and prompts take.
Each case goes into results/rollouts.json as soon as it is measured.

`hybrid`: a random Qwen3.5 (three layers of linear attention, one of full attention) writes groups of completions
greedily, by `generate`, which reads the prompt for each of them, and with shared prompts. Both write the same tokens,
which is asserted. Cases are named by prompt tokens, tokens of each completion and completions of a prompt.

All ways take turns; seconds are medians of the process's own CPU time, after a first round that is not timed.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()  # before TRL is imported, as grpo_step does

import torch
from grpo_step import SIZES, Case, model_and_processor, rows_of
from PIL import Image
from transformers import GenerationConfig

from medrft.models import refill
from medrft.models.rollout import Prompts, Rollouts, sample_rollouts
from medrft.models.tiny import build_tiny
from medrft.rundir import write_atomic, write_json
from medrft.training.sharing.groups import take_rows

RESULTS = Path(__file__).resolve().parent / "results" / "rollouts.json"
PAGE = RESULTS.parents[2] / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- refill -->\n).*?(<!-- end refill -->)", re.DOTALL)
Ways = dict[str, Callable[[], float]]


def in_turn(ways: Ways, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, which take turns; each must have run before."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            found[name].append(way())
    return found


# By how the weights come to it

DTYPE_SIZES = {"image": 128, "vision_hidden": 192, "vision_layers": 4} | {
    **{"hidden": 512, "layers": 4, "heads": 8, "mlp": 2048}
}
QUESTION = "Is there evidence of a pneumothorax in the left lung?"
ROWS, TOKENS = 4, 12


def autocast() -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def each_pass(model: Any) -> Any:
    """The model with an autocast of its own around every forward pass."""
    plain = model.forward

    @wraps(plain)  # `generate` reads its parameters
    def forward(*args: Any, **kwargs: Any) -> Any:
        with autocast():
            return plain(*args, **kwargs)

    model.forward = forward
    return model


def inputs_of(processor: Any) -> dict[str, Any]:
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    picture = Image.new("RGB", (DTYPE_SIZES["image"],) * 2, "gray")
    return dict(processor(text=[text] * ROWS, images=[picture] * ROWS, return_tensors="pt"))


def generate(model: Any, inputs: dict[str, Any], *, outer: bool) -> float:
    """Seconds of the processor for one rollout; what else runs counts for less in them than by the clock."""
    config = GenerationConfig(do_sample=True, max_new_tokens=TOKENS, min_new_tokens=TOKENS, pad_token_id=0)
    began = time.process_time()
    with torch.no_grad(), autocast() if outer else nullcontext():
        made = model.generate(**inputs, generation_config=config)
    assert made.shape[1] == inputs["input_ids"].shape[1] + TOKENS
    return time.process_time() - began


def measure_dtypes(repeats: int) -> None:
    """Print the seconds of each way, and their ratio to a bfloat16 copy of the weights."""
    model, processor = build_tiny("qwen2_5_vl", texts=[QUESTION] * 3, sizes=DTYPE_SIZES, seed=0)
    model = model.eval().float()
    whole = inputs_of(processor)
    half = {key: value.bfloat16() if value.is_floating_point() else value for key, value in whole.items()}
    low, wrapped = copy.deepcopy(model).bfloat16(), each_pass(copy.deepcopy(model))
    ways: Ways = {
        "one autocast around all tokens": partial(generate, model, whole, outer=True),
        "an autocast around each forward pass": partial(generate, wrapped, whole, outer=False),
        "a bfloat16 copy": partial(generate, low, half, outer=False),
    }
    in_turn(ways, 1)
    found = in_turn(ways, repeats)
    best = statistics.median(found["a bfloat16 copy"])
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    print(f"qwen2_5_vl, {millions:.0f} M parameters, {ROWS} rows, {TOKENS} tokens, {repeats} repeats")
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{name}: {middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), {middle / best:.2f} of the copy")


# By how the batch is kept full

GROUPS, GROUP, END = 8, 8, 1


@dataclass(frozen=True)
class Tail:
    """Rollouts whose lengths are given."""

    side: int
    """Image tokens a side."""
    text: int
    most: int
    """Tokens of a completion, at most."""
    size: int
    """Completions at a time."""
    sigma: float = 1.0
    """Of the logarithm of a length; its median is an eighth of `most`."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each completion."""
        drawn = torch.randn(GROUPS * GROUP, generator=torch.Generator().manual_seed(3)) * self.sigma
        return (drawn.exp() * self.most / 8).long().clamp(2, self.most).tolist()


CASES = {
    "p277_c128_b16": Tail(16, 21, 128, 16),
    "p277_c256_b16": Tail(16, 21, 256, 16),
    "p612_c128_b8": Tail(24, 36, 128, 8),
    "p612_c128_b16": Tail(24, 36, 128, 16),
    "p612_c128_b32": Tail(24, 36, 128, 32),
    "p612_c128_b16_even": Tail(24, 36, 128, 16, sigma=0.1),
}


@contextmanager
def ending_at(lengths: list[int]) -> Iterator[None]:
    """Inside, each completion ends with its own number of tokens; `lengths` are those of a call's rows."""
    plain = refill.Writer._append

    def append(self: Any, chosen: torch.Tensor) -> Any:
        for place, row in enumerate(self.rows):
            if len(row.ids) + 1 == lengths[row.ask.number * GROUP + row.sample]:
                chosen[place] = END
        return plain(self, chosen)

    refill.Writer._append = append
    try:
        yield
    finally:
        refill.Writer._append = plain


@contextmanager
def watching_memory(held: list[int]) -> Iterator[None]:
    """Inside, add to `held` the bytes of keys and values after each pass."""
    plain = refill.continue_rows

    def watched(model: Any, rows: Any, ids: torch.Tensor) -> Any:
        logits = plain(model, rows, ids)
        pairs = [*rows.tails.values(), *rows.stems.heads.values()]
        held.append(sum(x.numel() * x.element_size() for pair in pairs for x in pair))
        return logits

    refill.continue_rows = watched
    try:
        yield
    finally:
        refill.continue_rows = plain


def model_and_prompts(shape: Case) -> tuple[Any, Prompts, dict[str, Any]]:
    """A model, its prompts, and the inputs of a completion of each prompt's group as `generate` takes them."""
    model, processor = model_and_processor(shape)
    chats = [(row["prompt"], row["images"]) for row in rows_of(shape, processor)[:: shape.group]]
    texts = [processor.apply_chat_template(prompt, add_generation_prompt=True) for prompt, _ in chats]
    inputs = dict(processor(text=texts, images=[images for _, images in chats], return_tensors="pt", padding=True))
    every = {**inputs, "num_images": [1] * shape.prompts}

    def of(places: list[int]) -> dict[str, Any]:
        return {key: value for key, value in take_rows(every, places).items() if key != "num_images"}

    whole = of([place for place in range(shape.prompts) for _ in range(shape.group)])
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
    fields = [{key: value for key, value in of([place]).items() if key in inputs} for place in range(shape.prompts)]
    return model.eval(), Prompts(ids, mask, fields, [shape.group] * shape.prompts), whole


def prepared(case: Tail) -> tuple[Any, Prompts, GenerationConfig]:
    """Model, prompts and settings of a case."""
    SIZES.update(layers=2, vision_layers=2)
    shape = Case(case.side, prompts=GROUPS, text=case.text, group=GROUP)
    model, prompts, _ = model_and_prompts(shape)
    config = GenerationConfig(
        do_sample=True,
        top_k=0,
        max_new_tokens=case.most,
        eos_token_id=END,
        pad_token_id=0,
        suppress_tokens=[END, model.config.image_token_id],
        disable_compile=True,
    )
    return model, prompts, config


def write(case: Tail, given: tuple[Any, Prompts, GenerationConfig], groups: int, size: int | None) -> list[Rollouts]:
    """All completions, `groups` groups to a call."""
    model, prompts, config = given
    torch.manual_seed(0)
    found = []
    for start in range(0, GROUPS, groups):
        part = slice(start, start + groups)
        some = Prompts(prompts.ids[part], prompts.mask[part], prompts.fields[part], prompts.copies[part])
        with ending_at(case.lengths[GROUP * start : GROUP * (start + groups)]):
            found.append(sample_rollouts(model, some, config, size=size))
    return found


def measure_refill(case: Tail, repeats: int) -> dict[str, Any]:
    """All figures of one case."""
    given = prepared(case)
    ways: dict[str, Callable[[], list[Rollouts]]] = {
        "refill": partial(write, case, given, GROUPS, case.size),
        "waves": partial(write, case, given, case.size // GROUP, None),
        "at once": partial(write, case, given, GROUPS, None),
    }
    written, held = {}, {}
    for name, way in ways.items():
        seen: list[int] = []
        with watching_memory(seen):
            written[name] = way()
        held[name] = max(seen) / 2**20
    texts = {name: [ids for call in calls for ids in call.ids] for name, calls in written.items()}
    assert all(text == texts["refill"] for text in texts.values()), "the ways wrote different tokens"
    assert [len(ids) for ids in texts["refill"]] == case.lengths

    def seconds(way: Callable[[], list[Rollouts]]) -> float:
        began = time.process_time()
        way()
        return time.process_time() - began

    found = in_turn({name: partial(seconds, way) for name, way in ways.items()}, repeats)
    medians = {name: statistics.median(row) for name, row in found.items()}
    return {
        "seconds": {name: [round(value, 3) for value in row] for name, row in found.items()},
        "ratio": medians["waves"] / medians["refill"],
        "ratio_at_once": medians["at once"] / medians["refill"],
        "idle": {name: idle_share(calls) for name, calls in written.items()},
        "held": held,
        "lengths": {"mean": statistics.fmean(case.lengths), "longest": max(case.lengths)},
    }


def idle_share(calls: list[Rollouts]) -> float:
    """The share of idle places over several calls with as many places each."""
    tokens = [sum(map(len, call.ids)) for call in calls]
    places = [written / (1 - call.idle) for written, call in zip(tokens, calls, strict=True)]
    return 1 - sum(tokens) / sum(places)


def line(name: str, found: dict[str, Any]) -> str:
    """A case for people."""
    return (
        f"{name:20} waves by refill {found['ratio']:.2f}, at once by refill {found['ratio_at_once']:.2f}; idle "
        + ", ".join(f"{way} {share:.0%}" for way, share in found["idle"].items())
        + "; MiB "
        + ", ".join(f"{way} {size:.0f}" for way, size in found["held"].items())
    )


def table(known: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| case | tokens, mean / longest | waves / refill | times as fast | at once | idle places | keys and values |",
        "|---" * 7 + "|",
    ]
    for name, found in known.items():
        middle = {way: statistics.median(row) for way, row in found["seconds"].items()}
        ways = ("waves", "refill", "at once")
        idle = " / ".join(f"{100 * found['idle'][way]:.0f}" for way in ways)
        held = " / ".join(f"{found['held'][way]:.0f}" for way in ways)
        took = f"{middle['waves']:.1f} / {middle['refill']:.1f} s"
        lines.append(
            f"| `{name}` | {found['lengths']['mean']:.0f} / {found['lengths']['longest']} | "
            f"{took} | **{found['ratio']:.2f}** | {middle['at once']:.1f} s | "
            f"{idle} % | {held} MiB |"
        )
    return "\n".join(lines)


def page(known: dict[str, dict[str, Any]]) -> str:
    """docs/performance.md with its table made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{table(known)}\n\n{found[2]}", PAGE.read_text(encoding="utf-8"))


# By whether a hybrid model reads a prompt once

HYBRIDS = {
    "p277_c48_g8": Case(15, prompts=2, text=52, new=48, family="qwen3_5"),
    "p612_c48_g8": Case(23, prompts=2, text=83, new=48, family="qwen3_5"),
    "p277_c16_g8": Case(15, prompts=1, text=52, new=16, family="qwen3_5"),
}


def measure_hybrid(name: str, repeats: int) -> None:
    """Print the CPU seconds of both ways for one case."""
    SIZES.update(layers=4, vision_layers=2)
    case = HYBRIDS[name]
    model, prompts, whole = model_and_prompts(case)
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=case.new,
        eos_token_id=END,
        pad_token_id=0,
        suppress_tokens=[END, model.config.image_token_id],
        disable_compile=True,
    )
    written: dict[str, list[list[int]]] = {}

    def plain() -> float:
        began = time.process_time()
        with torch.no_grad():
            found = model.generate(**whole, generation_config=config)
        seconds = time.process_time() - began
        written["generate"] = found[:, whole["input_ids"].shape[1] :].tolist()
        return seconds

    def shared() -> float:
        began = time.process_time()
        found = sample_rollouts(model, prompts, config)
        seconds = time.process_time() - began
        written["shared"] = found.ids
        return seconds

    ways: Ways = {"generate": plain, "shared": shared}
    in_turn(ways, 1)
    assert written["generate"] == written["shared"], "the ways wrote different tokens"
    found = {way: statistics.median(row) for way, row in in_turn(ways, repeats).items()}
    ratio = found["generate"] / found["shared"]
    print(
        f"{name:14} generate {found['generate']:.2f} s, shared {found['shared']:.2f} s, {ratio:.2f} times", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dtypes", "refill", "hybrid", "page"))
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join([*CASES, *HYBRIDS])}; all by default")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.what == "dtypes":
        return measure_dtypes(options.repeats)
    if options.what == "hybrid":
        for name in options.cases or HYBRIDS:
            measure_hybrid(name, options.repeats)
        return None
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    if options.what == "page":
        return write_atomic(PAGE, page(known))
    for name in options.cases or CASES:
        known[name] = measure_refill(CASES[name], options.repeats)
        print(line(name, known[name]), flush=True)
        write_json(RESULTS, {name: known[name] for name in CASES if name in known})


if __name__ == "__main__":
    main()
