"""For OpenAI-compatible servers: an example becomes the messages to send, a reply becomes a `Completion`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medrft.data.images import png_bytes
from medrft.endpoint import Reply
from medrft.models.prompts import Message, Prompt
from medrft.text import whole_characters
from medrft.types import Completion, Example


def conversation(prompt: Prompt, example: Example, pictures: Sequence[Any]) -> list[Message]:
    """The prompt's messages, with each picture as PNG inside an `image_url` block; PNG changes no pixel."""
    left = iter(pictures)
    return [
        {
            **message,
            "content": [
                _image_block(next(left)) if block["type"] == "image" else block for block in message["content"]
            ],
        }
        for message in prompt.messages(example)
    ]


def _image_block(picture: Any) -> dict[str, Any]:
    address = "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode("ascii")
    return {"type": "image_url", "image_url": {"url": address}}


def completion_of(reply: Reply, prompt: Prompt) -> Completion:
    """A reply as scorers must see it.

    If the server's template opens `<think>` by itself, the reply lacks that tag, and it is put back. Halves of
    characters (lone surrogates) cannot be written to a UTF-8 file, so they are replaced.
    """
    opened = "</think>" in reply.text and "<think>" not in reply.text
    text = replace(prompt, opened="<think>").finish(reply.text) if opened else reply.text
    return Completion(text=whole_characters(text), n_tokens=reply.completion_tokens, truncated=reply.finish == "length")
