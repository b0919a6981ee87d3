"""Rollouts that read each prompt once write what `generate` writes, and draw from the same distribution."""

from contextlib import contextmanager

import pytest
import torch

from families import WRITING, chi_squared, generated, toy
from medrft.config import ModelConfig
from medrft.errors import ModelError
from medrft.models import prefix, refill
from medrft.models.cascade import ROOM, Rows
from medrft.models.rollout import TOGETHER, Prompts, sample_rollouts
from medrft.training.sharing.groups import take_rows


@pytest.fixture
def made(saved):
    def make(family, images=1):
        return toy(family, saved, ModelConfig(id=f"tiny:{family}", device="cpu"), images=images)

    return make


def prompts_of(found, copies, places=(0, 1, 2)):
    """The toy's prompts at `places`, each with its own inputs."""
    fields = [take_rows(found.fields, [place]) for place in places]
    for own in fields:
        own.pop("num_images")
    return Prompts(found.ids[list(places)], found.mask[list(places)], fields, copies)


def write(found, copies, *, size=None, **settings):
    temperature = settings.get("temperature", 1.0)
    return sample_rollouts(
        found.model, prompts_of(found, copies), found.config(**settings), size=size, temperature=temperature
    )


MANY_ENDS = list(range(100, 200))
SETTINGS = {
    "plain": {},
    "several end tokens": {"eos_token_id": MANY_ENDS},
    "suppressed tokens": {"suppress_tokens": list(range(20, 60))},
    "repetition penalty": {"repetition_penalty": 1.8},
    "at least four tokens": {"eos_token_id": MANY_ENDS, "min_new_tokens": 4},
    "an end that gets likelier": {"exponential_decay_length_penalty": (2, 1.5)},
    "no pair of tokens twice": {"no_repeat_ngram_size": 2, "eos_token_id": MANY_ENDS},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("family", WRITING)
def test_greedy_rollouts_are_those_of_generate(made, family, name):
    found, settings = made(family), {"do_sample": False, **SETTINGS[name]}
    expected = generated(found, [1, 1, 1], **settings)
    assert write(found, [1, 1, 1], **settings).ids == expected
    assert write(found, [1, 1, 1], size=2, **settings).ids == expected


@pytest.mark.parametrize("family", WRITING)
def test_greedy_rollouts_with_several_images(made, family):
    found = made(family, images=2)
    assert write(found, [2, 1, 2], do_sample=False).ids == generated(found, [2, 1, 2], do_sample=False)


@pytest.mark.parametrize(("size", "penalty"), [(None, 1.0), (5, 1.0), (5, 1.2)])
@pytest.mark.parametrize("family", WRITING)
def test_each_token_was_drawn_with_the_probability_of_a_plain_pass(made, family, size, penalty):
    """Rows end at different steps, so that rows are laid out anew on the way, and with `size` joined by others."""
    torch.manual_seed(0)
    found = made(family)
    copies = [5, 3, 4]
    pictures = [found.model.config.image_token_id]  # the plain pass would look for one more picture
    settings = {"suppress_tokens": pictures, "repetition_penalty": penalty}
    made_rows = write(found, copies, size=size, eos_token_id=MANY_ENDS, temperature=0.8, **settings)
    assert len({len(row) for row in made_rows.ids}) > 2
    place = [prompt for prompt, count in enumerate(copies) for _ in range(count)]
    for row, (prompt, ids) in enumerate(zip(place, made_rows.ids, strict=True)):
        fields = take_rows(found.fields, [prompt])
        fields.pop("num_images")
        for key in prefix.TOKEN_TYPES:
            if key in fields:
                fields[key] = torch.nn.functional.pad(fields[key], (0, len(ids)))
        whole = torch.cat([found.ids[prompt], torch.tensor(ids)])[None]
        mask = torch.cat([found.mask[prompt], torch.ones(len(ids), dtype=torch.long)])[None]
        with torch.no_grad():
            logits = found.model(input_ids=whole, attention_mask=mask, **fields).logits[0, -len(ids) - 1 : -1] / 0.8
        expected = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(made_rows.logps[row]), expected, atol=1e-4)


SAMPLED = {
    "temperature": {"temperature": 0.7},
    "top-k": {"top_k": 5},
    "top-p": {"top_p": 0.6},
    "min-p": {"min_p": 0.2},
    "repetition penalty": {"repetition_penalty": 1.5, "temperature": 0.8},
    "suppressed tokens": {"suppress_tokens": list(range(20, 200)), "top_k": 20},
}


@pytest.mark.parametrize("size", [None, 200])
@pytest.mark.parametrize("name", SAMPLED)
def test_sampling_is_distributed_as_in_generate(made, name, size):
    """Pairs of tokens by count: a chi-squared statistic against stock draws, at the 0.1 % level."""
    found = made("llava")
    settings = {"max_new_tokens": 2, **SAMPLED[name]}
    copies = [1500, 1, 1]
    torch.manual_seed(0)
    ours = [tuple(row) for row in write(found, copies, size=size, **settings).ids[:1500]]
    torch.manual_seed(1)
    stock = [tuple(row) for row in generated(found, copies, **settings)[:1500]]
    assert ours != stock
    assert chi_squared(ours, stock) < 1


