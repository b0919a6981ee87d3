"""The rules of the tree: imports point down, light modules stay light, no upward or sideways reach."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import medrft

PACKAGE = Path(medrft.__file__).parent
LEVELS = [
    {"types", "errors", "files", "masking", "outgoing"},
    {"text", "intervals", "rundir", "store", "endpoint", "torchvision_ops", "hub"},
    {"config"},
    {"recipes"},
    {"data", "scorers"},
    {"rewards"},
    {"models"},
    {"audit", "evaluation"},
    {"training"},
    {"pipeline"},
    {"report"},
    {"view", "integrations"},
    {"cli"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
# Writing HTML is the report's alone; the pipeline ends each stage by asking for it, inside a function.
ALLOWED = {("pipeline", "report")}
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "datasets",
    "sentence_transformers",
    "peft",
    "accelerate",
    "torchvision",
    "pydicom",
    "nibabel",
}
HEAVY_PLACES = (
    *("models/", "training/", "pipeline/curation", "scorers/encoder", "scorers/nli", "torchvision_ops"),
    *("data/hub", "data/table", "data/dicom", "data/volumes"),
)
FILES = sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = unit_of(path)
    if here not in LEVEL:
        return  # __init__ and __main__
    units = {name.split(".")[1] for name in imported(path) if name.startswith("medrft.") and "." in name}
    wrong = {u for u in units if u in LEVEL and u != here and LEVEL[u] >= LEVEL[here] and (here, u) not in ALLOWED}
    same_floor = {u for u in wrong if LEVEL[u] == LEVEL[here] == 0}
    assert not wrong - same_floor


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_imports_stay_in_their_places(path):
    place = path.relative_to(PACKAGE).as_posix()
    if place.startswith(HEAVY_PLACES):
        return
    assert not {name.split(".")[0] for name in imported(path)} & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        *("medrft", "medrft.config", "medrft.rewards", "medrft.scorers", "medrft.audit", "medrft.report"),
        *("medrft.cli.main", "medrft.training.watch"),
    ],
)
def test_light_modules_stay_light(module):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(loaded.stdout.split())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_catches_everything(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"}
            reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
            assert not broad or reraises, f"line {node.lineno} swallows every error"
