"""`medrft curate`: mistakes in one line, and the whole command against a teacher on loopback."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from loopback import Answer, Loopback, say
from medrft.cli.main import main
from medrft.data import read_data
from toys import TABLE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path, image_file):
    """A table of eight rows, one of them for validation, with its recipe."""
    rows = []
    for number, (question, answer) in enumerate(
        [("Is there a mass?", "yes"), ("Is a cyst seen?", "yes"), ("Is this CT?", "yes"), ("Where is it?", "left")] * 2
    ):
        image_file(tmp_path / "data" / f"{number}.png", number * 20)
        rows.append({"id": number, "image": f"{number}.png", "question": question, "answer": answer, "split": "train"})
    (tmp_path / "data" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = {
        **{key: TABLE[key] for key in ("name", "model", "reward")},
        "data": {"name": "table", "root": str(tmp_path / "data" / "rows.jsonl")},
        "curate": {"tau": 3, "clusters": 2, "tries": 1},
        "eval": {"batch_size": 4, "max_new_tokens": 32},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(table))
    return tmp_path / "toy.yaml"


def run(monkeypatch, *words):
    """The exit status; 0 for a command that went well."""
    monkeypatch.setattr(sys, "argv", ["medrft", "curate", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


TEACHER = ("--endpoint", "http://127.0.0.1:9/v1", "--endpoint-model", "big")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "name who writes"),
        (("--policy", "x", *TEACHER), "name who writes"),
        (("--endpoint", "http://127.0.0.1:9/v1"), "needs --endpoint-model"),
        (("--policy", "x", "--endpoint-model", "big"), "go with --endpoint"),
        (("--endpoint", "localhost:8000", "--endpoint-model", "big"), "base_url must begin with http"),
        ((*TEACHER, "--api-key-env", "NO_SUCH_KEY_HERE"), "NO_SUCH_KEY_HERE is not set"),
        (("--policy", "tiny:llava"), "random until it is trained"),
        (("--policy", "./nowhere"), "no policy at ./nowhere"),
        (("--policy", "runs/nowhere:armed_i"), "no policy at runs/nowhere:armed_i"),
        ((*TEACHER, "--set", "correct.scorer=clincal"), "did you mean 'clinical'?"),
        ((*TEACHER, "--set", "curate.tou=3"), "did you mean 'tau'?"),
        ((*TEACHER, "--set", "curate.tau=0"), "greater than or equal to 1"),
        ((*TEACHER, "--set", "curate.long_tail=some"), "'keep' or 'drop'"),
        ((*TEACHER, "--set", "data.root=/nowhere"), "/nowhere"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(recipe, tmp_path, monkeypatch, capsys, words, expected):
    assert run(monkeypatch, recipe, *words, "--output", tmp_path / "out") == 2
    assert expected in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"stages.grpo.curate": "sft"}, "curate is for sft stages, this one is grpo"),
        ({"stages.sft.curate": "grpo"}, "curate is 'grpo', but the stages before it are ['base']"),
        ({"stages.sft.curate": "base", "prompt": "direct"}, "use prompt: think"),
    ],
)
def test_stages_that_cannot_curate(tmp_path, monkeypatch, capsys, change, expected):
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TABLE))
    sets = [word for key, value in change.items() for word in ("--set", f"{key}={value}")]
    monkeypatch.setattr(
        sys, "argv", ["medrft", "run", str(tmp_path / "toy.yaml"), "--output", str(tmp_path / "run"), *sets]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and expected in capsys.readouterr().err


def answering(request, number):
    text = request.body["messages"][-1]["content"][-1]["text"]
    answer = "left" if "Where" in text else "yes" if "mass" in text else "no"
    return say(f"<think>One looks at the picture closely, number {number}.</think><answer>{answer}</answer>")


def test_the_whole_command_with_a_teacher(recipe, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with Loopback(answering) as server:
        words = (recipe, "--endpoint", server.url, "--endpoint-model", "big", "--output", out)
        assert run(monkeypatch, *words) == 0
        said = capsys.readouterr().out
        assert "yes: 5 rows, 2 kept" in said and "answer not correct" in said
        asked = len(server.seen)
        assert run(monkeypatch, *words, "--resume", "--json") == 0
        assert len(server.seen) == asked  # finished: nothing is asked again
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == str(out) and told["thinning"]["asked"] == 4
    rows = read_data("table", out / "curated.jsonl", options={"image_root": "/"}).examples
    assert len(rows) == told["result"]["kept"] > 0 and all(row.rationale for row in rows)
    assert (out / "sheet.html").is_file()


def test_no_thought_is_told_and_the_sheet_is_there(recipe, tmp_path, monkeypatch, capsys):
    with Loopback(lambda request, number: say("yes")) as server:
        words = (recipe, "--endpoint", server.url, "--endpoint-model", "big", "--output", tmp_path / "out")
        assert run(monkeypatch, *words) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "none of 4 pairs got a thought (not in the think form: 4)" in message
    assert "not in the think form" in (tmp_path / "out" / "sheet.html").read_text()


def test_what_is_refused_leaves_the_folder_as_it_is(recipe, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with Loopback(answering) as server:
        words = (recipe, "--endpoint", server.url, "--endpoint-model", "big", "--output", out)
        assert run(monkeypatch, *words, "--set", "report.images=none") == 0
        page = (out / "sheet.html").read_text()
        assert run(monkeypatch, *words) == 2
        assert (out / "sheet.html").read_text() == page  # not made again, with images
        (out / "manifest.json").unlink()
        assert run(monkeypatch, *words) == 2
    assert "holds files but no manifest.json" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_teacher_that_refuses_blocks_nothing(recipe, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with Loopback(lambda request, number: Answer(status=400, body=b"{}")) as server:
        assert run(monkeypatch, recipe, "--endpoint", server.url, "--endpoint-model", "big", "--output", out) == 1
    assert "the teacher failed on 4 of 4 requests" in capsys.readouterr().err
    with Loopback(answering) as server:
        assert run(monkeypatch, recipe, "--endpoint", server.url, "--endpoint-model", "other", "--output", out) == 0
