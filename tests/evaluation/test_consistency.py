from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.data.phantom import load_phantom
from medrft.evaluation.controls.biases import answer_biases
from medrft.evaluation.controls.consistency import control_table, opposite_stance, read_stance
from medrft.evaluation.controls.table import CONTROLS, FREQUENT_TYPE, apply_control, left_out
from medrft.evaluation.runner import write_metrics
from medrft.evaluation.scoring import Answer, Marker, as_row
from medrft.recipes import parse_recipe
from medrft.rundir import write_jsonl


def row(number, answer, *references, kind="closed", control="none", correct=None, options=(), image=None, tokens=None):
    return {
        "id": f"toy/test/{number}",
        "kind": kind,
        "images": [image or f"image {number}"],
        "references": list(references),
        "options": list(options),
        "sample": 0,
        "temperature": 0.0,
        "control": control,
        "answer": answer,
        "truncated": None if tokens is None else False,
        "n_tokens": tokens,
        "scores": {"correct": correct},
    }


def table(rows, left=None):
    return control_table(rows, left or {})


@pytest.mark.parametrize(
    ("one", "says", "contrary"),
    [
        (row(0, "Yes.", "yes"), "yes", "no"),
        (row(0, "No, there is none", "yes"), "no", "yes"),
        (row(0, "perhaps", "yes"), "perhaps", None),
        (row(0, None, "yes"), None, None),
        (row(0, "...", "yes"), None, None),
        (row(0, "The Left lung.", "x", kind="open"), "left lung", "right lung"),
        (row(0, "left and right", "x", kind="open"), "left and right", None),
        (row(0, "lung", "x", kind="open"), "lung", None),
        (row(0, "B", "x", kind="choice", options=("left", "right")), "right", "left"),
        (row(0, "b) CT", "x", kind="choice", options=("MRI", "CT")), "ct", None),
    ],
)
def test_what_an_answer_says_and_its_contrary(one, says, contrary):
    assert (read_stance(one), opposite_stance(one)) == (says, contrary)


def test_answers_that_turn_and_answers_that_stay():
    rows = [row(i, answer, "yes", correct=1.0) for i, answer in enumerate(["yes", "yes", "no", "perhaps", None])]
    rows += [
        row(i, answer, "no", correct=float(answer == "no"), control="negated")
        for i, answer in enumerate(["no", "yes", "no", "no", "no"])
    ]
    found = table(rows, {"negated": {"not a yes/no question": 3}})["negated"]
    assert found["good"] == "turns" and found["left_out"] == {"not a yes/no question": 3}
    closed = found["kinds"]["closed"]
    assert closed["n"] == 5 and closed["unread"] == 2
    assert closed["turned"]["mean"] == pytest.approx(1 / 3) and closed["turned"]["n"] == 3
    assert closed["same"]["mean"] == pytest.approx(2 / 3)
    assert closed["score"]["mean"] == pytest.approx(4 / 5)
    assert closed["difference"]["mean"] == pytest.approx(-1 / 5)


def test_an_answer_without_a_known_reference_is_compared_and_not_marked():
    rows = [row(i, "yes", "yes", correct=1.0) for i in range(2)]
    rows += [row(i, answer, correct=None, control="sides") for i, answer in enumerate(["yes", "no"])]
    closed = table(rows)["sides"]["kinds"]["closed"]
    assert closed["score"] is None and closed["difference"] is None
    assert closed["turned"]["mean"] == 0.5 and closed["n"] == 2


def test_options_stay_by_their_text_and_not_by_their_letter():
    rows = [row(i, "A", "CT", kind="choice", options=("CT", "MRI"), correct=1.0) for i in range(2)]
    rows += [
        row(0, "B", "CT", kind="choice", options=("MRI", "CT"), correct=1.0, control="options"),
        row(1, "A", "CT", kind="choice", options=("MRI", "CT"), correct=0.0, control="options"),
    ]
    assert table(rows)["options"]["kinds"]["choice"]["same"]["mean"] == 0.5


