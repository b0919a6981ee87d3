"""How much faster is GRPO's update whose groups share their prompt, by lengths and sizes of groups?

    OMP_NUM_THREADS=1 python benchmarks/grpo_update.py [CASE …] [--repeats 3] [--layers 2]
    python benchmarks/grpo_update.py --page      the table and picture of docs/performance.md from the result file

TRL's trainer against ours on the same recorded completions, in one process and in turn: forward, backward and the
optimizer's step, of one group. Cases are p<prompt>_c<completion>_g<completions of a prompt>, `_ckpt` with gradient
checkpointing; the model is that of grpo_step.py with two layers in each tower, as ratios hardly depend on their number
(`--layers 6` has the whole). `_hybrid` is a Qwen3.5 of these sizes (`--layers 4`: three of linear attention, one of
full attention); of its delta rule, products are counted and what solves its triangular systems is not. Seconds
are the process's own CPU time on one thread, medians.

`ratio` is TRL's time by ours. `floor` is the ratio of the operations that must be done (matrix products as counted
while they run, and of attention the pairs of tokens that see each other), and `over_floor` is floor by ratio: 1 is all
that sharing can give. `memory` is what torch's allocator held at most beyond what it held before, in MiB, and
`over_memory` is ours by TRL's, divided by the ratio of tokens (p + G c) / (G (p + c)). `max_logp_diff` and
`max_grad_rel_diff` are as in grpo_step.py. Each case is written to results/grpo_update.json as soon as it is measured.
"""

import argparse
import gc
import json
import re
import statistics
import time
import warnings
from pathlib import Path

import torch
from grpo_step import GROUP, SIZES, Case, attention, build, updated
from torch.profiler import ProfilerActivity, profile

from medrft.rundir import write_atomic, write_json

RESULTS = Path(__file__).resolve().parent / "results" / "grpo_update.json"
PAGE = RESULTS.parents[2] / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- updates -->\n).*?(<!-- end -->)", re.DOTALL)
PROMPTS = {277: (16, 21), 612: (24, 36), 1045: (32, 21)}
"""Tokens of a prompt -> image tokens a side, and tokens of text."""
COMPLETIONS = (48, 256, 512, 1024)
HYBRID = "qwen3_5"
LIMITS = {"over_floor": 1.25, "over_memory": 1.2, "max_logp_diff": 1e-4, "max_grad_rel_diff": 1e-4}
"""What no case may exceed."""
ROUNDED = 3e-4
"""The limit of `max_grad_rel_diff` for `_hybrid`: a decay's gradient is a small sum of large terms, and TRL's own
differs from itself by up to 8e-5 under more padding. In float64 both ways agree (docs/performance.md)."""


def limits_of(name: str) -> dict[str, float]:
    """What a case may not exceed."""
    return LIMITS | ({"max_grad_rel_diff": ROUNDED} if name.endswith("_hybrid") else {})


def name_of(case: Case) -> str:
    """A case's name."""
    hybrid = "_hybrid" * (case.family == HYBRID)
    return f"p{case.prompt}_c{case.new}_g{case.group}{'_ckpt' * case.checkpointing}{hybrid}"


CASES = {
    name_of(case): case
    for group in (8, 16)
    for new in COMPLETIONS
    for side, text in PROMPTS.values()
    for checkpointing in (False, True)
    for case in [Case(side, checkpointing=checkpointing, group=group, prompts=1, new=new, text=text)]
}
for group in (2, 4):
    for side, text in PROMPTS.values():
        case = Case(side, group=group, prompts=1, new=256, text=text)
        CASES[name_of(case)] = case
CASES["p37_c1024_g8"] = Case(4, prompts=1, new=1024)  # where there is hardly anything to share
for new in (48, 256):
    for side, text in ((15, 52), (23, 83)):
        case = Case(side, prompts=1, new=new, text=text, family=HYBRID)
        CASES[name_of(case)] = case


def recorded(trainer) -> dict:
    """A batch as `_generate_and_score_completions` returns it, with completions that nobody had to write."""
    case, rows = trainer.case, trainer.rows
    words = torch.randint(20, 2000, (len(rows), case.new), generator=torch.Generator().manual_seed(2))
    words = words.where(words != trainer.model.config.image_token_id, 19)

    def written(prompt_ids, *args, **kwargs):
        return [row.tolist() for row in words], None

    trainer._generate_single_turn = written
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows)
    del trainer._generate_single_turn
    batch[GROUP] = torch.arange(len(rows)) // case.group
    return batch


def update(trainer, batch) -> float:
    """CPU seconds of one update."""
    gc.collect()
    began = time.process_time()
    trainer.compute_loss(trainer.model, batch).backward()
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return time.process_time() - began


