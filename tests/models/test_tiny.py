"""Tiny models: sizes, determinism, a tokenizer that loses nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrft.errors import ModelError, UnknownNameError
from medrft.models.families import templates
from medrft.models.families.config_entries import rotary_sections
from medrft.models.families.tokens import TAGS, train_tokenizer
from medrft.models.tiny import FAMILIES, OWN, build_tiny

TEXTS = ["<think>The left lung shows an opacity.</think><answer>left lung</answer>"] * 3
SMALL = {"hidden": 16, "vision_hidden": 16, "layers": 1, "vision_layers": 1, "mlp": 32}
TOKENIZER = train_tokenizer(TEXTS, vocab=350, extra={"image_token": "<image>"})


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_survives_but_for_a_first_space(text):
    plain = text.replace("<", "(").replace("|", "/")  # no special tokens
    assert TOKENIZER.decode(TOKENIZER.encode(plain), skip_special_tokens=True) == plain.removeprefix(" ")


def test_a_word_is_one_token_wherever_it_stands():
    left = TOKENIZER.encode("left")
    assert len(left) == 1
    assert left[0] in TOKENIZER.encode("The left lung")
    assert TOKENIZER.encode("<answer>left</answer>")[1] == left[0]


@pytest.mark.parametrize("text", [*TEXTS[:1], "left lung", "<think>a</think><answer>b, c</answer>", "a\n(A) b\n(B) c"])
def test_a_saved_tokenizer_reads_and_writes_the_same(text, tmp_path):
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.encode(text) == TOKENIZER.encode(text)
    assert loaded.decode(loaded.encode(text)) == text


def test_tags_are_one_token_each_and_stay_in_the_text():
    assert [len(TOKENIZER.encode(tag)) for tag in TAGS] == [1, 1, 1, 1]
    assert TOKENIZER.decode(TOKENIZER.encode(TEXTS[0] + "<|end|>"), skip_special_tokens=True) == TEXTS[0]
    assert len(TOKENIZER) <= 350


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_weights(family):
    one, other, third = (build_tiny(family, texts=TEXTS, sizes=SMALL, seed=seed)[0] for seed in (1, 1, 2))
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (one, other, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("family", "sizes", "error", "message"),
    [
        ("lava", {}, UnknownNameError, "did you mean 'llava'"),
        ("llava", {"hiden": 4}, UnknownNameError, "did you mean 'hidden'"),
        ("llava", {"hidden": 0}, ModelError, "hidden is 0"),
        ("llava", {"hidden": "big"}, ModelError, "hidden is 'big'"),
        ("llava", {"image": 60}, ModelError, r"image = 60 is not a multiple of 4 \* patch = 16"),
        ("llava", {"heads": 3}, ModelError, "hidden = 128 is not a multiple of heads = 3"),
        ("qwen2_5_vl", {"image": 24}, ModelError, "image = 24 is not a multiple of 2 patches = 16"),
        ("internvl", {"image": 48}, ModelError, "image = 48 is not a multiple of 2 tiles of 2 patches = 32"),
    ],
)
def test_a_wrong_family_or_size_is_told(family, sizes, error, message):
    with pytest.raises(error, match=message):
        build_tiny(family, texts=TEXTS, sizes=sizes, seed=0)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_tiny("llava", texts=TEXTS, sizes=SMALL, seed=3)
    assert torch.rand(1) == expected


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(OWN) - {"paligemma"}))
def test_hub_families_wear_a_template_of_their_own_turns(family):
    _, processor = build_tiny(family, texts=TEXTS, sizes=SMALL, seed=0)
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which lung?"}]}
    text = processor.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    ids = processor.tokenizer(text)["input_ids"]
    special = set(processor.tokenizer.get_added_vocab().values())
    assert "Which lung?" in text
    assert "<|end|>" not in text
    assert family == "llava_1_5" or special & set(ids)  # LLaVA 1.5's turns are words


def test_without_trl_its_templates_are_missed_in_one_line(monkeypatch):
    monkeypatch.setattr(templates, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"TRL ships; pip install 'medrft\[train\]'"):
        build_tiny("qwen2_5_vl", texts=TEXTS, sizes=SMALL, seed=0)
    assert build_tiny("internvl", texts=TEXTS, sizes=SMALL, seed=0)


def test_another_trl_is_told():
    with pytest.raises(ModelError, match="ships no chat template 'qwen9'"):
        templates.shipped_template("qwen9")


@pytest.mark.parametrize("half", [2, 4, 8, 16, 64])
def test_rotary_sections_use_every_frequency(half):
    assert sum(rotary_sections(half)) == half
