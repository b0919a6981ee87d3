"""Judgements of people: readers, figures against scipy and by hand, ceilings, worst rows."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from scipy import stats

import human_files
from human_files import KQA, MEDEC, RADJUDGE, write_csv, write_radpref
from medrft.audit import load_subject
from medrft.audit.human import HumanSet, Order, Rated, compare_with_people, read_human
from medrft.audit.human.rows import as_sentences, keeps_order
from medrft.audit.subject import Own
from medrft.errors import DataError, UnknownNameError
from medrft.rewards import build_reward

SHARED = Path(os.environ.get("MEDRFT_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "human"


def subject(name="plain"):
    reward = build_reward({"parts": [{"scorer": f"{human_files.__file__}:Plain", "weight": 1.0}]})
    return Own(name=name, reward=reward)


def rated(votes, scores, studies=None):
    rows = [
        Rated(id=f"row {i}", references=("left effusion",), candidate=f"{score} words", study=study, votes=tuple(vote))
        for i, (vote, score, study) in enumerate(
            zip(votes, scores, studies or map(str, range(len(scores))), strict=True)
        )
    ]
    raters = tuple(f"r{i}" for i in range(len(rows[0].votes)))
    kind = "ratings" if isinstance(rows[0].votes[0], float) else "labels"
    return HumanSet(name="toy", reader="columns", kind=kind, rows=tuple(rows), raters=raters)


def measured(judged, **more):
    (found,) = compare_with_people([subject()], [judged], form="direct", **more)
    return found, found["rewards"]["plain"]


RATINGS = [(5.0, 4.0), (1.0, 2.0), (3.0, 3.0), (2.0, 4.0), (4.0, 5.0), (1.0, 1.0)]
SCORES = [0.9, 0.1, 0.2, 0.4, 0.3, 0.1]


def test_ratings_give_tau_with_the_mean_rating_and_the_raters_own_as_ceiling():
    found, row = measured(rated(RATINGS, SCORES))
    means = [sum(votes) / 2 for votes in RATINGS]
    first, second = zip(*RATINGS, strict=True)
    assert row["figure"]["mean"] == pytest.approx(stats.kendalltau(SCORES, means).statistic)
    assert row["figure"]["low"] < row["figure"]["mean"] < row["figure"]["high"]
    assert found["ceiling"]["mean"] == pytest.approx(stats.kendalltau(first, second).statistic)
    assert found["ceiling"]["alone"]["mean"] == pytest.approx(found["ceiling"]["mean"])  # two raters: the same pairs
    assert (found["figure"], found["n"], found["studies"], row["unscored"]) == ("tau", 6, 6, 0)


def test_an_unscored_row_is_counted_and_left_out():
    _, row = measured(rated([*RATINGS, (5.0, 5.0)], [*SCORES, "none"]))
    _, without = measured(rated(RATINGS, SCORES))
    assert row["unscored"] == 1 and row["figure"]["n"] == 6
    assert row["figure"]["mean"] == without["figure"]["mean"]


def test_labels_go_by_majority_and_ties_are_listed():
    votes = [("right", "right", "wrong"), ("wrong", "wrong", "wrong"), ("right", "wrong", None), ("right",) * 3]
    found, row = measured(rated(votes, [0.8, 0.9, 0.1, 0.95]))
    assert row["figure"]["mean"] == 0.5  # 0.8 and 0.95 against 0.9
    assert row["figure"]["n"] == 3
    assert any("tie" in note and "row 2" in note for note in found["notes"])
    assert row["paid"]["right"]["mean"] == pytest.approx(0.875) and row["paid"]["wrong"]["mean"] == 0.9
    same = [1, 0, 0, 1, 1, 1, 0, 1, 1, 1]
    assert found["ceiling"]["same"]["mean"] == pytest.approx(sum(same) / len(same))


def test_labels_of_one_accord_have_a_ceiling_of_one():
    found, _ = measured(rated([("right", "right"), ("wrong", "wrong"), ("right", "right")], [0.5, 0.4, 0.3]))
    assert found["ceiling"]["mean"] == 1.0 and found["ceiling"]["same"]["mean"] == 1.0


def test_a_difference_is_paired_and_that_to_itself_is_not_shown():
    judged = rated(RATINGS, SCORES)
    (found,) = compare_with_people([subject("a")], [judged], against=[subject("b")], form="direct")
    assert found["rewards"]["a"]["differences"]["b"]["mean"] == 0
    assert found["rewards"]["b"]["differences"] == {}
    assert found["audited"] == ["a"] and list(found["rewards"]) == ["a", "b"]


def test_the_worst_rows_are_those_whose_ranks_are_farthest_apart():
    _, row = measured(rated([(1.0,), (2.0,), (3.0,), (4.0,), (5.0,)], [0.9, 0.2, 0.3, 0.4, 0.5], list("abcde")))
    assert row["worst"][0]["id"] == "row 0" and row["worst"][0]["gap"] > 0
    assert "read '0.9 words'" in row["worst"][0]["why"]
    assert all(one["gap"] < 0 for one in row["worst"][1:])


def test_no_study_fills_the_list_of_worst_rows():
    ratings = [(float(i),) for i in range(10)]
    scores = [1 - i / 10 for i in range(10)]
    _, row = measured(rated(ratings, scores, ["a"] * 6 + list("bcde")))
    assert sum(one["id"] in {f"row {i}" for i in range(6)} for one in row["worst"]) == 2


@pytest.mark.parametrize(
    ("scores", "relations", "kept"),
    [
        ((0.5, 0.4), (("C1", ">", "C2"),), True),
        ((0.4, 0.4), (("C1", ">", "C2"),), False),
        ((0.5, 0.46), (("C1", "=", "C2"),), True),
        ((0.5, 0.4), (("C1", "=", "C2"),), False),
        ((0.5, None), (("C1", "=", "C2"),), None),
    ],
)
def test_an_order_is_kept_or_not(scores, relations, kept):
    order = Order(id="1", about="", candidates={"C1": 0, "C2": 1}, relations=relations)
    assert keeps_order(order, scores, tolerance=0.05) is kept


def test_orders_are_counted_with_an_interval(tmp_path):
    (tmp_path / "cases.py").write_text(RADJUDGE)
    judged = read_human(f"radjudge:{tmp_path / 'cases.py'}")
    (found,) = compare_with_people([load_subject("exact_match")], [judged], form="short")
    row = found["rewards"]["exact_match"]
    assert (row["figure"]["right"], row["figure"]["n"]) == (2, 2)
    assert found["ceiling"] is None and found["tolerance"] == 0.05 and row["worst"] == []
    assert any("1 cases hang on the patient's age" in note for note in found["notes"])


# ---- readers


def test_a_table_of_one_judgement_a_row(tmp_path):
    file = write_csv(
        tmp_path / "said.csv",
        ["reference", "candidate", "rating", "rater", "study"],
        [
            ["effusion", "fluid", 4, "a", "s1"],
            ["effusion", "fluid", 5, "b", "s1"],
            ["effusion", "mass", 1, "a", "s1"],
            ["mass", "nodule", 3, "b", "s2"],
        ],
    )
    judged = read_human(str(file))
    assert [row.votes for row in judged.rows] == [(4.0, 5.0), (1.0, None), (None, 3.0)]
    assert judged.raters == ("a", "b") and judged.studies == ["s1", "s1", "s2"]


def test_labels_without_rater_or_study(tmp_path):
    rows = [
        {"reference": "effusion", "candidate": "fluid", "label": "Right"},
        {"reference": "effusion", "candidate": "mass", "label": "wrong"},
    ]
    file = tmp_path / "said.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = read_human(str(file))
    assert judged.kind == "labels" and judged.truths() == [1.0, 0.0]
    assert any("no column `study`" in note for note in judged.notes)
    assert any("one study" in note for note in judged.notes)


def test_radpref_as_released(tmp_path):
    judged = read_human(f"radpref:{write_radpref(tmp_path / 'RadPref')}")
    assert judged.raters == ("user_1", "user_2") and len(judged.rows) == 8
    by_id = {row.id: row for row in judged.rows}
    assert by_id["study 10, C1"].references == ("Cardiomegaly. Small left effusion.",)
    assert by_id["study 10, C2"].candidate == as_sentences([]) == "No abnormal findings."
    assert by_id["study 12, C1"].references == ("No abnormal findings.",)
    assert by_id["study 13, C1"].votes == (5.0, None)  # marked for review by the second rater
    assert by_id["study 11, C2"].votes == (1.0, 2.0)
    from_file = read_human(f"radpref:{tmp_path / 'RadPref' / 'preference_data.json'}")
    assert from_file.rows == judged.rows


def test_kqa_as_released(tmp_path):
    judged = read_human(f"kqa:{write_csv(tmp_path / 'NLI_medical_annotator.csv', *KQA)}")
    assert judged.raters == ("annotator 1", "annotator 2", "annotator 3")
    assert judged.rows[1].votes == ("neutral", "neutral", "entailment")
    truths = judged.truths()
    assert truths[:2] == [1.0, 0.0] and math.isnan(truths[2]) and truths[3] == 0.0
    assert judged.rows[0].references == ("Aspirin thins the blood",)
    assert judged.studies == ["What is aspirin?"] * 2 + ["Is ibuprofen safe?"] * 2


@pytest.mark.parametrize("without", [None, "Error Type"])
def test_medec_as_released(without, tmp_path):
    header, rows = MEDEC
    kept = [i for i, name in enumerate(header) if name != without]
    file = write_csv(tmp_path / "MEDEC.csv", [header[i] for i in kept], [[row[i] for i in kept] for row in rows])
    judged = read_human(f"medec:{file}")
    assert [(row.candidate, row.votes[0] in judged.right) for row in judged.rows] == [
        ("He has septic arthritis.", True),
        ("He has gout.", False),
        ("Heparin is given.", True),
        ("Aspirin is given.", False),
    ]
    assert judged.studies == ["t-0", "t-0", "t-2", "t-2"]


GOOD = ["reference", "candidate", "rating", "study"]


@pytest.mark.parametrize(
    ("header", "rows", "says"),
    [
        (["reference", "rating"], [["a", 1]], "has no column 'candidate'; it has rating, reference"),
        (["reference", "candidate"], [["a", "b"]], "has no column 'rating or label'"),
        ([*GOOD, "label"], [["a", "b", 1, "s", "right"]], "both a rating and a label"),
        (GOOD, [["a", "b", "good", "s"]], "row 1: a rating is a number, higher is better; got 'good'"),
        (GOOD, [["a", "b", "nan", "s"]], "a rating is a number"),
        (GOOD, [["", "b", 1, "s"]], "row 1: empty reference"),
        (GOOD, [["a", "b", 3, "s"], ["a", "c", 3, "t"]], "all 2 rows are judged alike (a mean rating of 3)"),
        (GOOD, [["a", "b", "", "s"]], "no row has a rating"),
        (["reference", "candidate", "label"], [["a", "b", "fine"]], "unknown label 'fine'; right is 1, correct"),
        (["reference", "candidate", "label"], [["a", "b", "wrong"]], "judged alike (wrong)"),
        (GOOD, [], "holds no row"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(header, rows, says, tmp_path):
    file = write_csv(tmp_path / "said.csv", header, rows)
    with pytest.raises(DataError) as caught:
        read_human(str(file))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "content", "says"),
    [
        ("absent.csv", None, "no file at"),
        ("radpref:absent", None, "no file at absent; RadPref is preference_data.json"),
        ("radpref:{}/a.json", '[{"id": 1}]', "has no column 'ground_truth_findings'; RadPref is"),
        (
            "radpref:{}/a.json",
            '[{"id": 1, "ground_truth_findings": [], "C1_findings": [], "C2_findings": []}]',
            "no ratings at",
        ),
        ("radjudge:{}/a.py", "x = 1", "has no list RANKING_TESTS"),
        ("radjudge:{}/a.py", "RANKING_TESTS = [open('x')]", "RANKING_TESTS is not a plain list"),
        ("radjudge:{}/a.py", "RANKING_TESTS = [", "is not Python"),
        ("radjudge:{}/a.jsonl", '{"id": 1, "reference": "a", "candidates": {"C1": "b"}}', "two or more"),
        (
            "radjudge:{}/a.jsonl",
            '{"id": 1, "reference": "a", "candidates": {"C1": "b", "C2": "c"}, "right_order": "C1 > C9"}',
            "an order is like 'C1 > C2'",
        ),
        ("kqa:{}/a.csv", "answer,claim\nb,c\n", "has no column 'label_0'; K-QA is"),
        ("kqa:{}/a.csv", "answer,claim,label_0\nb,c,Maybe\n", "unknown label 'maybe'; K-QA has entailment"),
        ("medec:{}/a.csv", "Text ID,Error Flag\n1,0\n", "has no column 'Corrected Sentence'; MEDEC is"),
        (
            "medec:{}/a.csv",
            "Text ID,Error Flag,Error Sentence,Corrected Sentence\n1,0,NA,NA\n",
            "holds no row that people judged",
        ),
    ],
)
def test_a_release_in_another_layout_says_what_is_expected(spec, content, says, tmp_path):
    if content is not None:
        (tmp_path / spec.rpartition("/")[2]).write_text(content)
    with pytest.raises(DataError) as caught:
        read_human(spec.format(tmp_path))
    assert says in str(caught.value)


def test_an_unknown_reader_is_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'radpref'"):
        read_human("radperf:x.json")


def test_a_few_rows_are_noted():
    assert any("6 rows only" in note for note in rated(RATINGS, SCORES).notes)


def test_a_scorer_alone_is_a_reward_to_audit():
    assert load_subject("bleu1").parts == ("bleu1",)
    with pytest.raises(UnknownNameError, match="did you mean 'bleu1'"):
        load_subject("bleu2")


# ---- the halves kept for development


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared judgements")
@pytest.mark.parametrize(
    ("reader", "file", "rows", "studies", "figure"),
    [
        ("radpref", "radpref_half.jsonl", 100, 50, "tau"),
        ("radjudge", "radjudge.jsonl", 17, 17, "orderings"),
        ("kqa", "kqa_half.jsonl", 199, 49, "auroc"),
        ("medec", "medec_ms_validation.jsonl", 638, 319, "auroc"),
    ],
)
def test_the_halves_are_read_and_measured(reader, file, rows, studies, figure):
    (found,) = compare_with_people([load_subject("rouge1")], [read_human(f"{reader}:{SHARED / file}")])
    assert (found["n"], found["studies"], found["figure"]) == (rows, studies, figure)
    row = found["rewards"]["rouge1"]
    assert row["figure"]["mean"] is not None and row["unscored"] == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared judgements")
def test_the_radiologists_agree_as_far_as_is_known():
    (found,) = compare_with_people([], [read_human(f"radpref:{SHARED / 'radpref_half.jsonl'}")])
    assert found["ceiling"]["mean"] == pytest.approx(0.7626, abs=1e-4)
