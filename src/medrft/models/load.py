"""Policies: a model with its processor, by hub id, path or `tiny:<family>`.

Image processors are the PIL ones, so that pixels do not depend on what else is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError, naming_extras, unknown_name
from medrft.torchvision_ops import declare_missing_operators

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig

    from medrft.config import ModelConfig

TINY = "tiny:"

# Where families of transformers keep each part. Read top down: the first that matches owns the parameter.
PARTS: dict[str, re.Pattern[str]] = {
    "lm_head": re.compile(r"(^|\.)lm_head\."),
    "projector": re.compile(r"(^|\.)(multi_modal_projector|mm_projector|connector|merger|aligner|vision_projection)\."),
    "vision": re.compile(r"(^|\.)(vision_tower|vision_model|visual|vision_encoder|image_encoder)\."),
    "language": re.compile(r"(^|\.)(language_model|text_model|layers|embed_tokens|norm)\."),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """A model that writes, with the processor that reads for it."""

    model: Any
    """A transformers image-text-to-text model."""
    processor: Any
    id: str
    """Hub id, path, or `tiny:<family>`: what a reader of the run should see."""
    device: torch.device


@naming_extras()
def resolve_base(config: ModelConfig, *, texts: Iterable[str], output: Path, seed: int) -> str:
    """Where the start model lies: a hub id or path as it is; `tiny:<family>` is built once and saved in `output`.

    A hub id with a revision becomes the folder of that revision, so that whoever loads it by its name later (TRL's
    reference model) loads the same weights. `texts` trains a tiny model's tokenizer; an `output` that already holds a
    model is reused, so that a resumed run keeps its start. Raises `ModelError` when the device asked for is absent,
    before anything is built.
    """
    pick_device(config.device)
    if (config.id.startswith(("/", ".", "~")) or config.id.count("/") > 1) and not Path(config.id).is_dir():
        raise ModelError(f"no folder at {config.id}; a model is a hub id (owner/name) or the folder of a saved one")
    if not config.id.startswith(TINY):
        return _pinned(config) if config.revision and not Path(config.id).is_dir() else config.id
    if not (output / "config.json").is_file():
        from medrft.models.tiny import build_tiny

        model, processor = build_tiny(config.id.removeprefix(TINY), texts=texts, sizes=config.tiny, seed=seed)
        _save(model, processor, output)
    return str(output)


@naming_extras()
def load_policy(config: ModelConfig, source: str | Path) -> Policy:
    """Load weights and processor from `source` (what `resolve_base` or `save_final` returned), ready to train.

    Raises `ModelError` for an absent device, a model that is not image-text-to-text, or one without chat template.
    """
    device = pick_device(config.device)
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    processor = load_processor(str(source), trust_remote_code=config.trust_remote_code)
    model = _load_model(str(source), {**options, "dtype": config.dtype}, config.attn_implementation)
    _fit_padding(model, processor)
    model.to(device)
    freeze(model, config.freeze)
    make_head_fast(model)
    make_checkpointable(model)
    pinned = f"models--{config.id.replace('/', '--')}" in Path(source).parts
    own = pinned or config.id.startswith(TINY) or not Path(source).is_dir()
    return Policy(model, processor, config.id if own else str(source), device)


def save_final(policy: Policy, folder: Path) -> Path:
    """Write merged weights, processor, chat template and generation config: a folder that transformers loads.

    LoRA adapters are merged into the weights first. Files that were there before, such as a model card, are kept.
    """
    model = policy.model
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    _save(model, policy.processor, folder)
    return folder


@naming_extras()
def pick_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device, under a launcher this process's own GPU.

    Raises `ModelError` for a GPU that is not there.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device is cuda, but torch sees no GPU here; set model.device to cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    rank = os.environ.get("LOCAL_RANK")
    return torch.device(f"cuda:{rank}" if name == "cuda" and rank else name)


def make_checkpointable(model: Any) -> None:
    """Let gradient checkpointing find the input of a Swin vision tower.

    transformers asks the tower for its input embeddings to make their output require a gradient; Swin names a module
    that returns a tuple, on which that fails.
    """
    for module in model.modules():
        inner = getattr(getattr(module, "embeddings", None), "patch_embeddings", None)
        if hasattr(inner, "projection") and str(getattr(module.config, "model_type", "")).startswith("swin"):
            module.get_input_embeddings = partial(getattr, inner, "projection")


def lora_config(config: ModelConfig) -> LoraConfig | None:
    """The recipe's `model.lora` as peft's config, for a trainer's `peft_config`; `None` for full fine-tuning.

    By default every linear layer of the parts that are not frozen gets an adapter.
    """
    if config.lora is None:
        return None
    from peft import LoraConfig

    options: dict[str, Any] = {"task_type": "CAUSAL_LM", "target_modules": "all-linear", **config.lora}
    frozen = [PARTS[part].pattern for part in config.freeze]
    if frozen and "exclude_modules" not in options:
        options["exclude_modules"] = ".*(" + "|".join(pattern.rstrip(r"\.") for pattern in frozen) + r")(\..*)?"
    try:
        return LoraConfig(**options)
    except TypeError as error:
        known = LoraConfig.__dataclass_fields__
        wrong = next(key for key in options if key not in known)
        raise unknown_name("model.lora key", wrong, known) from error


def part_of(parameter: str) -> str | None:
    """Which part a parameter belongs to, by its name.

    >>> part_of("model.visual.merger.mlp.0.weight"), part_of("model.vision_tower.vision_model.post_layernorm.bias")
    ('projector', 'vision')
    >>> part_of("model.language_model.layers.0.mlp.up_proj.weight"), part_of("lm_head.weight")
    ('language', 'lm_head')
    """
    return next((part for part, pattern in PARTS.items() if pattern.search(parameter)), None)


def freeze(model: Any, parts: Iterable[str]) -> None:
    """Stop training the named parts (vision, projector, language, lm_head).

    Raises `ModelError` when a part has no parameters of its own, as a head tied to the embeddings, and when nothing
    is left to train.
    """
    for part in parts:
        own = [parameter for name, parameter in model.named_parameters() if part_of(name) == part]
        if not own:
            tied = part == "lm_head" and model.get_output_embeddings() is not None
            why = "it is tied to the embeddings; freeze language instead" if tied else "found none by their names"
            raise ModelError(f"cannot freeze {part}: {type(model).__name__} has no parameters of that part ({why})")
        for parameter in own:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"nothing is left to train after freezing {', '.join(parts)}; take one out of model.freeze")


def make_head_fast(model: Any) -> None:
    """Hand the head contiguous input.

    Torch multiplies a strided batch by a frozen weight row by row, which makes batched generation several times
    slower.
    """
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(_contiguous)


def _contiguous(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].contiguous(), *args[1:])


def placeholder_ids(policy: Policy) -> tuple[int, ...]:
    """Token ids that stand for images or video: a policy must never sample one, or the next forward pass breaks."""
    config, processor = policy.model.config, policy.processor
    tokenizer = processor.tokenizer
    kinds = ("image", "video", "audio", "boi", "eoi", "vision_start", "vision_end")
    found: set[Any] = {getattr(config, f"{kind}_token_{end}", None) for kind in kinds for end in ("id", "index")}
    found |= {getattr(processor, f"{kind}_token_id", None) for kind in kinds}
    found |= {
        number
        for token, number in tokenizer.get_added_vocab().items()
        if re.fullmatch(r"<[^<>]*(image|img|video|vision|patch|row_\d+_col)[^<>]*>", token)
    }
    size = policy.model.get_output_embeddings().weight.shape[0]
    return tuple(sorted(number for number in found if isinstance(number, int) and 0 <= number < size))


def end_ids(policy: Policy) -> tuple[int, ...]:
    """Token ids that end a completion: the tokenizer's, and those the model declares."""
    declared = getattr(policy.model.generation_config, "eos_token_id", None)
    ids = declared if isinstance(declared, list) else [declared]
    found = {policy.processor.tokenizer.eos_token_id, *ids} - {None}
    if not found:
        raise ModelError(f"{policy.id} names no end token; set eos_token in its tokenizer_config.json")
    return tuple(sorted(found))


