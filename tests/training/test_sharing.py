"""Training with shared prompts is training without: same log-probabilities, gradients, weights, in any layout."""

import copy
import dataclasses

import pytest
import torch
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from medrft.models import prefix
from medrft.models.load import load_policy
from medrft.models.prompts import get_prompt
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_json, read_jsonl
from medrft.training import groups, sharing
from medrft.training.fallback import Sharing
from medrft.training.grpo import run_grpo
from medrft.training.rows import Pictures, Rows, dataset
from medrft.training.sharing import SharesPrompts
from medrft.training.verify import Difference

STEPS = 20


class Light(SharesPrompts, GRPOTrainer):
    """TRL's trainer with shared prompts and nothing else of ours; keeps what its updates saw."""

    def __init__(self, *args, sharing, replay=None, **kwargs):
        self.sharing, self.replay = sharing, replay
        self.batches, self.logps = [], []
        super().__init__(*args, **kwargs)

    def _prepare_inputs(self, generation_batch):
        if self.replay is not None:
            return self.replay[self._step]
        batch = super()._prepare_inputs(generation_batch)
        whole = groups.take(batch, range(len(batch["prompt_ids"])))
        self.batches.append({key: copy.deepcopy(value) for key, value in whole.items()})
        return batch

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        found = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        if torch.is_grad_enabled():
            self.logps.append(found[0].detach().clone())
        return found


def reward(prompts, completions, completion_ids, **kwargs):
    """Differs within groups, and costs nothing."""
    return [sum(ids) % 23 / 23 for ids in completion_ids]


