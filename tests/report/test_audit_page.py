from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from medrft.audit import Settings, audit_rewards
from medrft.audit.sources import Material, default_material
from medrft.audit.subject import Own
from medrft.errors import DataError
from medrft.report.audit import audit_page, comparison_rows, run_fragment, write_audit_page
from medrft.rewards import build_reward
from medrft.rundir import read_json
from medrft.types import Example

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUICK = Settings(groups=24, hack_examples=6)


@pytest.fixture(scope="module")
def summary():
    spec = {
        "parts": [{"scorer": "rouge1", "weight": 0.5, "calibrate": "quantile"}, {"scorer": "recall", "weight": 0.5}]
    }
    subjects = [Own(name="text", reward=build_reward("text")), Own(name="bent", reward=build_reward(spec))]
    return audit_rewards(subjects, default_material(seed=0, limit=40), QUICK, out=None)


def test_the_page_is_self_contained_and_shows_all_sections(summary):
    page = audit_page(summary)
    for heading in ("Side by side", "tell right from wrong", "something to learn", "be tricked", "sound code"):
        assert heading in page
    assert "<script" not in page and not re.search(r'(?:src|href)="https?:', page)
    assert page.count('class="strips"') >= 3  # text: one; bent: the whole reward and rouge1, before and after


def test_what_a_data_set_says_is_escaped():
    nasty = "<script>alert(1)</script> left lung"
    examples = [
        Example(
            id=f"toy/test/{i}",
            dataset="toy",
            split="test",
            images=(),
            question=nasty,
            references=(f"{nasty} {i}",),
            kind="open",
        )
        for i in range(12)
    ]
    material = Material(names=[nasty], examples=examples, frequent=nasty, notes=[nasty])
    made = audit_rewards([Own(name=nasty, reward=build_reward("text"))], material, QUICK, out=None)
    page = audit_page(made)
    assert "<script" not in page and "&lt;script&gt;" in page


def test_comparison_has_one_cell_per_reward(summary):
    rows = dict(comparison_rows(summary))
    assert all(len(cells) == 2 for cells in rows.values())
    assert "[" in rows["right above wrong (AUROC)"][0]


def test_a_run_shows_its_audit(summary, tmp_path):
    from medrft.audit.perform import write_audit

    assert run_fragment({}) is None
    write_audit(summary, tmp_path / "audit")
    found = run_fragment(read_json(tmp_path / "audit" / "summary.json"))
    assert found is not None and found["name"] == "text" and found["rows"]
    assert write_audit_page(tmp_path / "audit").is_file()


def test_a_folder_without_an_audit(tmp_path):
    with pytest.raises(DataError, match=r"no summary\.json"):
        write_audit_page(tmp_path)


def test_a_reward_that_gave_no_score_has_a_page_too(summary):
    row = {
        **summary["rewards"]["text"],
        "auroc": None,
        "collapse": None,
        "hacks": None,
        "soundness": None,
        "strips": {},
    }
    page = audit_page({**summary, "rewards": {"mute": row}})
    assert "gave no score that could be examined" in page


def width_of(page, profile, width):
    """How wide the page is when it is shown that wide, by Chromium."""
    frame = profile / "frame.html"
    frame.write_text(
        f"""<iframe src="{page.as_uri()}" style="width:{width}px;height:800px;border:0"
        onload="document.title = 'width ' + this.contentDocument.documentElement.scrollWidth"></iframe>""",
        encoding="utf-8",
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"]
    command += [f"--user-data-dir={profile / 'profile'}", "--allow-file-access-from-files", "--window-size=1400,900"]
    done = subprocess.run([*command, frame.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return int(re.search(r"width (\d+)", done.stdout)[1])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install chromium to run browser tests")
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_never_scrolls_sideways(summary, tmp_path, width):
    from medrft.audit.perform import write_audit

    write_audit(summary, tmp_path / "audit")
    assert width_of(write_audit_page(tmp_path / "audit"), tmp_path, width) <= width
