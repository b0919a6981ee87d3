"""Chat templates of tiny models: medrft's own plain one, those that TRL ships, and some that we wrote after the hub's.

A tiny model of a hub family has the template of its real checkpoints, or the same format of turns, so that what is true
of its prompts is true of theirs.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from medrft.errors import ModelError

PLAIN = (
    "{%- for message in messages -%}"
    "<|{{ message.role }}|>"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for block in message.content -%}"
    "{%- if block.type == 'image' -%}IMAGE{%- else -%}{{ block.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<|end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def plain_template(image: str) -> str:
    """medrft's own template: role token, content, end token for each turn; `image` stands for a picture."""
    return PLAIN.replace("IMAGE", image)


def shipped_template(name: str) -> str:
    """A hub template that TRL ships; raises `ModelError` if TRL is not installed or has none of that name."""
    spec = find_spec("trl")
    if spec is None or spec.origin is None:
        raise ModelError("this tiny family wears the hub's chat template, which TRL ships; pip install 'medrft[train]'")
    path = Path(spec.origin).parent / "chat_templates" / f"{name}.jinja"
    if not path.is_file():
        raise ModelError(f"the installed TRL ships no chat template {name!r}; medrft is made for TRL 1.16")
    return path.read_text(encoding="utf-8")


def _content(image: str) -> str:
    """Jinja that writes the content of `message`: a string, or blocks of text and pictures in order."""
    return (
        "{%- if message.content is string %}{{ message.content }}{%- else %}"
        "{%- for block in message.content %}"
        "{%- if block.type == 'image' %}{{ '" + image + "' }}"
        "{%- elif block.type == 'text' %}{{ block.text }}{%- endif %}"
        "{%- endfor %}{%- endif %}"
    )


def _turns(body: str, *, opening: str = "", generation: str = "") -> str:
    """Jinja that writes `opening`, `body` for each message, and `generation` if the model is to answer."""
    go_on = "{%- if add_generation_prompt %}{{ '" + generation + "' }}{%- endif %}" if generation else ""
    return opening + "{%- for message in messages %}" + body + "{%- endfor %}" + go_on


INTERNVL = _turns(
    r"{{ '<|im_start|>' + message.role + '\n' }}" + _content(r"<IMG_CONTEXT>\n") + r"{{ '<|im_end|>\n' }}",
    generation=r"<|im_start|>assistant\n",
)

LLAVA_1_5 = _turns(
    "{%- if message.role != 'system' %}{{ message.role | upper + ': ' }}{%- endif %}"
    "{%- if message.content is string %}{{ message.content + ' ' }}{%- else %}"
    "{%- for block in message.content | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{%- endfor %}"
    "{%- for block in message.content | selectattr('type', 'equalto', 'text') %}{{ block.text + ' ' }}{%- endfor %}"
    "{%- endif %}",
    generation="ASSISTANT:",
)

LLAVA_ONEVISION = _turns(
    "{{ '<|im_start|>' + message.role + ' ' }}"
    "{%- for block in message.content | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{%- endfor %}"
    "{%- for block in message.content | selectattr('type', 'equalto', 'text') %}{{ '\\n' + block.text }}{%- endfor %}"
    "{{ '<|im_end|>' }}",
    generation=r"<|im_start|>assistant\n",
)

MLLAMA = _turns(
    r"{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}"
    + _content("<|image|>")
    + "{{ '<|eot_id|>' }}",
    opening="{{- bos_token }}",
    generation=r"<|start_header_id|>assistant<|end_header_id|>\n\n",
)

GLM4V = _turns(
    r"{{ '<|' + message.role + '|>\n' }}" + _content("<|begin_of_image|><|image|><|end_of_image|>"),
    opening="[gMASK]<sop>",
    generation=r"<|assistant|>\n",
)

PIXTRAL = _turns(
    "{%- if message.role == 'system' %}{{ '[SYSTEM_PROMPT]' }}"
    "{%- elif message.role == 'user' %}{{ '[INST]' }}{%- endif %}"
    + _content("[IMG]")
    + "{%- if message.role == 'system' %}{{ '[/SYSTEM_PROMPT]' }}{%- elif message.role == 'user' %}{{ '[/INST]' }}"
    "{%- else %}{{ eos_token }}{%- endif %}",
    opening="{{- bos_token }}",
)

AYA_VISION = _turns(
    "{{ '<|START_OF_TURN_TOKEN|>' }}"
    "{%- if message.role == 'system' %}{{ '<|SYSTEM_TOKEN|>' }}{%- elif message.role == 'user' %}{{ '<|USER_TOKEN|>' }}"
    "{%- else %}{{ '<|CHATBOT_TOKEN|><|START_RESPONSE|>' }}{%- endif %}"
    + _content("<image>")
    + "{%- if message.role == 'assistant' %}{{ '<|END_RESPONSE|>' }}{%- endif %}{{ '<|END_OF_TURN_TOKEN|>' }}",
    opening="{{- bos_token }}",
    generation="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>",
)

_THOUGHT_TURN = r"""    {%- elif message.role == "assistant" %}
        {%- set turn = namespace(text='') %}
        {%- if message.content is string %}
            {%- set turn.text = message.content %}
        {%- else %}
            {%- for block in message.content %}
                {%- if 'text' in block %}{%- set turn.text = turn.text + block.text %}{%- endif %}
            {%- endfor %}
        {%- endif %}
        {%- set thought = '' %}
        {%- set answer = turn.text %}
        {%- if '</think>' in turn.text %}
            {%- set thought = turn.text.split('</think>')[0].split('<think>')[-1].strip('\n') %}
            {%- set answer = turn.text.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.last or thought %}
            {{- '<|im_start|>assistant\n<think>\n' + thought + '\n</think>\n\n' + answer }}
        {%- else %}
            {{- '<|im_start|>assistant\n' + answer }}
        {%- endif %}
"""


def qwen3_vl_thinking() -> str:
    """The template of Qwen3-VL-Thinking: that of Instruct, but it opens `<think>` and puts a thought on its own lines.

    Raises `ModelError` if TRL's Instruct template is not the one that medrft knows.
    """
    instruct = shipped_template("qwen3_vl")
    start = instruct.find('    {%- elif message.role == "assistant" %}')
    stop = instruct.find("        {%- if message.tool_calls %}", start)
    opening = r"{{- '<|im_start|>assistant\n' }}"
    if min(start, stop) < 0 or opening not in instruct:
        raise ModelError("TRL's qwen3_vl template is not the one medrft knows; medrft is made for TRL 1.16")
    thinking = instruct[:start] + _THOUGHT_TURN + instruct[stop:]
    return thinking.replace(opening, r"{{- '<|im_start|>assistant\n<think>\n' }}")
