import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medrft.text import extract, for_model, infer_kind, is_placeholder, normalize, sentences, tokens, yes_no

SAME = [
    ("8cm", "8 cm"),
    ("8 CM.", "8cm"),
    ("3x4 cm", "3 × 4 cm"),
    ("1,000 ml", "1000ml"),
    (".5 cm", "0.5 cm"),
    ("Hyper-dense", "hyper dense"),
    ("T2–weighted", "T2-weighted"),
    ("oedema", "edema"),
    ("haemorrhage", "hemorrhage"),
    ("tumour", "tumor"),
    ("oesophagus", "esophagus"),
    ("anaemia", "anemia"),
    ("leukaemia", "leukemia"),
    ("caecum", "cecum"),
    ("paediatric", "pediatric"),
    ("localised", "localized"),
    ("generalisation", "generalization"),
    ("centimetre", "centimeter"),
    ("grey-white", "gray white"),
    ("diarrhoea", "diarrhea"),
    ("foetal", "fetal"),
    ("disk", "disc"),
    ("Sjögren's", "Sjogren"),
    ("Crohn’s disease", "crohn disease"),
    ("two", "2"),
    ("Twenty-five", "25"),
    ("first", "1st"),
    ("the left lung", "Left lung"),
    ("isn't", "is not"),
    ("can't exclude", "cannot exclude"),
    ("ﬁbrosis", "fibrosis"),
    ("ｃｔ", "CT"),
    ("left\u200b lung", "left lung"),
    ("左 肺", "左肺"),
    ("50%", "50 percent"),
    ("mау оr mау nоt bе", "may or may not be"),  # Cyrillic letters among Latin ones
]
DIFFERENT = [
    ("-100 HU", "100 HU"),
    ("<5 mm", ">5 mm"),
    ("1.5 cm", "15 cm"),
    (".5 cm", "5 cm"),
    ("type A", "type B"),
    ("T1", "T2"),
    ("no mass", "mass"),
    ("raised", "raized"),
    ("four", "for"),
    ("нет", "het"),  # a Cyrillic word stays one
    ("vertebrae", "vertebre"),
    ("exercise", "exercize"),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_same_after_normalisation(left, right):
    assert normalize(left) == normalize(right)


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_after_normalisation(left, right):
    assert normalize(left) != normalize(right)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),  # the option A, not an article
        ("A mass", "mass"),
        ("hepatitis A", "hepatitis a"),
        ("type A dissection", "type a dissection"),
        ("The the", "the"),
        ("...", ""),
        ("", ""),
        ("  \n", ""),
        ("twenty twenty", "20 20"),
    ],
)
def test_normalize(text, expected):
    assert normalize(text) == expected


@example("㐀+:A")
@given(st.text(st.characters(exclude_categories=["Nd", "Nl", "No"])))
def test_normalize_is_stable_on_words(text):
    once = normalize(text)
    assert normalize(once) == once


