"""Decides what follows when sharing prompts fails on a model: an error goes in, a reason to fall back comes out.

The caller then goes on in transformers' own way. Families of models that nobody has tried raise whatever their code
happens to raise (`FAULTS`). A mistake of ours may look the same, and must stay visible: one line says what failed, and
the whole traceback goes into a file of the run.
"""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path

from medrft.errors import MedrftError, ModelError, StorageError, cannot_write, in_one_line

UNFIT_INPUTS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError)
"""What a model's code raises on inputs that it cannot take. `LookupError` covers KeyError and IndexError, and
`RuntimeError` most errors of torch."""
FAULTS = (*UNFIT_INPUTS, ArithmeticError, AssertionError, ImportError)
"""The kinds of errors that a model's own code raises on inputs it does not expect."""

LOG = "fallbacks.log"
"""The file of a run, or of a stage, that holds the tracebacks."""


def why_failed(error: Exception, log: Path | None) -> str:
    """One line that says why transformers' own way is taken after `error`.

    The traceback is appended to `log`, or goes to `logging` if there is none. A `ModelError` is expected and needs no
    traceback. Raises `error` again where the other way would not help or would hide something: memory that ran out, a
    device that broke, and errors that medrft raises on purpose. Raises `StorageError` for a log that cannot be written.
    """
    if isinstance(error, ModelError):
        return str(error)
    if isinstance(error, MedrftError) or _is_the_machines(error):
        raise error
    told = in_one_line(error)
    if log is None:
        logging.getLogger(__name__).error("prompts are not shared", exc_info=error)
        return told
    whole = "".join(traceback.format_exception(error))
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"process {os.environ.get('RANK', 0)}: prompts are not shared\n{whole}\n")
    except OSError as refused:
        raise cannot_write(log, refused) from error
    return f"{told}; traceback in {log}"


def _is_the_machines(error: Exception) -> bool:
    """Whether memory ran out or the device broke. transformers' own way would need even more memory."""
    import torch

    broken: tuple[type[Exception], ...] = (torch.OutOfMemoryError, MemoryError)
    if hasattr(torch, "AcceleratorError"):
        broken = (*broken, torch.AcceleratorError)
    return isinstance(error, (*broken, StorageError)) or "can't allocate memory" in str(error)
