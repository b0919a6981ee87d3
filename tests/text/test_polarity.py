import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.text import tokens, yes_no, yes_no_said
from medrft.text.polarity import SAYS

CASES = Path(__file__).parents[1] / "cases"
OTHER = {"yes": "no", "no": "yes", None: None}


def rows():
    with (CASES / "yes_no.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def swapped(text):
    """The text with yes and no exchanged, 是 and 否, 有 and 没有."""
    pairs = {
        "yes": "no",
        "no": "yes",
        "yeah": "nope",
        "nope": "yeah",
        "是": "否",
        "否": "是",
        "有": "没有",
        "没有": "有",
    }
    found = re.compile(r"\b(?:yes|no|yeah|nope)\b|没有|[是否有]", re.IGNORECASE)
    return found.sub(lambda match: pairs[match[0].lower()], text)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["text"])
def test_the_cases(row):
    assert yes_no(row["text"]) == (row["reads_as"] or None)


FRAMES = [
    *(
        "{}",
        "{}.",
        "{}!",
        "**{}**",
        "({})",
        '"{}"',
        "{}\n",
        "\n\n{}\n",
        "{}, it is.",
        "{}; the lungs are clear",
        "{} -- see above",
    ),
    *(
        "Answer: {}",
        "Answer - {}",
        "answer={}",
        "Answer:\n{}",
        "**Answer:** {}",
        "Final answer: {}.",
        "The answer is {}.",
    ),
    *(
        "The answer is {} because the film shows it.",
        "The answer is {} since the film shows it",
        "The answer is {}, as seen.",
    ),
    *(
        "{} because the film shows it",
        "{} because it is seen",
        "Based on the image, {} there is not.",
        "I would say {}.",
    ),
    *(
        "The answer is: {}",
        "The answer is '{}' because I see it",
        "{} (not {other})",
        "Answer: {} (not {other})",
        "{}, not {other}",
    ),
    *(
        "{} rather than {other}",
        "It is not {other}. It is {}.",
        "{} and not {other}",
        "Is it yes or no? {}.",
        "Yes/No: {}",
    ),
    *(
        "no or yes? {}",
        r"\boxed{{{}}}",
        "So the answer is {}",
        "In this image, {}, it is seen",
        "It is a {}.",
        "{}, {}.",
        "{} {}",
    ),
    *(
        "The findings are subtle; {}",
        "{} definitely",
        "{} indeed it is",
        "{} the lungs are clear",
        "{} I do not think so",
    ),
    *(
        "Looking at the film I conclude {}",
        "{} — the heart is large",
        "{}：the heart",
        "{}（see above）",
        "{}，对"[:3],
        "{} fracture",
    ),
]
CHINESE = [
    *(
        "{}",
        "{}。",
        "{}，图中可见病灶",
        "{},图中可见病灶",
        "{}；图中",
        "{}：图中",
        "{}！",
        "{}？",
        "{}（见图）",
        "答案：{}",
        "答案:{}",
    ),
    *(
        "答案是{}",
        "答案是{}。",
        "答案为{}，因为图中可见",
        "正确答案：{}。",
        "回答：{}",
        "我认为{}",
        "{}因为图中可见",
        "根据图像，{}。",
    ),
    *("{}、图中可见", "{}\n图中可见", "「{}」", "**{}**", "所以答案是{}", "图像正常，{}"),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_both_words_are_read_in_every_frame(frame):
    assert yes_no(frame.format("Yes", "Yes", other="No")) == "yes"
    assert yes_no(frame.format("no", "no", other="yes")) == "no"


@pytest.mark.parametrize("frame", CHINESE)
@pytest.mark.parametrize(
    ("yes", "no"), [("是", "否"), ("有", "没有"), ("是的", "不是"), ("存在", "不存在"), ("包含", "不包含")]
)
def test_both_words_are_read_in_every_chinese_frame(frame, yes, no):
    assert yes_no(frame.format(yes)) == "yes"
    assert yes_no(frame.format(no)) == "no"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "There is no fracture",
            "The lungs show no effusion.",
            "In this image, no effusion",
            "It has no mass and no nodule",
        ),
        *(
            "yes or no",
            "no/yes",
            "Yes. No.",
            "no, yes",
            "Yes (no)",
            "yes no fracture",
            "not yes",
            "not no",
            "neither yes nor no",
        ),
        *(
            "It cannot be yes",
            "is it yes or no?",
            "Yes or no? Hard to say.",
            "not sure if yes or no",
            "nodule",
            "eyes",
            "notice",
        ),
        *(
            "是否",
            "有没有",
            "图中有病灶",
            "图中没有病灶",
            "不清楚",
            "是还是否",
            "无法判断",
            "heart with no sign of yesterday",
        ),
    ],
)
def test_what_says_neither(text):
    assert yes_no(text) is None and yes_no(swapped(text)) is None


