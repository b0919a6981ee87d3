"""SFT's loss: the head sees the positions that are learned and no others, and the loss is TRL's."""

import pytest
from trl import SFTTrainer
from trl.trainer import utils

from medrft.rundir import RunDir, read_jsonl
from medrft.training.sft import ScoresAnswers, run_sft


def losses(run):
    return [row["loss"] for row in read_jsonl(run.metrics)]


def test_the_head_sees_what_is_learned_and_no_more(trained, run, recipe, monkeypatch):
    learned, projected = [], []
    kept, compute_loss = utils._ChunkedLogProbFunction, ScoresAnswers.compute_loss

    class Spy:
        @staticmethod
        def apply(hidden, *more):
            projected.append(len(hidden))
            return kept.apply(hidden, *more)

    def counting(self, model, inputs, *args, **kwargs):
        learned.append(int((inputs["labels"][:, 1:] != -100).sum()))
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Spy)
    monkeypatch.setattr(ScoresAnswers, "compute_loss", counting)
    trained(run_sft, recipe(), run=run)
    assert projected == learned
    assert len(learned) > 4 and min(learned) > 0  # steps and evaluations


def test_the_loss_is_trls(trained, recipe, tmp_path, monkeypatch):
    runs = [RunDir.create(tmp_path / name) for name in ("ours", "theirs")]
    trained(run_sft, recipe(), run=runs[0])
    monkeypatch.setattr(ScoresAnswers, "compute_loss", SFTTrainer.compute_loss)
    trained(run_sft, recipe(), run=runs[1])
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=1e-4)
