"""The examples of docs/rewards.md run as they stand."""

import json
from pathlib import Path

import pytest
import yaml

from medrft.rewards import PRESETS, build_reward
from medrft.scorers import SCORERS, build_scorer
from score_items import item, think

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")


def test_my_reward():
    brevity = build_scorer("my_reward.py:Brevity", base_dir=ROOT / "examples", words=2)
    rows = [item("left lung", "lung"), item("in the left upper lung", "lung"), item(None, "lung")]
    assert brevity(rows) == [1.0, 0.5, 0.0]
    assert build_scorer("my_reward.py:answered", base_dir=ROOT / "examples")(rows) == [1.0, 1.0, 0.0]
    organ = build_scorer("my_reward.py:names_the_organ", base_dir=ROOT / "examples")
    rows = [item(None, "x", completion=think("lung"), metadata={"organ": name}) for name in ("Lung", "LIVER")]
    assert organ(rows) == [1.0, 0.0]


def test_my_reward_file():
    table = yaml.safe_load((ROOT / "examples" / "my_reward.yaml").read_text(encoding="utf-8"))
    reward = build_reward(table, base_dir=ROOT / "examples")
    right, wrong = reward(
        [item(None, r, completion=think("left effusion")) for r in ("left effusion", "right effusion")]
    )
    assert right.reward == pytest.approx(1.0) and wrong.reward == pytest.approx(0.2)
    json.dumps(reward.describe(), allow_nan=False)


def test_every_name_is_in_the_docs():
    for name in (*SCORERS, *PRESETS):
        assert f"`{name}`" in DOC, name


@pytest.mark.parametrize(
    ("threshold", "a_pos", "a_neg", "rows"),
    [
        (0.934, 8.75, 2.0, [(0.95, 0.98), (0.92, 0.30), (0.95, 0.95)]),  # BERTScore
        (0.895, 3.5, 8.0, [(0.96, 0.98), (0.89, 0.29), (0.94, 0.97)]),  # cosine
    ],
)
def test_figure_3_of_armed(threshold, a_pos, a_neg, rows):
    """The settings in docs/rewards.md reproduce the printed figure up to its two digits, on both sides."""
    spec = {"kind": "adaptive", "start": threshold, "a_pos": a_pos, "a_neg": a_neg}
    reward = build_reward({"parts": [{"scorer": "recall", "weight": 1, "calibrate": spec}]})
    (part,) = reward.stacks["all"].parts
    for raw, printed in rows:
        near = [part.calibration.map_one(raw + step / 1000) for step in range(-5, 6)]
        assert any(abs(value - printed) <= 0.005 for value in near), (raw, printed)
