"""Minimal pairs: how often a scorer or a reward ranks a paraphrase above a contradiction.

    python benchmarks/pairs.py --scorer clinical [--scorer rouge1 …] [--reward armed_clinical …] FILE.tsv [--json]
    python benchmarks/pairs.py --scorer clinical --misses FILE.tsv

FILE has the columns kind (paraphrase or contradiction), attribute, reference, candidate. AUROC is the probability that
a paraphrase scores above a contradiction (ties count half), pooled and per facet: that facet's contradictions against
all paraphrases, for facets with at least 8. Intervals are 95 % bootstrap intervals. Rewards see a bare answer.

With the columns domain and id, and the kinds partial and extra_wrong, it also prints the AUROC of each domain's own
paraphrases and contradictions; how often a paraphrase scores above the partial answer of the same reference; how many
paraphrases score under 0.05; and how many answers with a wrong finding added earn at most 75 % of the full score.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

from medrft.config import EncoderConfig
from medrft.intervals import auroc
from medrft.rewards import build_reward
from medrft.scorers import build_scorer
from medrft.text import infer_kind
from medrft.types import Item

AT_LEAST = 8
KINDS = ("paraphrase", "contradiction", "partial", "extra_wrong")


def read_pairs(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def items(rows: list[dict[str, str]]) -> list[Item]:
    return [
        Item(references=(row["reference"],), kind=infer_kind([row["reference"]]), answer=row["candidate"])
        for row in rows
    ]


def scores(rows: list[dict[str, str]], *, scorer: str | None, reward: str | None, encoder: str | None) -> list[float]:
    config = EncoderConfig(id=encoder) if encoder else None
    if scorer:
        found = build_scorer(scorer, encoder=config)(items(rows))
    else:
        found = [outcome.reward for outcome in build_reward(reward, encoder=config)(items(rows))]
    return [0.0 if score is None else score for score in found]


def table(rows: list[dict[str, str]], values: list[float], *, seed: int) -> dict[str, object]:
    paraphrases = [value for row, value in zip(rows, values, strict=True) if row["kind"] == "paraphrase"]
    by_facet: dict[str, list[float]] = defaultdict(list)
    for row, value in zip(rows, values, strict=True):
        if row["kind"] == "contradiction":
            by_facet[row["attribute"]].append(value)
    scored = list(zip(rows, values, strict=True))
    everything = [value for facet in by_facet.values() for value in facet]
    result = {"pooled": interval(paraphrases, everything, seed=seed)}
    for facet, found in sorted(by_facet.items()):
        if len(found) >= AT_LEAST:
            result[facet] = interval(paraphrases, found, seed=seed)
    for domain in sorted({row["domain"] for row in rows if row.get("domain")}):
        kinds = {
            kind: [value for row, value in scored if row["domain"] == domain and row["kind"] == kind]
            for kind in ("paraphrase", "contradiction")
        }
        result[f"domain {domain}"] = interval(*kinds.values(), seed=seed)
    return result


def shares(rows: list[dict[str, str]], values: list[float]) -> dict[str, float]:
    """Shares in [0, 1] over references with all four kinds of candidates; empty for files without them."""
    by_id: dict[str, dict[str, float]] = defaultdict(dict)
    for row, value in zip(rows, values, strict=True):
        by_id[row.get("id", "")][row["kind"]] = value
    whole = [kinds for kinds in by_id.values() if len(kinds) == len(KINDS)]
    if not whole:
        return {}
    above = sum((k["paraphrase"] > k["partial"]) + 0.5 * (k["paraphrase"] == k["partial"]) for k in whole)
    full = max(values)
    return {
        "references": len(whole),
        "paraphrase above partial": round(above / len(whole), 3),
        "paraphrases under 0.05": round(sum(k["paraphrase"] < 0.05 for k in whole) / len(whole), 3),
        "wrong finding added earns at most 75 %": round(
            sum(k["extra_wrong"] <= 0.75 * full for k in whole) / len(whole), 3
        ),
    }


def interval(high: list[float], low: list[float], *, seed: int) -> dict[str, float]:
    found = auroc(high, low, seed=seed)
    return {
        **{name: round(getattr(found, name), 4) for name in ("mean", "low", "high")},
        **{"paraphrases": len(high), "contradictions": len(low)},
        **{"mean_paraphrase": round(sum(high) / len(high), 3), "mean_contradiction": round(sum(low) / len(low), 3)},
    }


def misses(rows: list[dict[str, str]], values: list[float]) -> list[str]:
    """Paraphrases under 0.5 and contradictions over 0.3, worst first."""
    wrong = [
        (value, row) for row, value in zip(rows, values, strict=True) if row["kind"] == "paraphrase" and value < 0.5
    ]
    lines = [_line(value, row) for value, row in sorted(wrong, key=lambda pair: pair[0])]
    wrong = [
        (value, row) for row, value in zip(rows, values, strict=True) if row["kind"] == "contradiction" and value > 0.3
    ]
    return lines + [_line(value, row) for value, row in sorted(wrong, key=lambda pair: -pair[0])]


def _line(value: float, row: dict[str, str]) -> str:
    return f"{value:.2f} {row['kind']:13} {row['attribute']:12} {row['reference']} | {row['candidate']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--scorer", action="append", default=[])
    parser.add_argument("--reward", action="append", default=[])
    parser.add_argument("--encoder", help="encoder id for scorers and rewards that have one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--misses", action="store_true", help="print the pairs that are ranked wrongly")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report: dict[str, dict[str, object]] = {}
    for path in options.files:
        rows = read_pairs(path)
        names = [("scorer", name) for name in options.scorer] + [("reward", name) for name in options.reward]
        for what, name in names or [("scorer", "clinical")]:
            found = scores(rows, **{"scorer": None, "reward": None, what: name}, encoder=options.encoder)
            report.setdefault(path.name, {})[name] = table(rows, found, seed=options.seed)
            if more := shares(rows, found):
                report[path.name][name]["shares"] = more
            if options.misses and not options.json:
                print(*misses(rows, found), sep="\n")
    if options.json:
        print(json.dumps(report, indent=2))
        return
    for file, tables in report.items():
        for name, lines in tables.items():
            print(f"{file}: {name}")
            for facet, found in lines.items():
                if facet == "shares":
                    print(*(f"  {key}: {value:g}" for key, value in found.items()), sep="\n")
                    continue
                print(
                    f"  {facet:10} {found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
                    f"  {found['paraphrases']} paraphrases, {found['contradictions']} contradictions"
                )


if __name__ == "__main__":
    main()
