"""How much faster is a GRPO step whose groups share their prompt? TRL's trainer against ours, in one process.

    OMP_NUM_THREADS=1 python benchmarks/grpo_step.py [CASE …] [--repeats 3]
    python benchmarks/grpo_step.py --quick       one case, 3 alternations, no memory, nothing written
    python benchmarks/grpo_step.py --page        the table of docs/performance.md from the result file

Both sides have the same model (`tiny:llava` with about 9 million parameters, vision tower included, float32), data,
seeds, attention and checkpointing, and take turns. Two groups of 8 write 48 tokens after prompts of 256 image and 21
text tokens (p277), 576 and 36 (p612) or 1,024 and 21 (p1045), without and with (`_ckpt`) gradient checkpointing; one
group writes 256, 512 or 1,024 tokens (`_c256`, `_c512`, `_c1024`); `grpo_update.py` has updates over many more lengths
and groups. Seconds are the process's own CPU time, so use one thread; medians. Ratios are TRL's time by ours. `update`
is forward, backward and optimizer step, `rollout` tokenizing, images and generation.

`over_floor` is the ratio of counted operations by the measured one: 1 is all that sharing can give. Counted are all
matrix products, and of attention only the pairs of tokens that see each other. `memory` is the peak above the idle
process, one subprocess a side. `max_logp_diff` and `max_grad_rel_diff` compare both sides on one batch: the largest
difference of a log-probability, and of a parameter's gradient relative to its norm (parameters with less than a
thousandth of the largest norm relative to that thousandth). Each case is written to results/grpo_step.json as soon as
it is measured.
"""

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()  # before TRL is imported

import torch
from datasets import Dataset
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import utils as trl_utils

from medrft.models.policy import make_checkpointable
from medrft.models.tiny import build_tiny
from medrft.rundir import write_atomic, write_json
from medrft.training.sharing.fallback import Sharing
from medrft.training.sharing.groups import GROUP
from medrft.training.sharing.trainer import SharesPrompts

PATCH = 4
CELL = 4 * PATCH
"""Pixels a side that become one image token."""
SIZES = {"patch": PATCH, "vision_hidden": 256, "vision_layers": 4, "hidden": 256, "layers": 6, "heads": 8, "mlp": 1024}
QUESTION = "is there a large opacity in the left lower lobe of this lung on the frontal view or not today"
TEXT_TOKENS = 21
NEW_TOKENS = 48
VOCAB = 2048
PARTS = ("update", "rollout", "step")
RESULTS = Path(__file__).resolve().parent / "results" / "grpo_step.json"
PAGE = RESULTS.parents[2] / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- steps -->\n).*?(<!-- end steps -->)", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """What both sides do."""

    side: int
    """Image tokens per side."""
    checkpointing: bool = False
    group: int = 8
    prompts: int = 2
    new: int = NEW_TOKENS
    text: int = TEXT_TOKENS
    family: str = "llava"
    """Or `qwen3_5`, in which one layer of four attends, and the others have linear attention."""

    @property
    def prompt(self) -> int:
        """Tokens of a prompt."""
        return self.side**2 + self.text

    @property
    def attending(self) -> int:
        """Layers of the language model with full attention."""
        return SIZES["layers"] if self.family == "llava" else -(-SIZES["layers"] // 4)


CASES = {
    "p277": Case(16),
    "p277_ckpt": Case(16, checkpointing=True),
    "p612": Case(24, text=36),
    "p1045": Case(32),
    "p1045_ckpt": Case(32, checkpointing=True),
    "p612_c256": Case(24, prompts=1, new=256, text=36),
    "p612_c512": Case(24, prompts=1, new=512, text=36),
    "p612_c1024": Case(24, prompts=1, new=1024, text=36),
}
LIMITS = {name: 3.0 for name, case in CASES.items() if case.new == NEW_TOKENS}
LIMITS |= {"p1045": 5.0, "p1045_ckpt": 5.0, "p612_c256": 1.8, "p612_c512": 1.3, "p612_c1024": 0.95}
"""The ratio of the whole step that each case must reach; 0.95 is not slower, but for noise."""


class Ours(SharesPrompts, GRPOTrainer):
    """TRL's trainer with shared prompts and nothing else of ours."""

    def __init__(self, *args, **kwargs):
        self.sharing = Sharing(verify="never")
        super().__init__(*args, **kwargs)


SIDES = {"trl": GRPOTrainer, "ours": Ours}


def spread_of_tokens(prompts, completions, completion_ids, **kwargs) -> list[float]:
    """A reward that costs nothing and differs within a group."""
    return [sum(ids) % 97 / 97 for ids in completion_ids]


