"""Chat templates that recipes/templates mends for SFT: they ask as the hub's own do, and close the answer."""

from pathlib import Path

import pytest

from medrft.models.families import templates
from medrft.models.families.tokens import train_hub_tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "templates"
CASES = {
    "llava_1_5": (templates.LLAVA_1_5, "ASSISTANT: left</s>"),
    "llava_onevision": (templates.LLAVA_ONEVISION, "<|im_start|>assistant\nleft<|im_end|>"),
    "glm4v": (templates.GLM4V, "<|assistant|>\nleft<|user|>"),
}
ASKED = [
    {"role": "system", "content": [{"type": "text", "text": "You read images."}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which lung?"}]},
]
ANSWERED = [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": "left"}]}]


@pytest.fixture(scope="module")
def tokenizer():
    return train_hub_tokenizer(["left"] * 3, vocab=300, pad="<pad>", end="</s>", begin="<s>")


def test_each_shipped_template_is_tested():
    assert {path.stem for path in FOLDER.glob("*.jinja")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_mended_template_asks_alike_and_ends_the_answer(name, tokenizer):
    hub, turn = CASES[name]
    mended = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")

    def render(template, messages, **more):
        return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **more)

    asked = render(mended, ASKED, add_generation_prompt=True)
    assert asked == render(hub, ASKED, add_generation_prompt=True)
    answered = render(mended, ANSWERED)
    assert answered.endswith(turn)
    assert answered.startswith(asked)
