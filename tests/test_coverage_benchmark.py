"""The published coverage of the intervals: the committed figures, the page that shows them, and the script itself."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "coverage.py"

spec = importlib.util.spec_from_file_location("benchmark_of_coverage", SCRIPT)  # another module is called coverage
coverage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(coverage)


@pytest.fixture(scope="module")
def published():
    return json.loads((ROOT / "benchmarks" / "results" / "coverage.json").read_text(encoding="utf-8"))


def test_required_cells_cover(published):
    sizes = {name: coverage.sizes_of(counts) for name, counts in coverage.SIZES.items()}
    must = [row for row in published["cells"] if coverage.required(row, sizes)]
    assert published["simulations"] >= 2000 and len(must) == published["required"]["cells"] == 18
    assert all(0.93 <= row["coverage"] <= 0.97 for row in must)


@pytest.mark.slow
def test_sizes_are_those_of_the_official_tests(published, shared_data):
    assert published["cluster_sizes"] == {
        name: {str(size): images for size, images in counts.items()} for name, counts in coverage.SIZES.items()
    }
    assert coverage.sizes_from(shared_data) == coverage.SIZES


def test_the_page_shows_what_was_measured(published):
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert coverage.table(published) in page


def test_the_script_runs_and_its_seed_decides():
    command = [sys.executable, str(SCRIPT), "--simulations", "4", "--json"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout for _ in range(2)
    )
    assert first == second
    assert len(json.loads(first)["cells"]) == 104
