"""Loads a policy: a hub id (`google/medgemma-4b-it`), a path or `tiny:<family>` goes in, a `Policy` comes out.

Image processors are the PIL ones, not torchvision's. The two resize differently, and transformers would take
torchvision's wherever torchvision is installed, so that pixels would depend on what else is installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError, naming_extras
from medrft.files import tell_user
from medrft.hub import hub_silence, why_unreachable
from medrft.models.adapters import find_adapter, merge_adapter
from medrft.models.bundled import find_bundled, is_bundled
from medrft.models.parts import freeze_parts
from medrft.models.policy import Policy, make_checkpointable, make_head_fast, pick_device
from medrft.models.refusals import cannot_load, check_layout
from medrft.models.saved import find_damage, save_model, without_bars
from medrft.models.template import fit_template, read_template
from medrft.models.tokens import set_end_tokens
from medrft.torchvision_ops import declare_missing_operators

if TYPE_CHECKING:
    from medrft.config import ModelConfig

TINY = "tiny:"


def check_start(config: ModelConfig, *, weights: bool = True) -> None:
    """Refuse a start model that cannot be loaded, within a second or two: no weights are read, only torch is imported.

    Without `weights` a hub id need not be available here. Raises `ModelError` for an absent device, folder or template
    file, and for a hub id that is neither cached nor reachable.
    """
    _check_place(config)
    if weights and not config.id.startswith(TINY):
        _check_there(find_bundled(config.id))


def _check_place(config: ModelConfig) -> None:
    pick_device(config.device)
    read_template(config)
    if config.id.startswith(TINY):
        from medrft.models.tiny import check_tiny

        check_tiny(config.id.removeprefix(TINY), config.tiny)
    if (config.id.startswith(("/", ".", "~")) or config.id.count("/") > 1) and not Path(config.id).is_dir():
        raise ModelError(f"no folder at {config.id}; a model is a hub id (owner/name) or the folder of a saved one")
    folder = Path(config.id)
    if folder.is_dir() and not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        hint = f"a run's models are in {folder}/stages/NAME/final" if (folder / "recipe.yaml").is_file() else ""
        raise ModelError(
            f"{folder} holds no model: it has neither config.json nor adapter_config.json; "
            f"{hint or 'name the folder of a saved model, or a hub id (owner/name)'}"
        )
    if is_bundled(config.id) and config.revision:
        raise ModelError(f"{config.id} comes with medrft and has no revisions; take model.revision out")


def _check_there(source: str) -> None:
    if (told := why_unreachable(source)) is not None:
        raise ModelError(f"cannot load model {source!r}: {told}")


@naming_extras()
def resolve_base(config: ModelConfig, *, texts: Iterable[str], output: Path, seed: int) -> str:
    """The hub id or folder to load the start model from.

    A hub id or path is returned as it is, a model that medrft brings along as its folder. `tiny:<family>`, or an
    adapter merged into its base, is built once and saved in `output`. If `output` already holds a model, that one is
    used, so that a resumed run keeps its start. A hub id with a revision becomes the folder of that revision: TRL loads
    the reference model by name later, and must get the same weights. `texts` trains a tiny model's tokenizer. Raises
    `ModelError` before anything is built if the device asked for is absent.
    """
    _check_place(config)
    if is_bundled(config.id):
        return find_bundled(config.id)
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
            save_model(_load_model(config.id, config), load_processor(config.id, config), output)
        else:
            save_model(*build_tiny(config.id.removeprefix(TINY), texts=texts, sizes=config.tiny, seed=seed), output)
    return str(output)


@naming_extras()
def load_policy(config: ModelConfig, source: str | Path) -> Policy:
    """Load weights and processor from `source`, which `resolve_base` or `save_final` returned, ready to train.

    Raises `ModelError` for an absent device, a damaged folder, a model that is not image-text-to-text, or one without
    a chat template.
    """
    device = pick_device(config.device)
    source = find_bundled(str(source))
    if (flaw := find_damage(Path(source))) is not None:
        raise ModelError(f"the model in {source} is damaged: {flaw}; --resume finishes its stage again")
    processor = load_processor(str(source), config)
    model = _load_model(str(source), config)
    _fit_padding(model, processor)
    set_end_tokens(model, processor)
    model.to(device)
    freeze_parts(model, config.freeze)
    make_head_fast(model)
    make_checkpointable(model)
    # A revision was loaded from a folder of the hub's cache (`models--owner--name/snapshots/…`): show its hub id.
    pinned = f"models--{config.id.replace('/', '--')}" in Path(source).parts
    bundled = is_bundled(config.id) and str(source) == find_bundled(config.id)
    own = pinned or bundled or config.id.startswith(TINY) or not Path(source).is_dir()
    return Policy(model, processor, config.id if own else str(source), device)


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

    Raises `ModelError` if there is no image processor or no chat template, and for a checkpoint whose layout only code
    of its own reads.
    """
    source = find_bundled(source)
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
    """The model at `source`; for an adapter its base with the adapter merged into it."""
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
        with without_bars() if Path(source).is_dir() else nullcontext():
            return AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, **plain, **more)
    except ModelError:
        raise
    except _raised(config) as error:
        raise cannot_load("model", source, error) from error


def _raised(config: ModelConfig) -> tuple[type[Exception], ...]:
    """The errors that loading may raise.

    Code that a checkpoint brings along was often written for another version of transformers, and may raise anything.
    """
    from safetensors import SafetensorError

    own: tuple[type[Exception], ...] = (OSError, ValueError, ImportError, SafetensorError)
    return (*own, AttributeError, TypeError, LookupError, RuntimeError) if config.trust_remote_code else own


def _fit_padding(model: Any, processor: Any) -> None:
    """Make model and tokenizer agree on the pad token; without one it is the end token, as in TRL."""
    tokenizer = processor.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
