"""How inputs of prompts become inputs of longer rows: one rule, wherever rows grow."""

import torch

from medrft.models.encode import SEEN, widen_inputs
from medrft.training.collator import _over_answers
from medrft.training.processed import stretch_inputs

MASK = torch.tensor([[0, 1, 1], [1, 1, 0]]).reshape(2, 3, 1, 1)
"""Which of one picture's one tile the three tokens of two prompts see."""


def test_a_completion_sees_what_its_prompts_last_token_sees():
    wide = widen_inputs({SEEN: MASK, "token_type_ids": torch.ones(2, 3)}, before=1, after=2)
    assert wide[SEEN][..., 0, 0].tolist() == [[0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0]]
    assert wide["token_type_ids"].tolist() == [[0, 1, 1, 1, 0, 0]] * 2


def test_training_and_rollouts_widen_alike():
    wide = widen_inputs({SEEN: MASK}, after=2)[SEEN]
    assert stretch_inputs({SEEN: MASK}, 5)[SEEN].equal(wide)
    assert stretch_inputs({SEEN: wide}, 5)[SEEN].equal(wide)
    assert _over_answers(MASK, torch.ones(2, 3), 5).equal(wide)
