"""The families' table of docs/models.md: its rows, run again, and the page beside its result file."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from medrft.rundir import read_json

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "families.py"
IN_CI = ("qwen2_5_vl", "qwen3_vl", "internvl", "gemma3_it")
SHARING = (*IN_CI, "qwen2_vl", "qwen3_vl_thinking", "internvl_one_tile", "gemma4", "smolvlm", "idefics3", "llava_next")
"""Families of which every cell must be good."""


def load_script():
    spec = importlib.util.spec_from_file_location("families_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = load_script()
ROWS = read_json(script.RESULTS)["rows"]
MARKED = [family if family in IN_CI else pytest.param(family, marks=pytest.mark.slow) for family in script.FAMILIES]


def states(row):
    return {name: cell["state"] for name, cell in row.items()}


# Families that cannot share say so, and their row of the table does.
@pytest.mark.filterwarnings("ignore:.*prompts are read whole:UserWarning")
@pytest.mark.parametrize("family", MARKED)
def test_a_row_of_the_table_is_earned_again(family, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    row = script.measured(family, tmp_path / "row")
    shutil.rmtree(tmp_path / "row")  # models of some megabytes
    assert states(row) == states(ROWS[family])
    for name, cell in row.items():
        assert max(cell.get("log_probs", 0), cell.get("gradient", 0)) <= 1e-4, name


def test_the_table_holds_every_family_and_no_traceback():
    assert list(ROWS) == list(script.FAMILIES)
    for family, row in ROWS.items():
        assert list(row) == list(script.COLUMNS)
        assert not {"traceback", "no"} & set(states(row).values()), family
    assert set(states(ROWS["paligemma"]).values()) == {"refused", "not run"}


@pytest.mark.parametrize("family", SHARING)
def test_nothing_falls_back_or_is_refused(family):
    assert set(states(ROWS[family]).values()) == {"yes"}
    assert ROWS[family]["reloads"]["different"] > 4  # of 8 answers: a model that always says the same proves nothing


def test_the_page_says_what_the_result_file_says():
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.BLOCK.search(page)
    assert script.page(ROWS) == page, "run python benchmarks/families.py --check, then without --check"
