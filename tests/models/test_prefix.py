"""A group's prompt computed once gives what computing it for each completion gives, and a wrong layout does not."""

import dataclasses

import pytest
import torch
from peft import LoraConfig, get_peft_model
from trl.trainer.utils import add_fused_lm_head

from families import FAMILIES, toy
from medrft.config import ModelConfig
from medrft.models import prefix
from medrft.models.layer_state import LayerState
from medrft.models.policy import make_checkpointable
from medrft.models.prefix import Lines, pack_groups, packed_inputs, why_not_shareable
from medrft.training.sharing.groups import take_rows

SIZE, NEW = 4, 9
MORE = ["qwen2_vl", "qwen3_vl", "gemma4", "glm4v", "internvl_one_tile", "llava_next", "llava_onevision", "mistral3"]


@pytest.fixture
def made(saved):
    """`made(family, …)`: a toy model that gives log-probabilities, and three groups of completions in mixed order."""

    def make(family, attention="parts", images=1):
        loaded = "sdpa" if attention == "parts" else attention
        config = ModelConfig(id=f"tiny:{family}", device="cpu", attn_implementation=loaded)
        found = toy(family, saved, config, images=images)
        if attention == "parts":
            prefix.take_rows_apart(found.model)
        add_fused_lm_head(found.model, temperature=0.7, outputs=("log_probs", "entropy"))
        return found

    return make


def rows_of(found):
    """Ids, mask and groups of 3 groups of 4 completions whose lengths differ, rows of a group apart from each other."""
    torch.manual_seed(3)
    place = torch.randperm(3 * SIZE) % 3
    written = (torch.arange(NEW) < torch.randint(0, NEW + 1, (3 * SIZE, 1))).long()
    written[0] = 1
    completions = torch.randint(20, 200, (3 * SIZE, NEW)) * written
    place, written, completions = (value.to(found.ids.device) for value in (place, written, completions))
    return torch.cat([found.ids[place], completions], 1), torch.cat([found.mask[place], written], 1), place


def plain(found, ids, mask, place):
    fields = take_rows(found.fields, place.tolist())
    fields.pop("num_images")
    for key in prefix.TOKEN_TYPES:
        if key in fields:
            fields[key] = torch.nn.functional.pad(fields[key], (0, NEW))
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-NEW] = -100
    found = found.model(input_ids=ids, attention_mask=mask, **fields, labels=labels, fused_lm_head=True)
    return found.log_probs[:, -NEW:], found.entropy[:, -NEW:]


def shared(found, ids, mask, place):
    fields = {key: value for key, value in found.fields.items() if key != "num_images"}
    packed, inputs = packed_inputs(found.model, ids, mask, place, fields, completion=NEW, fill=found.pad)
    outputs = found.model(**inputs, fused_lm_head=True)
    return packed.unpack(outputs.log_probs), packed.unpack(outputs.entropy)


def measured(found, way, rows):
    """Log-probabilities, entropies, and the gradient of a weighing of the former with respect to all parameters."""
    found.model.zero_grad()
    logps, entropies = way(found, *rows)
    (logps * torch.linspace(-1, 1, logps.numel()).view(logps.shape)).sum().backward()
    return (
        logps.detach(),
        entropies,
        torch.cat([p.grad.flatten() for p in found.model.parameters() if p.grad is not None]),
    )


def gap(found):
    rows = rows_of(found)
    (logps, entropies, one), (ours, mine, other) = (measured(found, way, rows) for way in (plain, shared))
    assert logps.abs().max() > 1  # there is something to compare
    differ = max(float((logps - ours).abs().max()), float((entropies - mine).detach().abs().max()))
    return differ, float((one - other).norm() / one.norm())


