"""Packs a group into one row: a batch of G completions of one prompt goes in, inputs with that prompt once come out.

    plain   prompt c1 | prompt c2 | … | prompt cG                 G images, G prompts
    packed  prompt[:-1]  [p c1[:-1]]  [p c2[:-1]]  …  [p cG[:-1]]    1 image, 1 prompt; p is the prompt's last token

Each branch sees the prompt and itself (a 4-D mask), and its positions continue where the prompt ends. Every token
therefore has the hidden state that it has in the plain layout. The logits of p and of the completion give the
completion's log-probabilities. Each branch has a p of its own because a position predicts one token, and the
completions begin with different ones. It is one plain `forward` without a cache, so gradient checkpointing and wrappers
around the model work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PARTS = "medrft_packed_rows"
"""The attention that takes packed rows apart (`packed_attention`), among transformers' implementations."""
ATTENTION = ("sdpa", "eager", "flex_attention")
"""Implementations of attention that take a mask of ours."""
SLIDING_IMAGES = ("gemma4", "gemma4_unified")
"""Families whose image tokens see their whole image in layers with a sliding window, and only there."""


@dataclass(frozen=True, slots=True)
class Lines:
    """R rows of L tokens, each a prompt followed by its branches."""

    ids: torch.Tensor
    """Token ids, (R, L)."""
    segments: torch.Tensor
    """0 for the prompt, 1, 2, … for its branches, -1 for filling, (R, L)."""
    depth: torch.Tensor
    """How many tokens come before each one in its own sequence, (R, L)."""
    lengths: torch.Tensor
    """Tokens of each prompt, (R,)."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One packed row per prompt, and where each completion's tokens stand in it."""

    lines: Lines
    targets: torch.Tensor
    """The token that each position predicts, -100 where none is scored, (R, L)."""
    leaders: torch.Tensor
    """The batch row that each prompt was taken from, (R,)."""
    source: torch.Tensor
    """Where the scored tokens stand in the flattened (R, L) rows, (N,)."""
    target: torch.Tensor
    """Where they stand in a flattened (B, C) tensor, (N,)."""
    shape: tuple[int, int]
    """(B, C): the number of completions, and the width they are padded to."""

    def unpack(self, values: torch.Tensor) -> torch.Tensor:
        """Values of packed positions, (R, L), as one row per completion, (B, C); 0 where no token was scored."""
        rows, width = self.shape
        flat = values.new_zeros(rows * width).index_copy(0, self.target, values.reshape(-1)[self.source])
        return flat.view(rows, width)


def pack_groups(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, groups: torch.Tensor, *, completion: int, fill: int
) -> Packed:
    """Lay the rows of each group out as branches of one row.

    `input_ids` and `attention_mask` are (B, P + C), prompts padded on the left and completions on the right;
    `groups` (B,) numbers each row's prompt; `completion` is C. Rows of a group need not stand side by side.
    Raises `ValueError` when rows of one group have different prompts.
    """
    import torch

    size = input_ids.shape[1] - completion
    mask = attention_mask.bool()
    lengths = mask[:, :size].sum(1).tolist()
    written = mask[:, size:].sum(1).tolist()
    numbers = groups.tolist()
    order = sorted(range(len(numbers)), key=lambda row: numbers[row])
    members = [list(rows) for _, rows in groupby(order, key=lambda row: numbers[row])]
    leaders = [rows[0] for rows in members]
    _same_prompts(input_ids[:, :size], mask[:, :size], members)
    width = max(lengths[rows[0]] - 1 + sum(written[row] for row in rows) for rows in members)
    count = len(members)
    ids = input_ids.new_full((count, width), fill)
    targets = input_ids.new_full((count, width), -100)
    segments = input_ids.new_full((count, width), -1)
    depth = input_ids.new_zeros((count, width))
    steps = torch.arange(input_ids.shape[1], device=input_ids.device)
    source, target = [], []
    for line, rows in enumerate(members):
        length = lengths[rows[0]]
        start = length - 1
        ids[line, :start] = input_ids[rows[0], size - length : size - 1]
        segments[line, :start] = 0
        depth[line, :start] = steps[:start]
        for branch, row in enumerate(rows, start=1):
            long = written[row]
            here = slice(start, start + long)
            ids[line, here] = input_ids[row, size - 1 : size - 1 + long]
            targets[line, here] = input_ids[row, size : size + long]
            segments[line, here] = branch
            depth[line, here] = length - 1 + steps[:long]
            source.append(line * width + start + steps[:long])
            target.append(row * completion + steps[:long])
            start += long
    return Packed(
        lines=Lines(ids, segments, depth, torch.tensor([lengths[row] for row in leaders], device=input_ids.device)),
        targets=targets,
        leaders=torch.tensor(leaders, device=input_ids.device),
        source=torch.cat(source),
        target=torch.cat(target),
        shape=(input_ids.shape[0], completion),
    )


