"""Scores another evaluator's answers with our scorers: `Answered` rows in, rows of `predictions.jsonl` out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medrft.config import EncoderConfig
from medrft.evaluation.metrics import SCORERS
from medrft.evaluation.rescore.foreign import Answered
from medrft.progress import Advance
from medrft.scorers import build_scorer
from medrft.text import answer_of, infer_kind
from medrft.types import Item, Kind, Score

MORE: dict[Kind, tuple[str, ...]] = {"closed": (), "choice": (), "open": ("clinical", "precision")}
"""Scorers in addition to those of every evaluation, because other evaluators report them."""

ENCODED = ("bertscore", "cosine")
"""Scorers that need the encoder."""

MATCHES: dict[Kind, str] = {"closed": "yes_no_match", "choice": "choice_match", "open": "exact_match"}
"""The scorer that decides whether an answer is right."""

CHUNK = 512


def mark_rows(
    rows: Sequence[Answered], *, encoder: EncoderConfig | None, on_progress: Advance | None = None
) -> list[dict[str, Any]]:
    """Rows of `predictions.jsonl` with our scores; without an encoder, the scores that need one are absent.

    A row with options is `choice`, one whose reference is yes or no is `closed`, and any other is `open`.
    """
    items = [_item(row) for row in rows]
    scores: list[dict[str, Score]] = [{} for _ in items]
    kinds: tuple[Kind, ...] = ("closed", "choice", "open")
    for kind in kinds:
        where = [i for i, item in enumerate(items) if item.kind == kind]
        for name in dict.fromkeys((*SCORERS[kind], *MORE[kind])) if where else ():
            if encoder is None and name in ENCODED:
                continue
            scorer = build_scorer(name, encoder=encoder)
            for start in range(0, len(where), CHUNK):
                part = where[start : start + CHUNK]
                for i, score in zip(part, scorer([items[i] for i in part]), strict=True):
                    scores[i][name] = score
        for i in where:
            scores[i]["correct"] = scores[i][MATCHES[kind]]
            if kind == "open":
                scores[i]["f1"] = scores[i]["rouge1"]  # one number; other evaluators report both names
        if on_progress is not None:
            on_progress(sum(bool(score) for score in scores), len(items))
    return [_row(row, item, score) for row, item, score in zip(rows, items, scores, strict=True)]


def _item(row: Answered) -> Item:
    return Item(
        references=row.references,
        kind=infer_kind(row.references, row.options),
        answer=answer_of(row.output) if row.said is None else row.said,
        question=row.question,
        options=row.options,
        metadata=row.metadata,
    )


def _row(row: Answered, item: Item, scores: dict[str, Score]) -> dict[str, Any]:
    return {
        "id": row.id,
        "dataset": row.dataset,
        "split": row.split,
        "kind": item.kind,
        "images": list(row.images),
        "question": row.question,
        "references": list(row.references),
        "options": list(row.options),
        "sample": row.sample,
        "temperature": 0.0,
        "control": "none",
        "prediction": row.output,
        "answer": item.answer,
        "truncated": row.truncated,
        "n_tokens": row.n_tokens,
        "scores": dict(sorted(scores.items())),
        "theirs": row.theirs,
        "metadata": dict(row.metadata),
    }
