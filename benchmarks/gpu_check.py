"""The cases of gpu_check.sh, one after the other; see there.

    python benchmarks/gpu_check.py OUT [--device cpu] [--tiny] [--minutes 8] [--only NAME …]

Every case is a process of its own, so that a crash or a full GPU costs that case alone; it writes OUT/<case>.json, with
`seconds` and what it measured, `skipped` with a reason, or `failed`. What failed is tried again by the next call, what
is done is not. A case that would not fit into the time left is named for the next call. OUT/gpu_check.json has all of
it after every case. Random weights, recorded completions: the times are real, the answers mean nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHAPE = "Qwen/Qwen2.5-VL-3B-Instruct"
FLEXIBLE = "OpenGVLab/InternVL3-2B-hf"
"""transformers has no flex attention for the Qwen VL families: it is compared with sdpa on this shape."""


@dataclass(frozen=True)
class Case:
    """One measurement: an update timed on recorded completions of one length, or a rollout of that length."""

    what: str
    new: int = 0
    share: bool = True
    checkpointing: bool = True
    attention: str = "sdpa"
    shape: str = SHAPE
    most_seconds: float = 60.0


CASES = {
    "tests": Case("tests", most_seconds=90),
    "update_256": Case("update", 256),
    "update_256_unshared": Case("update", 256, share=False),
    "update_256_stored": Case("update", 256, checkpointing=False),
    "update_1024": Case("update", 1024),
    "update_1024_unshared": Case("update", 1024, share=False),
    "update_1024_internvl": Case("update", 1024, shape=FLEXIBLE),
    "update_1024_internvl_flex": Case("update", 1024, attention="flex_attention", shape=FLEXIBLE, most_seconds=90),
    "rollout_256": Case("rollout", 256),
    "rollout_1024": Case("rollout", 1024, most_seconds=120),
    "armed_1gpu": Case("recipe", most_seconds=150),
}
GROUP = 8


def sizes(tiny: bool) -> tuple[int, int]:
    """Pixels of the picture, and what a completion's length is divided by."""
    return (128 * 128, 32) if tiny else (401_408, 1)


def run_case(name: str, device: str, tiny: bool, out: Path) -> dict:
    """What one case measures."""
    case = CASES[name]
    if case.what == "tests":
        return gpu_tests()
    if case.what == "recipe":
        return recipe_steps(device, tiny, out)
    if case.attention == "flex_attention" and device == "cpu":
        return {"skipped": "torch has no backward pass of flex attention on a CPU"}
    return timed_case(case, device, tiny)


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


def model_of(case: Case, device: str, tiny: bool):
    """Random weights of the real shape or of a tiny one, in float32, and the planner's prompt for it."""
    import torch
    from transformers import AutoModelForImageTextToText
    from trl.trainer.utils import add_fused_lm_head

    from medrft.training.planning.memory import synthetic_prompt

    config = shape_of(case.shape, tiny)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(
            config, dtype=torch.float32, attn_implementation={"text_config": case.attention, "vision_config": "sdpa"}
        )
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    pixels, _ = sizes(tiny)
    return model, synthetic_prompt(config, model, pixels, 24 if tiny else 120)


def shape_of(name: str, tiny: bool):
    """A model's configuration; `tiny`: the same architecture, small enough for a CPU."""
    from medrft.config import ModelConfig
    from medrft.models.shapes import model_shape

    config = model_shape(ModelConfig(id=name)).config
    if not tiny:
        return config
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.vocab_size = 64, 128, 2, 2048
    text.num_attention_heads, text.num_key_value_heads, text.layer_types = 4, 2, ["full_attention"] * 2
    vision.hidden_size, vision.intermediate_size, config.image_token_id = 64, 128, 5
    if config.model_type == "internvl":
        vision.num_hidden_layers, vision.num_attention_heads = 2, 4
        return config
    text.rope_parameters = {**text.rope_parameters, "mrope_section": [2, 3, 3]}
    vision.depth, vision.num_heads, vision.out_hidden_size, vision.fullatt_block_indexes = 2, 4, 64, [1]
    config.video_token_id, config.vision_start_token_id, config.vision_end_token_id = 6, 3, 4
    return config


