"""Answers written with shared stems and a refilled batch are those of `generate`, and drawn from its distribution."""

import pytest
import torch

from families import WRITING, chi_squared, generated, toy
from medrft.config import ModelConfig
from medrft.errors import ModelError
from medrft.models.cascade import Rows
from medrft.models.prefix import TOKEN_TYPES
from medrft.models.refill import Ask, Stem, write_answers
from medrft.training.sharing.groups import take_rows


@pytest.fixture
def made(saved):
    def make(family, images=1):
        return toy(family, saved, ModelConfig(id=f"tiny:{family}", device="cpu"), images=images)

    return make


def prompt_of(found, prompt):
    """Token ids and multimodal inputs of one of a toy's prompts, without padding."""
    length = int(found.mask[prompt].sum())
    fields = take_rows(found.fields, [prompt])
    fields.pop("num_images")
    return found.ids[prompt, -length:].tolist(), {
        k: v[:, -length:] if k in TOKEN_TYPES else v for k, v in fields.items()
    }


def asks_of(found, *, ends, samples=1):
    """For each prompt of a toy several questions, which share all but its last tokens and end as `ends` says."""
    asks = []
    for prompt in range(3):
        ids, fields = prompt_of(found, prompt)
        size = len(ids) - 5
        stem = Stem(ids[:size], {k: v[:, :size] if k in TOKEN_TYPES else v for k, v in fields.items()})
        asks += [
            Ask(len(asks) + i, stem, [*end, *ids[size:]], [(n, 1000 * prompt + 10 * i + n) for n in range(samples)])
            for i, end in enumerate(ends)
        ]
    return asks


def plain(found, ask, **settings):
    """What stock `generate` writes after one prompt."""
    ids = torch.tensor([ask.stem.ids + ask.rest])
    fields = {
        k: torch.nn.functional.pad(v, (0, len(ask.rest))) if k in TOKEN_TYPES else v for k, v in ask.stem.fields.items()
    }
    with torch.no_grad():
        whole = found.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), **fields, generation_config=found.config(**settings)
        )
    row, ends = whole[0, ids.shape[1] :].tolist(), settings.get("eos_token_id", [1])
    return row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))]


MANY_ENDS = list(range(60, 330, 2))
ENDS = ([], [30], [31, 32, 33], [34, 35, 36, 37, 38, 39, 40], [41, 42], [43])


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("family", WRITING)
def test_greedy_answers_are_those_of_generate(made, family, images):
    """A batch of 5 for 18 questions: rows join others that have written already, and stems come and go."""
    found = made(family, images)
    settings = {"do_sample": False, "eos_token_id": MANY_ENDS, "max_new_tokens": 20}
    asks = asks_of(found, ends=ENDS[:4])
    made_rows = {w.number: w.ids for w in write_answers(found.model, asks, found.config(**settings), size=5)}
    assert made_rows == {ask.number: plain(found, ask, **settings) for ask in asks}
    if family != "gemma3":  # which repeats itself when greedy
        assert len({len(ids) for ids in made_rows.values()}) > 1


@pytest.mark.parametrize("family", WRITING)
def test_draws_do_not_depend_on_the_batch(made, family):
    """Rows that end at different steps, joined by others on the way, against each question and sample alone."""
    found = made(family)
    settings = {"temperature": 1.5, "eos_token_id": MANY_ENDS[::4], "max_new_tokens": 10}
    asks = asks_of(found, ends=ENDS[:2], samples=2)
    config = found.config(**settings)
    together = {(w.number, w.sample): w.ids for w in write_answers(found.model, asks, config, size=5)}
    alone = {(w.number, w.sample): w.ids for w in write_answers(found.model, asks[::-1], config, size=1)}
    assert together == alone and len(together) == 12
    assert len({len(ids) for ids in together.values()}) > 2


@pytest.mark.parametrize("settings", [{"temperature": 0.7}, {"suppress_tokens": list(range(20, 360))}], ids=str)
def test_sampling_is_distributed_as_in_generate(made, settings):
    """Pairs of tokens by count: a chi-squared statistic against stock draws, at the 0.1 % level."""
    found = made("llava")
    ids, fields = prompt_of(found, 0)
    ask = Ask(0, Stem(ids[:-3], fields), ids[-3:], [(n, n) for n in range(1500)])
    settings = {"max_new_tokens": 2, **settings}
    ours = [tuple(w.ids) for w in write_answers(found.model, [ask], found.config(**settings), size=200)]
    torch.manual_seed(1)
    stock = [tuple(row) for row in generated(found, [1500, 1, 1], **settings)[:1500]]
    assert len(ours) == 1500
    assert chi_squared(ours, stock) < 1


def test_what_is_shared_is_read_once(made, monkeypatch):
    """Of 4 questions with 3 samples each on 3 stems: a stem and the end of a prompt once, and the batch kept full."""
    found, passes = made("llava"), []
    true = found.model.model.language_model.forward

    def forward(*args, **kwargs):
        passes.append(tuple(kwargs["inputs_embeds"].shape[:2]))
        return true(*args, **kwargs)

    monkeypatch.setattr(found.model.model.language_model, "forward", forward)
    asks = asks_of(found, ends=ENDS[:4], samples=3)
    settings = {"temperature": 1.5, "eos_token_id": MANY_ENDS[::4], "max_new_tokens": 30}
    written = sum(len(w.ids) for w in write_answers(found.model, asks, found.config(**settings), size=12))
    steps = [rows for rows, tokens in passes if tokens == 1]
    read = [rows for rows, tokens in passes if tokens > 1]
    assert sum(read) == 3 + 12 + 1  # stems, ends of prompts, and the first prompt once more to verify
    assert written > 0.6 * sum(steps)


def test_a_model_that_would_share_wrongly_is_refused(made, monkeypatch):
    found = made("llava")
    monkeypatch.setattr(Rows, "positions", lambda self, tokens: torch.zeros(len(self.place), tokens, dtype=torch.long))
    with pytest.raises(ModelError, match="changes this model's logits"):
        list(write_answers(found.model, asks_of(found, ends=ENDS), found.config(do_sample=False), size=5))


def test_the_model_is_left_as_it_was(made):
    found = made("llava")
    config = found.model.config.text_config
    before = config._attn_implementation
    list(write_answers(found.model, asks_of(found, ends=ENDS), found.config(do_sample=False), size=5))
    assert config._attn_implementation == before
