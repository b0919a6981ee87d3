"""ms-swift 4.6: a registered reward through `swift.rl_core.grpo_algorithm.score_completions`."""

import pytest

pytest.importorskip("swift")

import torch
from swift.rewards import orms
from swift.rl_core.data import GRPOSample
from swift.rl_core.grpo_algorithm import score_completions

from contract import EXACT, FLOAT32, HERE, ROWS
from medrft.errors import DataError, RecipeError
from medrft.integrations import client
from medrft.integrations.swift import register_reward
from serving import serving

RANKS = {"parts": [{"scorer": "rouge1", "weight": 1.0, "calibrate": "rank"}]}


def samples_of(rows, **columns):
    """Rows as they stand after a rollout: messages, ids of ms-swift's own, and the data set's other columns."""
    made = []
    for n, row in enumerate(rows):
        data = {"messages": [{"role": "user", "content": row["question"]}], "solution": row["reference"]}
        data |= {key: row[key] for key in ("question", "options", "kind", "id") if key in row}
        sample = GRPOSample.from_row({**data, **{name: values[n] for name, values in columns.items()}})
        sample.messages.append({"role": "assistant", "content": row["completion"]})
        sample.prompt_id, sample.request_id, sample.finish_reason = f"prompt_{row['question']}", f"r{n}", "stop"
        sample.response_token_ids = list(row["completion"].encode())
        made.append(sample)
    return made


def score(samples, name="medrft"):
    function = orms[name](args=None)
    tensor = score_completions(samples, [function], [None], use_gym_env=False, device=torch.device("cpu"))
    assert tensor.dtype == torch.float32 and tensor.shape == (len(samples), 1)
    return [None if value != value else value for value in tensor[:, 0].tolist()]


def test_the_numbers_are_ours(case):
    made = register_reward("medrft", case.reward, **case.settings)
    assert score(samples_of(ROWS)) == pytest.approx(case.expected, abs=FLOAT32)
    assert made.held.counts["rows"] == 64 and made.held.counts["unscored"] == case.expected.count(None)
    columns = {key: [row.get(key) for row in ROWS] for key in ("reference", "question", "options", "kind")}
    direct = orms["medrft"](args=None)([row["completion"] for row in ROWS], trainer_state=None, **columns)
    assert direct == pytest.approx(case.expected, abs=EXACT)


@pytest.mark.parametrize("token", [None, "t0ken-of-some-length"])
def test_a_served_reward_gives_our_numbers_through_the_client(case, token):
    with serving(case, token) as (url, server):
        client.register_reward("served", url)
        assert score(samples_of(ROWS), "served") == pytest.approx(case.expected, abs=FLOAT32)
        assert server.worker.counts.requests == 1  # the whole batch, so that groups stay together


def test_the_same_question_on_two_images_is_two_groups():
    """ms-swift's own `prompt_id` goes by the messages, which do not say which image it is."""
    register_reward("ranks", RANKS)
    said = ["left lung", "left", "nothing", "left lung"]
    same = {"question": "<image>Where?", "reference": "left lung", "kind": "open"}
    rows = [{**same, "completion": f"<think>x</think><answer>{one}</answer>"} for one in said]
    images = [[{"path": "a.png"}]] * 2 + [[{"path": "b.png"}]] * 2
    assert score(samples_of(rows, images=images, id=["a", "a", "b", "b"]), "ranks") == [1.0, 0.0, 0.0, 1.0]
    with pytest.raises(DataError, match="no column 'id'"):
        score(samples_of(rows, images=images), "ranks")
    assert score(samples_of(rows), "ranks") != [1.0, 0.0, 0.0, 1.0]  # without images its prompt_id says enough


def test_what_cannot_be_right_is_refused():
    with pytest.raises(RecipeError, match="no state"):
        register_reward("learns", str(HERE / "fitted.yaml"))
    with pytest.raises(RecipeError, match="keeps no state of a reward"):
        register_reward("learns", str(HERE / "fitted.yaml"), update=True)
