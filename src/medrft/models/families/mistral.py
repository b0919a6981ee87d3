"""Tiny Mistral Small 3 and Llama 3.2 Vision: sizes and texts go in, a config and its processor come out.

Mistral has Pixtral's vision tower. Llama reads its picture through cross-attention, not among its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from medrft.models.families.config_entries import head_width, hub_text_sizes, vision_sizes
from medrft.models.families.sizes import PATCH, Built, TinySizes
from medrft.models.families.templates import MLLAMA, PIXTRAL
from medrft.models.families.tokens import train_hub_tokenizer


def build_mistral3(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Mistral Small 3.1: patches are merged two by two, and each row of them ends with a token of its own."""
    from transformers import Mistral3Config, PixtralProcessor
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    image = "[IMG]"
    tokenizer = train_hub_tokenizer(
        texts,
        vocab=sizes.vocab,
        pad="<pad>",
        end="</s>",
        begin="<s>",
        special=("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", image, "[IMG_BREAK]", "[IMG_END]"),
        template=PIXTRAL,
    )
    text = hub_text_sizes(sizes, tokenizer, head_dim=head_width(sizes), sliding_window=None, tie_word_embeddings=False)
    vision = {**vision_sizes(sizes), "head_dim": sizes.vision_hidden // sizes.heads}
    config = Mistral3Config(
        text_config={"model_type": "mistral", **text},
        vision_config={"model_type": "pixtral", **vision},
        image_token_index=tokenizer.convert_tokens_to_ids(image),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    processor = PixtralProcessor(
        image_processor=PixtralImageProcessorPil(
            size={"longest_edge": sizes.image}, patch_size={"height": PATCH, "width": PATCH}
        ),
        tokenizer=tokenizer,
        patch_size=PATCH,
        spatial_merge_size=2,
        chat_template=PIXTRAL,
    )
    return config, processor


def build_mllama(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Llama 3.2 Vision: every second layer attends to the tiles. The id of `<|image|>` is beyond the head's outputs."""
    from tokenizers import AddedToken
    from transformers import MllamaConfig, MllamaProcessor
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

    tokenizer = train_hub_tokenizer(
        texts,
        vocab=sizes.vocab,
        pad="<|finetune_right_pad_id|>",
        end="<|eot_id|>",
        begin="<|begin_of_text|>",
        special=("<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>", "<|end_of_text|>"),
        template=MLLAMA,
    )
    tokenizer.add_tokens([AddedToken("<|image|>", special=True, normalized=False)], special_tokens=True)
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    side, layers = sizes.tile, max(2, sizes.layers)
    text = hub_text_sizes(
        sizes,
        tokenizer,
        vocab_size=image,
        num_hidden_layers=layers,
        cross_attention_layers=list(range(1, layers, 2)),
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
    )
    kept = list(range(min(2, sizes.vision_layers)))
    vision = {
        **vision_sizes(sizes, image=side),
        "attention_heads": sizes.heads,
        "num_global_layers": 1,
        "intermediate_layers_indices": kept,
        "vision_output_dim": sizes.vision_hidden * (1 + len(kept)),
        "max_num_tiles": 4,
        "supported_aspect_ratios": [[a, b] for a in range(1, 5) for b in range(1, 5) if a * b <= 4],
    }
    config = MllamaConfig(text_config=text, vision_config=vision, image_token_index=image, tie_word_embeddings=False)
    processor = MllamaProcessor(
        image_processor=MllamaImageProcessorPil(size={"height": side, "width": side}, max_image_tiles=4),
        tokenizer=tokenizer,
        chat_template=MLLAMA,
    )
    return config, processor
