"""The truth, the truth with noise, and the coin as rewards: the same numbers in any batch, and in any process."""

import subprocess
import sys
from dataclasses import replace

import pytest

from medrft.data import read_data
from medrft.data.phantom import ask_oracle
from medrft.errors import RecipeError
from medrft.rewards import build_reward
from medrft.scorers import build_scorer
from medrft.scorers.base import item_of
from medrft.scorers.truth import chances_of
from medrft.types import Completion

REWARD = {"parts": [{"scorer": "oracle", "weight": 0.8}, {"scorer": "answer_format", "weight": 0.2}]}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    options = {"images": 30, "validation_images": 0, "test_images": 0, "size": 32}
    return read_data("phantom", tmp_path_factory.mktemp("phantom"), seed=0, options=options).examples


def said(example, answer, thought="I look."):
    text = f"<think>{thought}</think><answer>{answer}</answer>"
    return item_of(example, Completion(text=text, n_tokens=9, truncated=False), form="think")


def test_the_oracle_pays_what_the_phantom_calls_right(rows):
    items = [said(one, text) for one in rows for text in (one.references[0], "left", "yes", "nonsense")]
    truth = [
        float(ask_oracle(one, text).correct) for one in rows for text in (one.references[0], "left", "yes", "nonsense")
    ]
    assert build_scorer("oracle")(items) == truth and set(truth) == {0.0, 1.0} and truth[0] == 1.0
    paid = [outcome.reward for outcome in build_reward(REWARD)(items)]
    assert paid == pytest.approx([0.8 * one + 0.2 for one in truth])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_a_share_of_the_verdicts_is_turned_round(rows, share):
    items = [said(one, text, thought) for one in rows for text in ("yes", "left") for thought in "abcdefgh"]
    plain, noisy = build_scorer("oracle")(items), build_scorer("oracle", flipped=share)(items)
    turned = sum(a != b for a, b in zip(plain, noisy, strict=True)) / len(items)
    assert turned == pytest.approx(share, abs=4 * (share * (1 - share) / len(items)) ** 0.5)
    assert build_scorer("oracle", flipped=share)(items[::-1]) == noisy[::-1]  # whatever the batch
    assert build_scorer("oracle", flipped=1.0)(items) == [1 - one for one in plain]


def test_a_coin_is_thrown_for_each_completion(rows):
    items = [said(one, text, thought) for one in rows for text in ("yes", "left") for thought in "abcdefgh"]
    coin = build_scorer("coin")
    assert coin(items) == coin(items) and coin(items[::-1]) == coin(items)[::-1]
    assert sum(coin(items)) / len(items) == pytest.approx(0.5, abs=2 / len(items) ** 0.5)
    again = [replace(one, id="phantom/train/999") for one in items]
    assert coin(again) != coin(items)  # another row, another throw
    group = [items[0]] * 400  # one text, as a group of a sure policy holds it
    assert sum(coin(group)) / 400 == pytest.approx(0.5, abs=0.1)
    noisy = build_scorer("oracle", flipped=0.2)(group)
    assert 0.1 < sum(noisy) / 400 < 0.3 or 0.7 < sum(noisy) / 400 < 0.9


def test_the_noise_is_the_same_in_another_process(rows):
    item = said(rows[0], "yes")
    code = (
        "from medrft.scorers.truth import chances_of; from medrft.types import Item;"
        f"one = Item(references=('x',), kind='open', answer='yes', completion={item.completion!r}, "
        f"question={item.question!r}, id={item.id!r});"
        "print(*chances_of([one, one], 'coin'))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [float(one) for one in told.split()] == list(chances_of([item, item], "coin"))


def test_an_answer_that_cannot_be_read_earns_nothing_and_a_coin_does_not_mind(rows):
    item = replace(said(rows[0], "-"), answer=None)
    (noisy,) = build_reward({"parts": [{"scorer": "oracle", "weight": 1, "options": {"flipped": 1.0}}]})([item])
    assert noisy.reward == 0.0
    coins = build_reward({"parts": [{"scorer": "coin", "weight": 1}]})
    assert {coins([replace(item, id=str(n))])[0].reward for n in range(20)} == {0.0, 1.0}


def test_what_it_does_not_know(rows):
    with pytest.raises(RecipeError, match=r"0 to 1 as flipped, got 1\.5"):
        build_scorer("oracle", flipped=1.5)
    stranger = replace(said(rows[0], "yes"), metadata={})
    assert build_scorer("oracle")([stranger]) == [None] and not build_scorer("oracle").applies(stranger)