def test_a_control_that_applies_to_nothing_is_shown_with_its_reasons():
    found = table([row(0, "yes", "yes", correct=1.0)], {"paraphrase": {"no human rephrasing": 1}})
    assert found == {"paraphrase": {"good": "stays", "left_out": {"no human rephrasing": 1}, "kinds": {}}}


def test_kinds_are_apart_and_samples_and_strangers_are_not_looked_at():
    rows = [row(0, "yes", "yes", correct=1.0), row(1, "lung", "lung", kind="open", correct=1.0)]
    rows += [{**one, "control": "blank"} for one in rows]
    rows += [
        {**rows[0], "temperature": 1.0, "answer": "no"},
        {**rows[2], "sample": 1},
        row(7, "no", "no", control="blank"),
    ]
    found = table(rows)["blank"]["kinds"]
    assert {kind: figures["n"] for kind, figures in found.items()} == {"closed": 1, "open": 1}
    assert "turned" in found["open"] and found["open"]["turned"] is None


def test_without_plain_answers_there_is_nothing_to_compare():
    assert table([row(0, "yes", "yes", control="blank")]) == {}
    assert answer_biases([]) == {}


ANSWERS = st.one_of(
    st.none(), st.text(max_size=12), st.sampled_from(["yes", "no", "left", "Right lung", "A", "<answer>"])
)
MADE = st.builds(
    lambda number, answer, kind, control, correct: row(
        number,
        answer,
        "yes",
        kind=kind,
        control=control,
        correct=correct,
        options=("left", "right") if kind == "choice" else (),
    ),
    st.integers(0, 3),
    ANSWERS,
    st.just("closed") | st.just("choice") | st.just("open"),
    st.sampled_from(["none", *CONTROLS, FREQUENT_TYPE]),
    st.sampled_from([None, 0.0, 1.0]),
)


@given(st.lists(MADE, max_size=12))
def test_any_answers_make_a_table_of_shares(rows):
    for control in table(rows).values():
        for figures in control["kinds"].values():
            for share in filter(None, (figures["score"], figures.get("same"), figures.get("turned"))):
                assert 0 <= share["mean"] <= 1 and share["n"] > 0
    json.dumps(answer_biases(rows), allow_nan=False)


# ---- models whose behaviour is known ----


def answers_of(examples, model):
    """What a model that sees the right answers says in every pass; `model(example, control)`."""
    for control in ("none", *CONTROLS):
        for asked in apply_control(control, examples, lambda example: [], seed=0)[0]:
            yield Answer.bare(asked, model(asked, control), control=control)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    examples = [
        e
        for e in load_phantom(folder, images=0, validation_images=0, test_images=30, size=32).examples
        if e.split == "test"
    ]
    recipe = parse_recipe({"name": "t", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}})
    marker = Marker(recipe)

    def mark(model):
        answers = list(answers_of(examples, model))
        rows = [as_row(answer, scores) for answer, scores in zip(answers, marker(answers), strict=True)]
        header = {"seed": 0, "left_out": {c: lo for c in CONTROLS if (lo := left_out(c, examples, seed=0))}}
        write_jsonl(folder / "predictions.jsonl", [header, *rows])
        return write_metrics(folder / "predictions.jsonl")

    return mark


def test_a_model_that_sees_and_understands_stays_and_turns_as_it_should(marked):
    def model(example, control):
        blind = control in CONTROLS and CONTROLS[control].good == "falls"
        return "unclear" if blind else example.references[0]

    found = marked(model)["controls"]
    assert set(found) == set(CONTROLS)
    for name, control in found.items():
        for kind, figures in control["kinds"].items():
            expected = 0.0 if control["good"] == "falls" else 1.0
            assert figures["metric"] == "truth"
            assert figures["score"]["mean"] == expected, (name, kind)
            assert figures["difference"]["mean"] == expected - 1, (name, kind)
            if control["good"] == "stays":
                assert figures["same"]["mean"] == 1.0, (name, kind)
            elif control["good"] == "falls":
                assert figures["same"]["mean"] == 0.0, (name, kind)
    assert found["negated"]["kinds"]["closed"]["turned"]["mean"] == 1.0
    assert {kind: f["turned"]["mean"] for kind, f in found["flip"]["kinds"].items()} == {
        "closed": 1.0,
        "choice": 1.0,
        "open": 1.0,
    }
    # the phantom asks about a finding that is there: on the other side it is not
    assert found["sides"]["kinds"]["closed"]["turned"]["mean"] == 1.0


