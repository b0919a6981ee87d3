"""GRPO on a tiny model: rollouts, metrics and choices agree with each other."""

import errno
import math
import threading
from collections import defaultdict

import pyarrow.parquet as pq
import pytest

from medrft.errors import DataError, StorageError
from medrft.models.load import load_policy
from medrft.rundir import RunDir, read_json, read_jsonl
from medrft.store import read_rollouts
from medrft.training import grpo
from medrft.training.grpo import GRPO, excluded_tokens, run_grpo


@pytest.fixture(scope="module")
def suppressed():
    """Token ids that were ruled out, and those that were drawn, of each generation batch."""
    return []


@pytest.fixture(scope="module")
def done(trained, tmp_path_factory, recipe, suppressed):
    class Watching(GRPO):
        def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
            suppressed.append((self.generation_config.suppress_tokens, completion_ids_list))
            return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    run = RunDir.create(tmp_path_factory.mktemp("runs") / "grpo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "GRPO", Watching)
        trained(run_grpo, recipe(), 1, run=run)
    return run


def groups_of(run, split):
    groups = defaultdict(list)
    for row in read_rollouts(
        run.path, f"SELECT * FROM rollouts WHERE split = '{split}' ORDER BY generation_step, group_id, sample"
    ):
        groups[row["group_id"]].append(row)
    return groups


def test_every_group_is_stored_whole_train_and_validation_apart(done):
    train, validation = groups_of(done, "train"), groups_of(done, "validation")
    assert len(train) == 4 * 2 and len(validation) == 2 * 8
    assert all([row["sample"] for row in group] == [0, 1, 2, 3] for group in train.values())
    assert all([row["sample"] for row in group] == [0, 1] for group in validation.values())
    for group in [*train.values(), *validation.values()]:
        assert len({(row["example_id"], row["kind"], row["step"]) for row in group}) == 1
    assert {row["step"] for group in train.values() for row in group} == {0, 1, 2, 3}
    assert {row["step"] for group in validation.values() for row in group} == {2, 4}


def test_rewards_are_the_weighted_parts_and_advantages_follow_trls_formula(done):
    weights = {"yes_no_match": 0.5, "choice_match": 0.5}
    for group in groups_of(done, "train").values():
        rewards = []
        for row in group:
            open_question = row["kind"] == "open"
            applied = {name: value for name, value in row["calibrated"].items() if row["applicable"][name]}
            total = sum((1.0 if open_question else weights.get(name, 0.5)) * value for name, value in applied.items())
            assert row["reward"] == pytest.approx(total)
            rewards.append(row["reward"])
        mean = sum(rewards) / 4
        std = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / 3)
        assert [row["advantage"] for row in group] == pytest.approx(
            [(r - mean) / (std + 1e-4) for r in rewards], abs=1e-3
        )


def test_metrics_summarise_the_rollouts(done):
    rows = {row["step"]: row for row in read_jsonl(done.metrics) if row["split"] == "train"}
    for step, row in rows.items():
        stored = read_rollouts(done.path, f"SELECT * FROM rollouts WHERE split = 'train' AND step = {step - 1}")
        for name in ("reward", "correct", "truth", "truncated"):
            assert row[name] == pytest.approx(sum(r[name] for r in stored) / len(stored), abs=1e-6), name
        assert row["completion_length"] == pytest.approx(sum(r["n_tokens"] for r in stored) / len(stored))
        assert {"kl", "entropy", "grad_norm", "learning_rate", "zero_spread", "near_zero_spread"} <= set(row)
        assert {"part/bleu1/raw", "part/bleu1/raw_std", "part/bleu1/calibrated_std", "reward_time"} <= set(row)


def test_the_best_reward_on_validation_is_kept(done):
    record = read_json(done.stage("grpo") / "stage.json")
    rewards = {r["step"]: r["reward"] for r in read_jsonl(done.metrics) if r["split"] == "validation"}
    assert record["best"]["metric"] == "eval_reward" and record["best"]["step"] == max(rewards, key=rewards.get)
    assert record["reward"]["stacks"]["open"]["parts"][0]["name"] == "bleu1"


def test_calibration_learns_in_training_only_and_its_state_is_kept(done):
    state = read_json(done.stage("grpo") / "reward_state.json")["open"]["bleu1"]
    seen = read_rollouts(done.path, "SELECT raw.bleu1 AS raw FROM rollouts WHERE split = 'train' AND kind = 'open'")
    assert len(state["history"]) <= len(seen) and state["threshold"] is not None


def test_thumbnails_lie_beside_the_rollouts(done):
    used = {digest for row in read_rollouts(done.path) for digest in row["image_sha256"]}
    assert used == {path.stem for path in done.images.glob("*.png")}


def test_placeholders_are_ruled_out_of_rollouts(done, suppressed):
    for banned, drawn in suppressed:
        assert banned and not set(banned) & {token for row in drawn for token in row}


def test_vllm_is_told_in_words_because_it_takes_no_ids_for_that(base, recipe):
    policy = load_policy(recipe().model, base)
    tokenizer = policy.processor.tokenizer
    ids = excluded_tokens(policy, vllm=False)["suppress_tokens"]
    words = excluded_tokens(policy, vllm=True)["bad_words"]
    assert [tokenizer.encode(word, add_special_tokens=False) for word in words] == [[number] for number in ids]


def test_fewer_examples_than_a_generation_batch_asks_is_an_error_with_the_numbers(trained, run, recipe, drawn):
    with pytest.raises(DataError, match=r"1 train examples.* 8 completions in groups of 4 asks 2"):
        trained(run_grpo, recipe(), 1, run=run, train=drawn["train"][:1])


def test_normalize_then_sum_trains_on_the_rewards_own_advantage(trained, run, recipe):
    reward = {k: {**s.model_dump(), "combine": "normalize_then_sum"} for k, s in recipe().reward.items()}
    trained(run_grpo, recipe(reward=reward, report={"images": "none"}), 1, run=run)
    rows = read_rollouts(run.path, "SELECT reward, advantage FROM rollouts WHERE split = 'train'")
    assert [row["advantage"] for row in rows] == pytest.approx([row["reward"] for row in rows], abs=0.02)
    assert not run.images.exists()  # report.images: none


def test_a_full_disk_stops_the_stage_in_one_line(trained, run, recipe, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(StorageError, match=r"cannot write .*rollouts.*No space left on device; free space there"):
        trained(run_grpo, recipe(), 1, run=run)
    assert not any(thread.name.startswith("rollouts") for thread in threading.enumerate())
