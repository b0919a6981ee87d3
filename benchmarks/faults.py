"""What is lost, and what is silently wrong, when runs are killed, cut, flipped, out of disk space, and doubled.

    python benchmarks/faults.py [--json] [--work FOLDER] [--kills 100] [--cuts 50] [--flips 50] [--fills 20] [--pairs 9]
                                [--strings 1000000]

Each trial does one thing to a tiny real run (data, SFT, GRPO, evaluation, report through the command line) and asks
whether it ends as an undisturbed one does: same log rows, rollouts, weights and predictions, bit for bit.

kills: SIGKILL at a random moment of `run`, `eval --model` and `score`, again and again until the command ends.
cuts: one file of a finished or a half-done run is cut in half; then `report`, `doctor`, `rollouts`, `compare` and
`run --resume`. Each must do as before, or name the file in one line. flips: 64 bytes of a checkpoint or final model
are changed; then `run --resume`. fills: no file may grow beyond some size, as on a full disk; then `run --resume`.
pairs: the same command twice at the same moment; one of them must say that the folder is in use.
strings: random texts through everything that reads answers, and how its time grows (`reader_faults.py`).

Trials are drawn by seed. Each is written down in FOLDER as it ends, so the same command goes on after a kill.
Commands run in forks of this process, which has imported everything: a trial costs no import.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()

import reader_faults
import yaml

from medrft.rundir import RunDir, append_jsonl, read_growing, read_json, write_json

RESULT = Path(__file__).parent / "results" / "faults.json"
TIMES = ("seconds", "step_time", "reward_time", "reward_wait", "tokens_per_second", "flops_per_second", "mfu")
PATIENCE = 600
TRL = {"per_device_train_batch_size": 4, "max_steps": 3, "logging_steps": 1, "save_steps": 1, "save_total_limit": 2}
TABLE: dict[str, Any] = {
    "name": "faults",
    "prompt": "direct",
    "model": {
        "id": "tiny:llava",
        "device": "cpu",
        "dtype": "float32",
        "tiny": {
            "image": 16,
            "vision_hidden": 16,
            "vision_layers": 1,
            "hidden": 32,
            "layers": 1,
            "mlp": 32,
            "vocab": 400,
        },
    },
    "data": {"name": "phantom", "images": 8, "validation_images": 1, "test_images": 2, "size": 64},
    "reward": "text",
    "stages": [
        {"name": "sft", "kind": "sft", "trl": TRL, "validation_limit": 2},
        {
            "name": "grpo",
            "kind": "grpo",
            "trl": {**TRL, "num_generations": 2, "num_generations_eval": 2, "max_completion_length": 6},
            "validation_limit": 2,
        },
    ],
    "eval": {"limit": 3, "batch_size": 4, "max_new_tokens": 4},
}


# ---- commands in forks ----------------------------------------------------------------------------------------------


@dataclass
class Done:
    """How a command ended."""

    status: int
    """Exit status; -9 for a kill of ours."""
    out: str
    err: str

    @property
    def crashed(self) -> bool:
        """It ended with a traceback, or hung."""
        return "Traceback (most recent call last)" in self.err or self.status == -100

    def told(self, path: Path) -> bool:
        """One of its lines names the file, or the folder of a checkpoint or model that it belongs to."""
        names = {path.name, path.parent.name} if path.parent.name not in ("run", "") else {path.name}
        return any(name in line for line in self.err.splitlines() for name in names if "medrft:" in line)


def start(words: list[str], log: Path, *, file_limit: int | None = None) -> int:
    """Begin a `medrft` command in a fork; returns its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    os.setsid()
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(log.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    status = 1
    try:
        from medrft.cli.main import main

        sys.argv = ["medrft", *words]
        main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def finish(child: int, log: Path, *, kill_after: float | None = None, until: Path | None = None) -> Done:
    """Wait for a command, or kill it after some seconds or as soon as a file is there."""
    began = time.monotonic()
    while True:
        found, code = os.waitpid(child, os.WNOHANG)
        if found:
            break
        spent = time.monotonic() - began
        late = spent > PATIENCE
        if late or (kill_after is not None and spent >= kill_after) or (until is not None and until.exists()):
            os.killpg(child, signal.SIGKILL)
            _, code = os.waitpid(child, 0)
            code = code if not late else 0x6400
            if late:
                return Done(-100, "", f"no end within {PATIENCE} s")
            break
        time.sleep(0.01)
    texts = [log.with_suffix(end).read_text(encoding="utf-8", errors="replace") for end in (".out", ".err")]
    return Done(os.waitstatus_to_exitcode(code), *texts)


class Bench:
    """The folder of all trials: a recipe, an undisturbed run, a half-done one, and what trials have shown so far."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.seed = work, seed
        work.mkdir(parents=True, exist_ok=True)
        os.environ["XDG_CACHE_HOME"] = str(work / "cache")
        self.recipe = work / "faults.yaml"
        self.recipe.write_text(yaml.safe_dump(TABLE, sort_keys=False))
        self.rows = work / "rows.jsonl"
        rng = random.Random(seed)
        words = ["left", "right", "lung", "effusion", "no", "yes", "CT", "mass", "small", "3", "cm"]
        texts = [" ".join(rng.sample(words, rng.randint(1, 4))) for _ in range(4_000)]
        lines = ({"reference": a, "answer": b} for a, b in itertools.pairwise(texts))
        self.rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.log = work / "log.txt"
        self.whole, self.half, self.guested = (work / name / "run" for name in ("whole", "half", "guested"))
        self.shown: dict[tuple[str, str], str] = {}

    def command(self, *words: object, **options: Any) -> Done:
        """Run a command to its end, or to a kill."""
        limit = options.pop("file_limit", None)
        return finish(start([str(word) for word in words], self.log, file_limit=limit), self.log, **options)

    def prepare(self) -> None:
        """The undisturbed run, how long it takes, and a run that was killed in the midst of GRPO."""
        facts = self.work / "prepared.json"
        if not facts.is_file():
            for folder in (self.whole, self.half):
                shutil.rmtree(folder, ignore_errors=True)
            began = time.monotonic()
            self.must(self.command("run", self.recipe, "--output", self.whole))
            seconds = time.monotonic() - began
            sealed = self.half / "stages/grpo/checkpoints/checkpoint-2/checkpoint.json"
            self.command("run", self.recipe, "--output", self.half, until=sealed)
            write_json(facts, {"seconds": seconds})
        self.seconds = float(read_json(facts)["seconds"])
        self.warm()

    def warm(self) -> None:
        """Do here once what every command would do anew: compile the report's templates, read the clinical lexicon."""
        from medrft.report import render_report
        from medrft.scorers import build_scorer
        from medrft.types import Item

        render_report(self.copy(self.whole))
        build_scorer("clinical")([Item(references=("left effusion",), kind="open", answer="effusion")])

    def with_guest(self) -> Path:
        """The undisturbed run with a guest's evaluation in it."""
        if not (self.guested / "report.html").is_file():
            shutil.rmtree(self.guested.parent, ignore_errors=True)
            shutil.copytree(self.whole, self.guested, ignore=shutil.ignore_patterns("report.html"))
            self.must(self.command(*self.guest(self.guested)))
        return self.guested

    def scored(self) -> Path:
        """The rows scored without a disturbance."""
        output = self.work / "whole.jsonl"
        if not output.is_file():
            self.must(self.command("score", self.rows, *SCORE, "--output", output))
        return output

    def guest(self, run: Path) -> tuple[object, ...]:
        """A model from outside, evaluated in a run's folder."""
        return ("eval", run, "--model", self.whole / "stages/sft/final")

    def must(self, done: Done) -> None:
        """Stop when a command that nothing disturbs fails."""
        if done.status != 0:
            raise SystemExit(f"an undisturbed command ended with {done.status}: {done.err[-2000:]}")

    def copy(self, of: Path) -> Path:
        """A copy to spoil."""
        target = self.work / "trial" / "run"
        shutil.rmtree(target.parent, ignore_errors=True)
        shutil.copytree(of, target)
        return target

    def job(self, what: str) -> tuple[tuple[object, ...], Callable[[], list[str]]]:
        """A command to disturb: its words, and what its end lacks."""
        if what == "eval":
            guested, run = self.with_guest(), self.copy(self.whole)
            return self.guest(run), lambda: differences(run, guested)
        run = self.fresh()
        run.parent.mkdir()
        if what == "run":
            words = ("run", self.recipe, "--output", run, "--resume")
            return words, lambda: differences(run, self.whole)
        output, whole = run.parent / "scored.jsonl", self.scored()
        words = ("score", self.rows, *SCORE, "--output", output)
        return words, lambda: [] if output.read_bytes() == whole.read_bytes() else ["scored rows"]

    def before(self, state: str, name: str, words: Callable[[Path], tuple[object, ...]]) -> str:
        """What a reader shows of a run that nothing spoiled."""
        if (state, name) not in self.shown:
            run = self.copy(getattr(self, state))
            self.shown[state, name] = _shown(self.command(*words(run)), run, name)
        return self.shown[state, name]

    def fresh(self) -> Path:
        """A folder that is not there yet."""
        shutil.rmtree(self.work / "trial", ignore_errors=True)
        return self.work / "trial" / "run"


SCORE = ("--reward", "text", "--scorer", "clinical")


def differences(run: Path, other: Path) -> list[str]:
    """What differs between two runs that should be the same; empty when nothing does."""
    return sorted(key for key, value in content_of(other).items() if content_of(run).get(key) != value)


def content_of(run: Path) -> dict[str, str]:
    """Hashes of all that a run is about, but timings."""
    from medrft.errors import DataError
    from medrft.store import read_rollouts

    place = RunDir(run)
    rows = [
        {k: v for k, v in row.items() if k not in TIMES and not k.startswith("time/")}
        for row in read_growing(place.metrics)
    ]
    try:
        rollouts = read_rollouts(run, "SELECT * FROM rollouts ORDER BY stage, split, generation_step, group_id, sample")
    except DataError as error:
        rollouts = [{"error": str(error)}]
    found = {"metrics": repr(rows), "rollouts": repr(rollouts)}
    for path in sorted(run.glob("stages/*/final/*.safetensors")):
        found[path.relative_to(run).as_posix()] = sha256(path.read_bytes()).hexdigest()
    for path in sorted(run.glob("eval/*/*/predictions.jsonl")):
        found[path.relative_to(run).as_posix()] = path.read_text().partition("\n")[2]
    found["report"] = str((run / "report.html").is_file())
    found["audit"] = str((run / "audit" / "audited.json").is_file())
    found["scraps"] = str([path.name for path in run.rglob(".*.tmp")])
    return {key: sha256(value.encode()).hexdigest() for key, value in found.items()}


# ---- trials ---------------------------------------------------------------------------------------------------------

Trial = dict[str, Any]


def kill(bench: Bench, rng: random.Random, number: int) -> Trial:
    """One command, killed again and again until it ends; `bad` says what the end lacks."""
    what = ("run", "run", "run", "score", "run", "eval")[number % 6]
    words, lacks = bench.job(what)
    kills = 0
    longest = bench.seconds if what == "run" else bench.seconds / 3
    while True:
        done = bench.command(*words, kill_after=rng.uniform(0.01, 0.4) * longest)
        if done.status != -signal.SIGKILL:
            break
        kills += 1
        if kills % 6 == 0:
            longest *= 1.5  # a machine that is busier than it was
    bad = lacks() if done.status == 0 else [f"ended with {done.status}: {done.err[-300:]}"]
    return {"what": what, "kills": kills, "bad": bad}


READERS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "report": lambda run: ("report", run),
    "doctor": lambda run: ("doctor", run),
    "rollouts": lambda run: ("rollouts", run, "--limit", 5),
    "compare": lambda run: ("compare", f"{run}:base", f"{run}:sft"),
}


