"""Toy examples and tiny models: drawn pictures, real classes, built once per test session."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medrft.config import ModelConfig
from medrft.models.load import load_policy, resolve_base
from medrft.models.prompts import get_prompt
from medrft.types import Example

SIZES = {"image": 32, "vision_hidden": 32, "vision_layers": 2, "hidden": 32, "layers": 2, "mlp": 64, "vocab": 400}
QUESTIONS = ("Is the heart large?", "Is there a pleural effusion on the left side?", "Which plane is this?")


def picture(example):
    """A picture of its own for each image path."""
    return [
        Image.fromarray(np.random.default_rng(len(str(path)) + 7 * i).integers(0, 255, (40, 56, 3), dtype=np.uint8))
        for i, path in enumerate(example.images, start=int(example.id.rsplit("/", 1)[1]))
    ]


def make_examples(n):
    return [
        Example(
            id=f"toy/train/{i}",
            dataset="toy",
            split="train",
            images=(Path(f"{i}.png"),),
            question=QUESTIONS[i % 3],
            references=("yes", "no")[i % 2 :][:1],
            kind="closed",
            rationale="The heart is wide and the lungs are clear.",
        )
        for i in range(n)
    ]


@pytest.fixture
def examples():
    return make_examples(6)


@pytest.fixture
def pictures():
    return picture


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Where a tiny model of a family lies, ready to load."""
    found = {}

    def build(family):
        if family not in found:
            config = ModelConfig(id=f"tiny:{family}", tiny=SIZES)
            texts = list(get_prompt("think").texts(make_examples(6)))
            folder = tmp_path_factory.mktemp("tiny") / family
            found[family] = resolve_base(config, texts=texts, output=folder, seed=0)
        return found[family]

    return build


@pytest.fixture
def policy(saved):
    """A fresh tiny LLaVA."""
    return load_policy(ModelConfig(id="tiny:llava", device="cpu"), saved("llava"))
