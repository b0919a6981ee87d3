"""Questions whose answer takes several looks: composed of facts that a base can see one by one (`sides`).

    opposite          What is on the side opposite the nodule?        a finding's name, or nothing
    opposite_larger   What is on the side opposite the larger finding?
    larger_place      Where is the larger finding?                     side and place
    opposite_place    Where is the finding opposite the larger one?
    total             How many nodules are there on both sides together?   none to four

Answers are balanced: the question and the modality together give at most 0.3. Thoughts come in two kinds. One looks:
it says what lies on each side and concludes. The other takes a shortcut: it concludes from what is called usual here
(`usual_answer`), which is as rare as any other answer, and is not right because a teacher wrote it. (If only the lucky
shortcuts are kept, a policy that sees well learns when they are right, and nothing is left for RL to find.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from medrft.data.phantom import words
from medrft.data.phantom.questions import Asked
from medrft.data.phantom.sides import COUNTED, NOTHING, TOTALS, both_sides, draw_twins, on_side, side_sentence
from medrft.data.phantom.truth import ask_oracle
from medrft.data.phantom.world import (
    SIDES,
    SIZES,
    SORTS,
    Finding,
    Modality,
    Scene,
    Sort,
    draw_finding,
    pick_option,
    sort_of,
)
from medrft.types import Example

TYPES = ("opposite", "opposite_larger", "larger_place", "opposite_place", "total")
OTHER_SIDE = dict(zip(SIDES, reversed(SIDES), strict=True))
SEEN_BOTH_SIDES: tuple[Modality, ...] = ("xray", "mr")
"""Where four types of finding and six places may lie on a side; the kidneys have too few."""
QUESTIONS = {
    "opposite": ("What is on the side opposite the {noun}?", "What lies opposite the {noun}?"),
    "opposite_larger": ("What is on the side opposite the larger finding?", "What lies opposite the larger finding?"),
    "larger_place": ("Where is the larger finding?", "Where does the larger finding lie?"),
    "opposite_place": (
        "Where is the finding opposite the larger one?",
        "Where does the finding opposite the larger one lie?",
    ),
    "total": ("How many {nouns} are there on both sides together?", "How many {nouns} are there in all?"),
}
FREE_FINDINGS = (
    *("there {be} {}", "it {be} {}", "{} {be} seen", "{} {be} present", "the image shows {}", "the scan shows {}"),
)
FREE_NOTHING = (
    *("nothing", "nothing abnormal", "nothing is seen", "there is no finding", "no finding is seen"),
    *("there is no abnormality", "no abnormality is seen"),
)
FREE_PLACES = (
    *("in {}", "it is in {}", "it is located in {}", "it is seen in {}", "the finding is in {}"),
    *("the finding is located in {}", "the lesion is in {}"),
)
FREE_TOTALS = ("{}", "there {be} {}", "{} {be} seen", "{} {be} present", "the image shows {}")
USUAL_TYPE = {"xray": "effusion", "mr": "infarct"}
USUAL_SECOND = {"xray": "pneumothorax", "mr": "subdural"}
"""What is called usual where the question itself names `USUAL_TYPE`."""
USUAL_PLACE = {"xray": "middle zone", "mr": "parietal lobe"}
USUAL_SIDE = {"larger_place": "right", "opposite_place": "left"}
USUAL_TOTAL = 2
USUAL_TWIN_PLACE: dict[Modality, str] = {"xray": "middle zone", "ct": "kidney", "mr": "parietal lobe"}
"""Where `think_usual_sides` says that what is counted lies."""


def draw_composed(rng: np.random.Generator, type_: str, *, shifted: bool = False) -> tuple[Scene, Asked]:
    """A scene that a composed question of a type can be asked of, and the question."""
    if type_ == "total":
        scene = draw_twins(rng, shifted=shifted)
        return scene, _asked(rng, scene, type_)
    modality = pick_option(rng, SEEN_BOTH_SIDES)
    sorts = [sort for sort in SORTS[modality] if sort.sided and (sort.places or not type_.endswith("place"))]
    chosen = [sorts[int(index)] for index in rng.permutation(len(sorts))[:2]]
    large, named = (int(number) for number in rng.integers(2, size=2))
    findings = [
        _single(rng, modality, sort, side, "large" if number == large else "small", shifted)
        for number, (sort, side) in enumerate(zip(chosen, SIDES, strict=True))
    ]
    if type_ == "opposite" and rng.random() < 1 / 4:  # as often as each of the three other types
        findings, named = [findings[named]], 0
    scene = Scene(modality=modality, findings=tuple(findings), shifted=shifted)
    return scene, _asked(rng, scene, type_, named if type_ == "opposite" else large)


def _single(rng: np.random.Generator, modality: Modality, sort: Sort, side: str, size: str, shifted: bool) -> Finding:
    while True:
        finding = draw_finding(rng, modality, sort, shifted)
        if finding.count == 1 and finding.size == size:
            return replace(finding, side=side)


def _asked(rng: np.random.Generator, scene: Scene, type_: str, index: int | None = None) -> Asked:
    if index is None:
        noun = words.NOUNS[COUNTED[scene.modality]][0]
        about: dict[str, object] = {"attribute": type_, "value": COUNTED[scene.modality]}
    else:
        noun = words.NOUNS[scene.findings[index].type][0]
        about = {"attribute": type_, "to": index}
    nouns = words.plural_noun(noun)
    noun = noun if index is None or scene.findings[index].count == 1 else nouns
    question = pick_option(rng, QUESTIONS[type_]).format(noun=noun, nouns=nouns)
    asked = Asked(kind="open", type=type_, question=question, wordings=(), about=about)
    return replace(asked, wordings=answer_words(right_answer(scene, asked), asked))


def known_facts(example: Example, answer: str | None, thought: str | None) -> dict[str, bool]:
    """What the phantom knows of one completion, by metric: `truth` and `in_grammar`, and `looks` where it is asked of.

    Empty for all other data.
    """
    verdict = ask_oracle(example, answer)
    if verdict is None:
        return {}
    looking = looks(example, thought)
    known = {"truth": verdict.correct, "in_grammar": verdict.in_grammar}
    return known if looking is None else {**known, "looks": looking}


def looks(example: Example, thought: str | None) -> bool | None:
    """Whether a thought first says what lies on each side, as `think_looking` does; `None` for other questions."""
    if not example.dataset.startswith("phantom_composed"):
        return None
    return (thought or "").startswith("On the right there ")


def right_answer(scene: Scene, asked: Asked) -> Finding | int | None:
    """The finding or the number that is asked for; `None` where nothing lies opposite."""
    if asked.type == "total":
        return _number(scene)
    named = scene.findings[asked.about["to"]]
    return named if asked.type == "larger_place" else on_side(scene, OTHER_SIDE[str(named.side)])


def answer_words(answer: Finding | int | None, asked: Asked) -> tuple[str, ...]:
    """The wordings of an answer to a composed question: a word or a few."""
    if answer is None:
        return NOTHING
    if isinstance(answer, int):
        return TOTALS[answer]
    return words.finding_locations(answer)[:2] if asked.type.endswith("place") else words.finding_nouns(answer)


def free_form_words(answer: Finding | int | None, asked: Asked) -> tuple[str, ...]:
    """The wordings of an answer in free form: any name of the finding or the place, in phrases and whole sentences.

    >>> asked = Asked(kind="open", type="larger_place", question="", wordings=(), about={})
    >>> free_form_words(Finding(type="mass", side="left", place="parietal lobe"), asked)[1::4]
    ('in the left parietal lobe', 'the finding is in the left parietal lobe')
    """
    if answer is None:
        return FREE_NOTHING
    if isinstance(answer, int):
        return _free_totals(answer, asked.about["value"])
    if asked.type.endswith("place"):
        bare = words.finding_locations(answer)
        where = [f"the {phrase}" for phrase in bare if not phrase.startswith("the ")]
        return (bare[0], *(form.format(at) for at in where for form in FREE_PLACES))
    found = []
    for noun in words.finding_nouns(answer):
        phrase, be = words.with_article(noun, answer), words.noun_verb(noun, answer)
        found += [noun, *(form.format(phrase, be=be) for form in FREE_FINDINGS)]
    return tuple(found)


def _free_totals(number: int, type_: str) -> tuple[str, ...]:
    found = list(TOTALS[number])
    for noun in words.NOUNS[type_]:
        noun = noun if number == 1 else words.plural_noun(noun)
        be = "is" if number == 1 else "are"
        amount = "no" if number == 0 else TOTALS[number][0]
        found += [form.format(f"{amount} {noun}", be=be) for form in FREE_TOTALS]
    return tuple(found)


# ---- thoughts -------------------------------------------------------------------------------------------------------


def think_looking(scene: Scene, asked: Asked) -> str:
    """What lies right and left, and what follows."""
    seen = both_sides(scene)
    if asked.type == "total":
        right, left = (found.count if (found := on_side(scene, side)) else 0 for side in SIDES)
        counts = [TOTALS[count][0] for count in (right, left, right + left)]
        return f"{seen} {counts[0].capitalize()} and {counts[1]} make {counts[2]}."
    named = scene.findings[asked.about["to"]]
    other = on_side(scene, OTHER_SIDE[str(named.side)])
    lies = f"on the {named.side}"
    if asked.type == "opposite":
        return f"{seen} The {_name(named)} {_be(named)} {lies}, and opposite there {_be(other)} {_phrase(other)}."
    if asked.type == "opposite_larger":
        return f"{seen} The larger one is {lies}, and opposite there {_be(other)} {_phrase(other)}."
    if asked.type == "larger_place":
        return f"{seen} The larger one is {lies}."
    return f"{seen} The larger one is {lies}, so the other is on the {OTHER_SIDE[str(named.side)]}."


def usual_answer(scene: Scene, asked: Asked) -> Finding | int:
    """What the shortcut concludes: a finding of the usual type or place, or the usual number."""
    if asked.type == "total":
        return USUAL_TOTAL
    modality = scene.modality
    if asked.type.endswith("place"):
        return Finding(type="any", side=USUAL_SIDE[asked.type], place=USUAL_PLACE[modality])
    named = scene.findings[asked.about["to"]].type if asked.type == "opposite" else None
    return Finding(type=USUAL_SECOND[modality] if named == USUAL_TYPE[modality] else USUAL_TYPE[modality])


def think_usual_sides(scene: Scene, asked: Asked) -> str:
    """What is usual on each side and what follows, without a look: about as many words as `think_looking` has."""
    modality = scene.modality
    findings: tuple[Finding, ...]
    if asked.type == "total":
        one = Finding(type=COUNTED[modality], side="right", place=USUAL_TWIN_PLACE[modality], size="small")
        findings = (one, replace(one, side="left"))
    else:
        types = USUAL_SECOND[modality], USUAL_TYPE[modality]
        findings = tuple(
            Finding(
                type=type_,
                side=side,
                size=size,
                place=USUAL_PLACE[modality] if sort_of(modality, type_).places else None,
            )
            for type_, side, size in zip(types, SIDES, ("large", "small"), strict=True)
        )
    right, left = (side_sentence(Scene(modality=modality, findings=findings), side) for side in SIDES)
    return f"Usually {_lower(right)} Usually {_lower(left)} {think_shortcut(scene, asked)}"


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def think_shortcut(scene: Scene, asked: Asked) -> str:
    """What is usual, without a look."""
    usual = usual_answer(scene, asked)
    if isinstance(usual, int):
        return f"Usually there are {TOTALS[usual][0]} in all."
    if asked.type.endswith("place"):
        which = "larger finding" if asked.type == "larger_place" else "smaller finding"
        return f"The {which} is usually in the {usual.side} {usual.place}."
    if asked.type == "opposite":
        return f"Opposite {_phrase(scene.findings[asked.about['to']])} there is usually {_phrase(usual)}."
    return f"The smaller finding is usually {_phrase(usual)}."


def is_usual(scene: Scene, asked: Asked) -> bool:
    """Whether the shortcut's conclusion is the right answer."""
    usual, right = usual_answer(scene, asked), right_answer(scene, asked)
    if isinstance(usual, int) or isinstance(right, int) or right is None:
        return usual == right
    if asked.type.endswith("place"):
        return (right.side, right.place) == (usual.side, usual.place)
    return right.type == usual.type and right.count == 1


