import ast
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrft.data.phantom import ask_oracle, grade_answer, grammar, words
from medrft.data.phantom.questions import Asked, absent_types, ask_questions, image_wordings
from medrft.data.phantom.world import LOBES, SIDES, SIZES, ZONES, Finding, Scene, draw_scene
from medrft.types import Example, Kind

NODULE = Finding(type="nodule", side="right", place="upper zone", size="small")
LEFT_EFFUSION = Finding(type="effusion", side="left", size="large")
NODULES = Finding(type="nodule", side="left", count=3)
STONES = Finding(type="stone", side="left", place="kidney", count=2)
CYST = Finding(type="cyst", place="liver", size="large")
BOTH = Finding(type="effusion", side="both", size="small", count=2)
BLEED = Finding(type="hemorrhage", side="left", place="frontal lobe", size="large")


def example(
    about: dict, *findings: Finding, kind: Kind = "open", modality: str = "xray", options: tuple[str, ...] = ()
) -> Example:
    facts = {**Scene(modality=modality, findings=findings).facts(), "asked": about}
    return Example(
        id="phantom/test/0",
        dataset="phantom",
        split="test",
        images=(),
        question="?",
        references=("?",),
        kind=kind,
        options=options,
        metadata={"facts": facts},
    )


def of(asked: Asked, scene: Scene) -> Example:
    made = example(asked.about, *scene.findings, kind=asked.kind, modality=scene.modality, options=asked.options)
    return replace(made, question=asked.question)


ABNORMALITY = example({"attribute": "abnormality"}, NODULE)
TWO = example({"attribute": "abnormality"}, NODULE, LEFT_EFFUSION)
NORMAL = example({"attribute": "abnormality"})
HEART = example({"attribute": "abnormality"}, Finding(type="cardiomegaly"))
SIDE = example({"attribute": "side", "finding": 0}, NODULE)
SIDE_OF_BOTH = example({"attribute": "side", "finding": 0}, BOTH)
WHERE = example({"attribute": "place", "finding": 0}, NODULE)
WHERE_CYST = example({"attribute": "place", "finding": 0}, CYST, modality="ct")
SIZE = example({"attribute": "size", "finding": 0}, NODULE)
COUNT = example({"attribute": "count", "finding": 0}, NODULES)
DESCRIBE = example({"attribute": "description", "finding": 0}, NODULE)
DESCRIBE_STONES = example({"attribute": "description", "finding": 0}, STONES, modality="ct")
DESCRIBE_BLEED = example({"attribute": "description", "finding": 0}, BLEED, modality="mr")
MODALITY = example({"attribute": "modality"}, NODULE)
PLANE = example({"attribute": "plane"}, modality="ct")
ORGAN = example({"attribute": "organ"}, modality="mr")
IS_NODULE = example({"attribute": "presence", "value": "nodule"}, NODULE, kind="closed")
IS_EFFUSION = example({"attribute": "presence", "value": "effusion"}, NODULE, kind="closed")
IS_ABNORMAL = example({"attribute": "presence", "value": "abnormal"}, kind="closed")
IS_NORMAL = example({"attribute": "presence", "value": "normal"}, NODULE, kind="closed")
IS_LEFT = example({"attribute": "side", "finding": 0, "value": "left"}, NODULE, kind="closed")
IS_CT = example({"attribute": "modality", "value": "ct"}, NODULE, kind="closed")
CHOICE = example({"attribute": "abnormality"}, NODULE, kind="choice", options=("pleural effusion", "lung nodule"))
CHOICE_PLACE = example({"attribute": "place", "finding": 0}, NODULE, kind="choice", options=ZONES)

