"""Training with shared prompts is training without: same log-probabilities, gradients, weights, in any layout."""

import dataclasses
import types
import weakref

import pytest
import torch
from peft import LoraConfig

from light import fsdp2, gaps, light_trainer, weights, whole
from medrft.errors import ModelError, StrictError
from medrft.models import prefix
from medrft.models.prompts import get_prompt
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_json, read_jsonl
from medrft.training.grpo import run_grpo
from medrft.training.sharing import groups, loss
from medrft.training.sharing import trainer as sharing
from medrft.training.sharing.fallback import Sharing
from medrft.training.sharing.trainer import SharesPrompts
from medrft.training.sharing.verify import Batch, Difference, loss_difference


@pytest.fixture
def light(base, drawn, tmp_path):
    """`light(sharing, replay=…, peft=…, freeze=…, **trl)`: a trainer on a few drawn examples."""

    def build(sharing, **options):
        return light_trainer(base, drawn["train"][:8], tmp_path / "out", sharing=sharing, **options)

    return build


def both(light, *, shares=None, **options):
    """A trainer that shares, one that does not on the same batches, and their first weights."""
    one = light(shares or Sharing(verify="never"), **options)
    start = weights(one).clone()
    one.train()
    other = light(Sharing(on=False), replay=one.batches, **options)
    assert torch.equal(weights(other), start)
    other.train()
    return one, other, start


def test_twenty_steps_are_those_of_the_plain_trainer(light):
    one, other, start = both(light)
    norm, logps, change = gaps(one, other, start)
    assert norm < 1e-4
    assert logps < 1e-4
    assert change < 1e-3
    assert one.sharing.rows == {"loss/shared": 160, "rollouts/shared": 80}
    assert one.sharing.attention == {"by parts": 160}
    assert other.sharing.rows == {"loss/plain": 160}


@pytest.mark.parametrize("fault", ["positions", "mask"])
def test_a_wrong_position_or_mask_makes_it_fail(light, monkeypatch, fault):
    true = prefix.pack_groups

    def wrong(*args, **kwargs):
        packed = true(*args, **kwargs)
        lines = packed.lines
        changed = {
            "positions": {"depth": lines.depth + (lines.segments > 0).long()},
            "mask": {"segments": lines.segments.clamp(max=1)},
        }
        return dataclasses.replace(packed, lines=dataclasses.replace(lines, **changed[fault]))

    monkeypatch.setattr(prefix, "pack_groups", wrong)
    norm, logps, change = gaps(*both(light, max_steps=4))
    assert norm > 1e-4
    assert logps > 1e-4
    assert not change <= 1e-3  # NaN where such weights blow up


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
        monkeypatch.setattr(groups, "branches_per_row", lambda *args, **kwargs: most)
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


class TestAFrozenTower:
    """It looks at each picture once, in rollouts, reference and all updates, and training is as ever."""

    def test_looks_once(self, light):
        options = {"freeze": ("vision",), "max_steps": 4, "num_iterations": 2, "learning_rate": 1e-3}
        one, other, start = both(light, **options)
        norm, logps, change = gaps(one, other, start)
        assert norm < 1e-4
        assert logps < 1e-4
        assert change < 1e-3
        memory = one.sharing.pictures
        assert memory.looks == 2 * 2  # two generation batches of two groups
        assert memory.recalled == 2 * 2 * 3  # the reference model and two updates
        assert one.sharing.describe()["pictures"] == {"looked at": 4, "recalled": 12}
        assert other.sharing.pictures.looks == 0

    def test_one_that_learns_looks_each_time(self, light):
        trainer = light(Sharing(verify="never"), max_steps=1)
        trainer.train()
        # The reference model learns nothing, but its tower is asked once: nothing is recalled.
        assert trainer.sharing.pictures.recalled == 0


def ddp(model):
    return torch.nn.parallel.DistributedDataParallel(model)


