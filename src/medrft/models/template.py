"""Sets a processor's chat template: the model's own or a file named by the recipe, with the recipe's arguments.

`model.chat_template_kwargs` are written as defaults at the top of the template itself. Our prompts, TRL's SFT and GRPO,
vLLM, and plain transformers on the final folder then all render the same text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrft.config import ModelConfig
from medrft.errors import ModelError, unknown_name

OURS = frozenset(
    ("messages", "add_generation_prompt", "continue_final_message", "tools", "documents", "tokenize", "chat_template")
)
"""Variables that the rendering code passes by itself, and a recipe must not set."""

WAY_OUT = "choose its instruct or chat version, put a chat_template.jinja into its folder, or set model.chat_template"
"""What to do about a model without a chat template."""


def read_template(config: ModelConfig) -> str | None:
    """The text of the recipe's `model.chat_template`; `None` if the model's own is used.

    Raises `ModelError` for a file that is absent or not text.
    """
    if config.chat_template is None:
        return None
    path = Path(config.chat_template).expanduser()
    if not path.is_file():
        raise ModelError(
            f"no chat template at {path}; model.chat_template is a Jinja file, or null for the model's own"
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read model.chat_template {path}: {error}; it must be a UTF-8 text file") from error


def fit_template(processor: Any, source: str, *, text: str | None, arguments: Mapping[str, Any]) -> None:
    """Give a processor and its tokenizer the template `text`, or else the model's own, with `arguments` as defaults.

    Raises `ModelError` if there is no template or it is not valid Jinja, and `UnknownNameError` for an argument that
    the template never reads.
    """
    found = text or processor.chat_template or processor.tokenizer.chat_template
    if isinstance(found, dict):  # named templates: for tools, for retrieval, and the usual one
        found = found.get("default")
    if not found:
        raise ModelError(f"{source} has no chat template, so it is a base model; {WAY_OUT}")
    known = _variables(found, source)
    special = {name for name in known if name.endswith("_token")}
    for name in arguments:
        if name in OURS:
            raise ModelError(f"model.chat_template_kwargs.{name} is set by medrft itself; take it out")
        if name not in known:
            raise unknown_name(f"argument of {source}'s chat template", name, known - OURS - special)
    processor.chat_template = processor.tokenizer.chat_template = with_defaults(found, arguments)


def with_defaults(template: str, arguments: Mapping[str, Any]) -> str:
    """The template with a default for each argument, used where the rendering code does not pass it.

    If the template has such defaults already, the new ones win: they come first, and the old ones find them defined.

    >>> with_defaults("{{ a }}", {"a": True})
    '{%- if a is not defined -%}{%- set a = true -%}{%- endif +%}{{ a }}'
    """
    # `+%}` at the end: transformers renders with `trim_blocks`, which would eat a newline at the template's start.
    lines = [
        f"{{%- if {name} is not defined -%}}{{%- set {name} = {_literal(value)} -%}}{{%- endif +%}}"
        for name, value in sorted(arguments.items())
    ]
    added = "".join(lines)
    return template if template.startswith(added) else added + template


def _literal(value: Any) -> str:
    """A value of a recipe as a Jinja literal."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _variables(template: str, source: str) -> set[str]:
    """The names that a template reads without setting them."""
    from jinja2.exceptions import TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        environment = _compile_jinja_template(template).environment
        return find_undeclared_variables(environment.parse(template))
    except TemplateSyntaxError as error:
        raise ModelError(
            f"the chat template of {source} is no valid Jinja: line {error.lineno}: {error.message}; "
            "mend it, or set model.chat_template to one that is"
        ) from error
