"""Bytes that a stage holds on each GPU: a `Setting` and the shape of its model go in, a `Memory` comes out.

It is known for each way of spreading the stage (one GPU, DDP, FSDP2, ZeRO-3), and split into weights, gradients,
optimizer, activations and so on; its `peak` is compared with what a GPU has. Each part has the dtype that training
gives it (`precision`). What a step keeps beside the weights is counted by running it on a sketched model (`trace`), so
that no weights are loaded.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from medrft.config import Recipe
from medrft.errors import ModelError
from medrft.models.faults import UNFIT_INPUTS
from medrft.models.parts import freeze_parts, lora_config
from medrft.models.policy import make_checkpointable
from medrft.models.prefix import plain_model
from medrft.models.prompts import get_prompt
from medrft.models.shapes import Shape, picture_inputs
from medrft.models.sketch import Sketch, block_stacks, sketch_model, use_flash_in_windows, without_notices
from medrft.training.planning.trace import Load, PromptInputs, rollout_peak, update_peak
from medrft.training.precision import BYTES, Precision

Way = Literal["one GPU", "DDP", "FSDP2", "ZeRO-3"]
WAYS: tuple[Way, ...] = ("one GPU", "DDP", "FSDP2", "ZeRO-3")
RESERVE = 1.5 * 2**30
"""Bytes for CUDA, its libraries and NCCL: assumed, not measured."""
FRAGMENTS = 0.05
"""Share of a step's memory that is lost to fragmentation: assumed, not measured."""
LIVE = 10**9
"""Parameters that ZeRO-3 may hold gathered (DeepSpeed's `stage3_max_live_parameters`)."""
STATES = {"adamw_torch": 8.0, "adamw_torch_fused": 8.0, "sgd": 0.0, "adafactor": 0.1, "lion_32bit": 4.0}
"""Bytes of optimizer state for each trained float32 parameter; 8 for an optimizer that is not named here."""
LORA = {"r": 16, "lora_alpha": 32}
"""The adapters that a plan proposes for a recipe without any."""
QUESTION = "Which of these findings does the image show, and on which side of the patient does it lie?"
"""The question in the prompt that a processor is given, with a picture of the largest size."""
QUESTION_TOKENS, TOKENS_PER_WORD = 40, 1.5
"""Tokens of a question with its options, and per word of the prompt, used without a tokenizer: assumed."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The settings of a stage that its memory depends on."""

    load: Load
    pixels: int
    optim: str = "adamw_torch_fused"
    precision: Precision
    lora: str | None = None
    """`model.lora` as JSON, so that settings can be compared."""


@dataclass(frozen=True)
class Parameters:
    """How many parameters a model has."""

    total: int
    trained: int
    embedding: int
    """Trained parameters of the input embeddings, whose state 8-bit optimizers keep in 32 bits."""
    block: int
    """Parameters of the largest block, that is layer."""
    root: int
    """Parameters outside all blocks."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on each GPU."""

    weights: float
    gradients: float
    optimizer: float
    reference: float
    gathered: float
    """DDP's buckets of gradients, or with sharding the weights that are gathered for a moment."""
    activations: float
    """What a forward and backward pass keeps at its peak, bfloat16 copies of weights included."""
    rollouts: float
    """What writing completions keeps at its peak: keys, values and the pass itself."""
    loading: float = 0.0
    """Whole weights, before they are sharded."""

    @property
    def update(self) -> float:
        """The peak of an update."""
        held = self.weights + self.gradients + self.optimizer + self.reference + self.gathered
        return RESERVE + held + (1 + FRAGMENTS) * self.activations

    @property
    def writing(self) -> float:
        """The peak of rollouts, when no gradients are held."""
        held = self.weights + self.optimizer + self.reference + self.gathered
        return RESERVE + held + (1 + FRAGMENTS) * self.rollouts

    @property
    def peak(self) -> float:
        """The most at any time."""
        return max(self.update, self.writing if self.rollouts else 0.0, RESERVE + self.loading)

    @property
    def certain(self) -> float:
        """What is held whatever the batch: a lower bound of `peak`."""
        return RESERVE + self.weights + self.gradients + self.optimizer + self.reference