@pytest.mark.parametrize("wrap", [ddp, fsdp2])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_wrappers_of_several_processes(light, process_group, wrap, checkpointing):
    trainer = light(Sharing(verify="never"), max_steps=1, gradient_checkpointing=checkpointing, beta=0.0)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # what its loop would set
    if checkpointing:
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    assert trainer.model.is_gradient_checkpointing == checkpointing
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
    assert trainer.sharing.attention == {"by parts": 8}


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
        true = prefix.packed_positions
        monkeypatch.setattr(
            prefix, "packed_positions", lambda lines, found: true(lines, found) + (lines.segments > 0).long()
        )
        one, other, start = both(light, shares=Sharing(verify="first"), max_steps=3)
        norm, logps, change = gaps(one, other, start)
        assert max(norm, logps, change) < 1e-6
        assert set(one.sharing.fallen) == {"loss"}  # rollouts have no branches
        assert one.sharing.rows["loss/plain"] == 24
        told = capsys.readouterr().err
        assert told.count("prompts are not shared in the loss") == 1 and "limit 0.0001" in told

    def test_wrong_rollouts_fall_back_and_are_written_again(self, light, monkeypatch):
        from medrft.models import refill

        true = refill.continue_rows
        monkeypatch.setattr(refill, "continue_rows", lambda model, cache, ids: 1.5 * true(model, cache, ids))
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


class TestAttentionThatCannotBeTakenApart:
    """Rows keep a dense mask, counted, where a model caps its scores or where parts would differ."""

    @pytest.mark.parametrize("verify", ["first", "never"])
    def test_it_gets_the_rows_whole(self, light, monkeypatch, capsys, verify):
        from transformers.models.llama import modeling_llama

        true = modeling_llama.ALL_ATTENTION_FUNCTIONS.get_interface

        def capped(name, default):
            found = true(name, default)
            if name != prefix.PARTS:
                return found
            return lambda *args, **kwargs: found(*args, **kwargs, softcap=50.0)

        monkeypatch.setattr(modeling_llama.ALL_ATTENTION_FUNCTIONS, "get_interface", capped)
        trainer = light(Sharing(verify=verify), max_steps=2, num_iterations=1)
        trainer.train()
        assert not trainer.sharing.fallen
        assert trainer.sharing.whole == "attention with softcap cannot be taken apart"
        assert trainer.sharing.attention == {"by mask": 16}
        assert trainer.sharing.rows["loss/shared"] == 16
        assert capsys.readouterr().err.count("under a dense mask") == 1
        again = Sharing().restored(trainer.sharing.state_dict())
        assert (again.whole, again.attention) == (trainer.sharing.whole, {"by mask": 16})

    def test_a_difference_is_seen_and_told(self, light, monkeypatch):
        from medrft.models import packed_attention

        true = packed_attention._Merged.apply
        monkeypatch.setattr(packed_attention._Merged, "apply", lambda *args: 1.1 * true(*args))
        one, other, start = both(light, shares=Sharing(), max_steps=2, num_iterations=1, beta=0.0)
        assert max(gaps(one, other, start)) < 1e-3
        assert "limit 0.0001" in one.sharing.whole
        assert one.sharing.checked["loss"].passed  # of the rows under their mask
        assert one.sharing.attention == {"by mask": 16}


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


@pytest.fixture
def stage(recipe, drawn, tmp_path):
    """`stage(family)`: a GRPO stage of a tiny model of a family; its run, and `prefix` in its record."""
    from medrft.models.load import resolve_base

    def train(family):
        table = recipe().model_dump(mode="json")
        table["model"]["id"] = f"tiny:{family}"
        given = parse_recipe(table)
        texts = [text for name in ("short", "think") for text in get_prompt(name).texts(drawn["train"])]
        source = resolve_base(given.model, texts=texts, output=tmp_path / "base", seed=0)
        run = RunDir.create(tmp_path / "run")
        run_grpo(given.stages[1], given, start=source, **drawn, run=run)
        return run, read_json(run.stage("grpo") / "stage.json")["prefix"]

    return train


@pytest.mark.parametrize("family", ["llava", "gemma3", "idefics3", "qwen3_5"])
def test_no_family_falls_back_in_a_stage(family, stage):
    run, found = stage(family)
    assert found["fallbacks"] == {}
    assert found["whole"] is None and set(found["attention"]) == {"by parts"}
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


