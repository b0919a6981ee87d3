"""Reads inspect-ai's logs: `*.eval`, a zip of JSON files, or `*.json`, the same as one document.

    header.json                  {"eval": {"task": "inspect_evals/vqa_rad", "model": …}, "results": {"scores": […]}}
    samples/{id}_epoch_1.json    {"id": …, "epoch": 1, "input": …, "choices": [], "target": "yes",
                                  "output": {"choices": [{"message": {"content": …}, "stop_reason": "stop"}]},
                                  "scores": {"match": {"value": "C", "answer": "yes", "explanation": …}}}

The fields are those of its `EvalLog` and `EvalSample`. An epoch is one sample of a question. Where a completion has one
`ANSWER:` line, as inspect's own prompts ask for, what follows on that line is the answer.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from medrft.errors import DataError, naming_extras
from medrft.evaluation.rescore import foreign
from medrft.evaluation.rescore.foreign import Answered, Figure, Foreign
from medrft.types import LeftOut

MARKS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Its letters for correct, partially correct, incorrect and no answer, as numbers by its own `value_to_float`."""
LINE = re.compile(r"^[ \t]*ANSWER[ \t]*:[ \t]*(\S.*?)[ \t]*$", re.IGNORECASE | re.MULTILINE)
MEANS = ("accuracy", "mean")
"""Its metrics that are means of marks; others, such as standard errors, have no figure of ours beside them."""
CUT = ("max_tokens", "model_length")
ZSTD = 93
"""The compression of its newer logs."""
LARGEST = 1 << 28
"""Most bytes of one file within a log."""


def read_inspect(path: Path, options: Mapping[str, Any]) -> Foreign:
    """All logs under `path`: the folder that holds them, or one file."""
    files = [path] if path.is_file() else sorted([*path.rglob("*.eval"), *path.rglob("*.json")])
    rows: list[Answered] = []
    left: list[LeftOut] = []
    figures: list[Figure] = []
    notes: list[str] = []
    for file in files:
        header, samples = _log(file)
        if not isinstance(header.get("eval"), Mapping):
            continue  # a folder may hold other JSON beside the logs
        dataset = str(options.get("dataset") or _task(header))
        own = []
        for name, sample in samples:
            found = _answered(sample, dataset, options)
            if isinstance(found, Answered):
                own.append(found)
            else:
                left.append(foreign.left_out(f"{file.name}:{name}", "", found, sample))
        rows += own
        figures += _figures(dataset, own, header)
        notes += _notes(file, own, header)
    foreign.needs_rows(rows, path, left, "a log of inspect-ai, NAME.eval or NAME.json")
    return Foreign(
        evaluator="inspect-ai", rows=tuple(rows), figures=tuple(figures), left_out=tuple(left), notes=tuple(notes)
    )


def _log(file: Path) -> tuple[Mapping[str, Any], list[tuple[str, Any]]]:
    """A log's header, and its samples by name."""
    if file.suffix != ".eval":
        table = foreign.table_of(foreign.read_json(file))
        samples = table.get("samples")
        numbered = enumerate(samples if isinstance(samples, list) else [])
        return table, [(str(number), sample) for number, sample in numbered]
    try:
        with zipfile.ZipFile(file) as log:
            names = log.namelist()
            # A log that was cut off has no header yet, but what it began with.
            start = next((name for name in ("header.json", "_journal/start.json") if name in names), None)
            header = foreign.table_of(_member(log, start)) if start else {}
            samples = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
            return header, [(name.removeprefix("samples/"), _member(log, name)) for name in samples]
    except (zipfile.BadZipFile, OSError, EOFError, struct.error) as error:
        raise DataError(f"{file} is no log of inspect-ai: {error}") from error


