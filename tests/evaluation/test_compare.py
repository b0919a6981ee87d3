from __future__ import annotations

import json
import random

import pytest

from medrft.errors import DataError, UnknownNameError, UserError
from medrft.evaluation.compare.changes import changes_of, facet_clashes, is_right
from medrft.evaluation.compare.paired import Draws, compare_sides, pair_answers
from medrft.evaluation.compare.sides import read_answers, read_sides

HEADER = {"stage": "grpo", "dataset": "x", "seed": 0, "correct": {"scorer": "exact_match", "at_least": 1.0}}
QUICK = Draws(flips=199)


def row(number, kind="closed", right=True, *, image=None, sample=0, control="none", temperature=0.0, **more):
    reference, wrong = {"closed": ("yes", "no"), "open": ("left lung", "right lung"), "choice": ("CT", "MRI")}[kind]
    hit = float(right)
    scores = {"closed": {"yes_no_match": hit}, "choice": {"choice_match": hit}}.get(kind, {"exact_match": hit})
    return {
        "id": f"x/test/{number}",
        "dataset": "x",
        "split": "test",
        "kind": kind,
        "images": [f"i{number // 2}" if image is None else image],
        "question": "Where is the mass?" if kind == "open" else "Is there a mass?",
        "references": [reference],
        "options": ["CT", "MRI"] if kind == "choice" else [],
        "sample": sample,
        "temperature": temperature,
        "control": control,
        "prediction": "",
        "answer": reference if right else wrong,
        "truncated": False,
        "n_tokens": 2,
        "scores": {**scores, "correct": hit},
        "metadata": {},
        **more,
    }


def write(path, rows, header=HEADER):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in ([header] if header else []) + rows))
    return str(path)


def compared(tmp_path, before, after, **headers):
    names = [write(tmp_path / f"{n}.jsonl", rows, headers.get(n, HEADER)) for n, rows in (("a", before), ("b", after))]
    return compare_sides(read_sides(names), QUICK)


def test_differences_are_paired(tmp_path):
    before = [row(i, right=i % 3 > 0) for i in range(20)]
    after = [row(i, right=i % 3 > 0 or i == 0) for i in range(20)]
    random.Random(0).shuffle(after)  # rows are matched by id, not by place
    found = compared(tmp_path, before, after)
    (test,) = found["tests"]
    assert (test["metric"], test["n"], test["clusters"], test["clustered_by"]) == ("accuracy", 20, 10, "image")
    assert test["difference"] == pytest.approx(0.05) and test["p"] == 1.0 and test["exact"]
    assert test["low"] < 0.05 < test["high"]
    assert found["against"][0]["changes"]["counts"]["x"]["closed"]["wrong to right"] == 1


def test_the_same_answers_do_not_differ(tmp_path):
    rows = [row(i, kind, right=i % 2 > 0) for i, kind in enumerate(["closed", "open", "choice"] * 4)]
    found = compared(tmp_path, rows, rows)
    assert {test["kind"] for test in found["tests"]} == {"closed", "open", "choice"}
    assert all((test["difference"], test["p"], test["p_holm"]) == (0.0, 1.0, 1.0) for test in found["tests"])
    assert found["against"][0]["changes"]["examples"] == []


def test_examples_that_are_not_the_same_are_left_out_and_counted(tmp_path):
    before = [row(0), row(1), row(2), row(3, question="Another?"), row(4, "open", references=["left"])]
    after = [row(1), row(2), row(3), row(4, "open"), row(5), row(6, "closed")]
    found = compared(tmp_path, before, after)
    counts = {reason: entry["count"] for reason, entry in found["against"][0]["left_out"].items()}
    assert counts == {
        "only in a": 1,
        "only in b": 2,
        "another question under the same id": 1,
        "another reference under the same id": 1,
    }
    assert found["against"][0]["paired"] == 2
    assert found["against"][0]["left_out"]["only in b"]["examples"] == ["x/test/5", "x/test/6"]


def test_holm_counts_the_tests_of_all_sides(tmp_path):
    names = [
        write(tmp_path / f"{n}.jsonl", [row(i, right=i < level) for i in range(24)])
        for n, level in zip("abc", (4, 14, 20), strict=True)
    ]
    found = compare_sides(read_sides(names), QUICK)
    assert [test["b"] for test in found["tests"]] == ["b", "c"]
    assert found["correction"] == "Holm over all 2 tests of this call"
    smallest = min(found["tests"], key=lambda test: test["p"])
    assert smallest["p_holm"] == pytest.approx(2 * smallest["p"])


