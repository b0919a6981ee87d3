"""Policies: a model with its processor, by hub id, path or `tiny:<family>`.

Image processors are the PIL ones, so that pixels do not depend on what else is installed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import DataError, ModelError, StorageError, naming_extras
from medrft.files import find_flaw, list_files, scratch_folder, tell_user, write_atomic
from medrft.hub import hub_silence, nowhere
from medrft.models.adapters import find_adapter, merge_adapter
from medrft.models.parts import PARTS, freeze, lora_config, part_of
from medrft.models.refusals import cannot_load, check_layout
from medrft.models.template import fit_template, read_template
from medrft.models.tokens import end_ids, fit_ends, image_token_id, placeholder_ids
from medrft.rundir import read_json
from medrft.torchvision_ops import declare_missing_operators

if TYPE_CHECKING:
    import torch

    from medrft.config import ModelConfig

__all__ = [
    "PARTS",
    "TINY",
    "Policy",
    "check_start",
    "end_ids",
    "freeze",
    "image_token_id",
    "load_policy",
    "load_processor",
    "lora_config",
    "make_checkpointable",
    "make_head_fast",
    "part_of",
    "pick_device",
    "placeholder_ids",
    "resolve_base",
    "save_final",
]

TINY = "tiny:"

FILES = "files.json"
"""Sizes and hashes of a saved model's files, in its folder."""
TEXTS = (".json", ".jinja", ".txt")
"""Endings of a saved model's files that people edit."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A model that writes, with the processor that reads for it."""

    model: Any
    """A transformers image-text-to-text model."""
    processor: Any
    id: str
    """Hub id, path, or `tiny:<family>`: what a reader of the run should see."""
    device: torch.device


def check_start(config: ModelConfig, *, weights: bool = True) -> None:
    """Refuse a start model that cannot be, in a second or two: nothing is loaded, no library but torch imported.

    Without `weights` a hub id need not be at hand.

    Raises `ModelError` for an absent device, folder or template file, and for a hub id that can be had nowhere.
    """
    _check_place(config)
    if weights and not config.id.startswith(TINY):
        _check_there(config.id)


def _check_place(config: ModelConfig) -> None:
    pick_device(config.device)
    read_template(config)
    if (config.id.startswith(("/", ".", "~")) or config.id.count("/") > 1) and not Path(config.id).is_dir():
        raise ModelError(f"no folder at {config.id}; a model is a hub id (owner/name) or the folder of a saved one")


def _check_there(source: str) -> None:
    if (told := nowhere(source)) is not None:
        raise ModelError(f"cannot load model {source!r}: {told}")


@naming_extras()
def resolve_base(config: ModelConfig, *, texts: Iterable[str], output: Path, seed: int) -> str:
    """Where the start model lies: a hub id or path as it is; `tiny:<family>`, or an adapter merged into its base, is
    built once and saved in `output`.

    A hub id with a revision becomes the folder of that revision, so that whoever loads it by its name later (TRL's
    reference model) loads the same weights. `texts` trains a tiny model's tokenizer; an `output` that already holds a
    model is reused, so that a resumed run keeps its start. Raises `ModelError` when the device asked for is absent,
    before anything is built.
    """
    _check_place(config)
    tiny = config.id.startswith(TINY)
    adapter = None if tiny else find_adapter(config.id, revision=config.revision)
    if not tiny and adapter is None:
        return _pinned(config) if config.revision and not Path(config.id).is_dir() else config.id
    flaw = find_damage(output, content=True)
    if flaw is not None:
        tell_user(f"the start model in {output} is damaged: {flaw}; it is built again")
    if flaw is not None or not (output / "config.json").is_file():
        from medrft.models.tiny import build_tiny

        if adapter is not None:
            _save(_load_model(config.id, config), load_processor(config.id, config), output)
        else:
            _save(*build_tiny(config.id.removeprefix(TINY), texts=texts, sizes=config.tiny, seed=seed), output)
    return str(output)


@naming_extras()
def load_policy(config: ModelConfig, source: str | Path) -> Policy:
    """Load weights and processor from `source` (what `resolve_base` or `save_final` returned), ready to train.

    Raises `ModelError` for an absent device, a model that is not image-text-to-text, or one without chat template.
    """
    device = pick_device(config.device)
    if (flaw := find_damage(Path(source))) is not None:
        raise ModelError(f"the model in {source} is damaged: {flaw}; --resume finishes its stage again")
    processor = load_processor(str(source), config)
    model = _load_model(str(source), config)
    _fit_padding(model, processor)
    fit_ends(model, processor)
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


def _pinned(config: ModelConfig) -> str:
    from huggingface_hub import snapshot_download

    other = ["*.gguf", "*.onnx", "*.msgpack", "*.h5", "*.pth", "original/*"]  # for other programs
    hub_silence(config.id)
    try:
        return str(snapshot_download(config.id, revision=config.revision, ignore_patterns=other))
    except (OSError, ValueError) as error:
        raise cannot_load("model", f"{config.id}@{config.revision}", error) from error


