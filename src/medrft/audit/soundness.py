"""Whether a reward is sound code: a reward and cases go in, what each check measured comes out.

Does it read the answer and the reference? Is it the same twice, in any order, in any batch size? Does it return `None`
for what cannot be scored? How fast is it? `faults` turns the measurements into findings.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medrft.audit.completions import Case, make_case
from medrft.audit.discrimination import describe_answer
from medrft.audit.subject import Own, Scored, Subject, Theirs
from medrft.types import Form, Item, Score

TOLERANCE = 1e-6
SIZES = (250, 1_000, 4_000, 16_000, 64_000)
"""Words of the completions that growth is measured on."""
ROWS = 96


def check_soundness(subject: Subject, cases: Sequence[Case], *, form: Form, seed: int) -> dict[str, Any]:
    """All checks on up to `ROWS` honest cases."""
    rng = random.Random(seed)
    honest = [one for one in cases if one.source in ("right", "wrong")]
    by_example: dict[str, list[Case]] = defaultdict(list)
    for one in honest:
        by_example[one.example.id].append(one)
    chosen = [one for group in by_example.values() for one in group][:ROWS]
    items = [one.item for one in chosen]
    names = [one.group for one in chosen]
    scored = subject.finish(subject.raw(items), names)
    base = scored.total
    known = [value for value in base if value is not None]
    return {
        **answer_dependence(subject, chosen, scored),
        "repeat": _difference(base, _totals(subject, items, names)),
        "order": _shuffled(subject, items, names, base, rng),
        "batch": _in_small_batches(subject, items, names, base),
        "range": [min(known), max(known)] if known else None,
        "outside": _outside(subject, items, names),
        "none": score_of_nothing(subject, _judged(subject, chosen)),
        "speed": measure_speed(subject, items, form=form),
        "not_picklable": subject.why_not_picklable(),
    }


def answer_dependence(subject: Subject, cases: Sequence[Case], scored: Scored) -> dict[str, Any]:
    """Share of questions whose answers all score alike, and of right answers that score the same by another reference.

    The first three of each are kept as evidence: a wrong answer paid like a right one, and an unmoved answer.
    """
    by_example: dict[str, list[int]] = defaultdict(list)
    for i, (value, one) in enumerate(zip(scored.total, cases, strict=True)):
        if value is not None:
            by_example[one.example.id].append(i)
    several = [rows for rows in by_example.values() if len(rows) > 1]
    constant = [rows for rows in several if _width([scored.total[i] for i in rows]) < TOLERANCE]
    swapped = [replace(one.item, references=_other_references(one)) for one in cases]
    after = _totals(subject, swapped, [one.group for one in cases])
    moves = [
        (i, abs(a - b))
        for i, (a, b) in enumerate(zip(scored.total, after, strict=True))
        if a is not None and b is not None and cases[i].right
    ]
    unmoved = [i for i, move in moves if move < TOLERANCE]
    return {
        "same_for_all_answers": len(constant) / len(several) if several else None,
        "same_for_all_references": len(unmoved) / len(moves) if moves else None,
        "questions": len(several),
        "alike": [pair for rows in constant[:3] if (pair := _alike(scored, cases, rows))],
        "unmoved": [describe_answer(scored, cases, i) for i in unmoved[:3]],
    }


def _width(values: Sequence[Score]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known)


def _alike(scored: Scored, cases: Sequence[Case], rows: Sequence[int]) -> dict[str, Any] | None:
    """A wrong and a right answer to one question that earn the same; `None` if either is missing."""
    right, wrong = ([i for i in rows if cases[i].right is truth] for truth in (True, False))
    if not right or not wrong:
        return None
    return {
        "facet": "",
        "gap": 0.0,
        "wrong": describe_answer(scored, cases, wrong[0]),
        "right": describe_answer(scored, cases, right[0]),
    }


def _other_references(one: Case) -> tuple[str, ...]:
    """Another reference, for which the right answer of this case is wrong."""
    if one.example.kind == "closed":
        return ("no" if one.example.references[0].lower().startswith("y") else "yes",)
    if one.example.kind == "choice":
        return tuple(option for option in one.example.options if option not in one.example.references)[:1]
    return ("a metallic clip in the scalp",)


def _totals(subject: Subject, items: Sequence[Item], names: Sequence[str]) -> list[Score]:
    return subject.finish(subject.raw(items), names).total


def _difference(a: Sequence[Score], b: Sequence[Score]) -> dict[str, Any]:
    """Largest difference between two runs, the rows that changed, and those where only one has a score (`lost`)."""
    gaps = [abs(x - y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return {
        "max": max(gaps, default=0.0),
        "changed": sum(gap > TOLERANCE for gap in gaps),
        "lost": sum((x is None) != (y is None) for x, y in zip(a, b, strict=True)),
        "n": len(a),
    }


def _shuffled(
    subject: Subject, items: Sequence[Item], names: Sequence[str], base: Sequence[Score], rng: random.Random
) -> dict[str, Any]:
    order = list(range(len(items)))
    rng.shuffle(order)
    made = _totals(subject, [items[i] for i in order], [names[i] for i in order])
    back: list[Score] = [None] * len(items)
    for place, i in enumerate(order):
        back[i] = made[place]
    return _difference(base, back)


def _in_small_batches(
    subject: Subject, items: Sequence[Item], names: Sequence[str], base: Sequence[Score]
) -> dict[str, Any]:
    """Difference if raw scores come in batches of one and seven; combined all at once, to keep groups whole."""
    raws: list[Any] = []
    sizes = [1, 7]
    start = 0
    while start < len(items):
        size = sizes[len(raws) % 2] if len(raws) < 24 else 7
        raws += subject.raw(items[start : start + size])
        start += size
    return _difference(base, subject.finish(raws, names).total)


def _outside(subject: Subject, items: Sequence[Item], names: Sequence[str]) -> dict[str, list[float]]:
    """Parts whose raw scores leave their declared range, with the range seen; foreign rewards declare none."""
    if not isinstance(subject, Own):
        return {}
    declared = {part.name: part.scorer.range for stack in subject.reward.stacks.values() for part in stack.parts}
    found = {}
    for name, column in subject.finish(subject.raw(items), names).raw.items():
        values = [value for value in column if value is not None]
        low, high = declared[name]
        if values and (min(values) < low - TOLERANCE or max(values) > high + TOLERANCE):
            found[name] = [min(values), max(values)]
    return found


def _judged(subject: Subject, cases: Sequence[Case]) -> Case | None:
    """The first case that an answer part gives a score; `None` if there is none."""
    raw = subject.finish(subject.raw([one.item for one in cases]), [one.group for one in cases]).raw
    concerned = [any(raw[name][i] is not None for name in subject.answer_parts) for i in range(len(cases))]
    return next((one for one, yes in zip(cases, concerned, strict=True) if yes), None)


def score_of_nothing(subject: Subject, one: Case | None) -> dict[str, Any]:
    """The scores of a row without a reference and of one without a completion. A reference that is absent should give
    `None`, never a number or an exception."""
    if one is None:
        return {"reference": None, "completion": None, "raises": []}
    if isinstance(subject, Own):
        blank = replace(one.item, references=("",))
        empty = replace(one.item, answer=None, completion="")
        scores = _totals(subject, [blank, empty], ["a", "b"])
        return {"reference": scores[0], "completion": scores[1], "raises": []}
    assert isinstance(subject, Theirs)
    known = list(subject.problems)
    rows: dict[str, Item] = {
        "reference": replace(one.item, references=()),
        "completion": replace(one.item, completion=None),
    }
    found: dict[str, Any] = {name: subject.raw([item])[0] for name, item in rows.items()}
    raised = [problem for problem in subject.problems if problem not in known]
    subject.problems[:] = known + [problem for problem in raised if problem["name"] in ("hangs", "dies")]
    return {**found, "raises": [problem["says"] for problem in raised]}


def measure_speed(subject: Subject, items: Sequence[Item], *, form: Form) -> dict[str, Any]:
    """Seconds per short completion, and how the time grows with the length of one completion.

    `exponent`: p in time ~ length^p between the two longest; `None` if they are too fast to tell.
    """
    began = time.perf_counter()
    subject.raw(items)
    each = (time.perf_counter() - began) / max(1, len(items))
    times = []
    for words in SIZES:
        text = " ".join(f"word{i % 97}" for i in range(words))
        long = [
            make_case(
                _example(items[0]), f"<think>{text}</think><answer>{text}</answer>", form=form, source="long"
            ).item
        ]
        began = time.perf_counter()
        subject.raw(long)
        times.append(time.perf_counter() - began)
        if times[-1] > 5:
            break
    # Each size is four times the last. Under 0.05 s the clock and the fixed cost of a call decide.
    growth = math.log(times[-1] / max(times[-2], 1e-9)) / math.log(4) if len(times) > 1 and times[-1] > 0.05 else None
    return {"seconds_each": each, "sizes": list(SIZES[: len(times)]), "seconds": times, "exponent": growth}


def _example(item: Item) -> Any:
    from medrft.types import Example

    return Example(
        id="long/test/0",
        dataset="long",
        split="test",
        images=(),
        question=item.question or "",
        references=item.references,
        kind=item.kind,
        options=item.options,
    )
