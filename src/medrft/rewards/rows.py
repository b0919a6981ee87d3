"""The rows of `medrft score`: from an input row to an item, and from an outcome to the columns that are written.

    {"reference": "no", "answer": "No."}
    {"reference": ["CT", "computed tomography"], "completion": "<think>…</think><answer>CT</answer>", "group": 3}

`answer` is the answer itself, and parts about the form do not apply. From a `completion` the answer is extracted. Rows
of others, such as `{"answer": "no", "prediction": "No."}`, are read by the names in `answer_columns`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from medrft.errors import DataError, unknown_name
from medrft.rewards.answer_columns import COLUMNS, answer_columns, missing_columns
from medrft.text import answer_of, extract, infer_kind
from medrft.types import KINDS, Form, Item, Kind, Outcome

FORMS: tuple[Form, ...] = ("think", "direct", "short")

FIELDS = (
    *dict.fromkeys(("reference", "answer", "completion", "question", "kind", "options", "group", *COLUMNS)),
    *("n_tokens", "max_tokens", "truncated", "form", "metadata"),
)
"""The keys of a row that are read here."""


@dataclass(frozen=True, slots=True)
class Row:
    """One input row that was read."""

    item: Item
    group: str | int | None


def read_row(row: Mapping[str, Any], *, where: str, form: Form = "think") -> Row:
    """The item and group of a row; `where` names the row in errors. Raises `DataError` or `UnknownNameError`."""
    row = _usual(row, where)
    references = _texts(row.get("reference"), "reference", where, needed=True)
    options = _texts(row.get("options"), "options", where)
    kind = row.get("kind") or infer_kind(references, options)
    if kind not in KINDS:
        raise unknown_name(f"kind in {where}", str(kind), KINDS)
    own_form = row.get("form") or form
    if own_form not in FORMS:
        raise unknown_name(f"form in {where}", str(own_form), FORMS)
    completion, answer = _text(row.get("completion"), "completion", where), _text(row.get("answer"), "answer", where)
    found = extract(completion, cast(Form, own_form)) if completion is not None else None
    n_tokens, max_tokens = (_count(row.get(key), key, where) for key in ("n_tokens", "max_tokens"))
    item = Item(
        references=references,
        kind=cast(Kind, kind),
        answer=found.answer if answer is None and found is not None else answer,
        completion=completion,
        thinking=found.thinking if found else None,
        form=cast(Form, own_form) if found else None,
        question=_text(row.get("question"), "question", where),
        options=options,
        n_tokens=n_tokens,
        max_tokens=max_tokens,
        truncated=_typed(row.get("truncated"), bool, "truncated", "true or false", where),
        metadata=_typed(row.get("metadata"), dict, "metadata", "an object", where) or {},
    )
    return Row(item, _typed(row.get("group"), (str, int), "group", "a text or a whole number", where))


def _usual(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The row under our names; the answer in a prediction of others is read whatever its form."""
    if "reference" in row and ("answer" in row or "completion" in row):
        return row
    found = answer_columns(row)
    if found.reference is None or found.said is None:
        raise missing_columns(row, found, where, "rename them to reference and answer")
    more: dict[str, Any] = {"reference": row[found.reference]}
    said = _text(row[found.said], found.said, where)
    if found.said == "completion":
        more["completion"] = said
    else:
        more["answer"] = answer_of(said or "")
    if found.question is not None and "question" not in row:
        more["question"] = row[found.question] if isinstance(row[found.question], str) else None
    kept = {key: value for key, value in row.items() if key in FIELDS and key not in ("answer", "completion")}
    return {**kept, **more}


def reward_columns(outcome: Outcome, weights: Mapping[str, float]) -> dict[str, Any]:
    """The columns that a reward adds to a row."""
    parts = {
        name: {
            "raw": outcome.raw[name],
            "calibrated": outcome.calibrated[name],
            "weight": weights[name],
            "applicable": outcome.applicable[name],
        }
        for name in outcome.raw
    }
    more = {"gate": outcome.gate, "reference_used": outcome.reference, "unscored_reason": outcome.unscored_reason}
    kept = {key: value for key, value in more.items() if value is not None}
    return {"scores": dict(outcome.raw), "reward": outcome.reward, "parts": parts, **kept}


def _texts(value: Any, key: str, where: str, *, needed: bool = False) -> tuple[str, ...]:
    """A string or a list of strings as a tuple; numbers become text."""
    if not needed and (value is None or value == []):  # a table has an empty list where a line of JSON has no key
        return ()
    values = value if isinstance(value, list) else [value]
    texts = [str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for v in values]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: `{key}` is a string or a list of strings, got {value!r}")
    return tuple(texts)


def _text(value: Any, key: str, where: str) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: `{key}` is a string, got {value!r}")
    return value


def _typed(value: Any, kinds: type | tuple[type, ...], key: str, what: str, where: str) -> Any:
    if value is not None and not isinstance(value, kinds):
        raise DataError(f"{where}: `{key}` is {what}, got {value!r}")
    return value


def _count(value: Any, key: str, where: str) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise DataError(f"{where}: `{key}` is a whole number of tokens, got {value!r}")
    return value
