"""What README, docs, recipes and examples name is there: modules, files, functions, pages and headings."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import typer

import medrft
from medrft import config
from medrft.cli.main import app
from medrft.config import ControlName
from medrft.data import LOADERS
from medrft.evaluation.metrics import METRICS
from medrft.rewards.calibrations import CALIBRATIONS
from medrft.rewards.presets import PRESETS
from medrft.scorers import SCORERS
from test_architecture import LEVELS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(medrft.__file__).parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")] + sorted(
    path for path in (ROOT / "docs").rglob("*.md") if "generated" not in path.parts
)
TEXTS = PAGES + [
    path
    for folder in ("recipes", "examples", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".yaml", ".sh"}
]
MOVED = ROOT / "docs" / "moved.md"
FOLDERS = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
OUTSIDE = {"f", "compute_score", "reward_func", "from_pretrained"}
"""Calls in the pages that are another package's, or stand for a function of the reader's."""


def text_of(path: Path) -> str:
    """A text as the tests read it: of docs/moved.md without the old names, which are gone on purpose."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^\| `[^`]+` \|", "|", re.sub(r"`\w+` →", "", text), flags=re.MULTILINE) if path == MOVED else text


@cache
def names_in(path: Path) -> set[str]:
    """What a module defines or imports at its top, and what its classes define, as `Class.name`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        found |= _named(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in _named(inner)}
        elif isinstance(node, ast.If | ast.Try):
            found |= {name for inner in node.body for name in _named(inner)}
    return found


def _named(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Assign():
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name for alias in node.names}
    return set()


def found_in_package(dotted: str) -> bool:
    """Whether `medrft.a.b.Name` or `medrft.a.b.Class.method` is there."""
    place, rest = PACKAGE, dotted.split(".")[1:]
    while rest and (place / rest[0] / "__init__.py").is_file():
        place /= rest.pop(0)
    if rest and (place / f"{rest[0]}.py").is_file():
        place = place / f"{rest.pop(0)}.py"
    else:
        place /= "__init__.py"
    return not rest or ".".join(rest) in names_in(place)


def found_as_file(name: str) -> bool:
    """Whether a path is there, from the root of the repository or from the package's folder."""
    return any((place / name).exists() for place in (ROOT, PACKAGE))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_named_are_there(path):
    named = {name.rstrip(".") for name in re.findall(r"(?<![\w./-])medrft(?:\.\w+)+", text_of(path))}
    assert not {name for name in named if not found_in_package(name)}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_named_are_there(path):
    heads = "|".join(sorted({"src", "tests", "docs", "recipes", "examples", "benchmarks"} | FOLDERS))
    named = set(re.findall(rf"(?<![\w./:<>-])(?:{heads})/(?:[\w.-]+/)*(?:[\w-]+\.(?:py|md|sh|jinja))?", text_of(path)))
    named |= set(re.findall(r"(?<![\w./-])recipes/[\w./-]+\.yaml", text_of(path)))
    assert not {name for name in named if "NAME" not in name and not found_as_file(name)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_calls_named_are_there(path):
    defined = {name for module in sorted(PACKAGE.rglob("*.py")) for name in names_in(module)}
    defined |= {name for script in sorted((ROOT / "examples").glob("*.py")) for name in names_in(script)}
    short = {name.split(".")[-1] for name in defined}
    called = set(re.findall(r"`(?:\w+\.)*(\w+)\([^`]*\)`", text_of(path)))
    assert not {name for name in called - short - OUTSIDE if not name.startswith("__")}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_of_the_pages_imports_what_is_there(path):
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(code_of(block))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medrft"):
                assert not {
                    f"{node.module}.{n.name}" for n in node.names if not found_in_package(f"{node.module}.{n.name}")
                }


def code_of(block: str) -> str:
    """The code of a block, without its output where it is a session of the interpreter."""
    typed = re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", block, re.MULTILINE)
    return "\n".join(typed) if typed else block


def anchors_of(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        assert page.exists(), target
        assert not anchor or anchor in anchors_of(page), target


def test_contributing_draws_the_layers_that_are_held():
    assert structure().drawn_layers(ROOT) == LEVELS


def test_each_guide_says_which_files_it_touches():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## How to add …")[1].split("\n## ")[0]
    titles = re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE)
    assert len(titles) == 9 and list(structure().files_touched(ROOT)) == titles
    for line in re.findall(r"^Touches: (.*)$", text, re.MULTILINE):
        for name in re.findall(r"`(.+?)`", line):
            assert found_as_file(name if "NAME" not in name else str(Path(name).parent)), name


def structure():
    """benchmarks/structure.py as a module."""
    spec = importlib.util.spec_from_file_location("structure", ROOT / "benchmarks" / "structure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("rewards", [*SCORERS, *CALIBRATIONS, *PRESETS]),
        ("evaluation", [*METRICS, *get_args(ControlName)]),
        ("data", [*LOADERS]),
    ],
)
def test_each_name_a_recipe_may_use_is_on_its_page(page, names):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert not {name for name in names if f"`{name}`" not in text}


