"""What it costs to keep every rollout, and how fast a long run is read.

    python benchmarks/rollout_store.py [--json] [--rows N]

Claims: under 2 % of step time and bounded memory while writing; under 2 s for a filtered, limited query over a million
rows. A synthetic run is written through the stage's own recorder, images and thumbnails included, once as fast as it
goes (rows per second, memory) and for 40 batches at a step's pace (what the training thread is held up for). Figures
come by the clock and by processor time, which other work on the machine does not stretch.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from PIL import Image

from medrft.rewards import RawScores
from medrft.rundir import RunDir
from medrft.store import select_rollouts
from medrft.training.grading import Graded
from medrft.training.recorder import Recorder
from medrft.types import Completion, Example, Outcome

Batch = tuple[list[Graded], list[Outcome]]
BATCH, GROUP = 256, 8
PARTS = ("bleu1", "rouge1", "bertscore", "cosine", "answer_format")
PACED, PAUSE = 40, 0.2
REPEATS = 5
QUERIES = {
    "where_limit": {"where": "reward < 0.1", "limit": 20},
    "nothing_fits": {"where": "reward < -1", "limit": 20},
    "text_search": {"where": "completion LIKE '%no such text%'", "limit": 20},
    "order_limit": {"where": "reward < 0.1", "order": "reward", "limit": 20},
}


def pool(folder: Path, rng: random.Random) -> list[Example]:
    """Questions about images of their own."""
    made = []
    for number in range(64):
        path = folder / f"{number}.png"
        Image.effect_noise((256, 256), 20 + number).save(path)
        words = {"question": f"What is shown at place {number}?", "references": (f"lesion {number}",)}
        place = {"id": f"toy/train/{number}", "dataset": "toy", "split": "train", "images": (path,), "kind": "open"}
        made.append(Example(**place, **words, metadata={"modality": rng.choice(("CT", "CR"))}))
    return made


def batch(examples: list[Example], words: list[str], rng: random.Random) -> Batch:
    """One generation batch; no two completions are the same."""
    graded, outcomes = [], []
    for example in rng.choices(examples, k=BATCH // GROUP):
        for _ in range(GROUP):
            text = f"<think>{' '.join(rng.choices(words, k=60))}</think><answer>{rng.choice(words)}</answer>"
            raw = {name: rng.random() for name in PARTS}
            applicable = dict.fromkeys(PARTS, True)
            outcomes.append(Outcome(reward=rng.random(), raw=raw, calibrated=raw, applicable=applicable))
            scores = RawScores(kind="open", raw=raw, applicable=applicable, readable=True)
            said = Completion(text=text, n_tokens=90, truncated=False)
            graded.append(Graded(example=example, completion=said, answer="x", raw=scores, correct=False))
    return graded, outcomes


def write(run: RunDir, stage: str, batches: int, make: Callable[[], Batch], pause: float) -> dict:
    """Seconds that each `add` took, that writing took in all, and of processor time on the other thread; memory."""
    keeper = Recorder(run, stage=stage, parts=PARTS, thumbnails=True)
    held, busy, making, peaks = [], [], 0.0, [memory()]
    began, before = time.perf_counter(), time.process_time() - time.thread_time()
    for step in range(batches):
        start = time.perf_counter()
        graded, outcomes = make()
        made, own = time.perf_counter(), time.thread_time()
        keeper.add(graded, outcomes, [0.5] * BATCH, split="train", step=step, group_size=GROUP)
        held.append(time.perf_counter() - made)
        busy.append(time.thread_time() - own)
        making += made - start
        peaks.append(memory())
        time.sleep(pause)
    keeper.close()
    thread = time.process_time() - time.thread_time() - before
    clock = time.perf_counter() - began - making
    return {"held": held, "busy": busy, "clock": clock, "thread": thread, "peaks": peaks}


def memory() -> float:
    """Most memory this process ever held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def seconds(work: Callable[[], object]) -> dict[str, float]:
    """Medians of the repeats, by the clock and by processor time, that of programs called included."""
    clock, processor = [], []
    for _ in range(REPEATS):
        start, before = time.perf_counter(), sum(os.times()[:4])
        work()
        clock.append(time.perf_counter() - start)
        processor.append(sum(os.times()[:4]) - before)
    return {"clock": round(median(clock), 2), "processor": round(median(processor), 2)}


def writing(folder: Path, rows: int) -> dict[str, object]:
    """The figures of the writer; the run that it leaves has `rows` rows."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 10))) for _ in range(3000)]
    examples = pool(folder, rng)

    def make() -> Batch:
        return batch(examples, words, rng)

    paced = write(RunDir(folder / "paced"), "grpo", PACED, make, PAUSE)
    batches = -(-rows // BATCH)
    run = RunDir(folder / "run")
    run.write_recipe({"name": "synthetic"})
    fast = write(run, "grpo", batches, make, 0.0)
    thread, peaks = fast["thread"] / batches, fast["peaks"]
    return {
        "rows": batches * BATCH,
        "megabytes": round(sum(path.stat().st_size for path in run.rollouts.iterdir()) / 1e6),
        "rows_per_second": round(batches * BATCH / fast["clock"]),
        "rows_per_processor_second": round(BATCH / thread),
        "held_up_ms_per_batch": round(1e3 * median(paced["held"]), 2),
        "held_up_ms_worst": round(1e3 * max(paced["held"]), 2),
        "training_thread_processor_ms_per_batch": round(1e3 * median(paced["busy"]), 2),
        "writing_thread_processor_ms_per_batch": round(1e3 * thread, 1),
        "step_seconds_of_which_both_are_2_percent": round((thread + median(paced["busy"])) / 0.02, 2),
        "memory_growth_mb": round(peaks[-1] - peaks[0]),
        "memory_growth_mb_after_a_tenth": round(peaks[-1] - peaks[len(peaks) // 10]),
    }


def reading(run: Path) -> dict[str, dict[str, float]]:
    """Median seconds of each query, and of the command with its start."""
    found = {name: seconds(lambda query=query: select_rollouts(run, **query)) for name, query in QUERIES.items()}
    command = [sys.executable, "-m", "medrft", "rollouts", str(run), "--where", "reward < 0.1", "--limit", "20"]
    found["command"] = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = writing(Path(folder), options.rows)
        found["query_seconds"] = reading(Path(folder) / "run")
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name:42} {value}")


if __name__ == "__main__":
    main()
