"""A step's seconds by part: they add up, each is what it says, and the log says what would help."""

import threading
import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from medrft.models.load import load_policy
from medrft.models.picture_memory import vision_tower
from medrft.models.tiny import FAMILIES, build_tiny
from medrft.rundir import read_jsonl
from medrft.training.grpo import run_grpo
from medrft.training.sft import run_sft
from medrft.training.timing.clock import StepClock, Timed
from medrft.training.timing.flops import PATCHERS, watch_model, weights_passed
from medrft.training.timing.slowest import PARTS, measure_speed, speeds_of_run

CPU = torch.device("cpu")


def train_rows(run):
    return [row for row in read_jsonl(run.metrics) if row["split"] == "train"]


class TestClock:
    def test_a_part_within_another_counts_as_itself(self):
        clock = StepClock(CPU)
        clock.begin()
        began = time.perf_counter()
        with clock.part("prefill"):
            time.sleep(0.02)
            with clock.part("vision"):
                time.sleep(0.05)
        clock.rest("optimizer")
        time.sleep(0.01)
        found, whole = clock.end(), time.perf_counter() - began
        assert set(found) == {"other", "prefill", "vision", "optimizer"}
        assert found["vision"] >= 0.05 and found["optimizer"] >= 0.01 and 0.02 <= found["prefill"] < whole - 0.05
        assert sum(found.values()) == pytest.approx(whole, abs=0.005)

    def test_between_steps_nothing_is_counted(self):
        clock = StepClock(CPU)
        with clock.part("decode"):
            assert clock.now_in is None
        assert clock.end() is None
        clock.begin()
        clock.end()
        clock.rest("optimizer")
        assert clock.end() is None

    def test_other_threads_do_not_count(self):
        clock, seen = StepClock(CPU), []
        clock.begin()

        def elsewhere():
            with clock.part("vision"):
                seen.append(clock.now_in)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert seen == [None] and set(clock.end()) == {"other"}

    def test_an_error_closes_its_part(self):
        clock = StepClock(CPU)
        clock.begin()
        with pytest.raises(ValueError), clock.part("loss"):
            raise ValueError
        assert clock.now_in == "other"

    def test_a_mixin_without_a_clock_measures_nothing(self):
        with Timed()._part("loss"):
            pass


def test_parts_of_every_step_add_up_and_each_was_there(trained, run, recipe):
    trained(run_grpo, recipe(), 1, run=run)
    rows = train_rows(run)
    for row in rows:
        assert sum(row[f"time/{name}"] for name in PARTS) == pytest.approx(row["step_time"], rel=1e-6)
        assert all(row[f"time/{name}"] > 0 for name in PARTS if name != "waiting"), row
        assert row["reward_wait"] == pytest.approx(row["time/reward"] / row["step_time"])
        written = row["completion_length"] * 8
        assert row["tokens_per_second"] == pytest.approx(written / row["step_time"])
        assert row["flops_per_second"] > 0 and "mfu" not in row and "time_tokens" not in row
    assert rows[-1]["seconds"] >= sum(row["step_time"] for row in rows) * 0.99
    assert all(row["seconds"] < 3600 for row in rows)


def test_a_step_that_reuses_a_generation_writes_nothing(trained, run, recipe, reusing):
    stage = {"name": "grpo", "kind": "grpo", "trl": {**reusing, "max_steps": 4, "logging_steps": 1, "eval_steps": 4}}
    trained(run_grpo, recipe(stages=[stage]), 0, run=run, validation=[])
    rows = train_rows(run)
    wrote = [row["time/decode"] > 0 for row in rows]
    assert wrote == [True, False, False, False]
    assert ["tokens_per_second" in row for row in rows] == wrote
    for row in rows:
        assert sum(row[f"time/{name}"] for name in PARTS) == pytest.approx(row["step_time"], rel=1e-6)