RIGHT = [
    (ABNORMALITY, "nodule"),
    (ABNORMALITY, "There is a nodule."),
    (ABNORMALITY, "A small pulmonary nodule in the right upper zone"),
    (ABNORMALITY, "The abnormality is a lung nodule"),
    (ABNORMALITY, "The image shows a right upper lobe nodule."),
    (TWO, "nodule and pleural effusion"),
    (TWO, "A large left effusion, and a nodule on the right"),
    (NORMAL, "no abnormality"),
    (NORMAL, "The image is normal."),
    (NORMAL, "This is a normal chest X-ray"),
    (NORMAL, "There is no abnormality."),
    (NORMAL, "no abnormality is seen"),
    (HEART, "enlarged heart"),
    (HEART, "Enlarged cardiac silhouette."),
    (SIDE, "right"),
    (SIDE, "On the right side."),
    (SIDE, "Right-sided"),
    (SIDE, "the nodule is on the right"),
    (SIDE, "It is in the right lung"),
    (SIDE_OF_BOTH, "both sides"),
    (SIDE_OF_BOTH, "bilateral"),
    (WHERE, "right upper zone"),
    (WHERE, "in the upper zone of the right lung"),
    (WHERE, "The nodule is located in the right upper lobe"),
    (WHERE_CYST, "the liver"),
    (WHERE_CYST, "in the liver"),
    (SIZE, "small"),
    (SIZE, "It is small in size."),
    (SIZE, "tiny"),
    (COUNT, "three"),
    (COUNT, "3"),
    (COUNT, "There are three nodules"),
    (COUNT, "three lung nodules"),
    (DESCRIBE, "right upper zone nodule"),
    (DESCRIBE, "There is a small nodule in the upper zone of the right lung."),
    (DESCRIBE_STONES, "two kidney stones on the left"),  # a kidney stone says its place
    (DESCRIBE_STONES, "two renal calculi in the left kidney"),
    (DESCRIBE_BLEED, "left frontal hemorrhage"),  # the lobe without the word
    (DESCRIBE_BLEED, "large brain haemorrhage in the left frontal lobe"),
    (MODALITY, "X-ray"),
    (MODALITY, "The image is a chest X-ray."),
    (MODALITY, "frontal radiograph of the chest"),
    (PLANE, "axial"),
    (PLANE, "It is an axial CT."),
    (ORGAN, "the head"),
    (ORGAN, "Brain."),
    (IS_NODULE, "yes"),
    (IS_NODULE, "Yes, there is a nodule."),
    (IS_NODULE, "yes, a small nodule in the right upper zone"),
    (IS_NODULE, "There is a nodule"),
    (IS_EFFUSION, "No."),
    (IS_EFFUSION, "no effusion"),
    (IS_EFFUSION, "There is no pleural effusion."),
    (IS_EFFUSION, "No, there is a nodule"),
    (IS_ABNORMAL, "no"),
    (IS_ABNORMAL, "the chest is normal"),
    (IS_NORMAL, "No, there is a nodule"),
    (IS_NORMAL, "there is a small nodule"),
    (IS_LEFT, "no"),
    (IS_LEFT, "No, it is on the right."),
    (IS_LEFT, "it is not on the left"),
    (IS_LEFT, "The nodule is on the right"),
    (IS_CT, "It is not a CT"),
    (IS_CT, "no, it is an X-ray"),
    (CHOICE, "lung nodule"),
    (CHOICE, "B"),
    (CHOICE, "(b)"),
    (CHOICE, "B. lung nodule"),
    (CHOICE, "B: lung nodule."),
    (CHOICE, "nodule"),
    (CHOICE_PLACE, "upper zone"),
    (CHOICE_PLACE, "A"),
]

