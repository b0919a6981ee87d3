"""Studies: what a YAML may say, keys by content, shared stages, small files, and their arithmetic."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from medrft.errors import DataError, RecipeError, UnknownNameError
from medrft.pipeline.run_study import Grid, forecast_study
from medrft.pipeline.study_outcome import mean_pass_curve, pack_answers, thin_column
from medrft.rundir import read_json, write_json
from medrft.studies.arms import arms_of
from medrft.studies.collect import collect_study, seeds_needed, study_power, study_tables
from medrft.studies.contrasts import answer_lengths, by_difficulty, metric_comparisons, reward_learned
from medrft.studies.costs import study_costs
from medrft.studies.plan import Budget, Pair, grid_arms, load_study
from medrft.studies.result_files import (
    Places,
    metric_column,
    pack_column,
    paired_over_seeds,
    pooled_mean,
    read_result,
    read_results,
    unpack_column,
)
from medrft.studies.starts import compare_starts, start_predictors
from study_results import begun, made
from toys import TABLE

STUDIES = sorted((Path(__file__).resolve().parents[2] / "recipes" / "studies").glob("*.yaml"))

BASE = {
    **TABLE,
    "name": "toybase",
    "seed": 1000,
    "prompt": "plain",
    "data": {**TABLE["data"], "pretraining": 0.3},
    "stages": [{"name": "pretrain", "kind": "sft", "trl": {"max_steps": 1, "per_device_train_batch_size": 4}}],
}
STUDY = {
    "name": "toystudy",
    "question": "Does it?",
    "recipe": "toy.yaml",
    "base": "toybase.yaml",
    "arms": {"none": {"stages.grpo": None}, "text": {"reward.open": "text"}},
    "seeds": [1, 2],
    "primary": {"a": "text", "against": "none", "dataset": "phantom"},
    "budget": {"rule": "steps", "statement": "two steps"},
    "results": "results",
}

PRIMARY = STUDY["primary"]


def written(folder: Path, **changes) -> Path:
    """A toy study in a folder, with some of its keys changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("toy", TABLE), ("toybase", BASE), ("study", {**STUDY, **changes})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    return folder / "study.yaml"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"armes": {}}, "did you mean 'arms'"),
        ({"arms": None}, "either arms or factors"),
        ({"factors": {"x": {"y": {}}}}, "either arms or factors"),
        ({"seeds": [1, 1]}, "holds one twice"),
        ({"seeds": []}, "seeds"),
        ({"arms": {"none": {}, "text": {"rewrad.open": "text"}}}, "arm 'text'.*did you mean 'reward'"),
        ({"arms": {"none": {}, "text": {"stages.gpo.trl.beta": 1}}}, "arm 'text'.*'gpo'"),
        ({"arms": {"None": {}, "text": {}}}, "names files"),
        ({"primary": {"a": "txt", "against": "none", "dataset": "phantom"}}, "did you mean 'text'"),
        ({"primary": {"a": "text", "against": "none", "datset": "phantom"}}, "did you mean 'dataset'"),
        ({"primary": {"a": "text", "against": "none"}}, "primary.dataset is missing"),
        (
            {"primary": {"a": "text", "against": "text", "dataset": "phantom"}},
            "primary holds the arm 'text' against its",
        ),
        ({"primary": {**PRIMARY, "metric": "exact"}}, "primary.metric.*did you mean 'exact_match'"),
        ({"primary": {**PRIMARY, "metric": "n_tokens"}}, "unknown metric in primary.metric"),
        ({"primary": {**PRIMARY, "source": "blanc"}}, "primary.source.*did you mean 'blank'"),
        ({"primary": {**PRIMARY, "source": "blank", "metric": "cosine"}}, "source blank 'cosine'"),
        ({"secondary": [{"a": "text", "against": "nine"}]}, "secondary.0.against.*did you mean 'none'"),
        ({"secondary": [{"a": "text", "agianst": "none"}]}, "did you mean 'against'"),
        ({"arms": {}}, "at least one arm"),
        ({"arms": "stuudy.yaml"}, "arms: stuudy.yaml is no file beside it"),
        ({"arms": "../study.yaml"}, "is no file beside it"),
        ({"arms": "toy.yaml"}, "toy.yaml has no table of arms"),
        ({"arms": "study.yaml"}, "study.yaml has no table of arms"),
        ({"arms": None, "factors": {"x": {"p": {"seed": 1}}, "y": {"q": {"seed": 2}}}}, "two factors set seed"),
        ({"arms": None, "factors": {"x": {"a-b": {}, "a": {}}, "y": {"c": {}, "b-c": {}}}}, "two arms called 'a-b-c'"),
        ({"budget": {"rule": "hours", "statement": "x"}}, "budget.rule"),
        ({"recipe": "toi.yaml"}, "did you mean"),
        ({"base": "toy.yaml"}, None),
    ],
)
def test_mistakes_name_what_is_wrong(tmp_path, changes, expected):
    path = written(tmp_path, **changes)
    if expected is None:
        with pytest.raises(RecipeError, match="base recipe"):
            arms_of(load_study(path), ["none"], [1])
        return
    with pytest.raises((RecipeError, UnknownNameError), match=expected):
        load_study(path)