def test_new_names_of_what_moved_are_there():
    rows = re.findall(r"^\| `(medrft[\w.]+)` \| (.* → .*) \|$", MOVED.read_text(encoding="utf-8"), re.MULTILINE)
    named = {f"{module}.{name}" for module, cell in rows for name in re.findall(r"→ `(\w+)`", cell)}
    assert len(named) > 200 and not {name for name in named if not found_in_package(name)}


STEP = re.compile(r"^\d+\. `([\w/]+\.py)`, `([\w.]+)`: (.+)$", re.MULTILINE)


def walks() -> dict[str, list[tuple[str, str, str]]]:
    """The walks of docs/tour.md: title -> (file, name, sentence) of each step."""
    text = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    return {part.splitlines()[0]: STEP.findall(part) for part in text.split("\n## ")[1:]}


@cache
def used_in(path: Path) -> set[str]:
    """Names and attributes that the code of a file uses; an import alone is no use."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_there_are_five_walks_and_each_line_of_them_is_a_step():
    text = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    assert len(walks()) == 5
    assert len(re.findall(r"^\d+\. ", text, re.MULTILINE)) == sum(map(len, walks().values()))


@pytest.mark.parametrize("title", walks())
def test_each_step_of_a_walk_is_there_and_reached(title):
    steps = walks()[title]
    for number, (file, name, says) in enumerate(steps):
        here = PACKAGE / file
        assert name in names_in(here), (file, name)
        before = [PACKAGE / earlier for earlier, _, _ in steps[:number]]
        if not before:
            continue
        if through := re.search(r"\(through `(.+?)`\)", says):
            assert any(through[1] in path.read_text(encoding="utf-8") for path in before), says
            assert through[1] in here.read_text(encoding="utf-8"), says
        elif calls := re.search(r"\(it calls step (\d+)\)", says):
            assert steps[int(calls[1]) - 1][1] in used_in(here), says
        elif "TRL calls it" in says:
            assert file.startswith("training/"), says
        else:
            assert any(name.split(".")[-1] in used_in(path) for path in before), f"no earlier step uses {name}"


def test_each_key_of_a_recipe_is_on_a_page():
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    shapes = [shape for shape in vars(config).values() if isinstance(shape, type) and issubclass(shape, config.Shape)]
    keys = {key for shape in shapes for key in shape.model_fields}
    assert len(keys) > 60 and not {key for key in keys if not re.search(rf"\b{key}\b", pages)}


COMMAND = re.compile(r"^(?:\$ |    |#   |# )?(?:OMP_NUM_THREADS=1 )?medrft ((?:.*\\\n)*.*)$", re.MULTILINE)


def options_of(words: list[str]) -> tuple[str, set[str]] | None:
    """The command that a line begins with, and the options it takes; nothing where it names no command of ours."""
    command = typer.main.get_command(app)
    name = ""
    for word in words:
        if word not in getattr(command, "commands", {}):
            break
        name, command = f"{name} {word}".strip(), command.commands[word]
    return (name, {option for parameter in command.params for option in parameter.opts} | {"--help"}) if name else None


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_options_named_in_commands_are_there(path):
    for line in COMMAND.findall(path.read_text(encoding="utf-8")):
        words = line.replace("\\\n", " ").partition("  #")[0].split()
        found = options_of(words)
        if found is not None:
            name, options = found
            named = {word.strip("[]`,.;)").partition("=")[0] for word in words if re.match(r"\[?--[a-z]", word)}
            assert not named - options, f"medrft {name}"
