"""Prompts: an example goes in, chat messages come out that ask for an answer in a declared form. Texts have versions.

    think    <think>…</think><answer>…</answer>
    direct   <answer>…</answer>
    short    the whole text is the answer
    plain    the words of think, but the whole text is the answer: for pretraining a study's base

The model's own chat template turns the messages into tokens. `bound` fits a prompt to one template: it finds out
whether there is a system role, and what the template writes by itself at the start of an answer.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from medrft.errors import DataError, ModelError, unknown_name
from medrft.models.template import WAY_OUT
from medrft.text import after_thought
from medrft.types import Example, Form

Message = dict[str, Any]
"""`{"role": …, "content": [{"type": "image"}, {"type": "text", "text": …}]}`"""

OPEN_THINK = re.compile(r"<think>\s*\Z")
PLACEHOLDER = re.compile(r"<image>\s*")
"""Some data sets write this into the question; the chat template places the image itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a policy is asked, and the form its answer must take."""

    name: str
    version: int
    form: Form
    role: str
    """Who the model is to be."""
    instruction: str
    """How to answer."""
    system_role: bool = False
    """Whether the template has a system role; if not, role and instruction open the user turn. Set by `bound`."""
    opened: str = ""
    """What the template itself writes at the start of the assistant turn, such as `<think>`. Set by `bound`."""

    @property
    def hash(self) -> str:
        """16 hex digits over name, version, form and texts, but not over what `bound` found."""
        content = {key: value for key, value in asdict(self).items() if key not in ("system_role", "opened")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def messages(self, example: Example) -> list[Message]:
        """Chat messages with one image block per image; options are printed once, as (A), (B), ….

        Earlier questions and answers become turns before the question. The images stand in the first turn.
        """
        system = f"{self.role} {self.instruction}".strip()
        images: list[Message] = [{"type": "image"} for _ in example.images]
        asked = [*(question for question, _ in example.history), question_text(example)]
        if not self.system_role:
            asked[0] = f"{system}\n{asked[0]}"
        turns = [{"role": "system", "content": [{"type": "text", "text": system}]}] if self.system_role else []
        for place, question in enumerate(asked):
            shown = images if place == 0 else []
            turns.append({"role": "user", "content": [*shown, {"type": "text", "text": question}]})
            if place < len(example.history):
                said = example.history[place][1]
                turns.append({"role": "assistant", "content": [{"type": "text", "text": said}]})
        return turns

    def target(self, example: Example) -> str:
        """The assistant turn that SFT teaches: the first reference in this prompt's form.

        Raises `DataError` if the form needs a thought and the example has no rationale; none is ever invented.
        """
        answer = example.references[0].strip()
        if self.form == "short":
            return answer
        if self.form == "direct":
            return f"<answer>{answer}</answer>"
        if not (example.rationale or "").strip():
            raise DataError(f"{example.id} has no rationale to teach the `think` prompt; use prompt: direct")
        return f"{self.opened or '<think>'}{str(example.rationale).strip()}</think><answer>{answer}</answer>"

    def finish(self, text: str) -> str:
        """A completion as scorers must see it, given what the template had already opened.

        >>> opening = replace(get_prompt("think"), opened="<think>")
        >>> opening.finish("clear lungs</think><answer>no</answer>")
        '<think>clear lungs</think><answer>no</answer>'
        >>> replace(get_prompt("short"), opened="<think>").finish("clear lungs</think>no")
        'no'
        """
        if not self.opened:
            return text
        if self.form == "think":
            return self.opened + text
        return after_thought(self.opened + text)

    def bound(self, processor: Any) -> Prompt:
        """This prompt fitted to a processor's chat template.

        Raises `ModelError` when there is no template, or when it drops the text or the images.
        """
        _check_template(processor)
        rendered = render_chat(processor, [_turn("user", "QUESTION")], generation=True)
        found = OPEN_THINK.search(rendered)
        return replace(self, system_role=_has_system_role(processor), opened=found[0] if found else "")

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        """All text that a policy reads or writes under this prompt: what a tokenizer is trained on."""
        yield f"{self.role} {self.instruction}"
        for example in examples:
            yield question_text(example)
            if self.form != "think" or example.rationale:
                yield self.target(example)
            yield from example.references


ROLE = "You read medical images."
PROMPTS: dict[str, Prompt] = {
    prompt.name: prompt
    for prompt in (
        Prompt(
            name="think",
            version=1,
            form="think",
            role=ROLE,
            instruction="Think inside <think></think>, then give only the answer inside <answer></answer>.",
        ),
        Prompt(
            name="direct",
            version=1,
            form="direct",
            role=ROLE,
            instruction="Give only the answer, inside <answer></answer>.",
        ),
        Prompt(
            name="short",
            version=1,
            form="short",
            role=ROLE,
            instruction="Answer with a single word or a short phrase.",
        ),
        Prompt(
            name="plain",  # pretraining rows under the words of `think`: their text is learned as it is
            version=1,
            form="short",
            role=ROLE,
            instruction="Think inside <think></think>, then give only the answer inside <answer></answer>.",
        ),
    )
}


def get_prompt(name: str) -> Prompt:
    """The prompt of that name; raises `UnknownNameError` with the nearest one."""
    if name not in PROMPTS:
        raise unknown_name("prompt", name, PROMPTS)
    return PROMPTS[name]


def question_text(example: Example) -> str:
    """The question, followed by its options unless it already spells them out.

    >>> from medrft.types import Example
    >>> e = dict(id="a/test/1", dataset="a", split="test", images=(), references=("CT",), kind="choice")
    >>> question_text(Example(question="Which modality?", options=("MR", "CT"), **e))
    'Which modality?\\n(A) MR\\n(B) CT'
    """
    question = PLACEHOLDER.sub("", example.question).strip()
    printed = all(option.strip().lower() in question.lower() for option in example.options)
    if printed and re.search(r"\(A\)|\bA[:.)]", question):
        return question
    options = [f"({chr(ord('A') + i)}) {option.strip()}" for i, option in enumerate(example.options)]
    return "\n".join([question, *options])


def with_images(messages: list[Message], images: Iterable[Any]) -> list[Message]:
    """The messages with each image block holding its picture, in order."""
    left = iter(images)
    return [
        {
            **message,
            "content": [
                {**block, "image": next(left)} if block["type"] == "image" else block for block in message["content"]
            ],
        }
        for message in messages
    ]


def render_chat(processor: Any, messages: list[Message], *, generation: bool) -> str:
    """The chat template's text for some messages."""
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation))


