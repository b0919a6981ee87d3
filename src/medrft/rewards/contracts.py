"""What each trainer passes to a reward and what it expects back; the audit and the adapters both read it here.

    trl       completions, columns of the data set -> a number or None each           many rows, a process's own
    verl      solution_str, ground_truth, extra_info -> a dict of numbers             one row
    swift     completions, columns of the data set -> a number or None each           many rows
    openrlhf  queries (prompt and completion), prompts, labels -> tensors             one row
    easyr1    response, ground_truth of each row -> dicts of numbers                  many rows
    verifiers a trace with its task's data -> a number                                one row

From the source code of the versions named below; the tests of `make integrations` call the trainers' own code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Contract:
    """How one trainer calls a reward."""

    version: str
    """The version whose source was read."""
    rows: Literal["batch", "single"]
    """Whether one call holds the rows of several completions or of one alone."""
    audited: bool = True
    """Whether `medrft audit --style` calls a reward this way."""


CONTRACTS: dict[str, Contract] = {
    "trl": Contract(version="1.16.0", rows="batch"),
    "verl": Contract(version="0.9.1", rows="single"),
    "swift": Contract(version="4.6.0", rows="batch"),
    "openrlhf": Contract(version="0.11.2", rows="single"),
    "easyr1": Contract(version="0.3.2", rows="batch", audited=False),
    "verifiers": Contract(version="0.4.0", rows="single", audited=False),
}

FIELDS = ("references", "question", "options", "kind")
"""Our fields that a column of somebody else's data set may hold."""
USUAL_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("references", "answers"), "references"),
    **dict.fromkeys(("reference", "solution", "ground_truth", "gt", "label", "target", "answer"), "references"),
    **dict.fromkeys(("question", "problem", "query"), "question"),
    **{"options": "options", "choices": "options", "kind": "kind"},
}
"""Column name -> our field, for names that are found without being given, in the order of search."""
