from __future__ import annotations

import json
from pathlib import Path

import pytest

from medrft.audit import Settings, audit_rewards, load_subject
from medrft.audit.foreign import style_of, swallowed_errors
from medrft.errors import UserError

QUICK = Settings(groups=40, hack_examples=9)


def findings_of(spec, material, **options):
    subject = load_subject(spec, **options)
    try:
        summary = audit_rewards([subject], material, QUICK, out=None)
    finally:
        subject.close()
    json.dumps(summary, allow_nan=False)
    (row,) = summary["rewards"].values()
    return {finding["name"]: finding for finding in row["findings"]}


CAUGHT = [
    ("tags_alone", {"blind_to_reference", "tags_pay"}),
    ("scores_the_reference", {"blind_to_completion"}),
    ("containment", {"hackable:both_yes_and_no", "hackable:all_options", "hackable:hedging"}),
    ("errors_are_zero", {"exceptions_as_zero"}),
    ("raises_on_empty", {"raises"}),
    ("too_short", {"wrong_length"}),
    ("words_for_numbers", {"wrong_type"}),
    ("not_a_number", {"not_finite"}),
    ("noisy", {"nondeterministic"}),
    ("by_batch", {"depends_on_batch"}),
    ("longer_is_better", {"blind_to_reference", "length_bias:completion_length"}),
    ("collapsed", {"collapsed:reward"}),
    ("strings", {"plain_text"}),
    ("no_kwargs", {"signature"}),
    ("dies", {"dies"}),
    ("verl_keys", {"raises"}),
]


WITH_CASES = ("tags_pay", "blind_to_completion", "blind_to_reference", "hackable", "collapsed", "strict", "length_bias")


@pytest.mark.parametrize(("name", "expected"), CAUGHT)
def test_each_fault_is_caught_by_name(name, expected, bad, phantom_material):
    found = findings_of(f"{bad}:{name}", phantom_material)
    assert expected <= set(found)
    assert all(finding["says"] and finding["change"] for finding in found.values())
    shown = {key: finding["cases"] for key, finding in found.items() if key.split(":")[0] in WITH_CASES}
    assert all(1 <= len(cases) <= 3 for cases in shown.values()), shown  # fewer where fewer were tried


def test_a_reward_that_hangs_is_stopped(bad, phantom_material):
    found = findings_of(f"{bad}:hangs", phantom_material, limit=0.5)
    assert set(found) == {"hangs"}


@pytest.mark.parametrize("name", ["awaited", "verl_dict", "Swift", "openrlhf", "ours"])
def test_every_style_is_called_as_its_trainer_does(name, bad, closed_material):
    found = findings_of(f"{bad}:{name}", closed_material)
    assert not {finding for finding, row in found.items() if row["severity"] == "error"}


@pytest.mark.parametrize(
    ("name", "style"),
    [("tags_alone", "trl"), ("containment", "verl"), ("Swift", "swift"), ("openrlhf", "openrlhf"), ("ours", "medrft")],
)
def test_style_is_read_off_the_parameters(name, style, bad):
    assert style_of(f"{bad}:{name}", None) == style


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("absent.py:reward", {}, "no file at"),
        ("{bad}:tags_alon", {}, "did you mean 'tags_alone'"),
        ("{bad}:tags_alone", {"style": "tlr"}, "did you mean 'trl'"),
        ("{bad}:not_callable", {"style": "trl"}, "is a int"),
        ("{broken}:reward", {}, "is not Python"),
        ("{failing}:reward", {}, "importing it failed with ModuleNotFoundError"),
        ("{quitting}:reward", {}, "SystemExit"),
        ("my_reward.py", {}, "name the function in it"),
        ("blue1", {}, "unknown reward 'blue1'; did you mean 'bleu1'"),
        ("absent.yaml", {}, "no reward file"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(spec, options, says, bad, tmp_path):
    files = {
        "broken": "def reward(completions:\n",
        "failing": "import absent_package\ndef reward(completions, **kwargs): return []\n",
        "quitting": "import sys\nsys.exit(1)\ndef reward(completions, **kwargs): return []\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    spec = spec.format(bad=bad, **{name: tmp_path / f"{name}.py" for name in files})
    with pytest.raises(UserError, match=says) as caught:
        load_subject(spec, **options)
    assert "\n" not in str(caught.value)


def test_swallowed_errors_name_the_line(bad):
    (place,) = swallowed_errors(f"{bad}:errors_are_zero")
    assert place.startswith("bad_rewards.py, line ") and place.endswith("every error becomes 0.0")


FIELD = Path(__file__).parents[2] / "examples" / "rewards_in_the_field.py"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exact_match", {"hackable:two_answer_blocks", "strict"}),
        ("contains_reference", {"hackable:hedging", "hackable:both_yes_and_no", "hackable:answer_only_in_thinking"}),
        ("tags_then_answer", {"tags_pay"}),
        ("TokenRecall", {"inverted", "inverted:polarity", "hackable:both_yes_and_no"}),
    ],
)
def test_the_rewards_of_the_example(name, expected, phantom_material):
    assert expected <= set(findings_of(f"{FIELD}:{name}", phantom_material))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cosine_over_threshold", "judge_and_embedding"])
def test_the_rewards_of_the_example_with_an_encoder(name, phantom_material):
    found = findings_of(f"{FIELD}:{name}", phantom_material)
    assert any(finding.startswith("inverted") for finding in found)