def test_controls_and_sampled_answers_are_not_the_model(tmp_path):
    before = [row(0), row(0, right=False, control="blank"), row(0, right=False, temperature=1.0)]
    (test,) = compared(tmp_path, before, [row(0)])["tests"]
    assert (test["n"], test["mean_a"]) == (1, 1.0) and test["low"] is None  # one image: no interval


def test_samples_of_one_example_are_averaged(tmp_path):
    before = [row(0, sample=0), row(0, right=False, sample=1), row(2)]
    (test,) = compared(tmp_path, before, [row(0), row(2)])["tests"]
    assert (test["n"], test["mean_a"], test["mean_b"]) == (2, 0.75, 1.0)


def test_unscored_is_counted_and_left_out(tmp_path):
    gone = row(0, "open") | {"scores": {"exact_match": None, "correct": None}}
    (test,) = compared(tmp_path, [gone, row(2, "open")], [row(0, "open"), row(2, "open")])["tests"]
    assert (test["n"], test["unscored"]) == (1, 1)


def test_a_metric_that_means_something_else_is_not_compared(tmp_path):
    other = {**HEADER, "correct": {"scorer": "clinical", "at_least": 0.5}, "prompt_hash": "2"}
    first = {**HEADER, "prompt_hash": "1"}
    rows = [row(i, "open", right=i > 2) for i in range(6)]
    found = compared(tmp_path, rows, rows, a=first, b=other)
    assert [test["metric"] for test in found["tests"]] == ["exact_match"]
    against = found["against"][0]
    assert list(against["not_compared"]) == ["x: correct"]
    assert {entry["setting"] for entry in against["settings"]} == {"correct", "prompt_hash"}


def test_settings_that_bear_on_greedy_answers_are_told_one_by_one(tmp_path):
    def header(prompt, tokens, passes):
        return {
            **HEADER,
            "prompt": prompt,
            "prompt_hash": prompt,
            "generation": {"max_tokens": tokens, "passes": passes},
        }

    rows = [row(i, "open") for i in range(3)]
    found = compared(tmp_path, rows, rows, a=header("short", 32, [1]), b=header("think", 256, [1, 2]))
    told = {entry["setting"]: (entry["a"], entry["b"]) for entry in found["against"][0]["settings"]}
    assert told == {"prompt": ("short", "think"), "max_tokens": (32, 256)}


def test_questions_without_images_are_their_own_clusters(tmp_path):
    rows = [row(i) | {"images": []} for i in range(5)]
    (test,) = compared(tmp_path, rows, rows)["tests"]
    assert (test["clusters"], test["clustered_by"]) == (5, "question")


def test_images_that_only_one_side_knows_are_used(tmp_path):
    (test,) = compared(tmp_path, [row(i) | {"images": []} for i in range(6)], [row(i) for i in range(6)])["tests"]
    assert (test["clusters"], test["clustered_by"]) == (3, "image")


def test_seeds_are_paired_run_by_run(tmp_path):
    levels = {"a1": 10, "a2": 12, "b1": 16, "b2": 20}
    for name, level in levels.items():
        write(tmp_path / f"{name}.jsonl", [row(i, right=i < level) for i in range(24)])
    sides = read_sides([f"{tmp_path}/a1.jsonl,{tmp_path}/a2.jsonl", f"{tmp_path}/b1.jsonl,{tmp_path}/b2.jsonl"])
    found = compare_sides(sides, QUICK)
    (test,) = found["tests"]
    assert (test["n"], test["clusters"]) == (48, 12) and test["difference"] == pytest.approx(14 / 48)
    assert found["conditional"].startswith("2 trainings per side")
    assert [side["name"] for side in found["sides"]] == ["a1 and 1 more", "b1 and 1 more"]
    with pytest.raises(DataError, match=r"is 1 run\(s\) but .* is 2"):
        read_sides([f"{tmp_path}/a1.jsonl,{tmp_path}/a2.jsonl", f"{tmp_path}/b1.jsonl"])


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (row(0, right=False), row(0), "wrong to right"),
        (row(0), row(0, right=False), "right to wrong"),
        (row(0, "open", False), row(0, "open", False, answer="brain"), "wrong to other wrong"),
        (row(0, "open", False), row(0, "open", False, answer="The right lung."), "both wrong alike"),
        (row(0, "open", False, answer=None), row(0, "open", False), "wrong to other wrong"),
        (row(0), row(0), "both right"),
        (row(0) | {"scores": {"yes_no_match": None}}, row(0), "unscored"),
    ],
)
def test_what_changed(tmp_path, before, after, outcome):
    files = [write(tmp_path / f"{n}.jsonl", [one]) for n, one in (("a", before), ("b", after))]
    pairs, _ = pair_answers(*read_sides(files))
    found = changes_of(pairs)
    (counts,) = found["counts"]["x"].values()
    assert {name for name, count in counts.items() if count} == {outcome}
    assert [e["outcome"] for e in found["examples"]] == ([outcome] if "to" in outcome else [])


