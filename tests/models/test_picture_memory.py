"""A frozen vision tower that remembers gives what it gives, picture by picture, in every layout that is known."""

import pytest
import torch

from families import toy
from medrft.config import ModelConfig
from medrft.models.parts import freeze_parts
from medrft.models.picture_memory import PictureMemory, is_fixed, vision_tower
from medrft.training.sharing.groups import take_rows

LAYOUTS = ["llava", "gemma3", "idefics3", "qwen2_5_vl", "qwen3_vl"]
"""Pictures one below the other, and patches of all pictures in one tensor."""
OTHERS = ["gemma4", "mistral3"]
"""Towers whose output is laid out in another way."""


@pytest.fixture
def made(saved):
    def make(family):
        found = toy(family, saved, ModelConfig(id=f"tiny:{family}", device="cpu"))
        freeze_parts(found.model, ("vision", "projector"))
        return found

    return make


def logits(found, rows):
    fields = take_rows(found.fields, rows)
    fields.pop("num_images")
    given = {"input_ids": found.ids[rows], "attention_mask": found.mask[rows], **fields}
    return found.model(**given, use_cache=False).logits


@pytest.mark.parametrize("family", LAYOUTS)
def test_pictures_are_recalled_in_any_company(made, family):
    found = made(family)
    wanted = [[0, 1], [2, 1, 0], [1], [1, 1, 2]]
    expected = [logits(found, rows) for rows in wanted]
    memory = PictureMemory()
    memory.attach(found.model)
    memory.attach(found.model)  # once is enough
    for rows, plain in zip(wanted, expected, strict=True):
        ours = logits(found, rows)
        assert (ours - plain).abs().max() < 1e-4
    assert (memory.looks, memory.recalled) == (3, 2 + 1 + 3)
    ours.sum().backward()
    assert found.model.get_input_embeddings().weight.grad.abs().sum() > 0


@pytest.mark.parametrize("family", OTHERS)
def test_what_is_laid_out_otherwise_is_computed_as_ever(made, family):
    found = made(family)
    expected = [logits(found, rows) for rows in ([0, 1], [1])]
    memory = PictureMemory()
    memory.attach(found.model)
    for rows, plain in zip(([0, 1], [1]), expected, strict=True):
        assert torch.equal(logits(found, rows), plain)
    assert memory.recalled == 0


def test_the_same_picture_in_another_precision_is_another(made):
    found = made("llava")
    memory = PictureMemory()
    memory.attach(found.model)
    with torch.no_grad():
        logits(found, [0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits(found, [0])
    assert (memory.looks, memory.recalled) == (2, 0)


def test_memory_is_bounded_and_forgets_what_was_used_longest_ago(made):
    found = made("llava")
    memory = PictureMemory()
    memory.attach(found.model)
    with torch.no_grad():
        logits(found, [0])
        memory.limit = 2 * memory.size
        for row in (1, 0, 2, 0, 1):
            logits(found, [row])
            assert memory.size <= memory.limit
    assert (memory.looks, memory.recalled) == (4, 2)  # picture 1 was forgotten for picture 2
    memory.clear()
    assert memory.size == len(memory.held) == 0


def test_a_tower_that_learns_or_drops_out_is_left_alone(made, saved):
    learns = toy("llava", saved, ModelConfig(id="tiny:llava", device="cpu"))
    PictureMemory().attach(learns.model)
    assert "forward" not in vars(vision_tower(learns.model))
    tower = vision_tower(made("llava").model)
    assert is_fixed(tower)
    tower.add_module("drops", torch.nn.Dropout(0.1))
    assert not is_fixed(tower.train())


def test_two_models_share_a_memory_only_if_their_towers_are_the_same(made):
    one, same, other = made("llava"), made("llava"), made("llava")
    with torch.no_grad():
        next(vision_tower(other.model).parameters()).add_(1.0)
    memory = PictureMemory()
    for found in (one, same, other):
        memory.attach(found.model)
        logits(found, [0])
    assert (memory.looks, memory.recalled) == (2, 1)