WRONG = [
    (ABNORMALITY, "pneumothorax"),
    (ABNORMALITY, "no abnormality"),
    (ABNORMALITY, "normal"),
    (ABNORMALITY, "abnormal"),
    (ABNORMALITY, "left nodule"),
    (ABNORMALITY, "large nodule"),
    (ABNORMALITY, "nodule and pleural effusion"),
    (ABNORMALITY, "nodule, nodule"),
    (ABNORMALITY, "no nodule"),
    (ABNORMALITY, "yes"),
    (ABNORMALITY, "right upper zone"),
    (ABNORMALITY, "nodule. The image is normal."),
    (TWO, "nodule"),  # one of two is not all
    (TWO, "pleural effusion"),
    (TWO, "right effusion and left nodule"),
    (NORMAL, "nodule"),
    (NORMAL, "no nodule"),  # true, and does not say that nothing else is there
    (NORMAL, "not normal"),
    (SIDE, "left"),
    (SIDE, "both"),
    (SIDE, "right left"),
    (SIDE, "on the right and on the left"),
    (SIDE, "upper zone"),
    (SIDE, "it is not on the left"),  # names no side
    (SIDE, "right right right right"),
    (SIDE_OF_BOTH, "left"),
    (WHERE, "left upper zone"),
    (WHERE, "right lower zone"),
    (WHERE, "upper zone"),  # where includes the side
    (WHERE, "right"),
    (WHERE_CYST, "kidney"),
    (WHERE_CYST, "left liver"),
    (SIZE, "large"),
    (SIZE, "small and large"),
    (COUNT, "two"),
    (COUNT, "3 or 2"),
    (COUNT, "nodules"),
    (COUNT, "33"),
    (DESCRIBE, "nodule"),  # no place
    (DESCRIBE, "nodule on the right"),
    (DESCRIBE, "large nodule in the right upper zone"),
    (DESCRIBE, "two nodules in the right upper zone"),
    (DESCRIBE_STONES, "two kidney stones on the right"),
    (MODALITY, "CT"),
    (MODALITY, "chest"),
    (MODALITY, "X-ray of the abdomen"),
    (PLANE, "frontal"),
    (PLANE, "axial MRI"),
    (ORGAN, "chest"),
    (IS_NODULE, "no"),
    (IS_NODULE, "yes no"),
    (IS_NODULE, "Yes, there is no nodule"),
    (IS_NODULE, "no nodule"),
    (IS_NODULE, "yes, a large nodule"),
    (IS_NODULE, "abnormal"),
    (IS_EFFUSION, "yes"),
    (IS_EFFUSION, "there is a nodule"),  # true, and settles nothing
    (IS_EFFUSION, "no nodule"),
    (IS_ABNORMAL, "yes"),
    (IS_NORMAL, "yes"),
    (IS_LEFT, "yes"),
    (IS_LEFT, "left"),
    (IS_LEFT, "it is not on the right"),
    (IS_CT, "CT"),
    (CHOICE, "A"),
    (CHOICE, "C"),
    (CHOICE, "A or B"),
    (CHOICE, "B. pleural effusion"),
    (CHOICE, "pleural effusion"),
    (CHOICE_PLACE, "lower zone"),
]

OUTSIDE = [
    "",
    " ",
    "maybe a nodule",
    "probably yes",
    "nodule?",
    "nodule or effusion",
    "possible nodule",
    "I think there is a nodule",
    "the of right nodule upper is",
    "<answer>nodule</answer>",
    "nodule nodule",
    "yes yes",
    "nodule " * 50,
    "結節",
]


@pytest.mark.parametrize(("row", "answer"), RIGHT)
def test_right_wordings_are_correct(row, answer):
    assert grade_answer(row, answer) == (True, True)


@pytest.mark.parametrize(("row", "answer"), WRONG)
def test_wrong_answers_are_wrong(row, answer):
    assert not grade_answer(row, answer).correct


@pytest.mark.parametrize("answer", OUTSIDE)
def test_outside_the_grammar_is_wrong_and_said_so(answer):
    assert grade_answer(ABNORMALITY, answer) == (False, False)
    assert grade_answer(IS_NODULE, answer) == (False, False)


def test_no_answer_is_wrong():
    assert grade_answer(ABNORMALITY, None) == (False, False)


SCENES = [draw_scene(np.random.default_rng([1, n]), shifted=n % 2 == 0) for n in range(250)]
ASKED = [
    (asked, scene) for n, scene in enumerate(SCENES) for asked in ask_questions(np.random.default_rng([2, n]), scene, 6)
]


def test_every_right_wording_of_every_question_is_correct():
    for asked, scene in ASKED:
        row = of(asked, scene)
        for wording in asked.wordings:
            for said in (wording, wording.capitalize() + ".", f" {wording.upper()} "):
                assert grade_answer(row, said).correct, (asked, said)


def test_yes_and_no_are_opposites():
    for asked, scene in ASKED:
        if asked.kind == "closed":
            row = of(asked, scene)
            assert grade_answer(row, "yes").correct != grade_answer(row, "no").correct


