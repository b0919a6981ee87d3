"""Who gets the patient's picture: told before the first request, refused where the data are private."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from loopback import Loopback, say
from medrft import outgoing
from medrft.cli.main import app
from medrft.endpoint import Endpoint
from medrft.errors import EndpointError, RecipeError
from medrft.outgoing import is_loopback, recipients_of
from medrft.recipes import parse_recipe

AWAY = "http://judge.invalid/v1"
JUDGE = {"scorer": "judge", "weight": 1.0, "options": {"model": "m", "base_url": AWAY}}

GATE = {"scorer": "judge", "below": 0.1, "options": JUDGE["options"]}


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    monkeypatch.setattr(outgoing, "_told", set())
    for name in ("WANDB_MODE", "WANDB_BASE_URL", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def recipe(**more):
    return {"name": "a", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}, **more}


def stage(**trl):
    return {"stages": [{"name": "sft", "kind": "sft"}, {"name": "grpo", "kind": "grpo", "trl": trl}]}


@pytest.mark.parametrize(
    ("more", "keys", "says"),
    [
        (
            {"reward": {"parts": [JUDGE]}},
            ["reward.parts.0.options.base_url"],
            "judge m at http://judge.invalid/v1 gets q",
        ),
        (
            {"reward": {"open": {"parts": [{**JUDGE, "options": {**JUDGE["options"], "task": "reasoning"}}]}}},
            ["reward.open.parts.0.options.base_url"],
            "questions, references, answers and thoughts",
        ),
        (
            {"reward": {"parts": [JUDGE], "gate": GATE}},
            ["reward.parts.0", "reward.gate."],
            "judge m",
        ),
        (
            {
                "reward": {
                    "parts": [{"scorer": "my.py:Judge", "weight": 1, "options": {"server": {"url": "https://x.y"}}}]
                }
            },
            ["reward.parts.0.options.server.url"],
            "https://x.y",
        ),
        ({"eval": {"judge": {"model": "m", "base_url": AWAY}}}, ["eval.judge.base_url"], "judge m"),
        (
            stage(report_to="wandb"),
            ["stages.grpo.trl.report_to"],
            "wandb at https://api.wandb.ai gets metrics and settings",
        ),
        (stage(report_to=["wandb"], log_completions=True), ["stages.grpo.trl.report_to"], "completions and pictures"),
        (stage(report_to=["comet_ml", "neptune"]), ["stages.grpo.trl.report_to"], "gets metrics"),
        (stage(report_to="trackio", trackio_space_id="me/s"), ["stages.grpo.trl.report_to"], "huggingface.co/me/s"),
        (
            stage(push_to_hub=True, hub_model_id="me/v"),
            ["stages.grpo.trl.push_to_hub"],
            "me/v gets the trained weights",
        ),
        (stage(log_completions_hub_repo="me/c"), ["log_completions_hub_repo"], "questions and completions"),
        (
            stage(use_vllm=True, vllm_mode="server", vllm_server_base_url="http://10.0.0.5:8000"),
            ["stages.grpo.trl.vllm_server_base_url"],
            "vLLM at http://10.0.0.5:8000 gets pictures and questions",
        ),
        (stage(use_vllm=True, vllm_mode="server", vllm_server_host="gpu7"), ["vllm_server_host"], "gpu7 gets pictures"),
    ],
)
def test_what_goes_out(more, keys, says):
    table = parse_recipe(recipe(**more)).model_dump()
    found = recipients_of(table)
    assert [key for key in keys if any(key in one.key for one in found)] == keys
    assert says in " ".join(one.line for one in found)
    with pytest.raises(RecipeError, match=r"data\.private is true.*take") as raised:
        outgoing.refuse_private(True, found)
    assert all(key in str(raised.value) for key in keys) and "\n" not in str(raised.value)
    outgoing.refuse_private(False, found)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"reward": "armed"},
        {"reward": {"parts": [{**JUDGE, "options": {"model": "m", "base_url": "http://localhost:8000/v1"}}]}},
        {"eval": {"judge": {"model": "m", "base_url": "http://127.0.0.1:1/v1"}}},
        {"encoder": {"id": "pritamdeka/S-BioBert"}, "model": {"id": "Qwen/Qwen2.5-VL-3B-Instruct"}},
        stage(report_to="none"),
        stage(report_to=["tensorboard", "dvclive", "mlflow", "trackio"]),
        stage(use_vllm=True, vllm_mode="colocate", vllm_server_host="10.0.0.5"),
        stage(use_vllm=True, vllm_mode="server", vllm_server_host="0.0.0.0"),
        stage(hub_model_id="me/v", hub_token="x" * 9),
    ],
)
def test_what_stays(more):
    assert recipients_of(parse_recipe(recipe(**more)).model_dump()) == []


@pytest.mark.parametrize(
    ("name", "value", "tracker", "out"),
    [
        ("WANDB_MODE", "offline", "wandb", False),
        ("WANDB_BASE_URL", "http://localhost:8080", "wandb", False),
        ("MLFLOW_TRACKING_URI", "file:///tmp/m", "mlflow", False),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000", "mlflow", False),
        ("MLFLOW_TRACKING_URI", "https://mlflow.example.org", "mlflow", True),
        ("TRACKIO_SPACE_ID", "me/s", "trackio", True),
    ],
)
def test_trackers_that_the_environment_keeps_here(monkeypatch, name, value, tracker, out):
    monkeypatch.setenv(name, value)
    assert bool(recipients_of(recipe(**stage(report_to=tracker)))) is out


@pytest.mark.parametrize("host", ["http://LOCALHOST.:1/v1", "http://[::ffff:127.0.0.1]:1", "127.9.9.9", "::1"])
def test_other_names_of_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1.nip.io/v1", "http://localhost@evil.example/v1", "http://2130706433/v1"]
)
def test_names_that_only_look_like_it(host):
    assert not is_loopback(host)


def test_an_endpoint_says_it_once_before_it_asks(caplog):
    endpoint = Endpoint(model="m", base_url="http://judge.invalid/v1", retries=0, who="judge", sends="questions")
    for _ in range(2):
        assert isinstance(endpoint.ask([[{"role": "user", "content": "a"}]], max_tokens=8)[0], EndpointError)
    assert [record.getMessage() for record in caplog.records if record.name == "medrft"] == [
        "medrft: judge m at http://judge.invalid/v1 gets questions"
    ]


def test_an_endpoint_on_this_machine_says_nothing(caplog):
    with Loopback(lambda request, n: say("YES")) as server:
        Endpoint(model="m", base_url=server.url).ask([[{"role": "user", "content": "a"}]], max_tokens=8)
    assert not [record for record in caplog.records if record.name == "medrft"]


def said(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, RecipeError), result.output
    return str(result.exception)


def test_every_door_is_shut_for_private_data(tmp_path):
    """Nothing is written or loaded: each ends with one line that names the key."""
    path = tmp_path / "r.yaml"
    private = {"name": "phantom", "private": True}
    path.write_text(yaml.safe_dump(recipe(data=private, reward={"parts": [JUDGE]}, **stage(max_steps=1))))
    out = tmp_path / "out"
    key = "reward.parts.0.options.base_url"
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"reference": "effusion", "answer": "fluid"}))
    assert key in said("run", path, "--output", out)
    assert key in said("grpo", path, "--output", out)
    assert key in said("score", rows, "--reward", path)
    assert key in said("audit", "--reward", path, "--output", out)
    assert key in said("eval", path, "--endpoint", "http://localhost:1/v1", "--endpoint-model", "m", "--output", out)
    clean = tmp_path / "clean.yaml"
    clean.write_text(yaml.safe_dump(recipe(data=private, reward="text")))
    server = ("--endpoint", AWAY, "--endpoint-model", "m", "--output", out)
    assert "--endpoint (" in said("eval", clean, *server) and "pictures" in said("eval", clean, *server)
    assert "--endpoint (" in said("curate", clean, *server)
    assert "--option.judge.base_url" in said(
        *("score", rows, "--reward", clean, "--option", "judge.model=m", "--option", f"judge.base_url={AWAY}")
    )
    study = {
        **{"name": "s", "question": "?", "recipe": "clean.yaml", "seeds": [1], "results": str(tmp_path / "results")},
        "arms": {"a": {}, "b": {"eval.judge": {"model": "m", "base_url": AWAY}}},
        "primary": {"a": "a", "against": "b", "dataset": "phantom", "kind": "all", "metric": "truth"},
        "budget": {"rule": "steps", "statement": "same"},
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(study))
    assert "eval.judge.base_url" in said("study", tmp_path / "s.yaml", "--output", out)
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(clean.read_text())
    alone = tmp_path / "reward.yaml"
    alone.write_text(yaml.safe_dump({"parts": [JUDGE]}))
    assert key in said("audit", "--reward", alone, "--run", run, "--output", out)
    assert not out.exists()
