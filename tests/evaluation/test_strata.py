from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.evaluation.strata import SMALL, head_answers, measure_strata, with_frequency
from medrft.types import Example


def example(answer, kind="open", split="train", **metadata):
    return Example(
        id=f"x/{split}/1",
        dataset="x",
        split=split,
        images=(Path("a.png"),),
        question="What?",
        references=(answer,),
        kind=kind,
        metadata=metadata,
    )


def row(i, *, score=1.0, control="none", temperature=0.0, kind="open", metadata=None, **scores):
    return {
        "id": f"x/test/{i}",
        "kind": kind,
        "images": [str(i)],
        "control": control,
        "temperature": temperature,
        "sample": 0,
        "truncated": False,
        "n_tokens": 4,
        "scores": {"correct": score, **scores},
        "metadata": metadata or {},
    }


@pytest.mark.parametrize(
    ("answers", "head"),
    [
        (["lung", "lung", "heart", "liver"], {"lung"}),
        (["lung", "Lung.", "the lung", "heart"], {"lung"}),  # counted after normalisation
        (["lung", "heart", "liver", "brain"], {"brain", "heart"}),  # ties by alphabet
        (["lung"], {"lung"}),
        (["lung", "lung", "heart", "heart", "liver"], {"heart", "lung"}),
    ],
)
def test_head_answers_make_up_half_of_train(answers, head):
    assert head_answers([example(answer) for answer in answers])["open"] == head


@given(st.lists(st.sampled_from(["lung", "heart", "liver", "brain", "spleen"]), min_size=1, max_size=40))
def test_no_fewer_answers_would_do(answers):
    head = head_answers([example(answer) for answer in answers])["open"]
    counts = sorted((answers.count(answer) for answer in head), reverse=True)
    assert sum(counts) >= len(answers) / 2 > sum(counts[:-1])


def test_kinds_are_counted_apart():
    train = [example("yes", "closed")] * 9 + [example("no", "closed"), example("lung"), example("lung")]
    asked = [example("yes", "closed", "test"), example("No", "closed", "test"), example("Lungs", split="test")]
    asked.append(example("CT", "choice", "test"))
    found = [one.metadata.get("frequency") for one in with_frequency(asked, train)]
    assert found[:2] == ["head", "tail"]
    assert found[3] is None  # train has no choices: nothing is known
    assert [one.references for one in with_frequency(asked, train)] == [one.references for one in asked]


def test_any_reference_may_be_common():
    two = Example(**{**{f: getattr(example("x"), f) for f in Example.__slots__}, "references": ("kidney", "lung")})
    assert with_frequency([two], [example("lung")])[0].metadata["frequency"] == "head"


def test_strata_of_each_source_and_kind():
    rows = [row(i, score=float(i % 2), metadata={"modality": "CT" if i < 30 else "MR"}) for i in range(40)]
    rows += [row(i, control="blank", score=0.0, metadata={"modality": "CT"}) for i in range(3)]
    rows += [row(i, temperature=1.0, metadata={"modality": "CT"}) for i in range(3)]
    found = measure_strata(rows)
    assert set(found) == {"none", "blank"}
    modality = found["none"]["open"]["modality"]
    assert {value: metrics["correct"]["n"] for value, metrics in modality.items()} == {"CT": 30, "MR": 10}
    assert modality["CT"]["correct"]["low"] < 0.5 < modality["CT"]["correct"]["high"]
    assert [modality[value]["correct"]["small"] for value in ("CT", "MR")] == [False, True]
    assert SMALL == 20
    assert found["blank"]["open"]["modality"]["CT"]["correct"]["mean"] == 0.0


def test_kinds_are_pooled_for_truth_alone():
    rows = [row(0, truth=1.0, metadata={"organ": "lung"}), row(1, kind="closed", metadata={"organ": "lung"})]
    rows[1]["scores"] |= {"truth": 0.0, "yes_no_match": 0.0}
    found = measure_strata(rows)["none"]
    assert set(found["all"]["organ"]["lung"]) == {"truth"}
    assert set(found["closed"]["organ"]["lung"]) == {"truth", "accuracy"}
    assert "all" not in measure_strata([row(0, metadata={"organ": "lung"})])["none"]


def test_rows_without_metadata_are_in_no_stratum():
    assert measure_strata([row(0)]) == {"none": {}}