def _member(log: zipfile.ZipFile, name: str) -> Any:
    """The JSON of one file in a log; `None` where it is none."""
    facts = log.getinfo(name)
    read = _zstd(log, facts) if facts.compress_type == ZSTD else log.open(facts)
    with read as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise DataError(f"{log.filename}: {name} holds more than {LARGEST:,} bytes")
    try:
        return foreign.clean_texts(json.loads(text.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None


@naming_extras()
def _zstd(log: zipfile.ZipFile, facts: zipfile.ZipInfo) -> IO[bytes]:
    """A file of a log that is compressed by Zstandard, which zipfile can read from Python 3.14 on only."""
    import pyarrow as pa

    assert log.fp is not None
    log.fp.seek(facts.header_offset)
    # The local header: 30 bytes, of which the last four are the lengths of the name and of the extra field after it.
    named, extra = struct.unpack("<HH", log.fp.read(30)[26:])
    log.fp.seek(named + extra, 1)
    packed: IO[bytes] = pa.input_stream(pa.py_buffer(log.fp.read(facts.compress_size)), compression="zstd")
    return packed


def _task(header: Mapping[str, Any]) -> str:
    """The task's name, without the package that it comes from."""
    return str(foreign.table_of(header.get("eval")).get("task") or "inspect").rpartition("/")[2]


def _answered(sample: Any, dataset: str, options: Mapping[str, Any]) -> Answered | str:
    """One sample, or why it is left out."""
    row = foreign.table_of(sample)
    if row.get("error"):
        return "the sample failed"
    output = foreign.table_of(row.get("output"))
    choice = foreign.table_of(next(iter(_list(output.get("choices"))), None))
    said = _text(foreign.table_of(choice.get("message")).get("content"))
    references = foreign.texts_of(row.get("target"))
    question, pictures = _asked(row.get("input"))
    if not said and not choice:
        return "no output"
    if not question or not references:
        return "no question or target"
    facts = foreign.table_of(row.get("metadata"))
    name, score = _score(row)
    split = foreign.split_of(options.get("split"))
    epoch = row.get("epoch")
    tokens = foreign.table_of(output.get("usage")).get("output_tokens")
    lines = LINE.findall(said)
    return Answered(
        id=f"{dataset}/{split}/{row.get('id')}",
        dataset=dataset,
        split=split,
        question=question,
        references=references,
        output=said,
        said=lines[0] if len(lines) == 1 else None,
        options=foreign.options_of(row.get("choices")),
        images=foreign.image_ids(pictures) if pictures else (),
        sample=epoch - 1 if isinstance(epoch, int) and epoch > 0 else 0,
        theirs=_mark(score.get("value")),
        how=_how(name, score, references),
        n_tokens=tokens if isinstance(tokens, int) else None,
        truncated=choice.get("stop_reason") in CUT,
        sets=_groups(facts),
        metadata={key: value for key, value in facts.items() if isinstance(value, str) and value},
    )


def _asked(value: Any) -> tuple[str, list[str]]:
    """The question and the pictures of a sample: a text, or messages of which the user's count."""
    if isinstance(value, str):
        return value.strip(), []
    messages = [foreign.table_of(one) for one in _list(value)]
    asked = [one.get("content") for one in messages if one.get("role") == "user"]
    pieces = [foreign.table_of(piece) for content in asked for piece in _list(content)]
    pictures = [str(piece.get("image")) for piece in pieces if piece.get("type") == "image"]
    return "\n".join(filter(None, map(_text, asked))).strip(), pictures


def _text(content: Any) -> str:
    """The text of a message's content, reasoning and pictures left out."""
    if isinstance(content, str):
        return content
    pieces = [foreign.table_of(piece) for piece in _list(content)]
    return "\n".join(str(piece.get("text") or "") for piece in pieces if piece.get("type") == "text").strip()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _score(row: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The first score of a sample with its scorer's name."""
    scores = foreign.table_of(row.get("scores"))
    name = next(iter(scores), "")
    return name, foreign.table_of(scores.get(name))


def _mark(value: Any) -> float | None:
    return MARKS.get(value) if isinstance(value, str) else foreign.mark_of(value)


def _how(name: str, score: Mapping[str, Any], references: Sequence[str]) -> tuple[str, str] | None:
    """What its scorer read as the answer, where the log says it."""
    if name == "includes" and _mark(score.get("value")) == 1:
        return "substring match", f"it asks only that {references[0]!r} stands somewhere in the text"
    answer = foreign.text_of(score.get("answer"))
    if answer is not None:
        return "read", f"{name} read {answer[:80]!r}"
    said = foreign.text_of(score.get("explanation"))
    return ("read", f"{name}: {' '.join(said.split())[:80]}") if said else None


def _groups(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The groups that a sample counts in, by its metadata; inspect's grouped metrics are named by their values."""
    return tuple(dict.fromkeys(value for value in facts.values() if isinstance(value, str) and value))


def _figures(dataset: str, rows: Sequence[Answered], header: Mapping[str, Any]) -> Iterator[Figure]:
    """The log's metrics that are means of marks, of its first scorer; grouped ones over their group."""
    results = foreign.table_of(header.get("results"))
    first = foreign.table_of(next(iter(_list(results.get("scores"))), None))
    known = {group for row in rows for group in row.sets}
    for key, metric in foreign.table_of(first.get("metrics")).items():
        table = foreign.table_of(metric)
        value, name = foreign.number_of(table.get("value")), str(table.get("name") or key).rpartition("/")[2]
        group = key if key in known else ""
        if value is None or not rows or not (group or key == "all" or name in MEANS):
            continue
        marks = [row.theirs for row in rows if row.theirs is not None and (not group or group in row.sets)]
        mean = sum(marks) / len(marks) if marks else None
        same = mean is not None and abs(mean - value) < 1e-6
        told = "no row has a mark" if mean is None else f"the mean of their marks is {mean:.4f}"
        reasons = () if same else (f"not reproduced from its rows: {told}",)
        shown = f"{first.get('name') or 'score'} {key}"
        yield Figure(dataset=dataset, name=shown, value=value, rows=group, reasons=reasons)


def _notes(file: Path, rows: Sequence[Answered], header: Mapping[str, Any]) -> list[str]:
    status = header.get("status")
    found = [f"{file.name}: its status is {status}; it may lack samples"] if status not in (None, "success") else []
    several = len(_list(foreign.table_of(header.get("results")).get("scores")))
    found += [f"{file.name}: {several} scorers; marks are those of the first"] if several > 1 else []
    lines = sum(row.said is not None for row in rows)
    return found + ([f"{file.name}: {lines} answers are read from their ANSWER: line"] if lines else [])
