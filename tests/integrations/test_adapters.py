"""verl, ms-swift, OpenRLHF and EasyR1: our side of the call; `make integrations` has theirs."""

import json
import multiprocessing
import runpy
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from foreign_rows import COLUMNS, LEARNS, RANKS, REFERENCES, completions
from medrft.errors import DataError, RecipeError
from medrft.integrations import ForeignReward, easyr1, items_of, verl
from medrft.integrations.openrlhf import make_reward_func
from medrft.integrations.prompts import completion_in
from medrft.integrations.swift import SwiftReward, register_reward
from score_items import think

EXAMPLES = Path(__file__).parents[2] / "examples"
MIXED = {
    "closed": {"parts": [{"scorer": "yes_no_match", "weight": 0.8}, {"scorer": "answer_format", "weight": 0.2}]},
    "choice": {"parts": [{"scorer": "choice_match", "weight": 1.0}]},
    "open": LEARNS,
}
LABELS = [
    *({"reference": reference} for reference in REFERENCES),
    {"reference": "B", "options": ["CT", "MRI"]},
    {"reference": "PET", "options": ["CT", "MRI"]},  # none of the options: nobody can score it
]
TEXTS = [*completions(), think("MRI"), think("CT")]


@pytest.fixture
def mixed(tmp_path):
    """A file with a reward by kind, the state it was fitted to, and what our own reward says of the rows."""
    file, state = tmp_path / "mixed.yaml", tmp_path / "state.json"
    file.write_text(json.dumps(MIXED))
    held = ForeignReward(file, update=True)
    items = [items_of([text], {k: [v] for k, v in row.items()})[0] for text, row in zip(TEXTS, LABELS, strict=True)]
    held.reward.fit(held.reward.score(items))
    held.save_state(state)
    expected = [one.reward for one in ForeignReward(file, state=state)(items)]
    assert expected[-1] is None and len(set(expected)) > 5
    return str(file), str(state), expected


def as_verl(text, row, **settings):
    """What verl's managers pass."""
    fields = {key: row[key] for key in row if key != "reference"}
    extra = {"split": "train", "index": 0, "num_turns": 2, "rollout_reward_scores": {}, **fields}
    return verl.compute_score(
        data_source="chest", solution_str=text, ground_truth=row["reference"], extra_info=extra, **settings
    )


def test_verl_row_by_row(mixed):
    file, state, expected = mixed
    made = [as_verl(text, row, reward=file, state=state) for text, row in zip(TEXTS, LABELS, strict=True)]
    assert [row["score"] for row in made] == [value or 0.0 for value in expected]
    assert {tuple(row) for row in made} == {
        ("score", "unscored", "yes_no_match", "answer_format", "choice_match", "rouge1")
    }
    assert [row["unscored"] for row in made] == [0.0] * 9 + [1.0]
    assert all(type(value) is float for row in made for value in row.values())
    last = as_verl(TEXTS[-1], LABELS[-1], reward=file, state=state, unscored=-1.0)
    assert last["score"] == -1.0


def test_verl_reads_the_rows_that_data_convert_writes():
    """They hold the first reference as the ground truth, and the others and the options beside it."""
    reward = {"parts": [{"scorer": "exact_match", "weight": 1.0}]}
    more = {"references": ["CT", "computed tomography"], "options": [], "rationale": None, "metadata": {}}
    row = {"ground_truth": "CT", "extra_info": {"question": "Which?", "medrft": json.dumps(more)}}
    made = verl.compute_score("slake", think("computed tomography"), **row, reward=reward)
    assert made["score"] == 1.0
    choice = {"ground_truth": "CT", "extra_info": {"medrft": json.dumps({**more, "options": ["MRI", "CT"]})}}
    only = {"choice": {"parts": [{"scorer": "choice_match", "weight": 1.0}]}}
    assert verl.compute_score("slake", think("B"), **choice, reward=only)["score"] == 1.0


