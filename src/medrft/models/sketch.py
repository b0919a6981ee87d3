"""A model without weights, to count its memory: it runs as the real one would, and allocates nothing large.

Large tensors have a shape and no storage (torch's `FakeTensor`). Small ones are real, so that code that reads token ids
or image grids runs unchanged. `Sketch` sees every operation, forward and backward, and counts the bytes of the storages
that are alive.
"""

from __future__ import annotations

import logging
import math
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from medrft.errors import ModelError
from medrft.torchvision_ops import declare_missing_operators

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LARGE = 1_000_000
"""Elements from which on a tensor is only sketched."""
WINDOWS = "medrft_flash_sketch"
"""Attention of sketched vision towers: one call over all windows, where the real ones take each window apart."""


class Sketch(TorchDispatchMode):  # type: ignore[misc]
    """While it is on, large tensors are sketched, and live bytes are counted: now, and at the peak of each phase."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.phase = "build"
        self.live = 0
        self.peaks: dict[str, int] = {}
        self._held: dict[int, weakref.ref[Any]] = {}

    def begin(self, phase: str) -> None:
        """Count the peak of another phase from now on."""
        self.phase = phase
        self.peaks[phase] = max(self.peaks.get(phase, 0), self.live)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation, for real or sketched."""
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # half of all that is asked of sketches
        kwargs = kwargs or {}
        given = [value for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)]
        sketched = any(isinstance(value, FakeTensor) for value in given) or _size(func, args, given) >= LARGE
        if sketched:
            with self.fake:
                found = func(*args, **kwargs)
        else:
            found = func(*args, **kwargs)
        for value in tree_iter(found):
            if isinstance(value, torch.Tensor):
                self._note(value)
        return found

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:
            return

        def gone(_: Any) -> None:
            self.live -= size
            del self._held[key]

        self._held[key] = weakref.ref(storage, gone)
        self.live += size
        self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), self.live)

    def like(self, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A sketch of a tensor's shape, on the CPU as far as anyone asks."""
        meta = torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device="meta")
        found: torch.Tensor = self.fake.fake_tensor_converter.from_meta_and_device(self.fake, meta, torch.device("cpu"))
        self._note(found)
        return found


def _size(func: Any, args: tuple[Any, ...], given: Sequence[torch.Tensor]) -> int:
    """Elements of what an operation on real tensors, or a factory of them, would allocate, as far as shapes tell."""
    if given:
        if func.is_view or len(given) < 2 or all(value.numel() == given[0].numel() for value in given):
            return 0
        try:
            return math.prod(torch.broadcast_shapes(*(value.shape for value in given)))
        except RuntimeError:  # no operation that spreads its arguments
            return 0
    shape = args[0] if args and isinstance(args[0], list | tuple) else ()
    return math.prod(side for side in shape if isinstance(side, int)) if shape else 0


def sketch_model(config: PretrainedConfig, *, adapt: Callable[[Any], Any] | None = None) -> tuple[Any, Sketch]:
    """A model of a configuration with sketched weights in float32, and the mode to run it under.

    `adapt` freezes parts of it or adds adapters. Raises `ModelError` for a configuration that is not
    image-text-to-text or does not build.
    """
    declare_missing_operators()
    from transformers import AutoModelForImageTextToText
    from transformers.initialization import no_init_weights
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelError(f"{config.model_type} is no image-text-to-text model of transformers, so it cannot be planned")
    sketch = Sketch()
    try:
        with sketch, without_notices(), no_init_weights():
            model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
            model.tie_weights()
        if adapt is not None:  # adapters are made for real, and sketched below: peft moves them, which sketches resist
            model = adapt(model)
    except (ValueError, ImportError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"a {config.model_type} model cannot be planned: {' '.join(str(error).split())[:200]}"
        ) from error
    set_dtypes(model, sketch, trained=torch.float32, frozen=torch.float32)
    for module in model.modules():
        if hasattr(module, "_deepstack_process"):
            module._deepstack_process = _add_by_place
    return model, sketch


def _add_by_place(hidden: torch.Tensor, mask: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Qwen3-VL's addition of image features to the states of image tokens, (B, L, D) and (N, D).

    The model picks the states by a mask, and how many it holds is not known of a sketch: they are as many as features.
    """
    hidden, features = hidden.clone(), features.to(hidden.dtype)
    places = torch.arange(len(features), device=hidden.device)
    flat = hidden.view(-1, hidden.shape[-1])
    flat[places] = flat[places] + features
    return hidden


def set_dtypes(model: Any, sketch: Sketch, *, trained: torch.dtype, frozen: torch.dtype) -> None:
    """Sketch every weight anew, in the dtype that trained and frozen ones have; what is tied stays tied."""
    done: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            dtype = trained if weight is not None and weight.requires_grad else frozen
            if weight is None or (isinstance(weight, FakeTensor) and weight.dtype == dtype):
                continue
            if id(weight) not in done:
                done[id(weight)] = torch.nn.Parameter(sketch.like(weight, dtype), requires_grad=weight.requires_grad)
            module._parameters[name] = done[id(weight)]


def use_flash_in_windows(model: Any) -> None:
    """Sketch the windows of a vision tower in one call: the memory is the same, the work a hundredth."""
    from transformers import AttentionInterface

    AttentionInterface.register(WINDOWS, _windows)
    for module in model.modules():
        if hasattr(module, "blocks") and hasattr(getattr(module, "config", None), "_attn_implementation"):
            module.config._attn_implementation = WINDOWS


def _windows(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any = None, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """All windows as one (their number does not change what is kept), and the copy that joins them."""
    found = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    return found.transpose(1, 2).clone(), None


def block_stacks(model: Any) -> dict[str, torch.nn.ModuleList]:
    """The model's lists of at least four equal blocks, by name: its depth."""
    found: dict[str, torch.nn.ModuleList] = {}
    for name, module in model.named_modules():
        alike = isinstance(module, torch.nn.ModuleList) and len(module) > 3 and len({type(b) for b in module}) == 1
        if alike and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


@contextmanager
def cut_to(model: Any, depths: Mapping[str, int]) -> Iterator[None]:
    """Inside, each named stack is only its first blocks."""
    kept = {name: model.get_submodule(name) for name in depths}
    try:
        for name, depth in depths.items():
            _put(model, name, kept[name][:depth])
        yield
    finally:
        for name, stack in kept.items():
            _put(model, name, stack)


def _put(model: Any, name: str, stack: torch.nn.ModuleList) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, stack)


@contextmanager
def without_notices() -> Iterator[None]:
    """No notices of transformers about a model that is never trained."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