def load_of(case: Case, tiny: bool):
    """The planner's words for the case."""
    from medrft.training.planning.trace import Load

    _, divide = sizes(tiny)
    return Load(
        kind="grpo",
        rows=GROUP,
        group=GROUP,
        completion=max(4, case.new // divide),
        checkpointing=case.checkpointing,
        shared=case.share,
        written=GROUP,
        autocast=True,
    )


def timed_case(case: Case, device: str, tiny: bool) -> dict:
    """Seconds and peak bytes of three updates, or of one rollout, and what the planner says of them."""
    import torch

    model, ask = model_of(case, device, tiny)
    load = load_of(case, tiny)
    move = {key: value.to(device) for key, value in ask.fields.items()}
    held = sum(weight.nbytes for weight in model.parameters())
    if case.what == "update":
        seconds, peak = updates(model, ask, move, load, device)
        held *= 2  # gradients
    else:
        seconds, peak = rollout(model, ask, move, load, device)
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    plan = planned(case, load, tiny)
    return {
        "seconds_each": seconds,
        "peak_bytes": peak,
        "planned_bytes": plan + held,
        "planned_by_peak": (plan + held) / peak if peak else None,
        "load": asdict(load),
    }


def updates(model, ask, fields, load, device: str) -> tuple[list[float], int]:
    """Three forward and backward passes on recorded (here: fixed) completions, each timed; the first warms up."""
    import torch

    from medrft.training.planning.trace import PromptInputs, forward_loss, prepare_model

    prepare_model(model, load)
    asked = PromptInputs(ids=ask.ids.to(device), fields=fields)
    seconds = []
    for _ in range(4):
        began = now(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = forward_loss(model, asked, load)
        loss.backward()
        seconds.append(now(device) - began)
        if len(seconds) == 1 and device == "cuda":
            torch.cuda.reset_peak_memory_stats()  # gradients are there from now on
    return seconds[1:], torch.cuda.max_memory_allocated() if device == "cuda" else 0


def rollout(model, ask, fields, load, device: str) -> tuple[list[float], int]:
    """One group written to the full length."""
    import torch
    from transformers import GenerationConfig

    from medrft.models.rollout import Prompts, sample_rollouts

    model.eval()
    ids = ask.ids.to(device)
    config = GenerationConfig(
        do_sample=True,
        temperature=0.7,
        max_new_tokens=load.completion,
        min_new_tokens=load.completion,
        eos_token_id=1,
        pad_token_id=0,
        suppress_tokens=[model.config.image_token_id],
    )
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = now(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        made = sample_rollouts(model, Prompts(ids, torch.ones_like(ids), [fields], [load.written]), config)
    took = now(device) - began
    assert all(len(row) == load.completion for row in made.ids)
    return [took], torch.cuda.max_memory_allocated() if device == "cuda" else 0


def now(device: str) -> float:
    """Seconds, once the device has done what it was asked."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def planned(case: Case, load, tiny: bool) -> int:
    """The planner's bytes for the case, beyond weights and gradients."""
    from trl.trainer.utils import add_fused_lm_head

    from medrft.models.sketch import sketch_model, use_flash_in_windows
    from medrft.training.planning.memory import synthetic_prompt
    from medrft.training.planning.trace import rollout_peak, update_peak

    config = shape_of(case.shape, tiny)
    model, sketch = sketch_model(config)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    use_flash_in_windows(model)
    pixels, _ = sizes(tiny)
    ask = synthetic_prompt(config, model, pixels, 24 if tiny else 120)
    return (update_peak if case.what == "update" else rollout_peak)(model, sketch, ask, load)


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
    parser.add_argument("--only", nargs="+", choices=CASES)
    parser.add_argument("--case", choices=("machine", *CASES), help=argparse.SUPPRESS)
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
    for name in args.only or CASES:
        path, left = args.out / f"{name}.json", end - time.monotonic()
        if found_of(path) and "failed" not in found_of(path):
            continue
        most = CASES[name].most_seconds * (10 if args.tiny else 1)
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
    cases = {name: found for name in CASES if (found := found_of(out / f"{name}.json"))}
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
