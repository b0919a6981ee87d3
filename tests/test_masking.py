"""Secrets by their key, their form and their value; what looks like one and is none stays."""

from __future__ import annotations

import io
import json
import stat

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medrft.errors import DataError, RecipeError, in_one_line
from medrft.masking import MASK, MaskedStream, is_secret_key, mask_command, mask_secrets, mask_text, remember_secret
from medrft.recipes import load_recipe, parse_set, refuse_masked
from medrft.rundir import RunDir, read_json, write_json

SECRET = "q7-Zr4Lw9vTn"


@pytest.mark.parametrize(
    "key",
    [
        *("token", "hub_token", "hubToken", "HF_TOKEN", "access-token", "authToken", "api_tokens", "push_to_hub_token"),
        *(
            "api_key",
            "apiKey",
            "API-KEY",
            "APIKEY",
            "x-api-key",
            "X_API_KEY",
            "wandb_api_key",
            "openai_key",
            "api_keys",
        ),
        *("secret", "client_secret", "clientSecret", "secretKey", "aws_secret_access_key", "private_key", "ssh_key"),
        *("password", "Password", "db.password", "passwd", "pgpassword", "passphrase", "user_pwd", "proxy_auth"),
        *("authorization", "Proxy-Authorization", "credentials", "AZURE_CREDENTIAL", "cookie", "Set-Cookie", "bearer"),
        *("stages.sft.trl.hub_token", "judge.api_key", "reward.parts.0.options.body.apikey", "api_key_2"),
    ],
)
def test_names_of_secrets(key):
    assert is_secret_key(key)
    assert mask_secrets({"a": [{key: SECRET}]}) == {"a": [{key: MASK}]}
    assert mask_text(f"{key}={SECRET} x") == f"{key}={MASK} x"


@pytest.mark.parametrize(
    "key",
    [
        *("api_key_env", "token_type", "max_tokens", "n_tokens", "eos_token", "pad_token", "image_token", "tokenizer"),
        *("prompt_tokens", "max_completion_tokens", "sort_key", "cache_key", "image_key", "key", "keys", "tokens"),
        *("keyword", "monkey", "author", "secretary", "password_file", "tokens_per_second", "loss_per_token", "", "_"),
        *("learning_rate", "temperature", "beta", "mask_truncated_completions", "vllm_server_base_url", "secret_name"),
    ],
)
def test_names_of_other_things(key):
    assert not is_secret_key(key)
    assert mask_secrets({key: "right"}) == {key: "right"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"trl": {"hub_token": True, "token": None, "eos_token": "<|im_end|>", "token_": "</s>"}}, None),
        ({"hub_token": "${HF_TOKEN}", "max_tokens": 512, "password": ""}, None),
        ({"credentials": {"user": "me", "pass": [1, "b"]}}, {"credentials": {"user": MASK, "pass": [1, MASK]}}),
        ({"headers": {"Authorization": f"Bearer {SECRET}"}}, {"headers": {"Authorization": MASK}}),
        ({"headers": [["X-Api-Key", SECRET]]}, {"headers": [["X-Api-Key", MASK]]}),
        (
            {"headers": [{"name": "X-Api-Key", "value": SECRET}]},
            {"headers": [{"name": "X-Api-Key", "value": MASK}]},
        ),
        ({"password": 123456}, {"password": MASK}),
        (
            {"url": f"https://me:{SECRET}@host/v1?api_key={SECRET}&n=1"},
            {"url": f"https://{MASK}@host/v1?api_key={MASK}&n=1"},
        ),
        ({"url": "https://host/v1?key=abc"}, {"url": f"https://host/v1?key={MASK}"}),
        (["hf_" + "a" * 34, "sk-proj-" + "b" * 30], [MASK, MASK]),
        (("the pad token is 3", 0.5, None), None),
    ],
)
def test_tables(value, kept):
    assert mask_secrets(value) == (value if kept is None else kept)
    assert mask_secrets(mask_secrets(value)) == mask_secrets(value)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f'{{"error": {{"api_key": "{SECRET}", "n": 3}}}}', f'{{"error": {{"api_key": "{MASK}", "n": 3}}}}'),
        (f"hub_token: '{SECRET} b'", f"hub_token: '{MASK}'"),
        (f"judge={{api_key: {SECRET}, model: m}}", f"judge={{api_key: {MASK}, model: m}}"),
        (f"HF_TOKEN={SECRET} medrft run", f"HF_TOKEN={MASK} medrft run"),
        (f"curl -H 'Authorization: Bearer {SECRET}'", f"curl -H 'Authorization: {MASK}'"),
        (f"medrft eval --api-key {SECRET} --seed 1", f"medrft eval --api-key {MASK} --seed 1"),
        (f"?access_token={SECRET}#top", f"?access_token={MASK}"),
        ("unknown token: x; use max_tokens=12000, not eos_token=<end>", None),
        ("basic findings: basilar atelectasis; bearer of the key: none", None),
        ("The answer is B: a key finding = effusion", None),
    ],
)
def test_texts(text, kept):
    assert mask_text(text) == (text if kept is None else kept)


