from __future__ import annotations

from medrft.evaluation.run_files import RunFiles
from medrft.report import render_report
from medrft.report.strata import clash_lines, strata_sections


def test_strata_of_the_subject_stand_beside_the_controls(plain_run):
    found = strata_sections(RunFiles(plain_run), "vqa_rad")
    assert found.subject == "grpo"
    tables = {table.kind: table for table in found.strata}
    assert set(tables) == {"closed", "choice", "open"}
    # the organ has a single value here: that would be the whole again
    assert {row.field for row in tables["open"].rows} == {"modality", "frequency"}
    assert tables["open"].lead == "correct" and "clinical" in tables["open"].metrics
    assert tables["open"].controls == ("frequent answer", "blank image")
    assert sum(row.n for row in tables["open"].rows if row.field == "modality") == 48
    assert all(row.small == (row.n < found.small) for table in found.strata for row in table.rows)


def test_tries_are_in_the_order_of_k(plain_run):
    tries = strata_sections(RunFiles(plain_run), "vqa_rad").tries[0]
    assert tries.metrics == ("pass@1", "pass@2", "pass@4", "maj@2", "maj@4")
    assert [stage for stage, _ in tries.rows] == ["sft", "grpo"]
    assert tries.rows[0][1]["pass@4"]["mean"] >= tries.rows[0][1]["pass@1"]["mean"]


def test_contradictions_are_drawn_by_seed(plain_run):
    found = strata_sections(RunFiles(plain_run), "vqa_rad")
    assert 0 < len(found.clashes) <= found.contradictions == found.explained
    assert found.clashes == strata_sections(RunFiles(plain_run), "vqa_rad").clashes


def test_the_gravest_first():
    lines = clash_lines({"more": ["c"], "clashed": ["a"], "less": ["b"], "route": "findings"})
    assert lines == ["contradicts: a", "says less: b", "says more: c"]


def test_the_page_marks_what_was_trained_on(plain_run):
    text = render_report(plain_run).read_text(encoding="utf-8")
    assert "reward = metric" in text and "pass@4" in text
    assert "side: left / &lt;script&gt;" in text  # a model's words, as text
    assert "all-MiniLM-L6-v2</span></th>" in text  # the papers' average names its encoder
    assert "for this training seed" in text
