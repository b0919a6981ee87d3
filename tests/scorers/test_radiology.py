"""Other groups' judges, against fake packages of exactly the interface of radeval 2.2.1 and crimson-score 0.2.0.

The interfaces were read from the released packages; their models are not run here.
"""

from __future__ import annotations

import json
import sys

import pytest
import yaml
from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.errors import MissingExtraError, ModelError, RecipeError
from medrft.evaluation.own_scorers import build_own, own_facts
from medrft.recipes import parse_recipe
from medrft.rewards import build_reward
from medrft.scorers import build_scorer, radiology
from medrft.types import Item

RADEVAL = """
import logging, warnings

KEYS = {
    "radgraph": ("radgraph_simple", "radgraph_partial", "radgraph_complete"),
    "ratescore": ("ratescore",),
    "green": ("green",),
    "f1chexbert": ("f1chexbert_sample_acc_5", "f1chexbert_sample_acc_all"),
}
CALLS = []


class Green:
    completions = None


class RadEval:
    def __init__(self, metrics=None, openai_api_key=None, gemini_api_key=None, per_sample=False, detailed=False,
                 show_progress=True, cache_dir=None):
        warnings.filterwarnings("ignore")
        print("loading")
        if "ratescore" in metrics and CALLS == ["broken"]:
            raise ValueError("numpy.dtype size changed")
        self.per_sample, self.metrics = per_sample, metrics
        for name in metrics:
            setattr(self, f"{name}_scorer", Green())

    def __call__(self, refs, hyps):
        if not (isinstance(hyps, list) and isinstance(refs, list)):
            raise TypeError("hyps and refs must be of type list")
        if not self.per_sample:
            raise AssertionError("means are no use here")
        CALLS.append((refs, hyps))
        if "explode" in hyps:
            raise RuntimeError("CUDA out of memory")
        shares = [len(set(r.split()) & set(h.split())) / len(set(r.split())) for r, h in zip(refs, hyps)]
        self.green_scorer = Green()
        self.green_scorer.completions = [
            "I would rather not" if h == "mumble" and "effusion" in r else "[Matched Findings]:\\n1. a"
            for r, h in zip(refs, hyps)
        ]
        shares = [float("nan") if h == "numb" else s for s, h in zip(shares, hyps)]
        return {key: [s / (1 + i) for s in shares] for name in self.metrics for i, key in enumerate(KEYS[name])}
"""
CRIMSON = """
CALLS = []


class CRIMSONScore:
    def __init__(self, api="hf", model_name=None, device=None):
        print(f"Loading HuggingFace model: {model_name}")

    def evaluate_batch(self, reference_findings_list, predicted_findings_list, patient_contexts=None,
                       include_guidelines=True, batch_size=1):
        CALLS.append((reference_findings_list, predicted_findings_list, batch_size))
        print("  [warn] sample 0 failed")
        scores = {"left effusion": 1.0, "no effusion": 0.0, "cancer": -0.5}
        return [{"crimson_score": scores[p]} if p in scores else None for p in predicted_findings_list]
"""
RADEVALS = {"radgraph_f1": 0.5, "ratescore": 1.0, "green": 1.0, "chexbert": 0.5}
ALL = [*RADEVALS, "crimson"]


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Both fake packages, importable, and nothing of them left afterwards."""
    (tmp_path / "site" / "CRIMSON").mkdir(parents=True)
    (tmp_path / "site" / "radeval.py").write_text(RADEVAL)
    (tmp_path / "site" / "CRIMSON" / "__init__.py").write_text(CRIMSON)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    radiology._loaded.cache_clear()
    yield
    radiology._loaded.cache_clear()
    for name in ("radeval", "RadEval", "CRIMSON"):
        sys.modules.pop(name, None)


def items(*answers, references=("left effusion",)):
    return [Item(references=references, kind="open", answer=answer) for answer in answers]


@pytest.mark.parametrize("name", ALL)
def test_a_missing_package_is_one_line_that_says_what_to_install(name):
    with pytest.raises(MissingExtraError, match=r"pip install (radeval|crimson-score)$"):
        build_scorer(name)


@pytest.mark.parametrize(("name", "full"), RADEVALS.items())
def test_radeval_is_called_once_for_a_batch(name, full, packages):
    import radeval

    scorer = build_scorer(name)
    assert scorer(items("left effusion", "effusion", "left effusion")) == [full, full / 2, full]
    assert radeval.CALLS == [(["left effusion", "left effusion"], ["left effusion", "effusion"])]
    assert scorer([]) == [] and len(radeval.CALLS) == 1
    assert scorer.describe() == {"judge": name, "package": "radeval unknown"}


def test_their_options(packages):
    (item,) = items("left effusion")
    assert build_scorer("radgraph_f1", level="simple")([item]) == [1.0]
    assert build_scorer("radgraph_f1", level="complete")([item]) == [1 / 3]
    assert build_scorer("chexbert", labels=5)([item]) == [1.0]
    for name, options in (
        ("radgraph_f1", {"level": "all"}),
        ("chexbert", {"labels": 3}),
        ("crimson", {"api": "openai"}),
    ):
        with pytest.raises(RecipeError, match=f"{name} {next(iter(options))} must be"):
            build_scorer(name, **options)


def test_crimson_is_mapped_to_the_unit_interval_and_called_once(packages):
    import CRIMSON

    scorer = build_scorer("crimson", batch_size=3)
    with pytest.warns(UserWarning, match="crimson: 1 of 4 unscored: unparsable reply"):
        scores, why = scorer.scored(items("left effusion", "no effusion", "cancer", "what"))
    assert scores == [1.0, 0.5, 0.25, None] and why == {3: "unparsable reply"}
    assert [(len(refs), size) for refs, _, size in CRIMSON.CALLS] == [(4, 3)]


@pytest.mark.parametrize(
    ("name", "answers", "scores", "reason"),
    [
        ("green", ("mumble", "left"), [None, 0.5], "unparsable reply: 'I would rather not'"),
        ("green", ("heart", "left"), [0.0, 0.5], None),  # a 0 that GREEN means
        ("ratescore", ("numb", "left"), [None, 0.5], "a score is nan"),
        ("ratescore", ("explode", "left"), [None, None], "RuntimeError: CUDA out of memory"),
    ],
)
def test_a_failure_has_a_reason_and_is_no_0(name, answers, scores, reason, packages, recwarn):
    found, why = build_scorer(name).scored(items(*answers))
    assert found == scores
    assert reason is None or why[0].startswith(reason)


def test_a_reference_that_failed_might_have_been_better(packages, recwarn):
    (item,) = items("mumble", references=("left effusion", "mumble cough"))
    assert build_scorer("green")([item]) == [None]
    (item,) = items("effusion", references=("left effusion", "effusion"))
    assert build_scorer("green")([item]) == [1.0]


def test_no_answer_is_0_and_no_reference_is_unscored_without_a_call(packages):
    import radeval

    scorer = build_scorer("green")
    assert scorer([*items(None, "-"), *items("left", references=("-",))]) == [0.0, 0.0, None]
    assert radeval.CALLS == []


def test_what_cannot_be_loaded_ends_the_command(packages):
    import radeval

    radeval.CALLS.append("broken")
    with pytest.raises(ModelError, match="ratescore cannot be loaded: ValueError: numpy"):
        build_scorer("ratescore")(items("left"))


def test_in_a_reward_an_evaluation_and_score(packages, tmp_path, capsys):
    table = {"parts": [{"scorer": name, "weight": 0.2} for name in ALL]}
    outcome = build_reward(table)(items("left effusion"))[0]
    assert outcome.reward == pytest.approx(0.2 * (sum(RADEVALS.values()) + 1))
    assert capsys.readouterr().out == ""  # what they print does not reach the standard output
    recipe = parse_recipe(
        {"name": "a", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}, "eval": {"scorers": ALL}}
    )
    assert list(build_own(recipe)) == list(own_facts(recipe)) == ALL
    (tmp_path / "rows.jsonl").write_text(json.dumps({"reference": "left effusion", "answer": "left effusion"}))
    (tmp_path / "reward.yaml").write_text(yaml.safe_dump(table))
    chosen = [word for name in ALL for word in ("--scorer", name)]
    done = CliRunner().invoke(
        app, ["score", str(tmp_path / "rows.jsonl"), *chosen, "--reward", str(tmp_path / "reward.yaml")]
    )
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout.splitlines()[0])
    assert row["scores"] == {**RADEVALS, "crimson": 1.0} and row["reward"] == pytest.approx(outcome.reward)
