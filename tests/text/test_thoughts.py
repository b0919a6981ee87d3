import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.scorers.judge import parse_verdict
from medrft.text import after_thought, answer_of, extract, part_thought

CASES = Path(__file__).parents[1] / "cases"
THOUGHT = "Right? No, left. Is it yes or no?"
MARKED = {
    "think": ("<think>\n", "\n</think>\n\n"),
    "upper case": ("<THINK>", "</THINK>"),
    "thinking": ("<thinking>", "</thinking>"),
    "thought": ("<thought>", "</thought>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "Seed-OSS": ("<seed:think>", "</seed:think>"),
    "MedGemma": ("<unused94>thought\n", "<unused95>"),
    "Magistral": ("[THINK]", "[/THINK]"),
    "Kimi": ("◁think▷", "◁/think▷"),
    "Gemma 4": ("<|channel>thought\n", "<channel|>"),
    "gpt-oss": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    "Command A": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "Sky-T1": ("<|begin_of_thought|>", "<|end_of_thought|>"),
}


def lines():
    return [json.loads(line) for line in (CASES / "thinking_short.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", lines(), ids=lambda row: row["completion"][-20:])
def test_the_cases(row):
    assert extract(row["completion"], "short").answer == row["answer"]
    assert answer_of(row["completion"]) == row["answer"]


@pytest.mark.parametrize(("opens", "closes"), MARKED.values(), ids=MARKED)
@pytest.mark.parametrize("read", [lambda text: extract(text, "short").answer, answer_of], ids=["short", "rescore"])
def test_every_model_s_thought_is_no_part_of_its_answer(opens, closes, read):
    assert read(f"{opens}{THOUGHT}{closes}left lung") == "left lung"
    assert read(f"{THOUGHT}{closes}left lung\n") == "left lung"  # the template opened it
    assert read(f"{opens}{THOUGHT}{closes}{opens}{THOUGHT}{closes}left lung") == "left lung"
    assert read(f"{opens}{THOUGHT}") is None
    assert read(f"{opens}{THOUGHT}{closes}") is None
    assert read(f"left {opens}{THOUGHT}") is None
    assert read(f"{opens}{THOUGHT}{closes}left lung{opens}{THOUGHT}") is None


@pytest.mark.parametrize(("opens", "closes"), list(MARKED.values())[2:], ids=list(MARKED)[2:])
@pytest.mark.parametrize("form", ["think", "direct"])
def test_a_model_s_own_thought_before_the_form(opens, closes, form):
    own = f"{opens}Maybe <answer>right</answer>?{closes}"
    whole = "<think>Air.</think><answer>left</answer>" if form == "think" else "<answer>left</answer>"
    found = extract(own + whole, form)
    assert found.answer == "left" and not found.well_formed and found.thinking
    assert extract(own, form).answer is None and extract(f"{opens}so <answer>left</answer>", form).answer is None


@pytest.mark.parametrize(("opens", "closes"), MARKED.values(), ids=MARKED)
def test_a_judge_may_think_first(opens, closes):
    for word, score in (("YES", 1.0), ("NO", 0.0)):
        assert parse_verdict(f"{opens}NO? YES? NO.{closes}{word}", "equivalence") == score
        assert parse_verdict(f"NO? YES? NO.{closes}{word}", "equivalence") == score
    assert parse_verdict(f"{opens}YES", "equivalence") is None
    assert parse_verdict(f"{opens}so{closes}1", "reasoning") == 1.0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The answer is \boxed{left lung}.", "left lung"),
        ("<think>x</think><|begin_of_box|>left lung<|end_of_box|>", "left lung"),
        (r"$\boxed{\text{left lung}}$", "left lung"),
        (r"\boxed{left} or \boxed{right}", r"\boxed{left} or \boxed{right}"),
        ("left lung<|im_end|>", "left lung"),
        (
            "<|begin_of_thought|>x<|end_of_thought|>\n\n<|begin_of_solution|>\nleft lung\n<|end_of_solution|>",
            "left lung",
        ),
        ("<|START_THINKING|>x<|END_THINKING|><|START_RESPONSE|>left lung<|END_RESPONSE|>", "left lung"),
        ("<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>left<|return|>", "left"),
        ("a thought: left [lung] <3 cm", "a thought: left [lung] <3 cm"),
    ],
)
def test_boxes_and_ends_of_turns(text, answer):
    assert extract(text, "short").answer == answer


def test_boxes_within_the_form():
    assert extract("<think>x</think><answer><|begin_of_box|>B<|end_of_box|></answer>", "think").answer == "B"


PLAIN = st.text(st.characters(exclude_characters="<[◁\\", exclude_categories=["Cs"]), max_size=40)


@given(PLAIN, PLAIN, st.sampled_from(list(MARKED.values())))
def test_round_trip_and_idempotence(thought, answer, marks):
    """What is put after a thought is what comes out, and parting it again changes nothing."""
    parted = part_thought(f"{marks[0]}{thought}{marks[1]}{answer}")
    assert (parted.rest or "").strip() == answer.strip()
    assert after_thought(parted.rest or "") == parted.rest
    assert extract(answer, "short").answer == (answer.strip() or None)


@given(
    st.lists(
        st.sampled_from([*(mark for pair in MARKED.values() for mark in pair), "yes", "no", " ", "<", "["]), max_size=9
    )
)
def test_parting_any_text_is_stable(pieces):
    rest = after_thought("".join(pieces))
    assert after_thought(rest) == rest or rest == ""
