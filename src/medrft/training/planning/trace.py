"""Counts the memory that a training step takes beyond weights, gradients and optimizer, by running it on a sketch.

In go a sketched model (`models.sketch`: shapes without numbers), one prompt and the load of a step, such as 16
completions of 256 tokens in groups of 8; out come bytes at the peak. A step is run with a few layers (blocks) of every
stack, and again with one more of each kind: a hybrid model has layers of linear and of full attention. Each further
layer of a kind costs as much again, so the peak of the whole model is known in a second or two. Peaks are taken by
phase. An update has the forward pass, the backward pass through the text model, and that through the vision tower;
rollouts have the vision tower, the prompts, and the last token.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from medrft.models.cascade import ROOM, Rows, continue_rows, read_stems
from medrft.models.encode import widen_inputs
from medrft.models.prefix import packed_inputs, plain_model, take_rows_apart
from medrft.models.sampler import look_up
from medrft.models.sketch import Sketch, block_kinds, block_stacks, cut_to, set_dtypes, without_notices
from medrft.training.sharing.groups import cut_groups

FEW = 2
"""How many blocks of each stack are run; where kinds take turns, one of each."""


@dataclass(frozen=True, kw_only=True)
class PromptInputs:
    """One prompt as the model takes it."""

    ids: torch.Tensor
    """Token ids, image tokens among them, (1, P)."""
    fields: dict[str, torch.Tensor]
    """Its images' inputs, and token types (1, P)."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one device computes at a time."""

    kind: str
    """`sft` or `grpo`."""
    rows: int
    """Completions (or SFT examples) of one forward and backward pass."""
    group: int = 1
    """How many completions a prompt has."""
    completion: int = 0
    """Tokens of each completion; in SFT, of the answer."""
    checkpointing: bool = True
    shared: bool = True
    """Whether a group's prompt is computed only once."""
    written: int = 0
    """Completions of a generation batch on one process."""
    together: int | None = None
    """Completions written at a time in rollouts whose prompts are shared, at most; all by default."""
    autocast: bool = True
    """Whether matrix products are in bfloat16."""
    trained: str = "float32"
    """The dtype of trained weights in a pass; sharded ones arrive in the compute dtype."""
    frozen: str = "float32"


def update_peak(model: Any, sketch: Sketch, ask: PromptInputs, load: Load) -> int:
    """Bytes at the peak of forward and backward pass, beyond weights and gradients.

    Gradients are there from the start, as from the second micro-batch of a step on. The bfloat16 copies of weights
    that autocast makes are counted.
    """
    set_dtypes(model, sketch, trained=getattr(torch, load.trained), frozen=getattr(torch, load.frozen))
    prepare_model(model, load)

    def step() -> None:
        with sketch, without_notices():
            for weight in model.parameters():
                weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
            gc.collect()  # what is left of an earlier pass would be freed within this one
            held = sketch.live
            sketch.peaks.clear()
            sketch.begin("forward")
            with _autocast(load):
                loss = _forward(model, sketch, ask, load)
            sketch.begin("backward")
            loss.backward()
            del loss
        sketch.peaks = {phase: peak - held for phase, peak in sketch.peaks.items()}
        for weight in model.parameters():
            weight.grad = None

    return _at_full_depth(model, sketch, step)