def _same_prompts(prompts: torch.Tensor, mask: torch.Tensor, members: Sequence[Sequence[int]]) -> None:
    for rows in members:
        first = prompts[rows[0]], mask[rows[0]]
        if any(not (prompts[row].equal(first[0]) and mask[row].equal(first[1])) for row in rows[1:]):
            raise ValueError(f"rows {list(rows)} are of one group but have different prompts")


def packed_positions(lines: Lines, found: torch.Tensor | None) -> torch.Tensor:
    """Position ids: (R, L), or (3, R, L) if `found`, from `prompt_positions`, gives those of the prompts' tokens."""
    if found is None:
        return lines.depth
    in_prompt = found.gather(2, _slots(lines, found.shape[2]).expand(found.shape[0], -1, -1))
    beyond = found[:, :, -1:] + lines.depth - lines.lengths[:, None] + 1  # prompts are padded on the left
    return in_prompt.where(lines.segments == 0, beyond)


def _slots(lines: Lines, size: int) -> torch.Tensor:
    """The place of each prompt token among P = `size` tokens padded on the left, (R, L)."""
    return (size - lines.lengths[:, None] + lines.depth).clamp(max=size - 1)


def prompt_positions(model: Any, prompts: torch.Tensor, mask: torch.Tensor, fields: dict[str, Any]) -> Any:
    """Position ids of the prompts, (3, R, P), for models with M-RoPE; `None` for models that count tokens."""
    index = getattr(getattr(plain_model(model), "model", None), "get_rope_index", None)
    kinds = fields.get("mm_token_type_ids")
    if index is None or kinds is None or fields.get("image_grid_thw") is None:
        return None
    found, _ = index(prompts, mm_token_type_ids=kinds, image_grid_thw=fields["image_grid_thw"], attention_mask=mask)
    return found


def packed_masks(model: Any, lines: Lines, images: torch.Tensor | None = None) -> Any:
    """Which positions each position sees: one (R, 1, L, L) mask, or one per type of layer where a model has several.

    `images` (R, L) is for models whose image tokens see their whole image, in all layers (Gemma 3) or only in those
    with a sliding window (Gemma 4). It numbers the image that each position belongs to, -1 for text.
    """
    import torch

    config = text_config(model)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if config._attn_implementation == PARTS:
        return _layouts(model, kinds, lines, images)
    segments, depth = lines.segments, lines.depth
    width = segments.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    seen = segments[:, :, None] == segments[:, None, :]
    seen = causal & (seen | (segments == 0)[:, None, :])
    whole = seen
    if images is not None:
        whole = seen | ((images[:, :, None] == images[:, None, :]) & (images >= 0)[:, :, None])
    # transformers' `create_causal_mask` hands a 4-D mask on as it is, and models with several types of layers take a
    # dict of masks by type in place of one.
    full = _shape(config, seen if _family(model) in SLIDING_IMAGES else whole)
    if kinds == {"full_attention"}:
        return full
    found = {**dict.fromkeys(kinds), "full_attention": full}  # a layer of linear attention takes no such mask
    if "sliding_attention" in kinds:
        near = depth[:, None, :] > depth[:, :, None] - config.sliding_window
        found["sliding_attention"] = _shape(config, whole & near)
    return found


