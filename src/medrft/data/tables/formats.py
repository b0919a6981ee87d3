"""From an example to a row as another trainer's reader takes it, and from such a row to the columns of our `table`.

    llama_factory  {"messages": [{"role": "system" | "user" | "assistant", "content": …}], "images": […]}
    vlm_r1         {"image": … | […], "conversations": [{"from": "human" | "gpt", "value": …}]}
    med_r1         {"image": …, "problem": …, "solution": "<answer> … </answer>"}
    medvlthinker   {"images", "question", "options" (JSON text), "answer_label", "answer", "reasoning", …}
    verl           {"data_source", "prompt", "images", "ability", "reward_model", "extra_info"}

A chat may hold several turns: each becomes an example of its own, with the earlier turns in its `history`. Images,
splits and prompts are not decided here but in `convert`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any

from medrft.data.tables import choices
from medrft.data.tables.chats import LISTS, RowError, chat_turns, conversation_of, images_in
from medrft.data.tables.rows import Row
from medrft.types import Example

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """An example as a prompt words it."""

    system: str
    question: str
    """The question with its options, as the prompt prints it."""
    target: str
    """The completion that SFT teaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one trainer writes an example."""

    suffix: str
    encode: Callable[[Example, Wording, Sequence[Any]], dict[str, Any]]
    """From an example, its words, and its images as the row is to hold them, to the row."""
    decode: Callable[[Values], list[dict[str, Any]]]
    """From a row to columns of a `table` (and `dataset` if the row names one), once for each turn. What is wrong with a
    turn is under `problem`. Raises `RowError`, `KeyError` or `TypeError` for a row of another format."""
    many: bool = True
    """Whether a row may hold several images."""
    embeds: bool = False
    """Whether rows hold the encoded images themselves."""
    turns: bool = False
    """Whether every turn of a row is read as an example; a conversation is then written once, not once per turn."""
    consumes: tuple[str, ...] = ()
    """The keys of a row that `decode` reads."""


def turns_of(row: Row, form: Format) -> list[Row]:
    """The turns of a row as rows of a table; a single row with its `problem` if it is not of the format."""
    if row.problem:
        return [row]
    try:
        decoded = form.decode(row.values)
    except (RowError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        told = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        return [replace(row, values={}, problem=f"not a row of the format: {told}"[:200])]
    turns = []
    for number, values in enumerate(decoded, 1):
        problem = values.pop("problem", "")
        kept = {key: value for key, value in values.items() if key not in ("id", "split") or value is not None}
        turns.append(
            Row(
                number=row.number,
                split=row.split,
                values={} if problem else kept,
                problem=problem,
                turn=number if len(decoded) > 1 else None,
            )
        )
    return turns


def recognize_format(row: Values) -> Format | None:
    """The format of a row in which a trainer's conversation, or problem and solution, stand for question and answer."""
    if any(isinstance(row.get(key), list) for key in LISTS):
        return FORMATS["llama_factory"]
    if {"problem", "solution"} <= row.keys():
        return FORMATS["med_r1"]
    if {"prompt", "reward_model"} <= row.keys() and isinstance(row["prompt"], list):
        return FORMATS["verl"]
    return None


def _llama_factory(example: Example, words: Wording, images: Sequence[Any]) -> dict[str, Any]:
    turns = (("system", words.system), *_turns(example, words, images, ("user", "assistant")))
    return {"messages": [{"role": role, "content": text} for role, text in turns], "images": list(images)}


def _from_messages(row: Values) -> list[dict[str, Any]]:
    turns = conversation_of(row)
    if turns is None:
        raise KeyError("messages" if "messages" in row else "conversations")
    return chat_turns(turns, images_in(row))


def _vlm_r1(example: Example, words: Wording, images: Sequence[Any]) -> dict[str, Any]:
    turns = list(_turns(example, words, images, ("human", "gpt")))
    image = images[0] if len(images) == 1 else list(images)
    return {"image": image, "conversations": [{"from": who, "value": text} for who, text in turns]}


