"""Trains byte-level BPE tokenizers: texts go in, a tokenizer comes out, medrft's own or with a hub family's tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PAD, END = "<|pad|>", "<|end|>"
TURNS = ("<|system|>", "<|user|>", "<|assistant|>")
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""One token each, but not special: decoding keeps them."""


def train_tokenizer(texts: Iterable[str], *, vocab: int, extra: Mapping[str, str]) -> Any:
    """A byte-level BPE tokenizer of at most `vocab` tokens.

    A word is the same token after a tag as after a space, so that a model can copy it from its thought into its answer.
    Any text survives encoding and decoding, but for one space at its start or after a tag. `extra` names the family's
    own special tokens, such as `{"image_token": "<image>"}`.
    """
    from tokenizers import decoders

    tokenizer = _trained(texts, [PAD, END, *TURNS, *extra.values()], vocab=vocab - len(TAGS), spaced=True)
    unspaced = [decoders.Replace(f"{tag} ", tag) for tag in TAGS]
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0), *unspaced])
    _add_tags(tokenizer, TAGS)
    return _wrapped(tokenizer, pad=PAD, end=END, named=extra)


def train_hub_tokenizer(
    texts: Iterable[str],
    *,
    vocab: int,
    pad: str,
    end: str,
    begin: str | None = None,
    special: Sequence[str] = (),
    named: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
    template: str | None = None,
) -> Any:
    """A tokenizer of about `vocab` tokens with the special tokens of a hub family's checkpoints.

    `named` are tokens that a processor looks up by an attribute, such as `{"image_token": "<image>"}`. `tags` are
    single tokens that decoding keeps.
    """
    named = named or {}
    every = dict.fromkeys([pad, end, *([begin] if begin else []), *special, *named.values()])
    tokenizer = _trained(texts, list(every), vocab=vocab - len(tags), spaced=False)
    _add_tags(tokenizer, tags)
    found = _wrapped(tokenizer, pad=pad, end=end, named=named, begin=begin)
    found.chat_template = template
    return found


def train_qwen_tokenizer(
    texts: Iterable[str],
    *,
    vocab: int,
    template: str,
    special: Sequence[str] = ("<|im_start|>",),
    named: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
) -> Any:
    """A tokenizer with the tokens of Qwen's language models, which LLaVA-OneVision and InternVL use too."""
    return train_hub_tokenizer(
        texts,
        vocab=vocab,
        pad="<|endoftext|>",
        end="<|im_end|>",
        special=special,
        named=named,
        tags=tags,
        template=template,
    )


def _trained(texts: Iterable[str], special: list[str], *, vocab: int, spaced: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The tags are tokens of their own and must not be learned as text.
    between = re.compile("|".join(TAGS))
    tokenizer.train_from_iterator((part for text in texts for part in between.split(text) if part), trainer=trainer)
    return tokenizer


def _add_tags(tokenizer: Any, tags: Sequence[str]) -> None:
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])


def _wrapped(tokenizer: Any, *, pad: str, end: str, named: Mapping[str, str], begin: str | None = None) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=end,
        **({"bos_token": begin} if begin else {}),
        extra_special_tokens=dict(named),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1_000_000,
    )
