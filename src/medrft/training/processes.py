"""The processes that train together: how many there are, which is the main one, and how they wait for each other.

It is read from the environment that torchrun and `accelerate launch` set, so that torch need not be imported to ask.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.files import locked_folder

if TYPE_CHECKING:
    import torch

PATIENCE = timedelta(days=2)
"""How long a process waits for the others: the main one evaluates alone, which can take hours."""


def world_size() -> int:
    """Processes in this training; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_sharded() -> bool:
    """Whether `accelerate launch` was told to divide the weights among processes (FSDP, DeepSpeed)."""
    return "true" in (os.environ.get("ACCELERATE_USE_FSDP"), os.environ.get("ACCELERATE_USE_DEEPSPEED"))


def visible_gpus() -> int:
    """How many GPUs torch sees here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def memory_here(device: torch.device) -> int:
    """Bytes of memory of a GPU, or of this machine if `device` is a CPU."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def is_main() -> bool:
    """Whether this process is the one that writes files."""
    return int(os.environ.get("RANK", 0)) == 0


def gather_processes(rows: list[Any]) -> tuple[list[Any], int]:
    """The rows of all processes in the order of ranks, and the place where this one's begin.

    Every process has as many rows as the others: TRL gives each an equal share of a batch.
    """
    from accelerate.utils import gather_object

    return gather_object(list(rows)), int(os.environ.get("RANK", 0)) * len(rows)


def wait_for_all() -> None:
    """Wait until every process has come here; returns at once without a launcher."""
    if world_size() == 1:
        return
    import torch
    from accelerate import PartialState

    shard_on_cpus()
    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE).wait_for_everyone()


def shard_on_cpus() -> None:
    """If FSDP is asked for and there is no GPU, make accelerate shard on CPUs, so that a run can be rehearsed.

    accelerate would silently leave FSDP out: it allows it on accelerators alone, though torch's works on CPUs.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    if os.environ.get("ACCELERATE_USE_FSDP") != "true" or torch.cuda.is_available() or world_size() == 1:
        return
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    plain = PartialState.__init__

    def opened(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU  # set after gloo has joined the processes

    if plain.__name__ != opened.__name__:  # not ours already: this is called more than once
        PartialState.__init__ = opened


@contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the body first, and the others after it, so that they find its files."""
    if not is_main():
        wait_for_all()
    yield
    if is_main():
        wait_for_all()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for all these processes: the main one takes its lock, and raises `RunInUseError` if it is taken."""
    with locked_folder(folder) if is_main() else nullcontext():
        yield
