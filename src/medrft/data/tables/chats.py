"""From a conversation about images to one table row (`question`, `answer`, `image`, …) for each answered question.

    [{"role": "user", "content": "<image>Where?"}, {"role": "assistant", "content": "left"}]
    [{"from": "human", "value": "<image>Where?"}, {"from": "gpt", "value": "left"}]
    [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Where?"}]}, …]

What has no place in an example (a video, a tool's reply, a question without an answer) is reported, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from medrft.data.values import show_value
from medrft.text import extract, part_thought

Turn = tuple[str, str, list[Any]]
"""Who speaks (`system`, `user`, `assistant`), what, and the images that stand in the turn itself."""
PLACEHOLDER = re.compile(r"<image>\s*|<\|image_pad\|>|<ImageHere>")
OPTION = re.compile(r"\(([A-Z])\) (.*)")
LISTS = ("messages", "conversations", "conversatons", "conversation")
"""Keys that hold a conversation; the third is LLaVA-Med's spelling."""
SPEAKERS = {
    **dict.fromkeys(("user", "human", "question"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatbot", "answer"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
TEXT_BLOCKS = ("text", "input_text", "output_text")
IMAGE_BLOCKS = ("image", "image_url", "input_image", "image_path")


class RowError(ValueError):
    """A row that is not of its format; the text says why."""


def conversation_of(row: Mapping[str, Any]) -> list[Turn] | None:
    """The turns of a row's conversation, or `None` if it has none. Raises `RowError` for a turn that cannot be read."""
    key = next((key for key in LISTS if key in row), None)
    if key is None:
        return None
    turns = row[key]
    if not isinstance(turns, Sequence) or isinstance(turns, str | bytes):
        raise RowError(f"{key} is no list of turns but {show_value(turns, 40)}")
    return [_turn(turn) for turn in turns]


def images_in(row: Mapping[str, Any]) -> list[Any]:
    """The images beside a conversation, in `images` or `image`, without case and outer space."""
    named = {str(name).strip().lower(): value for name, value in row.items() if value not in (None, "", [])}
    value = named.get("images", named.get("image"))
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def chat_turns(turns: Sequence[Turn], images: Sequence[Any]) -> list[dict[str, Any]]:
    """One table row for each question that is answered, with the questions and answers before it in `history`.

    An image belongs to the turn that shows it (by `<image>`, or by a block of its own) and to all later ones. Images
    that no turn shows belong to the first. Raises `RowError` if there is no question, or the speakers do not alternate.
    """
    spoken = [turn for turn in turns if turn[0] != "system"]
    if not spoken or spoken[0][0] != "user" or all(who == "user" for who, _, _ in spoken):
        raise RowError("a row needs one text of the user and one of the assistant")
    marks = [len(PLACEHOLDER.findall(text)) for who, text, _ in spoken if who == "user"]
    left = list(images)
    seen: list[Any] = []
    history: list[list[str]] = []
    rows: list[dict[str, Any]] = []
    for number, place in enumerate(range(0, len(spoken), 2)):
        who, asked, own = spoken[place]
        if who != "user":
            raise RowError(f"two turns of the {who} in a row")
        if place + 1 == len(spoken):
            rows.append({"problem": f"turn {number + 1} is a question without an answer"})
            break
        if spoken[place + 1][0] != "assistant":
            raise RowError("two turns of the user in a row")
        taken = marks[number] if number else max(marks[0], len(left) - sum(marks[1:]))
        seen, left = [*seen, *own, *left[:taken]], left[taken:]
        question, said = PLACEHOLDER.sub("", asked).strip(), spoken[place + 1][1]
        answer, thought = reply_parts(said)
        apart, options = question_parts(question)
        row: dict[str, Any] = {"question": apart, "answer": answer, "rationale": thought, "image": list(seen)}
        row |= {"options": options} if options else {}
        rows.append(row | ({"history": [list(pair) for pair in history]} if history else {}))
        history.append([question, answer or said.strip()])
    return rows


def reply_parts(reply: str) -> tuple[str | None, str]:
    """The answer of a reply and the thought before it, in any model's marks; `None` if the thought never ends.

    >>> reply_parts("<think>Air.</think><answer>yes</answer>"), reply_parts("[THINK]Air.[/THINK]yes")
    (('yes', 'Air.'), ('yes', 'Air.'))
    >>> reply_parts("left lung"), reply_parts("<think>so yes")
    (('left lung', ''), (None, 'so yes'))
    """
    if "<answer>" in reply:
        found = extract(reply, "think")
        return found.answer, found.thinking or ""
    thought, rest = part_thought(reply)
    return rest.strip() if rest is not None else None, thought or ""


def question_parts(text: str) -> tuple[str, dict[str, str]]:
    """A question, and apart from it the options (A), (B), … on the lines after it, as our own prompts print them.

    Options written in other ways stay in the question: only the answer tells whether they are options (`answers`).
    """
    lines = text.strip().split("\n")
    first = next((i for i, line in enumerate(lines) if i and line.startswith("(A) ")), len(lines))
    found = [OPTION.fullmatch(line) for line in lines[first:]]
    letters = [match[1] for match in found if match]
    if letters and letters == [chr(ord("A") + i) for i in range(len(found))]:
        return "\n".join(lines[:first]), {match[1]: match[2] for match in found if match}
    return text.strip(), {}


def _turn(turn: Any) -> Turn:
    if not isinstance(turn, Mapping):
        raise RowError(f"a turn is {show_value(turn, 40)}, not an object")
    who = turn.get("role", turn.get("from"))
    speaker = SPEAKERS.get(str(who).strip().lower())
    if speaker is None:
        raise RowError(f"a turn of {show_value(who, 30)}; known are user, assistant and system")
    content = turn["content"] if "content" in turn else turn["value"]
    text, images = _content(content)
    return speaker, text, images


def _content(content: Any) -> tuple[str, list[Any]]:
    """Text and images of a turn: text alone, or a list of blocks."""
    if isinstance(content, str):
        return content, []
    blocks = content if isinstance(content, list | tuple) else [content]
    texts: list[str] = []
    images: list[Any] = []
    for block in blocks:
        if isinstance(block, str):
            texts.append(block)
            continue
        if not isinstance(block, Mapping):
            raise RowError(f"content is {show_value(block, 40)}, neither text nor a block")
        kind = block.get("type", "text" if "text" in block else "image" if "image" in block else None)
        if kind in TEXT_BLOCKS and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind in IMAGE_BLOCKS:
            # A Parquet file gives every block all keys, so that one without an image of its own has nulls.
            found = next((block[key] for key in ("image", "image_url", "path", "url", "bytes") if block.get(key)), None)
            found = found.get("url", found) if isinstance(found, Mapping) and "bytes" not in found else found
            images += [found] if found is not None else []
            texts += [] if found is not None else ["<image>"]
        else:
            raise RowError(f"a block of type {show_value(kind, 30)}; known are text and image")
    return "\n".join(texts), images
