"""`medrft doctor` on a run's files alone."""

import json
import sys

import pytest

from medrft.rundir import RunDir
from toys import TABLE


@pytest.fixture
def run(tmp_path):
    made = RunDir.create(tmp_path / "run")
    made.write_recipe(TABLE)
    return made


def log(run, steps, **numbers):
    for step in range(1, steps + 1):
        run.append_metrics("grpo", {"kind": "grpo", "split": "train", "step": step, **numbers})


@pytest.fixture
def doctor(monkeypatch, capsys, run):
    def call(*words):
        from medrft.cli.main import main

        monkeypatch.setattr(sys, "argv", ["medrft", "doctor", str(run.path), *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    return call


def test_one_line_per_finding(run, doctor):
    log(run, 8, truncated=0.5, unscored=0.0)
    status, said = doctor()
    lines = said.out.splitlines()
    assert status == 0
    assert lines[0].startswith("truncation (grpo, steps 5 to 8): share of answers cut off at the token limit 0.5 ")
    assert "(warns at least 0.1)" in lines[0] and "raise max_completion_length" in lines[0]
    assert "grpo: kl_runaway not judged: " in said.out and "unscored" not in said.out


def test_nothing_found_is_said(run, doctor):
    log(run, 8, truncated=0.0)
    assert "grpo: nothing found in 8 logged steps" in doctor()[1].out


def test_a_run_without_grpo_has_nothing_to_judge(doctor):
    status, said = doctor("--fail-on", "warning")
    assert status == 0 and "no GRPO stage has logged anything" in said.out


@pytest.mark.parametrize(
    ("truncated", "words", "status"), [(0.5, (), 0), (0.5, ("warning",), 1), (0.0, ("warning",), 0)]
)
def test_a_finding_fails_only_where_that_was_asked(run, doctor, truncated, words, status):
    log(run, 8, truncated=truncated)
    assert doctor(*(("--fail-on", *words) if words else ()))[0] == status


def test_programs_get_json(run, doctor):
    log(run, 8, truncated=0.5)
    (stage,) = json.loads(doctor("--json")[1].out)["stages"]
    (finding,) = stage["findings"]
    assert (finding["cause"], finding["step"], finding["last"], finding["ended"]) == ("truncation", 5, 8, False)
    assert stage["rows"] == 8 and "judge_outage" in stage["not_judged"]


def test_a_name_from_a_recipe_is_printed_as_it_is(run, doctor):
    log(run, 8, **{"part/[red]x[/red]/failed": 1.0})
    assert "judge_outage of [red]x[/red] " in doctor()[1].out


def test_mistakes_are_told_in_one_line(doctor):
    status, said = doctor("--fail-on", "warnings")
    assert status == 2 and "did you mean 'warning'?" in said.err


def test_the_slowest_part_of_a_step_is_named(run, doctor):
    log(run, 3, truncated=0.0, step_time=10.0, **{"time/decode": 7.0, "time/other": 3.0})
    said = doctor()[1].out
    assert "grpo: a step takes 10 s: decode 70%, other 30%" in said
    assert "grpo: slowest is decode (70%): " in said and "max_completion_length" in said
    (speed,) = json.loads(doctor("--json")[1].out)["speed"]
    assert (speed["stage"], speed["slowest"], speed["parts"]["decode"]) == ("grpo", "decode", 7.0)
