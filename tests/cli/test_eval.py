"""`medrft eval` on a model that no run made: a server, and a folder."""

import json
import subprocess
import sys

import pytest
import yaml

from loopback import Loopback, say
from medrft.rundir import read_jsonl
from toys import TABLE


def medrft(*words, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "medrft", *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False
    )
    return done, (done.stderr.strip().splitlines() or [""])[-1]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({**TABLE, "stages": [], "report": {"images": "none"}}))
    return path


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), "is a recipe, which has no models yet: pass a run folder, --model or --endpoint"),
        (("--endpoint", "http://localhost:1/v1"), "needs both --endpoint URL and --endpoint-model NAME"),
        (("--model", "a/b", "--endpoint", "http://localhost:1/v1"), "name two models"),
        (
            ("--endpoint", "http://localhost:1/v1", "--endpoint-model", "m", "--api-key-env", "NOT_SET_HERE"),
            "environment variable NOT_SET_HERE is not set",
        ),
        (("--endpoint", "localhost:1", "--endpoint-model", "m"), "base_url must begin with http"),
        (("--model", "tiny:llava"), "is a random model"),
        (("--model", "runs/no/such/model"), "no folder at runs/no/such/model"),
        (("--model", "a/b", "--stage", "sft"), "--stage names a model of the run"),
        (("--model", "a/b", "--prompt", "thnk"), "unknown prompt 'thnk'; did you mean 'think'?"),
        (("--prompt", "think"), "--prompt is for --model and --endpoint"),
        (("--model", "a/b", "--api-key-env", "KEY"), "--api-key-env is for --endpoint"),
    ],
)
def test_a_mistake_is_one_line(recipe, tmp_path, more, expected):
    done, line = medrft("eval", recipe, *more, cwd=tmp_path)
    assert done.returncode == 2 and expected in line
    assert "Traceback" not in done.stderr


def test_a_server_is_evaluated_outside_a_run(recipe, tmp_path):
    with Loopback(lambda request, number: say("yes")) as server:
        words = ("eval", recipe, "--endpoint", server.url, "--endpoint-model", "Org/Model-3B", "--json")
        done, line = medrft(*words, cwd=tmp_path)
        assert done.returncode == 0, line
        asked = len(server.seen)
        again, _ = medrft(*words, cwd=tmp_path)
        assert len(server.seen) == asked
        run = tmp_path / "runs/toy"
        before = [(run / name).read_bytes() for name in ("recipe.yaml", "data.json")]
        fewer = ("--endpoint", server.url, "--endpoint-model", "Other", "--set", "eval.limit=1")
        assert medrft("eval", run, *fewer, cwd=tmp_path)[0].returncode == 0
    assert [(run / name).read_bytes() for name in ("recipe.yaml", "data.json")] == before  # a guest changes neither
    assert len(list(read_jsonl(run / "eval/other/phantom/predictions.jsonl"))) < len(
        list(read_jsonl(run / "eval/org_model_3b/phantom/predictions.jsonl"))
    )
    assert json.loads(done.stdout)["results"] and json.loads(again.stdout) == json.loads(done.stdout)
    assert asked > 0
    header, *rows = read_jsonl(tmp_path / "runs/toy/eval/org_model_3b/phantom/predictions.jsonl")
    assert (header["engine"], header["model"], header["prompt"]) == ("endpoint", "Org/Model-3B", "short")
    assert {row["control"] for row in rows} >= {"none", "blank"}
    assert (tmp_path / "runs/toy/report.html").is_file()
