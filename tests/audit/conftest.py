from __future__ import annotations

from pathlib import Path

import pytest

from medrft.audit.sources import Material, default_material
from medrft.types import Example

BAD = Path(__file__).with_name("bad_rewards.py")


@pytest.fixture(scope="session")
def bad() -> Path:
    """A file of rewards with one fault each."""
    return BAD


@pytest.fixture(scope="session")
def phantom_material() -> Material:
    """The default material, small."""
    return default_material(seed=0, limit=80)


@pytest.fixture(scope="session")
def closed_material(phantom_material: Material) -> Material:
    """Yes/no questions alone."""
    from medrft.data import read_data

    options = {"images": 0, "validation_images": 0, "test_images": 100}
    found = [e for e in read_data("phantom", None, options=options).examples if e.kind == "closed"]
    return Material(names=["closed"], examples=found[:120], frequent="no")


@pytest.fixture
def example():
    """`example(reference, kind=, question=, options=)` makes an example."""

    def make(
        reference: str, kind: str = "open", question: str = "What is seen?", options: tuple[str, ...] = ()
    ) -> Example:
        return Example(
            id=f"toy/test/{reference}",
            dataset="toy",
            split="test",
            images=(),
            question=question,
            references=(reference,),
            kind=kind,
            options=options,
        )

    return make
