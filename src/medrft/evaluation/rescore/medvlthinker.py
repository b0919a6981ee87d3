"""Reads MedVLThinker's output: `shards/dp_{rank}.jsonl`, one question a line with all its rollouts.

    {"dataset_name": "PMC_VQA", "dataset_index": 7, "prompts": "…", "answer_label": "B", "answer": "MRI",
     "parsed_outputs": [{"output_text": "<think>…</think><answer>B</answer>", "pred_letter": "B", "is_correct": true}],
     "num_rollouts": 1, "num_correct": 1}

Options are read from the row or from the prompt. Where neither lists any, only letters can be matched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from medrft.evaluation.rescore import foreign
from medrft.evaluation.rescore.foreign import Answered, Figure, Foreign
from medrft.types import LeftOut

LETTERS = tuple(ascii_uppercase[:10])


def read_medvlthinker(path: Path, options: Mapping[str, Any]) -> Foreign:
    """All shards under `path`: the output folder, its `shards`, or one file."""
    files = [path] if path.is_file() else sorted({*path.glob("dp_*.jsonl"), *path.rglob("shards/dp_*.jsonl")})
    rows: list[Answered] = []
    left: list[LeftOut] = []
    lettered = unequal = 0
    for file in files:
        for number, row in foreign.read_lines(file):
            found = list(_answers(row, options)) if isinstance(row, Mapping) else []
            if not found:
                left.append(foreign.left_out(f"{file.name}:{number}", "", "no prompt, answer or output", row))
                continue
            lettered += found[0].options == LETTERS
            unequal += row.get("num_correct") != sum(bool(one.theirs) for one in found)
            rows += found
    foreign.needs_rows(rows, path, left, "shards/dp_{rank}.jsonl as MedVLThinker writes them")
    notes = [f"{lettered} prompts list no options: only letters can be matched"] if lettered else []
    notes += [f"{unequal} rows have a num_correct that is not the sum of their is_correct"] if unequal else []
    return Foreign(
        evaluator="medvlthinker", rows=tuple(rows), figures=_figures(rows), left_out=tuple(left), notes=tuple(notes)
    )


def _answers(row: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[Answered]:
    """One answer per rollout; none where the row lacks outputs, reference or prompt."""
    outputs = row.get("parsed_outputs")
    reference = foreign.text_of(row.get("answer_label")) or foreign.text_of(row.get("answer"))
    prompt = _prompt(row.get("prompts"))
    if not isinstance(outputs, list) or not reference or not prompt:
        return
    choices = foreign.options_of(row.get("options")) or foreign.options_in(prompt) or LETTERS
    dataset = str(options.get("dataset") or row.get("dataset_name") or "medvlthinker")
    split = foreign.split_of(options.get("split"))
    for sample, output in enumerate(outputs):
        text = foreign.text_of(output.get("output_text")) if isinstance(output, Mapping) else None
        if text is None:
            continue
        letter = output.get("pred_letter")
        yield Answered(
            id=f"{dataset}/{split}/{row.get('dataset_index', row.get('dp_index'))}",
            dataset=dataset,
            split=split,
            question=prompt.split("\n")[0].strip(),
            references=(reference,),
            output=text,
            options=choices,
            images=foreign.image_ids(row.get("images")),
            sample=sample,
            theirs=foreign.mark_of(output.get("is_correct")),
            how=("letter", f"its letter is {letter}"),
        )


def _prompt(prompts: Any) -> str:
    """The text of a prompt: a string, messages, or a list of either."""
    if isinstance(prompts, str):
        return prompts.strip()
    if isinstance(prompts, Mapping):
        return _prompt(prompts.get("content") if "content" in prompts else prompts.get("text"))
    if isinstance(prompts, list):
        users = [part for part in prompts if not (isinstance(part, Mapping) and part.get("role") == "system")]
        return "\n".join(text for part in users if (text := _prompt(part)))
    return "" if prompts is None else json.dumps(prompts)


def _figures(rows: Sequence[Answered]) -> tuple[Figure, ...]:
    """Its accuracy per data set: the share of rollouts that it marks right, which its summary prints."""
    found = []
    for dataset in sorted({row.dataset for row in rows}):
        marks = [row.theirs for row in rows if row.dataset == dataset and row.theirs is not None]
        if marks:
            found.append(Figure(dataset=dataset, name="accuracy", value=sum(marks) / len(marks), rows=""))
    return tuple(found)
