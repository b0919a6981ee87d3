"""Hybrid models that share prompts train as those that do not: adapters, checkpointing, DDP and FSDP2."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from light import fsdp2, light_trainer, whole
from medrft.config import ModelConfig
from medrft.models.load import resolve_base
from medrft.models.packed_recurrence import PackedForward
from medrft.models.prompts import get_prompt
from medrft.training.sharing import groups
from medrft.training.sharing.fallback import Sharing

SIZES = {"image": 16, "vision_hidden": 16, "vision_layers": 1, "hidden": 32, "layers": 4, "mlp": 32, "vocab": 400}
SHARDED = {
    "ACCELERATE_USE_CPU": "true",
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What `accelerate launch` sets for recipes/accelerate/fsdp2.yaml."""


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory, drawn):
    """The folder of a tiny Qwen3.5: three layers of linear attention and one of full attention."""
    texts = [text for name in ("short", "think") for text in get_prompt(name).texts(drawn["train"])]
    config = ModelConfig(id="tiny:qwen3_5", tiny=SIZES)
    return resolve_base(config, texts=texts, output=tmp_path_factory.mktemp("hybrid"), seed=0)


WRAPS = {"alone": lambda model: model, "DDP": torch.nn.parallel.DistributedDataParallel, "FSDP2": fsdp2}
LAYERS = ["in_proj_qkv", "in_proj_z", "out_proj", "q_proj"]
ADAPTERS = LoraConfig(target_modules=LAYERS, r=2, lora_alpha=0.5, init_lora_weights=False)
"""Both halves random: with one of them zero, the other has no gradient. Small: the delta rule rounds the more the
larger its weights are."""


def gradients(trainer, wrap, inputs):
    """All gradients of a batch in one row, first without and then with shared prompts inside a wrapper."""
    found = []
    for on, model in ((False, trainer.model), (True, wrap(trainer.model))):
        trainer.sharing = Sharing(on=on, verify="never")
        trainer.model.zero_grad()
        trainer.compute_loss(model, inputs).backward()
        found.append([whole(p.grad).clone().flatten() for p in trainer.model.parameters() if p.grad is not None])
    return [torch.cat(values) for values in found]


@pytest.fixture
def compared(hybrid, drawn, process_group, tmp_path):
    """`compared(wrap, checkpointing=…, adapters=…)`: how far gradients with shared prompts are from plain ones."""

    def compare(wrap, *, checkpointing=None, adapters=True):
        trainer = light_trainer(
            hybrid,
            drawn["train"][:8],
            tmp_path / "out",
            sharing=Sharing(verify="never"),
            peft=ADAPTERS if adapters else None,
            gradient_checkpointing=checkpointing is not None,
            gradient_checkpointing_kwargs={"use_reentrant": checkpointing == "reentrant"},
            beta=0.0,
        )
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1  # what its loop would set
        if checkpointing is not None:
            trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
            trainer.model.enable_input_require_grads()
        rows = [trainer.train_dataset[number // 4] for number in range(8)]
        inputs = groups.micro_batches(trainer._generate_and_score_completions(rows), 1)[0]
        plain, shared = gradients(trainer, WRAPS[wrap], inputs)
        assert plain.norm() > 0
        assert trainer.sharing.rows == {"loss/shared": 8}
        assert trainer.sharing.attention == {"by parts": 8}
        return float((plain - shared).norm() / plain.norm())

    return compare


@pytest.mark.parametrize("checkpointing", [None, "not reentrant", "reentrant"])
@pytest.mark.parametrize("wrap", WRAPS)
def test_adapters_and_checkpointing(compared, wrap, checkpointing):
    assert compared(wrap, checkpointing=checkpointing) < 1e-4


@pytest.mark.parametrize("wrap", ["DDP", "FSDP2"])
def test_all_weights(compared, wrap):
    assert compared(wrap, checkpointing="not reentrant", adapters=False) < 1e-4


def test_branches_that_do_not_begin_from_their_prompt_are_seen(compared, monkeypatch):
    true = PackedForward._branches
    monkeypatch.setattr(
        PackedForward,
        "_branches",
        lambda self, hidden, tree, state, kwargs: true(self, hidden, tree, type(state)(), kwargs),
    )
    assert compared("DDP", checkpointing="not reentrant") > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("way", ["DDP", "FSDP2"])
def test_two_processes(hybrid, drawn, tmp_path, way):
    (tmp_path / "drawn").write_bytes(pickle.dumps(drawn["train"][:8]))
    program = Path(__file__).parent / "hybrid_steps.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = [str(path) for path in (hybrid, tmp_path / "drawn", tmp_path / "out")]
    own = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([*sys.path, str(program.parents[1])]),
    }
    env = {**os.environ, **own, **(SHARDED if way == "FSDP2" else {})}
    done = subprocess.run(
        [*launch, str(program), *paths], env=env, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-9000:]
    for rank in (0, 1):
        found = json.loads((tmp_path / "out" / f"{rank}.json").read_text(encoding="utf-8"))
        assert set(found) == {"all weights", "adapters", "adapters, reentrant", "wrong"}
        wrong = found.pop("wrong")
        assert wrong["logps"] > 1e-4 and wrong["change"] > 1e-3
        for case in found.values():
            assert case["norm"] < 1e-4 and case["logps"] < 1e-4 and case["change"] < 1e-3, found
            assert case["rows"] == {"loss/shared": 8} and case["attention"] == {"by parts": 8}
            assert case["sharded"] == (way == "FSDP2")