ERRORS = [
    ModelError("cannot share"),
    TypeError("forward() got an unexpected keyword argument 'position_ids'"),
    AttributeError("'NoneType' object has no attribute 'shape'"),
    NotImplementedError("no such mask"),
    KeyError("image_grid_thw"),
    IndexError("list index out of range"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    AssertionError(),
]


class TestErrorsOfAModelsCode:
    """Whatever a family raises in code that shares, the run goes on as one that never shared, and says why."""

    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
    def test_both_paths_fall_back_and_train_as_one_that_never_shared(self, light, monkeypatch, tmp_path, capsys, error):
        options = {"max_steps": 2, "num_iterations": 1, "learning_rate": 1e-2}
        torch.manual_seed(3)
        other = light(Sharing(fallen={"loss": "never", "rollouts": "never"}), **options)
        start = weights(other).clone()
        other.train()

        def fails(*args, **kwargs):
            torch.rand(5)  # as if it had drawn before
            raise error

        monkeypatch.setattr(sharing, "sample_rollouts", fails)
        monkeypatch.setattr(loss, "packed_inputs", fails)
        torch.manual_seed(3)
        one = light(Sharing(log=tmp_path / "run" / "fallbacks.log"), **options)
        one.train()
        assert torch.equal(weights(one), weights(other)) and not torch.equal(weights(one), start)
        assert one.sharing.rows == {"loss/plain": 16, "rollouts/plain": 16}
        told = capsys.readouterr().err
        assert told.count("prompts are not shared in the loss") == told.count("not shared in the rollouts") == 1
        assert (tmp_path / "run").exists() == (not isinstance(error, ModelError))
        if not isinstance(error, ModelError):
            assert type(error).__name__ in one.sharing.fallen["loss"] and "fallbacks.log" in told
            log = (tmp_path / "run" / "fallbacks.log").read_text()
            # rollouts; the loss with rows taken apart, and with a dense mask
            assert log.count("Traceback (most recent call last)") == 3 and "in fails" in log

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            MemoryError(),
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            StrictError("an image has vanished"),
            OSError("disk"),
        ],
    )
    @pytest.mark.parametrize("place", ["sample_rollouts", "packed_inputs"])
    def test_what_the_plain_way_cannot_mend_is_raised(self, light, monkeypatch, error, place):
        def fails(*args, **kwargs):
            raise error

        monkeypatch.setattr(loss if place == "packed_inputs" else sharing, place, fails)
        with pytest.raises(type(error)):
            light(Sharing(), max_steps=1).train()


class Kept:
    def __init__(self, tensor):
        self.tensor = tensor


class Counted:
    """Bytes that autograd keeps for backward, now and at most; a tensor that is kept twice counts once."""

    def __init__(self, model):
        self.known = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.held, self.now, self.most = {}, 0, 0

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept.tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *told):
        self.hooks.__exit__(*told)

    def _keep(self, tensor):
        kept = Kept(tensor.detach())  # with its history it would be held by itself
        place = tensor.untyped_storage().data_ptr()
        if place not in self.known:
            if not self.held.get(place):
                self.now += tensor.untyped_storage().nbytes()
                self.most = max(self.most, self.now)
            self.held[place] = self.held.get(place, 0) + 1
            weakref.finalize(kept, self._release, place, tensor.untyped_storage().nbytes())
        return kept

    def _release(self, place, size):
        self.held[place] -= 1
        if not self.held[place]:
            self.now -= size


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("group", [4, 8])
def test_the_comparison_keeps_no_more_than_an_update(light, monkeypatch, checkpointing, group):
    found = {}
    trainer = light(
        Sharing(verify="always"), max_steps=1, num_generations=group, gradient_checkpointing=checkpointing, beta=0.0
    )
    compare, update = trainer._loss_difference, trainer._shared

    def compared(*args):
        with Counted(trainer.model) as counted:
            result = compare(*args)
        found["check"] = counted.most
        return result

    trainer._loss_difference = compared
    step = trainer.compute_loss

    def stepped(*args, **kwargs):
        trainer.sharing.verify = "always"
        with Counted(trainer.model) as first:
            step(*args, **kwargs)
        assert first.most
        trainer.sharing.verify = "never"
        with Counted(trainer.model) as counted:
            loss = step(*args, **kwargs)
        found["update"] = counted.most
        return loss

    trainer.compute_loss = stepped
    trainer.train()
    assert trainer.sharing.checked["loss"].gradient is not None
    assert 0 < found["check"] <= found["update"], update


