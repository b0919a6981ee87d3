import csv
import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medrft.scorers import build_scorer
from medrft.text import chosen, normalize
from medrft.text.choices import option_name
from score_items import item

CASES = Path(__file__).parents[1] / "cases"
SCANS = ("CT", "MRI", "PET", "US")
FIGURES = ("Figure D", "Figure C", "Figure B", "Figure A")
VITAMINS = ("Vitamin C deficiency", "Vitamin D deficiency", "Iron overload", "None")
HIP = ("A fracture of the femur", "A dislocation of the hip", "An effusion", "Normal")
LETTERS = ("B", "A", "C")


def rows():
    with (CASES / "choices.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["answer"])
def test_the_cases(row):
    one = item(row["answer"], row["reference"], options=tuple(row["options"].split("|")))
    assert build_scorer("choice_match")([one]) == [float(row["right"])]


SAYS_B = [
    *("B", "b", "(B)", "(b)", "B)", "b)", "B.", "b.", "B:", "[B]", "{B}", '"B"', "'B'", "“B”", "B,", " B ", "B\n"),
    *("**B**", "**B.**", "*B*", "__B__", "`B`", "# B", "Answer: **B**", "**Answer:** B", "**Answer: B**", "<b>B</b>"),
    *(r"\boxed{B}", r"$\boxed{B}$", r"\boxed{\text{B}}", r"\(\boxed{B}\)", r"The answer is $\boxed{\textbf{B}}$."),
    *(
        "<|begin_of_box|>B<|end_of_box|>",
        "The answer is <|begin_of_box|>B<|end_of_box|>.",
        r"So the answer is \boxed{B}",
    ),
    *("Answer: B", "Answer - B", "Answer = B", "answer is B", "Answer B", "ANSWER: B", "Final answer: B", "Answer:\nB"),
    *("The answer is B", "The answer is (B).", "The correct answer is B.", "The best option is B", "the answer is b"),
    *("The correct answer is B because the contrast is soft.", "The answer is option B.", "The answer is: B"),
    *(
        "Option B",
        "option b",
        "Option (B)",
        "Choice B",
        "Option B is correct.",
        "B is correct.",
        "B is the right answer.",
    ),
    *("(B) is correct", "I choose B.", "I choose option B", "I would choose B.", "I'd go with B.", "I select (B)"),
    *(
        "I think B is correct",
        "I think the answer is B.",
        "So the answer is B.",
        "Therefore, the answer is B.",
        "It is B.",
    ),
    *(
        "It's B.",
        "My answer is B",
        "B, because the tissue is soft.",
        "B because the tissue is soft",
        "B\nBecause I see it",
    ),
    *("Based on the image, the answer is B.", "Looking at the contrast, I choose B.", "The answer must be B."),
    *("B. MRI", "B) MRI", "(B) MRI", "B: MRI", "B - MRI", "B – MRI", "B MRI", "B.MRI", "B/MRI", "B = MRI", "b) mri"),
    *("B. MRI.", "B. It is an MRI scan.", "**B. MRI**", "Answer: B. MRI", "MRI (B)", "The answer is B (MRI)."),
    *("MRI", "mri.", "**MRI**", "It is an MRI.", "MRI, not CT", "not CT but MRI", "MRI rather than CT", r"\boxed{MRI}"),
    *(
        "（Ｂ）",
        "Ｂ",
        "答案：B",
        "答案:B",
        "答案是B",
        "答案是B。",
        "正确答案是 B",
        "选B",
        "我选B",
        "选项B",
        "B。",
        "B、MRI",
        "故选B",
    ),
    *("Ⓑ", "𝐁", "A is wrong, B is correct.", "Not A. The answer is B.", "B. MRI\n\nThe tissue is soft."),
]


@pytest.mark.parametrize("text", SAYS_B)
def test_what_says_b(text):
    assert chosen(text, SCANS) == "mri"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "A or B",
            "A, B",
            "A and B",
            "A/B",
            "AB",
            "A B",
            "A B C D",
            "(A) or (B)",
            "B or C",
            "B and C.",
            "B, C",
            "B) or C)",
        ),
        *(
            "The answer is A or B",
            "I choose A and B.",
            "option A or option B",
            "(B) (C)",
            "B. CT",
            "B) CT",
            "B: CT",
            "B CT",
        ),
        *("B/CT", "The answer is B, CT.", "A. MRI", "CT or MRI", "CT, MRI", "B is not correct.", "B is wrong", "not B"),
        *(
            "not MRI",
            "no MRI",
            "E",
            "E.",
            "Z",
            "an ultrasound of unknown kind",
            "",
            "...",
            "A mass",
            "a mass",
            "I",
            "I see",
        ),
        *(r"\boxed{A} \boxed{B}", "B. since CT shows it", "Bone", "b cell", "Because", "x" * 5_000, "A或B", "A、B"),
    ],
)
def test_what_chooses_nothing(text):
    assert chosen(text, SCANS) is None