def _turn(role: str, text: str, *, images: int = 0) -> Message:
    return {"role": role, "content": [*[{"type": "image"}] * images, {"type": "text", "text": text}]}


def _check_template(processor: Any) -> None:
    if not getattr(processor, "chat_template", None):
        raise ModelError(f"{_name(processor)} has no chat template, so it is a base model; {WAY_OUT}")
    text = render_chat(processor, [_turn("user", "QUESTION")], generation=True)
    seen = render_chat(processor, [_turn("user", "QUESTION", images=1)], generation=True)
    if "QUESTION" not in text or text == seen:
        raise ModelError(
            f"the chat template of {_name(processor)} drops the {'question' if 'QUESTION' not in text else 'image'}; "
            "set model.chat_template to a file that renders content blocks of type text and image"
        )


def _has_system_role(processor: Any) -> bool:
    from jinja2.exceptions import TemplateError

    try:
        rendered = render_chat(processor, [_turn("system", "SYSTEM"), _turn("user", "QUESTION")], generation=True)
    except TemplateError:  # templates refuse the role with raise_exception
        return False
    return "SYSTEM" in rendered


def _name(processor: Any) -> str:
    tokenizer = getattr(processor, "tokenizer", processor)
    return str(getattr(tokenizer, "name_or_path", "") or type(processor).__name__)