def test_a_model_that_reads_only_the_question_is_found_out(marked):
    def model(example, control):
        return {"closed": "yes", "choice": "A", "open": "left lung"}[example.kind]

    metrics = marked(model)
    found = metrics["controls"]
    for name in ("blank", "shuffled", "question_only", "same_modality", "blur", "contrast"):
        for figures in found[name]["kinds"].values():
            assert figures["difference"]["mean"] == 0.0 and figures["same"]["mean"] == 1.0
    for name in ("negated", "flip", "sides"):
        assert all(figures["turned"]["mean"] == 0.0 for figures in found[name]["kinds"].values() if figures["turned"])
    assert found["options"]["kinds"]["choice"]["same"]["mean"] < 1.0
    assert metrics["biases"]["yes"]["answers"] == 1.0
    assert metrics["biases"]["yes"]["difference"]["mean"] == pytest.approx(1 - metrics["biases"]["yes"]["references"])
    assert metrics["biases"]["position"][0]["chosen"] == 1.0


# ---- biases ----


def test_yes_bias_counts_what_says_neither_as_no_yes():
    rows = [row(i, answer, "no") for i, answer in enumerate(["yes", "yes", "perhaps", None])]
    found = answer_biases(rows)["yes"]
    assert (found["answers"], found["references"], found["unread"]) == (0.5, 0.0, 2)
    assert found["difference"]["mean"] == 0.5 and found["difference"]["n"] == 4


def test_prior_bias_looks_at_wrong_answers_whose_question_has_another_right_one():
    answers = ["lung", "lung", "heart", "liver"]
    rows = [row(i, a, "liver", kind="open", correct=float(a == "liver")) for i, a in enumerate(answers)]
    usual = [row(i, "lung", "liver", kind="open", correct=0.0, control=FREQUENT_TYPE) for i in range(4)]
    found = answer_biases(rows + usual)["prior"]
    assert found["open"]["mean"] == pytest.approx(2 / 3) and found["open"]["n"] == 3
    right = [{**one, "scores": {"correct": 1.0}} for one in usual]  # the usual answer is right: no bias can show
    assert "prior" not in answer_biases(rows + right)


def test_length_bias_parts_right_from_wrong():
    rows = [
        row(0, "lung", "lung", kind="open", correct=1.0, tokens=4),
        row(1, "the left lung and the right lung", "liver", kind="open", correct=0.0, tokens=12),
        row(2, None, "liver", kind="open", correct=0.0, tokens=2),
    ]
    found = answer_biases(rows)["length"]["open"]
    assert found["right"] == {"n": 1, "words": 1.0, "reference_words": 1.0, "tokens": 4.0}
    assert found["wrong"] == {"n": 2, "words": 2.5, "reference_words": 1.0, "tokens": 7.0}
    assert found["difference"]["mean"] == pytest.approx(1.0)


def test_position_bias_compares_places_chosen_with_places_right():
    options = ("CT", "MRI", "PET")
    rows = [
        row(i, answer, right, kind="choice", options=options)
        for i, (answer, right) in enumerate([("A", "MRI"), ("A", "CT"), ("ct", "PET"), ("none", "MRI")])
    ]
    rows.append(row(9, "B", "no", kind="choice", options=("yes", "no")))
    found = answer_biases(rows)["position"]
    assert [one["letter"] for one in found] == ["A", "B", "C"]
    assert (found[0]["chosen"], found[0]["right"]) == (0.6, 0.2)
    assert found[0]["difference"]["mean"] == pytest.approx(0.4)
    assert (found[2]["chosen"], found[2]["right"], found[2]["difference"]["n"]) == (0.0, 0.25, 4)