def watched(trainer, batch):
    """What `updated` of grpo_step.py returns, and the most MiB that torch's allocator held for it at a time."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        found = updated(trainer, batch)
    now = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return (*found, peak / 2**20)


def measure(case: Case, repeats: int, layers: int) -> dict:
    """All figures of one case."""
    SIZES.update(layers=layers, vision_layers=min(layers, 4))
    trainers = {side: build(side, case) for side in ("trl", "ours")}
    trainers["ours"].model.load_state_dict(trainers["trl"].model.state_dict())
    for trainer in trainers.values():
        trainer.case = case
    batch = recorded(trainers["trl"])
    (one, grads, products, theirs), (other, shared, fewer, ours) = (
        watched(trainer, batch) for trainer in trainers.values()
    )
    norms = {name: float(value.norm()) for name, value in grads.items()}
    least = max(norms.values()) / 1000
    apart = max(float((grads[name] - shared[name]).norm()) / max(norms[name], least) for name in grads)
    seconds: dict[str, list[float]] = {side: [] for side in trainers}
    for _ in range(repeats):
        for side, trainer in trainers.items():
            seconds[side].append(update(trainer, batch))
    medians = {side: statistics.median(row) for side, row in seconds.items()}
    ratio = medians["trl"] / medians["ours"]
    floor = (products + attention(case, shared=False)) / (fewer + attention(case, shared=True))
    tokens = (case.prompt + case.group * case.new) / (case.group * (case.prompt + case.new))
    return {
        "layers": layers,
        "seconds": {side: [round(value, 3) for value in row] for side, row in seconds.items()},
        "ratio": ratio,
        "floor": floor,
        "over_floor": floor / ratio,
        "memory": {"trl": theirs, "ours": ours},
        "over_memory": ours / theirs / tokens,
        "max_logp_diff": float((one - other).abs().max()),
        "max_grad_rel_diff": apart,
    }


def line(name: str, found: dict) -> str:
    """A case for people."""
    over = [f"{key} over {limit:g}" for key, limit in limits_of(name).items() if found[key] > limit]
    return (
        f"{name:22} times faster {found['ratio']:.2f} of {found['floor']:.2f} (over floor {found['over_floor']:.2f}), "
        f"memory {found['memory']['ours']:.0f} of {found['memory']['trl']:.0f} MiB (over tokens "
        f"{found['over_memory']:.2f}); differences {found['max_logp_diff']:.0e}, {found['max_grad_rel_diff']:.0e}"
        f"{'; ' + ', '.join(over) if over else ''}"
    )


def table(known: dict[str, dict]) -> str:
    """The results as Markdown."""
    lines = [
        "| case | update | times as fast | floor | over floor | memory | over tokens | largest differences |",
        "|---" * 8 + "|",
    ]
    for name, found in known.items():
        theirs, ours = (statistics.median(found["seconds"][side]) for side in ("trl", "ours"))
        held = "{trl:,.0f} / {ours:,.0f} MiB".format(**found["memory"])
        apart = f"{found['max_logp_diff']:.0e}, {found['max_grad_rel_diff']:.0e}".replace("e-0", "e-")
        lines.append(
            f"| `{name}` | {theirs:.1f} / {ours:.1f} s | **{found['ratio']:.1f}** | {found['floor']:.1f} | "
            f"{found['over_floor']:.2f} | {held} | {found['over_memory']:.2f} | {apart} |"
        )
    return "\n".join(lines)


def page(known: dict[str, dict]) -> str:
    """docs/performance.md with its table made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{table(known)}\n\n{found[2]}", PAGE.read_text(encoding="utf-8"))


def lines_of(known: dict[str, dict], side: str) -> dict[str, dict[int, list[tuple[int, float]]]]:
    """What is varied -> tokens of a prompt -> its values and one side's seconds."""
    found: dict[str, dict[int, list[tuple[int, float]]]] = {"new": {}, "group": {}}
    for what, varied in found.items():
        for name, result in known.items():
            case = CASES[name]
            fixed = case.group == 8 if what == "new" else case.new == 256
            if fixed and not case.checkpointing and case.family != HYBRID and case.prompt in PROMPTS:
                seconds = statistics.median(result["seconds"][side])
                varied.setdefault(case.prompt, []).append((getattr(case, what), seconds))
    return {what: {prompt: sorted(row) for prompt, row in varied.items()} for what, varied in found.items()}


def bend(row: list[tuple[int, float]]) -> float:
    """How far a line's points lie from the straight line through them (least squares) at most, by its largest value."""
    slope, start = statistics.linear_regression(*zip(*row, strict=True))
    return max(abs(seconds - start - slope * at) for at, seconds in row) / max(seconds for _, seconds in row)


def plot(known: dict[str, dict]) -> None:
    """Draw what an update costs against the length of completions and against their number."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6.2), layout="constrained")
    labels = {"new": "tokens of a completion (8 completions)", "group": "completions of a prompt (256 tokens each)"}
    for column, side in enumerate(("ours", "trl")):
        for row, (what, lines) in enumerate(lines_of(known, side).items()):
            panel = panels[row][column]
            for (prompt, points), color in zip(sorted(lines.items()), ("#0072b2", "#d55e00", "#000000"), strict=True):
                panel.plot(*zip(*points, strict=True), "o-", color=color, label=f"prompts of {prompt:,} tokens")
                print(f"{side} {what} p{prompt}: at most {bend(points):.1%} of the largest off a straight line")
            panel.set_title({"ours": "shared prompts", "trl": "TRL"}[side])
            panel.set_xlabel(labels[what])
            panel.set_ylim(bottom=0)
            panel.set_xlim(left=0)
            panels[row][0].set_ylabel("CPU seconds of an update")
    panels[0][0].legend(frameon=False)
    figure.savefig(PAGE.parent / "images" / "grpo_update.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=2, help="layers of the language model, and as many of vision")
    parser.add_argument("--page", action="store_true", help="run nothing; write docs/performance.md and its picture")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    if options.page:
        write_atomic(PAGE, page(known))
        return plot(known)
    for name in options.cases or CASES:
        known[name] = measure(CASES[name], options.repeats, options.layers)
        print(line(name, known[name]), flush=True)
        write_json(RESULTS, {name: known[name] for name in CASES if name in known})


if __name__ == "__main__":
    main()
