"""verl 0.9: `load_reward_manager` finds the reward by `pkg://`, `NaiveRewardManager.run_single` scores a row."""

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("verl")

import numpy as np
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.reward import load_reward_manager

from contract import EXACT, FLOAT32, HERE, ROWS, label, or_zero
from medrft.integrations import client
from serving import serving
from texts import CHAT, THOUGHT, make_tokenizer
from verl import DataProto

TOKENIZER = make_tokenizer(*CHAT)
PROMPT = 3


def make_manager(case, tokenizer=TOKENIZER, name="naive", **more):
    """The part of verl's configuration that a user writes."""
    return manager_of(
        "pkg://medrft.integrations.verl", {"reward": case.reward, **case.settings, **more}, tokenizer, name
    )


def manager_of(path, settings, tokenizer=TOKENIZER, name="naive"):
    function = {"path": path, "name": "compute_score", "reward_kwargs": settings}
    manager = {"source": "register", "name": name, "module": {"path": None, "name": "custom_reward_manager"}}
    reward = {"custom_reward_function": function, "reward_manager": manager}
    config = OmegaConf.create({"reward": reward, "trainer": {"experiment_name": "test"}})
    return load_reward_manager(config, tokenizer)


def batch_of(rows, tokenizer=TOKENIZER, as_json=True):
    """Padded token ids and the columns of the data set, as the agent loop leaves them."""
    ids = [tokenizer(text=row["completion"] + "<|im_end|>", add_special_tokens=False)["input_ids"] for row in rows]
    width = max(map(len, ids))
    responses = torch.full((len(rows), width), tokenizer.pad_token_id)
    mask = torch.zeros(len(rows), PROMPT + width, dtype=torch.long)
    for n, own in enumerate(ids):
        responses[n, : len(own)] = torch.tensor(own)
        mask[n, : PROMPT + len(own)] = 1
    fields = [{key: row[key] for key in ("question", "options", "kind") if key in row} for row in rows]
    truth = [label(row) if as_json else row["reference"] for row in rows]
    columns = {
        "data_source": ["chest"] * len(rows),
        "reward_model": [{"style": "rule", "ground_truth": one} for one in truth],
        "extra_info": [{"split": "train", "index": n, **({} if as_json else own)} for n, own in enumerate(fields)],
    }
    return DataProto.from_dict(
        tensors={"prompts": responses[:, :PROMPT].clone(), "responses": responses, "attention_mask": mask},
        non_tensors={key: np.array(value, dtype=object) for key, value in columns.items()},
    )


def run_all(manager, batch):
    """Every row alone and all at once, as a worker does; verl calls from its threads."""

    async def everything():
        return await asyncio.gather(*(manager.run_single(batch[n : n + 1]) for n in range(len(batch))))

    return manager.loop.run_until_complete(everything())


@pytest.mark.parametrize("as_json", [True, False])
def test_the_numbers_are_ours(case, as_json):
    manager, batch = make_manager(case), batch_of(ROWS, as_json=as_json)
    found = run_all(manager, batch)
    scores = [row["reward_score"] for row in found]
    assert scores == pytest.approx(or_zero(case.expected), abs=EXACT)
    extra = [row["reward_extra_info"] for row in found]
    assert len({tuple(row) for row in extra}) == 1  # verl takes its columns from the first row
    assert [row["unscored"] for row in extra] == [float(v is None) for v in case.expected]
    tensor = manager.assemble_rm_scores(batch, scores)
    assert tensor.dtype == torch.float32
    assert tensor.sum(dim=1).tolist() == pytest.approx(or_zero(case.expected), abs=FLOAT32)


def test_verls_gdpo_manager_passes_the_parts_on(case):
    extra = [row["reward_extra_info"] for row in run_all(make_manager(case, name="gdpo"), batch_of(ROWS[20:28]))]
    for row, outcome in zip(extra, case.outcomes[20:28], strict=True):
        parts = {name: value for name, value in outcome.calibrated.items() if value is not None}
        assert {name: row[name] for name in parts} == pytest.approx(parts, abs=EXACT)


@pytest.mark.parametrize("token", [None, "t0ken-of-some-length"])
def test_a_served_reward_gives_our_numbers_through_the_copied_client(case, token, tmp_path):
    copied = tmp_path / "reward_client.py"
    copied.write_bytes(Path(client.__file__).read_bytes())
    with serving(case, token) as (url, server):
        found = run_all(manager_of(str(copied), {"url": url}), batch_of(ROWS))
        assert server.worker.counts.requests == 64
    assert [row["reward_score"] for row in found] == pytest.approx(or_zero(case.expected), abs=EXACT)
    extra = [row["reward_extra_info"] for row in found]
    assert len({tuple(row) for row in extra}) == 1
    assert [row["unscored"] for row in extra] == [float(v is None) for v in case.expected]


def test_think_marks_that_are_special_tokens_vanish(case):
    """verl decodes with skip_special_tokens=True: the answer stands, the form `think` does not."""
    tokenizer = make_tokenizer(*CHAT, *THOUGHT)
    row = {"completion": "<think>x</think><answer>left</answer>", "reference": "left", "kind": "open", "question": "?"}
    batch = batch_of([row], tokenizer)
    as_think = run_all(make_manager(case, tokenizer), batch)[0]["reward_extra_info"]
    assert as_think["answer_format"] == 0.0 and as_think["score"] == pytest.approx(0.8, abs=0.01)
    bare = batch_of([{**row, "completion": "<think></think><answer>left</answer>"}], tokenizer)
    assert run_all(make_manager(case, tokenizer, form="direct"), bare)[0]["reward_extra_info"]["answer_format"] == 1.0


def test_a_calibration_without_a_state_is_refused_on_the_first_row(case):
    class Unfitted:
        reward, settings = str(HERE / "fitted.yaml"), {}

    with pytest.raises(Exception, match="no state: row by row"):
        run_all(make_manager(Unfitted), batch_of(ROWS[:1]))
