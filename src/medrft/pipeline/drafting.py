"""Writes the first recipe for somebody's data: what the data hold and what the machine has go in, commented YAML out.

The recipe is meant to be read and edited, so each line that was chosen says why. Models are proposed by the memory that
`--plan` counts for them; without a GPU it is a tiny model, which shows the whole road in minutes.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from medrft.config import Recipe
from medrft.data.base import Loaded
from medrft.data.notes import count_noun, images_of
from medrft.errors import ModelError
from medrft.recipes import parse_recipe
from medrft.types import KINDS, Example

MODELS = ("Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen3-VL-2B-Instruct")
"""Models that are proposed for a GPU, the largest that fits first: of one family, licensed freely (Apache-2.0)."""
TINY = "tiny:llava"
TEST_SHARE = 0.2
"""Share of the images that become the test set where the data name none."""
LIMIT = 300
"""A tiny model is evaluated on at most so many questions of each test set."""
BYTES_A_TOKEN = 3
"""Bytes of text in a token, on the short side, so that answers are not cut off: assumed."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a recipe is written from."""

    name: str
    data: Mapping[str, Any]
    """The recipe's `data:` table."""
    opening: str
    """The first line of the recipe's comment."""
    kinds: tuple[str, ...]
    thinks: bool
    """Whether rows have rationales, so that thoughts can be taught."""
    tokens: int
    """Tokens that the longest answers take, in the prompt's form."""
    tests: int
    """Test rows."""
    model: str = TINY
    room: float | None = None
    """GiB of the GPU that the model was chosen for; `None` without one."""


def draft_of(loaded: Loaded, data: Mapping[str, Any], *, source: str, name: str) -> Draft:
    """What can be seen from loaded data; `source` is what the user typed."""
    examples = loaded.examples
    counts = Counter(example.kind for example in examples)
    kinds = tuple(kind for kind in KINDS if counts[kind])
    told = ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds)
    images = count_noun(len(images_of(examples)), "image", "images")
    rationales = sum(bool((example.rationale or "").strip()) for example in examples)
    thinks = rationales > len(examples) / 2
    return Draft(
        name=name,
        data=data,
        opening=f"{source}: {count_noun(len(examples), 'question', 'questions')} on {images} ({told})",
        kinds=kinds,
        thinks=thinks,
        tokens=_tokens(examples, thinks=thinks),
        tests=len(loaded.split("test")),
    )


def recipe_name(text: str) -> str:
    """A name that recipes may have.

    >>> recipe_name("My Study (v2)"), recipe_name("_x"), recipe_name("病")
    ('my_study_v2', 'x', 'my_data')
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "my_data"


def _tokens(examples: Sequence[Example], *, thinks: bool) -> int:
    """Tokens that 95 in 100 answers fit into, with the marks of their form, in steps of 32."""
    texts = [e.references[0] + (e.rationale or "" if thinks else "") for e in examples]
    sizes = sorted(len(text.encode()) / BYTES_A_TOKEN for text in texts)
    most = sizes[math.ceil(0.95 * len(sizes)) - 1] if sizes else 0
    return min(1024, 32 * math.ceil((most + 16) / 32))


def choose_model(draft: Draft, gpu: float) -> str:
    """The largest of `MODELS` of which every stage fits into a GPU of `gpu` GiB; the smallest if none does."""
    from medrft.pipeline.planning import open_planner
    from medrft.training.planning.plan import setting_of, usable_memory

    for model in MODELS:
        recipe = parse_draft(replace(draft, model=model, room=gpu))
        try:
            planner = open_planner(recipe)
            settings = [setting_of(stage, recipe, checkpoint=planner.checkpoint) for stage in recipe.stages]
            if all(planner.memory(one, "one GPU", 1).peak <= usable_memory(gpu) for one in settings):
                return model
        except ModelError:
            continue
    return MODELS[-1]


def parse_draft(draft: Draft) -> Recipe:
    """The recipe that a draft's text says."""
    return parse_recipe(yaml.safe_load(recipe_text(draft)))


def recipe_text(draft: Draft, path: Path = Path("recipe.yaml")) -> str:
    """The recipe with its comments; `path` is where it will lie, for the commands in it."""
    parts = (_head(draft, path), _model(draft), _data(draft), _reward(draft), _stages(draft), _eval(draft))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _line(text: str, why: str = "") -> str:
    return f"{text:<38} # {why}" if why else text