def test_sft_is_measured_too(trained, run, recipe):
    trained(run_sft, recipe(), run=run, validation=[])
    rows = train_rows(run)
    for before, row in zip([None, *rows], rows, strict=False):
        parts = {key: value for key, value in row.items() if key.startswith("time/")}
        assert set(parts) == {f"time/{name}" for name in ("data", "vision", "loss", "backward", "optimizer", "other")}
        assert sum(parts.values()) == pytest.approx(row["step_time"], rel=1e-6)
        read = row["num_tokens"] - (before["num_tokens"] if before else 0)
        assert row["tokens_per_second"] == pytest.approx(read / row["step_time"])


@pytest.mark.parametrize("frozen", [False, True])
def test_operations_are_those_that_torch_counts_in_matrix_products(base, recipe, frozen):
    policy = load_policy(recipe().model, base)
    decoder, head = policy.model.get_decoder(), policy.model.get_output_embeddings()
    decoder.requires_grad_(not frozen)
    clock = StepClock(CPU)
    watch_model(policy.model, clock)
    hidden = torch.randn(2, 40, decoder.config.hidden_size, requires_grad=True)
    clock.begin()
    with FlopCounterMode(display=False) as counter, clock.part("loss"):
        states = decoder(inputs_embeds=hidden, use_cache=False).last_hidden_state
        head(states).logsumexp(-1).sum().backward()
    counted = counter.get_flop_counts()["Global"]
    products = sum(number for name, number in counted.items() if str(name) in ("aten.mm", "aten.addmm"))
    assert clock.flops == pytest.approx(products, rel=0.05)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_familys_decoder_and_patches_are_found(family):
    model, _ = build_tiny(family, texts=["what is this ?"] * 4, sizes={}, seed=0)
    clock = StepClock(CPU)
    watch_model(model, clock)
    assert any(isinstance(module, PATCHERS) for module in vision_tower(model).modules())
    clock.begin()
    with clock.part("loss"):
        model(input_ids=torch.arange(10, 20)[None], attention_mask=torch.ones(1, 10, dtype=torch.long))
    passed, learning = weights_passed(model.get_decoder())
    assert passed == learning > 0
    assert clock.flops == 2 * 10 * 3 * (passed + model.get_output_embeddings().weight.numel())


ROW = {"stage": "grpo", "kind": "grpo", "split": "train"}


def row(step, seconds, **parts):
    times = {f"time/{name}": parts.get(name, 0.0) for name in PARTS}
    times["time/other"] += seconds - sum(times.values())
    return {**ROW, "step": step, "step_time": seconds, **times}


def test_the_slowest_part_is_named_without_the_first_step():
    rows = [row(1, 60.0, loss=59.0), row(2, 10.0, decode=6.0, reward=1.0), row(3, 30.0, decode=14.0, reward=15.0)]
    for one, tokens in zip(rows, (1, 100, 20), strict=True):
        one["tokens_per_second"] = tokens
    found = measure_speed(rows, stage="grpo")
    assert (found.rows, found.seconds, found.slowest) == (2, 20.0, "decode")
    assert sum(found.parts.values()) == pytest.approx(20.0) and found.parts["reward"] == 8.0
    assert found.tokens_per_second == pytest.approx((100 * 10 + 20 * 30) / 40) and found.mfu is None
    assert found.line() == "grpo: a step takes 20 s: decode 50%, reward 40%, other 10%; 40 tokens/s"
    assert found.help_line().startswith("grpo: slowest is decode (50%): ") and "max_completion_length" in found.advice


@pytest.mark.parametrize("rows", [[], [{**ROW, "step": 1, "step_time": 2.0}], [{**ROW, "split": "validation"}]])
def test_a_log_without_times_says_nothing(rows):
    assert measure_speed(rows, stage="grpo") is None and speeds_of_run(rows) == []


def test_the_share_of_the_peak_stands_where_it_is_known():
    one = {**row(1, 10.0, decode=6.0), "flops_per_second": 2e14, "mfu": 0.2}
    assert measure_speed([one], stage="grpo").line().endswith("; 20% of the device's peak")
    del one["mfu"]
    assert measure_speed([one], stage="grpo").line().endswith("; 200 TFLOP/s")