def test_verl_from_threads(mixed):
    file, state, expected = mixed
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: as_verl(TEXTS[n % 10], LABELS[n % 10], reward=file, state=state), range(80)))
    assert [row["score"] for row in found] == [value or 0.0 for value in expected] * 8


def test_verl_in_several_workers(mixed):
    """verl's reward workers are processes with a row each; a fitted state makes them agree."""
    file, state, expected = mixed
    rows = [(text, row, {"reward": file, "state": state}) for text, row in zip(TEXTS, LABELS, strict=True)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(one_row, rows)) == [value or 0.0 for value in expected]


def one_row(given):
    text, row, settings = given
    return as_verl(text, row, **settings)["score"]


def as_openrlhf(reward_func, texts, rows, prompt="<|im_start|>user\n<|image_pad|>?<|im_end|>\n"):
    """Prompt and completion in one text, the image token expanded, one row a call."""
    wide = prompt.replace("<|image_pad|>", "<|image_pad|>" * 9)
    return [reward_func([f"{wide}{t}<|im_end|>"], [prompt], [json.dumps(r)]) for t, r in zip(texts, rows, strict=True)]


def test_openrlhf_row_by_row(mixed):
    file, state, expected = mixed
    reward_func = make_reward_func(file, state=state)
    made = as_openrlhf(reward_func, TEXTS, LABELS)
    assert [row["rewards"].item() for row in made] == pytest.approx([value or 0.0 for value in expected], abs=1e-6)
    assert len({tuple(row["extra_logs"]) for row in made}) == 1
    assert reward_func.held.counts["unscored"] == 1 == made[-1]["extra_logs"]["unscored"].item()
    assert make_reward_func(file, state=state)([], [], [])["rewards"].shape == (0,)


@pytest.mark.parametrize(
    ("label", "error"),
    [('{"question": "?"}', DataError), (None, DataError), ('{"reference": "no", "kind": "what"}', ValueError)],
)
def test_openrlhf_failures_are_counted_for_nobody_sees_them(mixed, caplog, label, error):
    file, state, _ = mixed
    reward_func = make_reward_func(file, state=state)
    with pytest.raises(error):
        reward_func(["?no"], ["?"], [label])
    assert reward_func.held.counts["failed"] == 1 and "a reward call of 1 rows failed" in caplog.text


@pytest.mark.parametrize(
    ("query", "prompt", "completion"),
    [
        ("ask: no", "ask: ", "no"),
        ("no", "ask: ", "no"),  # stripped already
        ("<s>ask<img><img><img>: no</s>", "<s>ask<img>: ", "no"),  # expanded
        ("ask (a+b)? no", "ask (a+b)? ", "no"),  # no pattern of ours
        ("x" * 60 + "tail of the prompt: no", "y" * 9 + "x" * 60 + "tail of the prompt: ", "no"),  # cut in front
        ("p: <answer>p: x</answer><|im_end|>", "p: ", "<answer>p: x</answer>"),  # the prompt again in the answer
        ("", "ask: ", ""),
    ],
)
def test_the_completion_in_a_query(query, prompt, completion):
    assert completion_in(query, prompt) == completion


def test_swift_with_the_columns_it_passes(mixed):
    file, state, expected = mixed
    made = SwiftReward(file, state=state)
    rows = len(TEXTS)
    found = made(
        TEXTS,
        trainer_state=None,
        solution=[row["reference"] for row in LABELS],
        options=[row.get("options") for row in LABELS],
        messages=[[{"role": "user", "content": "<image>?"}]] * rows,
        images=[[{"path": "a.png"}]] * rows,
        prompt_id=["prompt_0"] * rows,
        request_id=[f"r{n}" for n in range(rows)],
        is_truncated=[False] * rows,
        finish_reason=["stop"] * rows,
        rollout_infos=[{}] * rows,
        response_token_ids=[[1, 2, 3]] * (rows - 1) + [[[1, 2], [3]]],  # nested where there are several turns
    )
    assert found == expected and made.held.counts["unscored"] == 1  # None is ms-swift's own way


