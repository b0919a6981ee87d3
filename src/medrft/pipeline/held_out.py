"""The test sets of a run: its own, those of `eval.data`, and the examples of them whose images are still there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from medrft.errors import DataError, RecipeError, StrictError
from medrft.rundir import read_record, write_json
from medrft.types import Example

if TYPE_CHECKING:
    from medrft.config import Recipe
    from medrft.data.base import Loaded
    from medrft.pipeline.job import Job


def by_dataset(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Examples by their data set."""
    sets: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        sets[example.dataset].append(example)
    return dict(sets)


def load_tests(recipe: Recipe, data: Loaded, *, on_progress: Callable[[int, int], None]) -> tuple[Loaded, ...]:
    """The data sets of `eval.data`, their test split alone.

    Raises `DataError` for one without test rows, `RecipeError` for a name that two test sets would share.
    """
    from medrft.data import not_empty, read_data

    found: list[Loaded] = []
    taken = {example.dataset for example in data.split("test")}
    for source in recipe.eval.data:
        other = read_data(source.name, source.root, seed=recipe.seed, options=source.options, on_progress=on_progress)
        other = only_test(not_empty(other))
        names = {example.dataset for example in other.examples}
        if not names:
            raise DataError(f"eval.data: {source.name} at {source.root} has no test rows")
        if names & taken:
            raise RecipeError(
                f"eval.data: {', '.join(sorted(names & taken))} is evaluated already; leave one out, or give a table "
                "a name of its own (dataset=NAME)"
            )
        taken |= names
        found.append(other)
    return tuple(found)


def only_test(loaded: Loaded) -> Loaded:
    """A data set with its test examples alone; its report stays that of the whole."""
    return replace(loaded, examples=loaded.split("test"))


def with_images(job: Job, stage: str) -> dict[str, list[Example]]:
    """The test examples by data set whose images can still be opened; what was left out is written down."""
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
