"""From the completions and columns that a trainer passes to the items that scorers see.

completions  "…<answer>no</answer>"  or  [{"role": "assistant", "content": "…"}]
columns      {"solution": ["no", …], "question": ["Is there a fracture?", …], "options": [["CT", "MRI"], …], …}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from medrft.errors import DataError, RecipeError, unknown_name
from medrft.rewards.contracts import FIELDS, USUAL_COLUMNS
from medrft.rewards.rows import read_row
from medrft.types import Form, Item

Columns = Mapping[str, Sequence[Any]]


def items_of(
    completions: Sequence[Any],
    columns: Columns,
    *,
    form: Form = "think",
    names: Mapping[str, str] | None = None,
    n_tokens: Sequence[int] | None = None,
    max_tokens: int | None = None,
) -> list[Item]:
    """One item per completion, with its answer extracted in `form`; `<think>` may have been opened in the prompt.

    `completions` are strings, or lists of messages whose last one counts. `names` maps references, question, options
    or kind to a column whose name is not a usual one (`{"references": "gold"}`). All other columns become the items'
    metadata. Raises `DataError` for a column of another length, or if no column has references.
    """
    held = _held(columns, names or {})
    for name, column in columns.items():
        if len(column) != len(completions):
            raise DataError(f"column {name!r} has {len(column)} rows for {len(completions)} completions")
    others = [name for name in columns if name not in held.values()]
    made = []
    for i, completion in enumerate(completions):
        row: dict[str, Any] = {"completion": text_of(completion), "form": form, "max_tokens": max_tokens}
        row |= {key: _value(columns[name][i], key) for key, name in held.items()}
        row["reference"] = row.pop("references")
        row["n_tokens"] = None if n_tokens is None else n_tokens[i]
        row["metadata"] = {name: columns[name][i] for name in others}
        made.append(read_row(row, where=f"completion {i}").item)
    return made


def item_of_fields(completion: Any, fields: Mapping[str, Any], *, form: Form, n_tokens: int | None = None) -> Item:
    """The item of one completion, for trainers that score one row a call; `fields` are one value per column.

    Raises `DataError` as `items_of` does.
    """
    columns = {name: [value] for name, value in fields.items()}
    return items_of([completion], columns, form=form, n_tokens=None if n_tokens is None else [n_tokens])[0]


def text_of(completion: Any) -> str:
    """The text of a completion: itself, or the content of its last message (text blocks joined).

    >>> text_of([{"role": "assistant", "content": [{"type": "text", "text": "<answer>no</answer>"}]}])
    '<answer>no</answer>'
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Mapping):
        content = completion.get("content")
        if isinstance(content, list | tuple):
            return "".join(str(block.get("text", "")) for block in content if isinstance(block, Mapping))
        return content if isinstance(content, str) else ""
    if isinstance(completion, list | tuple):
        return text_of(completion[-1]) if completion else ""
    raise DataError(f"a completion is a string or a list of messages, got {type(completion).__name__}")


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a label that is one cell of a data set: plain text is the reference, a JSON object has fields.

    >>> fields_of("no"), fields_of('{"reference": ["CT", "computed tomography"], "kind": "open"}')
    ({'reference': 'no'}, {'reference': ['CT', 'computed tomography'], 'kind': 'open'})
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return {"reference": value}
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {"reference": value}


def _held(columns: Columns, names: Mapping[str, str]) -> dict[str, str]:
    """Field -> the column that holds it."""
    for field, name in names.items():
        if field not in FIELDS:
            raise unknown_name("field", field, FIELDS)
        if name not in columns:
            raise RecipeError(f"columns: {field} is said to be in {name!r}, but the data set has {_listed(columns)}")
    held = dict(names)
    for name, field in USUAL_COLUMNS.items():
        if name in columns and field not in held:
            held[field] = name
    if "references" not in held:
        raise DataError(
            f"no column holds the reference answers; the data set has {_listed(columns)}. Name it: "
            'columns={"references": "<column>"}'
        )
    return held


def _listed(columns: Columns) -> str:
    return ", ".join(columns) or "no columns"


def _value(value: Any, key: str) -> Any:
    """A cell as plain Python: arrays, tuples and lists in JSON become lists; an empty option list becomes `None`."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, tuple):
        value = list(value)
    if key in ("options", "references") and isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return value
    return None if key in ("options", "kind", "question") and value in ("", []) else value