class TestGradients:
    def test_of_an_adapter_is_compared_where_it_moves(self, light):
        trainer = light(Sharing(), max_steps=1, peft=LoraConfig(target_modules="all-linear", r=2, lora_dropout=0.1))
        trainer.train()
        found = trainer.sharing.checked["loss"]
        assert "lora_B" in found.parameter and 0 <= found.gradient < 1e-4
        assert not trainer.sharing.fallen  # dropout draws no different masks for the two ways

    def test_a_wrong_gradient_of_an_adapter_is_seen(self, light, monkeypatch):
        true = SharesPrompts._shared

        def detached(self, *args, **kwargs):
            logps, entropies = true(self, *args, **kwargs)
            return logps * 0.5 + logps.detach() * 0.5, entropies  # right values, half the gradient

        monkeypatch.setattr(SharesPrompts, "_shared", detached)
        trainer = light(Sharing(), max_steps=1, peft=LoraConfig(target_modules=["q_proj", "v_proj"], r=2))
        trainer.train()
        assert "the gradient of" in trainer.sharing.fallen["loss"] and "by 0.5" in trainer.sharing.fallen["loss"]

    def test_zero_is_no_proof(self):
        weight = torch.nn.Parameter(torch.ones(2, 2))
        dead = torch.nn.Parameter(torch.ones(2, 2))
        batch = Batch(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long), 2, [0, 0], {})

        def way(rows):
            return (weight * torch.ones(len(rows), 2)[:, :, None]).sum(-1) + 0 * dead.sum()

        options = {"low": False, "rounds": False, "temperature": 1.0, "fill": 0}
        found = loss_difference(way, way, batch, parameters=[("dead", dead), ("alive", weight)], **options)
        assert (found.parameter, found.gradient) == ("alive", 0.0)
        found = loss_difference(way, way, batch, parameters=[("dead", dead)], **options)
        assert (found.parameter, found.gradient, found.unproven) == (None, None, "zero in dead")
        assert "gradients not proven (zero in dead)" in found.line()
        found = loss_difference(way, way, batch, parameters="weights are sharded", **options)
        assert "gradients not proven (weights are sharded)" in found.line()

    @pytest.mark.parametrize(
        ("apart", "rounds", "passed"), [(2e-4, False, False), (2e-4, True, True), (2e-3, True, False)]
    )
    def test_what_changes_with_more_padding_may_differ_by_as_much(self, apart, rounds, passed):
        weight = torch.nn.Parameter(torch.ones(1))
        batch = Batch(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long), 2, [0, 0], {})

        def plain(rows):  # as linear attention, whose chunks begin elsewhere
            return weight * torch.ones(len(rows), 2) * (1 + 1e-4 * (rows.input_ids.shape[1] > 3))

        options = {"low": False, "rounds": rounds, "temperature": 1.0, "fill": 0, "parameters": [("weight", weight)]}
        assert loss_difference(plain, lambda rows: plain(rows) * (1 + apart), batch, **options).passed == passed