def rollout_peak(model: Any, sketch: Sketch, ask: PromptInputs, load: Load) -> int:
    """Bytes at the peak of writing completions, beyond the weights: keys, values and the pass itself.

    Autocast's bfloat16 copies of the weights are counted: they are kept from the first token to the last
    (`SharesPrompts._writing`).
    """
    set_dtypes(model, sketch, trained=getattr(torch, load.trained), frozen=getattr(torch, load.frozen))
    model.eval()
    count, group = (min(load.written, load.together or load.written), load.group) if load.shared else (load.written, 1)
    every = max(1, load.written // group)
    prompts = min(every, -(-count // group))
    # Those that take longest may each be of another group, and the next group's prompt is held, too.
    kept = min(every, count + 1)

    def write() -> None:
        ids = ask.ids.expand(prompts, -1)
        fields = repeat_inputs(ask.fields, prompts)
        with sketch, without_notices(), torch.no_grad(), _autocast(load):
            gc.collect()  # what is left of an earlier pass would be freed within this one
            held = sketch.live
            sketch.peaks.clear()
            sketch.begin("look")
            places = sorted(row % kept for row in range(count))
            read_begins = _watch_text(model, lambda given: sketch.begin("read"))
            stems, logits = read_stems(model, ids, torch.ones_like(ids), fields)
            read_begins.remove()
            if kept > prompts:
                stems = stems.take(torch.arange(kept) % prompts)
            rows = Rows(torch.zeros(len(places), dtype=torch.long))
            rows.settle(stems, places)
            # Buffers are largest where they have grown for the last time (`Rows._extended` grows by ROOM and a token).
            rows.now = (ROOM + 1) * ((load.completion - 1) // (ROOM + 1))
            sketch.begin("write")
            logits = continue_rows(model, rows, torch.zeros(len(places), 1, dtype=torch.long))
            scores = logits.to(torch.float32, copy=True) / 0.7
            look_up(scores, torch.zeros(len(places), dtype=torch.float64))
            del logits, scores, rows, stems
        sketch.peaks = {phase: peak - held for phase, peak in sketch.peaks.items()}

    return _at_full_depth(model, sketch, write)


def _at_full_depth(model: Any, sketch: Sketch, step: Callable[[], None]) -> int:
    """The highest peak of any phase at full depth; each phase is a linear function of the blocks of each kind."""
    gc.collect()
    gc.freeze()  # `gc.collect` in each pass then skips all objects that are there already
    try:
        return _extended(model, sketch, step)
    finally:
        gc.unfreeze()


def _extended(model: Any, sketch: Sketch, step: Callable[[], None]) -> int:
    stacks = block_stacks(model)
    kinds = [(name, numbers) for name, stack in stacks.items() for numbers in block_kinds(stack)]
    mixed = {name for name, numbers in kinds if len(numbers) < len(stacks[name])}
    few = [1 if name in mixed else min(len(numbers), _needed(model, name)) for name, numbers in kinds]

    def peaks(counts: list[int]) -> dict[str, int]:
        blocks: dict[str, list[int]] = {name: [] for name in stacks}
        for (name, numbers), count in zip(kinds, counts, strict=True):
            # Where kinds take turns the last ones are run, so that the backward pass begins as it does at full depth.
            blocks[name] += numbers[-count:] if name in mixed else numbers[:count]
        with cut_to(model, {name: sorted(numbers) for name, numbers in blocks.items()}):
            step()
        return dict(sketch.peaks)

    first = peaks(few)
    total = dict(first)
    for kind, (_, numbers) in enumerate(kinds):
        left = len(numbers) - few[kind]
        if not left:
            continue
        more = peaks([count + (other == kind) for other, count in enumerate(few)])
        for phase in total:
            total[phase] += (more[phase] - first[phase]) * left
    return max(total.values())


def _needed(model: Any, name: str) -> int:
    """How many blocks of a stack must be run: in Qwen3-VL all that hand features to the text model, and one more."""
    parent = model.get_submodule(name.rpartition(".")[0])
    taken = getattr(parent, "deepstack_visual_indexes", None)
    return max(taken) + 2 if taken else FEW


def prepare_model(model: Any, load: Load) -> None:
    """Put the model into training mode, with or without gradient checkpointing, ready for packed rows if it shares."""
    model.train()
    inner = plain_model(model)
    with without_notices():
        if load.checkpointing:
            inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        elif inner.is_gradient_checkpointing:
            inner.gradient_checkpointing_disable()
    if load.checkpointing and inner is not model:
        inner.enable_input_require_grads()
    if load.kind == "grpo" and load.shared:
        take_rows_apart(model)


def _autocast(load: Load) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if load.autocast else nullcontext()


def _forward(model: Any, sketch: Sketch, ask: PromptInputs, load: Load) -> torch.Tensor:
    """The loss. Once the backward pass has reached the text model's input, the phase "images" begins."""

    def mark(given: torch.Tensor) -> None:
        if given.requires_grad:
            given.register_hook(lambda grad: sketch.begin("images"))

    watch = _watch_text(model, mark)
    try:
        return forward_loss(model, ask, load)
    finally:
        watch.remove()


def forward_loss(model: Any, ask: PromptInputs, load: Load) -> torch.Tensor:
    """The loss of one micro-batch as the trainers compute it; the completions repeat one token.

    The model must have been through `prepare_model`.
    """
    written = torch.ones(load.rows, load.completion, dtype=torch.long, device=ask.ids.device)
    ids = torch.cat([ask.ids.expand(load.rows, -1), written], 1)
    if load.kind == "grpo":
        return -completion_logps(model, ids, ask, load).mean()
    loss: torch.Tensor = _plain(model, ids, ask, load).loss
    return loss


def completion_logps(model: Any, ids: torch.Tensor, ask: PromptInputs, load: Load) -> torch.Tensor:
    """Log-probabilities of the completions in `ids`, (B, P + C), as GRPO computes them, (B, C); see `prepare_model`."""
    if load.shared:
        return _shared_logps(model, ids, ask, load)
    logps: torch.Tensor = _plain(model, ids, ask, load).log_probs
    return logps[:, -load.completion :]


def _plain(model: Any, ids: torch.Tensor, ask: PromptInputs, load: Load) -> Any:
    """What the model with TRL's head returns of rows that have their prompts each."""
    labels = ids.clone()
    labels[:, : ask.ids.shape[1]] = -100
    fields = repeat_inputs(widen_inputs(ask.fields, after=load.completion), load.rows)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), **fields, labels=labels, fused_lm_head=True)


def _shared_logps(model: Any, ids: torch.Tensor, ask: PromptInputs, load: Load) -> torch.Tensor:
    """Log-probabilities by groups that are packed into rows."""
    size = min(load.group, load.rows)
    groups = [row // size for row in range(load.rows)]
    places = cut_groups(model, groups, prompt=ask.ids.shape[1], completion=load.completion)
    fields = repeat_inputs(ask.fields, len(set(places)))
    packed, inputs = packed_inputs(
        model,
        ids,
        torch.ones_like(ids),
        torch.tensor(places, device=ids.device),
        fields,
        completion=load.completion,
        fill=0,
    )
    return packed.unpack(model(**inputs, fused_lm_head=True).log_probs)


def repeat_inputs(fields: dict[str, torch.Tensor], times: int) -> dict[str, torch.Tensor]:
    """The inputs of `times` equal prompts."""
    return {key: torch.cat([value] * times) for key, value in fields.items()}


def _watch_text(model: Any, told: Callable[[torch.Tensor], None]) -> Any:
    """Call `told` with the embeddings that the text model gets, images included; returns the hook's handle."""

    def watch(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        given = kwargs.get("inputs_embeds")
        if isinstance(given, torch.Tensor):
            told(given)

    return plain_model(model).get_decoder().register_forward_pre_hook(watch, with_kwargs=True)
