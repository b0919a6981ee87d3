"""Does the audit predict the gain? The file that is written first, and the collector on gains with a known answer."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import yaml

from medrft.audit.figures import FIGURES, audit_figures
from medrft.errors import DataError, RecipeError, UnknownNameError
from medrft.pipeline.study_audit import audit_study
from medrft.report.study import study_page, study_text
from medrft.report.study_predict import predict_lines, predict_plot, predict_words
from medrft.rundir import read_json, write_json
from medrft.studies.audit_file import audit_hash, audit_path, needed_audit, read_audit, write_audit_file
from medrft.studies.collect import collect_study
from medrft.studies.plan import load_study
from medrft.studies.predict import collect_predictions, correlate, spearman
from medrft.studies.result_files import Places
from study_results import begun
from toys import TABLE

SHIPPED = Path(__file__).resolve().parents[2] / "recipes" / "studies" / "audit_predicts.yaml"
FAMILIES = {f"family{i}": [f"r{i}{j}" for j in range(4)] for i in range(6)} | {"truth": ["oracle"]}
ARMS = [arm for arms in FAMILIES.values() for arm in arms]
STUDY = {
    "name": "toy",
    "question": "Does it?",
    "recipe": "toy.yaml",
    "arms": {"start": {"stages.grpo": None}, **{arm: {"reward.open": "text"} for arm in ARMS}},
    "seeds": [1, 2, 3],
    "primary": {"a": "oracle", "against": "start", "dataset": "phantom"},
    "predict": {"figure": "snr", "families": FAMILIES, "without": ["truth"]},
    "budget": {"rule": "steps", "statement": "two steps"},
    "results": "results",
}
QUESTIONS = 200


def written(folder, **changes):
    (folder / "toy.yaml").write_text(yaml.safe_dump({**TABLE, "data": {**TABLE["data"], "images": 12}}))
    (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return load_study(folder / "study.yaml")


def known(study, link, *, seed=0):
    """Results whose gain is `link` times the audit's signal to noise, and that audit; the truth gains most of all."""
    rng = np.random.default_rng(seed)
    level = {family: rng.normal() for family in FAMILIES}  # families differ, and their rewards are alike
    signal = {arm: level[family] + 0.4 * rng.normal() for family, arms in FAMILIES.items() for arm in arms}
    rewards = {
        arm: {"reward": "x", "figures": {**dict.fromkeys(FIGURES, 0.5), "snr": signal[arm]}, "findings": []}
        for arm in ARMS
    }
    audit = {"rewards": rewards}
    audit["hash"] = audit_hash(audit)
    results = []
    for run in study.table.seeds:
        for arm in ("start", *ARMS):
            gain = 0.0 if arm == "start" else 0.3 if arm == "oracle" else 0.05 * link * signal[arm]
            gain += 0.0 if arm == "start" else rng.normal(0, 0.01)
            right = round(QUESTIONS * min(1.0, max(0.0, 0.5 + gain)))
            result = begun(arm, run, [1] * right + [0] * (QUESTIONS - right), shared=f"s{run}", trained=arm != "start")
            results.append({**result, "audit": audit["hash"]})
    return results, audit


def collected(study, results, audit):
    """All facts of the study, as its page has them."""
    keys = {f"{result['arm']}-seed{result['seed']}": "k" for result in results}
    return collect_study(study, results, keys=keys, audit=audit)


def predicted(study, results, audit):
    """The facts of the prediction alone, which take less time."""
    arms = {arm: [result for result in results if result["arm"] == arm] for arm in study.arms}
    return {"study": study.name, "predicts": collect_predictions(study, arms, audit)}


def test_a_figure_that_predicts_is_found(tmp_path):
    study = written(tmp_path)
    facts = predicted(study, *known(study, 1.0))
    found = facts["predicts"]["correlations"]["snr"]
    assert found["rho"] > 0.85 and found["low"] > 0.5 and min(found["without"].values()) > 0.7
    assert (found["rewards"], found["families"], found["seeds"]) == (24, 6, 3)  # the oracle stands apart
    assert "oracle" not in found["without"] and facts["predicts"]["late"] == []
    assert predict_words(facts).startswith("The audit's signal to noise predicts the gained truth: Spearman 0.")
    assert facts["predicts"]["correlations"]["auroc"]["rho"] is None  # a figure that is the same for all


def test_a_figure_that_predicts_the_contrary_is_found(tmp_path):
    study = written(tmp_path)
    found = predicted(study, *known(study, -1.0))
    assert found["predicts"]["correlations"]["snr"]["high"] < 0
    assert "predicts the contrary" in predict_words(found)


def test_a_figure_that_predicts_nothing_is_not_made_to(tmp_path):
    """Gains that have nothing to do with the audit: of 12 such worlds few have an interval off 0."""
    study = written(tmp_path)
    wrong = 0
    for seed in range(12):
        facts = predicted(study, *known(study, 0.0, seed=seed))
        found = facts["predicts"]["correlations"]["snr"]
        wrong += found["low"] > 0 or found["high"] < 0
        assert abs(found["rho"]) < 0.75
    assert wrong <= 3
    assert "is not shown" in predict_words(facts)


def test_rewards_of_one_family_count_as_one_draw():
    """Two families that differ, and nothing within them: twelve rewards would be sure of it, two families are not."""
    rng = np.random.default_rng(0)

    def reward(family, level):
        seeds = {str(seed): level + rng.normal() for seed in (1, 2, 3)}
        gain = {"mean": np.mean(list(seeds.values())), "per_seed": seeds}
        return {"arm": "r", "family": family, "gain": gain, "figures": {"snr": level + rng.normal()}}

    found = correlate([reward(family, level) for family, level in (("a", 0), ("b", 5)) for _ in range(6)], "snr")
    assert found["families"] == 2 and found["rho"] > 0.6 and found["low"] < 0.4


