"""Makes torchvision from PyPI importable beside a CPU build of torch, without its compiled operators.

PyPI has torchvision built for GPUs. Beside a CPU-only torch its compiled operators cannot load, and
`import torchvision` ends in "operator torchvision::nms does not exist"; so does the import of transformers'
processors and of TRL. Image-text models need torchvision only to read video, which uses none of those operators.
"""

from __future__ import annotations

import importlib.util
import sys

OPERATORS = ("nms", "qnms")
"""The operators that torchvision's Python code extends at import, whether or not they exist."""


def declare_missing_operators() -> None:
    """Let `import torchvision` succeed beside a CPU-only torch; call it before importing a processor or a trainer.

    Does nothing if torchvision is absent or works, or if torch is built for GPUs.
    """
    import torch

    if torch.version.cuda or torch.version.hip or "torchvision" in sys.modules:
        return
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in OPERATORS:
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