def _layouts(model: Any, kinds: set[str], lines: Lines, images: torch.Tensor | None) -> Any:
    """What `packed_masks` gives to `packed_attention`: the rows without their filling, end to end, (1, 1, 2 or 3, T).

    Windows are not in it: transformers tells each layer's attention its own.
    """
    import torch

    from medrft.models.packed_layout import packed_layout

    kept = lines.segments >= 0
    rows = torch.arange(len(kept), device=kept.device)[:, None].expand_as(kept)
    given = rows[kept], lines.segments[kept]
    whole = packed_layout(*given, None if images is None else images[kept])
    full = packed_layout(*given, None) if images is not None and _family(model) in SLIDING_IMAGES else whole
    if kinds == {"full_attention"}:
        return full
    return {**dict.fromkeys(kinds, whole), "full_attention": full, "sliding_attention": whole}


def _shape(config: Any, seen: torch.Tensor) -> Any:
    """A boolean (R, L, L) mask as the model's attention wants it."""
    import torch

    kind = config._attn_implementation
    if kind == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        size = seen.shape[-1]
        return create_block_mask(lambda b, h, q, k: seen[b, q, k], seen.shape[0], None, size, size, str(seen.device))
    if kind == "eager":  # `eager_attention_forward` adds its mask to the scores; sdpa takes booleans
        lowest = torch.finfo(config.dtype or torch.float32).min
        return torch.zeros_like(seen, dtype=config.dtype or torch.float32).masked_fill(~seen, lowest)[:, None]
    return seen[:, None]


