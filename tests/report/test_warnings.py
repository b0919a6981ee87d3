"""The report's section of warnings: named, dated, numbered, with advice, and escaped."""

import re
import shutil

from made_run import HOSTILE

from medrft.report import render_report
from medrft.rundir import RunDir


def section(page):
    found = re.search(r'<section id="warnings">.*?</section>', page.read_text(encoding="utf-8"), re.DOTALL)
    return found[0] if found else ""


def test_a_cause_is_named_with_its_steps_its_number_and_advice(phantom_run, tmp_path):
    run = RunDir(shutil.copytree(phantom_run, tmp_path / "run"))
    for step in range(61, 81):
        row = {"kind": "grpo", "split": "train", "step": step, "truncated": 0.5, "unscored": 0.0}
        run.append_metrics("grpo", row)
    text = section(render_report(run.path))
    assert "<code>truncation</code>" in text and "62–80 (not ended)" in text
    assert "≥ 0.1" in text and "raise max_completion_length" in text
    assert "judge_outage" in text and "it takes a part of the reward that asks an endpoint" in text


def test_a_healthy_run_says_so(phantom_run):
    text = section(render_report(phantom_run))
    assert "Nothing found in 60 logged steps" in text


def test_names_of_parts_are_escaped(phantom_run, tmp_path):
    run = RunDir(shutil.copytree(phantom_run, tmp_path / "run"))
    for step in range(61, 71):
        row = {"kind": "grpo", "split": "train", "step": step, f"part/{HOSTILE}/failed": 1.0}
        run.append_metrics("grpo", row)
    page = render_report(run.path)
    assert "judge_outage" in section(page) and "&lt;script&gt;alert(" in section(page)
    assert HOSTILE not in page.read_text(encoding="utf-8")


def test_a_run_without_grpo_has_no_such_section(phantom_run, tmp_path):
    run = RunDir(shutil.copytree(phantom_run, tmp_path / "run"))
    run.metrics.unlink()
    assert section(render_report(run.path)) == ""
