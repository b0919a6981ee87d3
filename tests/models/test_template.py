"""Chat templates of a recipe: a file in place of the model's own, arguments in every stage, and the saved folder."""

from dataclasses import replace

import pytest
from transformers import AutoProcessor
from transformers.utils.chat_template_utils import render_jinja_template

from families import make_examples
from medrft.config import ModelConfig
from medrft.errors import ModelError, UnknownNameError
from medrft.models.load import load_policy
from medrft.models.prompts import get_prompt, render_chat
from medrft.models.saved import save_final
from medrft.models.template import with_defaults
from medrft.recipes import load_recipe

SHOWS = "{{ a }}|{% for m in messages %}{{ m.content }}{{ b }}{% endfor %}"


def shown(template, **given):
    texts, _ = render_jinja_template([[{"role": "user", "content": "x"}]], chat_template=template, **given)
    return texts[0]


@pytest.mark.parametrize(
    ("arguments", "given", "text"),
    [
        ({}, {"a": 1, "b": 2}, "1|x2"),
        ({"a": True, "b": False}, {}, "True|xFalse"),
        ({"a": None, "b": 2.5}, {}, "None|x2.5"),
        ({"a": 'say "no" {% if %}\n\'', "b": ""}, {}, 'say "no" {% if %}\n\'|x'),
        ({"a": [1, "ü"], "b": {"k": [True]}}, {}, "[1, 'ü']|x{'k': [True]}"),
        ({"a": True, "b": 1}, {"a": False}, "False|x1"),  # who renders may still say otherwise
    ],
)
def test_arguments_are_defaults_of_the_template(arguments, given, text):
    assert shown(with_defaults(SHOWS, arguments), **given) == text


@pytest.mark.parametrize("start", ["", "\n", "  ", "{%- set z = 1 %}\n"])
def test_defaults_add_and_take_no_character(start):
    template = start + SHOWS
    assert shown(with_defaults(template, {"a": 1, "b": 2})) == shown(template, a=1, b=2)


def test_newer_defaults_win_and_the_same_are_written_once():
    once = with_defaults(SHOWS, {"a": 1, "b": 2})
    assert with_defaults(once, {"a": 1, "b": 2}) == once
    assert shown(with_defaults(once, {"a": 3})) == "3|x2"


@pytest.mark.parametrize(
    ("family", "arguments", "opened"),
    [
        ("qwen3_5", {}, ""),  # writes an empty thought, which is closed
        ("qwen3_5", {"enable_thinking": True}, "<think>\n"),
        ("qwen3_vl_thinking", {}, "<think>\n"),
        ("qwen3_vl", {}, ""),
    ],
)
def test_a_saved_model_is_asked_in_the_same_words_by_plain_transformers(family, arguments, opened, saved, tmp_path):
    config = ModelConfig(id=f"tiny:{family}", device="cpu", chat_template_kwargs=arguments)
    policy = load_policy(config, saved(family))
    prompt = get_prompt("think").bound(policy.processor)
    assert prompt.opened == opened
    messages = prompt.messages(make_examples(1)[0])
    asked = render_chat(policy.processor, messages, generation=True)
    final = save_final(policy, tmp_path / "final")
    plain = AutoProcessor.from_pretrained(final)
    assert plain.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == asked
    again = load_policy(config, final)
    assert again.processor.chat_template == policy.processor.chat_template


def test_a_template_of_the_recipe(saved, tmp_path):
    """A file beside the recipe, found from anywhere, for a model that has none or another."""
    (tmp_path / "ask.jinja").write_text(
        "{% for m in messages %}{% for b in m.content %}{{ '<image>' if b.type == 'image' else b.text }}{% endfor %}"
        "{% endfor %}{% if add_generation_prompt %}{{ tail }}{% endif %}",
        encoding="utf-8",
    )
    (tmp_path / "r.yaml").write_text(
        "name: r\nmodel: {id: 'tiny:paligemma', chat_template: ask.jinja, chat_template_kwargs: {tail: Now}}\n"
        "data: {name: phantom}\n",
        encoding="utf-8",
    )
    recipe = load_recipe(tmp_path / "r.yaml")
    assert recipe.model.chat_template == str(tmp_path / "ask.jinja")
    policy = load_policy(recipe.model, saved("paligemma"))
    example = replace(make_examples(1)[0], question="Why?")
    assert render_chat(policy.processor, get_prompt("short").messages(example), generation=True).endswith("Why?Now")


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"chat_template_kwargs": {"enable_thinkng": True}}, UnknownNameError, "did you mean 'enable_thinking'"),
        ({"chat_template_kwargs": {"bos_token": "<s>"}}, UnknownNameError, "unknown argument"),
        ({"chat_template_kwargs": {"messages": []}}, ModelError, "set by medrft itself; take it out"),
        ({"chat_template": "nowhere.jinja"}, ModelError, "no chat template at nowhere.jinja"),
        ({"chat_template": "."}, ModelError, "no chat template at ."),
    ],
)
def test_what_a_template_cannot_take_is_one_line(table, error, message, saved):
    with pytest.raises(error, match=message) as caught:
        load_policy(ModelConfig(id="tiny:qwen3_5", device="cpu", **table), saved("qwen3_5"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [(b"{% if %}", "is no valid Jinja: line 1"), (b"\xff\xfe", "UTF-8")])
def test_a_broken_template_file_is_one_line(text, message, saved, tmp_path):
    (tmp_path / "t.jinja").write_bytes(text)
    with pytest.raises(ModelError, match=message):
        load_policy(ModelConfig(id="tiny:llava", device="cpu", chat_template=str(tmp_path / "t.jinja")), saved("llava"))
