"""What a thought must not say, and what must not stand in two thoughts."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.curation.duplicates import Kept, word_shingles
from medrft.curation.thoughts import contradicts_answer, leaked_words
from medrft.types import Example


def example(question, answer, *, kind=None, options=()):
    kind = kind or ("closed" if answer in ("yes", "no") else "choice" if options else "open")
    return Example(
        id="toy/train/0",
        dataset="toy",
        split="train",
        images=(Path("0.png"),),
        question=question,
        references=(answer,),
        kind=kind,
        options=options,
    )


@pytest.mark.parametrize(
    "thought",
    [
        "The reference says effusion, so there must be fluid.",
        "According to the given answer, the lesion is on the left.",
        "The reference answer is pneumonia.",
        "This agrees with the ground truth.",
        "Based on the provided answer the heart is large.",
        "The opacity matches the correct answer.",
        "As stated in the answer, it is an MRI.",
        "The answer key says yes.",
        "Since the correct answer is no, the lungs must be clear.",
        "I was told the answer: left lung.",
        "The correct answer is already given: cyst.",
        "AS PER THE EXPECTED LABEL it is a mass.",
        "According to the reference, the spleen is large.",
        "The answer given is yes, so there must be fluid.",
        "The provided response is pneumonia.",
    ],
)
def test_leaks(thought):
    assert leaked_words(thought)


@pytest.mark.parametrize(
    "thought",
    [
        "So the correct answer is no.",  # how models conclude
        "Therefore the answer is left lung.",
        "The answer is not clear at first, but there is fluid.",
        "The diameter is below the reference range.",
        "According to the reference line, the vertebra has slipped.",
        "Compared with the reference image, the signal is low.",
        "The heart is larger than expected.",
        "The target sign is seen in the bowel.",
        "Contrast was given, and the lesion enhances.",
        "Given that the lungs are clear, there is no effusion.",
        "Of the given answer options, only CT fits.",
        "Based on the answer choices, it must be a lung.",
        "This is written in the expected answer format.",
        "The expected response to contrast is seen.",
        "The answer given the bright rim is a cyst.",
        "",
    ],
)
def test_no_leak(thought):
    assert leaked_words(thought) is None


SIDE = "Is the effusion on the left side?"


@pytest.mark.parametrize(
    ("question", "answer", "thought", "expected"),
    [
        ("Is there a fracture?", "yes", "The bones look intact. There is no fracture.", True),  # negation
        ("Is there a fracture?", "no", "A fracture of the rib is seen.", True),
        ("Is there a fracture?", "no", "There is no fracture of the rib.", False),
        ("Is there a fracture?", "yes", "A line crosses the rib. This is a fracture.", False),
        (SIDE, "yes", "There is an effusion on the right side.", True),  # laterality
        (SIDE, "no", "There is an effusion on the right side.", False),
        (SIDE, "yes", "Fluid is seen. It is a large effusion.", False),  # says nothing of the side
        ("Is this an MRI?", "yes", "This is a CT scan of the abdomen.", True),  # modality
        ("Is this an MRI?", "no", "This is a CT scan of the abdomen.", False),
        ("Where is the mass?", "right lobe of the liver", "A mass is in the left lobe of the liver.", True),
        ("Where is the mass?", "left lobe of the liver", "A mass is in the left lobe of the liver.", False),
        ("On which side is the nodule?", "left", "There is a nodule in the right upper zone.", True),
        ("On which side is the nodule?", "right", "There is a nodule in the right upper zone.", False),
        ("Which lung is abnormal?", "left", "The right lung is clear. The left lung has an opacity.", False),
        ("Where is the lesion?", "right lung", "The left lung is clear.", False),  # clears the other side
        ("Where is the lesion?", "right lung", "The left lung has a lesion.", True),
        ("On which side is the effusion?", "left", "There is no effusion on the right side.", False),
        ("On which side is the effusion?", "right", "There is no effusion on the right side.", True),
        (SIDE, "yes", "There is no effusion on the right side.", False),
        ("Is the left lung normal?", "yes", "The right lung is normal.", False),
        ("What is seen in the lung?", "pneumothorax", "The lungs show no pneumothorax.", True),
        ("What abnormality is seen?", "none", "There is no abnormality.", False),
        ("Is there a fracture?", "yes", "It is hard to see. So the answer is no.", True),  # in so many words
        ("Is there a fracture?", "no", "A fracture line? An artefact. So the answer is no.", False),
        ("Which side?", "left", "The mark is seen there. The answer is: right.", True),
        ("How large is it?", "2.5 cm", "One measures it. The answer is 2.5 cm.", False),
        ("How large is it?", "3 cm", "One measures it. The answer is 3.5 cm.", True),
        ("What is seen?", "a nodule", "A round density. That is all.", False),  # nothing to hold against it
        ("What is seen?", "a nodule", "", False),
        ("Is there a mass?", "no", "The question is: is there a mass? The liver is smooth.", False),  # asks
        ("Is there a mass?", "no", "To see if there is a mass, one looks at the liver.", False),  # supposes
        ("Is there a mass?", "no", "There is a mass\uff1f The liver is smooth.", False),  # asks, in full width
        ("Is this an MRI?", "yes", "One sees bone.\u3002This is a CT scan of the abdomen.", True),
    ],
)
def test_contradictions(question, answer, thought, expected):
    assert contradicts_answer(thought, answer, example(question, answer)) is expected


def test_contradiction_of_an_option_by_its_letter():
    asked = example("On which side is the nodule?", "left", options=("left", "right"))
    assert contradicts_answer("There is a nodule on the right. The answer is B.", "A", asked)
    assert not contradicts_answer("There is a nodule on the left. The answer is A.", "A", asked)


@given(st.text(max_size=300), st.sampled_from(["yes", "no", "left lung", "?"]))
def test_any_thought_can_be_read(thought, answer):
    asked = example("Is there a mass in the left lung?", answer)
    assert contradicts_answer(thought, answer, asked) in (True, False)
    leaked_words(thought)


LONG = "This is a chest radiograph and there is a round density in the left upper zone which means a small nodule here"


@pytest.mark.parametrize(
    ("thought", "question", "repeats"),
    [
        (LONG, "Another question?", True),
        (LONG.upper() + ".", "Another question?", True),
        (LONG + " now", "Another question?", True),  # one word in twenty
        (LONG, "the first question", False),  # the same question may get the same thought
        (LONG.replace("left", "right"), "Another question?", False),  # another side is another thought
        ("The lungs are clear and the heart is of normal size.", "Another question?", False),
    ],
)
def test_near_identical(thought, question, repeats):
    kept = Kept(0.9, [LONG, thought])
    kept.add("a", LONG, "The first question?")
    assert (kept.repeats(thought, question) == "a") is repeats


def test_near_identical_can_be_off():
    kept = Kept(None, [])
    kept.add("a", LONG, "one")
    assert kept.repeats(LONG, "two") is None


WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=14).map(" ".join)


@given(st.lists(WORDS, max_size=12), WORDS, st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_index_finds_what_comparing_all_finds(thoughts, new, threshold):
    kept = Kept(threshold, [*thoughts, new])
    for number, thought in enumerate(thoughts):
        kept.add(str(number), thought, f"question {number}")
    mine = word_shingles(new)
    all_pairs = [
        str(number)
        for number, thought in enumerate(thoughts)
        if len(mine & word_shingles(thought)) >= threshold * len(mine | word_shingles(thought)) - 1e-9
    ]
    assert kept.repeats(new, "new") == (all_pairs[0] if all_pairs else None)
