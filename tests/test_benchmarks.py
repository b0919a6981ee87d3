"""Scripts beside the package use only what the package has."""

from __future__ import annotations

import ast
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_name_that_a_script_imports_is_there(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medrft"):
            module = import_module(str(node.module))
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or find_spec(f"{node.module}.{name}"), f"{node.module} has no {name}"


def test_the_page_has_the_refilled_rollouts_of_the_result_file(monkeypatch):
    """docs/performance.md, as `python benchmarks/rollouts.py page` writes it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = import_module("rollouts")
    known = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    assert list(known) == list(script.CASES)
    assert script.page(known) == script.PAGE.read_text(encoding="utf-8")
    assert all(found["idle"]["refill"] <= found["idle"]["waves"] for found in known.values())


def test_the_page_has_the_updates_of_the_result_file(monkeypatch):
    """docs/performance.md, as `python benchmarks/grpo_update.py --page` writes it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = import_module("grpo_update")
    known = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    assert list(known) == list(script.CASES)
    assert script.page(known) == script.PAGE.read_text(encoding="utf-8")
    for name, found in known.items():
        assert all(found[key] <= limit for key, limit in script.limits_of(name).items()), name
        assert found["ratio"] > 0.95, name


def test_the_page_has_the_steps_of_the_result_file(monkeypatch):
    """docs/performance.md, as `python benchmarks/grpo_step.py --page` writes it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = import_module("grpo_step")
    known = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    assert list(known) == list(script.CASES)
    assert script.page(known) == script.PAGE.read_text(encoding="utf-8")
    for name, found in known.items():
        assert found["step"]["ratio"] >= script.LIMITS[name], name
        assert max(found["max_logp_diff"], found["max_grad_rel_diff"]) < 1e-4, name
        case = script.CASES[name]
        tokens = (case.prompt + case.group * case.new) / (case.group * (case.prompt + case.new))
        assert found["memory"]["ours"] / found["memory"]["trl"] <= 1.2 * tokens, name
