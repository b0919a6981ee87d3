"""Finds tokens with a meaning of their own: a policy goes in, ids of image placeholders or end tokens come out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError

if TYPE_CHECKING:
    from medrft.models.policy import Policy

PICTURE_NAMES = re.compile(
    r"(^|_)(image|images|img|video|vision|visual|audio|media|patch|tile|frame|row|col|boi|eoi|boa|eoa|boq|eoq)(_|$)",
    re.I,
)
"""What configs, processors and tokenizers call a token that stands for pictures, video or sound (`image_token_id`)."""
PICTURE_TOKENS = re.compile(
    r"[<\[][^<>\[\]]*(image|img|video|vision|visual|audio|media_|patch|tile_|row_\d+_col)[^<>\[\]]*[>\]]", re.I
)
"""How such tokens are spelled (`<|image_pad|>`, `[IMG]`). Others are found by the names of attributes, above."""


def placeholder_ids(policy: Policy) -> tuple[int, ...]:
    """Token ids that stand for images, video or sound.

    A policy must not sample one: its next forward pass would look for the features of a picture and fail.
    """
    processor, tokenizer = policy.processor, policy.processor.tokenizer
    vocabulary = tokenizer.get_added_vocab()
    found: set[Any] = {number for token, number in vocabulary.items() if PICTURE_TOKENS.fullmatch(token)}
    for config in _configs(policy.model.config):
        found |= {
            value for name, value in config.to_dict().items() if _names_picture(name, ("_token_id", "_token_index"))
        }
    for owner in (processor, tokenizer):
        named = {**getattr(tokenizer, "special_tokens_map", {})} if owner is tokenizer else vars(owner)
        found |= {value for name, value in named.items() if _names_picture(name, ("_token_id",))}
        found |= {vocabulary.get(str(value)) for name, value in named.items() if _names_picture(name, ("_token",))}
    size = policy.model.get_output_embeddings().weight.shape[0]
    allowed = {*end_ids(policy), tokenizer.bos_token_id}
    kept = {number for number in found if isinstance(number, int) and not isinstance(number, bool)} - allowed
    return tuple(sorted(number for number in kept if 0 <= number < size))


def _names_picture(name: str, endings: tuple[str, ...]) -> bool:
    ending = next((ending for ending in endings if name.endswith(ending)), None)
    return ending is not None and PICTURE_NAMES.search(name.removesuffix(ending)) is not None


def _configs(config: Any) -> Iterator[Any]:
    """A config and those of its parts."""
    yield config
    for name in getattr(config, "sub_configs", {}):
        inner = getattr(config, name, None)
        if inner is not None and hasattr(inner, "to_dict"):
            yield from _configs(inner)


def image_token_id(policy: Policy) -> int | None:
    """The token that stands for a picture's features in a prompt; `None` if neither config nor processor names it."""
    names = ("image_token_id", "image_token_index", "media_placeholder_token_id")
    for owner in (*_configs(policy.model.config), policy.processor):
        for name in names:
            if isinstance(number := getattr(owner, name, None), int):
                return number
    token = getattr(policy.processor, "image_token", None)
    found: int | None = policy.processor.tokenizer.get_vocab().get(str(token))
    return found


def end_ids(policy: Policy) -> tuple[int, ...]:
    """Token ids that end a completion: the tokenizer's, and those in the model's generation config.

    Raises `ModelError` if there is none.
    """
    declared = getattr(policy.model.generation_config, "eos_token_id", None)
    found = {policy.processor.tokenizer.eos_token_id, *_listed(declared)} - {None}
    if not found:
        raise ModelError(f"{policy.id} names no end token; set eos_token in its tokenizer_config.json")
    return tuple(sorted(found))


def _listed(ids: Any) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def set_end_tokens(model: Any, processor: Any) -> None:
    """Let generation end where the model's configs or its chat template end a turn, besides the tokenizer's end token.

    A folder without generation_config.json names the end of text but not the end of a turn (Gemma's <end_of_turn>).
    """
    tokenizer, generation = processor.tokenizer, model.generation_config
    text = model.config.get_text_config()
    declared = [*_listed(generation.eos_token_id), *_listed(getattr(model.config, "eos_token_id", None))]
    ends = dict.fromkeys([*declared, *_listed(getattr(text, "eos_token_id", None))])
    closing = closing_ids(processor)
    if closing and not {*ends, tokenizer.eos_token_id}.intersection(closing):
        ends[closing[-1]] = None
    if set(ends) - {tokenizer.eos_token_id, *_listed(generation.eos_token_id)}:
        generation.eos_token_id = sorted({*ends, tokenizer.eos_token_id} - {None})


def closing_ids(processor: Any) -> list[int]:
    """The special tokens that the chat template writes right after the assistant's words."""
    tokenizer = processor.tokenizer
    from jinja2.exceptions import TemplateError

    turns = [
        {"role": role, "content": [{"type": "text", "text": said}]}
        for role, said in (("user", "Q"), ("assistant", "ANSWER"))
    ]
    try:
        text = str(processor.apply_chat_template(turns, tokenize=False))
    except TemplateError:  # a template that insists on pictures or on a system turn
        return []
    after = tokenizer(text.rpartition("ANSWER")[2], add_special_tokens=False)["input_ids"]
    return list(takewhile(special_ids(tokenizer).__contains__, after))


def special_ids(tokenizer: Any) -> set[int]:
    """Token ids that `skip_special_tokens` leaves out: tokens with a role (end, pad), and others marked as special."""
    marked = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return marked | set(tokenizer.all_special_ids)