def test_where_it_errs_and_what_came_too_late_is_named(tmp_path):
    study = written(tmp_path)
    results, audit = known(study, 1.0)
    best = max((arm for arm in ARMS if arm != "oracle"), key=lambda arm: audit["rewards"][arm]["figures"]["snr"])
    for result in results:
        if result["arm"] == best:
            result["answers"]["phantom"]["values"]["none"]["truth"] = "0" * QUESTIONS
            result["audit"] = "another"
    facts = predicted(study, results, audit)
    assert facts["predicts"]["worst"][0]["arm"] == best and facts["predicts"]["late"] == [best]
    text = "\n".join(predict_lines(facts))
    assert f"by rank: {best} (1 by the audit, 24 by its gain)" in text and f"after this audit: {best}." in text


def test_the_picture_the_page_and_what_is_not_there_yet(tmp_path):
    study = written(tmp_path)
    results, audit = known(study, 1.0)
    results = [result for result in results if result["arm"][1:] in ("tart", "00", "10", "20", "30")]
    facts = collected(study, results, audit)
    picture = predict_plot(facts)
    root = ET.fromstring(picture)
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 4 + 4 and "prefers-color-scheme: dark" in picture
    assert "data:image/svg+xml;base64," in study_page(facts) and "Does the audit predict" in study_page(facts)
    assert "Spearman with the gain" in study_text(facts)
    for gone, says in (
        ((results, None), "not been audited yet"),
        (([], audit), "fewer than three of them are trained"),
    ):
        facts = collected(study, *gone)
        assert says in study_text(facts) and says in study_page(facts) and predict_plot(facts) == ""


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"figure": "snir"}, UnknownNameError, "did you mean 'snr'"),
        ({"families": {"a": ["r99"]}}, UnknownNameError, "arm in predict.families"),
        ({"families": {"a": ["r00"], "b": ["r00"]}, "without": []}, RecipeError, "'r00' twice"),
        ({"without": ["family9"]}, UnknownNameError, "family in predict.without"),
        ({"figures": "snr"}, RecipeError, "did you mean 'figure'"),
    ],
)
def test_mistakes_in_what_is_to_be_predicted(tmp_path, changes, error, says):
    with pytest.raises(error, match=says):
        written(tmp_path, predict={**STUDY["predict"], **changes})


def test_the_audit_is_written_first_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arms = {
        "start": {"stages.grpo": None},
        "text": {"reward": "text"},
        "exact": {"reward": {"parts": [{"scorer": "exact_match", "weight": 1}]}},
    }
    primary = {"a": "text", "against": "start", "dataset": "phantom"}
    study = written(tmp_path, arms=arms, primary=primary, predict={"families": {"lexical": ["text", "exact"]}})
    places = Places.of(study)
    with pytest.raises(RecipeError, match="before any training: the same command with --audit"):
        needed_audit(study, places)
    made = audit_study(study, places)
    assert (
        made == read_json(audit_path(places)) == read_audit(study, places)
        and needed_audit(study, places) == made["hash"]
    )
    assert set(made["rewards"]["text"]["figures"]) == set(FIGURES) and made["rewards"]["exact"]["figures"]["snr"] > 0
    assert audit_study(study, places)["hash"] == made["hash"]  # the same again

    write_json(places.own / "text-seed1.json", {**begun("text", 1, [1, 0], shared="s", trained=True), "audit": "older"})
    with pytest.raises(RecipeError, match="trained after audit older"):
        write_audit_file({key: value for key, value in made.items() if key != "hash"}, places)
    write_json(audit_path(places), {**made, "material": "other"})
    with pytest.raises(DataError, match="was changed after it was written"):
        read_audit(study, places)
    write_json(audit_path(places), made)
    other = written(
        tmp_path, arms={**arms, "text": {"reward": "armed"}}, primary=primary, predict=study.table.predict.model_dump()
    )
    with pytest.raises(RecipeError, match="not of the present reward of arm 'text'"):
        read_audit(other, places)


def test_figures_that_an_audit_could_not_take():
    empty = {"auroc": None, "collapse": None, "hacks": None}
    assert audit_figures(empty) == dict.fromkeys(FIGURES)


def test_the_shipped_study_and_its_committed_audit():
    study = load_study(SHIPPED)
    families = study.table.predict.families
    assert sum(map(len, families.values())) >= 30 and len(families) >= 8
    judged = [arm for family, arms in families.items() if family not in study.table.predict.without for arm in arms]
    assert len(judged) >= 30 and not set(judged) & {"oracle", "random", "format_only"}
    audit = read_audit(study, Places.of(study))
    assert audit is not None and set(audit["rewards"]) == {arm for arms in families.values() for arm in arms}
    assert audit["rewards"]["oracle"]["figures"]["snr"] > audit["rewards"]["random"]["figures"]["snr"]
    json.dumps(audit, allow_nan=False)


def test_spearman_agrees_with_its_definition():
    a, b = np.array([1.0, 2.0, 2.0, 4.0]), np.array([4.0, 1.0, 3.0, 2.0])
    ranks = np.array([1, 2.5, 2.5, 4]), np.array([4, 1, 3, 2])
    assert spearman(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1]) and np.isnan(spearman(a, np.ones(4)))