def test_no_study_and_no_yaml(tmp_path):
    with pytest.raises(RecipeError, match="no study at"):
        load_study(tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_study(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"name: \xff")
    with pytest.raises(RecipeError, match="not UTF-8 text"):
        load_study(tmp_path / "bad.yaml")


def test_an_arm_that_stands_twice_replaces_no_other(tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text().replace("arms:\n", "arms:\n  text: {}\n"))
    with pytest.raises(RecipeError, match="'text' stands twice"):
        load_study(path)


def test_a_study_may_have_the_arms_of_another(tmp_path):
    whole = written(tmp_path)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**STUDY, "name": "other", "arms": "study.yaml", "set": {}}))
    assert load_study(tmp_path / "other.yaml").arms == load_study(whole).arms


def test_unknown_arm_on_the_command_line(tmp_path):
    study = load_study(written(tmp_path))
    assert study.chosen(["text"]) == ["text"] and study.chosen(None) == ["none", "text"]
    with pytest.raises(UnknownNameError, match="did you mean 'text'"):
        study.chosen(["txet"])


def test_grid_has_every_combination():
    made = grid_arms({"a": {"x": {"k": 1}, "y": {"k": 2}}, "b": {"p": {"l": 3}, "q": {}}})
    assert made == {"x-p": {"k": 1, "l": 3}, "x-q": {"k": 1}, "y-p": {"k": 2, "l": 3}, "y-q": {"k": 2}}


def test_shared_stages_have_one_key_and_arms_their_own(tmp_path):
    study = load_study(
        written(tmp_path, arms={"none": {"stages.grpo": None}, "text": {"reward.open": "text"}, "a": {}})
    )
    none, text, armed, *second = arms_of(study, ["none", "text", "a"], [1, 2])
    assert [one.stage.name for one in text.shared] == ["pretrain", "sft"] and not none.recipe.stages
    assert none.shared[-1].key == text.shared[-1].key == armed.shared[-1].key
    assert len({arm.key for arm in (none, text, armed, *second)}) == 6
    assert second[0].shared[0].key == none.shared[0].key != second[0].shared[1].key != none.shared[1].key


def test_the_base_is_known_whatever_its_prompt(tmp_path):
    path = written(tmp_path)
    (tmp_path / "toybase.yaml").write_text(yaml.safe_dump({**BASE, "prompt": "think"}))
    none, text = arms_of(load_study(path), ["none", "text"], [1])
    assert none.base == text.base == none.shared[0] and none.base.stage.name == "pretrain"
    path.write_text(yaml.safe_dump({key: value for key, value in STUDY.items() if key != "base"}))
    assert arms_of(load_study(path), ["none"], [1])[0].base is None


