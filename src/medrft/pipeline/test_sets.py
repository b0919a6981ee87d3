"""The test sets of a run, its own and those of `eval.data`, without the examples whose images cannot be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medrft.errors import StrictError
from medrft.rundir import read_record, write_json
from medrft.types import Example

if TYPE_CHECKING:
    from medrft.pipeline.job import Job


def with_images(job: Job, stage: str) -> dict[str, list[Example]]:
    """The test examples whose images can be opened, by data set; those left out are listed in `data.json` by stage.

    A set that loses all its examples is dropped. Raises `StrictError` for a lost example if the recipe is `strict`.
    """
    from medrft.data.images import header_reason

    tests = job.tests()
    images = dict.fromkeys(path for rows in tests.values() for example in rows for path in example.images)
    bad = {path: reason[0] for path in images if (reason := header_reason(path)) is not None}
    lost = [e for rows in tests.values() for e in rows if any(path in bad for path in e.images)]
    path = job.run.path / "data.json"
    facts = read_record(path)
    before = facts.get("evaluation_left_out", {})
    rows = [{"row": e.id, "reason": next(bad[p] for p in e.images if p in bad)} for e in lost]
    after = {key: value for key, value in {**before, stage: rows}.items() if value}
    if lost and job.recipe.strict:
        raise StrictError(f"{lost[0].id}: {rows[0]['reason']} before the evaluation of {stage}; the recipe is strict")
    if after != before:
        write_json(path, {**facts, "evaluation_left_out": after})
    gone = {example.id for example in lost}
    left = {name: [example for example in rows if example.id not in gone] for name, rows in tests.items()}
    return {name: rows for name, rows in left.items() if rows or not tests[name]}
