"""A million rows of `text` by shards: seconds and peak memory of every process, and whether the join equals one run.

python benchmarks/score_shards.py --rows 1000000 --shards 4 --at-once 2 --suffix .jsonl

Writes made-up rows to a scratch folder, scores them by shards, joins these, scores all at once and compares the hashes.
A line of JSON for each process; docs/rewards.md quotes them. With --skip-whole nothing is scored at once or compared.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medrft.files import hash_file

WORDS = [
    "left",
    "right",
    "lung",
    "pleural",
    "effusion",
    "small",
    "large",
    "no",
    "mild",
    "pneumothorax",
    "heart",
    "opacity",
    "lower",
    "upper",
    "lobe",
    "of",
    "the",
]


def write_rows(path, n):
    """Open questions with four answers each."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for i in range(n):
            reference, answer = (" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(2))
            row = {"id": i, "group": i // 4, "question": "What is seen?", "reference": reference, "answer": answer}
            file.write(json.dumps(row) + "\n")


def score(name, *words):
    """Run `medrft score` and print its seconds, processor seconds and peak memory."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "medrft", "score", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    facts = {"what": name, "seconds": round(time.perf_counter() - begin, 1)}
    facts |= {"cpu_seconds": round(used.ru_utime + used.ru_stime, 1), "peak_mib": round(used.ru_maxrss / 1024, 1)}
    print(json.dumps(facts), flush=True)
    if process.returncode:
        raise SystemExit(f"{name} ended with status {process.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--suffix", default=".jsonl", choices=[".jsonl", ".parquet"], help="of the outputs")
    parser.add_argument("--skip-whole", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        whole, output = (Path(folder) / f"{name}{options.suffix}" for name in ("whole", "out"))
        write_rows(rows, options.rows)
        print(json.dumps({"rows": options.rows, "input_mib": round(rows.stat().st_size / 2**20)}), flush=True)
        begin = time.perf_counter()
        with ThreadPoolExecutor(options.at_once) as pool:
            shards = [f"{number}/{options.shards}" for number in range(1, options.shards + 1)]
            list(pool.map(lambda s: score(s, rows, "--reward", "text", "--output", output, "--shard", s), shards))
        print(json.dumps({"what": "all shards", "seconds": round(time.perf_counter() - begin, 1)}), flush=True)
        score("join", rows, "--join", options.shards, "--output", output)
        if not options.skip_whole:
            score("whole", rows, "--reward", "text", "--output", whole)
            same = hash_file(whole) == hash_file(output)
            print(json.dumps({"same bytes": same, "sha256": hash_file(output)}), flush=True)
            assert same


if __name__ == "__main__":
    main()
