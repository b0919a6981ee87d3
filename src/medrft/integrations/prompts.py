"""The completion in a text that still begins with its prompt, as OpenRLHF and remote reward servers get it.

query   "<|im_start|>user <|pad|><|pad|>Is there a fracture?<|im_end|>No.<|im_end|>"
prompt  "<|im_start|>user <|pad|>Is there a fracture?<|im_end|>"      the image token not yet expanded
"""

from __future__ import annotations

import re

SPECIAL = re.compile(r"<\|[^<>|]{1,60}\|>|<[A-Za-z_]{2,30}>|\[[A-Z_]{3,20}\]")
"""Tokens such as `<|image_pad|>`, `<image>`, `[IMG]`: one in the prompt may stand any number of times in the query."""
TAIL = 40
"""Characters by which a prompt is known where its beginning differs."""
ENDS = re.compile(r"(?:\s*(?:<\|(?:im_end|endoftext|eot_id|end_of_text|end)\|>|<end_of_turn>|</s>|<eos>|<pad>))+\s*\Z")


def completion_in(query: str, prompt: str) -> str:
    """What was written after the prompt, without the tokens that end it; a query without the prompt is all of it.

    >>> prompt = "<|im_start|>user <|pad|>Is there a fracture?<|im_end|>"
    >>> completion_in("<|im_start|>user <|pad|><|pad|>Is there a fracture?<|im_end|>No.<|im_end|>", prompt)
    'No.'
    """
    pieces = [f"(?:{re.escape(piece)})+" if i % 2 else re.escape(piece) for i, piece in enumerate(_split(prompt))]
    found = re.match("".join(pieces), query)
    if found is None and len(prompt) > TAIL and prompt[-TAIL:] in query:  # a tokenizer may spell the beginning anew
        return ENDS.sub("", query.partition(prompt[-TAIL:])[2])
    return ENDS.sub("", query[found.end() :] if found else query)


def _split(prompt: str) -> list[str]:
    """Text and special tokens in turn."""
    parts: list[str] = []
    at = 0
    for match in SPECIAL.finditer(prompt):
        parts += [prompt[at : match.start()], match[0]]
        at = match.end()
    return [*parts, prompt[at:]]
