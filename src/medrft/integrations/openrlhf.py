"""OpenRLHF's `--reward.remote_url reward.py` with a reward of ours: two lines in that file.

    from medrft.integrations.openrlhf import make_reward_func
    reward_func = make_reward_func("armed_clinical", state="state.json")

OpenRLHF passes prompt and completion as one text, special tokens kept and image tokens expanded, one row a call and
from several threads. It logs an exception at info level and goes on without a reward, so failures are counted here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.errors import UserError
from medrft.integrations.foreign import ForeignReward
from medrft.integrations.rows import fields_of, items_of
from medrft.rewards.contracts import CONTRACTS
from medrft.types import Form

SPECIAL = re.compile(r"<\|[^<>|]{1,60}\|>|<[A-Za-z_]{2,30}>|\[[A-Z_]{3,20}\]")
"""Tokens such as `<|image_pad|>`, `<image>`, `[IMG]`: one in the prompt may stand any number of times in the query."""
TAIL = 40
"""Characters by which a prompt is known where its beginning differs."""
ENDS = re.compile(r"(?:\s*(?:<\|(?:im_end|endoftext|eot_id|end_of_text|end)\|>|<end_of_turn>|</s>|<eos>|<pad>))+\s*\Z")


def make_reward_func(
    reward: str | Path | Mapping[str, Any], *, form: Form = "think", unscored: float = 0.0, **settings: Any
) -> Callable[..., dict[str, Any]]:
    """The function `reward_func(queries, prompts, labels)` that OpenRLHF looks for; `settings` go to `ForeignReward`.

    A label is the reference, or a table as JSON with `reference`, `question`, `options` and `kind`.
    """
    held = ForeignReward(reward, rows=CONTRACTS["openrlhf"].rows, unscored=unscored, **settings)

    def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any) -> dict[str, Any]:
        import torch

        try:
            rows = [_row(held, *row, form=form) for row in zip(queries, prompts, labels, strict=True)]
        except UserError as error:
            held.counts["failed"] += len(queries)
            logging.getLogger("medrft").error("medrft: a reward call of %s rows failed: %s", len(queries), error)
            raise
        scores = torch.tensor([row["score"] for row in rows], dtype=torch.float32)
        logs = {name: torch.tensor([row[name] for row in rows]) for name in rows[0] if name != "score"} if rows else {}
        return {"rewards": scores, "scores": scores.clamp(0.0, 1.0), "extra_logs": logs}

    reward_func.held = held  # type: ignore[attr-defined]
    return reward_func


def _row(held: ForeignReward, query: str, prompt: str, label: Any, *, form: Form) -> dict[str, float]:
    columns = {key: [value] for key, value in fields_of(label).items()}
    return held.columns(held(items_of([completion_in(query, prompt)], columns, form=form))[0])


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
