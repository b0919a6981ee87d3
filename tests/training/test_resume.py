"""An interrupted stage goes on from its checkpoint as if nothing had happened, and no step is counted twice."""

import signal

import pytest

from interrupted import at_step, crash, differences
from medrft.rundir import RunDir, read_json
from medrft.training import grpo, sft
from medrft.training.grpo import GRPO, run_grpo
from medrft.training.sft import SFT, run_sft


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory, recipe):
    """A GRPO stage that nothing disturbed."""
    run = RunDir.create(tmp_path_factory.mktemp("runs") / "whole")
    trained(run_grpo, recipe(), 1, run=run)
    return run


@pytest.mark.parametrize(
    ("act", "leaves"),
    [(lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt), (crash, RuntimeError)],
    ids=["ctrl-c", "crash"],
)
def test_grpo_goes_on_as_if_nothing_had_happened(trained, whole, run, recipe, monkeypatch, act, leaves):
    with monkeypatch.context() as patch, pytest.raises(leaves):
        patch.setattr(grpo, "GRPO", at_step(GRPO, 3, act))
        trained(run_grpo, recipe(), 1, run=run)
    assert read_json(run.stage("grpo") / "stage.json")["status"] == "running"
    trained(run_grpo, recipe(), 1, run=run, resume=True)
    assert differences(run, whole, stages=["grpo"]) == []


@pytest.mark.parametrize("step", [3, 4], ids=["in its second epoch", "after its last step"])
def test_sft_goes_on(trained, tmp_path, recipe, monkeypatch, drawn, step):
    recipe, few = recipe(), {"train": drawn["train"][:8], "validation": []}  # two steps an epoch
    whole, run = RunDir.create(tmp_path / "whole"), RunDir.create(tmp_path / "run")
    trained(run_sft, recipe, run=whole, **few)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(sft, "SFT", at_step(SFT, step, lambda: signal.raise_signal(signal.SIGTERM)))
        trained(run_sft, recipe, run=run, **few)
    assert left.value.code == 143
    trained(run_sft, recipe, run=run, resume=True, **few)
    assert differences(run, whole, stages=["sft"]) == []