def test_a_clash_is_named():
    assert facet_clashes(row(0, "open", right=False)) == ["side: left / right"]
    assert (
        facet_clashes(row(0, "open")) == []
        and facet_clashes(row(0)) == []
        and facet_clashes(row(0, "open", answer=None)) == []
    )
    assert is_right(row(0, "open")) is True


def test_a_run_has_stages(phantom_run, tmp_path):
    assert read_answers(str(phantom_run)).stage == "grpo"
    assert read_answers(f"{phantom_run}:sft").stage == "sft"
    assert read_answers(str(phantom_run), stage="base").stage == "base"
    sides = read_sides([f"{phantom_run}:base", f"{phantom_run}:grpo"])
    assert [side.name for side in sides] == ["base", "grpo"]
    tests = compare_sides(sides, QUICK)["tests"]
    assert {test["metric"] for test in tests} == {
        "truth",
        "average",
    }  # accuracy repeats the judge there, value by value
    with pytest.raises(UnknownNameError, match="did you mean 'grpo'"):
        read_answers(f"{phantom_run}:grp")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no answer of a model"),
        ('{"a": 1}\n{"id": "1"}\n', "row 2: no 'dataset'.*medrft rescore"),
        ('{"a": 1}\n{"id": 1}\n', "row 2: id is 1, so"),
        ("no json\n", "line 1: not JSON"),
        ("[1]\n", "expected an object"),
    ],
)
def test_files_that_are_not_predictions(tmp_path, content, message):
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_answers(str(path))


COUNTED = {**HEADER, "rows": 2}
WHOLE = "".join(json.dumps(one) + "\n" for one in (COUNTED, row(0), row(1)))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param(WHOLE[:20], id="in the header"),
        pytest.param(WHOLE[:-40], id="in the last row"),
        pytest.param(WHOLE[:-1], id="before the last line break"),
        pytest.param("".join(WHOLE.splitlines(keepends=True)[:-1]), id="between rows"),
    ],
)
def test_predictions_of_a_run_that_were_cut_off(tmp_path, content):
    write(tmp_path / "eval/grpo/a/predictions.jsonl", [row(0), row(1)], COUNTED)
    path = tmp_path / "eval/grpo/b/predictions.jsonl"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(DataError, match=r"b/predictions.jsonl was cut off; medrft eval .* makes it whole"):
        read_answers(str(tmp_path))
    if "rows" in content:  # its header says that medrft wrote it
        with pytest.raises(DataError, match="was cut off; medrft eval"):
            read_answers(str(path))


@pytest.mark.parametrize("header", [HEADER, {}])
def test_rows_that_others_made_may_lack_header_and_last_line_break(tmp_path, header):
    path = tmp_path / "p.jsonl"
    write(path, [row(0), row(1)], header)
    path.write_text(path.read_text().rstrip())
    found = read_answers(str(path))
    assert len(found.rows) == 2 and found.headers == {"x": header}


def test_places_without_predictions(tmp_path):
    with pytest.raises(DataError, match="needs two runs or more, got 1"):
        read_sides([str(tmp_path)])
    with pytest.raises(DataError, match="nothing at"):
        read_answers(str(tmp_path / "absent"))
    with pytest.raises(DataError, match="holds no predictions; evaluate it first"):
        read_answers(str(tmp_path))