def test_a_hedge_says_both():
    for text in ("yes or no", "yes and no", "No. Yes.", "yes/no", "Yes or no?"):
        assert set(yes_no_said(text)) == {"yes", "no"}


PIECES = st.sampled_from(
    [
        *(
            "yes",
            "no",
            "Yes",
            "NO",
            "yeah",
            "nope",
            "not",
            "isn't",
            "answer",
            "is",
            "the",
            "a",
            "because",
            "there",
            "it",
            "or",
        ),
        *(
            "and",
            "but",
            "rather than",
            "instead of",
            "fracture",
            "lung",
            "say",
            ".",
            ",",
            ":",
            ";",
            "?",
            "(",
            ")",
            "\n",
            "-",
            "/",
        ),
        *(
            "，",
            "。",
            "；",
            "：",
            "？",
            "！",
            "是",
            "否",
            "有",
            "没有",
            "答案",
            "因为",
            "图",
            "*",
            '"',
            "'",
            "never",
            "neither",
            "nor",
        ),
    ]
)


@given(st.lists(PIECES, max_size=14))
def test_swapping_the_words_swaps_the_reading(words):
    """In any sentence. Chinese words stand apart: 是 inside 不是 is another word."""
    text = " ".join(words)
    assert yes_no(swapped(text)) == OTHER[yes_no(text)]
    assert set(yes_no_said(swapped(text))) == {OTHER[word] for word in yes_no_said(text)}


@pytest.mark.parametrize(
    ("text", "said"), [("答案 是 是", "yes"), ("答案 否 否", "no"), ("答案是否", "no"), ("答案 否 是", "yes")]
)
def test_a_word_between_answer_and_yes_or_no_is_passed_over(text, said):
    assert yes_no(text) == said


@given(st.text(max_size=40), st.sampled_from(["yes", "no"]), st.text(max_size=40))
def test_swapping_the_word_in_any_text_swaps_the_reading(before, word, after):
    around = f"{before} {after}"
    if not (set(tokens(around)) & SAYS.keys() or re.search("[是否有没不无存包可对]", around)):
        one, other = yes_no(f"{before} {word} {after}"), yes_no(f"{before} {OTHER[word]} {after}")
        assert other == OTHER[one]


# ---- the references of real data sets: no reading may depend on which answer is right

OPPOSITES = [
    ("yes", "no"),
    ("是", "否"),
    ("有", "没有"),
    ("包含", "不包含"),
    ("可以", "不可以"),
    ("是的", "不是"),
    ("存在", "不存在"),
]
CLOSED = dict([*OPPOSITES, *((no, yes) for yes, no in OPPOSITES)])
SENTENCE = "The answer is {} because the film shows it"


def references(path, language=None):
    """The closed references of a test split that are a bare yes or no."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for row in rows if language in (None, row.get("q_lang"))]
    told = [str(row["answer"]).strip() for row in rows if row["answer_type"].strip() == "CLOSED"]
    return [text for text in told if text.lower() in CLOSED]


def read_as(references, frame):
    """How many references there are of each polarity, and how many are read right in a frame."""
    asked, right = Counter(), Counter()
    for text in references:
        said = yes_no(text)
        asked[said] += 1
        right[said] += yes_no(frame.format(text, text, other=CLOSED[text.lower()])) == said
    return asked, right


@pytest.fixture(scope="module")
def closed(shared_data):
    found = {
        "vqa_rad": references(shared_data / "vqa_rad/testset.json"),
        "slake en": references(shared_data / "slake/Slake1.0/test.json", "en"),
        "slake zh": references(shared_data / "slake/Slake1.0/test.json", "zh"),
    }
    return found


def test_a_reason_after_the_word_on_vqa_rad(closed):
    assert read_as(closed["vqa_rad"], SENTENCE) == (Counter(yes=118, no=133),) * 2


def test_full_width_commas_on_slake(closed):
    chinese = closed["slake zh"]
    for comma in "，,；：。！？":
        asked, right = read_as(chinese, f"{{}}{comma}图中可见")
        assert right == asked and asked.total() == 347


@pytest.mark.parametrize("name", ["vqa_rad", "slake en"])
def test_every_reference_is_read_in_every_frame(closed, name):
    for frame in FRAMES:
        asked, right = read_as(closed[name], frame)
        assert right == asked, frame


def test_every_chinese_reference_is_read_in_every_frame(closed):
    for frame in CHINESE:
        asked, right = read_as(closed["slake zh"], frame)
        assert right == asked, frame
