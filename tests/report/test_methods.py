"""The methods paragraph says what a run's files hold, and names what they do not hold."""

import pytest
from made_run import make_run

from medrft.errors import DataError
from medrft.report.methods import methods_paragraphs
from medrft.rundir import read_json, write_json


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "quickstart")


@pytest.mark.parametrize(
    "words",
    [
        "phantom, with 1,000 questions on 200 images for train (fingerprint 0000000000000000)",
        "Left out: 3 rows (2 empty answer and 1 missing image).",
        "203 of 203 test images are also in train",
        "a small model with random weights (tiny:llava)",
        "Stage sft: supervised fine-tuning from base, 60 optimizer steps with learning rate 0.001",
        "the checkpoint of step 300 was kept, chosen on validation by loss",
        "Stage grpo: GRPO from sft, 60 optimizer steps with 8 completions per question, temperature 1.0",
        "Seed 0 for everything that was drawn",
        "the prompt “think” (hash 0000000000000000).",  # not this version's text, so no text is claimed
        "0.32 cosine (calibrated: adaptive)",
        "Evaluated on phantom: base, sft and grpo",
        "cluster-robust over images",
        "Controls: blank.",
        "Similarity metrics use all-MiniLM-L6-v2",
        "Software: medrft ",
    ],
)
def test_it_says(run, words):
    assert words in "\n".join(methods_paragraphs(run))


def test_what_is_not_recorded_is_said_to_be_so(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "data.json").unlink()
    environment = read_json(run / "environment.json")
    write_json(run / "environment.json", {"versions": {}, "gpus": None, "seed": environment["seed"]})
    text = "\n".join(methods_paragraphs(run))
    assert "the run kept no counts" in text
    assert "medrft of an unknown version" in text and "Hardware: not recorded." in text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="not a run folder"):
        methods_paragraphs(tmp_path)
