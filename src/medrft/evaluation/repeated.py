"""Several tries at one question: pass@k and maj@k of sampled answers, and how far a judge agrees with itself.

pass@k is the chance that at least one of k samples is right, estimated without bias from n samples of which c are:
1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374). maj@k is whether the most frequent answer among the
first k samples is right.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medrft.text import normalize
from medrft.types import Score

VERDICT = re.compile(r"judge_\d+")


def is_verdict(name: str) -> bool:
    """Whether a score is one of a judge's repeated verdicts, of which `judge` is the mean."""
    return VERDICT.fullmatch(name) is not None


def pass_at(k: int, *, n: int, right: int) -> float:
    """Chance that at least one of `k` answers is right, from `n` >= k samples of which `right` are.

    >>> pass_at(1, n=4, right=1), pass_at(2, n=4, right=1), pass_at(4, n=4, right=1)
    (0.25, 0.5, 1.0)
    """
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def majority_position(answers: Sequence[str | None]) -> int | None:
    """Position of the first answer that agrees with the majority, after normalisation; ties go to the earliest.

    An answer that is `None` or empty has no vote. `None` where no answer has one.

    >>> given = (["Lung.", "heart", "the lung"], ["heart", "lung"], [None, ""])
    >>> tuple(majority_position(answers) for answers in given)
    (0, 0, None)
    """
    said = [normalize(answer or "") for answer in answers]
    votes = Counter(text for text in said if text)
    return said.index(votes.most_common(1)[0][0]) if votes else None


def pass_curve(rows: Sequence[Mapping[str, Any]], *, by: str = "correct") -> dict[int, Score]:
    """pass@k of one example's samples for k = 1, 2, 4, ... up to their number. Defined here and nowhere else.

    `by` is the outcome that decides: the recipe's `correct` in evaluation, or `truth` (the phantom's oracle) in studies
    that ask for it. Empty where a sample lacks the outcome; every value is `None` where it is unscored for any sample.
    """
    if any(by not in row["scores"] for row in rows):
        return {}
    right: list[Score] = [row["scores"][by] for row in rows]
    sizes = [2**power for power in range(len(rows).bit_length())]
    known = [value for value in right if value is not None]
    if len(known) < len(right):
        return dict.fromkeys(sizes)
    return {k: pass_at(k, n=len(rows), right=sum(value > 0 for value in known)) for k in sizes}


def of_samples(rows: Sequence[Mapping[str, Any]]) -> dict[str, Score]:
    """`pass@k` and, from k = 2, `maj@k` of one example's samples, by the recipe's `correct`."""
    rows = sorted(rows, key=lambda row: int(row["sample"]))
    passed = pass_curve(rows)
    known = [row["scores"].get("correct") for row in rows]
    if None in passed.values():
        return dict.fromkeys([f"pass@{k}" for k in passed] + [f"maj@{k}" for k in passed if k > 1])
    found: dict[str, Score] = {}
    for k, value in passed.items():
        found[f"pass@{k}"] = value
        if k > 1:
            place = majority_position([row["answer"] for row in rows[:k]])
            found[f"maj@{k}"] = 0.0 if place is None else known[place]
    return found


def judge_agreement(scores: Iterable[Mapping[str, Score]]) -> dict[str, Any]:
    """How far a judge that was asked several times agrees with itself, over the rows that have every verdict.

    `repeats` is how often it was asked. `repeat_sd` is the standard deviation of the mean over the repeats. `flips` is
    the share of rows whose verdicts differ. The last two are `None` with fewer than two repeats or no complete row.
    """
    tables = [{name: score for name, score in row.items() if is_verdict(name)} for row in scores]
    repeats = max(map(len, tables), default=0)
    whole = [list(row.values()) for row in tables if len(row) == repeats and None not in row.values()]
    if repeats < 2 or not whole:
        return {"repeats": repeats, "repeat_sd": None, "flips": None}
    means = [statistics.fmean(score for score in column if score is not None) for column in zip(*whole, strict=True)]
    flips = sum(len(set(row)) > 1 for row in whole) / len(whole)
    return {"repeats": repeats, "repeat_sd": statistics.stdev(means), "flips": flips}
