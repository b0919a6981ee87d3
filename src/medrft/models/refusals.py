"""Models that cannot be loaded: a library's error goes in, one line with what, why and what to do comes out.

Such as `cannot load model 'google/medgemma-4b-it': … gated repo …; accept its terms at https://huggingface.co/…`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from medrft.errors import ModelError
from medrft.hub import hub_silence, without_hub

SHOWN = 240
"""Characters shown of a library's message; our advice comes after it, uncut."""

KNOWN: dict[str, str] = {
    "internvl_chat": "OpenGVLab/InternVL3-1B-hf",
    **dict.fromkeys(
        ("llava_llama", "llava_mpt", "llava_mistral"), "llava-hf/llava-1.5-7b-hf or llava-v1.6-mistral-7b-hf"
    ),
    "llava_qwen": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "ovis": "thisisiron/Ovis2-2B-hf",
    "multi_modality": "deepseek-community/Janus-Pro-1B or deepseek-community/deepseek-vl-1.3b-chat",
    "minicpmv": "openbmb/MiniCPM-V-4.6",
    "GOT": "stepfun-ai/GOT-OCR-2.0-hf",
}
"""`model_type` of a family in its authors' own layout -> its checkpoints that transformers reads by itself."""

PACKAGES = ("torchvision", "num2words", "timm", "sentencepiece", "tiktoken", "einops", "flash_attn", "mistral_common")
"""What processors and models ask for beyond our own requirements."""


def cannot_load(what: str, source: str, error: Exception) -> ModelError:
    """The error for a `source` that a library refused."""
    told = " ".join(str(error).split()) or type(error).__name__
    if missing_package(told) is None and (silence := hub_silence(source)) is not None:
        return ModelError(f"cannot load {what} {source!r}: {without_hub(silence, source)}")
    shown = told if len(told) <= SHOWN else f"{told[:SHOWN].rstrip()} …"
    way = loading_advice(source, told)
    return ModelError(f"cannot load {what} {source!r}: {shown.rstrip('.')}{f'; {way}' if way else ''}")


def loading_advice(source: str, told: str) -> str:
    """What to do about a library's message; empty if it is none that we know."""
    missing = missing_package(told)
    if missing:
        return f"pip install {missing.replace('_', '-')}"
    if re.search(r"gated|restricted|\b40[13]\b", told):
        return f"accept its terms at https://huggingface.co/{source}, then set HF_TOKEN (hf auth login)"
    if re.search(r"trust_remote_code", told):
        return "set model.trust_remote_code: true to run the code that it brings, if you trust it"
    if re.search(r"does not recognize this architecture", told):
        return "install a newer transformers, or take a checkpoint in its layout (often the same name with -hf)"
    if re.search(r"\b404\b|not a valid model identifier|not found", told, re.I):
        return "check the name; a private one needs HF_TOKEN"
    return ""


def missing_package(told: str) -> str | None:
    """The package of `PACKAGES` that a message says is missing.

    >>> missing_package("SmolVLMProcessor requires the num2words library but it was not found in your environment.")
    'num2words'
    """
    if not re.search(r"not found|not installed|No module named|requires?\b|pip install|is not available", told):
        return None
    return next((name for name in PACKAGES if re.search(rf"\b{name}\b", told.replace("-", "_"), re.I)), None)


def check_layout(source: str, *, trust_remote_code: bool) -> None:
    """Refuse a checkpoint that transformers does not read by itself, before anything of it is run.

    Raises `ModelError` naming `model.trust_remote_code` where the checkpoint brings code for it, and the checkpoint in
    transformers' layout where there is one.
    """
    raw = _raw_config(source)
    if not raw:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind, code = str(raw.get("model_type") or "without model_type"), dict(raw.get("auto_map") or {})
    original = "mm_vision_tower" in raw  # LLaVA as its authors save it, also under transformers' own name
    if kind in CONFIG_MAPPING_NAMES and not original:
        return
    other = KNOWN["llava_llama"] if original and kind not in KNOWN else KNOWN.get(kind)
    instead = f"take it in transformers' layout: {other}" if other else "take another checkpoint"
    if not code:
        raise ModelError(
            f"{source} is a {kind} model in a layout that transformers does not read; {instead}, or a newer "
            "transformers if it has just come out"
        )
    if not trust_remote_code:
        raise ModelError(
            f"{source} is a {kind} model that brings its own code; set model.trust_remote_code: true to run it, if you "
            f"trust it{f', or {instead}' if other else ''}"
        )
    if "AutoModelForImageTextToText" not in code:
        offered = ", ".join(name for name in code if name.startswith("AutoModel")) or "no model"
        raise ModelError(
            f"the code of {source} ({kind}) offers {offered}, not AutoModelForImageTextToText, which medrft trains; "
            f"{instead}"
        )


def _raw_config(source: str) -> Mapping[str, Any]:
    """The model's config.json as it is; empty if there is none or it cannot be fetched."""
    from transformers import PreTrainedConfig
    from transformers.utils import logging

    hub_silence(source)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns that the raw config has no type
    try:
        found: Mapping[str, Any] = PreTrainedConfig.get_config_dict(source)[0]
        return found
    except (OSError, ValueError):  # whoever loads it says why
        return {}
    finally:
        logging.set_verbosity(level)
