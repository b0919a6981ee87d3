"""Which columns of a row hold the reference and the model's answer, whatever its writer called them.

    {"reference": "no", "answer": "No."}        the answer is the model's
    {"answer": "no", "prediction": "No."}       the answer is the reference, for the prediction is the model's
    {"Question": …, "GT": "no", "Response": …}

One mapping for `medrft score`, `rescore` and `audit --predictions`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medrft.errors import DataError

REFERENCES = (
    *("reference", "references", "target", "ground_truth", "gt", "gt_answer", "gold", "gold_answer", "solution"),
    *("correct_answer", "label"),
)
SAID = (
    *("prediction", "predictions", "pred", "response", "output", "model_answer", "model_output", "model_response"),
    *("generated_text", "candidate", "completion"),
)
EITHER = ("answer", "answers")
"""The model's beside a reference, else the reference."""
QUESTIONS = ("question", "problem", "query", "prompt")
ANSWERS = (*REFERENCES, *SAID, *EITHER)
COLUMNS = (*ANSWERS, *QUESTIONS)


@dataclass(frozen=True, slots=True)
class AnswerColumns:
    """The columns of a row; `None` for one that was not found."""

    reference: str | None
    said: str | None
    question: str | None


def answer_columns(row: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> AnswerColumns:
    """The columns of a row, by their usual names without case and outer space; `given` are those the user named.

    A column whose cell is null counts as absent.

    >>> answer_columns({"Question": "CT?", "Answer": "yes", "prediction": "Yes."})
    AnswerColumns(reference='Answer', said='prediction', question='Question')
    >>> answer_columns({"reference": "yes", "answer": "Yes."}).said
    'answer'
    """
    there: dict[str, str] = {}
    for name, value in row.items():
        if value is not None:
            there.setdefault(usual_name(str(name)), str(name))
    named = {key: str(column) for key, column in (given or {}).items()}

    def first(names: tuple[str, ...]) -> str | None:
        return next((there[name] for name in names if name in there), None)

    reference, said, either = named.get("reference") or first(REFERENCES), named.get("prediction"), first(EITHER)
    said = said or first(SAID)
    if reference is None and said is not None and said != either:
        reference = either
    elif said is None and reference is not None and reference != either:
        said = either
    return AnswerColumns(reference, said, named.get("question") or first(QUESTIONS))


def usual_name(name: str) -> str:
    """A column's name without case and outer space.

    >>> usual_name(" Ground-Truth ")
    'ground_truth'
    """
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def missing_columns(row: Mapping[str, Any], found: AnswerColumns, where: str, how: str) -> DataError:
    """The error for a row without a reference or an answer of a model: what was looked for, and what the row has."""
    lacking = "reference" if found.reference is None else "model's answer"
    names = REFERENCES if found.reference is None else SAID
    columns = ", ".join(map(str, row)) or "none"
    empty = [str(name) for name, value in row.items() if value is None and usual_name(str(name)) in ANSWERS]
    if empty:
        told = " and ".join(empty)
        return DataError(f"{where}: null in {told}, so there is nothing to compare; its columns: {columns}")
    return DataError(
        f"{where}: no column for the {lacking} (looked for {', '.join(names[:6])}, …); its columns: {columns}; {how}"
    )