def test_keys_depend_on_content_alone(tmp_path):
    here, there = written(tmp_path / "a"), written(tmp_path / "b")

    def keys(path, **overrides):
        return [arm.key for arm in arms_of(load_study(path, overrides=overrides), ["none", "text"], [1])]

    assert keys(here) == keys(there)  # not on the place
    assert keys(here, **{"data.root": str(tmp_path)}) == keys(here)
    assert keys(here, **{"report.images": "none", "name": "other"}) == keys(here)
    table = yaml.safe_load(here.read_text())
    here.write_text(yaml.safe_dump({**table, "name": "renamed", "question": "Is it?"}))
    assert keys(here) == keys(there)
    changed = keys(there, **{"stages.grpo.trl.beta": 0.5})
    assert changed[0] == keys(there)[0] and changed[1] != keys(there)[1]  # `none` has no GRPO stage
    assert keys(there, **{"data.images": 25})[0] != keys(there)[0]
    assert keys(there, **{"eval.limit": 5})[0] != keys(there)[0]  # the result would be another


def test_a_scorer_file_counts_by_its_text(tmp_path):
    path = written(tmp_path, arms={"none": {}, "text": {"reward.open": {"parts": [{"scorer": "s.py:S", "weight": 1}]}}})

    def key():
        return arms_of(load_study(path), ["text"], [1])[0].key

    (tmp_path / "s.py").write_text("class S: pass")
    first = key()
    (tmp_path / "s.py").write_text("class S: 1")
    assert key() != first


@pytest.mark.parametrize("reference", [{"wall_clock_of": "sft"}, {"start": "base"}, {"curate": "base"}])
def test_a_later_stage_may_not_refer_to_what_lies_before_the_last_shared_one(tmp_path, reference):
    more = {"name": "more", "kind": "sft", "trl": {}, **reference}
    path = written(tmp_path, arms={"none": {}, "text": {"stages.grpo": more}})
    with pytest.raises(RecipeError, match="before the last shared stage"):
        arms_of(load_study(path), ["text"], [1])


def test_a_curated_stage_counts_by_what_its_thoughts_depend_on(tmp_path):
    curated = {"prompt": "think", "stages.grpo": {"name": "armed_a", "kind": "sft", "curate": "sft"}}
    changes = {"tau": {"curate.tau": 9}, "correct": {"correct.scorer": "rouge1"}, "batch": {"eval.batch_size": 5}}
    arms = {"none": curated, "text": curated, **{name: {**curated, **more} for name, more in changes.items()}}
    none, text, *others = arms_of(load_study(written(tmp_path, arms=arms)), list(arms), [1])
    assert none.key == text.key and len({arm.key for arm in (none, *others)}) == 4
    assert len({arm.shared[-1].key for arm in (none, *others)}) == 1  # the model that writes is the same
    (stage,) = none.recipe.stages
    assert (stage.start, stage.curate) == ("base", "base")  # where the shared stage ends


def test_a_shared_stage_that_curates_has_a_key_of_its_own(tmp_path):
    curated = {"prompt": "think", "stages.sft.curate": "base"}
    path = written(tmp_path, arms={"none": curated, "text": {**curated, "curate.tau": 9}})
    none, text = arms_of(load_study(path), ["none", "text"], [1])
    assert none.shared[-1].key != text.shared[-1].key and none.shared[-1].stage.curate == "base"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_load(path):
    study = load_study(path)
    assert study.name == path.stem and study.table.claim and study.table.budget.seconds_per_arm
    arms = arms_of(study, list(study.arms), list(study.table.seeds))
    assert len({arm.key for arm in arms}) == len(arms) == len(study.arms) * len(study.table.seeds)


# ---- small files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("truth", [1.0, 0.0, None, 1.0]),
        ("truth", [0.125, 1.0, None, 0.5]),  # a mean over samples
        ("cosine", [0.25, None, 1.0, 0.0]),
        ("n_tokens", [12.0, 3.0, None, 64.0]),
        ("truth", [1.0]),
    ],
)
def test_packing_is_undone_by_unpacking(name, values):
    assert unpack_column(name, pack_column(name, values), len(values)) == values


