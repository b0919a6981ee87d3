"""Rows of other trainers: what each one's reader takes, and the same row as columns of our `table`.

    llama_factory  {"messages": [{"role": "system" | "user" | "assistant", "content": …}], "images": […]}
    vlm_r1         {"image": … | […], "conversations": [{"from": "human" | "gpt", "value": …}]}
    med_r1         {"image": …, "problem": …, "solution": "<answer> … </answer>"}
    medvlthinker   {"images", "question", "options" (JSON text), "answer_label", "answer", "reasoning", …}
    verl           {"data_source", "prompt", "images", "ability", "reward_model", "extra_info"}

No image, no split and no prompt is decided here: `convert` does that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from medrft.data import choices
from medrft.text import extract
from medrft.types import Example

Values = Mapping[str, Any]
PLACEHOLDER = re.compile(r"<image>\s*")
OPTION = re.compile(r"\(([A-Z])\) (.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """An example in the words of a prompt."""

    system: str
    question: str
    """With its options."""
    target: str
    """What SFT teaches."""


class RowError(ValueError):
    """A row that is not of its format; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one trainer writes an example."""

    suffix: str
    encode: Callable[[Example, Wording, Sequence[Any]], dict[str, Any]]
    """An example, its words and its images as they stand in the row."""
    decode: Callable[[Values], dict[str, Any]]
    """Columns of a `table` (and `dataset` where the row names one); raises `RowError`, `KeyError` or `TypeError`."""
    many: bool = True
    """Whether a row may hold several images."""
    embeds: bool = False
    """Whether rows hold the encoded images themselves."""


def _llama_factory(example: Example, words: Wording, images: Sequence[Any]) -> dict[str, Any]:
    turns = (("system", words.system), ("user", _marked(words, images)), ("assistant", words.target))
    return {"messages": [{"role": role, "content": text} for role, text in turns], "images": list(images)}


def _from_messages(row: Values) -> dict[str, Any]:
    if "messages" in row:
        turns = {str(turn["role"]): turn["content"] for turn in row["messages"]}
    else:
        turns = {str(turn["from"]): turn["value"] for turn in row["conversations"]}
    return {**_chat(turns), "image": row.get("images")}


def _vlm_r1(example: Example, words: Wording, images: Sequence[Any]) -> dict[str, Any]:
    turns = (("human", _marked(words, images)), ("gpt", words.target))
    image = images[0] if len(images) == 1 else list(images)
    return {"image": image, "conversations": [{"from": who, "value": text} for who, text in turns]}


def _from_vlm_r1(row: Values) -> dict[str, Any]:
    return {**_chat({str(turn["from"]): turn["value"] for turn in row["conversations"]}), "image": row["image"]}


def _med_r1(example: Example, words: Wording, images: Sequence[Any]) -> dict[str, Any]:
    answer = _letter(example) or example.references[0]
    return {"image": images[0], "problem": words.question, "solution": f"<answer> {answer} </answer>"}


def _from_med_r1(row: Values) -> dict[str, Any]:
    return {**_chat({"user": row["problem"], "assistant": row["solution"]}), "image": row["image"]}


def _medvlthinker(example: Example, words: Wording, images: Sequence[Any]) -> dict[str, Any]:
    options = dict(zip(ascii_uppercase, example.options, strict=False))
    return {
        "images": list(images),
        "question": example.question,
        "options": json.dumps(options, ensure_ascii=False),
        "answer_label": _letter(example),
        "answer": example.references[0],
        "reasoning": example.rationale or "",
        "dataset_name": example.dataset,
        "dataset_index": example.id.rpartition("/")[2],
    }


def _from_medvlthinker(row: Values) -> dict[str, Any]:
    options = choices.options_of(row["options"])
    return {
        "image": row["images"],
        "question": row["question"],
        "options": options,
        "answer": row.get("answer") or (row.get("answer_label") if options else None),
        "rationale": row.get("reasoning"),
        "id": row.get("dataset_index"),
        "dataset": row.get("dataset_name"),
    }


def _verl(example: Example, words: Wording, images: Sequence[Any]) -> dict[str, Any]:
    more = {
        "references": example.references,
        "options": example.options,
        "rationale": example.rationale,
        "metadata": dict(example.metadata),
    }
    return {
        "data_source": example.dataset,
        "prompt": [{"role": "system", "content": words.system}, {"role": "user", "content": _marked(words, images)}],
        "images": list(images),
        "ability": "medical_vqa",
        "reward_model": {"style": "rule", "ground_truth": example.references[0]},
        "extra_info": {
            "split": example.split,
            "index": example.id.rpartition("/")[2],
            "answer": example.references[0],
            "question": example.question,
            "medrft": json.dumps(more, ensure_ascii=False, default=str),
        },
    }


def _from_verl(row: Values) -> dict[str, Any]:
    turns = {str(turn["role"]): turn["content"] for turn in row["prompt"]}
    extra = row.get("extra_info") or {}
    more = json.loads(extra.get("medrft") or "{}")
    asked = _asked(turns["user"])
    question = extra.get("question") if more else None
    known = {"split": extra.get("split"), "id": extra.get("index"), "rationale": more.get("rationale")}
    return {
        **more.get("metadata", {}),
        **{key: value for key, value in known.items() if value is not None},
        "question": question or asked[0],
        "options": more.get("options", asked[1]),
        "answer": more.get("references", row["reward_model"]["ground_truth"]),
        "image": row.get("images"),
        "dataset": row.get("data_source"),
    }


def _marked(words: Wording, images: Sequence[Any]) -> str:
    """The user's turn with one placeholder per image."""
    return "<image>" * len(images) + words.question