def cut(bench: Bench, rng: random.Random, number: int) -> Trial:
    """One file cut in half; every reader and the resume must do as before, or name it in one line."""
    state = ("whole", "half")[number % 2]
    template: Path = getattr(bench, state)
    files = sorted(path for path in template.rglob("*") if path.is_file() and path.stat().st_size > 1)
    by_kind: dict[str, list[Path]] = {}
    for path in files:
        by_kind.setdefault(_kind_of(path.relative_to(template)), []).append(path)
    chosen = rng.choice(by_kind[sorted(by_kind)[(number // 2) % len(by_kind)]]).relative_to(template)
    found: dict[str, str] = {}
    before = {name: bench.before(state, name, words) for name, words in READERS.items()}
    for name in (*READERS, "resume"):
        run = bench.copy(template)
        path = run / chosen
        os.truncate(path, path.stat().st_size // 2)
        if name == "resume":
            done = bench.command("run", bench.recipe, "--output", run, "--resume")
            same = done.status == 0 and not differences(run, bench.whole)
        else:
            done = bench.command(*READERS[name](run))
            same = _shown(done, run, name) == before[name]
        found[name] = _verdict(done, path, same=same)
    return {"state": state, "file": str(chosen), "found": found, "bad": _bad(found)}


def _kind_of(path: Path) -> str:
    """What a file of a run is, so that each kind is cut: a checkpoint's optimizer, a log, a rollout file, a picture."""
    parts = path.parts
    return f"{parts[2]}/{path.name}" if parts[0] == "stages" else f"{parts[0]}/{path.suffix}"


def flip(bench: Bench, rng: random.Random, number: int) -> Trial:
    """64 bytes of a checkpoint or a final model changed; a resume must find it and end as if nothing had happened."""
    state = ("half", "whole", "half")[number % 3]
    run = bench.copy(getattr(bench, state))
    where = ("stages/grpo/checkpoints/checkpoint-2", "stages/*/final", "stages/*/checkpoints/*")[number % 3]
    folder = rng.choice(sorted(path for path in run.glob(where) if path.is_dir()))
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in ("README.md",)]
    path = rng.choice(files)
    content = bytearray(path.read_bytes())
    for _ in range(64):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))
    done = bench.command("run", bench.recipe, "--output", run, "--resume")
    same = done.status == 0 and not differences(run, bench.whole)
    found = {"resume": _verdict(done, path, same=same)}
    return {"state": state, "file": str(path.relative_to(run)), "found": found, "bad": _bad(found)}


def fill(bench: Bench, rng: random.Random, number: int) -> Trial:
    """No file may grow beyond some size; then the disk is free again and the run goes on."""
    run = bench.fresh() if number % 2 else bench.copy(bench.half)
    words = ("run", bench.recipe, "--output", run, "--resume")
    limit = int(2 ** rng.uniform(8, 21))
    full = bench.command(*words, file_limit=limit)
    bad = ["traceback when full"] if full.crashed else []
    if full.status not in (0, 1, 2):
        bad.append(f"status {full.status} when full")
    done = bench.command(*words)
    bad += [f"ended with {done.status}: {done.err[-300:]}"] if done.status else differences(run, bench.whole)
    return {"bytes": limit, "full": full.status, "bad": bad, "said": full.err.strip().splitlines()[-1:]}


def pair(bench: Bench, rng: random.Random, number: int) -> Trial:
    """The same command twice at the same moment."""
    what = ("run", "eval", "score")[number % 3]
    words, lacks = bench.job(what)
    logs = [bench.work / f"pair{n}.txt" for n in (1, 2)]
    children = []
    for log in logs:
        children.append(start([str(word) for word in words], log))
        time.sleep(rng.uniform(0, 0.3))
    ends = [finish(child, log) for child, log in zip(children, logs, strict=True)]
    bad = [] if sorted(end.status for end in ends) == [0, 2] else [f"statuses {[end.status for end in ends]}"]
    said = [end.err for end in ends if end.status == 2]
    bad += [] if all("in use by" in text or "being written by" in text for text in said) else [f"said {said}"]
    return {"what": what, "bad": bad + lacks()}


def _shown(done: Done, run: Path, name: str) -> str:
    """What a reader gives its user."""
    page = (run / "report.html").read_text() if name == "report" and (run / "report.html").is_file() else ""
    return f"{done.status}\n{done.out}\n{page}"


def _verdict(done: Done, path: Path, *, same: bool) -> str:
    if done.crashed:
        return f"traceback: {done.err[-600:]}"
    if same:
        return "as before, told" if done.told(path) else "as before"
    if not done.told(path):
        return f"silent: status {done.status}, {done.err[-300:]}"
    return "told, and goes on" if done.status == 0 else "one line"


def _bad(found: dict[str, str]) -> list[str]:
    return [f"{name}: {verdict}" for name, verdict in found.items() if verdict.startswith(("traceback", "silent"))]


TRIALS: dict[str, Callable[[Bench, random.Random, int], Trial]] = {
    "kills": kill,
    "cuts": cut,
    "flips": flip,
    "fills": fill,
    "pairs": pair,
}


# ---- all of them ----------------------------------------------------------------------------------------------------


def run_trials(bench: Bench, wanted: dict[str, int]) -> Iterator[tuple[str, Trial]]:
    """Every trial that is wanted, those of an earlier start from their file."""
    kept = bench.work / "trials.jsonl"
    done = {(row["kind"], row["number"]): row["trial"] for row in read_growing(kept)}
    for kind, count in wanted.items():
        reached = number = 0
        while reached < count:
            trial = done.get((kind, number))
            if trial is None:
                trial = TRIALS[kind](bench, random.Random(f"{bench.seed}/{kind}/{number}"), number)
                append_jsonl(kept, [{"kind": kind, "number": number, "trial": trial}])
            reached += trial["kills"] if kind == "kills" else 1
            number += 1
            sys.stderr.write(f"\r{kind}: {reached} of {count}   ")
            yield kind, trial
        sys.stderr.write("\n")


def counted(trials: list[tuple[str, Trial]], seed: int) -> dict[str, Any]:
    """Counts per kind of trial, and each one that went wrong."""
    facts: dict[str, Any] = {"seed": seed}
    for kind in TRIALS:
        own = [trial for name, trial in trials if name == kind]
        facts[kind] = {"trials": len(own), "wrong": sum(bool(trial["bad"]) for trial in own)}
        if kind == "kills":
            facts[kind] |= {"kills": sum(trial["kills"] for trial in own)}
        verdicts = Counter(verdict.partition(":")[0] for trial in own for verdict in trial.get("found", {}).values())
        facts[kind] |= {"commands": dict(sorted(verdicts.items()))} if verdicts else {}
    facts["wrong"] = [{"kind": kind, **trial} for kind, trial in trials if trial["bad"]]
    return facts


def preload() -> None:
    """Import what commands need, once for all forks."""
    import duckdb
    import pyarrow.compute
    import pyarrow.parquet

    import medrft.cli.main
    import medrft.evaluation.runner
    import medrft.models.tiny
    import medrft.report.page
    import medrft.training.grpo
    import medrft.training.sft

    del duckdb, pyarrow, medrft


def main() -> None:
    """Run the trials and write the counts; exits 1 when something was lost or silently wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/faults"), help="folder of the trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULT)
    for name, count in (("kills", 100), ("cuts", 50), ("flips", 50), ("fills", 20), ("pairs", 9)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--strings", type=int, default=1_000_000)
    options = parser.parse_args()
    preload()
    bench = Bench(options.work.resolve(), options.seed)
    bench.prepare()
    trials = list(run_trials(bench, {kind: getattr(options, kind) for kind in TRIALS}))
    facts = counted(trials, options.seed)
    if options.strings:
        read = reader_faults.facts_of(options.strings, options.work / "strings", seed=options.seed, processes=1)
        facts["strings"] = read
        facts["wrong"] += [{"kind": "strings", **row} for row in (*read["faults"], *read["steep"])]
    write_json(options.output, facts)
    sys.stdout.write(json.dumps(facts, indent=2) + "\n" if options.json else f"{facts}\n")
    sys.exit(bool(facts["wrong"]))


if __name__ == "__main__":
    main()