def row(id_, kind, truth, *, image="i", control="none", temperature=0.0, sample=0):
    scores = {"truth": truth, "correct": truth}
    return {
        **{"id": id_, "kind": kind, "images": [image], "control": control, "temperature": temperature},
        **{"sample": sample, "scores": scores, "truncated": False, "n_tokens": 7},
    }


def test_packed_rows_come_back_by_question():
    rows = [
        row("d/test/10", "open", 1.0, image="x"),
        row("d/test/2", "closed", 0.0),
        row("d/test/2", "closed", 1.0, control="blank"),
    ]
    result = {"answers": {"d": pack_answers(rows)}}
    assert result["answers"]["d"]["prefix"] == "d/test/" and result["answers"]["d"]["ids"] == "2 10"
    i, x = result["answers"]["d"]["images"].split(" ")
    assert (
        i != x and pack_answers([row("e/test/1", "open", 0.0, image="x")])["images"] == x
    )  # the same image in any file
    assert metric_column(result, dataset="d", kind="all", metric="truth") == {
        "d/test/2": (0.0, i),
        "d/test/10": (1.0, x),
    }
    assert metric_column(result, dataset="d", kind="open", metric="truth") == {"d/test/10": (1.0, x)}
    assert metric_column(result, dataset="d", kind="all", metric="truth", source="blank") == {"d/test/2": (1.0, i)}
    tokens = metric_column(result, dataset="d", kind="all", metric="n_tokens")
    assert tokens == {"d/test/2": (7.0, i), "d/test/10": (7.0, x)}
    assert metric_column(result, dataset="other", kind="all", metric="truth") == {}


def test_pass_at_k_is_the_unbiased_estimate():
    rows = [
        row(f"d/test/{q}", "open", float(s < right), temperature=1.0, sample=s)
        for q, right in enumerate((0, 1, 4))
        for s in range(4)
    ]
    found = mean_pass_curve(rows)
    assert found == {
        "1": pytest.approx((0 + 0.25 + 1) / 3, abs=1e-4),
        "2": pytest.approx((0 + 0.5 + 1) / 3, abs=1e-4),
        "4": pytest.approx(2 / 3, abs=1e-4),
    }
    assert mean_pass_curve([row("d/test/1", "open", 1.0)]) == {}


def test_curves_are_thinned_to_sixty_points():
    assert thin_column([1.0, None, 3.0]) == [1.0, None, 3.0]
    long = thin_column([float(i) for i in range(150)])
    assert len(long) == 50 and long[0] == 1.0 and long[-1] == 148.0


def test_differences_agree_with_direct_computation():
    rng = np.random.default_rng(0)
    a = {seed: rng.integers(0, 2, 40) for seed in (1, 2, 3)}
    b = {seed: rng.integers(0, 2, 40) for seed in (1, 2)}
    found = paired_over_seeds(
        [made("a", s, v) for s, v in a.items()],
        [made("b", s, v) for s, v in b.items()],
        dataset="phantom",
        kind="all",
        metric="truth",
    )
    both = np.concatenate([a[s] - b[s] for s in (1, 2)])  # seed 3 has no partner
    assert found["mean"] == pytest.approx(both.mean(), abs=1e-5) and found["n"] == 80
    assert found["per_seed"] == {str(s): pytest.approx((a[s] - b[s]).mean(), abs=1e-5) for s in (1, 2)}
    assert found["low"] < found["mean"] < found["high"]
    open_ = paired_over_seeds(
        [made("a", 1, a[1])], [made("b", 1, b[1])], dataset="phantom", kind="open", metric="truth"
    )
    assert open_["mean"] == pytest.approx((a[1] - b[1])[1::2].mean(), abs=1e-5)
    assert (
        paired_over_seeds([made("a", 9, a[1])], [made("b", 1, b[1])], dataset="phantom", kind="all", metric="truth")
        is None
    )
    mean = pooled_mean([made("a", s, v) for s, v in a.items()], dataset="phantom", kind="all", metric="truth")
    assert mean["mean"] == pytest.approx(np.concatenate(list(a.values())).mean(), abs=1e-5) and mean["seeds"] == 3