def model_and_processor(case: Case):
    """A random model whose weights depend on nothing but its sizes."""
    model, processor = build_tiny(
        case.family, texts=[QUESTION] * 4, sizes={**SIZES, "image": CELL * case.side, "vocab": VOCAB}, seed=0
    )
    with torch.no_grad():  # a tokenizer of few words; a vocabulary of usual size for a model as small as this
        model.resize_token_embeddings(VOCAB, mean_resizing=False)
    # TRL's head has a buffer of 32,768 logits a token whatever the vocabulary. For a vocabulary this small it would be
    # most of what either side holds; both sides get one that fits.
    trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE = VOCAB
    make_checkpointable(model)
    return model, processor


def rows_of(case: Case, processor) -> list[dict]:
    """A generation batch: different pictures, prompts of exactly the case's length."""

    def messages(words):
        return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " ".join(words)}]}]

    def length(words):
        text = processor.apply_chat_template(messages(words), add_generation_prompt=True, tokenize=False)
        return len(processor.tokenizer(text)["input_ids"])

    words = QUESTION.split()
    image_tokens = 1  # the template's placeholder, not yet repeated
    while length(words) - image_tokens < case.text:
        words.append(QUESTION.split()[len(words) % len(QUESTION.split())])
    while length(words) - image_tokens > case.text:
        words.pop()
    generator = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(case.prompts):
        pixels = torch.randint(0, 255, (case.side * CELL, case.side * CELL, 3), dtype=torch.uint8, generator=generator)
        picture = Image.fromarray(pixels.numpy())
        rows += [{"prompt": messages(words), "images": [picture]} for _ in range(case.group)]
    return rows


