"""Two models' answers to VQA-RAD's test: what each metric says of them, where the metrics disagree, and which is better.

    python benchmarks/worked_example.py PREDICTIONS --data vqa_rad:PATH:test [--markdown | --json]

PREDICTIONS is the folder with `vqa_rad_qwen2vl2b_base.jsonl` and `vqa_rad_qwen2vl2b_lora16.jsonl`. The same by commands:

    medrft rescore jsonl PREDICTIONS/vqa_rad_qwen2vl2b_base.jsonl --data vqa_rad:PATH:test --set dataset=vqa_rad --output base
    medrft rescore jsonl PREDICTIONS/vqa_rad_qwen2vl2b_lora16.jsonl --data vqa_rad:PATH:test --set dataset=vqa_rad --output lora16
    medrft compare base lora16 --output compare.html
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrft.cli.sources import load_source
from medrft.evaluation.compare.changes import facet_clashes
from medrft.evaluation.compare.paired import compare_sides
from medrft.evaluation.compare.sides import read_sides
from medrft.evaluation.metrics import values_of
from medrft.evaluation.rescore import rescore

MODELS = ("base", "lora16")
ROWS = (
    ("closed", "accuracy"),
    *(
        ("open", name)
        for name in ("exact_match", "recall", "bleu1", "rouge1", "bertscore", "cosine", "average", "clinical")
    ),
)
HIGH, LOW = 0.5, 0.3
SHOWN = 4

Row = dict[str, Any]

CASES = {
    "other words": "the clinical score is at least 0.5, exact match is 0",
    "near words": f"the papers' average is at least {HIGH}, the clinical score is 0",
    "few shared words": f"the papers' average is below {LOW}, the clinical score is at least 0.5",
}


def case_of(row: Row) -> str | None:
    """How the metrics disagree on an open answer; the rarer case where two hold."""
    values = values_of(row)
    average, clinical, exact = (values.get(name) for name in ("average", "clinical", "exact_match"))
    if average is None or clinical is None:
        return None
    if average < LOW and clinical >= 0.5:
        return "few shared words"
    if average >= HIGH and clinical == 0:
        return "near words"
    return "other words" if clinical >= 0.5 and exact == 0 else None


def measure(folder: Path, data: str) -> dict[str, Any]:
    """Metrics of both models, the disagreements among the metrics, and the comparison."""
    _, split, loaded = load_source(data, None)
    examples = loaded.split(split) if split else loaded.examples
    found: dict[str, Any] = {"metrics": {}, "disagreements": {}}
    with tempfile.TemporaryDirectory() as place:
        for model in MODELS:
            path = folder / f"vqa_rad_qwen2vl2b_{model}.jsonl"
            made = rescore("jsonl", path, {"dataset": "vqa_rad"}, examples=examples)
            made.write(Path(place) / model)
            found["encoder"], found["interval"] = made.header["encoder"]["id"], made.report["interval"]
            found["notes"] = made.report["notes"]
            found["metrics"][model] = made.report["results"]["vqa_rad"]["none"]
            found["disagreements"][model] = disagreements(made.rows)
        found["comparison"] = compare_sides(read_sides([f"{place}/{model}" for model in MODELS]))
    return found


def disagreements(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Open answers on which the metrics disagree, the strongest first."""
    cases: dict[str, list[Row]] = {case: [] for case in CASES}
    for row in rows:
        case = case_of(row) if row["kind"] == "open" else None
        if case is not None:
            values = {name: round(values_of(row)[name] or 0.0, 2) for name in ("exact_match", "average", "clinical")}
            told = {"question": row["question"], "reference": row["references"][0], "answer": row["answer"]}
            cases[case].append({**told, **values, "clash": facet_clashes(row)})
    for members in cases.values():
        members.sort(key=lambda member: (-abs(member["average"] - member["clinical"]), member["question"]))
    return cases


def markdown(found: dict[str, Any]) -> str:
    """The tables of docs/evaluation.md."""
    lines = ["| kind | metric | n | base | lora16 |", "|---|---|---:|---:|---:|"]
    for kind, metric in ROWS:
        cells = [figure(found["metrics"][model][kind][metric]) for model in MODELS]
        lines.append(f"| {kind} | `{metric}` | {found['metrics']['base'][kind][metric]['n']} | {' | '.join(cells)} |")
    lines += ["", "| kind | metric | n | images | lora16 - base | 95 % interval | p | p (Holm) |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    for test in found["comparison"]["tests"]:
        bounds = f"{100 * test['low']:+.1f} to {100 * test['high']:+.1f}"
        cells = [f"{100 * test['difference']:+.1f}", bounds, f"{test['p']:.4f}", f"{test['p_holm']:.4f}"]
        lines.append(
            f"| {test['kind']} | `{test['metric']}` | {test['n']} | {test['clusters']} | {' | '.join(cells)} |"
        )
    for kind, counts in found["comparison"]["against"][0]["changes"]["counts"]["vqa_rad"].items():
        lines += ["", f"{kind}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)]
    lines += ["", "| the metrics disagree: | base | lora16 |", "|---|---:|---:|"]
    for case, says in CASES.items():
        counts = [str(len(found["disagreements"][model][case])) for model in MODELS]
        lines.append(f"| {case}: {says} | {' | '.join(counts)} |")
    lines += [
        "",
        "| case | question | reference | answer | exact | average | clinical | clash |",
        "|---|---|---|---|---:|---:|---:|---|",
    ]
    for case in CASES:
        for one in found["disagreements"]["lora16"][case][:SHOWN]:
            texts = [one["question"], one["reference"], one["answer"]]
            values = [f"{one[name]:.2f}" for name in ("exact_match", "average", "clinical")]
            lines.append(f"| {case} | {' | '.join([*map(cell, texts), *values, cell('; '.join(one['clash']))])} |")
    return "\n".join([*lines, "", f"Encoder {found['encoder']}; {found['interval']}; {'; '.join(found['notes'])}."])


def cell(text: str) -> str:
    """A text that stays in its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def figure(metric: Row) -> str:
    """A mean in percent with its interval."""
    return f"{100 * metric['mean']:.1f} ({100 * metric['low']:.1f} to {100 * metric['high']:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--markdown", action="store_true", help="the tables of the docs; the default")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.predictions, arguments.data)
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else markdown(found))


if __name__ == "__main__":
    main()