def test_collect_reports_the_primary_outcome_and_leaves_other_contents_out(tmp_path):
    study = load_study(written(tmp_path))
    text, none = [1, 1, 0, 1], [0, 1, 0, 0]
    results = [made("text", s, text) for s in (1, 2)] + [made("none", s, none, blank="0100") for s in (1, 2)]
    keys = {f"{arm}-seed{seed}": "k" for arm in ("text", "none") for seed in (1, 2)}
    facts = collect_study(study, results, keys=keys)
    assert facts["primary"]["outcome"]["mean"] == 0.5 and facts["missing"] == [] and facts["seeds"] == [1, 2]
    table = next(t for t in facts["tables"] if t["kind"] == "all")
    assert [r["arm"] for r in table["rows"]] == ["none", "text"] and table["rows"][0]["controls"] == {"blank": 0.25}
    stale = collect_study(study, [*results[:3], made("none", 2, none, key="old")], keys=keys)
    assert stale["stale"] == ["none-seed2"] == stale["missing"] and stale["seeds"] == [1, 2]


def test_difficulty_splits_by_what_the_arm_none_knew():
    arms = {
        "none": [made("none", 1, [1, 1, 0, 0])],
        "a": [made("a", 1, [1, 1, 1, 0])],
        "b": [made("b", 1, [1, 0, 0, 0])],
    }
    (found,) = by_difficulty(arms, against="b")
    assert found["easy"]["mean"] == 0.5 and found["hard"]["mean"] == 0.5 and found["easy"]["n"] == 2


def test_tables_are_of_sampled_answers_where_the_outcome_is():
    def run(arm, seed, truths, sampled):
        result = made(arm, seed, truths)
        result["answers"]["phantom"]["values"]["sampled"] = {"truth": sampled}
        return result

    arms = {
        "none": [run("none", seed, [1, 1, 1, 0], "1000") for seed in (1, 2)],
        "a": [run("a", seed, [1, 1, 1, 0], "1110") for seed in (1, 2)],
    }
    greedy, sampled = (study_tables(arms, against="none", source=source)[0] for source in ("none", "sampled"))
    assert (greedy["source"], sampled["source"]) == ("none", "sampled")
    (_, a), (_, b) = greedy["rows"], sampled["rows"]
    assert (a["mean"], a["difference"]["mean"], a["controls"]) == (0.75, 0.0, {"sampled": 0.75})
    assert (b["mean"], b["difference"]["mean"], b["controls"]) == (0.75, 0.5, {"none": 0.75})
    (found,) = metric_comparisons(arms, [Pair(a="a", against="none")], kind="all")
    assert found["metrics"]["sampled"]["mean"] == 0.5 and found["metrics"]["truth"]["mean"] == 0.0


def test_budget_is_checked_and_not_only_stated():
    arms = {
        "none": [made("none", 1, [1, 0], steps=0, tokens=0)],
        "a": [made("a", 1, [1, 0])],
        "b": [made("b", 1, [1, 0], tokens=130)],
    }
    steps = study_costs(arms, Budget(rule="steps", statement="s"))
    assert steps["kept"] and steps["ratio"] == 1.0
    tokens = study_costs(arms, Budget(rule="tokens", statement="s", tolerance=0.2))
    assert not tokens["kept"] and tokens["ratio"] == 1.3
    assert study_costs(arms, Budget(rule="tokens", statement="s", tolerance=0.3))["kept"]
    arms["sft"] = [made("sft", 1, [1, 0], tokens=0)]  # trained, and sampled nothing
    assert not study_costs(arms, Budget(rule="tokens", statement="s", tolerance=9))["kept"]


