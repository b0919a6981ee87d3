"""The cases of gpu_check.sh, one after the other; see there.

    python benchmarks/gpu_check.py OUT [--device cpu] [--tiny] [--grid] [--minutes 8] [--only NAME …]

Every case is a process of its own, so that a crash or a full GPU costs that case alone; it writes OUT/<case>.json, with
what it measured, `skipped` with a reason, or `failed`. What failed is tried again by the next call, what is done is
not. A case that would not fit into the time left is named for the next call. OUT/gpu_check.json has all of it after
every case. `SHORT` are the cases of a plain call, the most telling first; `--grid` adds all others, which take hours.
Updates and rollouts are measured with their prompt shared and with it not (gpu_cases.py): seconds of each, peak and
planned bytes, how many times as fast the shared one is, and the largest difference of a log-probability.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

from gpu_cases import Case, grid, measure

ROOT = Path(__file__).resolve().parents[1]
SHORT = [
    Case("update", checkpointing=True),
    Case("update", checkpointing=True, shape="hybrid"),
    Case("rollout"),
    Case("rollout", shape="hybrid"),
    Case("update", 1045, 1024, checkpointing=True),
    Case("update", 277, 48, 16),
    Case("update", 277, 1024, checkpointing=True, shape="internvl"),
    Case("update", 277, 1024, checkpointing=True, shape="internvl_flex"),
]
TIMED = {case.name: case for case in [*SHORT, *grid()]}
OTHERS = {"tests": 90.0, "armed_1gpu": 150.0}
"""What is no group's update or rollout -> after how many seconds it is given up."""
QUICK = ["tests", *(case.name for case in SHORT[:6]), "armed_1gpu", *(case.name for case in SHORT[6:])]
NAMES = [*QUICK, *(name for name in TIMED if name not in QUICK)]


def run_case(name: str, device: str, tiny: bool, out: Path) -> dict:
    """What one case measures."""
    if name == "tests":
        return gpu_tests()
    if name == "armed_1gpu":
        return recipe_steps(device, tiny, out)
    return measure(TIMED[name], device, tiny)


def gpu_tests() -> dict:
    """The tests marked `gpu`; without a GPU each skips itself and says why."""
    marked = [str(path) for path in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    command = [sys.executable, "-m", "pytest", "-v", "-rs", "-m", "gpu", "-p", "no:cacheprovider", *marked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    if done.returncode:
        return {"failed": [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))][:20] or lines[-3:]}
    reasons = [line for line in lines if line.startswith("SKIPPED")]
    return {"told": lines[-1].strip("= "), "reasons": reasons}


def recipe_steps(device: str, tiny: bool, out: Path) -> dict:
    """Ten steps of armed_1gpu's first stage through `medrft run`, on random weights with a tiny processor's words.

    The real processor is not at hand without a hub: the model here is `tiny:qwen2_5_vl`, of the real widths on a GPU.
    """
    wide = {"hidden": 2048, "layers": 36, "heads": 16, "mlp": 11008, "vision_hidden": 1280, "vision_layers": 32}
    words = ["model.id=tiny:qwen2_5_vl", f"model.device={device}", "data={name: phantom, images: 60, size: 128}"]
    words += [] if tiny else [f"model.tiny={json.dumps({**wide, 'image': 624})}"]
    words += ["encoder={}", "stages.armed_a=null", "stages.armed_r=null", "eval.base=skip", "eval.limit=4"]
    steps, length = (1, 8) if tiny else (10, 256)
    words += [f"stages.armed_i.trl.max_steps={steps}", f"stages.armed_i.trl.max_completion_length={length}"]
    words += ["stages.armed_i.validation_limit=2", "stages.armed_i.evaluate=false", "model.dtype=float32"]
    folder = out / "armed_1gpu_run"
    command = [
        sys.executable,
        "-m",
        "medrft",
        "run",
        str(ROOT / "recipes" / "armed_1gpu.yaml"),
        "--output",
        str(folder),
    ]
    if (folder / "recipe.yaml").is_file():
        command.append("--resume")
    for word in words:
        command += ["--set", word]
    done = subprocess.run(command, capture_output=True, text=True)
    told = done.stderr.strip().splitlines()[-3:]
    if done.returncode:
        return {"failed": told or done.returncode}
    metrics = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.is_file() else []
    marks = [row["seconds"] for row in rows if "seconds" in row]
    return {"seconds_of_steps": marks, "tail": told}