def image_blocks(model: Any, types: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """The number of the image that each prompt token belongs to, -1 for text, (R, P).

    `None` for models whose image tokens do not see each other both ways. `types` are the prompt's token types, (R, P):
    Gemma 3 reads `token_type_ids` (1 is an image), Gemma 4 `mm_token_type_ids` (1 is an image, 2 a video) if its
    configuration says so.
    """
    import torch

    family, found = _family(model), None
    if family == "gemma3":
        found = types.get("token_type_ids")
    elif family in SLIDING_IMAGES and text_config(model).use_bidirectional_attention == "vision":
        found = types.get("mm_token_type_ids")
    if found is None:
        return None
    image = (found == 1) | ((found == 2) & (family in SLIDING_IMAGES))
    starts = image & ~torch.nn.functional.pad(image, (1, 0))[:, :-1]
    return torch.where(image, starts.cumsum(1) - 1, -1)


def branches_per_row(model: Any, *, prompt: int, completion: int, size: int) -> int:
    """How many of a group's `size` completions one packed row should hold, by the number of operations.

    It is all of them unless they are long: under a dense mask, attention between branches is computed too and thrown
    away. With hidden width h and an MLP of width m, a layer costs 2 L (4 h^2 + 3 h m) + 4 L^2 h for a row of L tokens.
    """
    config = text_config(model)
    if config._attn_implementation in ("flex_attention", PARTS):  # neither computes what no token sees
        return size
    width = int(config.hidden_size)
    token = 2 * (4 * width**2 + 3 * width * int(config.intermediate_size))

    def cost(held: int) -> int:
        long = prompt + held * completion
        return -(-size // held) * (long * token + 4 * width * long**2)

    return min(range(size, 0, -1), key=cost)


def spread_values(lines: Lines, values: torch.Tensor, *, rest: int) -> torch.Tensor:
    """Values of prompt tokens, (R, P) padded on the left, at their places in the rows, (R, L); `rest` elsewhere."""
    return values.gather(1, _slots(lines, values.shape[1])).where(lines.segments == 0, rest)


def text_config(model: Any) -> Any:
    """The configuration of the language model inside a vision-language model."""
    return plain_model(model).config.get_text_config()


def _family(model: Any) -> str:
    return str(plain_model(model).config.model_type)


def plain_model(model: Any) -> Any:
    """The model inside wrappers (DDP, FSDP) and adapters (peft)."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def why_not_shareable(model: Any, *, rollouts: bool = False) -> str | None:
    """Why a model cannot share a prompt at all; `None` if it may, which a comparison must then confirm.

    Rollouts bring their own attention. All other passes need an attention that takes a mask of ours.
    """
    from medrft.models.layer_state import RECURRENT, why_no_states

    config = text_config(model)
    others = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if others - set(RECURRENT):
        return f"the model has layers of type {', '.join(sorted(others))}"
    if getattr(config, "cross_attention_layers", None):
        return "the model looks at images in cross-attention layers, not among its tokens"
    if others and not rollouts and config._attn_implementation not in ("sdpa", PARTS):
        kinds = ", ".join(sorted(others))
        return f"layers of type {kinds} take packed rows apart beside sdpa, not beside {config._attn_implementation}"
    if others and (why := why_no_states(model, [kind for kind in config.layer_types if kind in RECURRENT])):
        return why
    if rollouts or rows_apart(model) or config._attn_implementation in ATTENTION:
        return None
    return f"attention {config._attn_implementation!r} sees no mask of ours; use one of {', '.join(ATTENTION)}"


def packed_inputs(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    groups: torch.Tensor,
    fields: dict[str, Any],
    *,
    completion: int,
    fill: int,
) -> tuple[Packed, dict[str, Any]]:
    """A packed batch, and the keyword arguments of the model's `forward` for it.

    Shapes are as in `pack_groups`. `fields` holds the multimodal inputs of one row per group (`Packed.leaders`), in
    the order of the groups' numbers. Token types among them are (R, P + C) or (R, P).
    """
    packed = pack_groups(input_ids, attention_mask, groups, completion=completion, fill=fill)
    size = input_ids.shape[1] - completion
    prompts, mask = input_ids[packed.leaders, :size], attention_mask[packed.leaders, :size]
    inputs = {**forward_inputs(model, packed.lines, prompts, mask, fields), "shift_labels": packed.targets}
    return _end_to_end(packed, inputs) if rows_apart(model) else (packed, inputs)


def _end_to_end(packed: Packed, inputs: dict[str, Any]) -> tuple[Packed, dict[str, Any]]:
    """The rows as a single one, (1, T), without what fills them to one length."""
    kept = (packed.lines.segments >= 0).flatten()
    found = {
        key: inputs[key].flatten(-2)[..., kept].unsqueeze(-2) for key in ("input_ids", "position_ids", "shift_labels")
    }
    return replace(packed, source=(kept.cumsum(0) - 1)[packed.source]), {**inputs, **found}


def take_rows_apart(model: Any) -> None:
    """Let the language model attend to packed rows part by part (`packed_attention`), if it attends by sdpa now.

    Its layers of linear attention take them apart too (`packed_recurrence`). Plain passes stay as they are. It holds
    until `keep_rows_whole`, and not only in the forward pass, because gradient checkpointing calls both again in the
    backward pass.
    """
    from medrft.models.packed_attention import register_attention
    from medrft.models.packed_recurrence import take_layers_apart

    config = text_config(model)
    if config._attn_implementation == "sdpa":
        register_attention(PARTS)
        config._attn_implementation = PARTS
        take_layers_apart(model)


def keep_rows_whole(model: Any) -> None:
    """Undo `take_rows_apart`: packed rows get a dense mask again."""
    from medrft.models.packed_recurrence import keep_layers_whole

    if rows_apart(model):
        text_config(model)._attn_implementation = "sdpa"
        keep_layers_whole(model)


def needs_rows_apart(model: Any) -> bool:
    """Whether no mask can keep branches apart, since a layer carries a state from each token to the next."""
    from medrft.models.layer_state import RECURRENT

    return bool(set(RECURRENT) & set(getattr(text_config(model), "layer_types", None) or []))


def rows_apart(model: Any) -> bool:
    """Whether attention takes packed rows apart."""
    return bool(text_config(model)._attn_implementation == PARTS)


def forward_inputs(
    model: Any, lines: Lines, prompts: torch.Tensor, mask: torch.Tensor, fields: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of `forward` for rows whose prompts are (R, P), padded on the left, with multimodal `fields`."""
    size = prompts.shape[1]
    types = {key: fields[key][:, :size] for key in TOKEN_TYPES if fields.get(key) is not None}
    given = {key: value for key, value in fields.items() if key not in TOKEN_TYPES and value is not None}
    blocks = image_blocks(model, types)
    return {
        "input_ids": lines.ids,
        "attention_mask": packed_masks(model, lines, None if blocks is None else spread_values(lines, blocks, rest=-1)),
        "position_ids": packed_positions(lines, prompt_positions(model, prompts, mask, {**given, **types})),
        **given,
    }


TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
"""Inputs with one value per token. A packed batch leaves them out: its masks and positions say the same."""
