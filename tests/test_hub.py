"""An unreachable hub: one line, quickly, for whatever is loaded from it."""

import socket
import subprocess
import sys
import time

import pytest

from medrft import hub

PROGRAM = """
import sys
from medrft.errors import UserError
what = sys.argv[1]
try:
    if what == "model":
        from medrft.config import ModelConfig
        from medrft.models.load import check_start
        check_start(ModelConfig(id="some/model", device="cpu"))
    elif what == "processor":
        from medrft.config import ModelConfig
        from medrft.models.load import load_processor
        load_processor("some/model", ModelConfig(id="some/model"))
    elif what == "encoder":
        import torch
        from medrft.scorers.encoder_load import load_encoder
        load_encoder("some/encoder", None, torch.device("cpu"))
    else:
        from medrft.data.hub import hub_rows
        next(hub_rows("some/data", subset=None, revision=None))
except UserError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def fresh(monkeypatch):
    """The hub as if nobody had asked yet, and may be asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub._unreachable.cache_clear()
    yield monkeypatch
    hub._unreachable.cache_clear()


@pytest.fixture
def mute():
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_never_answers_is_asked_once(fresh, mute):
    fresh.setattr("huggingface_hub.constants.ENDPOINT", mute)
    fresh.setattr(hub, "SECONDS", 0.2)
    began = time.perf_counter()
    told = [hub.hub_silence("some/model") for _ in range(3)]
    assert time.perf_counter() - began < 5
    assert set(told) == {told[0]}
    assert told[0].startswith("the hub is unreachable (http://127.0.0.1")
    from huggingface_hub import constants

    assert constants.HF_HUB_OFFLINE  # so that no library asks again
    assert "HTTPS_PROXY" in hub.why_unreachable("some/model")


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [("http://127.0.0.1:9", "refused"), ("http://no.such.host.invalid", "no.such"), ("x://y", "x://y")],
)
def test_endpoints_that_are_not_there(endpoint, told, fresh):
    fresh.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    assert told in hub.hub_silence("some/model")


def test_a_hub_that_is_off_or_not_needed(fresh, tmp_path):
    assert hub.hub_silence(str(tmp_path)) is None  # a folder: nobody is asked
    fresh.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.hub_silence("some/model") == "HF_HUB_OFFLINE is set"
    fresh.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "not whole in its cache" in hub.why_unreachable("some/model")
    (tmp_path / "models--some--model").mkdir()
    assert hub.why_unreachable("some/model") is None  # what is in the cache is tried


@pytest.mark.parametrize("what", ["model", "processor", "encoder", "data"])
def test_one_line_for_everything_that_comes_from_the_hub(what, tmp_path):
    import os

    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, what], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "the hub is unreachable (http://127.0.0.1:9" in line
    assert "give the folder" in line
