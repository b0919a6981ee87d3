import re

import numpy as np
from PIL import Image

from medrft.data.overlap.leaks import find_leaks
from medrft.report.leak_sheet import render_leaks
from medrft.types import Example


def test_each_pair_is_shown_with_its_distance(tmp_path):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).resize((240, 240), 3) for _ in range(3)]
    for number, image in enumerate(images):
        image.save(tmp_path / f"<b>{number}.png")
        image.save(tmp_path / f"{number}.jpg", quality=40)
    names = [path.name for path in sorted(tmp_path.iterdir())]
    rows = [
        Example(
            id=f"t/{n}", dataset="t", split="test", images=(tmp_path / n,), question="?", references=("a",), kind="open"
        )
        for n in names
    ]
    found = find_leaks({"all": rows}, within=True)
    assert (found["pairs"], found["within"]["all"]["copies"]) == ({}, 3)
    page = render_leaks(found)
    assert page.count("<article>") == 3 and page.count("data:image/png;base64,") == 6
    for pair in found["within"]["all"]["neighbours"]:
        assert f"distance {1 - pair['likeness']:.3f}" in page
    assert "&lt;b&gt;0.png" in page and "<b>" not in page and f"from <code>{tmp_path}</code>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_sheet_shows_what_the_terminal_shows(tmp_path):
    """The table of counts, the sentence for each pair, and the rows that ask the same."""
    rng = np.random.default_rng(1)
    pictures = [Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).resize((240, 240), 3) for _ in range(2)]
    for number, picture in enumerate(pictures):
        for folder in ("train", "test"):
            (tmp_path / folder).mkdir(exist_ok=True)
            picture.save(tmp_path / folder / f"{number}.png")
    pictures[1].save(tmp_path / "test" / "1.jpg", quality=40)

    def row(split, name, question):
        place = {"dataset": "t", "split": split, "images": (tmp_path / split / name,), "kind": "open"}
        return Example(id=f"t/{split}/{name}", question=question, references=("a",), **place)

    sets = {
        "t:train": [row("train", "0.png", "Where is it?"), row("train", "1.png", "What is shown?")],
        "t:test": [row("test", "0.png", "Where is <b>it</b>?"), row("test", "1.jpg", "What is shown?")],
    }
    found = find_leaks(sets)
    leak = found["pairs"]["t:train|t:test"]
    assert (leak["shared_images"], leak["copies"], leak["shared_items"]) == (1, 1, 1)
    page = render_leaks(found)
    cells = re.findall(r"<td[^>]*>([\d,]+)</td>", page)
    assert cells == ["2", "1", "1", "0", "2", "1", "1"]
    assert "1 of 1 pair of sets share pictures" in page and "t/train/1.png" in page and "t/test/1.jpg" in page
    assert "same question and answer" in page and "train/1.png<br>test/1.jpg" in page
    apart = render_leaks(find_leaks({"t:train": sets["t:train"][:1], "t:test": sets["t:test"][1:]}))
    assert "No picture of one set is in another" in apart