def test_what_an_arm_was_paid_from_its_first_to_its_last_quarter():
    def run(seed, reward):
        steps = list(range(len(reward)))
        return {
            **made("text", seed, [1, 0]),
            "curves": {"grpo": {"step": steps, "reward": reward, "part/x/raw": reward, "truth": [None] * 8}},
        }

    runs = [run(1, [0.0, 0.2, 9, 9, 9, 9, 0.4, None]), run(2, [0.1, 0.1, 9, 9, 9, 9, 0.3, 0.3])]
    (found,) = reward_learned({"none": [made("none", 1, [1, 0])], "text": runs})
    assert found["arm"] == "text" and "truth" not in found
    assert (found["reward"]["first"], found["reward"]["last"], found["reward"]["mean"]) == (0.1, 0.35, 0.25)
    assert found["reward"]["low"] < 0 < found["reward"]["high"] and found["reward"]["seeds"] == 2
    assert found["parts"] == {"x": found["reward"]}
    assert reward_learned({"text": [run(1, [0.5, 0.5])]}) == []  # too short to have quarters


def test_power_from_the_spread_between_seeds(tmp_path):
    study = load_study(written(tmp_path))
    arms = {
        "none": [made("none", s, [0, 0, 0, 0]) for s in (1, 2, 3)],
        "text": [made("text", s, [1] * s + [0] * (4 - s)) for s in (1, 2, 3)],
    }
    (found,) = study_power(arms, study)
    assert found["sd"] == 0.25 and found["seeds"] == 3 and found["questions"] == 4
    # two images of two questions: the variance of a seed's mean is 1/16, 1/4 and 1/16
    assert found["within_sd"] == pytest.approx(0.125**0.5, abs=1e-4)
    assert found["needed"]["0.05"] == seeds_needed(0.25, 0.05) > 190
    assert seeds_needed(0.0, 0.01) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"arm": "a", "seed": 1}', "it lacks answers, cost"),
        ("[]", "it lacks answers, arm"),
        ('{"arm": "a"', "is not JSON.*take it away"),
        (json.dumps(made("b", 1, [1, 0])), "holds the result of b-seed1"),  # a copy would count twice
    ],
)
def test_a_file_that_is_no_result_is_named(tmp_path, text, says):
    (tmp_path / "a-seed1.json").write_text(text)
    for read in (lambda: read_results(tmp_path), lambda: read_result(tmp_path / "a-seed1.json")):
        with pytest.raises(DataError, match=rf"a-seed1\.json.*{says}"):
            read()


def test_results_that_the_plan_does_not_know_are_named(tmp_path):
    study = load_study(written(tmp_path))
    results = [made("text", 9, [1, 0]), made("gone", 1, [1, 0]), made("text", 1, [1, 0])]
    facts = collect_study(study, results, keys={"text-seed1": "k", "none-seed1": "k"})
    assert facts["unplanned"] == ["gone-seed1", "text-seed9"] and facts["missing"] == ["none-seed1"]
    assert facts["stale"] == [] and facts["seeds"] == [1]


def test_ids_with_spaces_are_kept_apart():
    result = {"answers": {"d": pack_answers([row("d/test/case 1", "open", 1.0), row("d/test/case 2", "open", 0.0)])}}
    found = metric_column(result, dataset="d", kind="all", metric="truth")
    assert [value for value, _ in found.values()] == [1.0, 0.0]


def with_tokens(result, tokens):
    """The result with a number of tokens for each answer."""
    result["answers"]["phantom"]["values"]["none"]["n_tokens"] = " ".join(map(str, tokens))
    return result


def test_lengths_of_right_and_of_wrong_answers():
    arms = {
        "a": [with_tokens(made("a", 1, [1, 1, 0, 0]), [10, 20, 30, 50])],
        "b": [with_tokens(made("b", 1, [1, 0, 0, 1]), [7, 8, 29, 1])],
    }
    a, b = answer_lengths(arms, against="b")
    assert a["right"]["mean"] == 15 and a["wrong"]["mean"] == 40 and b["right"]["mean"] == 4
    assert a["right_difference"]["mean"] == 3 and a["right_difference"]["n"] == 1  # both right: the first
    assert a["wrong_difference"]["mean"] == 1 and b["right_difference"] is None