PIECES = [
    *("a", "the", "A", "type", "twenty", "two", "minus", "colour", "centred", "metre", "grey", "first", "I", "or", "x"),
    *("5", "3x", "x4", "3x4cm", "5mm", "5in", "T1", "gd", "ve", "c", "-", "--", " ", "x-rays", "analysed", "oedema"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.sampled_from(["", " ", "-"]))
def test_a_text_without_signs_is_normalised_as_one_with_punctuation(pieces, between):
    text = between.join(pieces)
    if not text.endswith("-"):  # "ER-!" is a word and a hyphen, "ER-" a result
        assert normalize(text) == normalize(text + " !")


@given(st.text())
def test_normalize_leaves_single_spaces(text):
    once = normalize(text)
    assert once == " ".join(once.split()) == " ".join(tokens(text))


THINK = "<think>t</think>"


@pytest.mark.parametrize(
    ("completion", "answer", "whole"),
    [
        (THINK + "<answer>yes</answer>", "yes", True),
        (" \n" + THINK + "\n\n<answer>\nyes\n</answer>\n", "yes", True),
        ("t</think><answer>yes</answer>", "yes", True),  # the template opened the thought
        ("<think></think><answer>yes</answer>", "yes", False),  # a thought that says nothing
        ("</think><answer>yes</answer>", "yes", False),
        (THINK + "so: <answer>yes</answer>", "yes", False),
        ("so: " + THINK + "<answer>yes</answer>", "yes", False),
        (THINK + "<answer>yes</answer>.", "yes", False),
        (THINK * 2 + "<answer>yes</answer>", "yes", False),
        ("<answer>yes</answer>", "yes", False),
        ("<answer>yes</answer>" + THINK, None, False),  # before the thought ends
        (THINK + "<answer>yes</answer><answer>yes</answer>", None, False),
        (THINK + "<answer><answer>yes</answer></answer>", None, False),
        (THINK + "<answer>yes</answer></answer>", None, False),
        (THINK + "<answer>yes", None, False),
        (THINK + "yes</answer>", None, False),
        (THINK + "</answer>yes<answer>", None, False),
        (THINK + "<answer> </answer>", None, False),
        (THINK + "<Answer>yes</Answer>", None, False),
        ("<think><answer>yes</answer></think>", None, False),
        ("<think>so <answer>yes</answer>", None, False),
        ("<answer>ye<think>t</think>s</answer>", None, False),
        (THINK, None, False),
        ("yes", None, False),
        ("", None, False),
    ],
)
def test_extract_think(completion, answer, whole):
    found = extract(completion, "think")
    assert (found.answer, found.well_formed) == (answer, whole)


@pytest.mark.parametrize(
    ("completion", "answer", "whole"),
    [
        ("<answer>yes</answer>", "yes", True),
        ("\n<answer>yes</answer> ", "yes", True),
        ("It is <answer>yes</answer>", "yes", False),
        (THINK + "<answer>yes</answer>", "yes", False),
        ("<answer>yes</answer><answer>no</answer>", None, False),
        ("yes", None, False),
    ],
)
def test_extract_direct(completion, answer, whole):
    found = extract(completion, "direct")
    assert (found.answer, found.well_formed) == (answer, whole)


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", " ", "yes", "no", "\n", "<", "a"]))


@given(PIECES.map("".join), st.sampled_from(["think", "direct", "short"]))
def test_extract_never_fails_and_the_form_holds_an_answer(completion, form):
    found = extract(completion, form)
    assert found.answer is None or (found.answer == found.answer.strip() != "" and found.answer in completion)
    assert not found.well_formed or found.answer is not None
    if found.well_formed and form != "short":
        assert completion.strip().endswith("</answer>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"),
        ("No.", "no"),
        ("Yes, a fracture of the left rib", "yes"),
        ("No, it is not enlarged", "no"),
        ("no pneumothorax", "no"),
        ("The answer is yes.", "yes"),
        ("Yes, there is no fracture", "yes"),
        ("yes no", None),
        ("yes/no", None),
        ("yes or no", None),
        ("No. Yes.", None),
        ("yes no fracture", None),
        ("nodule", None),
        ("normal", None),
        ("是", "yes"),
        ("没有。", "no"),
    ],
)
def test_yes_no(text, expected):
    assert yes_no(text) == expected


@given(st.text())
def test_what_is_closed_can_be_read(text):
    if infer_kind([text]) == "closed":
        assert yes_no(text) is not None


def test_kinds():
    assert infer_kind(["yes", "no finding"]) == "open"
    assert infer_kind([]) == "open"
    assert infer_kind(["N:O"]) == infer_kind(["ye s"]) == "open"
    assert infer_kind(["没有"]) == infer_kind(["No."]) == "closed"
    assert infer_kind(["Yes"], ["Yes", "No"]) == "choice"


def test_placeholders_and_sentences():
    assert is_placeholder("<your answer>") and not is_placeholder("no answer visible")
    assert sentences("One.\nTwo! (Three?) 1.5 cm") == 4


@given(st.text(st.characters(exclude_categories=[])))
def test_any_string_can_go_to_a_tokenizer(text):
    assert len(for_model(text, limit=7).encode("utf-8")) <= 28


@pytest.mark.parametrize("seed", ["a ", "n't", "<answer>", "-", "9.", ",000", "é", "yes ", "twenty ", "the ", "\u0301"])
def test_a_megabyte_takes_under_a_second(seed):
    text = seed * (1_000_000 // len(seed))
    start = time.process_time()
    normalize(text)
    assert time.process_time() - start < 2.0  # four times what it takes on a busy machine
    start = time.process_time()
    for form in ("think", "direct", "short"):
        extract(text, form)
    yes_no(text)
    assert time.process_time() - start < 2.0
