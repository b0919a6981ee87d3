"""What a question alone is worth on a data set, and to how many of its test questions each control applies.

    python benchmarks/controls.py slake:DIR [vqa_rad:DIR …] [--json]

No model is asked. `lookup` answers each test question with train's most frequent answer to exactly this question text,
`type` with that to its question type; both are marked by exact match after normalisation, over all kinds at once. The
interval is over images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medrft.data import read_data
from medrft.evaluation.controls.table import CONTROLS, FrequentAnswers, left_out
from medrft.intervals import mean_interval
from medrft.text import normalize
from medrft.types import Example


def exact(say: Callable[[Example], str], test: Sequence[Example]) -> dict[str, Any]:
    """Share of test examples whose answer equals a reference, with n and interval."""
    hits = [float(normalize(say(e)) in {normalize(reference) for reference in e.references}) for e in test]
    return mean_interval(hits, clusters=[e.images for e in test]).as_json()


def measured(name: str, root: Path) -> dict[str, Any]:
    """The figures of one data set's official splits."""
    examples = read_data(name, root).examples
    train, test = ([e for e in examples if e.split == split] for split in ("train", "test"))
    frequent = FrequentAnswers.learn(train)
    reasons = {control: left_out(control, test, seed=0) for control in CONTROLS}
    return {
        "type": exact(frequent.for_type, test),
        "lookup": exact(frequent.for_question, test),
        "controls": {c: {"n": len(test) - sum(why.values()), "left_out": why} for c, why in reasons.items()},
    }


def main() -> None:
    """Print the figures of each data set named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", metavar="NAME:DIR")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {name: measured(name, Path(root)) for name, _, root in (s.partition(":") for s in arguments.sources)}
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for name, figures in found.items():
        for way in ("type", "lookup"):
            f = figures[way]
            print(f"{name:8} {way:14} {f['mean']:.3f}  95 % {f['low']:.3f} to {f['high']:.3f}  n {f['n']}")
        for control, counts in figures["controls"].items():
            why = ", ".join(f"{n} x {reason}" for reason, n in counts["left_out"].items())
            print(f"{name:8} {control:14} n {counts['n']}  {why and 'left out: ' + why}")


if __name__ == "__main__":
    main()
