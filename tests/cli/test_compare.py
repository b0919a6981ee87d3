from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_run import HOSTILE, make_run
from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.errors import DataError
from medrft.rundir import read_jsonl, write_jsonl

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / HOSTILE[:8].replace("<", "x"), dataset="vqa_rad")


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "compare.html"
    call(f"{run}:base", f"{run}:sft", f"{run}:grpo", "--output", path)
    return path


def call(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)], catch_exceptions=False, env={"COLUMNS": "120"})


def test_the_table(run):
    told = call(f"{run}:base", f"{run}:grpo").stdout
    assert re.search(
        r"closed accuracy +48 +24 +8\.3 +79\.2 +\+70\.8 +\+\d\d\.\d to \+\d\d\.\d +0\.000\d +0\.000\d", told
    )
    assert "Holm over all 4 tests of this call" in told and "won: Is the heart enlarged?" in told
    assert "conditional on these trainings" in told


def test_stage_of_all_runs(run):
    found = json.loads(call(run, run, "--stage", "sft", "--json").stdout)
    assert [side["runs"][0]["stage"] for side in found["sides"]] == ["sft", "sft"]
    assert len({side["name"] for side in found["sides"]}) == 2
    assert {test["p"] for test in found["tests"]} == {1.0}


def test_json_is_all_of_it(run):
    found = json.loads(call(f"{run}:base", f"{run}:grpo", "--json").stdout)
    counts, examples = found["against"][0]["changes"].values()
    listed = sum(n for kind in counts["vqa_rad"].values() for name, n in kind.items() if " to " in name)
    assert len(examples) == listed > 50
    assert {"question", "references", "a", "b", "images", "clash_a", "clash_b"} <= set(examples[0])


def test_a_mistake_is_one_line(run, tmp_path):
    with pytest.raises(DataError, match="needs two runs or more"):
        call(run)
    with pytest.raises(DataError, match="nothing at"):
        call(run, tmp_path / "absent")


def test_answers_to_other_questions_cannot_be_compared(run, tmp_path):
    header, *rows = read_jsonl(run / "eval/grpo/vqa_rad/predictions.jsonl")
    others = [{**row, "id": f"{row['id']}b", "question": f"{row['question']} And why?"} for row in rows]
    write_jsonl(tmp_path / "other.jsonl", [header, *others])
    with pytest.raises(DataError, match="shares no example with"):
        call(run, tmp_path / "other.jsonl")


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.handlers, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_the_page_stands_alone_and_escapes(page):
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(elements.tags) and not elements.handlers
    assert all(address.startswith(("#", "data:")) for address in elements.addresses)
    assert HOSTILE not in text and "&lt;script&gt;alert(" in text
    assert "<img" in text and "shows patient images" in text  # the run keeps thumbnails


def test_the_page_says_what_was_found(page):
    text = page.read_text(encoding="utf-8")
    assert "sft, grpo against base" in text and "Holm over all 8 tests" in text and "wrong to right: 34" in text


def test_the_page_opens_with_a_sentence_for_each_side(page):
    text = page.read_text(encoding="utf-8")
    claims = re.findall(r'<p class="claim"><strong>([^<]+)</strong>', text)
    assert len(claims) == 2 and all(
        re.match(r"(sft|grpo) is better than base in \d of 4 figures", one) for one in claims
    )
    assert text.index(claims[1]) < text.index("<table")
    assert "None" not in re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("tests", "css", "said"),
    [
        (
            [("better", 0.1, 0.3), ("unclear", -0.1, 0.3)],
            "better",
            "b is better than a in 1 of 2 figures, and worse in none",
        ),
        ([("worse", -0.3, -0.1)], "worse", "b is worse than a in 1 of 1 figure, and better in none"),
        (
            [("better", 0.1, 0.3), ("worse", -0.3, -0.1)],
            "unclear",
            "b is better than a in 1 of 2 figures and worse in 1",
        ),
        ([("better", -0.1, 0.3)], "unclear", "No clear difference between b and a in the one figure"),
        ([("unclear", None, None)] * 3, "unclear", "No clear difference between b and a in any of 3 figures"),
        ([], "unclear", "b and a share no question"),
    ],
)
def test_the_sentence(tests, css, said):
    from medrft.report.compare import comparison_verdict

    found = comparison_verdict("a", "b", [dict(zip(("css", "low", "high"), test, strict=True)) for test in tests])
    assert (found["css"], found["claim"]) == (css, said)


def test_the_sentence_rests_on_a_figure_with_an_interval_where_there_is_one():
    from medrft.report.compare import comparison_verdict

    tests = [{"css": "unclear", "low": low, "high": low and 0.2} for low in (None, -0.1)]
    assert comparison_verdict("a", "b", tests)["figures"] == tests[1:]
    assert comparison_verdict("a", "b", tests[:1])["figures"] == tests[:1]


def test_names_that_are_no_hash_are_no_path(run, tmp_path):
    from medrft.report.compare import _pictures

    assert _pictures(["../recipe.yaml", "." * 64, "a" * 64, "xmlab1/source.jpg"], [Path(run) / "images"]) == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install chromium to run browser tests")
@pytest.mark.parametrize("width", [360, 1300])
def test_the_page_never_scrolls_sideways(page, tmp_path, width):
    opened = tmp_path / "open.html"
    opened.write_text(
        page.read_text(encoding="utf-8").replace('class="card group"', 'class="card group" open'), encoding="utf-8"
    )
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"""<iframe src="{opened.as_uri()}" style="width:{width}px;height:800px;border:0"
        onload="document.title = 'width ' + this.contentDocument.documentElement.scrollWidth"></iframe>""",
        encoding="utf-8",
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--allow-file-access-from-files", "--window-size=1400,900", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(re.search(r"width (\d+)", done.stdout)[1]) <= width
