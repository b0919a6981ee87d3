"""Biases of a model's plain answers: towards yes, train's most frequent answer, length, or the place of an option.

Computed from rows of `predictions.jsonl`; the model is not asked again. Intervals are over images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from medrft.evaluation.controls.consistency import read_stance, share_with_interval
from medrft.evaluation.controls.table import FREQUENT_TYPE
from medrft.evaluation.metrics import Row, cluster_of, source_of
from medrft.intervals import paired_difference
from medrft.text import chosen, normalize, yes_no
from medrft.types import KINDS

Figures = dict[str, Any]


def answer_biases(rows: Iterable[Row]) -> Figures:
    """`{yes, prior, length, position}`, each only where there are rows for it; empty without plain answers.

    yes       closed: share of answers that say yes, minus the share of references that do
    prior     open and choice: of the wrong answers, the share that is train's most frequent for the question type,
              among questions whose right answer is another
    length    per kind: words (and tokens) of right and of wrong answers, and of the answer minus the reference
    position  choice: how often each place is chosen, minus how often it is right
    """
    first = [row for row in rows if row["sample"] == 0]
    plain = [row for row in first if source_of(row) == "none"]
    frequent = {row["id"]: row for row in first if row["control"] == FREQUENT_TYPE}
    made = {
        "yes": _yes(plain),
        "prior": _prior(plain, frequent),
        "length": _length(plain),
        "position": _position(plain),
    }
    return {name: figures for name, figures in made.items() if figures}


def _yes(rows: Sequence[Row]) -> Figures:
    """Share of yes among answers and references. An answer that says neither is not a yes, and is `unread`."""
    closed = [row for row in rows if row["kind"] == "closed" and row["references"]]
    if not closed:
        return {}
    answers = [float(yes_no(row["answer"] or "") == "yes") for row in closed]
    references = [float(yes_no(row["references"][0]) == "yes") for row in closed]
    clusters = [cluster_of(row) for row in closed]
    difference = paired_difference(answers, references, clusters=clusters)
    return {
        "answers": sum(answers) / len(closed),
        "references": sum(references) / len(closed),
        "difference": difference.as_json(),
        "unread": sum(yes_no(row["answer"] or "") is None for row in closed),
    }


def _prior(rows: Sequence[Row], frequent: Mapping[str, Row]) -> Figures:
    """Closed questions are left out: a wrong yes/no answer can only be the other word, so it shows no preference."""
    found: Figures = {}
    for kind in KINDS[1:]:
        pairs = [(row, frequent[row["id"]]) for row in rows if row["kind"] == kind and row["id"] in frequent]
        wrong = [
            (row, usual)
            for row, usual in pairs
            if row["scores"].get("correct") == 0 and usual["scores"].get("correct") == 0
        ]
        if wrong:
            hits = [
                float(read_stance(row) is not None and read_stance(row) == read_stance(usual)) for row, usual in wrong
            ]
            found[kind] = share_with_interval(hits, [cluster_of(row) for row, _ in wrong])
    return found


def _length(rows: Sequence[Row]) -> Figures:
    found: Figures = {}
    for kind in KINDS:
        some = [row for row in rows if row["kind"] == kind and row["references"]]
        sorts = {
            name: [row for row in some if row["scores"].get("correct") == value]
            for name, value in (("right", 1), ("wrong", 0))
        }
        if some:
            found[kind] = {
                **{name: _mean_lengths(sort) for name, sort in sorts.items()},
                "difference": paired_difference(
                    [_words(row["answer"] or "") for row in some],
                    [_words(row["references"][0]) for row in some],
                    clusters=[cluster_of(row) for row in some],
                ).as_json(),
            }
    return found


def _mean_lengths(rows: Sequence[Row]) -> Figures:
    tokens = [float(row["n_tokens"]) for row in rows if row["n_tokens"] is not None]
    return {
        "n": len(rows),
        "words": _mean([_words(row["answer"] or "") for row in rows]),
        "reference_words": _mean([_words(row["references"][0]) for row in rows]),
        "tokens": _mean(tokens),
    }


def _position(rows: Sequence[Row]) -> list[Figures]:
    """One entry per place, over the questions with that many options. An unreadable answer chooses no place."""
    choices = [
        (row, place_of(row, row["answer"] or ""), place_of(row, row["references"][0]))
        for row in rows
        if row["kind"] == "choice" and row["options"] and row["references"]
    ]
    most = max((len(row["options"]) for row, _, _ in choices), default=0)
    found = []
    for place in range(min(most, len(ascii_uppercase))):
        some = [(a, b, cluster_of(row)) for row, a, b in choices if len(row["options"]) > place]
        picked, right = ([float(pair[i] == place) for pair in some] for i in (0, 1))
        clusters = [cluster for _, _, cluster in some]
        difference = paired_difference(picked, right, clusters=clusters)
        found.append(
            {
                "letter": ascii_uppercase[place],
                "chosen": sum(picked) / len(some),
                "right": sum(right) / len(some),
                "difference": difference.as_json(),
            }
        )
    return found


def place_of(row: Row, answer: str) -> int | None:
    """The place of the option that an answer chooses, from 0; `None` if it chooses none or one that is listed twice.

    >>> place_of({"options": ["CT", "MRI"]}, "(B)"), place_of({"options": ["CT", "MRI"]}, "PET")
    (1, None)
    """
    options = tuple(row["options"])
    text = chosen(answer, options)
    places = [i for i, option in enumerate(options) if text is not None and chosen(option, options) == text]
    return places[0] if len(places) == 1 else None


def _words(text: str) -> float:
    return float(len(normalize(text).split()))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
