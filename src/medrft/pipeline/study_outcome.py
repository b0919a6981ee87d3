"""From an arm's run folder to its small result file, from which alone a study's tables and intervals are computed.

    benchmarks/results/studies/<study>/<arm>-seed<k>.json

Answers are packed by question, so that paired differences need no other files. Outcomes are one character per question
(`1` right, `0` wrong, `-` unscored or not applicable), grades are thousandths.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.evaluation.metrics import cluster_of, source_of, values_of
from medrft.evaluation.repeated import pass_curve
from medrft.evaluation.run_files import RunFiles
from medrft.pipeline.job import Job
from medrft.rundir import RunDir, environment, fingerprint, write_atomic
from medrft.studies.arms import Arm
from medrft.studies.plan import GRADES, OUTCOMES, VERDICTS
from medrft.studies.result_files import KIND_LETTERS, pack_column
from medrft.types import Example

Row = dict[str, Any]

CURVES = (
    *("reward", "reward_std", "correct", "truth", "completion_length", "kl", "entropy", "near_zero_spread"),
    *("no_answer", "truncated", "gate", "calibration_saturated"),
)
POINTS = 60
"""A curve holds at most this many points; longer ones are averaged in blocks."""


def write_outcome(path: Path, arm: Arm, job: Job, *, stage: str, extra: Mapping[str, Any]) -> Row:
    """Collect the result of a finished arm from its run folder, write it whole or not at all, and return it."""
    facts, run = environment(), RunFiles(job.run.path)
    own = [config.name for config in arm.recipe.stages]
    outcome = {
        "arm": arm.name,
        "seed": arm.seed,
        "key": arm.key,
        "encoder": job.recipe.encoder.id,
        "correct": job.recipe.correct.model_dump(mode="json"),
        "prompt": job.recipe.prompt,
        "versions": facts["versions"],
        "commit": facts["commit"],
        **extra,
        "curves": {name: training_curves(run, name) for name in own if run.record(name).get("kind") == "grpo"},
        **evaluated_stage(run, stage, job.tests()),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in outcome.items()]
    write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return outcome


def evaluated_stage(run: RunFiles, stage: str, tests: Mapping[str, Sequence[Example]]) -> Row:
    """Metrics, packed answers (with flips on phantom data) and pass@k of one stage, by data set."""
    found: Row = {"metrics": {}, "answers": {}, "pass_at": {}}
    by_id = {example.id: example for rows in tests.values() for example in rows}
    for dataset in sorted(name for name, stages in run.evaluations.items() if stage in stages):
        scored = [_with_flips(row, by_id.get(row["id"])) for row in run.predictions(stage, dataset)]
        found["metrics"][dataset] = _metrics(run.evaluations[dataset][stage]["results"])
        found["answers"][dataset] = pack_answers(scored)
        if passed := mean_pass_curve(scored):
            found["pass_at"][dataset] = passed
    return found


def _with_flips(row: Row, example: Example | None) -> Row:
    """The row with `side_flip` and `polarity_flip` added to its scores, if it answers a phantom question."""
    if example is None or "facts" not in example.metadata:
        return row
    from medrft.data.phantom.flips import is_flipped

    side, polarity = is_flipped(example, row["answer"])
    return {**row, "scores": {**row["scores"], "side_flip": float(side), "polarity_flip": float(polarity)}}


def _metrics(results: Mapping[str, Any]) -> Row:
    """`{source: {kind: {metric: [mean, low, high, n]}}}`; controls have `truth` and `correct` alone."""
    return {
        source: {
            kind: {
                name: [_short(value[key]) for key in ("mean", "low", "high", "n")]
                for name, value in metrics.items()
                if source in ("none", "sampled") or name in VERDICTS
            }
            for kind, metrics in kinds.items()
        }
        for source, kinds in results.items()
    }


def _short(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 4)


def pack_answers(rows: Sequence[Row]) -> Row:
    """Answers packed by question: ids without their common prefix, image clusters, kinds, and values."""
    first: dict[str, Row] = {row["id"]: row for row in sorted(rows, key=lambda row: _natural(row["id"]))}
    ids = list(first)
    prefix = _common(ids)
    clusters: dict[tuple[str, ...], int] = {}
    numbers = [clusters.setdefault(cluster_of(first[name]), len(clusters)) for name in ids]
    values: dict[str, dict[str, list[float | None]]] = {}
    for source, found in _by_source(rows).items():
        names = (*OUTCOMES, *GRADES) if source == "none" else VERDICTS
        columns = {name: [_mean(found.get(key, {}).get(name)) for key in ids] for name in names}
        values[source] = {k: column for k, column in columns.items() if any(v is not None for v in column)}
    return {
        "prefix": prefix,
        "ids": " ".join(name.removeprefix(prefix).replace(" ", "%20") for name in ids),
        "images": " ".join(fingerprint(cluster)[:10] for cluster in clusters),
        "clusters": " ".join(map(str, numbers)),
        "kinds": "".join(KIND_LETTERS[first[name]["kind"]] for name in ids),
        "values": {
            source: {k: pack_column(k, column) for k, column in columns.items()} for source, columns in values.items()
        },
    }


def _by_source(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """`{source: {id: {metric: values over its samples}}}`."""
    found: dict[str, dict[str, dict[str, list[float | None]]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        for name, value in values_of(row).items():
            found[source_of(row)][row["id"]].setdefault(name, []).append(value)
    return found


def _mean(values: Sequence[float | None] | None) -> float | None:
    known = [value for value in values or () if value is not None]
    return sum(known) / len(known) if known and values and len(known) == len(values) else None


def mean_pass_curve(rows: Iterable[Row]) -> Row:
    """pass@k of sampled answers as `{k: mean over questions}`, by `truth` where it is known, else by `correct`.

    `medrft.evaluation.repeated.pass_curve` defines it. Questions with an unscored sample are left out. Empty with fewer
    than two values of k.
    """
    drawn: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if source_of(row) == "sampled":
            drawn[row["id"]].append(row)
    by = "truth" if all("truth" in row["scores"] for group in drawn.values() for row in group) else "correct"
    curves = [curve for group in drawn.values() if (curve := pass_curve(group, by=by)) and None not in curve.values()]
    ks = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if len(ks) < 2:
        return {}
    means = {k: [value for curve in curves if (value := curve[k]) is not None] for k in ks}
    return {str(k): round(sum(values) / len(values), 4) for k, values in means.items()}


# ---- training -------------------------------------------------------------------------------------------------------


def training_curves(run: RunFiles, stage: str) -> Row:
    """Curves of a GRPO stage over its steps, thinned, including the mean length of right and of wrong answers."""
    rows = [row for row in run.metrics.get(stage, []) if row.get("split", "train") == "train"]
    parts = dict.fromkeys(key for row in rows for key in row if key.startswith("part/") and key.endswith("/raw"))
    columns = {key: [row.get(key) for row in rows] for key in ("step", *CURVES, *parts)}
    columns |= _lengths(run, stage, columns["step"])
    return {key: thin_column(column) for key, column in columns.items() if any(value is not None for value in column)}


def _lengths(run: RunFiles, stage: str, steps: Sequence[Any]) -> dict[str, list[float | None]]:
    from medrft.store import read_rollouts

    found = read_rollouts(
        run.path,
        "SELECT step, coalesce(truth, correct) AS ok, avg(n_tokens) AS length FROM rollouts "
        f"WHERE split = 'train' AND stage = '{stage}' GROUP BY step, ok",
    )
    by = {(row["step"], row["ok"]): float(row["length"]) for row in found if row["ok"] is not None}
    # Rollouts are numbered by the step they were drawn in, log rows by the step that follows.
    offset = min(steps, default=0) - min((step for step, _ in by), default=0)
    return {
        name: [by.get((step - offset, ok)) for step in steps]
        for name, ok in (("length_right", True), ("length_wrong", False))
    }


def thin_column(column: Sequence[float | None]) -> list[float | None]:
    """At most `POINTS` values, each the mean of a block of steps, at four significant digits."""
    size = max(1, -(-len(column) // POINTS))
    blocks = (column[i : i + size] for i in range(0, len(column), size))
    means = [[value for value in block if value is not None] for block in blocks]
    return [float(f"{sum(known) / len(known):.4g}") if known else None for known in means]


def cost_of(run: RunDir, stage: str, *, shared: str | None) -> Row:
    """What a stage cost: steps, examples, seconds, and for GRPO the completions and tokens that it sampled."""
    record = RunFiles(run.path).record(stage)
    cost = {
        "stage": stage,
        "kind": record["kind"],
        "shared": shared,
        "steps": record["steps"],
        "seconds": round(record["seconds"], 1),
        "examples": record["examples"]["train"],
    }
    if record["kind"] == "grpo":
        from medrft.store import read_rollouts

        counted = read_rollouts(
            run.path,
            "SELECT count(*) AS completions, count(DISTINCT example_id) AS seen, sum(n_tokens) AS tokens FROM rollouts "
            f"WHERE split = 'train' AND stage = '{stage}'",
        )[0]
        cost |= {key: int(counted[key] or 0) for key in ("completions", "seen", "tokens")}
    elif "seen" in record:
        cost["seen"] = record["seen"]
    if (sampled := record.get("rejection")) is not None:  # what it wrote to learn from is part of its cost
        cost |= {"completions": sampled["completions"], "tokens": sampled["tokens"], "seen": sampled["of"]}
        cost["seconds"] = round(cost["seconds"] + sampled["seconds"], 1)
    return cost


def _common(ids: Sequence[str]) -> str:
    """The common prefix of all ids, up to and including a slash.

    >>> _common(["a/test/1", "a/test/12"])
    'a/test/'
    """
    low, high = min(ids), max(ids)
    n = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[: low.rfind("/", 0, n) + 1]


def _natural(name: str) -> tuple[str, int, str]:
    head, _, tail = name.rpartition("/")
    return (head, int(tail), "") if tail.isdecimal() else (head, -1, tail)
