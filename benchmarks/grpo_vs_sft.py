"""Does GRPO beat SFT that goes on for the same wall clock? recipes/phantom.yaml over several training seeds.

    python benchmarks/grpo_vs_sft.py --seeds 1 2 3 4 5 --output runs/phantom [--json]

Primary outcome: greedy oracle accuracy (`phantom.truth`), in domain, all kinds, GRPO minus continued SFT, by question;
the interval is over seeds and images. Everything else in the table is secondary. Runs that are there are resumed,
so the script may be stopped and started again; `--collect` only reads what is there.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from medrft.intervals import paired_difference
from medrft.rundir import read_json, read_jsonl

STAGES = ("base", "sft", "sft_more", "grpo")
KINDS = ("closed", "choice", "open")
PRIMARY = ("grpo", "sft_more", "phantom", "greedy")


def answers(
    run: Path, stage: str, dataset: str, decoding: str, kind: str | None = None
) -> dict[tuple[str, int], tuple[float, str]]:
    """(id, sample) -> (oracle verdict, image) of one stage's answers with the true image, of one kind or all."""
    found = {}
    _, *rows = read_jsonl(run / "eval" / stage / dataset / "predictions.jsonl")
    for row in rows:
        if kind is not None and row["kind"] != kind:
            continue
        if row["control"] == "none" and (row["temperature"] > 0) == (decoding == "sampled"):
            found[row["id"], row["sample"]] = (row["scores"]["truth"], row["images"][0])
    return found


def difference(runs: list[Path], a: str, b: str, dataset: str, decoding: str, kind: str | None = None) -> dict:
    """Mean of a - b pooled over runs, with its interval, and per run."""
    left, right, images, seeds, per_run = [], [], [], [], {}
    for run in runs:
        one, two = (answers(run, stage, dataset, decoding, kind) for stage in (a, b))
        keys = sorted(one.keys() & two.keys())
        if not keys or len(keys) != len(one) or len(keys) != len(two):
            continue
        left += [one[key][0] for key in keys]
        right += [two[key][0] for key in keys]
        images += [one[key][1] for key in keys]
        seeds += [run.name] * len(keys)
        per_run[run.name] = sum(one[key][0] - two[key][0] for key in keys) / len(keys)
    pooled = paired_difference(left, right, clusters=images, runs=seeds)
    return {**pooled.as_json(), "per_seed": per_run, "positive": sum(value > 0 for value in per_run.values())}


def accuracy(runs: list[Path], stage: str, dataset: str, decoding: str) -> dict[str, float]:
    """Oracle accuracy per run."""
    found = {run.name: answers(run, stage, dataset, decoding) for run in runs}
    return {name: sum(v for v, _ in rows.values()) / len(rows) for name, rows in found.items() if rows}


def collect(runs: list[Path]) -> dict:
    """All figures of the study from the runs' files."""
    grid = [(d, g) for d in ("phantom", "phantom_ood") for g in ("greedy", "sampled")]
    return {
        "seeds": [run.name for run in runs],
        "primary": {"what": "greedy oracle accuracy, in domain, all kinds: grpo - sft_more"}
        | difference(runs, *PRIMARY),
        "secondary": {
            f"{a} - {b}, {d}, {g}": difference(runs, a, b, d, g)
            for d, g in grid
            for a, b in (("grpo", "sft_more"), ("grpo", "sft"), ("sft_more", "sft"))
            if (a, b, d, g) != PRIMARY
        }
        | {
            f"{a} - {b}, {d}, greedy, {kind}": difference(runs, a, b, d, "greedy", kind)
            for d in ("phantom", "phantom_ood")
            for a, b in (("grpo", "sft_more"), ("grpo", "sft"), ("sft_more", "sft"))
            for kind in KINDS
        },
        "accuracy": {
            f"{stage}, {d}, {g}": values for stage in STAGES for d, g in grid if (values := accuracy(runs, stage, d, g))
        },
        "seconds": {
            run.name: {s: read_json(run / "stages" / s / "stage.json")["seconds"] for s in STAGES[1:]} for run in runs
        },
    }


def table(result: dict) -> str:
    """The figures as lines of text."""
    lines = [f"seeds: {', '.join(result['seeds'])}", ""]
    for name, values in result["accuracy"].items():
        numbers = list(values.values())
        lines.append(f"{name:34} mean {sum(numbers) / len(numbers):.3f}   " + " ".join(f"{v:.3f}" for v in numbers))
    lines.append("")
    rows = [("PRIMARY " + result["primary"]["what"], result["primary"]), *result["secondary"].items()]
    for name, row in rows:
        seeds = " ".join(f"{v:+.3f}" for v in row["per_seed"].values())
        interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]" if row["low"] is not None else "[one seed]"
        lines.append(f"{name}: {row['mean']:+.3f} {interval} n={row['n']}; per seed {seeds}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="recipes/phantom.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--output", type=Path, default=Path("runs/phantom"))
    parser.add_argument("--set", nargs="*", default=[], help="further --set key=value for each run")
    parser.add_argument("--collect", action="store_true", help="only read the runs that are there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    runs = [args.output / f"seed{seed}" for seed in args.seeds]
    for seed, run in zip(args.seeds, runs, strict=True):
        if not args.collect and not (run / "eval" / STAGES[-1] / "phantom_ood" / "metrics.json").is_file():
            sets = [word for value in (f"seed={seed}", *args.set) for word in ("--set", value)]
            command = [sys.executable, "-m", "medrft", "run", args.recipe, "--output", str(run), "--resume", *sets]
            subprocess.run(command, check=True)
    result = collect([run for run in runs if (run / "eval" / STAGES[-1] / "phantom" / "metrics.json").is_file()])
    print(json.dumps(result, indent=2) if args.json else table(result))


if __name__ == "__main__":
    main()