def test_secondary_pairs_hold_every_metric_of_two_arms():
    arms = {"a": [made("a", 1, [1, 1, 0, 0])], "b": [made("b", 1, [1, 0, 0, 0])]}
    (found,) = metric_comparisons(arms, [Pair(a="a", against="b"), Pair(a="a", against="absent")], kind="all")
    assert (found["arm"], found["against"]) == ("a", "b") and found["metrics"]["truth"]["mean"] == 0.25
    assert list(found["metrics"]) == ["truth"]


def test_flipped_answers_have_a_paired_difference():
    arms = {"a": [made("a", 1, [1, 0])], "b": [made("b", 1, [0, 0])]}
    arms["a"][0]["answers"]["phantom"]["values"]["none"]["side_flip"] = "01"
    arms["b"][0]["answers"]["phantom"]["values"]["none"]["side_flip"] = "00"
    a, b = next(table for table in study_tables(arms, against="b") if table["kind"] == "all")["rows"]
    assert a["flips"]["side_flip"]["mean"] == 0.5 == a["flips"]["side_flip"]["difference"]["mean"]
    assert b["flips"]["side_flip"] == {"mean": 0.0, "difference": None} and a["flips"]["polarity_flip"] is None


def test_pass_at_k_of_the_start_as_a_predictor():
    arms = {
        "low": [begun("low", s, [1, 0, 0, 0], shared="x", trained=False, passed={"1": 0.2, "8": 0.9}) for s in (1, 2)],
        "high": [
            begun("high", s, [1, 1, 0, 0], shared="y", trained=False, passed={"1": 0.4, "8": 0.6}) for s in (1, 2)
        ],
        "low_rl": [begun("low_rl", s, [1, 1, 1, 0], shared="x", trained=True) for s in (1, 2)],
        "high_rl": [begun("high_rl", s, [1, 1, 0, 0], shared="y", trained=True) for s in (1, 2)],
    }
    found = compare_starts(arms)
    assert [(row["start"], row["after"]) for row in found] == [("low", "low_rl"), ("high", "high_rl")]
    assert (found[0]["greedy"], found[0]["reached"], found[0]["gain"]["mean"]) == (0.25, 0.75, 0.5)
    agreed = {row["predictor"]: (row["agree"], row["of"]) for row in start_predictors(arms)}
    assert agreed == {"greedy": (0, 2), "pass@1": (0, 2), "pass@8": (2, 2)}


# ---- running --------------------------------------------------------------------------------------------------------


def test_a_result_that_is_there_is_not_run_again(tmp_path):
    study = load_study(written(tmp_path))
    arms = arms_of(study, ["none", "text"], [1])
    grid = Grid(output=tmp_path / "runs" / "s", places=Places.of(study), tell=lambda line: None)
    for arm in arms:
        write_json(
            grid.places.result(arm),
            {"key": arm.key, **{k: v for k, v in made(arm.name, 1, [1, 0]).items() if k != "key"}},
        )
    assert grid.run(arms) == [] and not (tmp_path / "runs").exists()
    facts = forecast_study(study, grid, arms)
    assert facts["left"] == 0 and facts["hours"] == 0.0 and all(arm["done"] for arm in facts["arms"])
    write_json(grid.places.result(arms[0]), made("none", 1, [1, 0], key="another"))
    assert not grid.is_done(arms[0])


def test_forecast_counts_each_shared_stage_once(tmp_path):
    study = load_study(written(tmp_path))
    arms = arms_of(study, ["none", "text"], [1, 2])
    facts = forecast_study(study, Grid(output=tmp_path / "runs" / "s", places=Places.of(study)), arms)
    assert [one["stage"] for one in facts["shared"]] == ["pretrain", "sft", "sft"]
    assert facts["left"] == 4 and facts["hours"] is None and facts["seconds_from"] == "unknown"


