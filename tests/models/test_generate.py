"""Generation: order, seeds, token counts, end tokens, placeholders, several images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medrft.config import ModelConfig
from medrft.models.generate import Generation, complete_chats, generate
from medrft.models.load import load_policy
from medrft.models.prompts import get_prompt, with_images
from medrft.models.tokens import end_ids, placeholder_ids

PROMPT = get_prompt("direct")


def test_greedy_does_not_depend_on_order_or_batch_size(policy, examples, pictures):
    def by(size, asked):
        return generate(policy, PROMPT, asked, Generation(max_new_tokens=8, batch_size=size), images=pictures)

    one = by(1, examples)
    assert by(4, examples) == one
    assert by(5, examples[::-1]) == one[::-1]
    assert len({completions[0].text for completions in one}) > 1


def test_samples_are_seeded_and_differ(policy, examples, pictures):
    def draw(seed):
        return generate(
            policy,
            PROMPT,
            examples,
            Generation(max_new_tokens=6, temperature=1.0, samples=3, seed=seed),
            images=pictures,
        )

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = draw(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == draw(0)
    assert first != draw(1)
    assert all(len({c.text for c in completions}) == 3 for completions in first)


def test_greedy_samples_are_computed_once(policy, examples, pictures):
    asked = []
    policy.model.get_output_embeddings().register_forward_pre_hook(lambda module, args: asked.append(len(args[0])))
    found = generate(policy, PROMPT, examples, Generation(max_new_tokens=1, samples=2), images=pictures)
    assert all(len(completions) == 2 and completions[0] == completions[1] for completions in found)
    assert sum(asked) == 6 + 6 + 1  # the stems, the ends of the prompts, one prompt once more to verify


def favour(policy, token, bonus=100.0):
    """Make the head prefer one token."""

    def hook(module, args, output):
        output[..., token] += bonus
        return output

    return policy.model.get_output_embeddings().register_forward_hook(hook)


def test_the_end_token_counts_and_ends(policy, examples, pictures):
    handle = favour(policy, end_ids(policy)[0])
    found = generate(policy, PROMPT, examples[:2], Generation(max_new_tokens=4), images=pictures)
    assert [(c.text, c.n_tokens, c.truncated) for [c] in found] == [("", 1, False)] * 2
    handle.remove()
    favour(policy, policy.processor.tokenizer.encode(" large")[0])
    found = generate(policy, PROMPT, examples[:2], Generation(max_new_tokens=4), images=pictures)
    assert [(c.n_tokens, c.truncated) for [c] in found] == [(4, True)] * 2


@pytest.mark.parametrize("family", ["llava", "gemma3", "idefics3"])
def test_placeholders_cannot_be_written(family, saved, examples, pictures):
    policy = load_policy(ModelConfig(id=f"tiny:{family}"), saved(family))
    ids = placeholder_ids(policy)
    assert policy.model.config.image_token_id in ids
    for token in ids:
        favour(policy, token)
    written = []
    policy.model.get_input_embeddings().register_forward_pre_hook(lambda module, args: written.append(args[0]))
    generate(policy, PROMPT, examples[:2], Generation(max_new_tokens=4, temperature=1.0), images=pictures)
    steps = [step for step in written if step.shape[-1] == 1]
    assert steps
    assert not torch.isin(torch.cat(steps), torch.tensor(ids)).any()


def test_the_models_own_generation_defaults_do_not_leak(policy, examples, pictures):
    plain = generate(policy, PROMPT, examples, Generation(max_new_tokens=8), images=pictures)
    policy.model.generation_config.repetition_penalty = 5.0
    policy.model.generation_config.no_repeat_ngram_size = 1
    policy.model.generation_config.max_new_tokens = 2
    assert generate(policy, PROMPT, examples, Generation(max_new_tokens=8), images=pictures) == plain
    assert policy.model.generation_config.repetition_penalty == 5.0


def test_several_images_and_none(policy, examples, pictures):
    several = replace(examples[0], images=(Path("a.png"), Path("bb.png"), Path("ccc.png")))
    mixed = [examples[1], several, replace(examples[2], images=())]
    together = generate(policy, PROMPT, mixed, Generation(max_new_tokens=6, batch_size=3), images=pictures)
    alone = [generate(policy, PROMPT, [example], Generation(max_new_tokens=6), images=pictures)[0] for example in mixed]
    assert together == alone


def test_training_mode_is_restored(policy, examples, pictures):
    policy.model.train()
    generate(policy, PROMPT, examples[:1], Generation(max_new_tokens=1), images=pictures)
    assert policy.model.training


def test_complete_reads_its_own_pictures(policy, examples, pictures):
    chats = [with_images(PROMPT.messages(example), pictures(example)) for example in examples[:2]]
    texts = [c.text for c in complete_chats(policy, chats, max_new_tokens=5, temperature=0.0)]
    through = generate(
        policy, PROMPT.bound(policy.processor), examples[:2], Generation(max_new_tokens=5), images=pictures
    )
    bound = PROMPT.bound(policy.processor)
    again = [with_images(bound.messages(example), pictures(example)) for example in examples[:2]]
    assert [c.text for c in complete_chats(policy, again, max_new_tokens=5, temperature=0.0)] == [
        c.text for [c] in through
    ]
    assert len(texts) == 2