def test_each_wrong_option_is_wrong_by_text_and_by_letter():
    for asked, scene in ASKED:
        row = of(asked, scene)
        for letter, option in zip("ABCD", asked.options, strict=False):
            assert (
                grade_answer(row, letter).correct == grade_answer(row, option).correct == (option == asked.wordings[0])
            ), asked


def changed(scene: Scene, index: int) -> list[tuple[str, Finding]]:
    """A finding with one fact changed, and the name of the fact."""
    finding = scene.findings[index]
    rest = [("type", replace(finding, type=type_, place=None, size=None, count=1)) for type_ in absent_types(scene)]
    if finding.side is not None:
        rest += [("side", replace(finding, side=side)) for side in SIDES if side != finding.side]
    if finding.size is not None:
        rest += [("size", replace(finding, size=size)) for size in SIZES if size != finding.size]
    for places in (ZONES, LOBES):
        if finding.place in places:
            rest += [("place", replace(finding, place=place)) for place in places if place != finding.place]
    if finding.side != "both":
        rest += [("count", replace(finding, count=count)) for count in (1, 2, 3) if count != finding.count]
    return rest


WORDINGS = {
    "side": words.side_words,
    "place": words.place_words,
    "size": words.size_words,
    "count": words.count_words,
    "description": words.finding_descriptions,
    "abnormality": words.finding_names,
}


def test_every_wording_of_a_changed_fact_is_wrong():
    checked = 0
    for asked, scene in ASKED:
        if asked.kind == "closed" or asked.type not in WORDINGS or not scene.findings:
            continue
        index = asked.about.get("finding", 0)
        for fact, finding in changed(scene, index):
            concerns = {"description": ("type", "side", "place", "size"), "abnormality": ("type",)}
            if fact not in concerns.get(asked.type, (asked.type,)):
                continue
            for wording in WORDINGS[asked.type](finding):
                assert not grade_answer(of(asked, scene), wording).correct, (asked, fact, wording)
                checked += 1
    assert checked > 5000


def test_facts_of_another_image_are_wrong():
    others = [Scene(modality="xray"), Scene(modality="ct"), Scene(modality="mr")]
    for asked, scene in ASKED:
        if asked.type in ("modality", "organ") and asked.kind == "open":
            for other in others:
                right = other.modality == scene.modality
                assert all(
                    grade_answer(of(asked, scene), w).correct == right for w in image_wordings(other, asked.type)
                )


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gets_a_verdict_and_unknown_words_leave_the_grammar(text):
    for row in (ABNORMALITY, IS_NODULE, CHOICE, COUNT):
        verdict = grade_answer(row, text)
        assert verdict.in_grammar or not verdict.correct
    known = {word for phrase in grammar.PHRASES for word in phrase}
    if any(word.isalpha() and word not in known for word in grammar.words_of(text)):
        assert grade_answer(ABNORMALITY, text) == (False, False)


def test_random_letters_are_never_correct():
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz .,") for _ in range(rng.randint(4, 40)))
        asked, scene = rng.choice(ASKED)
        assert not grade_answer(of(asked, scene), text).correct, text


def test_shuffled_words_of_the_lexicon_are_hardly_ever_correct():
    rng = random.Random(0)
    known = [" ".join(phrase) for phrase in grammar.PHRASES]
    hits = 0
    for _ in range(5000):
        asked, scene = rng.choice(ASKED)
        hits += grade_answer(of(asked, scene), " ".join(rng.choices(known, k=rng.randint(3, 8)))).correct
    assert hits <= 5


def test_the_judge_is_independent():
    for name in ("truth", "grammar", "relations"):
        tree = ast.parse(Path(grammar.__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
        froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours = {name for name in froms if name and name.startswith("medrft")}
        assert ours <= {"medrft.types", "medrft.data.phantom.grammar", "medrft.data.phantom.relations"}


def test_only_drawn_facts_have_an_oracle():
    row = replace(IS_NODULE, dataset="phantom_limb", metadata={})  # somebody's table that is called so
    assert ask_oracle(row, "yes") is None
    assert ask_oracle(replace(row, metadata={"facts": "three of them"}), "yes") is None
    assert ask_oracle(replace(IS_NODULE, dataset="my_copy"), "yes") is None
    assert ask_oracle(IS_NODULE, "yes") == grade_answer(IS_NODULE, "yes")
