"""Finds the completion in a text that still begins with its prompt, as OpenRLHF and remote reward servers pass it.

    query   "<|im_start|>user <|pad|><|pad|>Is there a fracture?<|im_end|>No.<|im_end|>"
    prompt  "<|im_start|>user <|pad|>Is there a fracture?<|im_end|>"

The processor repeats the image token in the query for each patch, so the prompt is not simply a prefix of it.
"""

from __future__ import annotations

import re

SPECIAL = re.compile(r"<\|[^<>|]{1,60}\|>|<[A-Za-z_]{2,30}>|\[[A-Z_]{3,20}\]")
"""Tokens such as `<|image_pad|>`, `<image>`, `[IMG]`; one in the prompt may be repeated any number of times."""
TAIL = 40
"""Last characters of a prompt by which its end is found if its beginning differs."""
ENDS = re.compile(r"(?:\s*(?:<\|(?:im_end|endoftext|eot_id|end_of_text|end)\|>|<end_of_turn>|</s>|<eos>|<pad>))+\s*\Z")


def completion_in(query: str, prompt: str) -> str:
    """The text after the prompt, without the tokens that end it; all of the query if the prompt is not in it.

    >>> prompt = "<|im_start|>user <|pad|>Is there a fracture?<|im_end|>"
    >>> completion_in("<|im_start|>user <|pad|><|pad|>Is there a fracture?<|im_end|>No.<|im_end|>", prompt)
    'No.'
    """
    pieces = [f"(?:{re.escape(piece)})+" if i % 2 else re.escape(piece) for i, piece in enumerate(_split(prompt))]
    found = re.match("".join(pieces), query)
    # Decoding the tokens of a prompt need not give its first characters again, but its end is nearly always the same.
    if found is None and len(prompt) > TAIL and prompt[-TAIL:] in query:
        return ENDS.sub("", query.partition(prompt[-TAIL:])[2])
    return ENDS.sub("", query[found.end() :] if found else query)


def _split(prompt: str) -> list[str]:
    """Text and special tokens by turns: text at even places, tokens at odd ones."""
    parts: list[str] = []
    at = 0
    for match in SPECIAL.finditer(prompt):
        parts += [prompt[at : match.start()], match[0]]
        at = match.end()
    return [*parts, prompt[at:]]
