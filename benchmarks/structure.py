"""How the code is built, in figures: sizes, circles, names, helpers, comments, and lines that stand twice.

    python benchmarks/structure.py [SRC] [--json]

SRC is the folder of the package, `src/medrft` by default; a worktree of another commit gives the figures of that one.

- arrows up: imports of a file from a layer above its own, by the drawing of layers in the CONTRIBUTING.md of that tree;
  sideways: from another part of its own layer, the lowest left out; not drawn: parts that the drawing does not name
- touched: files that somebody edits to add a thing, as the lines `Touches:` of that CONTRIBUTING.md say
- circle: files that import each other in a loop, imports for types and classes named in registries counted
- functions of one word: functions of a module whose name has no underscore, of all public ones; methods apart, for
  many are named by protocols (`__call__` and its kind left out)
- helpers: functions with a leading underscore; used once: named in one place of their file beside their definition
- comments: lines that begin with `#`, directives left out; docstrings are none
- same lines: pairs of places that share six or more lines of code, white space folded, imports and brackets passed over
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

SHARED = 6
"""Lines that make a pair."""
NAMED = re.compile(r"(medrft(?:\.\w+)+):\w+")
THIN = re.compile(r"[\s()\[\]{},:]*")


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that a file imports from, or names in a registry as `module:Class`."""
    text = path.read_text(encoding="utf-8")
    found = {match[1] for match in NAMED.finditer(text)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in modules else node.module for name in names}
    return found & modules


def drawn_layers(tree: Path) -> list[set[str]]:
    """The layers as the CONTRIBUTING.md of a tree draws them, lowest first; empty where it draws none."""
    text = (tree / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawing = re.search(r"^    types,.*?(?=\n\n)", text, re.DOTALL | re.MULTILINE)
    return [{name.strip() for name in layer.split(",")} for layer in drawing[0].split("<")] if drawing else []


def arrows(graph: dict[str, set[str]], layers: list[set[str]]) -> dict[str, Any]:
    """Imports that do not point down, and the parts of the package that no layer names."""
    level = {name: number for number, names in enumerate(layers) for name in names}
    parts = {name: name.split(".")[1] for name in graph if "." in name and not name.endswith("__main__")}
    steps = [
        (level[parts[name]], level[parts[other]], name, other)
        for name, others in graph.items()
        for other in others
        if parts.get(name) in level and parts.get(other) in level and parts[name] != parts[other]
    ]
    return {
        "arrows up": sorted((name, other) for here, there, name, other in steps if there > here),
        "arrows sideways": sorted((name, other) for here, there, name, other in steps if there == here > 0),
        "parts not drawn": sorted(set(parts.values()) - set(level)),
    }


def files_touched(tree: Path) -> dict[str, int]:
    """How many files each guide of a tree's CONTRIBUTING.md says are touched."""
    text = (tree / "CONTRIBUTING.md").read_text(encoding="utf-8")
    guides = re.findall(r"^\*\*(.+?)\.\*\*(.*?)(?=^\*\*|^## |\Z)", text, re.DOTALL | re.MULTILINE)
    touched = {title: re.search(r"^Touches: (.*)$", told, re.MULTILINE) for title, told in guides}
    return {title: found[1].count("`") // 2 for title, found in touched.items() if found}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other, largest first."""
    reach = {name: _reached(graph, name) for name in graph}
    groups = {
        frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]
    }
    return sorted((sorted(group) for group in groups), key=len, reverse=True)


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


def same_lines(files: list[Path]) -> list[tuple[str, str]]:
    """Pairs of places that share six or more lines; a longer run counts once."""
    places: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for number, path in enumerate(files):
        text = path.read_text(encoding="utf-8")
        passed = {
            at
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for at in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        lines = [" ".join(line.split()) for line in text.splitlines()]
        kept = [
            (at, line)
            for at, line in enumerate(lines, 1)
            if at not in passed and not THIN.fullmatch(line) and not line.startswith("#")
        ]
        for start in range(len(kept) - SHARED + 1):
            window = kept[start : start + SHARED]
            places.setdefault(tuple(line for _, line in window), []).append((number, window[0][0]))
    runs: dict[tuple[int, int, int], tuple[int, int]] = {}
    for found in places.values():
        for (a, at), (b, other) in combinations(found, 2):
            key = (a, b, other - at)
            runs[key] = min(runs.get(key, (at, other)), (at, other))
    return sorted((f"{files[a]}:{at}", f"{files[b]}:{other}") for (a, b, _), (at, other) in runs.items())


def functions(files: list[Path]) -> dict[str, Any]:
    """Public names, helpers and lengths of all functions."""
    public: list[str] = []
    methods: list[str] = []
    helpers: list[int] = []
    lengths: list[int] = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        words = Counter(re.findall(r"\w+", text))
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
            if node.name.startswith("__"):
                continue
            if node.name.startswith("_"):
                helpers.append(words[node.name])
            elif node in tree.body:
                public.append(node.name)
            else:
                methods.append(node.name)
    single = Counter(name for name in public if "_" not in name)
    return {
        "public functions": len(public),
        "of one word": round(single.total() / len(public), 3),
        "public methods": len(methods),
        "methods of one word": round(sum("_" not in name for name in methods) / len(methods), 3),
        "most frequent one-word functions": dict(single.most_common(12)),
        "private helpers": len(helpers),
        "of them used once": sum(count == 2 for count in helpers),
        "median function": sorted(lengths)[len(lengths) // 2],
        "longest function": max(lengths),
    }


def measure(package: Path) -> dict[str, Any]:
    """All figures of one package folder."""
    files = sorted(package.rglob("*.py"))
    names = {
        ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in files
    }
    graph = {name: imports_of(path, set(names)) - {name} for name, path in names.items()}
    lines = [line.strip() for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    comments = [line for line in lines if line.startswith("#") and not line.startswith(("#!", "# noqa", "# type"))]
    trailing = [line for line in lines if re.search(r"\S  # (?!noqa|type:)", line)]
    folders = Counter(path.parent for path in files)
    longest, count = folders.most_common(1)[0]
    found = functions(files)
    tree = package.resolve().parents[1]
    return {
        "files": len(files),
        "lines": len(lines),
        "circles": circles(graph),
        **arrows(graph, drawn_layers(tree)),
        **found,
        "helpers per 1,000 lines": round(1000 * found["of them used once"] / len(lines), 1),
        "comments per 100 lines": round(100 * (len(comments) + len(trailing)) / len(lines), 2),
        "longest folder": f"{longest.relative_to(package)} ({count})",
        "pairs of the same six lines": same_lines(files),
        "files touched to add": files_touched(tree),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", nargs="?", type=Path, default=Path(__file__).parents[1] / "src" / "medrft")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.src)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        if isinstance(value, list):
            print(f"{name}: {len(value)}")
            for entry in value:
                print("   ", entry if isinstance(entry, str) else " ~ ".join(entry))
        else:
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
