"""Makes groups of answers to one question, as GRPO would draw them: examples go in, groups of cases come out.

A run's own groups are used as they are. Without any, groups are simulated by seed. Each gets its own chance of a right
answer (0 for one group in five), so that all-right, mixed and all-wrong groups occur. Right answers are the reference
or a paraphrase. Wrong answers are a near miss (one facet changed), the answer of another question, or a hack.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from medrft.audit.completions import Case, completion_of, make_case
from medrft.audit.contradictions import make_contradictions
from medrft.audit.hacks import HACKS, is_right
from medrft.audit.paraphrases import make_paraphrases
from medrft.audit.sources import Material, Pair, Said
from medrft.types import Example, Form

HOPELESS = 0.2
"""Share of groups without a right answer."""
VERBATIM = 0.6
"""Share of right answers that are the reference word for word."""
NEAR_MISS, HACKED = 0.4, 0.1
"""Shares of wrong answers."""
SMALLEST = 4
"""So many real answers to one question, or more, make a group."""


def draw_groups(material: Material, *, form: Form, size: int, count: int, seed: int) -> list[list[Case]]:
    """`count` groups of `size` cases; if the material's answers come in groups, up to `count` of those instead."""
    real = real_groups(material.answers, form=form)
    if real:
        rng = random.Random(seed)
        return real if len(real) <= count else [real[i] for i in sorted(rng.sample(range(len(real)), count))]
    rng = random.Random(seed)
    own = defaultdict(list)
    for pair in material.pairs:
        own[pair.example.references[0]].append(pair)
    said = defaultdict(list)
    for answer in material.answers:
        said[answer.example.id].append(answer)
    order = list(material.examples)
    rng.shuffle(order)
    groups = []
    for number in range(count):
        example = order[number % len(order)]
        answers = Answers(example, material, own.get(example.references[0], []), said[example.id], rng, form)
        groups.append(answers.group(f"{number}", size))
    return groups


def real_groups(answers: Sequence[Said], *, form: Form) -> list[list[Case]]:
    """Answers that came in groups, unchanged; empty if fewer than half of the questions have `SMALLEST` answers."""
    members = defaultdict(list)
    for answer in answers:
        members[answer.group or answer.example.id].append(answer)
    if not members or sum(len(group) >= SMALLEST for group in members.values()) < len(members) / 2:
        return []
    return [
        [said_case(answer, form=form, group=name) for answer in group]
        for name, group in members.items()
        if len(group) >= SMALLEST
    ]


def said_case(answer: Said, *, form: Form, group: str, rng: random.Random | None = None) -> Case:
    """The case of a real answer; one without its completion is put into the form."""
    rng = None if answer.whole else rng or random.Random(answer.example.id)
    more = {"source": "prediction", "right": answer.right, "group": group}
    return make_case(answer.example, answer.text, form=form, rng=rng, **more)


class Answers:
    """Draws what a policy might say to one example."""

    def __init__(
        self,
        example: Example,
        material: Material,
        pairs: Sequence[Pair],
        said: Sequence[Said],
        rng: random.Random,
        form: Form,
    ):
        self.example, self.rng, self.form, self.said = example, rng, form, said
        self.paraphrases = [(pair.attribute, pair.candidate) for pair in pairs if pair.kind == "paraphrase"]
        self.near = [(pair.attribute, pair.candidate) for pair in pairs if pair.kind == "contradiction"]
        if not pairs:
            self.paraphrases, self.near = list(make_paraphrases(example)), list(make_contradictions(example))
        self.others = other_answers(example, material.examples, rng)

    def group(self, name: str, size: int) -> list[Case]:
        """`size` answers; the chance that one is right is drawn once for the group."""
        chance = 0.0 if self.rng.random() < HOPELESS else self.rng.random()
        return [self._right(name) if self.rng.random() < chance else self._wrong(name) for _ in range(size)]

    def _right(self, group: str) -> Case:
        real = [answer for answer in self.said if answer.right]
        if real:
            return said_case(self.rng.choice(real), form=self.form, group=group, rng=self.rng)
        if not self.paraphrases or self.rng.random() < VERBATIM:
            return self._case(self.example.references[0], "right", "verbatim", group, right=True)
        attribute, text = self.rng.choice(self.paraphrases)
        return self._case(text, "paraphrase", attribute, group, right=True)

    def _wrong(self, group: str) -> Case:
        real = [answer for answer in self.said if answer.right is False]
        if real and self.rng.random() < 0.5:
            return said_case(self.rng.choice(real), form=self.form, group=group, rng=self.rng)
        kind = self.rng.random()
        if kind < HACKED:
            hacked = self._hack(group)
            if hacked is not None:
                return hacked
        if self.near and (kind < HACKED + NEAR_MISS or not self.others):
            attribute, text = self.rng.choice(self.near)
            return self._case(text, "contradiction", attribute, group, right=False)
        text = self.rng.choice(self.others) if self.others else "something else"
        return self._case(text, "wrong", "other", group, right=False)

    def _hack(self, group: str) -> Case | None:
        name = self.rng.choice([name for name, hack in HACKS.items() if not (hack.whole and self.form == "short")])
        text = HACKS[name].write(self.example, self.rng)
        if text is None or (not HACKS[name].knows and is_right(text, self.example)):
            return None
        written = text if HACKS[name].whole else completion_of(text, form=self.form, rng=self.rng)
        return make_case(self.example, written, form=self.form, source="hack", attribute=name, right=False, group=group)

    def _case(self, text: str, source: str, attribute: str, group: str, *, right: bool) -> Case:
        more = {"source": source, "attribute": attribute, "right": right, "group": group}
        return make_case(self.example, text, form=self.form, rng=self.rng, **more)


def other_answers(example: Example, examples: Sequence[Example], rng: random.Random, *, count: int = 4) -> list[str]:
    """Up to `count` wrong answers: the opposite of yes or no, all other options, or answers to other open questions (of
    the same type if there are enough)."""
    reference = example.references[0]
    if example.kind == "closed":
        return ["no" if reference.strip().lower().startswith("y") else "yes"]
    if example.kind == "choice":
        return [option for option in example.options if option not in example.references]
    asked = example.metadata.get("question_type")
    same = [e for e in examples if e.kind == "open" and e.metadata.get("question_type") == asked]
    pool = [e.references[0] for e in (same if len(same) > count else examples) if e.kind == "open"]
    found: list[str] = []
    for text in rng.sample(pool, min(len(pool), 5 * count)):
        if text not in found and not is_right(text, example):
            found.append(text)
        if len(found) == count:
            break
    return found