@dataclass
class Planner:
    """Counts the memory of settings of one model; each sketch is made once, and each peak counted once."""

    recipe: Recipe
    shape: Shape
    processor: Any = None
    """The processor in the model's folder, if any: it knows how many tokens a picture takes."""
    _models: dict[str | None, tuple[Any, Sketch]] = field(default_factory=dict)
    _peaks: dict[Any, int] = field(default_factory=dict)
    _asks: dict[int, PromptInputs] = field(default_factory=dict)

    @property
    def checkpoint(self) -> str:
        """The dtype that the model is saved in; bfloat16 if its config does not say."""
        return str(self.shape.config.dtype or "bfloat16").removeprefix("torch.")

    def memory(self, setting: Setting, way: Way, gpus: int, *, rough: bool = False) -> Memory:
        """Bytes on each of `gpus` GPUs; `rough` leaves activations and rollouts out, which take a while to count."""
        sharded = way in ("FSDP2", "ZeRO-3")
        share = gpus if sharded else 1
        n = self.parameters(setting.lora)
        frozen = n.total - n.trained
        states = state_bytes(setting.optim, n)
        precision = setting.precision
        own, low = BYTES[precision.trained], BYTES[precision.frozen]
        reference = BYTES[precision.reference] if precision.reference else 0
        # ZeRO-3 holds bfloat16 weights and gradients, 2 bytes each, beside the weights and gradients that AdamW sees.
        held: dict[str, float] = {
            "weights": (own * n.trained + low * frozen + (2 * n.trained if way == "ZeRO-3" else 0)) / share,
            "gradients": (own + (2 if way == "ZeRO-3" else 0)) * n.trained / share,
            "optimizer": states * own / 4 / share,
            "reference": reference * n.total / share,
            # FSDP2: bfloat16 weights of two blocks and of what lies outside the blocks; gradients of one block and of
            # what lies outside, in bfloat16 and in float32.
            "gathered": {"one GPU": 0, "DDP": own * n.trained}.get(
                way, 2 * (n.root + 2 * n.block) + 6 * (n.root + n.block)
            ),
            "loading": own * n.trained + low * frozen if sharded else 0,
        }
        if way == "ZeRO-3":
            held["gathered"] = 2 * min(LIVE, n.total) + 4 * n.block
        if rough:
            return Memory(**held, activations=0.0, rollouts=0.0)
        load = replace(setting.load, trained=precision.compute if sharded else precision.trained)
        writes = load.kind == "grpo"
        rollouts = self.peak(replace(load, shared=load.shared and not sharded), setting, rollouts=True) if writes else 0
        if way == "ZeRO-3" and writes:
            rollouts += 2 * n.total  # TRL's `ds3_gather_for_generation` puts the whole model on each GPU
        return Memory(**held, activations=self.peak(load, setting), rollouts=rollouts)

    def peak(self, load: Load, setting: Setting, *, rollouts: bool = False) -> int:
        """Bytes at the peak of an update, or of rollouts, counted on the sketch."""
        key = (load, setting.pixels, setting.lora, rollouts)
        if key not in self._peaks:
            model, sketch = self.sketched(setting.lora)
            count = rollout_peak if rollouts else update_peak
            try:
                self._peaks[key] = count(model, sketch, self.ask(setting.pixels, model), load)
            except UNFIT_INPUTS as error:  # the model's code reads values, which a sketch does not have
                kind, told = self.shape.config.model_type, " ".join(str(error).split())[:200]
                raise ModelError(f"a step of {kind} models cannot be sketched, so it is not planned: {told}") from error
        return self._peaks[key]

    def sketched(self, lora: str | None) -> tuple[Any, Sketch]:
        """The sketched model, with adapters if the setting has them, and with TRL's head, which keeps no logits."""
        if lora not in self._models:
            from trl.trainer.utils import add_fused_lm_head

            config = self.recipe.model.model_copy(update={"lora": None if lora is None else json.loads(lora)})
            model, sketch = sketch_model(self.shape.config, adapt=lambda plain: _adapted(plain, config))
            add_fused_lm_head(plain_model(model), outputs=("log_probs", "entropy"))
            make_checkpointable(plain_model(model))
            use_flash_in_windows(model)
            self._models[lora] = (model, sketch)
        return self._models[lora]

    def parameters(self, lora: str | None) -> Parameters:
        """How many parameters the model has, adapters included."""
        model, _ = self.sketched(lora)
        blocks = [
            sum(weight.numel() for weight in block.parameters()) for s in block_stacks(model).values() for block in s
        ]
        weights = list(model.parameters())
        inner = plain_model(model).get_input_embeddings().weight
        total = sum(weight.numel() for weight in weights)
        return Parameters(
            total=total,
            trained=sum(weight.numel() for weight in weights if weight.requires_grad),
            embedding=inner.numel() if inner.requires_grad else 0,
            block=max(blocks, default=0),
            root=total - sum(blocks),
        )

    def ask(self, pixels: int, model: Any) -> PromptInputs:
        """A prompt with one square picture of `pixels`, made by the processor or by what is known of the family."""
        if pixels not in self._asks:
            prompt = get_prompt(self.recipe.prompt)
            if self.processor is not None:
                self._asks[pixels] = processed_prompt(self.processor, model, self.recipe.prompt, pixels)
            else:
                text = round(TOKENS_PER_WORD * len(f"{prompt.role} {prompt.instruction}".split())) + QUESTION_TOKENS
                self._asks[pixels] = synthetic_prompt(self.shape.config, model, pixels, text)
        return self._asks[pixels]


