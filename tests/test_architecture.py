"""The rules of the tree: imports point down, light modules stay light, no upward or sideways reach."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import medrft

PACKAGE = Path(medrft.__file__).parent
LEVELS = [
    {"types", "errors", "files", "masking", "outgoing", "user_code"},
    {"text", "intervals", "progress", "torchvision_ops", "hub", "shipped", "listening"},
    {"rundir", "store", "endpoint"},
    {"reward_config"},
    {"config"},
    {"recipes"},
    {"data"},
    {"scorers"},
    {"rewards", "models"},
    {"audit", "evaluation", "training"},
    {"curation", "studies"},
    {"report"},
    {"pipeline"},
    {"integrations", "view"},
    {"cli"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
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
    *("models/", "training/", "curation/", "scorers/encoder", "scorers/nli", "torchvision_ops"),
    *("data/hub", "data/tables/table", "data/deep/"),
    *("integrations/openrlhf", "integrations/trl_state"),  # inside functions, where the trainer has them
)
FILES = sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def module_of(path: Path) -> str:
    """`medrft.data.base` for `medrft/data/base.py`, `medrft.data` for `medrft/data/__init__.py`."""
    return ".".join(("medrft", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}
NAMED = re.compile(r"(medrft(?:\.\w+)+):\w+")


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports anywhere in it, or names in a registry as `medrft.module:Class`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {match[1] for match in NAMED.finditer(node.value)}
    return found


def files_imported(path: Path) -> set[str]:
    """The modules of medrft that a file imports from; a package counts only where something of its own is taken."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
                for alias in node.names
            }
    return {name for name in found | (imported(path) & set(MODULES) & _registered(path)) if name in MODULES}


def _registered(path: Path) -> set[str]:
    return {match[1] for match in NAMED.finditer(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = unit_of(path)
    if here not in LEVEL:
        return  # __init__ and __main__
    units = {name.split(".")[1] for name in imported(path) if name.startswith("medrft.")}
    wrong = {u for u in units if u in LEVEL and u != here and LEVEL[u] >= LEVEL[here]}
    same_floor = {u for u in wrong if LEVEL[u] == LEVEL[here] == 0}
    assert not wrong - same_floor


def test_every_part_has_a_layer():
    assert {unit_of(path) for path in FILES} - {"__init__", "__main__"} <= set(LEVEL)


def test_no_circle_of_files():
    try:
        tuple(TopologicalSorter({name: files_imported(path) for name, path in MODULES.items()}).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


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
        *("medrft.cli.main", "medrft.training.monitor.watch", "medrft.integrations"),
        *(f"medrft.integrations.{name}" for name in ("trl", "verl", "swift", "openrlhf", "easyr1", "verifiers")),
        *("medrft.integrations.client", "medrft.integrations.serve.server"),
    ],
)
def test_light_modules_stay_light(module):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(loaded.stdout.split())


def test_the_planner_loads_first_of_all():
    """Beside a CPU-only torch PyPI's torchvision, and TRL with it, can be imported only after we have prepared it."""
    code = "import medrft.training.planning.plan"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


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
