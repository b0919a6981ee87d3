"""Reads lmms-eval's output: `{date}_samples_{task}.jsonl` (rows) and `{date}_results.json` beside it (figures).

    {"doc_id": 0, "input": "What modality is this?\\nAnswer the question …", "target": "MRI",
     "filtered_resps": "MRI", "token_counts": [{"output_tokens": 2}],
     "slake_accuracy": {"id": "1", "is_correct": true, …}}

The fields are those of its writer (`loggers/evaluation_tracker.py`) and of its SLAKE task (`tasks/slake/utils.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.evaluation.rescore import foreign
from medrft.evaluation.rescore.foreign import Answered, Figure, Foreign
from medrft.types import LeftOut

NAME = re.compile(r"(?P<date>.*?)_?samples_(?P<task>.+)\.jsonl")
POST = re.compile(r"\n[^\n]*answer[^\n]*\Z", re.IGNORECASE)
"""The last line of a prompt if it says how to answer; it is no part of the question."""
FIXED = {"doc_id", "doc", "input", "target", "resps", "filtered_resps", "token_counts", "doc_hash", "arguments"}
GROUPS = ("answer_type", "modality", "content_type")
"""Fields of a SLAKE record by whose values its metrics are named: `slake_ct_accuracy` counts modality `ct`."""


def read_lmms_eval(path: Path, options: Mapping[str, Any]) -> Foreign:
    """All tasks under `path`: the output folder, or one file of samples."""
    files = [path] if path.is_file() else sorted(path.rglob("*samples_*.jsonl"))
    rows: list[Answered] = []
    left: list[LeftOut] = []
    figures: list[Figure] = []
    notes: list[str] = []
    for file in files:
        match = NAME.fullmatch(file.name)
        task = match["task"] if match else file.stem
        results = file.with_name(f"{match['date']}_results.json") if match else file
        summary = foreign.read_json(results) if results.is_file() and results != file else {}
        limit = _limit(summary, task)
        own = []
        for number, row in foreign.read_lines(file):
            found = _answered(row, task, limit, options)
            if found is None:
                left.append(foreign.left_out(f"{file.name}:{number}", "", "no target or response", row))
            else:
                own.append(found)
        rows += own
        figures += _figures(task, own, summary)
        notes += _cut_off(task, own, limit)
    foreign.needs_rows(rows, path, left, "{date}_samples_{task}.jsonl as lmms-eval writes it with --log_samples")
    return Foreign(
        evaluator="lmms-eval", rows=tuple(rows), figures=tuple(figures), left_out=tuple(left), notes=tuple(notes)
    )


def _limit(summary: Any, task: str) -> int | None:
    """The token limit of a task, where the results hold its configuration."""
    config = foreign.table_of(foreign.table_of(foreign.table_of(summary).get("configs")).get(task))
    limit = foreign.table_of(config.get("generation_kwargs")).get("max_new_tokens")
    return limit if isinstance(limit, int) else None


def _answered(row: Any, task: str, limit: int | None, options: Mapping[str, Any]) -> Answered | None:
    if not isinstance(row, Mapping):
        return None
    # The unfiltered response first: our rules, not a task's filter, are to find the answer in it.
    references, output = foreign.texts_of(row.get("target")), _first(row.get("resps", row.get("filtered_resps")))
    if not references or output is None:
        return None
    doc = foreign.table_of(row.get("doc"))
    prompt = _first(row.get("input")) or ""
    record: Mapping[str, Any] = next(
        (value for key, value in row.items() if key not in FIXED and isinstance(value, Mapping)), {}
    )
    marks = {key: mark for key, value in row.items() if key not in FIXED and (mark := _mark(value)) is not None}
    tokens = _tokens(row.get("token_counts"))
    dataset = str(options.get("dataset") or ("slake" if task.startswith("slake") else task))
    split = foreign.split_of(options.get("split"))
    groups = {str(record.get(key)).replace("-", "") for key in GROUPS if record.get(key)}
    kept = {"modality": record.get("modality"), "question_type": record.get("content_type")}
    return Answered(
        id=f"{dataset}/{split}/{record.get('id') or row.get('doc_id')}",
        dataset=dataset,
        split=split,
        question=foreign.text_of(doc.get("question")) or POST.sub("", prompt).strip(),
        references=references,
        output=output,
        options=foreign.options_of(doc.get("options") or doc.get("choices")) or foreign.options_in(prompt),
        images=foreign.image_ids(doc.get("img_name") or doc.get("image_id")),
        theirs=next(iter(marks.values()), None),
        how=_how(record),
        sets=tuple(metric for metric in marks if _counts(metric, groups)),
        n_tokens=tokens,
        truncated=None if tokens is None or limit is None else tokens >= limit,
        metadata={key: value for key, value in kept.items() if isinstance(value, str) and value},
    )


def _first(value: Any) -> str | None:
    """The first text of a response, which may be nested in lists of any depth."""
    while isinstance(value, list):
        value = value[0] if value else None
    return foreign.text_of(value)


def _mark(value: Any) -> float | None:
    """A metric's value of one row, in [0, 1]."""
    return foreign.mark_of(value.get("is_correct")) if isinstance(value, Mapping) else foreign.mark_of(value)


def _counts(metric: str, groups: set[str]) -> bool:
    """Whether a row counts in a metric: SLAKE's are named by group, all others count every row."""
    match = re.fullmatch(r"slake_(.+)_accuracy", metric)
    return match is None or match[1] in groups


def _how(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """The two texts that its exact match compared, where the row records them."""
    said, wanted = record.get("prediction_normalized"), record.get("target_normalized")
    return ("whole text", f"it compared {said!r} with {wanted!r}") if said is not None else None


def _tokens(counts: Any) -> int | None:
    """Generated tokens of a row."""
    first = counts[0] if isinstance(counts, list) and counts else counts
    found = first.get("output_tokens") if isinstance(first, Mapping) else first
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _figures(task: str, rows: Sequence[Answered], summary: Any) -> Iterator[Figure]:
    """The results file's metrics. One that is not the mean of its rows' marks gets that as a reason."""
    table = foreign.table_of(foreign.table_of(foreign.table_of(summary).get("results")).get(task))
    for name, text in table.items():
        metric = name.partition(",")[0]
        marks = [row.theirs for row in rows if metric in row.sets and row.theirs is not None]
        value = foreign.number_of(text)
        if marks and value is not None:
            mean = sum(marks) / len(marks)
            same = abs(mean - value) < 1e-6
            reason = () if same else (f"not reproduced from its rows: the mean of their marks is {mean:.4f}",)
            yield Figure(dataset=rows[0].dataset, name=name, value=value, rows=metric, reasons=reason)


def _cut_off(task: str, rows: Sequence[Answered], limit: int | None) -> list[str]:
    """A note on how many answers look cut off: those at the token limit.

    Where the limit is not known, those at the largest count of tokens, if several share it and it is at least 8.
    """
    counts = [row.n_tokens for row in rows if row.n_tokens is not None]
    if not counts:
        return []
    reached = sum(count >= (limit or max(counts)) for count in counts)
    if limit is not None:
        return [f"{task}: token limit {limit}: {reached} answers look cut off"] if reached else []
    shared = reached > 1 and max(counts) >= 8
    return (
        [f"{task}: {reached} answers share the largest count of {max(counts)} tokens and may be cut off"]
        if shared
        else []
    )
