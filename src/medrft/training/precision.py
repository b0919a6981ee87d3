"""Which dtype each part of a training has: a recipe goes in, a `Precision` comes out, and the model is changed to it.

`model.dtype` is what the model computes in (`auto`: what its checkpoint is saved in): forward passes, the reference
model, evaluation, curation, vLLM, and the final folder. `model.master_dtype` is what the trained weights are kept in.
bfloat16 keeps 8 significant bits, so that at small learning rates almost every update is rounded away. float32 keeps
the updates, and autocast still computes in `model.dtype`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medrft.config import ModelConfig
from medrft.errors import DataError, RecipeError
from medrft.files import describe_file, find_flaw, scratch_folder

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of one number."""
FP32, BF16, FP16 = BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The dtype of each part, by torch's names."""

    compute: str
    """Matrix products of training, evaluation and the reference model."""
    trained: str
    """Weights that the optimizer changes: all that are not frozen, or with LoRA the adapters. Their gradients and
    each of the optimizer's two moments (AdamW) have the same dtype."""
    frozen: str
    """Weights that stay as they are: frozen parts, and with LoRA the whole base."""
    reference: str | None
    """The reference model's weights; `None` if there is no model of its own (`beta` 0, LoRA, SFT)."""
    saved: str
    """Weights in the final folder."""
    autocast: str | None
    """What torch's autocast computes in; `None` if it is off."""

    @property
    def bytes_per_trained(self) -> int:
        """Bytes that one trained weight costs with AdamW: itself, its gradient, two moments."""
        return 4 * BYTES[self.trained]

    def as_json(self) -> dict[str, Any]:
        """For the stage's record."""
        return asdict(self)


def find_precision(
    model: ModelConfig, trl: Mapping[str, Any], *, kind: str, checkpoint: str, mixed: str | None = None
) -> Precision:
    """The dtypes of a stage, from the recipe and the dtype its start model is saved in (`checkpoint`).

    `trl` is the stage's table, `kind` is `sft` or `grpo`, and `mixed` is the launcher's `mixed_precision` (`bf16`,
    `fp16`), which holds if the table says nothing. With bfloat16 as compute dtype (`auto` on a bfloat16 checkpoint, or
    `dtype: bfloat16`), N trained and M frozen weights and a reference model of R weights, a stage holds:

        full fine-tuning, master_dtype float32      16 N + 2 M + 2 R bytes
        full fine-tuning, master_dtype bfloat16      8 N + 2 M + 2 R bytes
        LoRA (N are the adapters', M the base)       16 N + 2 M bytes, and no reference model of its own

    An 8-bit optimizer has moments of one byte each. FSDP2 and ZeRO-3 divide all of it by the number of processes
    (AdamW's state under ZeRO-3 is always float32). A frozen part has the compute dtype; it is float32 if the trained
    weights are and there is no autocast to bridge the difference. A reference model that moves (`sync_ref_model`) has
    the dtype of the trained weights. Raises `RecipeError` for master weights of lower precision than the compute dtype.

    >>> found = find_precision(ModelConfig(id="m"), {"beta": 0.04}, kind="grpo", checkpoint="bfloat16")
    >>> found.trained, found.reference, found.saved, found.autocast, found.bytes_per_trained
    ('float32', 'bfloat16', 'bfloat16', 'bfloat16', 16)
    >>> lora = find_precision(ModelConfig(id="m", lora={"r": 8}), {}, kind="sft", checkpoint="bfloat16")
    >>> lora.trained, lora.frozen
    ('float32', 'bfloat16')
    >>> set(find_precision(ModelConfig(id="m"), {}, kind="sft", checkpoint="float32").as_json().values()) - {None}
    {'float32'}
    """
    compute = checkpoint if model.dtype == "auto" else model.dtype
    if compute == FP32 and model.master_dtype != FP32:
        raise RecipeError(
            f"model.master_dtype is {model.master_dtype}, but the model computes in float32, and weights of less would "
            "lose what it computes; take model.master_dtype out, or set model.dtype: bfloat16"
        )
    autocast = _autocast(trl, compute, mixed)
    whole = model.master_dtype == FP32
    frozen = FP32 if whole and autocast is None else compute
    own = kind == "grpo" and bool(trl.get("beta", 0.0)) and model.lora is None
    moves = whole and (autocast is None or trl.get("sync_ref_model"))
    return Precision(
        compute=compute,
        trained=FP32 if whole or model.lora is not None else compute,  # peft keeps adapters in float32
        frozen=frozen,
        reference=(FP32 if moves else compute) if own else None,
        saved=compute,
        autocast=autocast,
    )