LAYOUTS_OF_PIXELS = {
    "a grid of patches": (
        {"pixel_values": [0, 0, 1, 1, 1, 2], "image_grid_thw": [[1, 1, 2], [1, 1, 3], [1, 1, 1]]},
        {"pixel_values": [1, 1, 1, 2, 0, 0], "image_grid_thw": [[1, 1, 3], [1, 1, 1], [1, 1, 2]]},
    ),
    "tiles": ({"pixel_values": [0, 0, 0, 1, 2, 2], "num_tiles": [3, 3]}, {"pixel_values": [1, 2, 2, 0, 0, 0]}),
    "tiles with shapes": (
        {
            "pixel_values": [0, 0, 0, 1, 2, 2],
            "spatial_shapes": [0, 0, 0, 1, 2, 2],
            "pixel_attention_mask": [0, 0, 0, 1, 2, 2],
            "num_tiles": [3, 3],
        },
        {"pixel_values": [1, 2, 2, 0, 0, 0], "spatial_shapes": [1, 2, 2, 0, 0, 0]},
    ),
    "images": (
        {"pixel_values": [0, 1, 2], "image_sizes": [0, 1, 2]},
        {"pixel_values": [1, 2, 0], "image_sizes": [1, 2, 0]},
    ),
    "images with positions": (
        {"pixel_values": [0, 1, 2], "image_position_ids": [0, 1, 2]},
        {"pixel_values": [1, 2, 0], "image_position_ids": [1, 2, 0]},
    ),
    "rows, padded": (
        {"pixel_values": [[0, -1], [1, 2]], "pixel_attention_mask": [[1, 0], [1, 1]]},
        {"pixel_values": [[1, 2], [0, -1]], "pixel_attention_mask": [[1, 1], [1, 0]]},
    ),
    "of unknown names": (
        {"pixel_values": [0, 1, 2], "per_image": [0, 1, 2], "batch_num_images": [1, 2]},
        {"pixel_values": [1, 2, 0], "per_image": [1, 2, 0], "batch_num_images": [2, 1]},
    ),
}


class TestGroups:
    @pytest.mark.parametrize("layout", LAYOUTS_OF_PIXELS)
    def test_each_row_gets_its_own_in_every_layout(self, layout):
        """One image in the first row, two in the second; the rows change places."""
        given, expected = LAYOUTS_OF_PIXELS[layout]
        fields = {key: value if key == "num_tiles" else torch.tensor(value) for key, value in given.items()}
        taken = groups.take_rows({**fields, "num_images": [1, 2]}, [1, 0])
        assert {key: taken[key].tolist() for key in expected} == expected
        assert taken["num_images"] == [2, 1]
        again = groups.take_rows(taken, [1, 0])
        assert all(torch.equal(torch.as_tensor(again[key]), torch.as_tensor(fields[key])) for key in fields)

    def test_padded_rows_are_not_taken_for_images(self):
        fields = {"pixel_values": torch.arange(4), "pixel_attention_mask": torch.arange(4), "num_images": [1, 2, 0, 1]}
        assert groups.take_rows(fields, [3, 0])["pixel_values"].tolist() == [3, 0]

    def test_tiles_are_counted_as_the_image_processor_does(self):
        """InternVL and Aya Vision say how many; of LFM2-VL it is rows by columns, and a thumbnail."""

        class Counts:
            use_thumbnail = True

            def __call__(self, images, return_tensors, crop_to_patches=False, return_row_col_info=False):
                assert images == [["a"], ["b", "c"]]
                if crop_to_patches:
                    return {"num_patches": torch.tensor([4, 1, 3])}
                return {"image_rows": torch.tensor([2, 1, 1]), "image_cols": torch.tensor([2, 1, 2])}

        processor = types.SimpleNamespace(image_processor=Counts())
        images = [["a"], ["b", "c"]]
        found = groups.tile_counts(processor, images, {"pixel_values": torch.zeros(8, 3, 2, 2)})
        assert found["num_tiles"] == [4, 4] and [part.tolist() for part in found["num_patches"]] == [[4], [1, 3]]
        shapes = {"pixel_values": torch.zeros(9, 8, 4), "spatial_shapes": torch.zeros(9, 2)}
        assert groups.tile_counts(processor, images, shapes)["num_tiles"] == [5, 4]
        assert groups.tile_counts(processor, images, {"pixel_values": torch.zeros(3, 3, 2, 2)}) == {}
        assert groups.tile_counts(processor, [None, []], {}) == {}

    def test_patches_of_all_images_are_taken_by_row(self):
        fields = {
            "pixel_values": torch.arange(10.0)[:, None],
            "image_grid_thw": torch.tensor([[1, 2, 2], [1, 1, 2], [1, 2, 2]]),
            "num_images": [1, 2],
            "mm_token_type_ids": torch.tensor([[0, 1], [1, 1]]),
        }
        taken = groups.take_rows(fields, [1, 0, 1])
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
