import json
import re
import shutil
import subprocess

import pytest

from medrft.data import read_data
from medrft.report.data_sheet import draw_sheet, render_sheet

NASTY = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


@pytest.fixture
def loaded(tmp_path, image_file):
    rows = []
    for number in range(24):
        image_file(tmp_path / f"{number}.png", number * 10)
        row = {"image": f"{number}.png", "question": f"Question {number}?", "answer": "yes", "split": "train"}
        if number % 3 == 1:
            row |= {"options": ["CT", "MRI"], "answer": "MRI", "split": "test"}
        if number % 6 == 2:
            row |= {"answer": ["enlarged heart", "cardiomegaly"], "reasoning": "Wide heart."}
        rows.append(row)
    rows[0] |= {"question": NASTY, "answer": NASTY, "reasoning": NASTY, "ward": NASTY, "id": NASTY}
    rows.append({"image": f"{NASTY}.png", "question": "?", "answer": "no", "split": NASTY})
    (tmp_path / "toy.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return read_data("table", tmp_path / "toy.jsonl")


def test_draw_spreads_over_splits_and_kinds(loaded):
    drawn = draw_sheet(loaded.examples, limit=9, seed=0)
    counts = {}
    for example in drawn:
        counts[(example.split, example.kind)] = counts.get((example.split, example.kind), 0) + 1
    assert counts == {("train", "closed"): 3, ("train", "open"): 3, ("test", "choice"): 3}
    assert drawn == draw_sheet(loaded.examples, limit=9, seed=0)
    assert drawn != draw_sheet(loaded.examples, limit=9, seed=1)
    assert (
        len(draw_sheet(loaded.examples, limit=1000, seed=0))
        == len(loaded.examples)
        == len(set(map(id, loaded.examples)))
    )
    assert draw_sheet([], limit=3, seed=0) == []


def test_page_is_escaped_and_self_contained(loaded):
    page = render_sheet(loaded, loaded.examples, size=32)
    assert "document.title" in page  # shown, as text
    assert "<script>document" not in page
    assert "<img src=x" not in page
    assert "{{ 7 * 7 }}" in page
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert len(addresses) == len(loaded.examples) + 1
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"https?://", page)


def test_page_shows_what_was_read(loaded):
    page = render_sheet(loaded, loaded.examples, size=32)
    assert "24 of 25 rows kept" in page
    assert page.count("<article") == 24
    assert "B. MRI ✓" in page
    assert "unknown split: 1" in page
    assert re.search("<b>enlarged heart</b>.*or.*<b>cardiomegaly</b>", page)


def test_progress(loaded):
    seen = []
    render_sheet(loaded, loaded.examples[:3], size=32, on_progress=seen.append)
    assert seen == [1, 2, 3]


def test_page_opens_in_a_browser(loaded, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine; install chromium to run the browser tests")
    (tmp_path / "sheet.html").write_text(render_sheet(loaded, loaded.examples, size=32), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path}/b"]
    done = subprocess.run(
        [browser, *flags, "--dump-dom", f"file://{tmp_path}/sheet.html"], capture_output=True, text=True, timeout=120
    )
    assert 'role="status">24 of 24 shown<' in done.stdout  # the script ran
    assert "owned" not in re.search("<title>(.*?)</title>", done.stdout)[1]
    assert "CONSOLE" not in done.stderr
