"""What the contradiction check of `medrft curate` drops wrongly and what it catches, on the phantom's own thoughts.

Right thoughts are those the phantom writes; wrong ones carry a teacher error it names, or lead to an answer turned
round (yes for no, left for right).

    python benchmarks/thought_checks.py --images 400 --seed 0
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator

from medrft.curation.thoughts import contradicts_answer, leaked_words
from medrft.data import read_data
from medrft.types import Example

TURNED = {"yes": "no", "no": "yes", "left": "right", "right": "left"}


def main() -> None:
    """Print counts as JSON: `{name: [dropped, of]}`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    right = thoughts(asked.images, asked.seed, errors=0.0)
    wrong = thoughts(asked.images, asked.seed, errors=1.0)
    found = {
        "right thought, dropped as contradicting": shares(right, lambda e: e.references[0], by=lambda e: e.kind),
        "right thought, dropped as a leak": [
            sum(leaked_words(str(e.rationale)) is not None for e in right),
            len(right),
        ],
        "answer turned round, caught": shares(list(turnable(right)), turned, by=lambda e: e.kind),
        "teacher error, caught": shares(
            wrong, lambda e: e.references[0], by=lambda e: f"{e.kind}: {e.metadata['teacher_error']}"
        ),
    }
    print(json.dumps({"images": asked.images, "seed": asked.seed, **found}, indent=2))


def thoughts(images: int, seed: int, *, errors: float) -> list[Example]:
    """Train rows of the phantom."""
    options = {"images": images, "validation_images": 0, "test_images": 0, "size": 32, "teacher_errors": errors}
    return list(read_data("phantom", None, seed=seed, options=options).split("train"))


def shares(
    examples: list[Example], answer: Callable[[Example], str], *, by: Callable[[Example], str]
) -> dict[str, list[int]]:
    """How many thoughts contradict the answer, and of how many, by group."""
    total = Counter(by(e) for e in examples)
    hit = Counter(by(e) for e in examples if contradicts_answer(str(e.rationale), answer(e), e))
    return {name: [hit[name], total[name]] for name in sorted(total)}


def turnable(examples: list[Example]) -> Iterator[Example]:
    """Yes-no questions, and others whose answer names one side."""
    for example in examples:
        sides = {side for side in ("left", "right") if re.search(rf"\b{side}\b", example.references[0])}
        if example.kind == "closed" or len(sides) == 1:
            yield example


def turned(example: Example) -> str:
    """The opposite answer."""
    return re.sub(r"\b(yes|no|left|right)\b", lambda word: TURNED[word[0]], example.references[0].lower())


if __name__ == "__main__":
    main()