def build(side: str, case: Case) -> GRPOTrainer:
    """One side's trainer, ready to step."""
    model, processor = model_and_processor(case)
    rows = rows_of(case, processor)
    args = GRPOConfig(
        output_dir=mkdtemp(),
        per_device_train_batch_size=case.group * case.prompts,
        num_generations=case.group,
        max_completion_length=case.new,
        generation_kwargs={"min_new_tokens": case.new, "suppress_tokens": [model.config.image_token_id]},
        gradient_checkpointing=case.checkpointing,
        learning_rate=1e-6,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        seed=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    dataset = Dataset.from_dict({"prompt": ["unused"] * len(rows)})
    trainer = SIDES[side](
        model=model, reward_funcs=spread_of_tokens, args=args, train_dataset=dataset, processing_class=processor
    )
    trainer.current_gradient_accumulation_steps = 1
    if case.checkpointing:  # `train` does it when it begins
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    trainer.create_optimizer()
    trainer.rows = rows
    return trainer


@contextmanager
def timed(trainer, names: tuple[str, ...], found: dict[str, float]):
    """Add up the seconds spent in methods of a trainer."""
    kept = {name: getattr(trainer, name) for name in names}

    def wrap(name: str, method: Callable):
        def call(*args, **kwargs):
            began = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                found[name] = found.get(name, 0.0) + time.process_time() - began

        return call

    for name, method in kept.items():
        setattr(trainer, name, wrap(name, method))
    try:
        yield
    finally:
        for name in kept:
            delattr(trainer, name)


def step(trainer: GRPOTrainer) -> dict[str, float]:
    """One whole step; seconds of its parts."""
    torch.manual_seed(0)
    found: dict[str, float] = {}
    began = time.process_time()
    with timed(trainer, ("_prepare_inputs", "_generate"), found):
        trainer.training_step(trainer.model, trainer.rows, None)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    whole = time.process_time() - began
    return {"step": whole, "update": whole - found["_prepare_inputs"], "rollout": found["_generate"]}


def one_batch(trainer: GRPOTrainer) -> dict:
    """A batch that both sides can take."""
    torch.manual_seed(0)
    trainer.model.train()
    batch = trainer._generate_and_score_completions(trainer.rows)
    size = trainer.num_generations
    batch[GROUP] = torch.arange(len(batch["prompt_ids"])) // size
    return batch


def updated(trainer: GRPOTrainer, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Log-probabilities, gradients of the loss and counted matrix products, without attention, of an update."""
    aten = torch.ops.aten
    names = [name for name in dir(aten) if name.startswith("_scaled_dot_product")]
    free = {getattr(aten, name): lambda *args, **kwargs: 0 for name in names}
    counter = FlopCounterMode(display=False, custom_mapping=free)
    kept = {}
    plain = trainer._get_per_token_logps_and_entropies

    def keep(*args, **kwargs):
        found = plain(*args, **kwargs)
        kept["logps"] = found[0].detach()
        return found

    trainer._get_per_token_logps_and_entropies = keep
    trainer.model.zero_grad()
    with counter:
        trainer.compute_loss(trainer.model, batch).backward()
    del trainer._get_per_token_logps_and_entropies
    found = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return kept["logps"], found, counter.get_total_flops()


def attention(case: Case, *, shared: bool) -> float:
    """Operations of an update's attention over the pairs of tokens that see each other."""
    whole, written = case.prompt + case.new, case.new
    if shared:
        pairs = case.prompts * (case.prompt**2 / 2 + case.group * written * (case.prompt + written / 2))
    else:
        pairs = case.prompts * case.group * whole**2 / 2
    passes = 4 if case.checkpointing else 3  # a backward pass costs two forward ones
    return passes * 4 * pairs * SIZES["hidden"] * case.attending


def compared(trainers: dict[str, GRPOTrainer], case: Case) -> dict[str, float]:
    """Both sides on one batch, with the same weights: the ratio of their operations, and the largest differences."""
    trainers["ours"].model.load_state_dict(trainers["trl"].model.state_dict())
    batch = one_batch(trainers["trl"])
    one, grads, products = updated(trainers["trl"], batch)
    other, shared, fewer = updated(trainers["ours"], batch)
    norms = {name: float(value.norm()) for name, value in grads.items()}
    least = max(norms.values()) / 1000
    return {
        "floor": (products + attention(case, shared=False)) / (fewer + attention(case, shared=True)),
        "max_logp_diff": float((one - other).abs().max()),
        "max_grad_rel_diff": max(
            float((grads[name] - shared[name]).norm()) / max(norms[name], least) for name in grads
        ),
    }


def measure(case: Case, *, repeats: int, memory: bool, name: str) -> dict:
    """All figures of one case."""
    trainers = {side: build(side, case) for side in SIDES}
    for trainer in trainers.values():
        step(trainer)  # warm up
    seconds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side, trainer in trainers.items():
            seconds[side].append(step(trainer))
    result: dict = {}
    for part in PARTS:
        medians = {side: statistics.median(row[part] for row in rows) for side, rows in seconds.items()}
        result[part] = {**medians, "ratio": medians["trl"] / medians["ours"]}
    found = compared(trainers, case)
    floor = found.pop("floor")
    result["update"] |= {"floor": floor, "over_floor": floor / result["update"]["ratio"]}
    result |= found
    if memory:
        peaks = {side: peak(name, side) for side in SIDES}
        result["memory"] = {**peaks, "ratio": peaks["trl"] / peaks["ours"]}
    return result


def peak(name: str, side: str) -> float:
    """MiB above the idle process, as it is between steps, that a step of one side takes, in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, "--side", side]
    # glibc keeps freed blocks of up to 32 MiB for later, unless it is told from which size on they go back at once.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return float(done.stdout.strip().splitlines()[-1])


def print_peak(name: str, side: str) -> None:
    """What `peak` reads."""
    trainer = build(side, CASES[name])
    step(trainer)  # makes the optimizer's state, which stays
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew at what is held now
    idle = held("VmRSS")
    step(trainer)
    print(held("VmHWM") - idle)


def held(what: str) -> float:
    """Memory of this process in MiB: `VmRSS` now, `VmHWM` at its peak. (getrusage's peak begins with the parent's.)"""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024


def line(name: str, result: dict) -> str:
    """A case for people."""
    parts = ", ".join(f"{part} {result[part]['ratio']:.1f}" for part in PARTS)
    memory = f", memory {result['memory']['ratio']:.1f}" if "memory" in result else ""
    verdict = "ok" if result["step"]["ratio"] >= LIMITS[name] else "below"
    return (
        f"{name:11} times faster: {parts}{memory} (step asked {LIMITS[name]:g}: {verdict}); over floor "
        f"{result['update']['over_floor']:.2f}; differences {result['max_logp_diff']:.1e}, "
        f"{result['max_grad_rel_diff']:.1e}"
    )


def table(known: dict[str, dict]) -> str:
    """The results as Markdown."""
    lines = [
        "| case | update | rollout | whole step | peak memory above idle | floor by measured | largest differences |",
        "|---" * 7 + "|",
    ]
    for name, found in known.items():
        parts = [
            f"{found[part]['trl']:.1f} / {found[part]['ours']:.1f} s = **{found[part]['ratio']:.1f}**" for part in PARTS
        ]
        update, rollout, whole = parts
        held = "{trl:,.0f} / {ours:,.0f} MiB = **{ratio:.1f}**".format(**found["memory"])
        apart = f"{found['max_logp_diff']:.0e}, {found['max_grad_rel_diff']:.0e}".replace("e-0", "e-")
        over = f"{found['update']['over_floor']:.2f}"
        lines.append(f"| `{name}` | {update} | {rollout} | {whole} | {held} | {over} | {apart} |")
    return "\n".join(lines)


def page(known: dict[str, dict]) -> str:
    """docs/performance.md with its table made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{table(known)}\n\n{found[2]}", PAGE.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="p277 alone, 3 alternations, no memory; writes nothing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="run nothing; write docs/performance.md")
    parser.add_argument("--peak", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.peak:
        return print_peak(args.peak, args.side)
    known = json.loads(RESULTS.read_text(encoding="utf-8"))
    if args.page:
        return write_atomic(PAGE, page(known))
    for name in ["p277"] if args.quick else args.cases or CASES:
        found = measure(CASES[name], repeats=args.repeats, memory=not args.quick, name=name)
        print(line(name, found), flush=True)
        if not args.quick:
            known[name] = found
            write_json(RESULTS, {name: known[name] for name in CASES if name in known})


if __name__ == "__main__":
    main()
