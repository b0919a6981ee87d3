from __future__ import annotations

import pytest

from medrft.evaluation.run_files import RunFiles
from medrft.recipes import parse_recipe
from medrft.report.rewards import OURS, reward_facts
from medrft.rewards import build_reward
from medrft.rundir import RunDir, write_json

BY_KIND = {"closed": {"parts": [{"scorer": "yes_no_match", "weight": 0.8}]}, "open": "armed"}


def make(tmp_path, reward):
    table = {"name": "x", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}, "reward": reward}
    recipe = parse_recipe({**table, "stages": [{"name": "grpo", "kind": "grpo"}]})
    run = RunDir.create(tmp_path / "run")
    run.write_recipe(recipe.model_dump(mode="json"))
    return run


@pytest.mark.parametrize(("reward", "kinds"), [("armed", ["all kinds"]), (BY_KIND, ["closed", "open"])])
@pytest.mark.parametrize("recorded", [False, True])
def test_parts_are_told_before_and_after_training(tmp_path, reward, kinds, recorded):
    run = make(tmp_path, reward)
    if recorded:
        write_json(run.stage("grpo") / "stage.json", {"reward": build_reward(reward).describe()})
    facts = list(reward_facts(RunFiles(run.path)))
    assert [fact.kinds for fact in facts] == kinds
    armed = facts[-1]
    assert armed.name == "armed" and armed.combine == "weighted sum"
    assert {part.scorer: part.weight for part in armed.parts} == {
        "bleu1": "0.2",
        "rouge1": "0.2",
        "bertscore": "0.08",
        "cosine": "0.32",
        "answer_format": "0.2",
    }
    cosine = next(part for part in armed.parts if part.scorer == "cosine")
    assert cosine.calibration == "adaptive" and OURS in cosine.settings
    assert not recorded or cosine.encoder == "all-MiniLM-L6-v2"