@pytest.fixture
def light(base, drawn, recipe, tmp_path):
    """`light(sharing, replay=…, peft=…, **trl)`: a trainer on a few drawn examples."""

    def build(sharing, *, replay=None, peft=None, **changes):
        policy = load_policy(recipe().model, base)
        prompt = get_prompt("short").bound(policy.processor)
        args = GRPOConfig(
            **{
                "output_dir": str(tmp_path / "out"),
                "per_device_train_batch_size": 8,
                "num_generations": 4,
                "max_completion_length": 6,
                "max_steps": STEPS,
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
            train_dataset=dataset(drawn["train"][:8], rows),
            processing_class=policy.processor,
            peft_config=peft,
            sharing=sharing,
            replay=replay,
        )

    return build


def weights(trainer):
    return torch.cat([p.detach().flatten().float() for p in trainer.model.parameters() if p.requires_grad])


def both(light, *, shares=None, **options):
    """A trainer that shares, one that does not on the same batches, and their first weights."""
    one = light(shares or Sharing(verify="never"), **options)
    start = weights(one).clone()
    one.train()
    other = light(Sharing(on=False), replay=one.batches, **options)
    assert torch.equal(weights(other), start)
    other.train()
    return one, other, start


def gaps(one, other, start):
    """Largest relative difference of a step's gradient norm, of a log-probability, and of the weights' change."""
    norms = [[row["grad_norm"] for row in t.state.log_history if "grad_norm" in row] for t in (one, other)]
    norm = max(abs(a - b) / b for a, b in zip(*norms, strict=True))
    logps = max(float((a - b).abs().max()) for a, b in zip(one.logps, other.logps, strict=True))
    change = float((weights(one) - weights(other)).norm() / (weights(other) - start).norm())
    assert len(norms[0]) == one.args.max_steps
    return norm, logps, change


def test_twenty_steps_are_those_of_the_plain_trainer(light):
    one, other, start = both(light)
    norm, logps, change = gaps(one, other, start)
    assert norm < 1e-4
    assert logps < 1e-4
    assert change < 1e-3
    assert one.sharing.rows == {"loss/shared": 160, "rollouts/shared": 80}
    assert other.sharing.rows == {"loss/plain": 160}


@pytest.mark.parametrize("fault", ["positions", "mask"])
def test_a_wrong_position_or_mask_makes_it_fail(light, monkeypatch, fault):
    true = prefix.pack

    def wrong(*args, **kwargs):
        packed = true(*args, **kwargs)
        lines = packed.lines
        changed = {
            "positions": {"depth": lines.depth + (lines.segments > 0).long()},
            "mask": {"segments": lines.segments.clamp(max=1)},
        }
        return dataclasses.replace(packed, lines=dataclasses.replace(lines, **changed[fault]))

    monkeypatch.setattr(prefix, "pack", wrong)
    norm, logps, change = gaps(*both(light, max_steps=4))
    assert norm > 1e-4
    assert logps > 1e-4
    assert change > 1e-3


LAYOUTS = {
    "checkpointing": {"gradient_checkpointing": True},
    "accumulation": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "several steps per generation": {"per_device_train_batch_size": 4, "steps_per_generation": 4},
    "a batch smaller than a group": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "no reference model": {"beta": 0.0, "num_iterations": 1},
    "adapters": {"peft": LoraConfig(target_modules=["q_proj", "v_proj"], r=2, lora_alpha=8)},
    "padding to a multiple": {"pad_to_multiple_of": 8},
    "rows of one completion": {"branches": 1},
    "rows of three completions": {"branches": 3},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(light, layout, monkeypatch):
    torch.manual_seed(0)
    options = {"max_steps": 4, **LAYOUTS[layout]}
    if most := options.pop("branches", None):  # as where completions are long
        monkeypatch.setattr(sharing, "branches", lambda *args, **kwargs: most)
    norm, logps, change = gaps(*both(light, **options))
    assert norm < 1e-4
    assert logps < 1e-4
    assert change < 1e-3


def test_an_image_is_held_once_per_group(light):
    trainer = light(Sharing(verify="never"), max_steps=2)
    trainer.train()
    pixels = trainer._buffered_inputs[0]["pixel_values"]
    assert len(pixels) == 8
    assert len({row.data_ptr() for row in pixels}) == 2


def test_the_vision_tower_sees_each_image_once(light):
    trainer = light(Sharing(verify="never"), max_steps=1, num_iterations=1, beta=0.0)
    seen = []
    trainer.model.model.vision_tower.register_forward_pre_hook(
        lambda module, args, kw: seen.append(len(args[0])), with_kwargs=True
    )
    trainer.train()
    assert seen == [2, 2]  # two groups: rollouts, and the update


@pytest.fixture
def process_group(tmp_path):
    """A group of one process, as wrappers of several want one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def ddp(model):
    return torch.nn.parallel.DistributedDataParallel(model)


def fsdp2(model):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    for layer in model.model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def whole(gradient):
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


@pytest.mark.parametrize("wrap", [ddp, fsdp2])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_wrappers_of_several_processes(light, process_group, wrap, checkpointing):
    trainer = light(Sharing(verify="never"), max_steps=1, gradient_checkpointing=checkpointing, beta=0.0)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # what its loop would set
    rows = [trainer.train_dataset[number // 4] for number in range(8)]
    inputs = groups.micro_batches(trainer._generate_and_score_completions(rows), 1)[0]
    found = []
    for on, model in ((False, trainer.model), (True, wrap(trainer.model))):
        trainer.sharing = Sharing(on=on, verify="never")
        trainer.model.zero_grad()
        trainer.compute_loss(model, inputs).backward()
        found.append([whole(p.grad).clone() for p in trainer.model.parameters() if p.grad is not None])
    plain, shared = (torch.cat([value.flatten() for value in values]) for values in found)
    assert plain.norm() > 0
    assert (plain - shared).norm() / plain.norm() < 1e-4
    assert trainer.sharing.rows == {"loss/shared": 8}


class TestVerify:
    def test_first(self, light):
        trainer = light(Sharing(verify="first"), max_steps=3)
        trainer.train()
        assert set(trainer.sharing.checked) == {"rollouts", "loss"}
        assert all(found.passed and found.logps < 1e-4 for found in trainer.sharing.checked.values())
        assert trainer.sharing.checked["loss"].gradient < 1e-4
        assert not trainer.sharing.fallen

    def test_bfloat16(self, light):
        trainer = light(Sharing(verify="always"), max_steps=2, bf16=True)
        trainer.train()
        assert not trainer.sharing.fallen
        assert trainer.sharing.checked["loss"].logps_limit >= 0.05

    def test_a_model_that_shares_wrongly_falls_back_and_trains_as_ever(self, light, monkeypatch, capsys):
        true = prefix.positions
        monkeypatch.setattr(prefix, "positions", lambda lines, found: true(lines, found) + (lines.segments > 0).long())
        one, other, start = both(light, shares=Sharing(verify="first"), max_steps=3)
        norm, logps, change = gaps(one, other, start)
        assert max(norm, logps, change) < 1e-6
        assert set(one.sharing.fallen) == {"loss"}  # rollouts have no branches
        assert one.sharing.rows["loss/plain"] == 24
        told = capsys.readouterr().err
        assert told.count("prompts are not shared in the loss") == 1 and "limit 0.0001" in told

    def test_wrong_rollouts_fall_back_and_are_written_again(self, light, monkeypatch):
        from medrft.models import rollout

        true = rollout.go_on
        monkeypatch.setattr(rollout, "go_on", lambda model, cache, ids: 1.5 * true(model, cache, ids))
        trainer = light(Sharing(verify="first"), max_steps=2)
        trainer.train()
        assert set(trainer.sharing.fallen) == {"rollouts"}
        assert trainer.sharing.rows["rollouts/shared"] == 0

    def test_never(self, light):
        trainer = light(Sharing(verify="never"), max_steps=1)
        trainer.train()
        assert not trainer.sharing.checked

    def test_no_number_does_not_pass(self):
        assert not Difference(logps=float("nan"), logps_limit=1.0, completions=1).passed


@pytest.mark.parametrize("why", ["attention", "generation"])
def test_what_cannot_share_falls_back_with_a_reason(light, monkeypatch, why):
    changes = {"generation_kwargs": {"num_beams": 2}} if why == "generation" else {}
    trainer = light(Sharing(verify="first"), max_steps=1, **changes)
    if why == "attention":
        monkeypatch.setattr("medrft.models.prefix.ATTENTION", ())
    trainer.train()
    path, reason = {"attention": ("loss", "sees no mask of ours"), "generation": ("rollouts", "cannot share a prompt")}[
        why
    ]
    assert reason in trainer.sharing.fallen[path]
    assert len(trainer.sharing.fallen) == 1


@pytest.mark.parametrize("family", ["llava", "gemma3", "idefics3"])
def test_no_family_falls_back_in_a_stage(family, recipe, drawn, tmp_path):
    from medrft.models.load import resolve_base

    table = recipe().model_dump(mode="json")
    table["model"]["id"] = f"tiny:{family}"
    given = parse_recipe(table)
    texts = [text for name in ("short", "think") for text in get_prompt(name).texts(drawn["train"])]
    source = resolve_base(given.model, texts=texts, output=tmp_path / "base", seed=0)
    run = RunDir.create(tmp_path / "run")
    run_grpo(given.stages[1], given, start=source, **drawn, run=run)
    found = read_json(run.stage("grpo") / "stage.json")["prefix"]
    assert found["fallbacks"] == {}
    assert all(checked["passed"] for checked in found["checked"].values())
    assert set(found["completions"]) == {"rollouts/shared", "loss/shared"}
    rows = [row for row in read_jsonl(run.metrics) if row["split"] == "train"]
    assert all(row["shared_prompts"] == 1 for row in rows)


def test_sharing_can_be_switched_off(trained, run, recipe):
    table = recipe().model_dump(mode="json")
    table["stages"][1]["share_prefix"] = False
    trained(run_grpo, parse_recipe(table), 1, run=run)
    found = read_json(run.stage("grpo") / "stage.json")["prefix"]
    assert not found["on"] and found["checked"] == {}
    assert set(found["completions"]) == {"rollouts/plain", "loss/plain"}


def test_what_a_small_batch_loses_is_told(trained, run, recipe, capsys):
    table = recipe().model_dump(mode="json")
    table["stages"][1]["trl"] |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    trained(run_grpo, parse_recipe(table), 1, run=run)
    told = capsys.readouterr().err
    assert "per_device_train_batch_size 4 with gradient_accumulation_steps 2 keep the same batch" in told


class TestGroups:
    def test_patches_of_all_images_are_taken_by_row(self):
        fields = {
            "pixel_values": torch.arange(10.0)[:, None],
            "image_grid_thw": torch.tensor([[1, 2, 2], [1, 1, 2], [1, 2, 2]]),
            "num_images": [1, 2],
            "mm_token_type_ids": torch.tensor([[0, 1], [1, 1]]),
        }
        taken = groups.take(fields, [1, 0, 1])
        assert taken["pixel_values"][:, 0].tolist() == [4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert taken["image_grid_thw"].tolist() == [[1, 1, 2], [1, 2, 2], [1, 2, 2], [1, 1, 2], [1, 2, 2]]
        assert taken["num_images"] == [2, 1, 2]
        assert taken["mm_token_type_ids"].tolist() == [[1, 1], [0, 1], [1, 1]]

    def test_groups_are_shuffled_whole(self):
        torch.manual_seed(1)
        batch = {"prompt_ids": torch.arange(12)[:, None], groups.GROUP: torch.arange(12) // 3, "n": torch.tensor(5)}
        steps = groups.micro_batches(batch, 2)
        rows = [row for step in steps for row in step["prompt_ids"][:, 0].tolist()]
        assert sorted(rows) == list(range(12)) and rows != list(range(12))
        assert all(rows[i : i + 3] == list(range(rows[i], rows[i] + 3)) for i in range(0, 12, 3))
        assert [int(step["n"]) for step in steps] == [5, 5]
