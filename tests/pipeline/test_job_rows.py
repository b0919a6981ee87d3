"""Which train rows a stage takes."""

from pathlib import Path

import pytest

from medrft.config import StageConfig
from medrft.pipeline.job import takes
from medrft.types import Example


@pytest.mark.parametrize(
    ("keys", "kind", "rationale", "taken"),
    [
        ({}, "open", "A thought.", True),
        ({}, "closed", None, True),
        ({"kinds": ["open"]}, "closed", None, False),
        ({"unseen": True}, "open", "A thought.", False),
        ({"unseen": True}, "open", " ", True),
        ({"unseen": True}, "open", None, True),
        ({"unseen": True, "kinds": ["closed"]}, "open", None, False),
    ],
)
def test_kinds_and_thoughts_decide(keys, kind, rationale, taken):
    stage = StageConfig(**{"name": "grpo", "kind": "grpo", **keys})
    example = Example(
        **{"id": "a", "dataset": "a", "split": "train", "images": (Path("a"),), "question": "?", "references": ("b",)},
        **{"kind": kind, "rationale": rationale},
    )
    assert takes(stage, example) == taken
