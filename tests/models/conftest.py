"""Toy examples and tiny models: drawn pictures, real classes, built once per test session."""

import pytest

from families import SIZES, make_examples, picture
from medrft.config import ModelConfig
from medrft.models.load import load_policy, resolve_base
from medrft.models.prompts import get_prompt


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