@pytest.mark.parametrize(
    ("options", "text", "place"),
    [
        (HIP, "B. A dislocation of the hip", 1),
        (HIP, "A. A fracture of the femur", 0),
        (HIP, "A dislocation of the hip", 1),
        (HIP, "A. A dislocation of the hip", None),
        (HIP, "It is a dislocation of the hip.", 1),
        (HIP, "A", 0),
        (HIP, "The answer is A", 0),
        (HIP, "A is correct", 0),
        (HIP, "A fracture", None),
        (VITAMINS, "A. Vitamin C deficiency", 0),
        (VITAMINS, "B) Vitamin D deficiency", 1),
        (VITAMINS, "Vitamin C deficiency", 0),
        (VITAMINS, "A. The child lacks vitamin C", 0),
        (VITAMINS, "None", 3),
        (("Hepatitis A", "Hepatitis B", "Hepatitis C", "Hepatitis D"), "C. Hepatitis C", 2),
        (("Hepatitis A", "Hepatitis B", "Hepatitis C", "Hepatitis D"), "B) Hepatitis C", None),
        (("Hepatitis A", "Hepatitis B", "Hepatitis C", "Hepatitis D"), "Hepatitis B", 1),
        (("Hepatitis A", "Hepatitis B", "Hepatitis C", "Hepatitis D"), "The answer is hepatitis C.", 2),
        (("C-shaped loop", "S-shaped loop", "Straight", "Coiled"), "(A) C-shaped loop", 0),
        (("C-shaped loop", "S-shaped loop", "Straight", "Coiled"), "C-shaped loop", 0),
        (("C-shaped loop", "S-shaped loop", "Straight", "Coiled"), "(A) C-shaped and thin", 0),
        (FIGURES, "B. Figure C", 1),
        (FIGURES, "A. Figure D", 0),
        (FIGURES, "Figure A", 3),
        (FIGURES, "A. Figure A", None),
        (FIGURES, "A", 0),
        (LETTERS, "B", 0),
        (LETTERS, "A", 1),
        (LETTERS, "C", 2),
        (LETTERS, "c", 2),
        (LETTERS, "The answer is A.", 1),
        (LETTERS, "(A) B", 0),
        (LETTERS, "B. A", 1),
        (LETTERS, "(B) C", None),
        (LETTERS, "(A)", None),  # the label of B, or the text A
        (LETTERS, "(C)", 2),
        (("A", "B"), "A or B", None),
        (("Lung", "Left lung", "Right lung"), "left lung", 1),
        (("Lung", "Left lung", "Right lung"), "B. Left lung", 1),
        (("Lung", "Left lung", "Right lung"), "A. Left lung", None),
        (("Fracture", "No fracture"), "no fracture", 1),
        (("Fracture", "No fracture"), "B. No fracture", 1),
        (("Fracture", "No fracture"), "There is no fracture.", 1),
        (("CT", "MRI", "None of the above"), "None of the above", 2),
        (("CT", "MRI", "None of the above"), "C. None of the above.", 2),
        (("CT", "MRI", "All of the above"), "all of the above", 2),
        (("Lung", "Heart", "lung"), "C", 0),
        (("Yes", "No"), "Yes, there is no fracture.", 0),
        (("Yes", "No"), "No (not yes)", 1),
        (("Yes", "No"), "B", 1),
        (("Yes", "No"), "A. No", None),
        (("Yes", "No"), "yes or no", None),
        (("1", "2", "3", "4"), "2", 1),
        (("1", "2", "3", "4"), "B. 2", 1),
        (("1", "2", "3", "4"), "There are 3 lesions", 2),
        (("1", "2", "3", "4"), "A. 3", None),
        (("> 5 cm", "< 5 cm"), "B. < 5 cm", 1),
        (("> 5 cm", "< 5 cm"), "> 5 cm", 0),
        (("HER2+", "HER2-"), "HER2-", 1),
        (("HER2+", "HER2-"), "A. HER2+", 0),
        (("T1", "T2", "T2*"), "T2", 1),
        (("T cells", "B cells"), "B cells", 1),
        (("T cells", "B cells"), "B. B cells", 1),
        (("A. fumigatus", "C. albicans"), "A. fumigatus", 0),
        (("A. fumigatus", "C. albicans"), "C. albicans", 1),
        (("肺", "肝"), "答案：B", 1),
        (("肺", "肝"), "B. 肝", 1),
        (("肺", "肝"), "A. 肝", None),
        (tuple(f"level {n}" for n in range(30)), "level 29", 29),
        (tuple(f"level {n}" for n in range(30)), "Z", 25),
        (("-15 HU", "15 HU"), "minus 15 HU", 0),
    ],
)
def test_options_with_letters_articles_and_signs(options, text, place):
    assert chosen(text, options) == (None if place is None else normalize(options[place]).removeprefix("a. "))