@naming_extras()
def load_processor(source: str, config: ModelConfig) -> Any:
    """The processor of the model or adapter at `source`, with the recipe's chat template.

    Raises `ModelError` for one without image processor or chat template, and for a layout that only code of its own
    reads.
    """
    _check_there(source)
    declare_missing_operators()
    from transformers import AutoImageProcessor, AutoProcessor

    adapter = find_adapter(source)
    source = adapter.processor if adapter is not None else source
    options = {"trust_remote_code": config.trust_remote_code}
    check_layout(source, **options)
    try:
        processor = AutoProcessor.from_pretrained(source, padding_side="left", **options)
        if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
            raise ModelError(f"{source} has no image processor; medrft needs an image-text-to-text model")
        # AutoProcessor hands `backend` to the video processor too, which has no PIL version.
        processor.image_processor = AutoImageProcessor.from_pretrained(source, backend="pil", **options)
    except ModelError:
        raise
    except _raised(config) as error:
        raise cannot_load("the processor of", source, error) from error
    fit_template(processor, source, text=read_template(config), arguments=config.chat_template_kwargs)
    return processor


def _load_model(source: str, config: ModelConfig) -> Any:
    """The weights at `source`; an adapter's are those of its base with the adapter merged into them."""
    adapter = find_adapter(source)
    if adapter is None:
        return _load_whole(source, config, dtype=config.dtype, revision=None)
    import torch

    try:
        model = _load_whole(adapter.base, config, dtype="float32", revision=adapter.revision)
    except ModelError as error:
        raise ModelError(f"the base of the adapter {source}: {error}") from error
    saved = getattr(type(model.config).from_pretrained(adapter.base, revision=adapter.revision), "dtype", None)
    wanted = saved or torch.float32 if config.dtype == "auto" else getattr(torch, config.dtype)
    return merge_adapter(model, adapter, dtype=wanted)


def _load_whole(source: str, config: ModelConfig, *, dtype: str, revision: str | None) -> Any:
    declare_missing_operators()
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    plain: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    plain |= {"revision": revision} if revision else {}
    more = {"attn_implementation": config.attn_implementation} if config.attn_implementation else {}
    check_layout(source, trust_remote_code=config.trust_remote_code)
    try:
        found = AutoConfig.from_pretrained(source, **plain)
        if type(found) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not config.trust_remote_code:
            raise ModelError(
                f"{source} is a {found.model_type} model, which transformers does not load as image-text-to-text; "
                "choose a vision-language model"
            )
        with _quietly() if Path(source).is_dir() else nullcontext():
            return AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, **plain, **more)
    except ModelError:
        raise
    except _raised(config) as error:
        raise cannot_load("model", source, error) from error


def _raised(config: ModelConfig) -> tuple[type[Exception], ...]:
    """What loading may raise: code that a checkpoint brings was written for another transformers, and breaks anyhow."""
    from safetensors import SafetensorError

    own: tuple[type[Exception], ...] = (OSError, ValueError, ImportError, SafetensorError)
    return (*own, AttributeError, TypeError, LookupError, RuntimeError) if config.trust_remote_code else own


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
    from safetensors import SafetensorError

    with scratch_folder(folder) as temporary:
        try:
            with _quietly():
                model.save_pretrained(temporary)
                processor.save_pretrained(temporary)
        except SafetensorError as error:  # it does not pass on the system's error number
            raise StorageError(f"cannot write {folder}: {error}; free space there, then go on with --resume") from error
        list_model(temporary)
        folder.mkdir(exist_ok=True)
        names = sorted(os.listdir(temporary), key=lambda name: name == "config.json")  # config.json: it is complete
        for name in names:
            os.replace(temporary / name, folder / name)


def list_model(folder: Path) -> None:
    """Write down the files of a saved model with their sizes and hashes; its card may be written again later."""
    write_atomic(folder / FILES, json.dumps(list_files(folder, without=(FILES, "README.md")), indent=2) + "\n")


def find_damage(folder: Path, *, content: bool = False) -> str | None:
    """What is wrong with a model that was saved here: a file missing, cut short or, with `content`, of other bytes.

    A configuration or template that is not as it was written but can be read was edited, as people do: that is told,
    and is no damage. `None` for a whole model, and for a folder whose files nobody listed.
    """
    if not (folder / FILES).is_file():
        return None
    try:
        listed: dict[str, Any] = read_json(folder / FILES)
        texts = {name: facts for name, facts in listed.items() if Path(name).suffix in TEXTS}
        rest = {name: facts for name, facts in listed.items() if name not in texts}
        return find_flaw(folder, rest, content=content) or _find_broken_text(folder, texts)
    except (DataError, AttributeError, KeyError, TypeError):
        return f"{FILES} is not the list of files that was written"


def _find_broken_text(folder: Path, listed: dict[str, Any]) -> str | None:
    for name, facts in listed.items():
        flaw = find_flaw(folder, {name: facts}, content=True)
        if flaw is None:
            continue
        if not (folder / name).is_file() or not (folder / name).stat().st_size:
            return flaw
        if name.endswith(".json"):
            try:
                read_json(folder / name)
            except DataError:
                return flaw
        tell_user(f"{folder / name} is not as it was written; it is taken as edited")
    return None
