from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from loopback import Loopback, say
from medrft.config import EvalJudgeConfig
from medrft.errors import RecipeError
from medrft.evaluation.judge_panel import Panel, judge_facts
from medrft.evaluation.scoring import Answer, Marker
from medrft.pipeline.run import check_names
from medrft.recipes import parse_recipe
from medrft.types import Example, Item


def items(*answers):
    return [Item(references=("pneumonia",), kind="open", answer=answer, question="What is seen?") for answer in answers]


def asked(server, **options):
    return EvalJudgeConfig(model="judge-1", base_url=server.url, backoff=0.0, **options)


def test_each_repeat_is_a_request_of_its_own_and_the_score_their_mean(tmp_path):
    def answer(request, number):
        return say("NO" if "effusion" in request.text or request.body["seed"] == 9 else "YES")

    with Loopback(answer) as server:
        config = asked(server, repeats=3, temperature=0.7, body={"seed": 7}, cache_dir=str(tmp_path))
        found = Panel(config)(items("lung infection", "effusion", "Pneumonia.", None))
        assert sorted(request.body["seed"] for request in server.seen) == [7, 7, 8, 8, 9, 9]
        assert {request.body["temperature"] for request in server.seen} == {0.7}
        again = Panel(config)(items("lung infection", "effusion", "Pneumonia.", None))
        assert len(server.seen) == 6  # each repeat has its place in the cache
    assert again == found
    assert found[0] == {"judge": pytest.approx(2 / 3), "judge_1": 1.0, "judge_2": 1.0, "judge_3": 0.0}
    assert [row["judge"] for row in found[1:]] == [0.0, 1.0, 0.0]  # equal to the reference, and no answer: unasked


def test_a_repeat_without_a_verdict_is_left_out_of_the_mean():
    with (
        Loopback(lambda request, number: say("YES" if request.body["seed"] else "perhaps")) as server,
        pytest.warns(UserWarning, match="unparsable"),
    ):
        found = Panel(asked(server, repeats=2))(items("lung infection"))
    assert found == [{"judge": 1.0, "judge_1": None, "judge_2": 1.0}]


def test_one_repeat_sends_no_seed():
    with Loopback(lambda request, number: say("YES")) as server:
        assert Panel(asked(server))(items("lung infection")) == [{"judge": 1.0, "judge_1": 1.0}]
        assert "seed" not in server.seen[0].body and server.seen[0].body["temperature"] == 0.0


def test_options_are_checked_when_it_is_built():
    with pytest.raises(RecipeError, match="no option 'modle'"):
        Panel(EvalJudgeConfig(modle="x"))
    with pytest.raises(RecipeError, match="temperature must be"):
        Panel(EvalJudgeConfig(model="x", base_url="http://localhost:1/v1", temperature=-1))
    with pytest.raises(RecipeError, match="repeats"):
        parse_recipe({"name": "x", "model": {"id": "m"}, "data": {"name": "d"}, "eval": {"judge": {"repeats": 0}}})


def test_the_header_says_what_verdicts_depend_on():
    config = EvalJudgeConfig(model="m", base_url="http://h/v1", repeats=2, timeout=5, api_key_env="KEY", cache_dir="c")
    told = judge_facts(config)["judge"]
    assert told == {"model": "m", "base_url": "http://h/v1", "repeats": 2, "prompt_version": told["prompt_version"]}
    assert judge_facts(None) == {}


def test_greedy_answers_to_open_questions_are_judged_and_no_others(tmp_path):
    def example(kind, references):
        return Example(
            id=f"x/test/{kind}",
            dataset="x",
            split="test",
            images=(tmp_path / "a.png",),
            question="What is seen?",
            references=references,
            kind=kind,
        )

    def answer(one, control="none", temperature=0.0):
        item = Item(references=one.references, kind=one.kind, answer="yes", question=one.question)
        return Answer(example=one, item=item, completion=None, control=control, temperature=temperature)

    opened, closed = example("open", ("pneumonia",)), example("closed", ("yes",))
    with Loopback(lambda request, number: say("NO")) as server:
        judge = {"model": "judge-1", "base_url": server.url}
        table = {"name": "x", "model": {"id": "m"}, "data": {"name": "d"}, "eval": {"judge": judge}}
        marker = Marker(parse_recipe(table))
        rows = marker([answer(opened), answer(opened, "blank"), answer(opened, temperature=1.0), answer(closed)])
        assert len(server.seen) == 1
    assert [row.get("judge", "absent") for row in rows] == [0.0, "absent", "absent", "absent"]
    assert all("clinical" in row for row in rows[:3]) and "clinical" not in rows[3]


def test_a_missing_key_ends_the_run_before_it_trains(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    judge = {"model": "m", "base_url": "http://localhost:1/v1", "api_key_env": "NO_SUCH_KEY"}
    table = {"name": "x", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}, "eval": {"judge": judge}}
    with pytest.raises(RecipeError, match="NO_SUCH_KEY is not set"):
        check_names(parse_recipe(table))
