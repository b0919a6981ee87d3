"""Writes numbers and names for people: shares as percent, differences as points, everything else in a few digits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LABELS: dict[str, str] = {
    "truth": "oracle accuracy",
    "in_grammar": "readable by the oracle",
    "looks": "looks first",
    "bleu1": "BLEU-1",
    "rouge1": "ROUGE-1",
    "bertscore": "BERTScore",
    "average": "papers' average",
    "frequency": "frequency of the right answer in train",
    "answer_format": "format",
    "truncated": "cut off",
    "n_tokens": "tokens",
    "none": "greedy",
}
"""Key of a metric or part -> its name for people, if the key with spaces would not do."""

NONE = "–"
MINUS = "−"


def metric_label(name: str) -> str:
    """A metric's or part's name for people.

    >>> metric_label("bleu1"), metric_label("exact_match")
    ('BLEU-1', 'exact match')
    """
    return LABELS.get(name, name.replace("_", " "))


def outcome_label(where: Mapping[str, Any]) -> str:
    """What was measured: data set, kind of question, metric, and whether it is that of sampled answers.

    >>> outcome_label({"dataset": "slake", "kind": "open", "metric": "exact_match", "source": "none"})
    'slake, open, exact match'
    >>> outcome_label({"dataset": "phantom", "kind": "all", "metric": "truth", "source": "sampled"})
    'phantom, all, oracle accuracy of sampled answers'
    """
    of = " of sampled answers" if where["source"] == "sampled" else ""
    return f"{where['dataset']}, {where['kind']}, {metric_label(where['metric'])}{of}"


def plain_number(value: float | None) -> str:
    """A number in three or four digits.

    >>> [plain_number(x) for x in (0.12345, 12.5, 118, 1250.0, 0, -0.5, 3e-7, None)]
    ['0.123', '12.5', '118', '1,250', '0', '−0.5', '3e−07', '–']
    """
    if value is None:
        return NONE
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e7:
        return f"{value:.2g}".replace("-", MINUS)
    if size >= 1000:
        return f"{value:,.0f}".replace("-", MINUS)
    digits = 3 if size < 1 else 2 if size < 10 else 1
    return f"{value:.{digits}f}".rstrip("0").rstrip(".").replace("-", MINUS)


def plain_percent(value: float | None) -> str:
    """A share in percent with one digit, without the sign.

    >>> plain_percent(0.6125), plain_percent(None)
    ('61.3', '–')
    """
    return NONE if value is None else f"{100 * value:.1f}"


def whole_percent(value: float | None) -> str:
    """A share in whole percent, with the sign.

    >>> whole_percent(0.6125), whole_percent(-0.02), whole_percent(-0.002), whole_percent(None)
    ('61 %', '−2 %', '0 %', '–')
    """
    return NONE if value is None else f"{round(100 * value)} %".replace("-", MINUS)


def percent_share(value: float) -> str:
    """A share with the percent sign, and a digit after the point only if it is not 0.

    >>> percent_share(0.5), percent_share(0.055), percent_share(0.0)
    ('50 %', '5.5 %', '0 %')
    """
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def percent_points(value: float | None) -> str:
    """A difference of shares in percentage points, signed.

    >>> percent_points(0.032), percent_points(-0.01), percent_points(0.0)
    ('+3.2', '−1.0', '±0.0')
    """
    if value is None:
        return NONE
    text = f"{100 * abs(value):.1f}"
    return f"±{text}" if text == "0.0" else f"{'+' if value > 0 else MINUS}{text}"


def signed_number(value: float | None) -> str:
    """A difference in three or four digits, signed.

    >>> signed_number(2.5), signed_number(-0.25), signed_number(0.0)
    ('+2.5', '−0.25', '±0')
    """
    if value is None:
        return NONE
    return f"{'±' if value == 0 else '+' if value > 0 else ''}{plain_number(value)}"


def split_words(name: str) -> str:
    """An identifier as people read it.

    >>> split_words("hackable:both_yes_and_no")
    'hackable: both yes and no'
    """
    return name.replace("_", " ").replace(":", ": ")


COUNTED = re.compile(r"([\d,]+) (?:of|as copies|nearly so)\b")


def tells_nothing(note: str) -> bool:
    """Whether a note on leaks counts, and counts nothing but zeros.

    >>> tells_nothing("0 of 66 images of test are in train with the same pixels, 0 as copies"), tells_nothing("3 of 66")
    (True, False)
    """
    counts = COUNTED.findall(note)
    return bool(counts) and all(count == "0" for count in counts)
