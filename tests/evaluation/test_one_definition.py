"""One definition of each thing: what training, evaluation, comparison, report and studies say of the same answers."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from loopback import Loopback, say
from medrft.curation.rules import Rules
from medrft.endpoint import Endpoint, Reply
from medrft.evaluation import runner
from medrft.evaluation.compare.paired import compare_sides
from medrft.evaluation.compare.sides import read_sides
from medrft.evaluation.engines import Remote
from medrft.evaluation.repeated import of_samples
from medrft.evaluation.run_files import RunFiles
from medrft.evaluation.scoring import Answer, Marker
from medrft.models.conversation import completion_of, conversation
from medrft.models.prompts import get_prompt
from medrft.pipeline.study_outcome import mean_pass_curve
from medrft.recipes import parse_recipe
from medrft.report.gained_lost import OUTCOMES, held_out
from medrft.report.results import compare_stages
from medrft.rewards import build_reward, correct_of
from medrft.rundir import RunDir, read_jsonl
from medrft.scorers.base import item_of
from medrft.training.grading import Grader
from medrft.types import Completion, Example
from report.made_run import make_run

TABLE = {"name": "a", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}}
SCORER = """
class Loose:
    name = "loose"
    range = (0.0, 1.0)
    needs = ()

    def __init__(self, words: int = 3) -> None:
        self.words = words

    def applies(self, item):
        return item.kind == "open"

    def __call__(self, items):
        common = [set((item.answer or "").split()) & set(item.references[0].split()) for item in items]
        return [float(len(words) >= self.words) for words in common]