WORD = st.sampled_from(
    [
        *(
            "Vitamin",
            "C",
            "A",
            "hepatitis",
            "B",
            "is",
            "the",
            "not",
            "a",
            "T2*",
            "HER2+",
            "HER2-",
            "option",
            "5,2 cm",
            "½",
        ),
        *(
            "(D)",
            "C-shaped",
            "E.",
            "lung",
            "肺",
            "α",
            "yes",
            "no",
            "or",
            "and",
            "$x$",
            "**b**",
            "answer:",
            "10⁶",
            "> 3",
        ),
    ]
)
OPTION = st.lists(WORD, min_size=1, max_size=4).map(" ".join)
FORMS = ("{}", "({})", "{}.", "{})", "**{}**", r"\boxed{{{}}}", "Answer: {}", "The answer is {}.")
WITH_TEXT = ("({}) {text}", "{}: {text}", "{}. {text}", "**{}. {text}**", "{}) {text}", "Answer: {}. {text}")


@given(st.lists(OPTION, min_size=2, max_size=5, unique_by=normalize), st.sampled_from([*FORMS, *WITH_TEXT]), st.data())
def test_round_trip_of_letters(options, form, data):
    """Any option's letter, alone or with its text, chooses it, whatever letters and signs the options hold."""
    options = tuple(options)
    place = data.draw(st.integers(0, len(options) - 1))
    own = option_name(options[place], place)
    assume(own and all(len(option_name(option, number)) > 1 for number, option in enumerate(options)))
    assume([option_name(option, number) for number, option in enumerate(options)].count(own) == 1)
    assert chosen(form.format("ABCDE"[place], text=options[place]), options) == own


@given(st.lists(OPTION, min_size=2, max_size=5, unique_by=normalize), st.data())
def test_an_option_s_own_text_chooses_it(options, data):
    place = data.draw(st.integers(0, len(options) - 1))
    assume(normalize(options[place]))
    found = chosen(options[place], tuple(options))
    assert found in (option_name(options[place], place), None)
    assert found is not None or re.match(r"\W*\w\W", options[place])


@given(
    st.permutations(range(4)), st.sampled_from([*FORMS, *WITH_TEXT]), st.sampled_from([SCANS, FIGURES, VITAMINS, HIP])
)
def test_permuting_the_options_permutes_the_letters(order, form, options):
    shuffled = tuple(options[place] for place in order)
    for place, option in enumerate(shuffled):
        assert chosen(form.format("ABCD"[place], text=option), shuffled) == normalize(option)


@given(
    st.lists(
        st.sampled_from(["A", "B", "CT", "MRI", "not", "or", "is", "the", "answer", ".", ",", "(", ")", "\\boxed{"])
    )
)
def test_reading_an_option_again_changes_nothing(words):
    once = chosen(" ".join(words), SCANS)
    assert once is None or chosen(once, SCANS) == once


SAID = (
    "{letter}. {text}",
    "{text}",
    "({letter}) {text}",
    "The answer is {letter}.",
    "{letter}",
    "{letter}: {text}",
    "**{letter}**",
    "The answer is ({letter}) {text}.",
    "{letter}) {text}",
    "\\boxed{{{letter}}}",
)


@pytest.mark.parametrize("said", SAID)
def test_every_option_of_medxpertqa_can_be_answered(shared_data, said):
    """Options hold letters of their own ("Figure C"): of the rows' options each is the reference once."""
    lines = (shared_data / "samples/medxpertqa_mm/test.jsonl").read_text(encoding="utf-8").splitlines()
    match = build_scorer("choice_match")
    wrong, asked = [], 0
    for row in map(json.loads, lines):
        options = tuple(option["content"] for option in row["options"])
        for option in row["options"]:
            answer = said.format(letter=option["letter"], text=option["content"])
            asked += len(options)
            for reference in options:
                score = match([item(answer, reference, options=options)])[0]
                if score != float(reference == option["content"]):
                    wrong.append((answer, reference, score))
    assert wrong == [] and asked >= 500
