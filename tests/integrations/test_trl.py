"""TRL's own `GRPOTrainer`, plain, with a reward of ours: real steps on a tiny vision-language model."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainerCallback

from foreign_rows import COLUMNS, LEARNS, RANKS, TEXT, completions
from medrft.errors import DataError, RecipeError
from medrft.integrations import items_of
from medrft.integrations.client import trl_reward as client_of_trl
from medrft.integrations.serve.server import Serving, open_reward
from medrft.integrations.trl import trl_reward
from medrft.integrations.trl_columns import trl_columns
from medrft.integrations.trl_state import STATE
from medrft.rewards import build_reward
from score_items import think
from served import serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "trl_reward.py"
NORMALIZED = {**TEXT, "combine": "normalize_then_sum"}


def messages(texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("trl_reward_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_called_as_trl_calls_it():
    paid = trl_reward(TEXT)
    logged = {}
    found = paid(
        prompts=[[{"role": "user", "content": "?"}]] * 8,
        completions=messages(completions()),
        completion_ids=[[1, 2, 3]] * 8,
        trainer_state=SimpleNamespace(global_step=0),
        log_extra=lambda column, values: None,
        log_metric=lambda name, value: logged.update({name: value}),
        **COLUMNS,
    )
    ours = build_reward(TEXT)(items_of(completions(), COLUMNS))
    assert found == [one.reward for one in ours] and logged == {"medrft/unscored": 0.0}
    assert paid.__name__ == "medrft_the_reward" and trl_reward("text").__name__ == "medrft_text"


def test_the_same_question_on_two_images_is_two_groups():
    paid = trl_reward(RANKS)
    texts = [think(text) for text in ("left lung", "left", "left lung", "nothing")]
    columns = {"solution": ["left lung"] * 4, "question": ["Where?"] * 4, "id": ["a", "a", "b", "b"]}
    assert paid(completions=texts, **columns) == [1.0, 0.0, 1.0, 0.0]
    with pytest.raises(DataError, match="no column 'id'"):
        paid(completions=texts, solution=["left lung"] * 4)


def test_what_learns_needs_the_callback_and_learns_in_training_alone():
    paid = trl_reward(LEARNS, update=True)
    with pytest.raises(RecipeError, match=r"callbacks=\[reward.callback\(\)\]"):
        paid(completions=completions(), **COLUMNS)
    paid.model = SimpleNamespace(training=False)
    paid(completions=completions(), **COLUMNS)
    assert paid.held.state_dict()["all"]["rouge1"]["threshold"] is None
    paid.model.training = True
    paid(completions=completions(), **COLUMNS)
    assert paid.held.state_dict()["all"]["rouge1"]["threshold"] is not None


def test_part_by_part_the_sum_is_the_reward():
    functions, weights = trl_columns(TEXT)
    assert [one.__name__ for one in functions] == ["medrft_the_reward_bleu1", "medrft_the_reward_exact_match"]
    texts = completions()
    values = [function(completions=texts, **COLUMNS) for function in functions]
    total = [sum(w * v for w, v in zip(weights, row, strict=True)) for row in zip(*values, strict=True)]
    ours = [one.reward for one in build_reward(TEXT)(items_of(texts, COLUMNS))]
    assert total == pytest.approx(ours, abs=1e-12)
    assert functions[0].batch.whole.held.counts["rows"] == 8  # scored once for both columns
    with pytest.raises(RecipeError, match="use trl_columns"):
        trl_reward(NORMALIZED)
    assert trl_columns(NORMALIZED)[1] == [0.5, 0.5]


def test_an_unscored_completion_is_none_in_every_column():
    spec = {"parts": [{"scorer": "choice_match", "weight": 0.5}, {"scorer": "answer_format", "weight": 0.5}]}
    columns = {"solution": ["PET", "CT"], "options": [["CT", "MRI"]] * 2, "id": ["a", "a"]}
    texts = [think("CT"), think("CT")]
    for function in trl_columns(spec)[0]:
        found = function(completions=texts, **columns)
        assert found[0] is None and found[1] == 1.0
    assert trl_reward(spec)(completions=texts, **columns) == [None, 1.0]


def test_two_real_steps_with_spread_and_a_resume_with_the_same_state(example, base, tmp_path):
    settings = {"reward": "armed_clinical", "prompt": "short"}
    whole = example.train(str(base), tmp_path / "whole", steps=3, **settings)
    spread = [row["rewards/medrft_armed_clinical/std"] for row in whole.state.log_history if "reward" in row]
    assert len(spread) == 3 and max(spread) > 0.0
    example.train(str(base), tmp_path / "cut", steps=2, **settings)
    example.train(str(base), tmp_path / "cut", steps=3, resume=True, **settings)
    states = [json.loads((tmp_path / name / "checkpoint-3" / STATE).read_text()) for name in ("whole", "cut")]
    assert states[0] == states[1] and len(states[0]["state"]["all"]["cosine"]["history"]) > 0
    earlier = json.loads((tmp_path / "whole" / "checkpoint-1" / STATE).read_text())
    assert earlier["state"] != states[0]["state"]


@pytest.mark.slow
def test_two_processes_have_one_state(base, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(EXAMPLE)]
    command += [str(base), str(tmp_path / "out"), "--prompt", "short", "--each-state", str(tmp_path)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-9000:]
    states = [json.loads((tmp_path / f"state-{rank}.json").read_text()) for rank in (0, 1)]
    assert states[0] == states[1] and len(states[0]["state"]["all"]["cosine"]["history"]) > 0


def test_real_steps_with_a_served_reward(example, base, tmp_path, monkeypatch):
    """Plain `GRPOTrainer` with the client alone; the server learns from each step's completions."""
    (tmp_path / "reward.yaml").write_text(json.dumps(LEARNS))
    asked = Serving(reward=str(tmp_path / "reward.yaml"), update=True, state=tmp_path / "state.json")
    held, remembered = open_reward(asked)
    with serving(held, remembered=remembered, form="short") as (client, _):
        paid = client_of_trl(client.place)
        paid.callback = TrainerCallback  # the example asks for one; the state is with the server
        monkeypatch.setattr(example, "trl_reward", lambda *given, **settings: paid)
        trainer = example.train(str(base), tmp_path / "run", steps=2, reward="", prompt="short")
        assert client.health()["learnt"] == {"batches": 2, "rows": 8}
    assert [row for row in trainer.state.log_history if "rewards/medrft_served/mean" in row]
    remembered.ledger.close()
