"""`medrft serve` under load: 64 clients, 100,000 rows, on loopback; how fast, and whether each row is answered once.

    OMP_NUM_THREADS=1 python benchmarks/serve.py [--rows 100000] [--clients 64] [--batch 16] [--work FOLDER] [--json]

Two servers, each a process of its own, with clients in two further processes:

- `fixed`: the reward `text`, which learns nothing;
- `learns`: a reward whose calibration learns from each request. It is stopped with SIGTERM after a third of the rows
  and killed with SIGKILL after two thirds, and started again each time, while the clients go on.

Afterwards each request must have exactly one answer, and one reward in this process, called with the requests in the
order in which the server says it learnt, must give every number to 1e-12 and end in the same state. A batch that was
lost, learnt twice or out of order would show. A latency is that of the client's call, with all that it waited.
Answers are written to FOLDER as they come, and the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medrft.integrations import ForeignReward
from medrft.integrations.client import RewardClient
from medrft.rewards.rows import read_row
from medrft.rundir import append_jsonl, read_growing

LEARNS = {
    "parts": [
        {"scorer": "rouge1", "weight": 0.8, "calibrate": {"kind": "adaptive", "t_min": 0.0}},
        {"scorer": "answer_format", "weight": 0.2},
    ]
}
SIDES = ("left", "right", "both", "no", "small", "large")
FINDINGS = ("pleural effusion", "pneumothorax", "fracture", "opacity", "nodule in the upper lobe", "consolidation")
PROCESSES = 2


def requests(rows: int, batch: int) -> list[list[dict[str, Any]]]:
    """Batches of drawn rows, the same at every call; no two are alike, so that no cache answers for the scorers."""
    draw = np.random.default_rng(0)
    picks = draw.integers(0, 6, size=(rows, 4))
    made = [
        {
            "completion": f"<think>The film of case {n} shows the chest.</think>"
            f"<answer>{SIDES[a]} {FINDINGS[b]} {n % 977}</answer>",
            "reference": f"{SIDES[c]} {FINDINGS[d]} {n % 977}",
            "kind": "open",
        }
        for n, (a, b, c, d) in enumerate(picks)
    ]
    return [made[start : start + batch] for start in range(0, rows, batch)]


class Server:
    """`medrft serve` as a process."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words, self.port, self.starts = words, 0, 0
        self.peak_mb, self.cpu_s = 0, 0.0
        self.start()

    def start(self) -> None:
        """Start it, on the same port as before, and wait until it serves."""
        command = [sys.executable, "-m", "medrft", "serve", *self.words, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"serving .* at http://127\.0\.0\.1:(\d+)", line):
                self.port, self.starts = int(found[1]), self.starts + 1
                break
        else:
            raise SystemExit("the server did not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def end(self, number: int) -> int:
        """Send a signal and wait; returns the exit status."""
        facts = Path(f"/proc/{self.process.pid}")
        if facts.exists():  # on Linux
            peak = re.search(r"VmHWM:\s+(\d+)", (facts / "status").read_text())
            self.peak_mb = max(self.peak_mb, int(peak[1]) // 1024 if peak else 0)
            times = (facts / "stat").read_text().rpartition(")")[2].split()
            self.cpu_s += (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
        self.process.send_signal(number)
        return self.process.wait()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


def client_process(url: str, case: str, mine: Sequence[int], arguments: argparse.Namespace, file: Path) -> None:
    """Half of the clients, a thread each; every answer becomes a line of `file`."""
    batches = requests(arguments.rows, arguments.batch)
    client = RewardClient(url, patience=300)
    todo, lock = iter(mine), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                n = next(todo, None)
            if n is None:
                return
            began = time.perf_counter()
            found = client.score(batches[n], id=f"{case}-{n}")
            took = time.perf_counter() - began
            with lock:
                append_jsonl(file, [{"n": n, "s": took, "learnt": found.learnt, "rewards": found.rewards}])

    threads = [threading.Thread(target=work) for _ in range(max(1, arguments.clients // PROCESSES))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def answers(work: Path, case: str) -> Iterator[dict[str, Any]]:
    """All answers that were written down so far."""
    for file in sorted(work.glob(f"{case}-*.jsonl")):
        yield from read_growing(file)


def written(work: Path, case: str) -> int:
    """How many there are, cheaply: it is asked while the clients run."""
    return sum(file.read_bytes().count(b"\n") for file in work.glob(f"{case}-*.jsonl"))


def drive(server: Server, case: str, arguments: argparse.Namespace, *, restarts: Sequence[int] = ()) -> dict[str, Any]:
    """Send what has no answer yet, with a restart by each signal on the way; returns times and counts."""
    sizes = [len(rows) for rows in requests(arguments.rows, arguments.batch)]
    before = {row["n"] for row in answers(arguments.work, case)}
    todo = [n for n in range(len(sizes)) if n not in before]
    files = [arguments.work / f"{case}-{k}.jsonl" for k in range(PROCESSES)]
    began = time.monotonic()
    clients = [
        multiprocessing.Process(target=client_process, args=(server.url, case, todo[k::PROCESSES], arguments, files[k]))
        for k in range(PROCESSES)
    ]
    for one in clients:
        one.start()
    statuses = []
    for k, number in enumerate(restarts, 1):
        while written(arguments.work, case) < len(sizes) * k // (len(restarts) + 1):
            if not any(one.is_alive() for one in clients):
                raise SystemExit(f"{case}: the clients ended early; what they said stands above")
            time.sleep(0.5)
        statuses.append(server.end(number))
        server.start()
    for one in clients:
        one.join()
    seconds = time.monotonic() - began
    waited = [row["s"] for row in answers(arguments.work, case) if row["n"] not in before]
    at = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    times = {name: round(1000 * float(np.quantile(waited or [0.0], q)), 1) for name, q in at.items()}
    rows = sum(sizes[n] for n in todo)
    return {
        "rows": rows,
        "requests": len(todo),
        "seconds": round(seconds, 1),
        "rows_a_second": round(rows / seconds),
        **times,
        "statuses": statuses,
        "repeated": RewardClient(server.url).health()["counts"]["repeated"],
    }


def check(
    work: Path, case: str, batches: Sequence[Sequence[dict[str, Any]]], reward: Any, state: Any
) -> dict[str, int]:
    """Compare all answers with one reward in this process; raises `SystemExit` with what differs."""
    found = sorted(answers(work, case), key=lambda row: row["learnt"] or row["n"])
    if sorted(row["n"] for row in found) != list(range(len(batches))):
        raise SystemExit(f"{case}: {len(found)} answers to {len(batches)} requests")
    learns = found[0]["learnt"] is not None
    if learns and [row["learnt"] for row in found] != list(range(1, len(batches) + 1)):
        raise SystemExit(f"{case}: a batch was learnt twice or not at all")
    held = ForeignReward(reward, update=learns)
    for row in found:
        made = held([read_row(one, where="row").item for one in batches[row["n"]]])
        if any(abs(a - b.reward) > 1e-12 for a, b in zip(row["rewards"], made, strict=True)):
            raise SystemExit(f"{case}: request {row['n']} has other numbers than in process")
    if learns and json.loads(json.dumps(held.state_dict())) != state["state"]:
        raise SystemExit(f"{case}: the server's state is another than in process")
    return {"answered_once": len(found), "rows_equal": sum(len(row["rewards"]) for row in found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16, help="rows of a request; with 1, `fixed` alone")
    parser.add_argument("--work", type=Path, help="folder to go on in")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        arguments.work = arguments.work or Path(temporary)
        arguments.work.mkdir(parents=True, exist_ok=True)
        (arguments.work / "learns.yaml").write_text(json.dumps(LEARNS))
        learns = [str(arguments.work / "learns.yaml"), "--update", "--state", str(arguments.work / "state.json")]
        cases = {"fixed": ("text", ["text"], ()), "learns": (LEARNS, learns, (signal.SIGTERM, signal.SIGKILL))}
        batches = requests(arguments.rows, arguments.batch)
        if len(batches[-1]) == 1:
            del cases["learns"]  # a request of one row is refused there
        facts: dict[str, Any] = {"clients": arguments.clients, "rows_a_request": arguments.batch}
        facts |= {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 1)}
        for case, (reward, words, restarts) in cases.items():
            server = Server(words)
            facts[case] = drive(server, case, arguments, restarts=restarts)
            state = RewardClient(server.url).state()
            facts[case]["statuses"].append(server.end(signal.SIGTERM))
            facts[case] |= {"server_peak_mb": server.peak_mb, "server_cpu_s": round(server.cpu_s, 1)}
            facts[case] |= check(arguments.work, case, batches, reward, state)
            if not arguments.json:
                print(case, json.dumps(facts[case]))
        if arguments.json:
            print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
