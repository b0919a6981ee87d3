"""A model without weights, to count memory: a configuration goes in, a model that runs but allocates little comes out.

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
"""A tensor of this many elements or more is only sketched."""
WINDOWS = "medrft_flash_sketch"
"""Our attention for sketched vision towers: one call over all windows, where the real ones make one per window."""


class Sketch(TorchDispatchMode):  # type: ignore[misc]
    """While it is active, large tensors are sketched and live bytes are counted: now, and at the peak of each phase."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.phase = "build"
        self.live = 0
        self.peaks: dict[str, int] = {}
        self._held: dict[int, weakref.ref[Any]] = {}

    def begin(self, phase: str) -> None:
        """Count towards the peak of `phase` from now on."""
        self.phase = phase
        self.peaks[phase] = max(self.peaks.get(phase, 0), self.live)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch for each operation; it runs for real, or sketched if a tensor is large."""
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # a shortcut: half of all operations on sketches ask for the device
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
        """A sketch with a tensor's shape, which says that it lies on the CPU."""
        meta = torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device="meta")
        found: torch.Tensor = self.fake.fake_tensor_converter.from_meta_and_device(self.fake, meta, torch.device("cpu"))
        self._note(found)
        return found


def _size(func: Any, args: tuple[Any, ...], given: Sequence[torch.Tensor]) -> int:
    """How many elements an operation on real tensors, or one that makes a tensor, will allocate, judged by shapes.

    0 if nothing grows: views, one argument, or arguments of one size.
    """
    if given:
        if func.is_view or len(given) < 2 or all(value.numel() == given[0].numel() for value in given):
            return 0
        try:
            return math.prod(torch.broadcast_shapes(*(value.shape for value in given)))
        except RuntimeError:  # the shapes do not broadcast, so the operation is of another kind
            return 0
    shape = args[0] if args and isinstance(args[0], list | tuple) else ()
    return math.prod(side for side in shape if isinstance(side, int)) if shape else 0


def sketch_model(config: PretrainedConfig, *, adapt: Callable[[Any], Any] | None = None) -> tuple[Any, Sketch]:
    """A model with sketched float32 weights, and the mode to run it under.

    `adapt` freezes parts of the model or adds adapters. Raises `ModelError` for a configuration that is not
    image-text-to-text, or from which no model can be built.
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
        if adapt is not None:  # outside the mode: peft moves adapters to a device, which fails on sketches
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
    """Add image features (N, D) to the states of image tokens among (B, L, D), in place of Qwen3-VL's own function.

    Qwen3-VL picks the states by a mask. How many that are is not known of a sketch, so the first N states are taken.
    """
    hidden, features = hidden.clone(), features.to(hidden.dtype)
    places = torch.arange(len(features), device=hidden.device)
    flat = hidden.view(-1, hidden.shape[-1])
    flat[places] = flat[places] + features
    return hidden


def set_dtypes(model: Any, sketch: Sketch, *, trained: torch.dtype, frozen: torch.dtype) -> None:
    """Replace every weight by a sketch in the dtype given for trained or frozen ones; tied weights stay tied."""
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
    """Let vision towers attend to all windows in one call: the memory is the same, the work a hundredth."""
    from transformers import AttentionInterface

    AttentionInterface.register(WINDOWS, _windows)
    for module in model.modules():
        if hasattr(module, "blocks") and hasattr(getattr(module, "config", None), "_attn_implementation"):
            module.config._attn_implementation = WINDOWS


def _windows(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any = None, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attention with all windows as one, which keeps as much memory; the copy stands for joining the windows."""
    found = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    return found.transpose(1, 2).clone(), None


def block_stacks(model: Any) -> dict[str, torch.nn.ModuleList]:
    """The model's stacks of layers, by name: lists of at least four modules of one class, the outermost only."""
    found: dict[str, torch.nn.ModuleList] = {}
    for name, module in model.named_modules():
        alike = isinstance(module, torch.nn.ModuleList) and len(module) > 3 and len({type(b) for b in module}) == 1
        if alike and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def block_kinds(stack: torch.nn.ModuleList) -> list[list[int]]:
    """The numbers of a stack's blocks, by kind: blocks of one kind are made of the same classes.

    A hybrid model has blocks of linear attention and of full attention in one stack.
    """
    kinds: dict[frozenset[type], list[int]] = {}
    for number, block in enumerate(stack):
        kinds.setdefault(frozenset(map(type, block.modules())), []).append(number)
    return list(kinds.values())


@contextmanager
def cut_to(model: Any, blocks: Mapping[str, Sequence[int]]) -> Iterator[None]:
    """Inside, each named stack has only its blocks with these numbers, in rising order.

    A model looks up by a block's place in the stack of which type it is: the list of types is cut alike.
    """
    whole = {name: model.get_submodule(name) for name in blocks}
    configs: dict[str, Any] = {name: getattr(_parent(model, name), "config", None) for name in blocks}
    types = {name: list(getattr(config, "layer_types", None) or ()) for name, config in configs.items()}
    try:
        for name, numbers in blocks.items():
            _put(model, name, torch.nn.ModuleList(whole[name][number] for number in numbers))
            if types[name]:
                configs[name].layer_types = [types[name][number] for number in numbers]
        yield
    finally:
        for name, stack in whole.items():
            _put(model, name, stack)
            if types[name]:
                configs[name].layer_types = types[name]


def _put(model: Any, name: str, stack: torch.nn.ModuleList) -> None:
    setattr(_parent(model, name), name.rpartition(".")[2], stack)


def _parent(model: Any, name: str) -> Any:
    return model.get_submodule(name.rpartition(".")[0])


@contextmanager
def without_notices() -> Iterator[None]:
    """Inside, transformers' warnings are silent: they are about training, which a sketch never sees."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