def test_swift_groups_by_id_and_not_by_text():
    made = SwiftReward(RANKS)
    texts = [think(text) for text in ("left lung", "left", "left lung", "nothing")]
    columns = {"solution": ["left lung"] * 4, "prompt_id": ["prompt_0"] * 4}
    assert made(texts, **columns, images=[["a"], ["a"], ["b"], ["b"]], id=["a", "a", "b", "b"]) == [1.0, 0.0, 1.0, 0.0]
    assert made(texts, **columns) != [1.0, 0.0, 1.0, 0.0]  # text alone: its prompt_id says which
    with pytest.raises(DataError, match="no column 'id'"):
        made(texts, **columns, images=[["a"], ["a"], ["b"], ["b"]])


def test_swift_registers_a_class(monkeypatch):
    package, rewards = ModuleType("swift"), ModuleType("swift.rewards")
    rewards.ORM, rewards.orms = type("ORM", (), {"__init__": lambda self, args=None: None}), {}
    monkeypatch.setitem(sys.modules, "swift", package)
    monkeypatch.setitem(sys.modules, "swift.rewards", rewards)
    held = register_reward("medrft", "text").held
    built = rewards.orms["medrft"](args=None)
    assert isinstance(built, rewards.ORM)
    assert built(completions(), **COLUMNS) == [one.reward for one in held(items_of(completions(), COLUMNS))]


def test_easyr1_a_batch(mixed):
    file, state, expected = mixed
    inputs = [
        {"response": text, "response_length": 5, "ground_truth": json.dumps(row)}
        for text, row in zip(TEXTS, LABELS, strict=True)
    ]
    made = easyr1.compute_score(inputs, reward=file, state=state)
    assert [row["overall"] for row in made] == [value or 0.0 for value in expected]
    assert len({tuple(row) for row in made}) == 1 and [row["unscored"] for row in made] == [0.0] * 9 + [1.0]


def test_a_missing_state_is_refused_by_each(tmp_path):
    file = tmp_path / "learns.yaml"
    file.write_text(json.dumps(LEARNS))
    calls = [
        lambda: as_verl(TEXTS[0], LABELS[0], reward=str(file)),
        lambda: make_reward_func(file),
        lambda: SwiftReward(file),
        lambda: easyr1.compute_score([], reward=str(file)),
    ]
    for call in calls:
        with pytest.raises(RecipeError, match="no state: row by row"):
            call()
    with pytest.raises(RecipeError, match="keeps no state of a reward"):
        SwiftReward(file, update=True)


@pytest.mark.parametrize(("name", "says"), [("openrlhf_reward", "reward_func"), ("swift_plugin", "orms")])
def test_the_examples_are_files_that_a_trainer_can_load(name, says, monkeypatch):
    package, rewards = ModuleType("swift"), ModuleType("swift.rewards")
    rewards.ORM, rewards.orms = type("ORM", (), {"__init__": lambda self, args=None: None}), {}
    monkeypatch.setitem(sys.modules, "swift", package)
    monkeypatch.setitem(sys.modules, "swift.rewards", rewards)
    made = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    if says == "orms":
        found = rewards.orms["medrft"]()([think("no")], solution=["no"])
    else:
        found = made[says]([f"? {think('no')}"], ["? "], ["no"])["rewards"].tolist()
    assert found == [1.0]


def test_verls_example_names_arguments_that_the_adapter_takes():
    function = yaml.safe_load((EXAMPLES / "verl.yaml").read_text())["reward"]["custom_reward_function"]
    assert function["path"] == f"pkg://{verl.__name__}" and function["name"] == "compute_score"
    assert verl.compute_score("chest", think("no"), "no", {}, **function["reward_kwargs"])["score"] == 1.0
    worker = yaml.safe_load((EXAMPLES / "easyr1.yaml").read_text())["worker"]["reward"]
    inputs = [{"response": think("no"), "response_length": 3, "ground_truth": "no"}]
    assert easyr1.compute_score(inputs, **worker["reward_function_kwargs"])[0]["overall"] == 1.0
