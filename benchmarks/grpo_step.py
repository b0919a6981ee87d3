"""How much faster is a GRPO step whose groups share their prompt? TRL's trainer against ours, in one process.

    python benchmarks/grpo_step.py [--quick] [--json]

Both sides have the same model (`tiny:llava` with about 9 million parameters, vision tower included, float32), data,
seeds, attention and checkpointing, and take turns. Groups of 8 write 48 tokens after prompts of 256 image and 21 text
tokens (p277) or 1,024 and 21 (p1045), without and with (`_ckpt`) gradient checkpointing; one group writes 256 or 512
tokens after 576 and 36 (p612_c256, p612_c512); `grpo_update.py` has updates over many more lengths. Medians; ratios
are TRL's time by ours. `update` is forward, backward and optimizer step, `rollout` tokenizing, images and generation.

`over_floor` is the ratio of counted operations by the measured one: 1 is all that sharing can give. Counted are all
matrix products, and of attention only the pairs of tokens that see each other. `memory` is the peak above the idle
process, one subprocess a side. `max_logp_diff` and `max_grad_rel_diff` compare both sides on one batch: the largest
difference of a log-probability, and of a parameter's gradient relative to its norm (parameters with less than a
thousandth of the largest norm relative to that thousandth).

`--sweep` measures the ratios over group sizes, prompt lengths and completion lengths instead, one prompt a step;
`--plot FILE` draws what a sweep printed as JSON (read from standard input).
"""

import argparse
import gc
import json
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

from medrft.models.policy import make_checkpointable
from medrft.models.tiny import build_tiny
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
PARTS = ("update", "rollout", "step")
LIMITS = {"p277": 3.0, "p277_ckpt": 3.0, "p1045": 5.0, "p1045_ckpt": 5.0, "p612_c256": 1.8, "p612_c512": 1.3}
"""The ratio of the whole step that each case must reach."""


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
    "p1045": Case(32),
    "p1045_ckpt": Case(32, checkpointing=True),
    "p612_c256": Case(24, prompts=1, new=256, text=36),
    "p612_c512": Case(24, prompts=1, new=512, text=36),
}


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
        case.family, texts=[QUESTION] * 4, sizes={**SIZES, "image": CELL * case.side, "vocab": 2048}, seed=0
    )
    with torch.no_grad():  # a tokenizer of few words; a vocabulary of usual size for a model as small as this
        model.resize_token_embeddings(2048, mean_resizing=False)
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
            began = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                found[name] = found.get(name, 0.0) + time.perf_counter() - began

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
    began = time.perf_counter()
    with timed(trainer, ("_prepare_inputs", "_generate"), found):
        trainer.training_step(trainer.model, trainer.rows, None)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    whole = time.perf_counter() - began
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
    """MiB above the idle process that two steps of one side take, in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def print_peak(name: str, side: str) -> None:
    """What `peak` reads."""
    trainer = build(side, CASES[name])
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew at what is held now
    idle = held("VmRSS")
    step(trainer)
    step(trainer)
    print(held("VmHWM") - idle)


def held(what: str) -> float:
    """Memory of this process in MiB: `VmRSS` now, `VmHWM` at its peak. (getrusage's peak begins with the parent's.)"""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024


SWEEPS = {
    "completions per prompt": ("group", [Case(16, group=group, prompts=1) for group in (2, 4, 8, 16)]),
    "prompt tokens": ("prompt", [Case(side, prompts=1) for side in (8, 16, 24, 32)]),
    "completion tokens": ("new", [Case(16, prompts=1, new=new) for new in (48, 128, 256, 512)]),
}
"""What varies, its name in `Case`, and the cases; all else as in p277."""


def sweep() -> dict[str, list[dict]]:
    """Ratios along each of the sweeps."""
    found: dict[str, list[dict]] = {}
    for what, (name, cases) in SWEEPS.items():
        found[what] = []
        for case in cases:
            result = measure(case, repeats=2, memory=False, name="")
            found[what].append({"at": getattr(case, name), **{part: result[part]["ratio"] for part in PARTS}})
            print(what, found[what][-1], file=sys.stderr, flush=True)
    return found


def plot(found: dict[str, list[dict]], file: str) -> None:
    """Draw a sweep's ratios, one panel per sweep."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(11, 3.4), sharey=True, layout="constrained")
    for panel, (what, rows) in zip(panels, found.items(), strict=True):
        for part, color in (("update", "#0072b2"), ("rollout", "#d55e00"), ("step", "#000000")):
            panel.plot([row["at"] for row in rows], [row[part] for row in rows], "o-", color=color, label=part)
        panel.axhline(1, color="#999999", linewidth=0.8)
        panel.set_xscale("log", base=2)
        panel.set_xticks([row["at"] for row in rows], [str(row["at"]) for row in rows])
        panel.minorticks_off()
        panel.set_xlabel(what)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("times as fast as TRL")
    panels[0].legend(frameon=False)
    figure.savefig(file, dpi=130)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="p277 alone, 3 alternations, no memory")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--plot", metavar="FILE")
    parser.add_argument("--peak", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.peak:
        return print_peak(args.peak, args.side)
    if args.plot:
        return plot(json.load(sys.stdin), args.plot)
    if args.sweep:
        return print(json.dumps(sweep(), indent=2))
    names, repeats = (["p277"], 3) if args.quick else (args.cases, args.repeats)
    results = {}
    for name in names:
        results[name] = measure(CASES[name], repeats=repeats, memory=not args.quick, name=name)
        print(line(name, results[name]), file=sys.stderr if args.json else sys.stdout, flush=True)
    if args.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