def think_wrong(rng: np.random.Generator, scene: Scene, asked: Asked) -> str:
    """A looking thought with a teacher error: another number, sizes exchanged, or another finding opposite."""
    if asked.type == "total":
        other = scene
        while _number(other) == _number(scene):
            other = draw_twins(rng, modality=scene.modality)
        return think_looking(other, asked)
    named = asked.about["to"]
    if asked.type == "opposite":
        types = {finding.type for finding in scene.findings}
        other_types = [sort for sort in SORTS[scene.modality] if sort.sided and sort.type not in types]
        side = OTHER_SIDE[str(scene.findings[named].side)]
        wrong = _single(rng, scene.modality, pick_option(rng, other_types), side, pick_option(rng, SIZES), False)
        seen = replace(scene, findings=(scene.findings[named], wrong))
        return think_looking(seen, replace(asked, about={**asked.about, "to": 0}))
    first, second = scene.findings
    exchanged = (replace(first, size=second.size), replace(second, size=first.size))
    turned = replace(asked, about={**asked.about, "to": 1 - named})
    return think_looking(replace(scene, findings=exchanged), turned)


def _number(scene: Scene) -> int:
    return sum(finding.count for finding in scene.findings)


def composed_texts(seed: int, number: int) -> Iterator[str]:
    """Questions, answers and thoughts of composed questions: what a base's tokenizer has to know."""
    rng = np.random.default_rng([seed, 5])
    for _ in range(number):
        scene, asked = draw_composed(rng, pick_option(rng, TYPES))
        yield from (asked.question, *asked.wordings, think_looking(scene, asked), think_shortcut(scene, asked))


def _name(finding: Finding) -> str:
    return words.finding_nouns(finding)[0]


def _be(finding: Finding | None) -> str:
    return "are" if finding is not None and finding.count > 1 else "is"


def _phrase(finding: Finding | None) -> str:
    if finding is None:
        return "nothing"
    return words.with_article(_name(finding), finding)
