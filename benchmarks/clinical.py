"""The clinical scorer's speed on one core: distinct pairs without memory, redundant rollouts with it, one long answer.

    python benchmarks/clinical.py [PREDICTIONS.jsonl] tests/data/pairs_tune.tsv tests/data/pairs_final.tsv [--json]

PREDICTIONS is a file of rows with `question`, `reference` and `prediction`, repeated as a group of 8 rollouts would be.
Judged by processor time, which other work on the machine stretches little. Before each repeat the memories of texts and
pairs are emptied (readings, scores, normalised texts, respelt words), and those of how two words or concepts relate.
What belongs to single words stays warm, as it is after the first minute of a run: the compiled lexicon, and what the
form of a word says (its lemma, stem and trigrams).
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from pathlib import Path

from medrft.scorers.clinical import concepts, reader, score, words
from medrft.scorers.clinical.scorer import Clinical
from medrft.text.normal import _respelt, _short
from medrft.types import Item

DISTINCT, REDUNDANT = 5_000, 50_000
REPEATS = 3


def forget() -> None:
    """Empty every memory between input and score."""
    texts = (reader.read_findings, score.score_pair, _short, _respelt)
    for memory in (*texts, words._cut_word, words.word_likeness, concepts.concept_relation):
        memory.cache_clear()


def seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        forget()
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def distinct_pairs(paths: list[Path]) -> list[tuple[str, str]]:
    """Pairs whose strings all differ: each of the files' pairs with a number of its own."""
    rows: list[tuple[str, str]] = []
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            reader_ = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows += [(row["reference"], row["candidate"]) for row in reader_]
    return [
        (f"{reference} {number}", f"{candidate} {number}")
        for number in range(DISTINCT // len(rows) + 1)
        for reference, candidate in rows
    ][:DISTINCT]


def rollouts(path: Path) -> list[Item]:
    """Real answers, each question's four times for base and chance: 8 rollouts of which most are the same."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    made = [
        Item(references=(str(row["reference"]),), kind="open", answer=str(row["prediction"]), question=row["question"])
        for row in rows
    ]
    return (made * (REDUNDANT // len(made) + 1))[:REDUNDANT]


def measure(predictions: Path | None, pairs: list[Path]) -> dict[str, float]:
    scorer = Clinical()
    start = time.process_time()
    scorer([Item(references=("left lung",), kind="open", answer="right lung")])
    found = {"load_seconds": round(time.process_time() - start, 3)}
    distinct = distinct_pairs(pairs)
    took = seconds(lambda: [score.compare_answers(reference, candidate) for reference, candidate in distinct])
    found["distinct_pairs_per_second"] = round(len(distinct) / took)
    if predictions is not None:
        items = rollouts(predictions)
        found["redundant_rollouts_per_second"] = round(len(items) / seconds(lambda: scorer(items)))
    long = "The left lung shows a mass, and no effusion. " * 23_000
    found["megabyte_seconds"] = round(seconds(lambda: score.compare_answers("mass in the left lung", long)), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not any(path.suffix == ".tsv" for path in options.files):
        parser.error("name a TSV of pairs to draw distinct ones from, such as tests/data/pairs_tune.tsv")
    predictions = next((path for path in options.files if path.suffix == ".jsonl"), None)
    found = measure(predictions, [path for path in options.files if path.suffix == ".tsv"])
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(*(f"{name:32} {value:,}" for name, value in found.items()), sep="\n")


if __name__ == "__main__":
    main()