def _autocast(trl: Mapping[str, Any], compute: str, mixed: str | None) -> str | None:
    """What the stage's table says, or else the launcher, or else the compute dtype if it is not float32."""
    if trl.get("bf16"):
        return BF16
    if trl.get("fp16"):
        return FP16
    if trl.get("bf16") is not None:
        return None
    launched = {"bf16": BF16, "fp16": FP16}.get(mixed or "")
    return launched or (None if compute == FP32 else compute)


def launched_precision() -> str | None:
    """The `mixed_precision` of `accelerate launch`; `None` if it did not launch this process or sets none."""
    return os.environ.get("ACCELERATE_MIXED_PRECISION") or None


def dtype_name(model: Any) -> str:
    """The dtype that a model was loaded in; if its parts differ, the one that most weights have."""
    sizes: dict[str, int] = {}
    for parameter in model.parameters():
        if parameter.is_floating_point():
            name = str(parameter.dtype).removeprefix("torch.")
            sizes[name] = sizes.get(name, 0) + parameter.numel()
    return max(sizes, key=lambda name: sizes[name])


def raise_masters(model: Any, precision: Precision, *, lora: bool) -> dict[str, Any]:
    """Raise weights to the dtype that training keeps them in, in place; returns the dtype that each had, by its name.

    With LoRA the base is frozen, and peft makes the adapters, in float32. Weights are changed one by one, so that no
    second model is held. No weight is ever lowered, as some classes insist on float32 for a few.
    """
    import torch

    before = {}
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point():
            continue
        before[name] = parameter.dtype
        trained = parameter.requires_grad and not lora
        wanted = getattr(torch, precision.trained if trained else precision.frozen)
        # By `.data`, so that the parameter stays the same object: tied weights stay tied. `model.to(dtype)` would also
        # change buffers, and lower what a class keeps in float32 (`_keep_in_fp32_modules_strict`).
        if wanted.itemsize > parameter.dtype.itemsize:
            parameter.data = parameter.data.to(wanted)
    return before


def lower_masters(model: Any, before: Mapping[str, Any]) -> None:
    """Give the weights back the dtype that they had (`before`), in place, for the final folder."""
    for name, parameter in model.named_parameters():
        if name in before:
            parameter.data = parameter.data.to(before[name])


def save_masters(model: Any, before: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """Write the weights that `lower_masters` will round, for a later stage to start from.

    Returns size and hash of the file; `None`, and no file, if no weight was raised.
    """
    from safetensors.torch import save_file

    path.unlink(missing_ok=True)
    raised = {
        name: parameter.data.contiguous()
        for name, parameter in model.named_parameters()
        if parameter.dtype != before.get(name, parameter.dtype)
    }
    if not raised:
        return None
    with scratch_folder(path) as folder:
        save_file(raised, folder / path.name)
        os.replace(folder / path.name, path)
    return describe_file(path)


def restore_masters(model: Any, path: Path, listed: Mapping[str, Any]) -> None:
    """Give the model's weights the values that `save_masters` kept, in place and one by one.

    Raises `DataError` for a file that is not as it was written.
    """
    from safetensors import safe_open

    flaw = find_flaw(path.parent, {path.name: listed}, content=True) if listed else "stage.json does not list it"
    if flaw is not None:
        raise DataError(
            f"{path} is damaged: {flaw}; delete it to start from the rounded weights of the folder beside it"
        )
    parameters = dict(model.named_parameters())
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  (it is no mapping)
            parameters[name].data.copy_(file.get_tensor(name))
