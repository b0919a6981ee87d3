"""An evaluation that is killed goes on where it was: the same bytes, and nothing asked or scored twice."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from loopback import Loopback, say

SCRIPT = """
import sys
from pathlib import Path

from PIL import Image

from medrft.recipes import parse_recipe
from medrft.endpoint import Endpoint
from medrft.evaluation import runner
from medrft.evaluation.engines import Remote
from medrft.rundir import RunDir
from medrft.types import Example

url, folder = sys.argv[1], Path(sys.argv[2])
runner.KEPT = 1
picture = folder.parent / "picture.png"
if not picture.is_file():
    Image.new("L", (8, 8), 90).save(picture)
examples = [
    Example(
        id=f"toy/test/{i}", dataset="toy", split="test", images=(picture,), question=f"Is it large, question {i}?",
        references=("yes", "no")[i % 2 :][:1], kind="closed",
    )
    for i in range(12)
]
recipe = parse_recipe(
    {
        "name": "toy", "prompt": "short", "model": {"id": "unused"}, "data": {"name": "table"},
        "report": {"images": "none"}, "eval": {"max_new_tokens": 7, "controls": ["blank"]},
    }
)
runner.evaluate(
    Remote(Endpoint(model="tested", base_url=url, concurrency=1), chunk=1),
    recipe, stage="tested", examples_by_dataset={"toy": examples}, train=examples, run=RunDir(folder),
)
"""


def start(server, folder):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, server.url, str(folder)])


def answer(request, number):
    return say("yes" if "question 1" in request.body["messages"][-1]["content"][1]["text"] else "no")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill here")
@pytest.mark.parametrize("at", [5, 17])
def test_a_killed_evaluation_goes_on(tmp_path, at):
    """Killed while its request number `at` is open: in the first pass, and in the second."""
    running = []

    def deadly(request, number):
        if number == at and len(running) == 1:
            os.kill(running[0].pid, signal.SIGKILL)
        return answer(request, number)

    folder = tmp_path / "killed" / "run"
    folder.parent.mkdir()
    with Loopback(deadly) as server:
        running.append(start(server, folder))
        assert running[0].wait() == -signal.SIGKILL
        partial = folder / "eval" / "tested" / "toy" / "predictions.partial.jsonl"
        assert len(partial.read_text().splitlines()) == 1 + at
        running.append(start(server, folder))
        assert running[1].wait() == 0
        assert not partial.exists()
        asked = Counter(repr(request.body["messages"]) for request in server.seen)
        assert sorted(asked.values()) == [1] * 23 + [2]  # the open request alone
        server.answer = answer
        whole = tmp_path / "killed" / "whole"
        assert start(server, whole).wait() == 0
    for name in ("predictions.jsonl", "metrics.json"):
        files = [run / "eval" / "tested" / "toy" / name for run in (folder, whole)]
        assert files[0].read_bytes() == files[1].read_bytes()
