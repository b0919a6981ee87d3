"""What a step gains when the reward grades completions that have ended while the others are still being written.

    OMP_NUM_THREADS=1 python benchmarks/reward_ahead.py [CASE …] [--steps 8] [--repeats 2] [--delay 0.25] [--json]

Both sides train the same GRPO stage of a tiny `llava` on phantoms by `run_grpo`, in one process and in turn: *ahead* as
shipped, *afterwards* with grading begun only when all is written and read, in one call. Random weights never end, so
the end token gets likelier with each token (`exponential_decay_length_penalty`), and lengths vary. Cases are rewards:

    judge    a local server that takes `--delay` seconds for each verdict, eight at a time
    encoder  cosine of the packaged sentence encoder, on the cores that the policy uses too
    text     BLEU-1: nearly free, so this shows what the thread itself costs

Losses, rewards and rollouts of both sides must be equal. The median step is by the clock, without the first two steps
of each run. Beside it stands what the measuring of a step costs: its marks, by what one mark takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()

import torch

from medrft.data import load_data
from medrft.models.load import resolve_base
from medrft.models.prompts import get_prompt
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_jsonl
from medrft.scorers.encoder_model import get_encoder
from medrft.store import read_rollouts
from medrft.training.ahead import GradesAhead
from medrft.training.grpo import run_grpo
from medrft.training.timing.clock import StepClock

TRL = {
    "per_device_train_batch_size": 32,
    "num_generations": 4,
    "max_completion_length": 64,
    "generation_kwargs": {"exponential_decay_length_penalty": [8, 1.08]},
    "learning_rate": 1e-3,
    "beta": 0.04,
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
}
SIZES = {"image": 32, "hidden": 96, "layers": 2, "mlp": 192, "vocab": 400}
CASES = ("judge", "encoder", "text")


@contextmanager
def judge_server(delay: float):
    """A judge on loopback: its verdict follows from what it is asked, and takes `delay` seconds."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay)
            message = {"role": "assistant", "content": "YES" if sum(asked) % 2 else "NO"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1"
    finally:
        http.shutdown()
        http.server_close()


def reward_of(case: str, url: str | None) -> dict[str, Any]:
    """The reward table of a case."""
    if case == "judge":
        judge = {"scorer": "judge", "weight": 0.5, "options": {"model": "toy", "base_url": url, "concurrency": 8}}
        return {"parts": [{"scorer": "bleu1", "weight": 0.5}, judge]}
    return {"parts": [{"scorer": "cosine" if case == "encoder" else "bleu1", "weight": 1.0}]}


@contextmanager
def graded_afterwards():
    """Inside, nothing is graded before all completions are written and read, and then all of them in one call."""
    kept = GradesAhead._while_writing, GradesAhead._grade_rest, GradesAhead._collected

    def remember(self, ids):
        self.later = ids

    def grade_then_collect(self):
        kept[1](self, self.later)
        return kept[2](self)

    GradesAhead._while_writing, GradesAhead._grade_rest = lambda self, ids: None, remember
    GradesAhead._collected = grade_then_collect
    try:
        yield
    finally:
        GradesAhead._while_writing, GradesAhead._grade_rest, GradesAhead._collected = kept


def counted_marks() -> list[int]:
    """Marks of each step from now on."""
    seen, end = [], StepClock.end

    def watching(self):
        seen.append(len(self._marks) + 1)
        return end(self)

    StepClock.end = watching
    return seen


def seconds_of_a_mark(count: int = 20_000) -> float:
    """What one mark takes, from many."""
    clock = StepClock(torch.device("cpu"))
    clock.begin()
    began = time.perf_counter()
    for _ in range(count // 2):
        with clock.part("decode"):
            pass
    return (time.perf_counter() - began) / count


def trained(case: str, side: str, steps: int, url: str | None, start: tuple[Path, list[Any]], work: Path) -> RunDir:
    """One run of one side."""
    recipe = recipe_of(case, steps, url)
    get_encoder.cache_clear()  # it remembers what it has read, and the second side would find all of it
    run = RunDir.create(work / f"{case}-{side}-{time.monotonic_ns()}")
    with graded_afterwards() if side == "afterwards" else nullcontext():
        run_grpo(recipe.stages[0], recipe, start=start[0], train=start[1], validation=[], run=run)
    return run


def recipe_of(case: str, steps: int, url: str | None):
    """The recipe of a case."""
    table = {
        "name": "ahead",
        "prompt": "short",
        "model": {"id": "tiny:llava", "device": "cpu", "dtype": "float32", "tiny": SIZES},
        "data": {"name": "phantom", "images": 32, "validation_images": 2, "test_images": 1, "size": 64},
        "reward": reward_of(case, url),
        "stages": [{"name": "grpo", "kind": "grpo", "trl": {**TRL, "max_steps": steps}}],
        "report": {"images": "none"},
    }
    return parse_recipe(table)


def start_model(work: Path) -> tuple[Path, list[Any]]:
    """The start model's folder, and the examples."""
    recipe = recipe_of("text", 1, None)
    loaded = load_data(recipe.data, seed=0, cache=work / "data")
    train = [example for example in loaded.examples if example.split == "train"]
    folder = work / "base"
    folder.mkdir()
    return resolve_base(recipe.model, texts=get_prompt("short").texts(train), output=folder, seed=0), train


def same(one: RunDir, other: RunDir) -> bool:
    """Whether losses, rewards and rollouts of two runs are equal."""
    kept = ("step", "loss", "reward", "kl", "grad_norm")
    logs = [[[row[key] for key in kept] for row in read_jsonl(run.metrics)] for run in (one, other)]
    columns = "completion, reward, advantage, raw, calibrated"
    asked = f"SELECT {columns} FROM rollouts ORDER BY generation_step, group_id, sample"
    return logs[0] == logs[1] and repr(read_rollouts(one.path, asked)) == repr(read_rollouts(other.path, asked))


def measured(case: str, options: argparse.Namespace, start: tuple[Path, list[Any]], work: Path) -> dict[str, Any]:
    """Both sides of a case in turn."""
    rows: dict[str, list[dict[str, Any]]] = {"afterwards": [], "ahead": []}
    equal = []
    for _ in range(options.repeats):
        runs = {}
        for side in rows:
            with judge_server(options.delay) if case == "judge" else nullcontext() as url:
                runs[side] = trained(case, side, options.steps, url, start, work)
            rows[side] += list(read_jsonl(runs[side].metrics))[2:]
        equal.append(same(*runs.values()))
    found = {
        side: {key: median(row[key] for row in own) for key in ("step_time", "reward_time", "time/reward")}
        for side, own in rows.items()
    }
    return {
        **found,
        "times_as_fast": found["afterwards"]["step_time"] / found["ahead"]["step_time"],
        "same": all(equal),
        "steps": len(rows["ahead"]),
    }


def main() -> None:
    """Measure the cases and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--delay", type=float, default=0.25)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    marks = counted_marks()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        start = start_model(Path(folder))
        for case in options.cases:
            found[case] = measured(case, options, start, Path(folder))
            if not options.json:
                ahead, after = found[case]["ahead"], found[case]["afterwards"]
                print(
                    f"{case}: step {after['step_time']:.2f} / {ahead['step_time']:.2f} s = "
                    f"{found[case]['times_as_fast']:.2f}; "
                    f"waits {after['time/reward']:.2f} / {ahead['time/reward']:.2f} s; "
                    f"grading {after['reward_time']:.2f} / {ahead['reward_time']:.2f} s; "
                    f"{found[case]['steps']} steps a side; "
                    f"{'equal' if found[case]['same'] else 'DIFFERENT'}",
                    flush=True,
                )
    each = seconds_of_a_mark()
    shortest = min(found[case]["ahead"]["step_time"] for case in found)
    cost = {"marks": median(mark for mark in marks if mark > 1), "seconds_each": each}
    cost["share"] = cost["marks"] * each / shortest
    if options.json:
        print(json.dumps({**found, "measuring": cost}, indent=1))
    else:
        print(
            f"measuring: {cost['marks']:.0f} marks of {1e6 * each:.1f} µs a step, {cost['share']:.4%} of the shortest"
        )
    sys.exit(0 if all(one["same"] for one in found.values()) else 1)


if __name__ == "__main__":
    main()