def _letter(example: Example) -> str:
    """The letter of the right option; empty where there is none."""
    right = example.references[0]
    return ascii_uppercase[example.options.index(right)] if right in example.options[: len(ascii_uppercase)] else ""


def _chat(turns: Values) -> dict[str, Any]:
    """Question, options, answer and thought of the turns of a chat."""
    user, reply = turns.get("user", turns.get("human")), turns.get("assistant", turns.get("gpt"))
    if not isinstance(user, str) or not isinstance(reply, str):
        raise RowError("a row needs one text of the user and one of the assistant")
    question, options = _asked(user)
    found = extract(reply, "think")
    answer = found.answer if "<answer>" in reply else reply.rpartition("</think>")[2].strip()
    thought = found.thinking or (reply.partition("</think>")[0].partition("<think>")[2] if "</think>" in reply else "")
    return {"question": question, "options": options, "answer": answer, "rationale": thought.strip()}


def _asked(text: str) -> tuple[str, list[str]]:
    """A question apart from the options (A), (B), … on the lines after it."""
    lines = PLACEHOLDER.sub("", text).strip().split("\n")
    first = next((i for i, line in enumerate(lines) if i and line.startswith("(A) ")), len(lines))
    found = [OPTION.fullmatch(line) for line in lines[first:]]
    options = [match[2] for letter, match in zip(ascii_uppercase, found, strict=False) if match and match[1] == letter]
    return ("\n".join(lines[:first]), options) if len(options) == len(found) else ("\n".join(lines), [])


FORMATS: dict[str, Format] = {
    "llama_factory": Format(suffix=".json", encode=_llama_factory, decode=_from_messages),
    "vlm_r1": Format(suffix=".jsonl", encode=_vlm_r1, decode=_from_vlm_r1),
    "med_r1": Format(suffix=".json", encode=_med_r1, decode=_from_med_r1, many=False),
    "medvlthinker": Format(suffix=".parquet", encode=_medvlthinker, decode=_from_medvlthinker, embeds=True),
    "verl": Format(suffix=".parquet", encode=_verl, decode=_from_verl, embeds=True),
}