def _pinned(config: ModelConfig) -> str:
    from huggingface_hub import snapshot_download

    other = ["*.gguf", "*.onnx", "*.msgpack", "*.h5", "*.pth", "original/*"]  # for other programs
    try:
        return str(snapshot_download(config.id, revision=config.revision, ignore_patterns=other))
    except (OSError, ValueError) as error:
        raise _cannot("model", f"{config.id}@{config.revision}", error) from error


@naming_extras()
def load_processor(source: str, *, trust_remote_code: bool) -> Any:
    """The processor of a model; raises `ModelError` for one without image processor or chat template."""
    declare_missing_operators()
    from transformers import AutoImageProcessor, AutoProcessor

    options = {"trust_remote_code": trust_remote_code}
    try:
        processor = AutoProcessor.from_pretrained(source, padding_side="left", **options)
        if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
            raise ModelError(f"{source} has no image processor; medrft needs an image-text-to-text model")
        # AutoProcessor hands `backend` to the video processor too, which has no PIL version.
        processor.image_processor = AutoImageProcessor.from_pretrained(source, backend="pil", **options)
    except (OSError, ValueError, ImportError) as error:
        raise _cannot("the processor of", source, error) from error
    if not processor.chat_template:
        processor.chat_template = processor.tokenizer.chat_template
    if not processor.chat_template:
        raise ModelError(
            f"{source} has no chat template, so it is a base model; choose its instruct or chat version, or put a "
            "chat_template.jinja into the model's folder"
        )
    return processor


def _load_model(source: str, options: dict[str, Any], attention: str | None) -> Any:
    declare_missing_operators()
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if attention:
        options = {**options, "attn_implementation": attention}
    try:
        plain = {key: options[key] for key in ("trust_remote_code", "revision") if key in options}
        config = AutoConfig.from_pretrained(source, **plain)
        if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not options["trust_remote_code"]:
            raise ModelError(
                f"{source} is a {config.model_type} model, which transformers does not load as image-text-to-text; "
                "choose a vision-language model"
            )
        with _quietly() if Path(source).is_dir() else nullcontext():
            return AutoModelForImageTextToText.from_pretrained(source, **options)
    except ModelError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise _cannot("model", source, error) from error


def _cannot(what: str, source: str, error: Exception) -> ModelError:
    line = " ".join(str(error).split())
    return ModelError(f"cannot load {what} {source!r}: {line[:300]}")


def _fit_padding(model: Any, processor: Any) -> None:
    """Model and tokenizer must agree on the pad token; TRL takes the end token where there is none."""
    tokenizer = processor.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id


@contextmanager
def _quietly() -> Iterator[None]:
    """No progress bar for what takes a moment; downloads keep theirs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _save(model: Any, processor: Any, folder: Path) -> None:
    """Write into a neighbour first, so that a killed save never leaves half a model behind."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with _quietly():
            model.save_pretrained(temporary)
            processor.save_pretrained(temporary)
        folder.mkdir(exist_ok=True)
        names = sorted(os.listdir(temporary), key=lambda name: name == "config.json")  # config.json: it is complete
        for name in names:
            os.replace(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
