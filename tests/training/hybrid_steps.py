"""Trains a hybrid model with shared prompts, and without on the same batches: `hybrid_steps.py MODEL EXAMPLES OUT`.

Under a launcher, each process keeps its own share of the batches, and writes to OUT/<rank>.json how far both trainings
are apart. In the case `wrong` the branches of a prompt do not begin from its state.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

from medrft.models.packed_recurrence import PackedForward
from medrft.training.processes import shard_on_cpus
from medrft.training.sharing.fallback import Sharing

STEPS = {
    "max_steps": 2,
    "num_iterations": 1,
    "beta": 0.0,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "ddp_find_unused_parameters": False,  # DDP cannot look for them beside reentrant checkpointing
}
STORED = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
REENTRANT = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
CASES = {
    "all weights": (STORED, False),
    "adapters": (STORED, True),
    "adapters, reentrant": (REENTRANT, True),
    "wrong": (STORED, False),
}
TRUE = PackedForward._branches


def wrong_branches(self, hidden, tree, state, kwargs):
    """Branches that begin from nothing."""
    return TRUE(self, hidden, tree, type(state)(), kwargs)


def apart(base, examples, output, *, options, adapters):
    """How far trainings with and without shared prompts are apart, and which way the first one went."""
    # Here and not above: `medrft.training.sharing` declares operators that these imports need.
    from peft import LoraConfig

    from light import gaps, light_trainer, weights

    def trainer(sharing, replay=None):
        # Both halves random: with one of them zero, the other has no gradient. Small, because the delta rule rounds the
        # more the larger its weights are.
        layers = ["in_proj_qkv", "out_proj", "q_proj"]
        settings = LoraConfig(target_modules=layers, r=2, lora_alpha=0.5, init_lora_weights=False)
        peft = settings if adapters else None
        return light_trainer(base, examples, output, sharing=sharing, replay=replay, peft=peft, **STEPS, **options)

    one = trainer(Sharing(verify="never"))
    start = weights(one)
    one.train()
    other = trainer(Sharing(on=False), one.batches)
    assert weights(other).equal(start)
    other.train()
    norm, logps, change = gaps(one, other, start)
    sharing = one.sharing
    return {
        "norm": norm,
        "logps": logps,
        "change": change,
        "rows": {way: count for way, count in sharing.rows.items() if way.startswith("loss")},
        "attention": dict(sharing.attention),
        "sharded": any(hasattr(weight, "full_tensor") for weight in one.model.parameters()),
    }


def main() -> None:
    base, examples, output = map(Path, sys.argv[1:])
    shard_on_cpus()
    found = {}
    for name, (options, adapters) in CASES.items():
        PackedForward._branches = wrong_branches if name == "wrong" else TRUE
        shown = pickle.loads(examples.read_bytes())
        found[name] = apart(base, shown, output / "trained", options=options, adapters=adapters)
    output.mkdir(exist_ok=True)
    (output / f"{os.environ['RANK']}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
