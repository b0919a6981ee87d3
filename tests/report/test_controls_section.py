from __future__ import annotations

import re
from statistics import mean

import pytest
from made_run import HOSTILE, make_run
from markupsafe import escape

from medrft.evaluation.controls.table import CONTROLS
from medrft.evaluation.run_files import RunFiles
from medrft.evaluation.runner import write_metrics
from medrft.report import render_report
from medrft.report.controls import NAMES, controls_of
from medrft.rundir import read_jsonl, write_jsonl

OPPOSITE = {"yes": "no", "no": "yes", "left pleural effusion": "right pleural effusion"}


def asked_otherwise(rows):
    """The plain rows again under every control: half of the answers turn where they should, most stay elsewhere."""
    for name, control in CONTROLS.items():
        for number, row in enumerate(rows):
            if name in ("negated", "sides") and row["kind"] != "closed":
                continue
            if name == "options" and row["kind"] != "choice":
                continue
            answer = row["answer"]
            if control.good == "turns" and number % 2 and answer in OPPOSITE:
                answer = OPPOSITE[answer]
            elif control.good == "falls" and number % 3:
                answer = "no" if row["kind"] == "closed" else "unclear"
            right = answer == (OPPOSITE.get(row["references"][0]) if control.good == "turns" else row["references"][0])
            known = None if name == "sides" else float(right)
            references = [] if name == "sides" else row["references"]
            scores = dict.fromkeys(row["scores"], known)
            yield {**row, "control": name, "answer": answer, "references": references, "scores": scores}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs") / "controls", dataset="vqa_rad")
    path = folder / "eval" / "grpo" / "vqa_rad" / "predictions.jsonl"
    header, *rows = read_jsonl(path)
    plain = [row for row in rows if row["control"] == "none" and not row["temperature"]]
    others = [row for row in rows if row["control"] != "blank"]
    header["left_out"] = {
        "paraphrase": {"no human rephrasing": 7, HOSTILE: 2},
        "negated": {"not a yes/no question": 72},
    }
    write_jsonl(path, [header, *others, *asked_otherwise(plain)])
    write_metrics(path)
    return folder


def section(run):
    text = render_report(run).read_text(encoding="utf-8")
    return re.search(r'<section id="controls">.*?</section>', text, re.DOTALL)[0]


def test_every_control_stands_in_the_table_of_each_kind_it_applies_to(run):
    [found] = controls_of(RunFiles(run))
    assert (found.dataset, found.stage) == ("vqa_rad", "grpo")
    groups = {group.kind: [row.control for row in group.rows] for group in found.groups}
    controls = [name for name in CONTROLS if name != "options"]
    assert groups["closed"] == ["frequent_type", "frequent_question", "base", *controls]
    assert "negated" not in groups["open"] and "options" in groups["choice"]
    shown = section(run)
    assert all(str(escape(NAMES[name])) in shown for name in CONTROLS)


def test_the_start_model_is_set_beside_the_plain_answers_to_the_same_questions(run):
    files = RunFiles(run)
    [found] = controls_of(files)
    plain, start = (files.answers(stage, "vqa_rad") for stage in ("grpo", "base"))
    for group in found.groups:
        keys = [key for key in plain.keys() & start.keys() if plain[key]["kind"] == group.kind]
        row = next(row for row in group.rows if row.control == "base")
        ours, theirs = (mean(rows[key]["scores"]["correct"] for key in keys) for rows in (plain, start))
        assert row.figures["n"] == len(keys) > 0
        assert row.figures["score"]["mean"] == pytest.approx(theirs)
        assert row.figures["difference"]["mean"] == pytest.approx(theirs - ours)
    assert "the start model, asked for a short answer" in section(run)


def test_figures_are_those_of_the_metrics_file(run):
    [found] = controls_of(RunFiles(run))
    closed = next(group for group in found.groups if group.kind == "closed")
    row = next(row for row in closed.rows if row.control == "negated")
    assert row.good == "answers the opposite"
    assert row.figures == RunFiles(run).evaluations["vqa_rad"]["grpo"]["controls"]["negated"]["kinds"]["closed"]
    shown = section(run)
    assert f"{100 * row.figures['turned']['mean']:.1f}" in shown
    assert "not known" in shown  # what is true of the other side


def test_reasons_are_counted_and_escaped(run):
    shown = section(run)
    assert "72 × not a yes/no question" in shown and "7 × no human rephrasing" in shown
    assert HOSTILE not in shown and "&lt;script&gt;" in shown


def test_a_run_of_before_has_a_page_without_the_section(tmp_path):
    import json

    folder = make_run(tmp_path / "old", examples=20, steps=6)
    for path in folder.glob("eval/*/*/metrics.json"):
        metrics = json.loads(path.read_text())
        del metrics["controls"], metrics["biases"]
        path.write_text(json.dumps(metrics))
    assert 'id="controls"' not in render_report(folder).read_text(encoding="utf-8")
