"""Which dtype each part has, whether updates move weights, and what that does to a training."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medrft.config import ModelConfig
from medrft.errors import DataError, PreflightError, RecipeError
from medrft.models.load import load_policy
from medrft.models.policy import Policy
from medrft.models.saved import save_final
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_json
from medrft.training.arguments import trl_config
from medrft.training.grpo import run_grpo
from medrft.training.precision import find_precision, lower_masters, raise_masters, restore_masters, save_masters
from medrft.training.sft import run_sft
from medrft.training.update_check import moving_share, update_moves, update_warning

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

CASES = [
    # model, checkpoint, trl, launched -> compute, trained, frozen, reference, autocast
    ({}, "float32", {"beta": 0.1}, None, ("float32", "float32", "float32", "float32", None)),
    ({}, "bfloat16", {"beta": 0.1}, None, ("bfloat16", "float32", "bfloat16", "bfloat16", "bfloat16")),
    ({}, "bfloat16", {}, None, ("bfloat16", "float32", "bfloat16", None, "bfloat16")),
    (
        {"dtype": "bfloat16"},
        "float32",
        {"beta": 0.1},
        None,
        ("bfloat16", "float32", "bfloat16", "bfloat16", "bfloat16"),
    ),
    ({"dtype": "float32"}, "bfloat16", {"beta": 0.1}, None, ("float32", "float32", "float32", "float32", None)),
    ({"dtype": "float16"}, "float32", {"beta": 0.1}, None, ("float16", "float32", "float16", "float16", "float16")),
    ({}, "float32", {"beta": 0.1, "bf16": True}, None, ("float32", "float32", "float32", "float32", "bfloat16")),
    ({}, "bfloat16", {"beta": 0.1, "bf16": False}, None, ("bfloat16", "float32", "float32", "float32", None)),
    ({}, "float32", {"beta": 0.1}, "bf16", ("float32", "float32", "float32", "float32", "bfloat16")),
    ({}, "float32", {"beta": 0.1}, "no", ("float32", "float32", "float32", "float32", None)),
    (
        {"master_dtype": "bfloat16"},
        "bfloat16",
        {"beta": 0.1},
        None,
        ("bfloat16", "bfloat16", "bfloat16", "bfloat16", "bfloat16"),
    ),
    ({"lora": {"r": 2}}, "bfloat16", {"beta": 0.1}, None, ("bfloat16", "float32", "bfloat16", None, "bfloat16")),
    (
        {},
        "bfloat16",
        {"beta": 0.1, "sync_ref_model": True},
        None,
        ("bfloat16", "float32", "bfloat16", "float32", "bfloat16"),
    ),
]


@pytest.mark.parametrize(("model", "checkpoint", "trl", "launched", "expected"), CASES)
def test_which_part_has_which_dtype(model, checkpoint, trl, launched, expected):
    found = find_precision(ModelConfig(id="m", **model), trl, kind="grpo", checkpoint=checkpoint, mixed=launched)
    assert (found.compute, found.trained, found.frozen, found.reference, found.autocast) == expected
    assert found.saved == found.compute
    sft = find_precision(ModelConfig(id="m", **model), trl, kind="sft", checkpoint=checkpoint, mixed=launched)
    assert sft.reference is None


def test_master_weights_must_hold_what_is_computed():
    with pytest.raises(RecipeError, match=r"model\.master_dtype is bfloat16, but the model computes in float32"):
        find_precision(ModelConfig(id="m", master_dtype="bfloat16"), {}, kind="sft", checkpoint="float32")


@pytest.mark.parametrize(("dtype", "bf16"), [("float32", False), ("bfloat16", True)])
def test_autocast_is_on_exactly_where_less_than_float32_is_computed(recipe, tmp_path, dtype, bf16):
    given = recipe(model={"id": "tiny:llava", "device": "cpu", "dtype": dtype})
    for stage in given.stages:
        precision = find_precision(given.model, stage.trl, kind=stage.kind, checkpoint="float32")
        options = {"output": tmp_path, "device": torch.device("cpu"), "rows": 8, "validation": 0}
        args = trl_config(stage, given, **options, precision=precision)
        assert (args.bf16, args.fp16) == (bf16, False)


MOVES = [
    (0.02, torch.float32, 1e-6, 1.0),
    (0.02, torch.bfloat16, 1e-6, 0.0),
    (0.02, torch.bfloat16, 1e-3, 1.0),
    (1e-5, torch.bfloat16, 1e-6, 1.0),
    (0.0, torch.bfloat16, 1e-6, 1.0),
    (1.0, torch.float32, 1e-9, 0.0),
    (0.02, torch.float16, 1e-6, 0.0),
]


@pytest.mark.parametrize(("weight", "dtype", "rate", "share"), MOVES)
def test_a_weight_moves_where_the_step_is_not_rounded_away(weight, dtype, rate, share):
    assert moving_share(torch.full((3, 5), weight, dtype=dtype), rate) == share


OPTIONS = {"learning_rate": 1e-6, "optimizer": "adamw_torch_fused", "lora": False, "sharded": False}


class TestUpdateMoves:
    def model(self, dtype):
        torch.manual_seed(0)
        layer = torch.nn.Linear(64, 64, bias=False)
        torch.nn.init.normal_(layer.weight, std=0.02)
        return layer.to(dtype)

    def test_measured(self):
        fine, lost = (update_moves(self.model(dtype), **OPTIONS) for dtype in (torch.float32, torch.bfloat16))
        assert fine.passed and fine.measured > 0.99 and update_warning(fine) is None
        assert lost.passed is False and lost.measured < 0.05 and "model.master_dtype: float32" in lost.line()

    def test_between(self):
        check = update_moves(self.model(torch.bfloat16), **{**OPTIONS, "learning_rate": 1e-5})
        assert check.passed and 0.05 < check.measured < 0.5
        told = update_warning(check)
        assert "update_moves: only" in told and "set model.master_dtype: float32" in told

    @pytest.mark.parametrize(
        "changes", [{"lora": True}, {"sharded": True}, {"learning_rate": 0.0}, {"optimizer": "sgd"}]
    )
    def test_not_asked(self, changes):
        assert update_moves(self.model(torch.bfloat16), **{**OPTIONS, **changes}).passed is None

    def test_float32_whose_rate_is_too_small(self):
        check = update_moves(self.model(torch.float32), **{**OPTIONS, "learning_rate": 1e-12})
        assert check.passed is False and "raise the stage's trl.learning_rate" in check.fix


@pytest.fixture(scope="module")
def half(base, recipe, tmp_path_factory):
    """The start model, saved in bfloat16."""
    loaded = load_policy(recipe().model.model_copy(update={"dtype": "bfloat16"}), base)
    return save_final(Policy(loaded.model, loaded.processor, "half", loaded.device), tmp_path_factory.mktemp("half"))


def dtypes(folder):
    return {value.dtype for value in load_file(folder / "model.safetensors").values()}


def test_frozen_weights_and_a_base_of_adapters_stay(half, recipe):
    for changes, raised in (
        ({}, {"vision", "language"}),
        ({"freeze": ("vision",)}, {"language"}),
        ({"lora": {}}, set()),
    ):
        config = recipe().model.model_copy(update={"dtype": "auto", **changes})
        model = load_policy(config, half).model
        precision = find_precision(config, {}, kind="sft", checkpoint="bfloat16")
        before = raise_masters(model, precision, lora=config.lora is not None)
        found = {
            "vision" if "vision" in name else "language"
            for name, value in model.named_parameters()
            if value.dtype == torch.float32 and "projector" not in name
        }
        assert found == raised
        lower_masters(model, before)
        assert {value.dtype for value in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    "changes", [{}, pytest.param({"freeze": ["vision"]}, marks=pytest.mark.slow), {"lora": {"r": 2}}]
)
def test_stages_from_a_bfloat16_checkpoint(half, recipe, drawn, run, changes, capsys):
    table = recipe().model_dump(mode="json")
    table["model"] |= {"dtype": "auto", **changes}
    for stage in table["stages"]:
        stage["trl"] |= {"max_steps": 1, "eval_steps": 1}
    given = parse_recipe(table)
    run_sft(given.stages[0], given, start=half, **drawn, run=run)
    run_grpo(given.stages[1], given, start=half, **drawn, run=run)
    for stage in given.stages:
        record = read_json(run.stage(stage.name) / "stage.json")
        assert record["precision"]["trained"] == "float32" and record["precision"]["autocast"] == "bfloat16"
        assert dtypes(run.final(stage.name)) == {torch.bfloat16}
        assert read_json(run.final(stage.name) / "config.json")["dtype"] == "bfloat16"
    if "lora" not in changes:
        assert torch.float32 in dtypes(run.checkpoints("sft") / "checkpoint-1")
        assert "reference model in bfloat16; KL to it before the first update" in capsys.readouterr().err
    assert record["reference"]["dtype"] == "bfloat16" and 0 <= record["reference"]["kl_at_start"] < 0.05
    assert not record["prefix"]["fallbacks"]


def test_a_stage_whose_updates_would_be_lost_is_refused(half, recipe, drawn, run):
    table = recipe().model_dump(mode="json")
    table["model"] |= {"dtype": "auto", "master_dtype": "bfloat16"}
    table["stages"][0]["trl"]["learning_rate"] = 1e-6
    given = parse_recipe(table)
    with pytest.raises(PreflightError, match=r"update_moves: FAILED .* -> set model\.master_dtype: float32"):
        run_sft(given.stages[0], given, start=half, **drawn, run=run)
    checks = read_json(run.stage("sft") / "preflight.json")["checks"]
    assert next(check for check in checks if check["name"] == "update_moves")["measured"] < 0.05


@pytest.fixture
def script(monkeypatch):
    """The command that docs/training.md names, on a smaller model."""
    spec = importlib.util.spec_from_file_location("master_weights", BENCHMARKS / "master_weights.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script.update_check, "REFUSED", 0.0)  # and back again
    monkeypatch.setattr(script, "SIZES", {**script.SIZES, "image": 16, "hidden": 32, "layers": 1, "mlp": 32})
    return script


def test_the_change_of_a_small_learning_rate_is_that_of_float32(script, tmp_path):
    """Fifty steps of 1e-6 on the same batches."""
    rows = {
        row["way"]: row for row in script.compare("tiny:llava", steps=50, learning_rate=1e-6, batch=2, output=tmp_path)
    }
    assert rows["bf16 autocast, float32 weights"]["cosine"] >= 0.99
    assert rows["bf16 autocast, float32 weights"]["moved"] > 0.9
    assert rows["bfloat16 weights"]["cosine"] < 0.5
    assert rows["bfloat16 weights"]["moved"] < 0.2


def test_a_stage_goes_on_from_what_the_one_before_learned(script, tmp_path):
    """Two stages of 10 steps: the weights between them are not those that the final folder rounds."""
    options = {"steps": 20, "stages": 2, "learning_rate": 1e-6, "batch": 2}
    rows = {row["way"]: row for row in script.compare("tiny:llava", **options, output=tmp_path)}
    assert rows["bf16 autocast, float32 weights"]["cosine"] >= 0.99
    assert rows["bf16 autocast, float32 weights"]["length"] == pytest.approx(1, abs=0.01)
    assert rows[script.ROUNDED]["length"] < 0.8  # of the first stage hardly anything is left
    run = RunDir(tmp_path / "run1")
    assert dtypes(run.final("sft0")) == dtypes(run.final("sft1")) == {torch.bfloat16}
    assert {value.dtype for value in load_file(run.masters("sft0")).values()} == {torch.float32}
    assert not run.masters("sft1").exists()
    assert [read_json(run.stage(f"sft{n}") / "stage.json")["start_unrounded"] for n in range(2)] == [False, True]


def test_damaged_weights_of_the_stage_before_are_one_line(half, recipe, drawn, run):
    model = load_policy(recipe().model.model_copy(update={"dtype": "auto"}), half).model
    before = raise_masters(model, find_precision(recipe().model, {}, kind="sft", checkpoint="float32"), lora=False)
    listed = save_masters(model, before, run.masters("sft"))
    restore_masters(model, run.masters("sft"), listed)
    with run.masters("sft").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    for found in (listed, {}):
        with pytest.raises(
            DataError, match=r"masters\.safetensors is damaged: .*; delete it to start from the rounded"
        ):
            restore_masters(model, run.masters("sft"), found)
    assert save_masters(model, {}, run.masters("sft")) is None and not run.masters("sft").exists()
