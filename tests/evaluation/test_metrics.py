from __future__ import annotations

import pytest

from medrft.evaluation.metrics import METRICS, POOLED, SCORERS, cluster_of, source_of, summarize_rows, values_of


def row(kind="open", *, scores=None, images=("a",), control="none", temperature=0.0, **more):
    base = {"id": "x/test/1", "kind": kind, "images": list(images), "control": control, "temperature": temperature}
    said = {"sample": 0, "answer": "lung", "truncated": False, "n_tokens": 5, "metadata": {}}
    return {**base, **said, "scores": scores or {}, **more}


FOUR = {"bleu1": 0.2, "rouge1": 0.4, "bertscore": 0.6, "cosine": 0.8}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (FOUR, 0.5),
        ({**FOUR, "cosine": None}, None),  # a missing part has no average
        ({"bleu1": 0.2}, "absent"),
        ({**FOUR, "bleu1": 0.0, "rouge1": 0.0, "bertscore": 0.0, "cosine": 0.0}, 0.0),
    ],
)
def test_the_papers_average(scores, expected):
    assert values_of(row(scores=scores)).get("average", "absent") == (
        expected if not isinstance(expected, float) else pytest.approx(expected)
    )


def test_accuracy_comes_from_the_match_of_each_kind():
    assert values_of(row("closed", scores={"yes_no_match": 1.0}))["accuracy"] == 1.0
    assert values_of(row("choice", scores={"choice_match": 0.0}))["accuracy"] == 0.0


def test_answers_that_no_model_wrote_have_no_length_or_truncation():
    values = values_of(row(scores={"exact_match": 1.0}, truncated=None, n_tokens=None))
    assert values == {"exact_match": 1.0}


def test_kinds_are_never_pooled_except_where_a_metric_means_the_same():
    rows = [
        row("closed", scores={"yes_no_match": 1.0, "truth": 1.0, "correct": 1.0}, images=["a"]),
        row("open", scores={**FOUR, "exact_match": 0.0, "truth": 0.0, "correct": 0.0}, images=["b"]),
    ]
    found = summarize_rows(rows)["none"]
    assert set(found) == {"closed", "open", "all"}
    assert set(found["all"]) == {"truth", "truncated", "n_tokens"}
    assert found["all"]["truth"]["mean"] == 0.5
    assert found["closed"]["accuracy"] == {"mean": 1.0, "low": None, "high": None, "n": 1, "unscored": 0}


def test_sources_are_apart():
    rows = [
        row(scores={"exact_match": 1.0}),
        row(scores={"exact_match": 0.0}, control="blank"),
        row(scores={"exact_match": 0.0}, temperature=0.7),
    ]
    assert [source_of(r) for r in rows] == ["none", "blank", "sampled"]
    found = summarize_rows(rows)
    assert found["none"]["open"]["exact_match"]["mean"] == 1.0
    assert found["blank"]["open"]["exact_match"]["mean"] == 0.0
    assert found["sampled"]["open"]["exact_match"]["n"] == 1


def test_unscored_is_counted_and_left_out():
    rows = [row(scores={"cosine": 0.5}), row(scores={"cosine": None}, images=["b"])]
    assert summarize_rows(rows)["none"]["open"]["cosine"] == {
        "mean": 0.5,
        "low": None,
        "high": None,
        "n": 1,
        "unscored": 1,
    }


def test_all_unscored_has_no_mean():
    found = summarize_rows([row(scores={"cosine": None})])["none"]["open"]["cosine"]
    assert (found["mean"], found["n"], found["unscored"]) == (None, 0, 1)


def test_the_interval_is_over_images():
    # ten questions about each of two images, all alike: only the images carry information
    rows = [row(scores={"exact_match": float(i < 10)}, images=["a" if i < 10 else "b"]) for i in range(20)]
    found = summarize_rows(rows)["none"]["open"]["exact_match"]
    assert found["low"] < 0.01 and found["high"] > 0.99 and found["n"] == 20


def test_a_penalty_has_no_place_on_the_logit():
    rows = [row(scores={"brevity": value}, images=[str(value)]) for value in (-1.0, -0.5, 0.0)]
    found = summarize_rows(rows)["none"]["open"]["brevity"]
    assert found["mean"] == -0.5 and found["low"] < -1 < found["high"]


def sampled(right, *, answers=None, image="a", example="x/test/1", **scores):
    return [
        row(
            id=example,
            images=[image],
            temperature=1.0,
            sample=i,
            answer=answers[i] if answers else "lung",
            scores={"correct": value, "exact_match": value, **scores},
        )
        for i, value in enumerate(right)
    ]


def test_samples_of_one_example_count_once():
    rows = sampled([1.0, 0.0, 0.0, 0.0]) + sampled([1.0] * 4, image="b", example="x/test/2")
    found = summarize_rows(rows)["sampled"]["open"]
    assert (found["exact_match"]["mean"], found["exact_match"]["n"]) == (0.625, 2)
    assert [name for name in found if "@" in name] == ["maj@2", "maj@4", "pass@1", "pass@2", "pass@4"]
    assert (found["pass@1"]["mean"], found["pass@2"]["mean"], found["pass@4"]["mean"]) == (0.625, 0.75, 1.0)
    assert found["pass@4"]["n"] == 2
    assert not any("@" in name for name in summarize_rows(rows)["sampled"]["all"])


def test_an_example_with_an_unscored_sample_has_no_pass_at_k():
    found = summarize_rows(sampled([1.0, None]))["sampled"]["open"]
    assert (found["pass@2"]["n"], found["pass@2"]["unscored"]) == (0, 1)
    assert (found["exact_match"]["mean"], found["exact_match"]["unscored"]) == (1.0, 0)


def test_a_judge_stands_with_its_own_spread():
    votes = [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, None)]
    rows = [row(images=[str(i)], scores={"judge": 0.5, "judge_1": a, "judge_2": b}) for i, (a, b) in enumerate(votes)]
    found = summarize_rows(rows)["none"]["open"]
    assert "judge_1" not in found
    assert found["judge"]["n"] == 4
    # over the three rows with both verdicts: means 2/3 and 1/3, one of three flips
    assert found["judge"]["repeats"] == 2
    assert found["judge"]["flips"] == pytest.approx(1 / 3)
    assert found["judge"]["repeat_sd"] == pytest.approx((1 / 3) / 2**0.5)


def test_a_question_without_image_is_its_own_cluster():
    assert cluster_of(row(images=[])) == ("x/test/1",)


def test_names_are_known():
    assert set(POOLED) <= set(METRICS)
    assert {name for names in SCORERS.values() for name in names} <= set(METRICS) | {"yes_no_match", "choice_match"}
