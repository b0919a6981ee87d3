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
    assert "&lt;b&gt;0.png" in page and "<b>" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
