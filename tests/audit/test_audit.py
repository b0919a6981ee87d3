from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from medrft.audit import Settings, at_least, audit_rewards, audit_run_reward, load_subject, set_thresholds
from medrft.audit.collapse import Groups, group_spread, truth_signal, variance_share
from medrft.audit.completions import Case, make_case
from medrft.audit.sources import Material, add_pairs, add_predictions, add_run
from medrft.audit.subject import Own
from medrft.audit.verdict import THRESHOLDS, parse_thresholds
from medrft.errors import DataError, UserError
from medrft.recipes import load_recipe
from medrft.rewards import build_reward
from medrft.types import Example, Item

QUICK = Settings(groups=48, hack_examples=9)


def own(spec, name="reward"):
    return Own(name=name, reward=build_reward(spec))


def parts(*names, **more):
    return {"parts": [{"scorer": name, "weight": 1 / len(names), **more} for name in names]}


def audited(subject, material, settings=QUICK):
    summary = audit_rewards([subject], material, settings, out=None)
    (row,) = summary["rewards"].values()
    return row


SOUND = {"exact": parts("exact_match"), "yes_no": parts("yes_no_match"), "preset": "closed"}


@pytest.mark.parametrize("spec", SOUND.values(), ids=list(SOUND))
def test_a_sound_reward_on_closed_questions_raises_no_finding(spec, closed_material):
    row = audited(own(spec), closed_material)
    assert row["findings"] == [] and row["verdict"] == "sound"


def test_text_reward_on_pairs_is_inverted(tmp_path):
    rows = [("contradiction", "side", f"left {n} mass", f"right {n} mass") for n in range(12)]
    rows += [("paraphrase", "synonym", f"left {n} mass", "tumour of the sinistral side") for n in range(12)]
    path = tmp_path / "pairs.tsv"
    path.write_text(
        "\n".join("\t".join(row) for row in [("kind", "attribute", "reference", "candidate"), *rows]) + "\n"
    )
    material = Material()
    add_pairs(material, path)
    row = audited(own("text"), material)
    assert row["auroc"]["total"]["mean"] == 0.0
    names = {finding["name"] for finding in row["findings"]}
    assert {"inverted", "inverted:side"} <= names
    assert {len(f["cases"]) for f in row["findings"] if f["name"].startswith(("inverted", "suspect"))} == {3}
    worst = next(f for f in row["findings"] if f["name"] == "inverted:side")["cases"][0]
    assert worst["wrong"]["total"] > worst["right"]["total"] and "contradicts" in worst["wrong"]["why"]
    assert set(worst["wrong"]["parts"]) == {"bleu1", "rouge1", "answer_format"}


