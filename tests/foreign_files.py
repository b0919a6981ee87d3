"""Files as MedEvalKit's code writes them at 9b12e3b, with `use_llm_judge=True` and a judge that knows the truth.

Only how the code adds up is repeated here, line by line of its `cal_metrics`, so that the tests' figures are its own.
"""

from __future__ import annotations

import json
from pathlib import Path

ROWS = [
    {"question": "Is there a nodule?", "answer": "Yes", "answer_type": "CLOSED", "lang": "en"},
    {"question": "Which side is the mass on?", "answer": "Left", "answer_type": "CLOSED", "lang": "en"},
    {"question": "What is the abnormality?", "answer": "pleural effusion", "answer_type": "OPEN", "lang": "en"},
]
PATH_ROWS = [
    {"question": "is this a tumour?", "answer": "yes"},
    {"question": "is this benign?", "answer": "no"},
    {"question": "what is shown?", "answer": "a granuloma"},
]
NAMES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge1", "rouge2", "rougel", "precision", "recall", "f1", "em")


def metrics_of(total: int, right: int, n_open: int, open_right: float, n_closed: int, closed_right: int, **sums: float):
    open_ = {"total": n_open, "right": open_right, **dict.fromkeys(NAMES, 0.0), **sums}
    open_["acc"] = open_["right"] / open_["total"]
    for name in [*NAMES, "acc"]:  # acc is in the table by then, so it is divided again
        open_[name] = open_[name] / open_["total"]
    return {
        "total metrics": {"total": total, "right": right, "acc": right / total},
        "open": open_,
        "close": {"total": n_closed, "right": closed_right, "acc": closed_right / n_closed},
    }


def perfect(root: Path) -> Path:
    """Both data sets answered by their references: 1.667 on SLAKE, 0.333 on PATH_VQA."""
    ones = {**dict.fromkeys(NAMES, 1.0), "em": True}
    for name, rows in (("SLAKE", ROWS), ("PATH_VQA", PATH_ROWS)):
        made = [{**row, "response": row["answer"], "correct": True, "prompt": row["question"]} for row in rows]
        made[2]["metrics"] = ones
        write(root / name / "results.json", made)
    # SLAKE: total starts from the closed ones right by rule, then every right verdict of the judge is added
    write(root / "SLAKE" / "metrics.json", metrics_of(3, 2 + 3, 1, 1, 2, 2 + 2, **dict.fromkeys(NAMES, 1.0)))
    # PATH_VQA: all counts are put back to 0, then only the open ones are judged
    write(root / "PATH_VQA" / "metrics.json", metrics_of(3, 1, 1, 1, 2, 0, **dict.fromkeys(NAMES, 1.0)))
    return root


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False), encoding="utf-8")
    return path


def write_lines(path: Path, rows: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