def facts(device: str) -> dict:
    """The machine and the versions."""
    from medrft.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import torch
    import transformers
    import trl

    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "memory_gib": torch.cuda.get_device_properties(0).total_memory / 2**30 if device == "cuda" else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
    }


def found_of(path: Path) -> dict:
    """What a case left: empty where it has not run."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def write_whole(path: Path, value: dict) -> None:
    """Write JSON at once, so that a call that is stopped leaves no half of it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1), encoding="utf-8")
    part.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the same cases on shapes that a CPU can do")
    parser.add_argument("--minutes", type=float, help="default 8, with --tiny 30")
    parser.add_argument("--grid", action="store_true", help="all lengths, groups and shapes after the short list")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=NAMES, help="these cases, such as rollout_p612_c256_g8"
    )
    parser.add_argument("--case", choices=("machine", *NAMES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out = args.out.resolve()
    if args.case:
        warnings.simplefilter("ignore")
        from medrft.torchvision_ops import declare_missing_operators

        declare_missing_operators()
        machine = args.case == "machine"
        print(json.dumps(facts(args.device) if machine else run_case(args.case, args.device, args.tiny, args.out)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the case under way is stopped too
    args.out.mkdir(parents=True, exist_ok=True)
    return all_cases(args)


def all_cases(args: argparse.Namespace) -> int:
    """Every case that is not done, one after the other; 1 where one failed."""
    end = time.monotonic() + 60 * (args.minutes or (30 if args.tiny else 8))
    machine, skipped = in_own_process("machine", args, 300.0), []
    for name in args.only or (NAMES if args.grid else QUICK):
        path, left = args.out / f"{name}.json", end - time.monotonic()
        if found_of(path) and "failed" not in found_of(path):
            continue
        most = (OTHERS[name] if name in OTHERS else TIMED[name].most_seconds) * (10 if args.tiny else 1)
        if left < min(20.0, most):
            skipped.append(name)
            continue
        found = in_own_process(name, args, min(left, most))
        write_whole(path, found)
        print(name, {key: value for key, value in found.items() if key != "load"}, flush=True)
        write_all(args.out, machine, [])
    found = write_all(args.out, machine, skipped)
    if skipped:
        print(f"no time was left for {', '.join(skipped)}: call again", flush=True)
    return 1 if any("failed" in case for case in found.values()) else 0


def write_all(out: Path, machine: dict, skipped: list[str]) -> dict[str, dict]:
    """gpu_check.json, with every case that has run."""
    cases = {name: found for name in NAMES if (found := found_of(out / f"{name}.json"))}
    write_whole(out / "gpu_check.json", {"machine": machine, "cases": cases, "skipped": skipped})
    return cases


def in_own_process(name: str, args: argparse.Namespace, limit: float) -> dict:
    """A case's measurement, or how it failed."""
    command = [sys.executable, __file__, str(args.out), "--device", args.device, "--case", name]
    command += ["--tiny"] if args.tiny else []
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done within {limit:.0f} s"}
        finally:
            if process.poll() is None:  # what the case started goes with it, also when this call is stopped
                os.killpg(process.pid, signal.SIGKILL)
    took = {"seconds": round(time.monotonic() - began, 2)}
    if process.returncode:
        return {**took, "failed": err.strip().splitlines()[-1:] or process.returncode}
    return {**took, **json.loads(out.strip().splitlines()[-1])}


if __name__ == "__main__":
    sys.exit(main())
