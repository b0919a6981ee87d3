"""Published counts beside what was read, and the named groups of sets."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from medrft.cli.data import app
from medrft.data.counts import Form, compare_counts
from medrft.data.images import MISSING
from medrft.data.sets import slake, vqa_rad
from medrft.types import LeftOut

FORM = Form(name="the release", rows={"train": 100}, images="unpack the second archive")
HUB = Form(name="the hub copy", rows={"train": 90})


@pytest.mark.parametrize(
    ("read", "missing", "cause"),
    [
        (100, 0, ""),
        (100, 3, "3 of its rows lack their image: unpack the second archive"),
        (90, 0, "that is the count of the hub copy"),
        (0, 0, "its file or folder is not there"),
        (60, 0, "40 rows are not there: a partial download"),
        (190, 0, "90 rows too many: another version"),
    ],
)
def test_a_wrong_count_has_a_cause(read, missing, cause):
    left = [LeftOut(row=str(n), split="train", reason=MISSING) for n in range(missing)]
    (count,) = compare_counts((FORM, HUB), read={"train": read}, kept={"train": read - missing}, left_out=left)
    assert count.cause.startswith(cause)
    assert bool(count.cause) == bool(cause)
    assert (count.expected, count.read, count.kept) == (100, read, read - missing)


def test_check_says_a_wrong_count(vqa_rad_root):
    text = CliRunner().invoke(app, ["check", "vqa_rad", str(vqa_rad_root)]).stdout
    flat = " ".join(text.split())
    assert "train: 8 rows read, 6 kept, the official release has 1,797; 1,789 rows are not there" in flat
    done = CliRunner().invoke(app, ["check", "vqa_rad", str(vqa_rad_root), "--json"])
    first = json.loads(done.stdout)["counts"][0]
    assert (first["split"], first["expected"], first["read"], first["kept"]) == ("train", 1797, 8, 6)
    assert "partial download" in first["cause"]


def test_check_says_that_counts_are_right(vqa_rad_root, monkeypatch):
    monkeypatch.setattr(vqa_rad, "OFFICIAL_COUNTS", replace(vqa_rad.OFFICIAL_COUNTS, rows={"test": 2}))
    text = CliRunner().invoke(app, ["check", "vqa_rad", str(vqa_rad_root)]).stdout
    assert "Row counts are those of the official release." in text


def test_real_counts_are_right(shared_data):
    for load, root, options in (
        (vqa_rad.load_vqa_rad, "vqa_rad", {}),
        (vqa_rad.load_vqa_rad, "vqa_rad", {"form": "community"}),
        (slake.load_slake, "slake", {"lang": "all"}),
    ):
        counts = load(shared_data / root, **options).counts
        assert counts
        assert not [count for count in counts if count.cause]
