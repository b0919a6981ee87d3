import json
import os

import pytest

from medrft.errors import DataError, RunExistsError
from medrft.rundir import RunDir, environment, fingerprint, read_json, read_jsonl, write_atomic, write_json


def test_a_folder_with_a_run_is_refused_unless_resumed(tmp_path):
    run = RunDir.create(tmp_path / "a")
    run.write_recipe({"name": "toy"})
    write_json(run.stage("sft") / "stage.json", {})
    with pytest.raises(RunExistsError, match="pass --resume"):
        RunDir.create(tmp_path / "a")
    assert RunDir.create(tmp_path / "a", resume=True).path == run.path


def test_a_run_that_did_nothing_yet_is_begun_anew(tmp_path):
    """A wrong model id, say, is found after the recipe was written."""
    run = RunDir.create(tmp_path / "a")
    run.write_recipe({"name": "toy"})
    write_json(run.final("base") / "config.json", {})
    assert not (RunDir.create(tmp_path / "a").final("base")).exists()


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(RunExistsError, match="already holds"):
        RunDir.create(tmp_path)


def test_resume_refuses_a_folder_that_holds_no_run(tmp_path):
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(RunExistsError, match="no run to resume"):
        RunDir.create(tmp_path, resume=True)


def test_a_run_killed_while_it_wrote_its_recipe_can_be_resumed(tmp_path):
    (tmp_path / ".recipe.yaml.x1y2.tmp").write_text("name: to")
    assert RunDir.create(tmp_path, resume=True).path == tmp_path


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(RunExistsError, match="is a file"):
        RunDir.create(tmp_path / "f")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    with pytest.raises(TypeError):
        write_atomic(path, 3)
    assert os.listdir(tmp_path) == ["a.json"]  # no temporary file stays


def test_metrics_name_their_stage_and_refuse_nan(tmp_path):
    run = RunDir.create(tmp_path / "r")
    run.append_metrics("sft", {"step": 1, "loss": 0.5})
    with pytest.raises(ValueError, match="JSON compliant"):
        run.append_metrics("sft", {"loss": float("inf")})
    assert list(read_jsonl(run.metrics)) == [{"stage": "sft", "step": 1, "loss": 0.5}]


@pytest.mark.parametrize(("line", "why"), [("{", "not JSON"), ("[1]", "expected an object, got list")])
def test_bad_jsonl_names_the_line(tmp_path, line, why):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n' + line + "\n")
    with pytest.raises(DataError, match=f"line 3: {why}"):
        list(read_jsonl(path))


def test_environment_keeps_earlier_facts(tmp_path):
    run = RunDir.create(tmp_path / "r")
    run.write_environment(seed=3)
    run.write_environment(encoder="x")
    facts = read_json(run.path / "environment.json")
    assert facts["seed"] == 3 and facts["encoder"] == "x" and facts["versions"]["medrft"]
    json.dumps(environment(), allow_nan=False)


def test_fingerprint_depends_on_order_and_boundaries():
    assert fingerprint(["a", "b"]) != fingerprint(["b", "a"]) != fingerprint(["ba"])
