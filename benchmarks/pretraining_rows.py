"""Rows for `pretrain_phantom`: drawn pictures with their questions become arrays on disk, and batches of tensors.

A row is one picture with all its questions. Each of them sees the prompt with the picture, and itself; its positions
go on where the prompt ends. So every answer has the loss that it would have if it had been asked alone.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from medrft.config import ModelConfig
from medrft.data.phantom.composed import composed_texts
from medrft.data.phantom.lessons import draw_lesson, fact_names, facts_of
from medrft.models.load import load_processor
from medrft.models.prompts import get_prompt, render_chat
from medrft.types import Example

SEED = 1000
"""Of weights and pictures. No study and no evaluation uses it."""
SIZE = 64
SHARD = 2048
"""Pictures that are drawn and kept together."""
PROMPTS = ("short", "plain")


def normal(pixels: torch.Tensor) -> torch.Tensor:
    """8-bit grey (B, size, size) as the processor gives it, (B, 3, size, size)."""
    return ((pixels.float() / 255 - 0.4) / 0.3)[:, None].expand(-1, 3, -1, -1)


class Shard(NamedTuple):
    """Drawn lessons as arrays; `tokens` of all pairs lie behind each other."""

    pixels: Any
    facts: Any
    prompts: Any
    tokens: Any
    starts: Any
    """Where each pair begins in `tokens`, and where the last one ends."""
    answers: Any
    """How many tokens at the end of each pair are answer."""
    first: Any
    """The first pair of each picture, and the number of all pairs."""


class Batch(NamedTuple):
    """Rows of one step: B pictures, L tokens."""

    pixels: torch.Tensor
    ids: torch.Tensor
    places: torch.Tensor
    mask: torch.Tensor
    source: torch.Tensor
    """Flat positions (of B times L) whose next token is learned."""
    target: torch.Tensor
    weight: torch.Tensor
    facts: torch.Tensor
    questions: int


# ---- texts to tokens ------------------------------------------------------------------------------------------------


class Writer:
    """Pairs and prompts as tokens, in the words of the processor's own chat template."""

    def __init__(self, processor: Any) -> None:
        self.tokenizer = processor.tokenizer
        self.image = self.tokenizer.convert_tokens_to_ids("<image>")
        self.prefixes, self.between = [], ""
        cells = processor.patch_size
        self.cells = (SIZE // cells) ** 2
        for name in PROMPTS:
            example = Example(
                id="x",
                dataset="x",
                split="train",
                images=(Path("x"),),
                question="QUESTION",
                references=("a",),
                kind="open",
            )
            text = render_chat(processor, get_prompt(name).bound(processor).messages(example), generation=True)
            before, self.between = text.split("QUESTION")
            before = before.replace("<image>", "<image>" * self.cells)
            self.prefixes.append(np.array(self.encode(before), dtype=np.int32))
        self.end = self.tokenizer.eos_token

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def pair(self, question: str, answer: str) -> tuple[list[int], int]:
        """A question and its answer, and how many of the tokens are answer."""
        said = self.encode(answer + self.end)
        return self.encode(question + self.between) + said, len(said)


def tokenizer_texts() -> list[str]:
    texts = [f"{get_prompt(name).role} {get_prompt(name).instruction}" for name in ("short", "direct", "think")]
    for number in range(1500):
        texts += [text for pair in draw_lesson(SEED, number, 32).pairs for text in pair]
    return [*texts, *composed_texts(SEED, 2000)]


# ---- lessons to arrays ----------------------------------------------------------------------------------------------

_WRITER: Writer | None = None


def start_drawing(tokenizer_folder: str) -> None:
    """Of the process that draws: it gives way to the one that trains."""
    global _WRITER
    os.nice(5)
    _WRITER = Writer(load_processor(tokenizer_folder, ModelConfig(id=tokenizer_folder)))


def draw_shard(path: Path, number: int) -> Path:
    if path.is_file():
        return path
    assert _WRITER is not None
    names = {name: place for place, name in enumerate(fact_names())}
    lessons = [draw_lesson(SEED, number * SHARD + offset, SIZE) for offset in range(SHARD)]
    facts = np.zeros((SHARD, len(names)), dtype=np.uint8)
    tokens: list[int] = []
    starts, answers, first = [0], [], [0]
    for row, lesson in enumerate(lessons):
        facts[row, [names[fact] for fact in facts_of(lesson.scene)]] = 1
        for question, answer in lesson.pairs:
            ids, said = _WRITER.pair(question, answer)
            tokens += ids
            starts.append(len(tokens))
            answers.append(said)
        first.append(len(answers))
    scratch = path.with_suffix(".part.npz")
    np.savez(
        scratch,
        pixels=np.stack([lesson.pixels for lesson in lessons]),
        facts=facts,
        prompts=np.array([PROMPTS.index(lesson.prompt) for lesson in lessons], dtype=np.int8),
        tokens=np.array(tokens, dtype=np.int16),
        starts=np.array(starts, dtype=np.int32),
        answers=np.array(answers, dtype=np.int16),
        first=np.array(first, dtype=np.int32),
    )
    os.replace(scratch, path)
    return path


def read_shard(path: Path) -> Shard:
    with np.load(path) as found:
        return Shard(**{name: found[name] for name in Shard._fields})


class Drawings:
    """Shards by number, drawn in another process while the ones before are trained on."""

    def __init__(self, folder: Path, tokenizer: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.pool = ProcessPoolExecutor(1, initializer=start_drawing, initargs=(str(tokenizer),))
        self.asked: dict[int, Future[Path]] = {}
        self.held: tuple[int, Shard] | None = None

    def ask(self, number: int) -> None:
        if number not in self.asked:
            self.asked[number] = self.pool.submit(draw_shard, self.folder / f"{number:04d}.npz", number)

    def close(self) -> None:
        """Draw no more."""
        self.pool.shutdown(cancel_futures=True)

    def get(self, number: int, *, ahead: int) -> Shard:
        """A shard; the last one is kept, and those `ahead` of it are drawn meanwhile."""
        if self.held is None or self.held[0] != number:
            for later in range(number, number + ahead + 1):
                self.ask(later)
            self.held = number, read_shard(self.asked.pop(number).result())
        return self.held[1]


# ---- arrays to batches ----------------------------------------------------------------------------------------------


def order_of(shard: Shard, number: int, batch: int) -> list[np.ndarray]:
    """Rows of about the same length together, the batches in random order."""
    rng = np.random.default_rng([SEED, 7, number])
    lengths = shard.starts[shard.first[1:]] - shard.starts[shard.first[:-1]]
    order = np.argsort(lengths + rng.uniform(0, 20, len(lengths)))
    batches = [order[at : at + batch] for at in range(0, len(order) - batch + 1, batch)]
    return [batches[int(place)] for place in rng.permutation(len(batches))]


def make_batch(shard: Shard, rows: np.ndarray, writer: Writer) -> Batch:
    built = [_row(shard, int(row), writer) for row in rows]
    length = max(len(ids) for ids, *_ in built)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    segments = np.full((len(rows), length), -1, dtype=np.int16)
    places = np.zeros((len(rows), length), dtype=np.int64)
    source, target, weight = [], [], []
    questions = 0
    for number, (row_ids, row_segments, row_places, row_source, row_target, row_weight) in enumerate(built):
        ids[number, : len(row_ids)] = row_ids
        segments[number, : len(row_ids)] = row_segments
        places[number, : len(row_ids)] = row_places
        source.append(row_source + number * length)
        target.append(row_target)
        weight.append(row_weight)
        questions += int(row_segments[-1])
    pixels = normal(torch.from_numpy(shard.pixels[rows]))
    found = torch.from_numpy(segments)
    same = (found[:, :, None] == found[:, None, :]) | (found[:, None, :] == 0)
    mask = torch.ones(length, length, dtype=torch.bool).tril()[None] & same
    return Batch(
        pixels=pixels,
        ids=torch.from_numpy(ids),
        places=torch.from_numpy(places),
        mask=mask[:, None],
        source=torch.from_numpy(np.concatenate(source)),
        target=torch.from_numpy(np.concatenate(target)),
        weight=torch.from_numpy(np.concatenate(weight)),
        facts=torch.from_numpy(shard.facts[rows]).float(),
        questions=questions,
    )


def _row(shard: Shard, row: int, writer: Writer) -> tuple[np.ndarray, ...]:
    prefix = writer.prefixes[int(shard.prompts[row])]
    ids, segments, places = [prefix], [np.zeros(len(prefix), np.int16)], [np.arange(len(prefix))]
    source, target, weight = [], [], []
    at = len(prefix)
    for number, pair in enumerate(range(shard.first[row], shard.first[row + 1]), start=1):
        tokens = shard.tokens[shard.starts[pair] : shard.starts[pair + 1]].astype(np.int64)
        said = int(shard.answers[pair])
        # The last token is only predicted, so that nothing is computed for it.
        kept = len(tokens) - 1
        ids.append(tokens[:-1])
        segments.append(np.full(kept, number, np.int16))
        places.append(len(prefix) + np.arange(kept))
        source.append(at + np.arange(len(tokens) - said - 1, kept))
        target.append(tokens[-said:])
        weight.append(np.full(said, said**-0.5, np.float32))
        at += kept
    return tuple(np.concatenate(parts) for parts in (ids, segments, places, source, target, weight))
