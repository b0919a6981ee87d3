"""How well scorers and rewards agree with labels that are not theirs: people's, and the yes and no of closed questions.

    python benchmarks/equivalence.py --nq301 NQ301_BEM.tsv --predictions FILE.jsonl … [--scorer NAME …] [--json]

NQ301: answers to general English questions with "acceptable?" by people; AUROC of acceptable over not, clustered by
question. Predictions (id, question, qtype, reference, prediction): closed questions have a truth, whether yes and no
agree, and AUROC is over it; open ones have none, so the mean is printed and AUROC against equality after normalisation,
which says how far a scorer goes with the strictest of them and no more. Rewards see a bare answer, without a format.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from medrft.config import EncoderConfig
from medrft.intervals import Interval, auroc
from medrft.rewards import build_reward
from medrft.scorers import build_scorer
from medrft.text import infer_kind, normalize, yes_no
from medrft.types import Item

SCORERS = ("exact_match", "bleu1", "rouge1", "recall", "bertscore", "cosine", "clinical")
REWARDS = ("text", "armed_static", "armed", "armed_clinical")
Judge = Callable[[Sequence[Item]], list[float]]


def of_scorer(name: str, encoder: EncoderConfig) -> Judge:
    scorer = build_scorer(name, encoder=encoder)
    return lambda items: [score or 0.0 for score in scorer(items)]


def of_reward(name: str, encoder: EncoderConfig) -> Judge:
    def judge(items: Sequence[Item]) -> list[float]:
        reward = build_reward(name, encoder=encoder)
        raws = reward.score(items)
        reward.fit(raws)
        return [outcome.reward or 0.0 for outcome in reward.combine(raws)]

    return judge


def area(values: Sequence[float], labels: Sequence[bool], clusters: Sequence[str], seed: int) -> Interval:
    sides = [[v for v, ok in zip(values, labels, strict=True) if ok is side] for side in (True, False)]
    groups = [[c for c, ok in zip(clusters, labels, strict=True) if ok is side] for side in (True, False)]
    return auroc(sides[0], sides[1], clusters=(groups[0], groups[1]), seed=seed)


def nq301(path: Path) -> tuple[list[Item], list[bool], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    items = [
        Item(
            references=tuple(gold.strip() for gold in row["Gold answers"].split(" | ")),
            kind="open",
            answer=row["Model answer"],
            question=row["Question"],
        )
        for row in rows
    ]
    labels = [row["Acceptable?"].strip().lower() == "yes" for row in rows]
    return items, labels, [row["Question"] for row in rows]


def predictions(path: Path, kind: str) -> tuple[list[Item], list[bool], list[str]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [row for row in rows if (infer_kind([row["reference"]]) == "closed") == (kind == "closed")]
    items = [
        Item(
            references=(r["reference"],),
            kind=infer_kind([r["reference"]]),
            answer=r["prediction"],
            question=r["question"],
        )
        for r in rows
    ]
    if kind == "closed":
        labels = [yes_no(r["prediction"]) == yes_no(r["reference"]) for r in rows]
    else:
        labels = [normalize(r["prediction"]) == normalize(r["reference"]) for r in rows]
    return items, labels, [str(r["id"]) for r in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nq301", type=Path)
    parser.add_argument("--predictions", type=Path, nargs="*", default=[])
    parser.add_argument("--scorer", nargs="*", default=list(SCORERS))
    parser.add_argument("--reward", nargs="*", default=list(REWARDS))
    parser.add_argument("--encoder", default=EncoderConfig().id)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    encoder = EncoderConfig(id=options.encoder)
    judges = {name: of_scorer(name, encoder) for name in options.scorer}
    judges |= {f"reward {name}": of_reward(name, encoder) for name in options.reward}
    sets = {"NQ301": nq301(options.nq301)} if options.nq301 else {}
    sets |= {
        f"{path.stem} {kind}": predictions(path, kind) for path in options.predictions for kind in ("closed", "open")
    }
    found: dict[str, dict[str, object]] = {}
    for name, (items, labels, clusters) in sets.items():
        found[name] = {"n": len(items), "positive": sum(labels)}
        for judge, function in judges.items():
            values = function(items)
            row = {"auroc": area(values, labels, clusters, options.seed).as_json(), "mean": fmean(values)}
            found[name][judge] = row
    if options.json:
        print(json.dumps({"encoder": encoder.id, "results": found}, indent=2))
        return
    print(f"encoder {encoder.id}")
    for name, rows in found.items():
        print(f"{name}: {rows.pop('n')} rows, {rows.pop('positive')} positive")
        for judge, row in rows.items():
            a = row["auroc"]
            print(f"  {judge:22} AUROC {a['mean']:.3f} [{a['low']:.3f}, {a['high']:.3f}]  mean {row['mean']:.3f}")


if __name__ == "__main__":
    main()