@pytest.mark.parametrize("attention", ["parts", "sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_and_gradients_are_the_plain_ones(made, family, attention):
    logps, gradient = gap(made(family, attention))
    assert logps < 1e-4
    assert gradient < 1e-4


@pytest.mark.parametrize("family", MORE)
def test_more_families_by_parts(made, family):
    """Those with layers, positions or inputs of their own; benchmarks/families.py sends every family through a run."""
    found = made(family)
    logps, gradient = gap(found)
    assert prefix.rows_apart(found.model)
    assert logps < 1e-4
    assert gradient < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_several_images(made, family):
    logps, gradient = gap(made(family, images=2))
    assert logps < 1e-4
    assert gradient < 1e-4


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_computes_a_row_again_with_its_layout(made, family, reentrant):
    found = made(family)
    found.model.train()
    rows = rows_of(found)
    logps, _, gradient = measured(found, shared, rows)
    make_checkpointable(found.model)
    found.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    found.model.enable_input_require_grads()
    again, _, other = measured(found, shared, rows)
    assert (logps - again).abs().max() < 1e-4
    assert (gradient - other).norm() / gradient.norm() < 1e-4


@pytest.fixture
def hybrid(made):
    """Qwen3.5, with weights as they are loaded.

    Doubled ones make its delta rule so sensitive that a plain pass differs from itself by 2e-4 under more padding.
    """
    found = made("qwen3_5")
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter.div_(2 if parameter.ndim > 1 else 1)
    found.model.train()
    return found


class TestLinearAttention:
    """The state after a prompt is computed once, and gradients of all branches flow through it."""

    def test_log_probabilities_and_gradients(self, hybrid):
        assert set(hybrid.model.config.get_text_config().layer_types) == {"linear_attention", "full_attention"}
        logps, gradient = gap(hybrid)
        assert logps < 1e-5
        assert gradient < 1e-5

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpointing(self, hybrid, reentrant):
        make_checkpointable(hybrid.model)
        hybrid.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        hybrid.model.enable_input_require_grads()
        logps, gradient = gap(hybrid)
        assert logps < 1e-5
        assert gradient < 1e-5

    def test_adapters(self, hybrid):
        torch.manual_seed(4)
        settings = LoraConfig(target_modules=["in_proj_qkv", "in_proj_z", "out_proj", "q_proj"], r=2)
        hybrid.model = get_peft_model(hybrid.model, settings)
        for name, weight in hybrid.model.named_parameters():
            if "lora_B" in name:  # zero at first, so that the other half has no gradient
                torch.nn.init.normal_(weight, std=0.02)
        logps, gradient = gap(hybrid)
        assert logps < 2e-5  # it differs from itself by about as much, under more padding
        assert gradient < 1e-5

    def test_a_state_that_is_another_is_seen(self, hybrid, monkeypatch):
        monkeypatch.setattr(LayerState, "get_recurrent_state", lambda self, layer_idx, state_idx=0: None)
        logps, gradient = gap(hybrid)
        assert logps > 1e-4
        assert gradient > 1e-4

    def test_without_sdpa_it_is_told(self, made):
        found = made("qwen3_5", attention="eager")
        assert "linear_attention take packed rows apart beside sdpa, not beside eager" in why_not_shareable(found.model)

    def test_it_is_undone(self, hybrid):
        rows = rows_of(hybrid)
        ours = measured(hybrid, plain, rows)
        prefix.keep_rows_whole(hybrid.model)
        assert all(torch.equal(a, b) for a, b in zip(ours, measured(hybrid, plain, rows), strict=True))


def test_plain_passes_are_those_of_sdpa(made):
    """With padding, which a wrong registration would let through."""
    found = made("llava")
    rows = rows_of(found)
    assert (found.mask == 0).any()
    ours = measured(found, plain, rows)
    assert prefix.rows_apart(found.model)
    prefix.keep_rows_whole(found.model)
    assert found.model.config.get_text_config()._attn_implementation == "sdpa"
    assert all(torch.equal(a, b) for a, b in zip(ours, measured(found, plain, rows), strict=True))


def test_only_the_text_model_changes_and_nothing_is_saved(made, tmp_path):
    found = made("llava")
    assert found.model.config.vision_config._attn_implementation == found.model.config._attn_implementation == "sdpa"
    found.model.config.save_pretrained(tmp_path)
    assert prefix.PARTS not in (tmp_path / "config.json").read_text()


def test_rows_lie_end_to_end_without_filling(made):
    found = made("llava")
    ids, mask, place = rows_of(found)
    packed, inputs = packed_inputs(found.model, ids, mask, place, {}, completion=NEW, fill=found.pad)
    tokens = int(found.mask.sum()) - 3 + int(mask[:, -NEW:].sum())
    assert inputs["input_ids"].shape == inputs["position_ids"].shape == inputs["shift_labels"].shape == (1, tokens)
    assert inputs["attention_mask"].shape == (1, 1, 2, tokens)
    assert packed.lines.ids.numel() > tokens


def test_bfloat16_differs_no_more_than_padding_does(made):
    found = made("llava")
    found.model.bfloat16()
    found.fields["pixel_values"] = found.fields["pixel_values"].bfloat16()
    rows = rows_of(found)
    logps, ours = plain(found, *rows)[0], shared(found, *rows)[0]
    assert (logps - ours).abs().mean() < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@pytest.mark.parametrize("attention", ["parts", "sdpa", "flex_attention"])
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu(made, family, attention):
    if (family, attention) == ("qwen2_5_vl", "flex_attention"):
        pytest.skip("transformers has no flex attention for Qwen2.5-VL")
    logps, gradient = gap(made(family, attention).to("cuda"))
    assert logps < 1e-3  # TF32 is off by default; block masks sum in another order
    assert gradient < 1e-3


WRONG = {
    "positions go on behind the branch before": lambda lines: dataclasses.replace(
        lines, depth=torch.arange(lines.ids.shape[1]).expand_as(lines.ids)
    ),
    "branches see each other": lambda lines: dataclasses.replace(
        lines, segments=lines.segments.clamp(max=1).where(lines.segments < 1, 1)
    ),
    "branches do not see the prompt": lambda lines: dataclasses.replace(lines, segments=lines.segments + 1),
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_layout_is_not_the_plain_one(made, monkeypatch, family, fault):
    true = prefix.pack_groups

    def wrong(*args, **kwargs):
        packed = true(*args, **kwargs)
        return dataclasses.replace(packed, lines=WRONG[fault](packed.lines))

    monkeypatch.setattr(prefix, "pack_groups", wrong)
    logps, gradient = gap(made(family))
    assert logps > 1e-2
    assert gradient > 1e-2


def test_the_layout():
    ids = torch.tensor([[0, 5, 6, 7, 1, 2], [3, 4, 8, 9, 1, 0], [0, 5, 6, 7, 3, 0]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0]])
    packed = pack_groups(ids, mask, torch.tensor([0, 1, 0]), completion=2, fill=0)
    assert packed.lines.ids.tolist() == [[5, 6, 7, 1, 7], [3, 4, 8, 9, 0]]
    assert packed.lines.segments.tolist() == [[0, 0, 1, 1, 2], [0, 0, 0, 1, -1]]
    assert packed.lines.depth.tolist() == [[0, 1, 2, 3, 2], [0, 1, 2, 3, 0]]
    assert packed.targets.tolist() == [[-100, -100, 1, 2, 3], [-100, -100, -100, 1, -100]]
    assert packed.lines.lengths.tolist() == [3, 4]
    assert packed.unpack(torch.arange(10.0).view(2, 5)).tolist() == [[2, 3], [8, 0], [4, 0]]


def test_rows_of_one_group_must_have_one_prompt():
    with pytest.raises(ValueError, match=r"rows \[0, 1\] are of one group but have different prompts"):
        pack_groups(torch.tensor([[5, 6, 1], [5, 7, 1]]), torch.ones(2, 3), torch.tensor([0, 0]), completion=1, fill=0)


def test_attention_that_sees_no_mask_is_told(made):
    found = made("llava")
    assert why_not_shareable(found.model) is None
    found.model.config.text_config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in why_not_shareable(found.model)
    assert why_not_shareable(found.model, rollouts=True) is None
    found.model.config.text_config.layer_types = ["linear_attention"]
    assert "linear_attention" in why_not_shareable(found.model, rollouts=True)


def test_flex_attention_gets_a_block_mask_with_the_same_pattern(made):
    found = made("llava")
    ids, mask, place = rows_of(found)
    packed = pack_groups(ids, mask, place, completion=NEW, fill=found.pad)
    prefix.keep_rows_whole(found.model)
    dense = prefix.packed_masks(found.model, packed.lines)
    found.model.config.text_config._attn_implementation = "flex_attention"
    blocks = prefix.packed_masks(found.model, packed.lines)
    q, k = torch.arange(dense.shape[-1])[:, None], torch.arange(dense.shape[-1])
    assert all(torch.equal(blocks.mask_mod(b, 0, q, k), dense[b, 0]) for b in range(len(dense)))


def test_an_empty_completion_has_nothing_to_score():
    ids, mask = torch.tensor([[5, 6, 0], [5, 6, 9]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    packed = pack_groups(ids, mask, torch.tensor([0, 0]), completion=1, fill=0)
    assert packed.lines.ids.tolist() == [[5, 6]]
    assert isinstance(packed.lines, Lines)
    assert packed.unpack(torch.tensor([[1.0, 2.0]])).tolist() == [[0.0], [2.0]]


@pytest.mark.parametrize(
    ("prompt", "completion", "held"), [(277, 48, 8), (1045, 256, 8), (277, 256, 4), (277, 1024, 1)]
)
def test_long_completions_get_rows_of_their_own(made, prompt, completion, held):
    model = made("llava").model
    model.config.text_config.hidden_size, model.config.text_config.intermediate_size = 256, 1024
    assert prefix.branches_per_row(model, prompt=prompt, completion=completion, size=8) == 8
    prefix.keep_rows_whole(model)
    assert prefix.branches_per_row(model, prompt=prompt, completion=completion, size=8) == held
    model.config.text_config._attn_implementation = "flex_attention"
    assert prefix.branches_per_row(model, prompt=prompt, completion=completion, size=8) == 8
