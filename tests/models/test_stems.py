"""Which questions share what: pictures by their pixels, processed once; the rest read whole, and said so."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from medrft.config import ModelConfig
from medrft.errors import StrictError
from medrft.models import refill
from medrft.models.encode import encode_chats
from medrft.models.generate import Generation, complete_chats, generate, stream_completions
from medrft.models.load import load_policy
from medrft.models.prompts import get_prompt, with_images
from medrft.models.stems import plan_asks, why_not_shared

PROMPT = get_prompt("direct")
FAMILIES = ["llava", "gemma3", "idefics3"]


def of(policy, examples, images, **more):
    apart = []
    bound = PROMPT.bound(policy.processor)
    return list(plan_asks(policy, bound, examples, images, **{"samples": 1, "seed": 0, "apart": apart, **more})), apart


@pytest.fixture
def shared(examples):
    """Six questions about two pictures."""
    return [replace(e, images=examples[i % 2].images, question=f"{e.question} {i}") for i, e in enumerate(examples)]


def one(example):
    """A picture for each path, opened anew each time."""
    return [Image.new("L", (40, 30), 10 * len(str(path)) + int(str(path)[0]) * 50) for path in example.images]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_ask_is_the_plain_prompt_in_two_parts(family, saved, shared):
    policy = load_policy(ModelConfig(id=f"tiny:{family}", device="cpu"), saved(family))
    found, apart = of(policy, shared, one)
    assert not apart and len({ask.stem for ask in found}) == 2
    prompt = PROMPT.bound(policy.processor)
    for ask in found:
        example = shared[ask.number]
        plain = encode_chats(policy, [with_images(prompt.messages(example), one(example))])
        assert ask.stem.ids + ask.rest == plain["input_ids"][0].tolist()
        assert len(ask.rest) < 20 < len(ask.stem.ids)
        assert ask.stem.fields["pixel_values"].equal(plain["pixel_values"])


def test_a_picture_is_processed_once(policy, shared, monkeypatch):
    looked = []
    kind = type(policy.processor.image_processor)
    true = kind.preprocess
    monkeypatch.setattr(kind, "preprocess", lambda self, *a, **k: (looked.append(1), true(self, *a, **k))[1])
    of(policy, shared, one)
    assert len(looked) == 2


def test_linear_attention_shares_a_picture(saved, shared):
    """Questions of other lengths behind two pictures, with answers as one by one; each picture is looked at once."""
    policy = load_policy(ModelConfig(id="tiny:qwen3_5", device="cpu"), saved("qwen3_5"))
    prompt = PROMPT.bound(policy.processor)
    chats = [with_images(prompt.messages(example), one(example)) for example in shared]
    expected = [complete_chats(policy, [chat], max_new_tokens=8, temperature=0.0)[0] for chat in chats]
    assert why_not_shared(policy, prompt) is None
    looked = []
    policy.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: looked.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    settings = Generation(max_new_tokens=8, batch_size=4)
    assert [c for [c] in generate(policy, PROMPT, shared, settings, images=one)] == expected
    assert sum(looked) == 2 + 1  # and the first prompt once more to verify


def test_pictures_are_the_same_when_their_pixels_are(policy, examples):
    """As on the blank control, whose pictures are made anew for each example."""
    found, _ = of(policy, examples, lambda example: [Image.new("L", (40, 30), 128)])
    assert len({ask.stem for ask in found}) == 1
    shades = {example.id: shade for shade, example in enumerate(examples)}
    found, _ = of(policy, examples, lambda example: [Image.new("L", (40, 30), shades[example.id])])
    assert len({ask.stem for ask in found}) == 6


def test_seeds_belong_to_the_example_and_the_sample(policy, shared):
    first = {shared[ask.number].id: ask.samples for ask in of(policy, shared, one, samples=3)[0]}
    again = {shared[2:][ask.number].id: ask.samples for ask in of(policy, shared[2:], one, samples=3)[0]}
    assert again.items() <= first.items()
    assert len({seed for samples in first.values() for _, seed in samples}) == 18


def test_a_template_with_the_question_first_is_read_whole_and_said_so(policy, shared):
    template = policy.processor.chat_template
    first, last = template.index("{%- for block"), template.index("{%- endfor -%}{%- endif -%}")
    loop = template[first:last]
    text = loop.replace("<image>", "")
    images = loop.replace("{{ block.text }}", "")
    policy.processor.chat_template = template[:first] + text + "{%- endfor -%}" + images + template[last:]
    assert "before the picture" in why_not_shared(policy, PROMPT.bound(policy.processor))
    with pytest.warns(UserWarning, match="read whole, one by one: the chat template puts the question before"):
        found = generate(policy, PROMPT, shared, Generation(max_new_tokens=5), images=one)
    prompt = PROMPT.bound(policy.processor)
    chats = [with_images(prompt.messages(example), one(example)) for example in shared]
    assert [c for [c] in found] == complete_chats(policy, chats, max_new_tokens=5, temperature=0.0)


@pytest.mark.parametrize(
    "error", [TypeError("no such argument"), KeyError("image_grid_thw"), NotImplementedError("mask")]
)
@pytest.mark.parametrize("calls", [0, 2])
def test_an_error_of_a_models_own_code_leaves_the_rest_to_the_plain_way(
    policy, shared, monkeypatch, tmp_path, error, calls
):
    plain = refill.continue_rows
    left = iter(range(calls))

    def fails(*args):
        if next(left, None) is None:
            raise error
        return plain(*args)

    prompt = PROMPT.bound(policy.processor)
    chats = [with_images(prompt.messages(example), one(example)) for example in shared]
    expected = complete_chats(policy, chats, max_new_tokens=5, temperature=0.0)
    monkeypatch.setattr(refill, "continue_rows", fails)
    with pytest.warns(UserWarning, match=rf"prompts are read whole, one by one: {type(error).__name__}.*fallbacks.log"):
        answers = stream_completions(
            policy, PROMPT, shared, Generation(max_new_tokens=5), images=one, faults=tmp_path / "fallbacks.log"
        )
        found = dict(answers)
    assert [found[number][0] for number in range(len(shared))] == expected
    assert "Traceback (most recent call last)" in (tmp_path / "fallbacks.log").read_text()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), StrictError("an image has vanished")])
def test_what_the_plain_way_cannot_mend_is_raised(policy, shared, monkeypatch, error):
    def fails(*args):
        raise error

    monkeypatch.setattr(refill, "continue_rows", fails)
    with pytest.raises(type(error)):
        generate(policy, PROMPT, shared, Generation(max_new_tokens=5), images=one)