def test_a_command_line():
    words = [
        "medrft",
        "run",
        "r.yaml",
        "--set",
        f"a.api_key={SECRET} x",
        "--token",
        SECRET,
        f"--password={SECRET}",
        "--n",
    ]
    assert mask_command(words) == f"medrft run r.yaml --set a.api_key={MASK} --token {MASK} --password={MASK} --n"


def test_a_value_that_was_given_as_a_secret_is_masked_wherever_it_turns_up(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_PASSWORD", "correct horse battery")
    parse_set(["stages.sft.trl.hub_token=Given5Once"])
    said = "the server said Given5Once and correct horse battery"
    assert mask_text(said) == f"the server said {MASK} and {MASK}"
    assert str(DataError(said)) == mask_text(said)
    assert MASK in in_one_line(ValueError(said)) and "Given5" not in in_one_line(ValueError(said))
    stream = io.StringIO()
    print(said, file=MaskedStream(stream))
    assert stream.getvalue() == mask_text(said) + "\n"
    assert MaskedStream(stream).isatty() is False


def test_a_short_value_is_not_masked_inside_words():
    remember_secret("abc")
    remember_secret("lesion")
    assert mask_text("abcess, lesions") == "abcess, lesions"


@given(st.text(max_size=60))
def test_any_text_is_masked_once(text):
    once = mask_text(text)
    assert mask_text(once) == once


def recipe_with(tmp_path, **trl):
    table = {
        "name": "a",
        "model": {"id": "tiny:llava"},
        "data": {"name": "phantom"},
        "stages": [{"name": "sft", "kind": "sft", "trl": trl}],
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(table))
    return load_recipe(tmp_path / "r.yaml")


def test_a_run_keeps_no_secret_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["medrft", "run", "r.yaml", "--set", f"stages.sft.trl.hub_token={SECRET}"])
    run = RunDir(tmp_path / "run")
    run.write_recipe(recipe_with(tmp_path, hub_token=SECRET, max_steps=1).model_dump(mode="json"))
    run.write_environment(judge={"api_key": SECRET})
    for path in run.path.iterdir():
        assert SECRET not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [told] = [line for line in (run.path / "recipe.yaml").read_text().splitlines() if line.startswith("# Not kept")]
    assert told.startswith("# Not kept, *** in its place: stages.sft.trl.hub_token.") and "HF_TOKEN" in told
    again = load_recipe(run.path / "recipe.yaml")
    assert again.stages[0].trl == {"hub_token": MASK, "max_steps": 1}
    assert read_json(run.path / "environment.json")["command"].endswith(f"hub_token={MASK}")


def test_files_without_endpoints_are_for_colleagues_too(tmp_path):
    write_json(tmp_path / "a.json", {"n": 1})
    write_json(tmp_path / "b.json", {"judge": {"base_url": "http://localhost:1/v1"}})
    assert [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("a.json", "b.json")] == [0o644, 0o600]
    assert json.loads((tmp_path / "b.json").read_text())["judge"]["base_url"].endswith("/v1")


def test_a_secret_that_was_not_kept_is_asked_for():
    with pytest.raises(RecipeError, match=r"scorer judge: body.api_key is \*\*\*.*--set"):
        refuse_masked({"body": {"api_key": MASK}}, where="scorer judge")
    refuse_masked({"body": {"api_key": "given"}, "n": MASK}, where="scorer judge")


def test_the_hub_token_of_a_resumed_run_is_the_environments(tmp_path):
    from medrft.training.model_card import hub_target

    stage = recipe_with(tmp_path, push_to_hub=True, hub_token=MASK).stages[0]
    assert hub_target(stage, default="x")["token"] is None
