"""How long the rollout viewer takes for a page of a long run.

    python benchmarks/rollout_viewer.py [--json] [--rows N]

Claim: under 300 ms a page at 100,000 rollouts. A synthetic run is written through the stage's own recorder, pictures
included, and the viewer is started as a user starts it. Each page is asked for over HTTP, once unmeasured and then
`REPEATS` times; figures are medians by the clock, and means of the server's processor time, which other work on the
machine stretches less (Linux only). The first page after the start is measured by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from rollout_store import BATCH, PARTS, Batch, batch, pool, write

from medrft.rundir import RunDir

REPEATS = 9
PAGES: dict[str, dict[str, str | int]] = {
    "newest": {},
    "page 500": {"page": 500},
    "right before, wrong now": {"show": "turned_wrong"},
    "wrong, yet paid": {"show": "hacked"},
    "unscored": {"show": "unscored"},
    "all paid the same": {"show": "no_spread"},
    "longest": {"order": "longest"},
    "widest spread": {"order": "spread"},
    "a condition": {"where": "reward < 0.1 AND raw.bleu1 > 0.5"},
    "a search through every text": {"where": "completion LIKE '%no such text%'"},
}


def make_run(folder: Path, rows: int) -> Path:
    """A run of `rows` rollouts or a few more, one in four of them right, with as many logged steps."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 10))) for _ in range(3000)]
    examples = pool(folder, rng)
    run = RunDir.create(folder / "run")
    stages = [{"name": "grpo", "kind": "grpo"}]
    run.write_recipe({"name": "run", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}, "stages": stages})
    batches = -(-rows // BATCH)

    def judged() -> Batch:
        graded, outcomes = batch(examples, words, rng)
        return [replace(one, correct=rng.random() < 0.25) for one in graded], outcomes

    write(run, "grpo", batches, judged, 0.0)
    for step in range(batches):
        row = {"split": "train", "step": step, "reward": rng.random(), "reward_std": 0.1, "completion_length": 90.0}
        parts = {f"part/{name}/{what}": rng.random() for name in PARTS for what in ("raw", "raw_std", "calibrated")}
        run.append_metrics("grpo", row | parts)
    return run.path


def ask(address: str, **query: str | int) -> tuple[float, int]:
    """Seconds by the clock that a page took, and its size in bytes."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"{address}?{urlencode(query)}", timeout=60) as answer:
        size = len(answer.read())
    return time.perf_counter() - began, size


def processor_seconds(process: int) -> float:
    """What a process has spent so far on all its threads; 0 where the system does not tell."""
    facts = Path(f"/proc/{process}/stat")
    if not facts.is_file():
        return 0.0
    user, system = facts.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(run: Path) -> dict[str, object]:
    """Milliseconds of each page."""
    command = [sys.executable, "-m", "medrft", "rollouts", str(run), "--browse", "--port", "0"]
    viewer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert viewer.stderr is not None
        said = viewer.stderr.readline()
        found = re.search(r"http://\S+/", said)
        assert found, said
        first = ask(found[0])[0]
        pages = {}
        for name, query in PAGES.items():
            ask(found[0], **query)
            before = processor_seconds(viewer.pid)
            taken = [ask(found[0], **query) for _ in range(REPEATS)]
            worked = processor_seconds(viewer.pid) - before
            seconds = [one for one, _ in taken]
            clock = {"median": round(1e3 * median(seconds)), "worst": round(1e3 * max(seconds))}
            pages[name] = {**clock, "processor": round(1e3 * worked / REPEATS), "bytes": taken[0][1]}
    finally:
        viewer.send_signal(signal.SIGINT)
        viewer.wait(timeout=10)
    return {"first_page_ms": round(1e3 * first), "pages_ms": pages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), options.rows)
        found = {"rows": -(-options.rows // BATCH) * BATCH, **measure(run)}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{found['rows']:,} rollouts; the first page after the start {found['first_page_ms']} ms")
    for name, page in found["pages_ms"].items():
        clock = f"median {page['median']:5} ms, worst {page['worst']:5} ms"
        print(f"{name:30} {clock}, processor {page['processor']:4} ms, {page['bytes'] / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
