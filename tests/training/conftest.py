"""A few drawn examples and a tiny model, built once, for tests that really train."""

import pytest
import torch

from medrft.data import load_data
from medrft.models.load import resolve_base
from medrft.models.prompts import get_prompt
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir

collect_ignore = ["replay.py", "hybrid_steps.py"]  # programs that tests start
SIZES = {"image": 16, "vision_hidden": 16, "vision_layers": 1, "hidden": 32, "layers": 1, "mlp": 32, "vocab": 400}
SFT = {"per_device_train_batch_size": 4, "max_steps": 4, "eval_steps": 2, "logging_steps": 1, "learning_rate": 1e-3}
GRPO = {
    **SFT,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "num_generations_eval": 2,
    "max_completion_length": 8,
    "beta": 0.01,
}
REUSED = {
    **GRPO,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "steps_per_generation": 4,
    "num_iterations": 2,
    "max_steps": 14,
    "eval_steps": 3,
    "logging_steps": 2,
}
"""Four steps to a generation batch and, with 9 examples, eight to an epoch: checkpoints lie within both."""
REWARD = {
    "closed": {"parts": [{"scorer": "yes_no_match", "weight": 0.5}, {"scorer": "bleu1", "weight": 0.5}]},
    "choice": {"parts": [{"scorer": "choice_match", "weight": 0.5}, {"scorer": "bleu1", "weight": 0.5}]},
    "open": {"parts": [{"scorer": "bleu1", "weight": 1.0, "calibrate": {"kind": "adaptive", "t_min": 0.0}}]},
}


def toy_recipe(**changes):
    """A recipe whose stages are quick; `short` answers need no tags, so that a random model earns something."""
    table = {
        "name": "toy",
        "prompt": "short",
        "model": {"id": "tiny:llava", "device": "cpu", "dtype": "float32", "tiny": SIZES},
        "data": {"name": "phantom", "images": 8, "validation_images": 2, "test_images": 1, "size": 64},
        "reward": REWARD,
        "stages": [{"name": "sft", "kind": "sft", "trl": SFT}, {"name": "grpo", "kind": "grpo", "trl": GRPO}],
    }
    return parse_recipe(table | changes)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Phantom examples by split."""
    loaded = load_data(toy_recipe().data, seed=0, cache=tmp_path_factory.mktemp("phantom"))
    return {split: [e for e in loaded.examples if e.split == split] for split in ("train", "validation")}


@pytest.fixture(scope="session")
def base(tmp_path_factory, drawn):
    """Where the tiny start model lies; its weights are large enough to say different things."""
    recipe = toy_recipe()
    folder = tmp_path_factory.mktemp("base")
    texts = [text for name in ("short", "think") for text in get_prompt(name).texts(drawn["train"])]
    source = resolve_base(recipe.model, texts=texts, output=folder, seed=0)
    from medrft.models.load import load_policy
    from medrft.models.saved import save_final

    policy = load_policy(recipe.model, source)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
    save_final(policy, folder)
    return source


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path / "run")


@pytest.fixture(scope="session")
def recipe():
    return toy_recipe


@pytest.fixture(scope="session")
def trained(base, drawn):
    """`trained(run_stage, recipe, number, run=…)` runs one stage of a recipe."""

    def train(run_stage, recipe, number=0, *, run, **options):
        return run_stage(recipe.stages[number], recipe, start=base, **{**drawn, **options}, run=run)

    return train


@pytest.fixture(scope="session")
def reusing():
    """A `trl:` table whose checkpoints lie within a generation's reuse and within epochs."""
    return REUSED


@pytest.fixture
def process_group(tmp_path):
    """A group of one process, as wrappers of several want one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