"""


def example(references=("small left effusion",), kind="open", **more):
    return Example(
        id="toy/test/0",
        dataset="toy",
        split="test",
        images=more.pop("images", ()),
        question="What is it?",
        references=references,
        kind=kind,
        **more,
    )


def test_correct_is_one_for_training_evaluation_curation_and_rewards(tmp_path):
    """The options that the reward gives the scorer count everywhere: two words in common are enough here."""
    (tmp_path / "loose.py").write_text(SCORER, encoding="utf-8")
    scorer = f"{tmp_path / 'loose.py'}:Loose"
    parts = [
        {"scorer": scorer, "weight": 0.5, "options": {"words": 2}},
        {"scorer": "cwr", "weight": 0.5},
    ]
    recipe = parse_recipe({**TABLE, "correct": {"scorer": scorer}, "reward": {"parts": parts}})
    asked, said = example(), Completion(text="<answer>left effusion</answer>", n_tokens=4, truncated=False)
    item = item_of(asked, said, form="direct", max_tokens=4)
    marked = Marker(recipe)([Answer(example=asked, item=item, completion=said, control="none")])[0]["correct"]
    reward = build_reward(recipe.reward, encoder=recipe.encoder, correct=recipe.correct)
    trained = Grader(reward, correct_of(recipe), form="direct", max_tokens=4).grade([asked], [said])[0].correct
    assert (marked, float(bool(trained))) == (1.0, 1.0)
    assert Rules(recipe).correct([item]) == [1.0]
    assert reward([item])[0].raw["cwr"] == 1.0


def test_which_answers_changed_is_one_for_compare_and_report(tmp_path):
    run = make_run(tmp_path / "run", dataset="vqa_rad")
    file = run / "eval" / "grpo" / "vqa_rad" / "predictions.jsonl"
    header, *rows = list(read_jsonl(file))
    first = next(row for row in rows if row["control"] == "none" and not row["temperature"] and row["sample"] == 0)
    first["scores"] = dict.fromkeys(first["scores"])
    file.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)), encoding="utf-8")
    counted = compare_sides(read_sides([f"{run}:sft", f"{run}:grpo"]))["against"][0]["changes"]["counts"]["vqa_rad"]
    told: dict[str, int] = dict.fromkeys(OUTCOMES.values(), 0)
    for kinds in counted.values():
        for outcome, n in kinds.items():
            told[OUTCOMES[outcome]] += n
    held = held_out(RunFiles(run), "vqa_rad")
    assert held is not None and dict(held.counts) == told and told["unscored"] == 1


def test_what_was_asked_otherwise_is_no_pair_for_compare_or_report(tmp_path):
    run = make_run(tmp_path / "run", dataset="vqa_rad")
    file = run / "eval" / "grpo" / "vqa_rad" / "predictions.jsonl"
    header, *rows = list(read_jsonl(file))
    changed = next(row for row in rows if row["control"] == "none" and not row["temperature"])
    changed["references"] = ["something else"]
    file.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)), encoding="utf-8")
    compared = compare_sides(read_sides([f"{run}:sft", f"{run}:grpo"]))
    assert compared["against"][0]["left_out"]["another reference under the same id"]["examples"] == [changed["id"]]
    files = RunFiles(run)
    held = held_out(files, "vqa_rad")
    assert held is not None and sum(held.counts.values()) == compared["against"][0]["paired"] == 119
    told = {one.kind: one.difference for one in compare_stages(files, "vqa_rad") if one.against.stage == "sft"}
    for test in compared["tests"]:
        if test["metric"] in ("accuracy", "correct"):
            assert told[test["kind"]].as_json().items() <= {**test, "mean": test["difference"]}.items()


def samples(right, **more):
    return [
        {
            "id": "toy/test/0",
            "sample": number,
            "control": "none",
            "temperature": 1.0,
            "answer": "x",
            "scores": {"correct": value, **{name: values[number] for name, values in more.items()}},
        }
        for number, value in enumerate(right)
    ]


def test_pass_at_k_is_one_for_evaluation_and_studies():
    rows = samples([1.0, 0.0, 0.0, 0.0])
    assert {f"pass@{k}": value for k, value in mean_pass_curve(rows).items()} == {
        name: value for name, value in of_samples(rows).items() if name.startswith("pass@")
    }
    known = samples([1.0, 0.0, 0.0, 0.0], truth=[1.0, 1.0, 0.0, 0.0])
    assert (of_samples(known)["pass@1"], mean_pass_curve(known)["1"]) == (
        0.25,
        0.5,
    )  # a study goes by truth, and says so
    assert mean_pass_curve(samples([1.0, None, 0.0, 0.0])) == {}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("L", (8, 8), 90).save(path)
    return path


def test_a_reply_with_half_a_character_is_written(tmp_path, picture):
    recipe = parse_recipe(
        {
            **TABLE,
            "prompt": "short",
            "data": {"name": "table"},
            "report": {"images": "none"},
            "eval": {"max_new_tokens": 7},
        }
    )
    asked = example(("yes",), "closed", images=(picture,))
    with Loopback(lambda request, number: say("<think>\ud83d</think>yes \ud83d")) as server:
        runner.evaluate(
            Remote(Endpoint(model="tested", base_url=server.url, concurrency=1)),
            recipe,
            stage="tested",
            examples_by_dataset={"toy": [asked]},
            train=[asked],
            run=RunDir(tmp_path / "run"),
        )
    rows = [
        row for row in read_jsonl(tmp_path / "run" / "eval" / "tested" / "toy" / "predictions.jsonl") if "scores" in row
    ]
    assert rows[0]["answer"] == "yes ?" and rows[0]["scores"]["yes_no_match"] == 1.0


def test_one_way_to_ask_and_one_to_clean(picture):
    reply = Reply(text="left \ud800", finish="length", prompt_tokens=3, completion_tokens=None)
    said = completion_of(reply, get_prompt("short"))
    assert said == Completion(text="left ?", n_tokens=None, truncated=True)
    chat = conversation(get_prompt("short"), example(images=(picture,)), [Image.open(picture)])
    block = chat[0]["content"][0]
    assert block["type"] == "image_url" and block["image_url"]["url"].startswith("data:image/png;base64,")
