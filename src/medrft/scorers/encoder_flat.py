"""From strings of many lengths to one pass of a BERT-like model without padding: their tokens are laid end to end.

Except for attention, everything in such a model looks at one token at a time. So all tokens of a batch go through its
matrix products together, and attention is computed within each string, for all strings of one length at once. Short
answers spend most of their time on padding and on the number of calls, and this saves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from medrft.errors import naming_extras

with naming_extras("encoder"):
    import torch


NAME = "medrft_runs"
"""The name under which our attention is registered with transformers."""
POSITION_OFFSET = {"bert": 0, "roberta": 1, "xlm-roberta": 1, "camembert": 1}
"""Model types whose positions we know. 0: they are counted from 0; 1: from the padding id plus 1."""


class Run(NamedTuple):
    """Strings of one length that lie side by side: `rows` strings of `length` tokens, from `start` on."""

    start: int
    rows: int
    length: int

    @property
    def span(self) -> slice:
        """The places of its tokens."""
        return slice(self.start, self.start + self.rows * self.length)


def runs_of(lengths: Sequence[int]) -> list[Run]:
    """Runs of equal lengths, in order.

    >>> runs_of([3, 3, 5])
    [Run(start=0, rows=2, length=3), Run(start=6, rows=1, length=5)]
    """
    runs: list[Run] = []
    for length in lengths:
        if runs and runs[-1].length == length:
            runs[-1] = runs[-1]._replace(rows=runs[-1].rows + 1)
        else:
            runs.append(Run(runs[-1].span.stop if runs else 0, 1, length))
    return runs


def can_flatten(model: Any) -> bool:
    """Whether we know a model's positions and attention; if so, it is switched to our attention."""
    from transformers import AttentionInterface

    if model.config.model_type not in POSITION_OFFSET or model.config.is_decoder:
        return False
    if getattr(model.config, "position_embedding_type", None) not in (None, "absolute"):
        return False
    AttentionInterface.register(NAME, flat_attention)
    model.set_attn_implementation(NAME)
    model.pooler = None  # its output is never used, and it would take the first token of the whole batch
    return True


def flat_inputs(model: Any, rows: Sequence[Sequence[int]], runs: Sequence[Run], device: torch.device) -> dict[str, Any]:
    """Model inputs (1, T) for the token ids of strings sorted by length."""
    config = model.config
    first = (config.pad_token_id or 0) + 1 if POSITION_OFFSET[config.model_type] else 0
    positions = [first + place for ids in rows for place in range(len(ids))]
    ids = torch.tensor([[token for row in rows for token in row]], device=device)
    return {
        "input_ids": ids,
        "position_ids": torch.tensor([positions], device=device),
        "token_type_ids": torch.zeros_like(ids),
        "runs": runs,
    }


def flat_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    runs: Sequence[Run],
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each string; query, key and value are (1, heads, T, D), the result (1, T, heads, D)."""
    done = []
    for run in runs:
        parts = (
            tensor[0, :, run.span].unflatten(1, (run.rows, run.length)).transpose(0, 1)
            for tensor in (query, key, value)
        )
        seen = torch.nn.functional.scaled_dot_product_attention(*parts, scale=scaling)  # (rows, heads, length, D)
        done.append(seen.transpose(1, 2).flatten(0, 1))
    return torch.cat(done)[None], None