def _med_r1(example: Example, words: Wording, images: Sequence[Any]) -> dict[str, Any]:
    answer = _letter(example) or example.references[0]
    return {"image": images[0], "problem": words.question, "solution": f"<answer> {answer} </answer>"}


def _from_med_r1(row: Values) -> list[dict[str, Any]]:
    return chat_turns([("user", row["problem"], []), ("assistant", row["solution"], [])], images_in(row))


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


def _from_medvlthinker(row: Values) -> list[dict[str, Any]]:
    options = row["options"]
    return [
        {
            "image": row["images"],
            "question": row["question"],
            "options": options,
            "answer": row.get("answer") or (row.get("answer_label") if choices.options_of(options) else None),
            "rationale": row.get("reasoning"),
            "id": row.get("dataset_index"),
            "dataset": row.get("dataset_name"),
        }
    ]


def _verl(example: Example, words: Wording, images: Sequence[Any]) -> dict[str, Any]:
    more = {
        "references": example.references,
        "options": example.options,
        "rationale": example.rationale,
        "metadata": dict(example.metadata),
        **({"history": example.history} if example.history else {}),
    }
    asked = list(_turns(example, words, images, ("user", "assistant")))[:-1]
    return {
        "data_source": example.dataset,
        "prompt": [{"role": role, "content": text} for role, text in (("system", words.system), *asked)],
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


def _from_verl(row: Values) -> list[dict[str, Any]]:
    extra = row.get("extra_info") or {}
    more = json.loads(extra.get("medrft") or "{}")
    answer = more.get("references", row["reward_model"]["ground_truth"])
    turns = conversation_of({"messages": row["prompt"]})
    if turns is None or not turns:
        raise RowError("prompt is no list of turns")
    *_, last = chat_turns([*turns, ("assistant", "x", [])], images_in(row))
    if "problem" in last:
        raise RowError(str(last["problem"]))
    known = {"split": extra.get("split"), "id": extra.get("index"), "rationale": more.get("rationale")}
    history = more.get("history", last.get("history"))
    return [
        {
            **more.get("metadata", {}),
            **{key: value for key, value in known.items() if value is not None},
            **({"history": history} if history else {}),
            "question": (extra.get("question") if more else None) or last["question"],
            **({"options": options} if (options := more.get("options", last.get("options"))) else {}),
            "answer": answer,
            "image": last["image"],
            "dataset": row.get("data_source"),
        }
    ]


def _turns(
    example: Example, words: Wording, images: Sequence[Any], roles: tuple[str, str]
) -> Iterator[tuple[str, str]]:
    """The earlier turns and this one, as pairs (role, text); one `<image>` per image is before the first question."""
    marks = "<image>" * len(images)
    for asked, said in (*example.history, (words.question, words.target)):
        yield roles[0], marks + asked
        yield roles[1], said
        marks = ""


def _letter(example: Example) -> str:
    """The letter of the right option; empty if the example has no options."""
    right = example.references[0]
    return ascii_uppercase[example.options.index(right)] if right in example.options[: len(ascii_uppercase)] else ""


CHAT = (*LISTS, "image", "images")
FORMATS: dict[str, Format] = {
    "llama_factory": Format(suffix=".json", encode=_llama_factory, decode=_from_messages, turns=True, consumes=CHAT),
    "vlm_r1": Format(suffix=".jsonl", encode=_vlm_r1, decode=_from_messages, turns=True, consumes=CHAT),
    "med_r1": Format(
        suffix=".json", encode=_med_r1, decode=_from_med_r1, many=False, consumes=("problem", "solution", "image")
    ),
    "medvlthinker": Format(suffix=".parquet", encode=_medvlthinker, decode=_from_medvlthinker, embeds=True),
    "verl": Format(
        suffix=".parquet",
        encode=_verl,
        decode=_from_verl,
        embeds=True,
        consumes=("prompt", "reward_model", "extra_info", "images", "data_source"),
    ),
}
