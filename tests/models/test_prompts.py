"""Prompts: their messages, targets, hashes, and how they fit to chat templates."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from medrft.errors import DataError, ModelError, UnknownNameError
from medrft.models.prompts import PROMPTS, get_prompt, question_text, with_images
from medrft.types import Example

BLOCKS = (
    "{% for m in messages %}<{{ m.role }}>{% for b in m.content %}"
    "{% if b.type == 'image' %}[I]{% else %}{{ b.text }}{% endif %}{% endfor %}{% endfor %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
OPENING = "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"


class Templated:
    """The part of a processor that renders: a real jinja template through transformers' own renderer."""

    def __init__(self, chat_template):
        self.chat_template = chat_template
        self.tokenizer = SimpleNamespace(name_or_path="some/model")

    def apply_chat_template(self, messages, *, tokenize, add_generation_prompt):
        from transformers.utils.chat_template_utils import render_jinja_template

        assert not tokenize
        rendered, _ = render_jinja_template(
            [messages], chat_template=self.chat_template, add_generation_prompt=add_generation_prompt
        )
        return rendered[0]


def example(**values):
    base = {
        "id": "toy/train/1",
        "dataset": "toy",
        "split": "train",
        "images": (Path("a.png"), Path("b.png")),
        "question": "Which side?",
        "references": ("left", "left side"),
        "kind": "open",
    }
    return Example(**base | values)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_its_name_version_and_form(name):
    prompt = get_prompt(name)
    assert (prompt.name, prompt.form, prompt.version) == (name, {"plain": "short"}.get(name, name), 1)
    assert prompt.hash == replace(prompt, system_role=True, opened="<think>").hash
    assert prompt.hash != replace(prompt, version=2).hash
    assert prompt.hash != replace(prompt, instruction="Answer.").hash


def test_an_unknown_prompt_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'think'"):
        get_prompt("thinking")


def test_messages_hold_one_block_per_image_and_the_system_text_once():
    prompt = get_prompt("direct")
    folded = prompt.messages(example())
    assert [block["type"] for block in folded[0]["content"]] == ["image", "image", "text"]
    assert folded[0]["content"][-1]["text"].startswith(prompt.role)
    system, user = replace(prompt, system_role=True).messages(example())
    assert system["content"][0]["text"] == f"{prompt.role} {prompt.instruction}"
    assert user["content"][-1]["text"] == "Which side?"


@pytest.mark.parametrize(
    ("question", "options", "printed"),
    [
        ("Which modality?", ("MR", "CT"), "Which modality?\n(A) MR\n(B) CT"),
        ("Which? Answer Choices: (A) MR (B) CT", ("MR", "CT"), "Which? Answer Choices: (A) MR (B) CT"),  # there already
        ("Is this MR or CT?", ("MR", "CT"), "Is this MR or CT?\n(A) MR\n(B) CT"),  # named, but without letters
        ("<image>\nWhich side?", (), "Which side?"),  # the template places the image
    ],
)
def test_options_are_printed_once(question, options, printed):
    assert question_text(example(question=question, options=options)) == printed


@pytest.mark.parametrize(
    ("name", "opened", "target"),
    [
        ("think", "", "<think>It is left.</think><answer>left</answer>"),
        ("think", "<think>\n", "<think>\nIt is left.</think><answer>left</answer>"),
        ("direct", "", "<answer>left</answer>"),
        ("short", "", "left"),
    ],
)
def test_target(name, opened, target):
    assert replace(get_prompt(name), opened=opened).target(example(rationale=" It is left. ")) == target


@pytest.mark.parametrize("rationale", [None, "  "])
def test_a_thought_is_never_invented(rationale):
    with pytest.raises(DataError, match="no rationale"):
        get_prompt("think").target(example(rationale=rationale))


@pytest.mark.parametrize(
    ("name", "opened", "text", "finished"),
    [
        ("think", "", "<think>a</think><answer>b</answer>", "<think>a</think><answer>b</answer>"),
        ("think", "<think>\n", "a</think><answer>b</answer>", "<think>\na</think><answer>b</answer>"),
        ("direct", "<think>\n", "a</think><answer>b</answer>", "<answer>b</answer>"),
        ("short", "<think>\n", "a</think>\nb", "\nb"),
        ("short", "<think>\n", "a and so on", ""),  # never stopped thinking
    ],
)
def test_finish_puts_back_what_the_template_opened(name, opened, text, finished):
    assert replace(get_prompt(name), opened=opened).finish(text) == finished


@pytest.mark.parametrize(
    ("template", "system_role", "opened"),
    [
        (BLOCKS, True, ""),
        (NO_SYSTEM + BLOCKS, False, ""),
        ("{% for m in messages if m.role != 'system' %}" + BLOCKS[27:], False, ""),  # drops it silently
        (BLOCKS + OPENING, True, "<think>\n"),
    ],
)
def test_bound_to_a_template(template, system_role, opened):
    prompt = get_prompt("think").bound(Templated(template))
    assert (prompt.system_role, prompt.opened) == (system_role, opened)
    assert prompt.bound(Templated(template)) == prompt


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "some/model has no chat template.*instruct or chat version"),
        ("{% for m in messages %}[I]{% endfor %}", "drops the question"),
        ("{% for m in messages %}{% for b in m.content %}{{ b.text }}{% endfor %}{% endfor %}", "drops the image"),
    ],
)
def test_a_template_that_cannot_carry_the_prompt(template, message):
    with pytest.raises(ModelError, match=message):
        get_prompt("think").bound(Templated(template))


def test_pictures_go_into_their_blocks_in_order():
    filled = with_images(get_prompt("short").messages(example()), ["one", "two"])
    assert [block.get("image") for block in filled[0]["content"]] == ["one", "two", None]


def test_texts_cover_everything_a_policy_reads_and_writes():
    prompt = get_prompt("think")
    texts = list(prompt.texts([example(rationale="It is left."), example()]))
    assert "left side" in texts
    assert sum("</think>" in text for text in texts) == 2  # the instruction and the one target there is