def test_the_same_seed_draws_the_same(made):
    found = made("llava")
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(write(found, [4, 4, 4]).ids)
    assert drawn[0] == drawn[1] != drawn[2]


TAIL = {"exponential_decay_length_penalty": (2, 1.08), "max_new_tokens": 40, "temperature": 1.3}
"""Random weights never end: with this most completions are short, and a few are long."""


@pytest.mark.parametrize("family", WRITING)
def test_draws_do_not_depend_on_how_many_are_written_at_a_time(made, family):
    """Each completion is written once, in its place, whether it begins with the others or when one of them ends."""
    found, copies = made(family), [4, 5, 3]
    drawn = []
    for size in (None, 1, 3, 5):
        torch.manual_seed(3)
        drawn.append(write(found, copies, size=size, **TAIL))
    whole = drawn[0]
    assert len({len(row) for row in whole.ids}) > 4 and len({tuple(row) for row in whole.ids}) == 12
    for other in drawn[1:]:
        assert other.ids == whole.ids
        for one, two in zip(whole.logps, other.logps, strict=True):
            assert torch.tensor(one) == pytest.approx(torch.tensor(two), abs=1e-4)


@pytest.mark.parametrize("size", [3, 8])
def test_what_is_held_follows_from_the_batch_and_not_from_the_number_of_completions(made, monkeypatch, size):
    """At most `size` rows, a prompt for each and one more, and slots for one completion; few places stand idle."""
    found, held = made("llava"), []
    true = refill.continue_rows

    def watched(model, rows, ids):
        logits = true(model, rows, ids)
        slots = next(iter(rows.tails.values()))[0].shape[2]
        held.append((len(rows.place), len(rows.stems.lengths), slots, ids.shape[1]))
        return logits

    monkeypatch.setattr(refill, "continue_rows", watched)
    torch.manual_seed(0)
    written = write(found, [24, 16, 32], size=size, **TAIL)
    rows, stems, slots, tokens = (max(column) for column in zip(*held, strict=True))
    assert rows <= size and stems <= min(3, size + 1) and slots <= TAIL["max_new_tokens"] + 1 + ROOM and tokens == 1
    lengths = [len(row) for row in written.ids]
    assert sum(lengths) > 2 * len(lengths)
    waves = sum(max(lengths[start : start + size]) for start in range(0, len(lengths), size))
    assert 0 <= written.idle < 0.75 * (1 - sum(lengths) / (size * waves))


def test_finished_rows_stop_costing(made, monkeypatch):
    found = made("llava")
    sizes = []
    true = Rows.keep
    monkeypatch.setattr(Rows, "keep", lambda self, rows: (sizes.append(len(rows)), true(self, rows)))
    torch.manual_seed(0)
    write(found, [8, 8, 8], eos_token_id=MANY_ENDS)
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] <= 6


def test_the_model_is_left_as_it_was(made):
    found = made("llava")
    config = found.model.config.text_config
    before = config._attn_implementation
    write(found, [2, 2, 2])
    assert config._attn_implementation == before


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": False, "num_beams": 2},
        {"num_return_sequences": 2},
        {"stop_strings": ["x"]},
        {"guidance_scale": 2.0},
    ],
    ids=str,
)
def test_other_ways_to_generate_are_refused(made, settings):
    with pytest.raises(ModelError, match="cannot share a prompt"):
        write(made("llava"), [1, 1, 1], **settings)


@pytest.mark.parametrize("family", WRITING)
def test_prompts_that_are_done_are_handed_on_while_others_are_written(made, family):
    """What is written is what is written without; whole prompts are handed on, once, in calls that are worth it."""
    found, copies, settings = made(family), [2, 2, 3, 1], {"eos_token_id": MANY_ENDS}
    config, prompts = found.config(**settings), prompts_of(found, copies, (0, 1, 2, 0))
    place = [prompt for prompt, count in enumerate(copies) for _ in range(count)]
    early = 0
    for seed in range(4):
        torch.manual_seed(seed)
        plain = sample_rollouts(found.model, prompts, config)
        calls, parts = [], []

        @contextmanager
        def part(name, parts=parts):
            parts.append(name)
            yield

        torch.manual_seed(seed)
        written = sample_rollouts(found.model, prompts, config, part=part, ended=calls.append)
        assert written.ids == plain.ids and parts == ["decode", "prefill"]
        handed = {row: ids for call in calls for row, ids in call.items()}
        assert len(handed) == sum(map(len, calls)) < len(place)
        assert all(ids == plain.ids[row] for row, ids in handed.items())
        assert all(len(call) >= TOGETHER * len(place) for call in calls)
        done = {place[row] for row in handed}
        assert sorted(handed) == [row for row, prompt in enumerate(place) if prompt in done]
        early += len(calls)
    assert early
