"""A layer of linear attention that takes a packed row apart gives what it gives for each sequence alone."""

import pytest
import torch
from transformers.models.lfm2 import Lfm2Config
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv
from transformers.models.olmo_hybrid import OlmoHybridConfig
from transformers.models.olmo_hybrid.modeling_olmo_hybrid import OlmoHybridGatedDeltaNet
from transformers.models.qwen3_5 import Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet
from transformers.models.qwen3_next import Qwen3NextConfig
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

from medrft.models.layer_state import why_no_states
from medrft.models.packed_layout import packed_layout
from medrft.models.packed_recurrence import keep_layers_whole, take_layers_apart

WIDTH = 32
DELTA = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
LAYERS = {
    "Qwen3.5": lambda: Qwen3_5GatedDeltaNet(Qwen3_5TextConfig(**DELTA), 0),
    "Qwen3-Next": lambda: Qwen3NextGatedDeltaNet(Qwen3NextConfig(**DELTA), 0),
    "OLMo hybrid": lambda: OlmoHybridGatedDeltaNet(OlmoHybridConfig(**DELTA), 0),
    "LFM2": lambda: Lfm2ShortConv(Lfm2Config(hidden_size=WIDTH, num_hidden_layers=1, layer_types=["conv"]), 0),
}
# A prompt's tokens and those of its branches; chunks of the delta rule have 64 tokens, the convolution sees 3 or 4.
ROWS = {
    "over several chunks": [(70, (1, 5, 66, 3, 64))],
    "a prompt shorter than the convolution": [(2, (4, 1))],
    "a prompt of one token": [(1, (3, 3))],
    "no prompt": [(0, (3,))],
    "several prompts": [(9, (4, 5, 1)), (30, (12,)), (5, ())],
}


def packed_row(trees):
    """The layout of prompts and branches, and the places in the row of each whole sequence."""
    numbers, segments, sequences, place = [], [], [], 0
    for number, (prompt, branches) in enumerate(trees):
        held = list(range(place, place + prompt))
        place += prompt
        segments += [0] * prompt
        for branch, size in enumerate(branches, start=1):
            sequences.append((held, list(range(place, place + size))))
            segments += [branch] * size
            place += size
        if not branches:
            sequences.append((held, []))
        numbers += [number] * (prompt + sum(branches))
    return packed_layout(torch.tensor(numbers), torch.tensor(segments), None), sequences, place


def gradients(layer, out, hidden, weights):
    """Gradients of a weighing of the outputs with respect to all parameters and to the inputs."""
    return torch.autograd.grad((out * weights).sum(), [*layer.parameters(), hidden], retain_graph=True)


@pytest.mark.parametrize("trees", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_those_of_each_sequence_alone(name, trees):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    layout, sequences, size = packed_row(trees)
    hidden = torch.randn(1, size, WIDTH, requires_grad=True)
    weights = torch.randn(1, size, WIDTH)
    whole = torch.zeros_like(hidden)
    for held, own in sequences:
        out = layer(hidden_states=hidden[:, held + own], attention_mask=None)
        places = held + own  # the prompt's outputs are the same in each of its sequences
        whole = whole.index_copy(1, torch.tensor(places), out)
    take_layers_apart(layer)
    parts = layer(hidden_states=hidden, attention_mask=layout)
    assert (parts - whole).abs().max() < 1e-5
    ours, theirs = (gradients(layer, out, hidden, weights) for out in (parts, whole))
    least = max(value.norm() for value in theirs) / 100  # the decay's own are small sums of large terms
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm().clamp(min=least)


@pytest.mark.parametrize("name", LAYERS)
def test_plain_passes_stay_as_they_are(name):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    hidden, mask = torch.randn(2, 7, WIDTH), torch.ones(2, 7).tril(4)
    before = layer(hidden_states=hidden, attention_mask=mask)
    take_layers_apart(layer)
    assert torch.equal(layer(hidden_states=hidden, attention_mask=mask), before)
    keep_layers_whole(layer)
    assert "PackedForward" not in repr(layer.forward)


def test_layers_that_cannot_be_given_a_state_are_told():
    layer = LAYERS["Qwen3.5"]()
    assert why_no_states(layer, ["linear_attention"]) is None
    assert "not all of them" in why_no_states(layer, ["linear_attention", "linear_attention"])
    layer.forward = lambda hidden_states, attention_mask=None: hidden_states
    assert "Qwen3_5GatedDeltaNet cannot be given a state" in why_no_states(layer, ["linear_attention"])
