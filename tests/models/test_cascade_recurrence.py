"""Layers of linear attention go on from a state of each row, and neither padding nor other rows get into it."""

import pytest
import torch
from transformers import GenerationConfig
from transformers.models.lfm2 import Lfm2Config, Lfm2ForCausalLM
from transformers.models.olmo_hybrid import OlmoHybridConfig, OlmoHybridForCausalLM
from transformers.models.qwen3_5 import Qwen3_5ForCausalLM, Qwen3_5TextConfig
from transformers.models.qwen3_next import Qwen3NextConfig, Qwen3NextForCausalLM

from medrft.models.cascade import Rows, continue_rows, read_stems
from medrft.models.cascade_recurrence import CascadeForward, use_states
from medrft.models.layer_state import LayerState, recurrent_layers
from medrft.models.refill import Ask, Stem, write_answers
from medrft.models.rollout import Prompts, sample_rollouts

WIDTH, VOCABULARY = 32, 300
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
DELTA = SIZES | {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
MODELS = {
    "Qwen3.5": lambda: Qwen3_5ForCausalLM(Qwen3_5TextConfig(**DELTA)),
    "Qwen3-Next": lambda: Qwen3NextForCausalLM(
        Qwen3NextConfig(
            **DELTA, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16
        )
    ),
    "OLMo hybrid": lambda: OlmoHybridForCausalLM(OlmoHybridConfig(**DELTA)),
    # A convolution with a bias reads padding as something, even where transformers sets it to zero. With weights of the
    # usual size it would weigh too little beside the embeddings for a wrong state to be seen.
    "LFM2": lambda: Lfm2ForCausalLM(
        Lfm2Config(**SIZES, layer_types=["conv", "full_attention", "conv"], conv_bias=True, initializer_range=0.1)
    ),
}
LENGTHS = (2, 9, 70, 5)
"""Tokens of prompts: shorter than the convolution, and longer than a chunk of the delta rule."""
ENDS = list(range(3, VOCABULARY, 12))


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    found = MODELS[request.param]().eval()
    with torch.no_grad():  # so that the greedy tokens of random weights are no single one
        for parameter in found.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
        weight = found.get_input_embeddings().weight
        weight[0] = -weight[7]  # what fills rows up is a token like any other
    return found


def prompts(lengths=LENGTHS):
    """Token ids of prompts."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def padded(rows):
    """Ids and mask, padded on the left with a token that is no zero in the embeddings."""
    size = max(map(len, rows))
    ids = torch.tensor([[7] * (size - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (size - len(row)) + [1] * len(row) for row in rows])


def alone(model, ids, **settings):
    """What stock `generate` writes after one prompt without padding."""
    config = GenerationConfig(**settings, max_new_tokens=12, pad_token_id=0, eos_token_id=ENDS, disable_compile=True)
    given = torch.tensor([ids])
    with torch.no_grad():
        whole = model.generate(given, attention_mask=torch.ones_like(given), generation_config=config)
    return whole[0, len(ids) :].tolist()


def settings(**given):
    base = {"max_new_tokens": 12, "pad_token_id": 0, "eos_token_id": ENDS, "top_k": 0, "do_sample": True}
    return GenerationConfig(**{**base, **given})


def logps(model, prompt, ids):
    """Log-probabilities of tokens in a plain pass over the whole sequence, without padding."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]


@pytest.mark.parametrize("size", [None, 2])
def test_rollouts_are_those_of_each_prompt_alone(model, size):
    """Prompts of other lengths lie in the same batch; with `size` rows end and join on the way."""
    rows = prompts()
    given = Prompts(*padded(rows), [{}] * len(rows), [1] * len(rows))
    found = sample_rollouts(model, given, settings(do_sample=False), size=size).ids
    assert found == [alone(model, row, do_sample=False) for row in rows]
    assert len({tuple(row) for row in found}) > 1


@pytest.mark.parametrize("size", [None, 3])
def test_each_token_was_drawn_with_the_probability_of_a_plain_pass(model, size):
    rows, copies = prompts(), [3, 4, 2, 3]
    torch.manual_seed(0)
    given = Prompts(*padded(rows), [{}] * len(rows), copies)
    found = sample_rollouts(model, given, settings(), size=size, temperature=1.0)
    place = [prompt for prompt, count in enumerate(copies) for _ in range(count)]
    assert len({tuple(ids) for ids in found.ids}) == len(place) and len({len(ids) for ids in found.ids}) > 2
    for prompt, ids, told in zip(place, found.ids, found.logps, strict=True):
        assert torch.allclose(torch.tensor(told), logps(model, rows[prompt], ids), atol=1e-4)


def test_answers_are_those_of_each_question_alone(model):
    """Questions of 1 to 70 tokens behind two stems, three at a time: what fills them up stands behind the stem."""
    stems, rests = prompts((2, 20)), prompts((70, 1, 4, 1, 12, 3))
    asks = [Ask(i, Stem(ids, {}), [], [(0, i)]) for i, ids in enumerate(stems)]
    asks = [Ask(i, asks[i % 2].stem, rest, [(0, i)]) for i, rest in enumerate(rests)]
    found = {w.number: w.ids for w in write_answers(model, asks, settings(do_sample=False), size=3)}
    assert found == {ask.number: alone(model, ask.stem.ids + ask.rest, do_sample=False) for ask in asks}


def test_a_stem_is_as_it_was_after_its_rows_went_on(model):
    """Rows that begin from one state go different ways, and the next row begins from it again."""
    ids, mask = padded(prompts((5, 9)))
    with torch.no_grad():
        stems, _ = read_stems(model, ids, mask, {})
        kept = {layer: state.take(torch.arange(2)) for layer, state in stems.states.items()}
        assert len(kept) == 2
        first = torch.tensor([[11], [12], [13]])
        found = []
        for places in ([0, 0, 1], [0, 1], [0, 0, 1]):
            rows = Rows(torch.zeros(len(places), dtype=torch.long))
            rows.settle(stems, places)
            found.append([continue_rows(model, rows, token[: len(places)]) for token in (first, first + 5)])
        for layer, state in stems.states.items():
            assert all(torch.equal(x, kept[layer].conv[i]) for i, x in state.conv.items())
            assert all(torch.equal(x, kept[layer].recurrent[i]) for i, x in state.recurrent.items())
    assert all(torch.equal(one, other) for one, other in zip(found[0], found[2], strict=True))
    assert (found[0][1][0] - found[0][1][1]).abs().max() > 1e-3


@pytest.mark.parametrize("begun", [False, True])
def test_padding_does_not_get_into_a_state(model, begun):
    """Rows padded with large numbers against each alone, from nothing and from a state: outputs and what is known."""
    layer = recurrent_layers(model)[0]
    torch.manual_seed(2)
    before = {layer: LayerState()}
    with torch.no_grad():
        if begun:
            with use_states(before, [0, 0, 0, 0]):
                layer(hidden_states=torch.randn(4, 6, WIDTH))
        hidden, starts = torch.randn(4, 5, WIDTH), [0, 3, 4, 3]
        for row, start in enumerate(starts):
            hidden[row, :start] = 1e4
        after = dict(before)
        with use_states(after, starts):
            found = layer(hidden_states=hidden)
        for row, start in enumerate(starts):
            own = {layer: before[layer].take(torch.tensor([row])) if begun else LayerState()}
            with use_states(own, [0]):
                expected = layer(hidden_states=hidden[row : row + 1, start:])
            assert (found[row, start:] - expected[0]).abs().max() < 1e-5
            assert not found[row, :start].any()
            for states, others in (
                (own[layer].conv, after[layer].conv),
                (own[layer].recurrent, after[layer].recurrent),
            ):
                assert all((state[0] - others[number][row]).abs().max() < 1e-5 for number, state in states.items())


def test_layers_get_their_own_forward_back(model):
    layer = recurrent_layers(model)[0]
    with pytest.raises(ZeroDivisionError), use_states({layer: LayerState()}, [0]):
        assert isinstance(layer.forward, CascadeForward)
        raise ZeroDivisionError
    assert "forward" not in vars(layer)
