"""TRL's GRPO trainer with shared prompts and nothing else of ours, for tests that compare it with plain training."""

import copy

import torch
from trl import GRPOConfig, GRPOTrainer

from medrft.config import ModelConfig
from medrft.models.load import load_policy
from medrft.models.parts import freeze_parts
from medrft.models.prefix import plain_model
from medrft.models.prompts import get_prompt
from medrft.training.rows import Pictures, Rows, lazy_dataset
from medrft.training.sharing import groups
from medrft.training.sharing.trainer import SharesPrompts


class Light(SharesPrompts, GRPOTrainer):
    """Keeps what its updates saw, or trains on such batches again."""

    def __init__(self, *args, sharing, replay=None, **kwargs):
        self.sharing, self.replay = sharing, replay
        self.batches, self.logps = [], []
        super().__init__(*args, **kwargs)

    def _prepare_inputs(self, generation_batch):
        if self.replay is not None:
            return self.replay[self._step]
        batch = super()._prepare_inputs(generation_batch)
        whole = groups.take_rows(batch, range(len(batch["prompt_ids"])))
        self.batches.append({key: copy.deepcopy(value) for key, value in whole.items()})
        return batch

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        found = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        if torch.is_grad_enabled():
            self.logps.append(found[0].detach().clone())
        return found


def fsdp2(model):
    """The model wrapped by FSDP2 in one process, layer by layer; needs a process group."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    for layer in plain_model(model).get_decoder().layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def reward(prompts, completions, completion_ids, **kwargs):
    """Differs within groups, and costs nothing."""
    return [sum(ids) % 23 / 23 for ids in completion_ids]


def light_trainer(base, examples, output, *, sharing, replay=None, peft=None, freeze=(), **changes):
    """A trainer of the model in the folder `base`; `changes` are keys of TRL's config."""
    policy = load_policy(ModelConfig(id=str(base), device="cpu", dtype="float32"), base)
    if freeze:
        freeze_parts(policy.model, freeze)
    prompt = get_prompt("short").bound(policy.processor)
    args = GRPOConfig(
        **{
            "output_dir": str(output),
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 6,
            "max_steps": 20,
            "optim": "sgd",
            "learning_rate": 2e-4,
            "num_iterations": 2,
            "beta": 0.04,
            "gradient_checkpointing": False,
            "bf16": False,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "logging_steps": 1,
            "disable_tqdm": True,
            "max_grad_norm": 1e9,
            "remove_unused_columns": False,
            **changes,
        }
    )
    rows = Rows(prompt=prompt, pictures=Pictures(max_pixels=None))
    return Light(
        model=policy.model,
        reward_funcs=reward,
        args=args,
        train_dataset=lazy_dataset(examples, rows),
        processing_class=policy.processor,
        peft_config=peft,
        sharing=sharing,
        replay=replay,
    )


def whole(value):
    """A tensor whose shares lie on several processes, gathered."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def weights(trainer):
    """All trained weights in one row."""
    return torch.cat([whole(p.detach()).flatten().float() for p in trainer.model.parameters() if p.requires_grad])


def gaps(one, other, start):
    """Largest relative difference of a step's gradient norm, of a log-probability, and of the weights' change."""
    norms = [[row["grad_norm"] for row in t.state.log_history if "grad_norm" in row] for t in (one, other)]
    norm = max(abs(a - b) / b for a, b in zip(*norms, strict=True))
    logps = max(float((a - b).abs().max()) for a, b in zip(one.logps, other.logps, strict=True))
    change = float((weights(one) - weights(other)).norm() / (weights(other) - start).norm())
    assert len(norms[0]) == one.args.max_steps
    return norm, logps, change