def _scalar(value: Any) -> str:
    """A value in YAML's flow form, which JSON is."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)


def _head(draft: Draft, path: Path) -> Iterator[str]:
    yield f"# {' '.join(draft.opening.split())}. Written by medrft init, to be edited."
    yield f"#   medrft run {path} --plan     what it will do, and whether it fits"
    yield f"#   medrft run {path}            train, evaluate, report"
    yield "# Every key: docs/training.md, docs/data.md, docs/rewards.md, docs/evaluation.md"
    yield f"name: {draft.name}"
    yield "seed: 0"
    if draft.thinks:
        yield _line("prompt: think", "most rows have a rationale, so thoughts are taught: <think>…</think><answer>…")
    else:
        yield _line(
            "prompt: direct", "no rationales, and none are invented: the answer alone; `think` asks for thoughts"
        )


def _model(draft: Draft) -> Iterator[str]:
    yield "model:"
    if draft.room is None:
        yield _line(
            f"  id: {draft.model}", "tiny, from random weights: shows the whole road on a CPU, and learns little"
        )
        yield f"  # with a GPU: medrft init … --gpu 24GB proposes a model that fits; or name one, such as {MODELS[1]}"
        yield "  dtype: float32"
    else:
        yield _line(f"  id: {draft.model}", f"the largest of {len(MODELS)} that fits into {draft.room:.0f} GiB")
        yield "  dtype: bfloat16"
        yield _line("  lora: {r: 32, lora_alpha: 64}", "adapters on every linear layer; delete the line to train all")


def _data(draft: Draft) -> Iterator[str]:
    yield "data:"
    table = dict(draft.data)
    for key in ("name", "root"):
        if key in table:
            yield f"  {key}: {_scalar(table.pop(key))}"
    columns = table.pop("columns", None)
    if columns:
        yield _line("  columns:", "role: the column's name in the table")
        yield from (f"    {role}: {_scalar(name)}" for role, name in columns.items())
    why = {
        "image_root": "the folder that the table's image names are relative to",
        "by_image": "no test rows are named: this share of the images, with all their questions",
        "ask": "the table has no questions: what each row is asked",
    }
    for key, value in table.items():
        yield _line(f"  {key}: {_scalar(value)}", why.get(key, ""))
    if "max_pixels" not in table:
        small = draft.room is None
        yield _line(f"  max_pixels: {65_536 if small else 401_408}", "the tiny model sees 64 x 64" if small else "")


def _reward(draft: Draft) -> Iterator[str]:
    marks = {
        "closed": "{parts: [{scorer: yes_no_match, weight: 0.8}, {scorer: answer_format, weight: 0.2}]}",
        "choice": "{parts: [{scorer: choice_match, weight: 0.8}, {scorer: answer_format, weight: 0.2}]}",
        "open": "armed_clinical",
    }
    yield _line("reward:", "by kind of question; to look inside: medrft audit --reward armed_clinical")
    yield from (f"  {kind}: {marks[kind]}" for kind in draft.kinds)


def _stages(draft: Draft) -> Iterator[str]:
    tiny = draft.room is None
    yield "stages:"
    yield _line("  - name: sft", "teaches the answer form, and the answers")
    yield "    kind: sft"
    yield "    trl:"
    if tiny:
        yield "      max_steps: 300"
        yield "      per_device_train_batch_size: 16"
        yield "      learning_rate: 1.0e-3"
    else:
        yield "      num_train_epochs: 1"
        yield "      per_device_train_batch_size: 4"
        yield "      gradient_accumulation_steps: 4"
        yield "      learning_rate: 1.0e-4"
        yield "      gradient_checkpointing: true"
    yield _line("  - name: grpo", "rewards groups of answers to one question")
    yield "    kind: grpo"
    yield f"    validation_limit: {32 if tiny else 64}"
    yield "    trl:"
    if tiny:
        yield "      max_steps: 30"
    else:
        yield "      num_train_epochs: 1"
    yield _line("      num_generations: 8", "answers in a group")
    if tiny:
        yield _line("      per_device_train_batch_size: 64", "8 questions a step")
    else:
        yield _line("      per_device_train_batch_size: 8", "a whole group in each pass")
        yield _line("      gradient_accumulation_steps: 4", "4 questions a step")
        yield "      gradient_checkpointing: true"
    yield _line(f"      max_completion_length: {draft.tokens}", "the longest answers of the data, in tokens")
    yield f"      learning_rate: {'1.0e-4' if tiny else '1.0e-5'}"
    yield "      temperature: 1.0"
    yield "      beta: 0.0" if tiny else _line("      beta: 0.04", "how much straying from the start costs")


def _eval(draft: Draft) -> Iterator[str]:
    tiny = draft.room is None
    yield "eval:"
    if tiny:
        yield _line("  base: skip", "random weights know nothing; quick or full for a pretrained model")
        if draft.tests > LIMIT:
            yield _line(f"  limit: {LIMIT}", f"of {draft.tests:,} test questions; delete the line for all")
    else:
        yield _line("  base: quick", "the start model on a sample of the test questions; full: on all")
    yield f"  batch_size: {64 if tiny else 16}"
    yield f"  max_new_tokens: {draft.tokens}"
    yield _line("  controls: [blank]", "the same questions with a grey picture: what is answered without seeing")