def _adapted(model: Any, config: Any) -> Any:
    """The model with frozen parts and adapters, as a stage makes it."""
    freeze_parts(model, config.freeze)
    adapters = lora_config(config)
    if adapters is None:
        return model
    from peft import get_peft_model

    with without_notices():
        return get_peft_model(model, adapters)


def state_bytes(optim: str, n: Parameters) -> float:
    """Bytes of an optimizer's state; 8-bit ones keep that of embeddings in 32 bits."""
    if "8bit" in optim:
        return (1.0 if "lion" in optim else 2.0) * (n.trained - n.embedding) + 8.0 * n.embedding
    return STATES.get(optim, 8.0) * n.trained


def synthetic_prompt(config: Any, model: Any, pixels: int, text: int) -> PromptInputs:
    """A prompt of `text` tokens and one picture, made without a tokenizer.

    Raises `ModelError` for a family whose image token or number of image tokens is not known.
    """
    fields, tokens = picture_inputs(config, pixels)
    image = getattr(config, "image_token_id", None)
    if image is None:
        raise ModelError(f"{config.model_type} names no image token; plan with a folder that has a processor")
    ids = torch.ones(1, text + tokens, dtype=torch.long)
    ids[:, 4 : 4 + tokens] = image
    # Some families read an input that tells image tokens from text.
    kind = str(config.model_type)
    name = "token_type_ids" if kind == "gemma3" else "mm_token_type_ids" if kind.startswith(("qwen", "glm4v")) else ""
    return PromptInputs(ids=ids, fields={**fields, name: (ids == image).long()} if name else fields)


def processed_prompt(processor: Any, model: Any, prompt: str, pixels: int) -> PromptInputs:
    """A prompt made by the model's own processor, with a question of usual length."""
    from PIL import Image

    from medrft.models.encode import encode_chats
    from medrft.models.policy import Policy
    from medrft.models.prompts import with_images
    from medrft.types import Example

    side = math.isqrt(pixels)
    example = Example(
        id="plan", dataset="plan", split="train", images=(), question=QUESTION, references=("yes",), kind="open"
    )
    messages = get_prompt(prompt).bound(processor).messages(example)
    messages[-1]["content"].insert(0, {"type": "image"})
    policy = Policy(plain_model(model), processor, "plan", torch.device("cpu"))
    inputs = encode_chats(policy, [with_images(messages, [Image.new("RGB", (side, side))])])
    ids = inputs.pop("input_ids")
    del inputs["attention_mask"]
    return PromptInputs(ids=ids, fields=inputs)
