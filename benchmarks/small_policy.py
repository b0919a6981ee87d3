"""Does the small policy see? recipes/small_policy.yaml against a lookup of the question, and trained on blank pictures.

    python benchmarks/small_policy.py --run runs/small_policy --blank runs/small_policy_blank [--json]

Outcome: exact match after normalisation on all questions of the test set, open and closed alike, greedy. Primary: stage
`sft` minus (a) train's most frequent answer to exactly this question, (b) stage `sft` of the run with data.blank=true.
Intervals are over images. A run or stage that is not there is left out.
"""

import argparse
import json
from pathlib import Path

from medrft.intervals import mean_interval, paired_difference
from medrft.rundir import read_json, read_jsonl
from medrft.text import normalize

LOOKUP = "frequent_question"
Answers = dict[str, tuple[float, str, str]]
"""Question id -> (1 where the answer is a reference after normalisation, image, kind)."""


def answers(path: Path, control: str = "none") -> Answers:
    """The greedy answers of one source in a `predictions.jsonl`; none where the file is not there."""
    if not path.is_file():
        return {}
    _, *rows = read_jsonl(path)
    return {
        row["id"]: (float(is_right(row["answer"], row["references"])), row["images"][0], row["kind"])
        for row in rows
        if row["control"] == control and not row["temperature"]
    }


def is_right(answer: str | None, references: list[str]) -> bool:
    """Whether the answer equals a reference after normalisation; a completion without an answer does not.

    >>> is_right("the Left lung.", ["left lung"]), is_right(None, ["left lung"])
    (True, False)
    """
    return answer is not None and normalize(answer) in {normalize(reference) for reference in references}


def sources(run: Path, blank: Path, dataset: str) -> dict[str, Answers]:
    """What is compared, by name."""
    found = {"lookup": answers(run / "eval" / "sft" / dataset / "predictions.jsonl", LOOKUP)}
    for prefix, folder in (("", run), ("blank-trained ", blank)):
        for stage in ("base", "sft", "grpo"):
            found[f"{prefix}{stage}"] = answers(folder / "eval" / stage / dataset / "predictions.jsonl")
    found["sft shown blank pictures"] = answers(run / "eval" / "sft" / dataset / "predictions.jsonl", "blank")
    return {name: rows for name, rows in found.items() if rows}


def mean(rows: Answers, kind: str | None = None) -> dict:
    """Exact match with its interval, of one kind or all."""
    kept = [row for row in rows.values() if kind in (None, row[2])]
    values, images, _ = zip(*kept, strict=True)
    return mean_interval(values, clusters=images).as_json()


def difference(a: Answers, b: Answers, kind: str | None = None) -> dict:
    """Exact match of `a` minus that of `b` on the same questions, of one kind or all."""
    if a.keys() != b.keys():
        raise SystemExit(f"the two answer {len(a)} and {len(b)} questions, not the same ones; evaluate both on all")
    ids = sorted(i for i, row in a.items() if kind in (None, row[2]))
    pairs = ([a[i][0] for i in ids], [b[i][0] for i in ids])
    return paired_difference(*pairs, clusters=[a[i][1] for i in ids]).as_json()


def collect(run: Path, blank: Path, dataset: str) -> dict:
    """All figures from the files of the runs."""
    found = sources(run, blank, dataset)
    against = [(stage, other) for stage in ("sft", "grpo") for other in ("lookup", "blank-trained sft")]
    against.append(("grpo", "sft"))
    kinds = [kind for kind in ("closed", "open") if any(row[2] == kind for row in found["lookup"].values())]
    return {
        "outcome": "exact match after normalisation, all test questions, greedy",
        "images": len({row[1] for row in found["lookup"].values()}),
        "exact_match": {name: {"all": mean(rows)} | {k: mean(rows, k) for k in kinds} for name, rows in found.items()},
        "difference": {
            f"{a} - {b}": {kind or "all": difference(found[a], found[b], kind) for kind in (None, *kinds)}
            for a, b in against
            if {a, b} <= found.keys()
        },
        "stages": {
            f"{name} {stage}": {key: facts.get(key) for key in ("steps", "seconds", "best")}
            for name, folder in (("run", run), ("blank", blank))
            for stage in ("sft", "grpo")
            if (path := folder / "stages" / stage / "stage.json").is_file() and (facts := read_json(path)).get("steps")
        },
    }


def table(result: dict) -> str:
    """The figures as lines of text."""
    lines = [f"{result['outcome']}; {result['images']} images", ""]
    for name, kinds in result["exact_match"].items():
        lines.append(f"{name:28}" + "   ".join(f"{kind} {shown(row)}" for kind, row in kinds.items()))
    lines.append("")
    for name, kinds in result["difference"].items():
        lines.append(f"{name:28}" + "   ".join(f"{kind} {shown(row, sign='+')}" for kind, row in kinds.items()))
    lines += ["", *(f"{name}: {facts}" for name, facts in result["stages"].items())]
    return "\n".join(lines)


def shown(row: dict, sign: str = "") -> str:
    low, high = (f"{row[key]:{sign}.3f}" if row[key] is not None else "–" for key in ("low", "high"))
    return f"{row['mean']:{sign}.3f} [{low}, {high}] n={row['n']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/small_policy"))
    parser.add_argument("--blank", type=Path, default=Path("runs/small_policy_blank"))
    parser.add_argument("--dataset", default="slake")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not (args.run / "eval" / "sft" / args.dataset / "predictions.jsonl").is_file():
        raise SystemExit(
            f"{args.run} has no stage sft evaluated on {args.dataset}; run recipes/small_policy.yaml first"
        )
    result = collect(args.run, args.blank, args.dataset)
    print(json.dumps(result, indent=2) if args.json else table(result))


if __name__ == "__main__":
    main()