def test_facets_with_few_pairs_have_no_figure(tmp_path):
    rows = ["kind\tattribute\treference\tcandidate", "contradiction\tside\tleft lung\tright lung"]
    rows += [f"paraphrase\tcase\t{n} lungs\t{n} Lungs" for n in range(9)]
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(rows))
    material = Material()
    add_pairs(material, path)
    areas = audited(own("text"), material)["auroc"]
    assert areas["facets"] == {} and areas["small"] == {"side": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: expected the columns kind, attribute, reference, candidate"),
        ("kind\tfacet\treference\tcandidate\n", "line 1: expected the columns"),
        ("kind\tattribute\treference\tcandidate\ncontradicton\tside\ta\tb\n", "line 2: 'contradicton'; did you mean"),
        ("kind\tattribute\treference\tcandidate\n\nparaphrase\tside\ta\n", "line 3: expected 4 filled cells"),
    ],
)
def test_a_wrong_pairs_file_names_the_line(text, says, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        add_pairs(Material(), path)


def test_a_pairs_file_that_is_no_text(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"\xff\xfe\x00kind")
    with pytest.raises(DataError, match="is not a UTF-8 TSV"):
        add_pairs(Material(), path)


def test_predictions_with_and_without_a_correctness_column(tmp_path):
    path = tmp_path / "predictions.jsonl"
    rows = [
        {"id": 1, "reference": "yes", "prediction": "Yes.", "question": "Is there a mass?"},
        {"id": 2, "reference": "left lung", "prediction": "right lung"},
        {"id": 3, "reference": "liver", "prediction": "hepatic", "correct": True},
        {"id": 4, "reference": "MRI", "prediction": "(B)", "options": ["CT", "MRI"]},  # a letter answers
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    material = Material()
    add_predictions(material, path)
    assert [said.right for said in material.answers] == [True, False, True, True]
    assert material.notes == ["3 answers of predictions.jsonl were called right by yes/no, choice or exact match alone"]
    path.write_text(json.dumps({"reference": "yes"}))
    with pytest.raises(DataError, match="line 1: no column for the"):
        add_predictions(Material(), path)


def test_rollouts_are_taken_as_the_groups_they_were(tmp_path):
    from medrft.store import RolloutWriter

    writer = RolloutWriter(tmp_path / "rollouts", stage="grpo", split="train", parts=("exact_match",))
    for group in range(12):
        rows = []
        for sample in range(4):
            answer = "left" if sample < 2 else "right"
            rows.append(
                {
                    **{"step": group, "generation_step": group, "stage": "grpo", "split": "train"},
                    **{"group_id": f"g{group}", "sample": sample, "example_id": f"toy/train/{group}", "dataset": "toy"},
                    **{"kind": "open", "image_sha256": [], "question": "Which side?", "references": ["left"]},
                    **{"completion": f"<think>x</think><answer>{answer}</answer>", "answer": answer, "n_tokens": 5},
                    **{"truncated": False, "correct": sample < 2, "truth": None, "reward": 1.0, "advantage": 0.0},
                    **{"unscored_reason": None, "gate": None, "metadata": {}},
                    **{name: {"exact_match": 1.0} for name in ("raw", "calibrated")},
                    "applicable": {"exact_match": True},
                }
            )
        writer.write(rows, group_size=4)
    writer.flush()
    material = Material()
    add_run(material, tmp_path)
    found = audited(own(parts("exact_match")), material)["collapse"]
    assert found["groups"] == 12 and found["mixed"] == 12
    assert found["signal"]["auroc"] == 1.0


def test_collapse_figures_by_hand(example):
    cases = [
        make_case(example("left"), "x", form="short", source="right", right=right, group=group)
        for group, truths in {"a": (True, True, False, False), "b": (False, False, False, False)}.items()
        for right in truths
    ]
    groups = Groups(cases)
    column = np.array([1.0, 1.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.5])
    found = group_spread(column, groups, 0.02)
    assert found["groups"] == 1 and found["std_mean"] == pytest.approx(np.std([1, 1, 0, 0], ddof=1))
    assert found["ties"] == pytest.approx(2 / 6) and found["levels"] == pytest.approx(2.0)
    told = truth_signal(column, groups)
    assert told["auroc"] == 1.0 and told["wrong_way"] == 0.0 and told["phantom"] == 1.0
    assert truth_signal(np.array([1.0, 1, 0, 0, 0.3, 0.3, 0.3, 0.3]), groups)["phantom"] == 0.0
    assert variance_share(0.25 * column, column, groups) == pytest.approx(0.25)


def test_variance_shares_sum_to_one(phantom_material):
    row = audited(own("text"), phantom_material)
    shares = [part["variance_share"] for part in row["collapse"]["parts"].values()]
    assert sum(shares) == pytest.approx(1.0)


def test_each_calibration_is_compared(phantom_material):
    spec = {
        "parts": [
            {"scorer": "rouge1", "weight": 0.5, "calibrate": "quantile"},
            {"scorer": "exact_match", "weight": 0.5},
        ]
    }
    row = audited(own(spec), phantom_material)
    rows = {one["calibration"]: one for one in row["collapse"]["alternatives"]}
    assert set(rows) == {"none", "affine", "sigmoid", "quantile", "rank", "zscore", "group_sigmoid", "adaptive"}
    assert rows["quantile"]["auroc"] == pytest.approx(row["collapse"]["signal"]["auroc"])


@pytest.mark.parametrize("calibrate", ["rank", "zscore", "group_sigmoid"])
def test_rewards_that_need_groups_get_them(calibrate, phantom_material):
    row = audited(own({"parts": [{"scorer": "rouge1", "weight": 1.0, "calibrate": calibrate}]}), phantom_material)
    assert row["collapse"]["signal"]["auroc"] > 0.8


def test_saturated_and_dominated(phantom_material):
    spec = {
        "parts": [
            {"scorer": "rouge1", "weight": 0.02},
            {"scorer": "exact_match", "weight": 0.98},
            {"scorer": "recall", "weight": 0.02, "calibrate": {"kind": "threshold", "at": 0.0}},
        ]
    }
    names = {finding["name"] for finding in audited(own(spec), phantom_material)["findings"]}
    assert {"dominated:exact_match", "calibration_saturated:recall", "collapsed:recall"} <= names


def test_a_reward_by_kind(phantom_material):
    reward = own({"closed": "closed", "choice": "choice", "open": parts("rouge1")})
    row = audited(reward, phantom_material)
    assert set(row["auroc"]["parts"]) == {"yes_no_match", "choice_match", "answer_format", "rouge1"}


def test_thresholds_are_documented_and_settable(phantom_material):
    assert all(says for _, says in THRESHOLDS.values())
    strict = Settings(
        groups=48, hack_examples=9, limits=set_thresholds(parse_thresholds(["hack_gain=0.01", "hack_beats=0"]))
    )
    names = {finding["name"] for finding in audited(own("text"), phantom_material, strict)["findings"]}
    assert "hackable:synonyms_stuffed" in names
    with pytest.raises(UserError, match="did you mean 'hack_gain'"):
        set_thresholds({"hack_gains": 1})
    with pytest.raises(UserError, match="expected name=number"):
        parse_thresholds(["hack_gain"])


def test_two_rewards_side_by_side_and_the_files(phantom_material, tmp_path):
    summary = audit_rewards([own("text", "a"), own(parts("exact_match"), "a")], phantom_material, QUICK, out=tmp_path)
    assert list(summary["rewards"]) == ["a", "a (2)"]
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(json.dumps(summary))
    rows = [json.loads(line) for line in (tmp_path / "findings.jsonl").read_text().splitlines()]
    assert {row["reward"] for row in rows} <= {"a", "a (2)"} and all(row["severity"] for row in rows)


def test_same_seed_same_summary(phantom_material):
    def figures():
        row = audited(own("text"), phantom_material)
        del row["soundness"]["speed"]
        return json.dumps(row, sort_keys=True)

    assert figures() == figures()


def test_the_short_audit_of_a_run_leaves_its_reward_alone(phantom_material, tmp_path):
    reward = build_reward({"parts": [{"scorer": "rouge1", "weight": 1.0, "calibrate": "adaptive"}]})
    before = json.dumps(reward.state_dict())
    summary = audit_run_reward(
        reward, phantom_material.examples, tmp_path / "audit", seed=0, form="think", name="rouge1"
    )
    assert json.dumps(reward.state_dict()) == before
    assert set(at_least(summary, "note")) >= set(at_least(summary, "warning")) >= set(at_least(summary, "error"))
    assert set(summary["rewards"]) == {"rouge1"} and (tmp_path / "audit/summary.json").is_file()


AS_TRAINED = {
    "no reward": {},
    "preset": {"reward": "text"},
    "parts": {"reward": parts("exact_match", calibrate="adaptive")},
    "by kind": {"reward": {"closed": "text", "open": parts("rouge1"), "choice": parts("choice_match")}},
    "correct by another scorer": {"reward": parts("correct"), "correct": {"scorer": "rouge1", "at_least": 0.5}},
    "correct with the part's options": {
        "reward": parts("correct", "clinical", options={}),
        "correct": {"scorer": "clinical", "at_least": 0.2},
    },
    "encoder": {"reward": "armed", "encoder": {"id": "a/b", "bertscore": "c/d", "layer": 3}},
    "a key of old runs, unset": {"reward": "armed", "encoder": {"idf": None}},
    "a scorer beside it": {"reward": parts("mine.py:Always")},
    "correct by a scorer beside it": {"reward": parts("correct"), "correct": {"scorer": "mine.py:Always"}},
}


@pytest.mark.parametrize("settings", AS_TRAINED.values(), ids=list(AS_TRAINED))
def test_a_recipes_reward_is_audited_as_it_trains(settings, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "model": {"id": "m"}, "data": {"name": "phantom"}, **settings}))
    (tmp_path / "mine.py").write_text(ALWAYS)
    recipe, audited = load_recipe(path), load_subject(str(path))
    trained = build_reward(recipe.reward, encoder=recipe.encoder, correct=recipe.correct)
    assert audited.describe() == Own(name="x", reward=trained).describe()
    if audited.encoder is None:
        item = Item(references=("left pleural effusion",), kind="open", answer="pleural effusion", completion="x")
        assert audited.raw([item]) == trained.score([item])


ALWAYS = """
class Always:
    name, range, needs = "always", (0.0, 1.0), ()
    def applies(self, item): return True
    def __call__(self, items): return [1.0] * len(items)
"""


@pytest.mark.slow
def test_armed_with_the_packaged_encoder_is_at_least_suspect_on_dev_pairs(shared_data):
    material = Material()
    add_pairs(material, shared_data / "minimal_pairs" / "dev.tsv")
    names = {finding["name"] for finding in audited(load_subject("armed"), material)["findings"]}
    assert names & {"inverted", "suspect"}
    names = {finding["name"] for finding in audited(load_subject("armed_clinical"), material)["findings"]}
    assert not names & {"inverted", "suspect"}


def test_answers_nobody_judged_make_no_mixed_group():
    item = Item(references=("lung",), kind="open", answer="lung")
    example = Example(id="a", dataset="a", split="test", images=(), question="?", references=("lung",), kind="open")
    known = {"example": example, "item": item, "source": "prediction"}
    rights = {"unknown": (None, None), "half": (True, None), "mixed": (True, False)}
    cases = [Case(**known, right=right, group=name) for name, pair in rights.items() for right in pair]
    assert [list(rows) for rows in Groups(cases).mixed] == [[4, 5]]
