"""A server as the model under test: real HTTP, pictures inside the request, failures that are no zeros."""

import base64
import io

import pytest
from PIL import Image

from loopback import Answer, Loopback, say
from medrft.config import ModelConfig
from medrft.endpoint import Endpoint
from medrft.errors import EndpointError, ModelError
from medrft.evaluation.engines import Remote
from medrft.evaluation.runner import evaluate
from medrft.models.offline import load_offline
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_jsonl
from medrft.types import Example

SHADES = (60, 120)


@pytest.fixture
def examples(tmp_path):
    paths = []
    for shade in SHADES:
        paths.append(tmp_path / f"{shade}.png")
        Image.new("L", (20, 10), shade).save(paths[-1])
    return [
        Example(
            id=f"toy/test/{i}",
            dataset="toy",
            split="test",
            images=(paths[i % 2],),
            question=f"Is it large, question {i}?",
            references=("yes",),
            kind="closed",
        )
        for i in range(6)
    ]


def recipe(**evaluation):
    return parse_recipe(
        {
            "name": "toy",
            "prompt": "short",
            "model": {"id": "unused"},
            "data": {"name": "table"},
            "report": {"images": "none"},
            "eval": {"max_new_tokens": 7, "controls": [], **evaluation},
        }
    )


def run(server, examples, path, **evaluation):
    endpoint = Endpoint(model="tested", base_url=server.url, retries=0, concurrency=2)
    where = RunDir(path)
    found = evaluate(
        Remote(endpoint),
        recipe(**evaluation),
        stage="tested",
        examples_by_dataset={"toy": examples},
        train=examples,
        run=where,
    )
    header, *rows = read_jsonl(where.evaluation("tested", "toy") / "predictions.jsonl")
    return header, rows, found["toy"]["results"]


def blocks(request):
    return request.body["messages"][-1]["content"]


def shade_of(request):
    url = blocks(request)[0]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L").getpixel((0, 0))


def test_a_server_is_asked_and_its_replies_are_recorded(examples, tmp_path):
    with Loopback(lambda request, number: say("yes", finish="length", usage=(30, 7))) as server:
        header, rows, _ = run(server, examples, tmp_path / "run")
    assert header["engine"] == "endpoint" and header["model"] == "tested"
    own = [row for row in rows if row["control"] == "none"]
    assert [(row["prediction"], row["truncated"], row["n_tokens"]) for row in own] == [("yes", True, 7)] * 6
    assert all(row["scores"]["yes_no_match"] == 1.0 for row in own)
    asked = sorted((blocks(request)[1]["text"].splitlines()[-1], shade_of(request)) for request in server.seen)
    assert asked == [(example.question, SHADES[i % 2]) for i, example in enumerate(examples)]
    assert {request.body["max_tokens"] for request in server.seen} == {7}


def test_a_server_that_counts_no_tokens(examples, tmp_path):
    with Loopback(lambda request, number: say("yes", usage=None)) as server:
        _, rows, results = run(server, examples, tmp_path / "run")
    assert rows[0]["n_tokens"] is None and rows[0]["truncated"] is False
    assert results["none"]["closed"]["accuracy"]["mean"] == 1.0


def test_controls_reach_a_server_too(examples, tmp_path):
    with Loopback(lambda request, number: say("yes")) as server:
        run(server, examples, tmp_path / "run", controls=["blank", "shuffled"])
    seen = [shade_of(request) for request in server.seen]
    assert len(set(seen) - set(SHADES)) == 1  # blank: one grey
    wrong = [
        shade_of(request) != SHADES[int(blocks(request)[1]["text"][-2]) % 2]
        for request in server.seen
        if shade_of(request) in SHADES
    ]
    assert sum(wrong) == 6 and len(wrong) == 12


def test_a_failed_request_is_unscored_and_asked_again(examples, tmp_path):
    def broken(request, number):
        return Answer(status=400, body=b"too large") if "question 3" in blocks(request)[1]["text"] else say("yes")

    with Loopback(broken) as server, pytest.warns(UserWarning, match="1 of 6 requests failed"):
        _, rows, results = run(server, examples, tmp_path / "run")
    failed = [row for row in rows if "error" in row]
    assert [row["id"] for row in failed] == ["toy/test/3"] and "400" in failed[0]["error"]
    assert failed[0]["scores"] == {"yes_no_match": None, "correct": None} and failed[0]["answer"] is None
    accuracy = results["none"]["closed"]["accuracy"]
    assert (accuracy["mean"], accuracy["n"], accuracy["unscored"]) == (1.0, 5, 1)
    server = Loopback(lambda request, number: say("no"))
    with server:
        header, *_ = read_jsonl(tmp_path / "run" / "eval" / "tested" / "toy" / "predictions.jsonl")
        move(tmp_path / "run" / "eval" / "tested" / "toy" / "predictions.jsonl", header["base_url"], server.url)
        _, rows, _ = run(server, examples, tmp_path / "run")
    assert len(server.seen) == 1
    assert [row["prediction"] for row in rows if row["control"] == "none"] == ["yes"] * 3 + ["no"] + ["yes"] * 2


def move(path, url, other):
    """The same predictions, of a server at another port."""
    path.write_text(path.read_text().replace(url, other))


def test_a_server_that_answers_nothing_is_an_error(examples, tmp_path):
    refused = pytest.raises(EndpointError, match="tested answered none of 6 requests: HTTP 401")
    with Loopback(lambda request, number: Answer(status=401, body=b"no key")) as server, refused:
        run(server, examples, tmp_path / "run")


def test_samples_are_drawn_apart(examples, tmp_path):
    with Loopback(lambda request, number: say(f"yes {request.body.get('seed')}")) as server:
        _, rows, _ = run(server, examples[:2], tmp_path / "run", sampled={"temperature": 0.7, "samples": 3})
    drawn = [row["prediction"] for row in rows if row["temperature"] == 0.7]
    assert drawn == ["yes 0", "yes 1", "yes 2"] * 2
    assert [r.body["temperature"] for r in server.seen if "seed" not in r.body] == [0.0, 0.0]


def test_vllm_that_is_not_installed_is_one_line():
    pytest.importorskip("transformers")
    try:
        import vllm  # noqa: F401
    except ImportError:
        with pytest.raises(ModelError, match=r"eval\.engine is vllm, which is not installed"):
            load_offline(ModelConfig(id="any"), "any", images=1, seed=0)
