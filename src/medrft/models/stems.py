"""Plans shared prompts: examples go in, asks come out that share a stem with others about the same pictures.

A stem is the longest beginning that prompts about the same pictures have in common, if it holds all image tokens. The
pictures go through the image processor once. Each question's text goes through the processor's own template and
tokenizer, so that its tokens are those of a plain pass.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from medrft.models.encode import Images, to_device
from medrft.models.policy import Policy
from medrft.models.prefix import TOKEN_TYPES, why_not_shareable
from medrft.models.prompts import Prompt, render_chat, with_images
from medrft.models.refill import Ask, Stem
from medrft.models.tokens import placeholder_ids
from medrft.types import Example


def why_not_shared(policy: Policy, prompt: Prompt) -> str | None:
    """Why questions about one picture cannot share it, as far as that can be told before the model runs.

    `prompt` must be bound to the policy's processor.
    """
    told = why_not_shareable(policy.model, rollouts=True)
    if told is not None:
        return told
    example = Example(
        id="", dataset="", split="", images=(), question="Is it large?", references=("yes",), kind="closed"
    )
    # Two prompts with a picture that differ in the question alone. After the point where they part, there must be
    # nothing that a prompt without a picture lacks.
    plain, shown, other = (prompt.messages(example) for _ in range(3))
    for messages, text in ((shown, "Is it large?"), (other, "Which plane?")):
        content = messages[-1]["content"]
        content[-1] = {**content[-1], "text": content[-1]["text"].replace("Is it large?", text)}
        content.insert(0, {"type": "image"})
    texts = [render_chat(policy.processor, messages, generation=True) for messages in (shown, other)]
    end = texts[0][_shared(texts) :]
    if render_chat(policy.processor, plain, generation=True).endswith(end):
        return None
    return "the chat template puts the question before the picture"


def plan_asks(
    policy: Policy,
    prompt: Prompt,
    examples: Sequence[Example],
    images: Images,
    *,
    samples: int,
    seed: int,
    apart: list[int],
) -> Iterator[Ask]:
    """Yield the examples as asks, those about the same pictures together, long ones first; opens pictures as it goes.

    Adds to `apart` the numbers of examples that cannot share: part of their image tokens come after the common
    beginning.
    """
    for numbers in _groups(examples, images):
        texts = [prompt.messages(examples[i]) for i in numbers]
        pictures = images(examples[numbers[0]])
        encoded = _encoded(policy, [with_images(messages, pictures) for messages in texts])
        ids = [inputs["input_ids"][0].tolist() for inputs in encoded]
        # One token at least stays outside the stem: its logits are where an answer begins.
        size = min(_shared(ids), min(map(len, ids)) - 1)
        marks = set(placeholder_ids(policy))
        if size < 1 or any(marks.intersection(row[size:]) for row in ids):
            apart += numbers  # a row would hold image tokens, and only stems are read with pictures
            continue
        fields = {
            key: value[:, :size] if key in TOKEN_TYPES else value
            for key, value in to_device(policy, encoded[0]).items()
            if key not in ("input_ids", "attention_mask")
        }
        stem = Stem(ids[0][:size], fields)
        order = sorted(range(len(numbers)), key=lambda place: -len(ids[place]))
        for place in order:
            number = numbers[place]
            drawn = [(sample, seed_of(seed, examples[number].id, sample)) for sample in range(samples)]
            yield Ask(number, stem, ids[place][size:], drawn)


def _shared(rows: Sequence[Any]) -> int:
    """The length of the beginning that all rows have in common.

    >>> _shared(["abcd", "abe", "abc"]), _shared([[1, 2]])
    (2, 2)
    """
    # In dictionary order all other rows lie between the first and the last, so they share what these two share.
    first, last = min(rows), max(rows)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _groups(examples: Sequence[Example], images: Images) -> list[list[int]]:
    """Numbers of examples, grouped by their pictures; groups with most pictures and longest questions come first."""
    found: dict[tuple[str, ...], list[int]] = {}
    before: tuple[list[Any], tuple[str, ...]] = ([], ())
    for number in sorted(range(len(examples)), key=lambda i: examples[i].images):
        pictures = images(examples[number])
        # The same objects need not be hashed again: callers keep the pictures they have opened.
        if len(pictures) != len(before[0]) or any(a is not b for a, b in zip(pictures, before[0], strict=True)):
            before = (pictures, tuple(_digest(picture) for picture in pictures))
        found.setdefault(before[1] if pictures else (), []).append(number)
    groups = [sorted(numbers) for numbers in found.values()]
    return sorted(groups, key=lambda numbers: max(prompt_length(examples[i]) for i in numbers), reverse=True)


def prompt_length(example: Example) -> tuple[int, int]:
    """A measure of an example's prompt for sorting: the number of pictures, then of characters."""
    return (len(example.images), len(example.question) + sum(map(len, example.options)))


def _digest(picture: Any) -> str:
    return hashlib.sha256(repr((picture.mode, picture.size)).encode() + picture.tobytes()).hexdigest()


def seed_of(seed: int, example: str, sample: int) -> int:
    """A seed for one answer, which does not depend on what else is asked."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{example}\0{sample}".encode()).digest()[:7])


def _encoded(policy: Policy, chats: Sequence[list[dict[str, Any]]]) -> list[Any]:
    """Model inputs of chats about the same pictures, one chat at a time; the pictures are processed once."""
    with _processed_once(policy.processor):
        return [
            policy.processor.apply_chat_template(
                [chat], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            for chat in chats
        ]


@contextmanager
def _processed_once(processor: Any) -> Iterator[None]:
    """Inside, the image processor processes the first pictures it is given, and returns that result ever after."""
    inner = processor.image_processor
    plain = inner.preprocess
    kept: list[Any] = []

    def preprocess(*args: Any, **kwargs: Any) -> Any:
        if not kept:
            kept.append(plain(*args, **kwargs))
        return copy.copy(kept[0])  # processors take keys out of it

    # An attribute of the object hides the method of its class; deleting it brings the method back.
    inner.preprocess = preprocess
    try:
        yield
    finally:
        del inner.preprocess