def test_forecast_takes_the_seconds_of_the_same_arm_and_the_same_stage(tmp_path):
    study = load_study(written(tmp_path, budget={"rule": "steps", "statement": "s", "seconds_per_arm": 50}))
    arms = arms_of(study, ["none", "text"], [1, 2])
    grid = Grid(output=tmp_path / "runs" / "s", places=Places.of(study))
    assert forecast_study(study, grid, arms)["seconds_from"] == "stated"
    none = next(arm for arm in arms if arm.label == "none-seed1")
    before = [
        {"stage": one.stage.name, "kind": "sft", "shared": one.key, "steps": 1, "seconds": seconds}
        for one, seconds in zip(none.shared, (700.0, 60.0), strict=True)
    ]
    write_json(grid.places.result(none), {**made("none", 1, [1, 0], key=none.key), "cost": before})
    facts = forecast_study(study, grid, arms)
    assert {(one["stage"], one["seconds"]) for one in facts["shared"]} == {("pretrain", 700.0), ("sft", 60.0)}
    # left: none-seed2 as its first seed (1 s of evaluation), two arms that train as stated, three shared stages
    assert facts["hours"] == round((1 + 2 * 50 + 700 + 2 * 60) / 3600, 2)


def test_who_waits_says_so(tmp_path):
    grid = Grid(output=tmp_path / "runs" / "s", places=Places(tmp_path, tmp_path / "controls"), tell=print)
    told = []
    arms = arms_of(load_study(written(tmp_path)), ["none"], [1])
    lock = grid.folder(arms[0]) / ".lock"
    holder = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    lock.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()

        def tell(line):  # the other process finishes its arm and goes
            told.append(line)
            write_json(grid.places.result(arms[0]), made("none", 1, [1, 0], key=arms[0].key))
            process.kill()

        grid.tell = tell
        assert grid.run(arms) == []
    assert told == ["waiting for other processes: none-seed1"]


def test_a_small_study_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    study = load_study(written(tmp_path))
    arms = arms_of(study, ["none", "text"], [1, 2])
    grid = Grid(output=tmp_path / "runs" / "s", places=Places.of(study), tell=lambda line: None)
    assert len(grid.run(arms)) == 4
    assert sorted(grid.trained) == sorted({one.key for arm in arms for one in arm.shared})  # SFT once per seed
    text = read_json(study.results / "text-seed1.json")
    assert text["form"]["n"] and [(c["stage"], c["shared"] is None) for c in text["cost"]] == [
        ("pretrain", False),
        ("sft", False),
        ("grpo", True),
    ]
    assert text["cost"][-1]["tokens"] > 0 and len(text["curves"]["grpo"]["step"]) == 2
    assert str(tmp_path) not in json.dumps(text)  # nothing of this machine
    for arm in arms:
        predictions = (
            grid.folder(arm) / "eval" / ("start" if arm.name == "none" else "grpo") / "phantom" / "predictions.jsonl"
        )
        _, *rows = map(json.loads, predictions.read_text().splitlines())
        greedy = {r["id"]: r["scores"]["truth"] for r in rows if r["control"] == "none"}
        found = metric_column(read_json(grid.places.result(arm)), dataset="phantom", kind="all", metric="truth")
        assert {key: value for key, (value, _) in found.items()} == greedy
    again = Grid(output=tmp_path / "elsewhere" / "s", places=Places.of(study), tell=lambda line: None)
    assert again.run(arms) == [] and not (tmp_path / "elsewhere").exists()  # a fresh clone goes on from the small files
    facts = collect_study(study, read_results(study.results), keys={arm.label: arm.key for arm in arms})
    assert facts["missing"] == [] and facts["primary"]["outcome"]["n"] > 0 and facts["cost"]["kept"]


def test_results_stay_in_the_folder_of_whoever_runs_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copied = written(tmp_path / "a" / "recipes" / "studies", results=None)
    assert load_study(copied).results == Path("runs/studies/toystudy/results")  # not two folders above the file
    (tmp_path / "a" / "benchmarks" / "results" / "studies" / "toystudy").mkdir(parents=True)
    assert load_study(copied).results == tmp_path / "a" / "benchmarks" / "results" / "studies" / "toystudy"
    with pytest.raises(RecipeError, match=r"results: \.\./out leads out of .*--results"):
        _ = load_study(written(tmp_path / "b", results="../out")).results
