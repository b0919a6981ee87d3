from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_run import HOSTILE, make_run, recipe

from medrft.report import render_report
from medrft.rundir import RunDir

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install chromium to run browser tests")


class Elements(HTMLParser):
    """Tags, attributes that act, and addresses of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]


def browse(page: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's DOM in headless Chromium, and what its console said."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--enable-logging=stderr", f"--user-data-dir={profile}", *flags, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def page(phantom_run):
    return render_report(phantom_run)


def test_the_page_stands_alone(page):
    elements = Elements(page.read_text(encoding="utf-8"))
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(elements.tags)
    assert not elements.handlers
    assert all(address.startswith(("#", "data:")) for address in elements.addresses)
    assert page.stat().st_size < 1_000_000


def test_model_output_is_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(" in text  # it is shown, as text
    assert "onerror" not in "".join(Elements(text).handlers)


@pytest.mark.parametrize(
    "said",
    [
        "grpo</strong> is better than sft",
        "Spread within groups",
        "KL to the start model",
        "test images are also in train",  # leakage stands where the data do
        "all-MiniLM-L6-v2",
        "most frequent answer per exact question",
        "grpo on blank images",
        "not a medical device",
        "highest reward",
        "lowest reward",
        "step 300 (validation loss 0.44)",
        "1 of 2 checks passed before training",
        "prompts not shared for 2,336 of 2,400 completions in the loss: log-probabilities differ by 0.3",
        "attention under a dense mask for 64 completions in the loss: attention with softcap",
    ],
)
def test_the_page_says(page, said):
    assert said in page.read_text(encoding="utf-8")


def test_same_files_same_page(phantom_run, page):
    before = page.read_bytes()
    assert render_report(phantom_run).read_bytes() == before


def test_a_run_that_only_began_has_a_page(tmp_path):
    run = RunDir.create(tmp_path / "run")
    run.write_recipe(recipe().model_dump(mode="json"))
    text = render_report(run.path).read_text(encoding="utf-8")
    assert "Nothing was evaluated in this run yet" in text
    run.append_metrics("sft", {"split": "train", "step": 1, "loss": None, "grad_norm": 2.0})
    assert "Gradient norm" in render_report(run.path).read_text(encoding="utf-8")


def test_a_start_model_alone_has_nothing_to_compare(tmp_path):
    run = make_run(tmp_path / "run", steps=6)
    for stage in ("sft", "grpo"):
        shutil.rmtree(run / "eval" / stage)
    assert "nothing to compare" in render_report(run).read_text(encoding="utf-8")


def test_no_thumbnails_no_pictures(tmp_path):
    run = make_run(tmp_path / "run", steps=6)
    shutil.rmtree(run / "images")
    text = render_report(run).read_text(encoding="utf-8")
    assert "<img" not in text and "may show patient images" not in text


@NEEDS_CHROMIUM
def test_a_browser_has_nothing_to_complain_of(page, tmp_path):
    dom, console = browse(page, tmp_path)
    assert console == []
    assert "Did it get better?" in dom


@NEEDS_CHROMIUM
def test_the_browser_test_would_notice(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.error('boo')</script>", encoding="utf-8")
    assert browse(bad, tmp_path / "profile")[1]


@NEEDS_CHROMIUM
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_never_scrolls_sideways(page, tmp_path, width):
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"""<iframe src="{page.as_uri()}" style="width:{width}px;height:800px;border:0"
        onload="document.title = 'width ' + this.contentDocument.documentElement.scrollWidth"></iframe>""",
        encoding="utf-8",
    )
    dom, _ = browse(frame, tmp_path / "profile", "--allow-file-access-from-files", "--window-size=1400,900")
    assert int(re.search(r"width (\d+)", dom)[1]) <= width
