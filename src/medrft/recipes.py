"""Reads recipes: a YAML file and `--set a.b=c` go in; a `Recipe` comes out, or an error in one line. Needs no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from medrft.config import Recipe
from medrft.errors import RecipeError
from medrft.masking import masked_paths, remember_secrets
from medrft.reward_config import Shape
from medrft.rundir import RESOLVED
from medrft.shipped import find_shipped, hint_shipped

LARGEST = 100_000
"""Values that a YAML document may hold once its aliases are written out."""
DEEPEST = 100
"""Levels of nesting of a YAML document."""
TAGS = ("preset", "stack", "by_kind", "[key]")
"""Names of union members in pydantic's error locations; not keys of a recipe."""


TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Endings of files that hold rows, which people pass where a recipe is wanted."""


def load_recipe(path: Path, *, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read, override and validate a recipe.

    `path` may also be the name of a shipped recipe. `overrides` maps dotted keys to values, list positions as numbers
    or names: `{"stages.grpo.trl.beta": 0.01}`. A stage that is set to `None` is left out.
    Raises `RecipeError` naming the key, what was got and the nearest known key.
    """
    path = find_shipped(path)
    if path.suffix.lower() in TABLES and path.is_file():
        raise RecipeError(
            f"{path} is a table, not a recipe; medrft init {path} writes one for it; if it holds "
            f"answers: medrft rescore jsonl {path}"
        )
    if path.is_dir():
        own = path / "recipe.yaml"
        if own.is_file():
            raise RecipeError(f"{path} is a run folder; to go on with it: medrft run {own} --resume --output {path}")
        raise RecipeError(
            f"{path} is a folder; a recipe is a YAML file, and medrft init {path} writes one for data in it"
        )
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else hint_shipped(path)
        raise RecipeError(f"no recipe at {path}{hint}")
    table = _read_table(path)
    _refuse_other_files(path, table)
    for key, value in (overrides or {}).items():
        _assign(table, key, value)
    if isinstance(table.get("stages"), list):
        table["stages"] = [stage for stage in table["stages"] if stage is not None]
    return parse_recipe(found_files(table, path.parent), source=str(path))


def _read_table(path: Path) -> dict[str, Any]:
    text = _read_text(path)
    table = _parsed(path, text)
    # A run writes its recipe.yaml with YAML's end mark, so one without it was cut off; a user's own need not have it.
    if text.startswith(RESOLVED[:20]) and not text.endswith("...\n"):
        raise RecipeError(f"{path} was cut off; put the recipe that the run was begun with in its place")
    if text.startswith(RESOLVED[:20]) and isinstance(table.get("eval"), dict) and "zero_shot" in table["eval"]:
        table["eval"]["base"] = (
            "full" if table["eval"].pop("zero_shot") else "skip"
        )  # of a run made before the new name
    if not isinstance(table, dict):
        raise RecipeError(f"{path} holds a {type(table).__name__}; a recipe is a table of keys")
    return table


def _refuse_other_files(path: Path, table: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for a study or a reward, which are YAML files too and have commands of their own."""
    if "model" in table:
        return
    if "arms" in table:
        raise RecipeError(f"{path} is a study, not a recipe; medrft study {path} --dry-run says what it would run")
    if "parts" in table or set(table) & {"closed", "choice", "open"}:
        raise RecipeError(
            f"{path} is a reward, not a recipe; medrft audit --reward {path} tries it, and a recipe holds it as reward:"
        )


class _Safe(yaml.SafeLoader):
    """YAML in which a key given twice is an error, and aliases may not swell a document beyond `LARGEST` values.

    PyYAML itself silently takes the last of two equal keys, and lets nested aliases stand for billions of values.
    """

    def get_single_data(self) -> Any:
        """The document, built only after its size with all aliases is known; raises `YAMLError`."""
        node = self.get_single_node()
        if node is None:
            return None
        _size(node, {}, ())
        return self.construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The table of a node; raises `ConstructorError` for a key given twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} stands twice", node.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return made


def _size(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node stands for with its aliases written out."""
    # Each node is counted once. Otherwise counting would take as long as the swollen document is large.
    if id(node) in known:
        return known[id(node)]
    if id(node) in above or len(above) > DEEPEST:
        raise yaml.constructor.ConstructorError(None, None, "it nests too deep, or in itself", node.start_mark)
    inner = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
    parts = inner if isinstance(node, yaml.CollectionNode) else []
    size = 1 + sum(_size(each, known, (*above, id(node))) for each in parts)
    if size > LARGEST:
        what = f"with its aliases written out it holds more than {LARGEST:,} values"
        raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
    known[id(node)] = size
    return size


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; raises `ValueError` in one line for text that is not YAML, or swells too much."""
    try:
        return yaml.load(text, Loader=_Safe)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:  # also of numbers and dates
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def read_yaml(path: Path) -> Any:
    """The value of a YAML file; raises `RecipeError` in one line."""
    return _parsed(path, _read_text(path))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows editors may begin a file with a byte-order mark
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}), as a YAML file is; save it as UTF-8"
        ) from error


def _parsed(path: Path, text: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise RecipeError(f"{path} is not valid YAML: {str(error)[:500]}") from error


def found_files(value: Any, folder: Path) -> Any:
    """The recipe with absolute paths for each `file.py:Name`, chat template and lexicon in `folder`, where it lies.

    Then it can be run from any folder.
    """
    if isinstance(value, dict):
        return {key: _found_path(key, found_files(inner, folder), folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [found_files(inner, folder) for inner in value]
    where, _, name = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if where.endswith(".py") and name.isidentifier() and (folder / where).is_file():
        return f"{(folder / where).resolve()}:{name}"
    return value


def _found_path(key: str, value: Any, folder: Path) -> Any:
    """`chat_template` and each `lexicon` as absolute paths, if they are files beside the recipe or in this folder."""
    if key.rpartition(".")[2] not in ("chat_template", "lexicon"):
        return value
    if isinstance(value, list):
        return [_found_path(key, inner, folder) for inner in value]
    if not isinstance(value, str):
        return value
    return next((str(path.resolve()) for path in (folder / value, Path(value)) if path.is_file()), value)


UNSET_BEFORE = ("encoder.idf", "encoder.rescale", "output")
"""Keys that no longer exist. Older run folders still have them, unset, because they keep the whole recipe."""


def parse_recipe(table: Mapping[str, Any], *, source: str = "recipe") -> Recipe:
    """Validate a recipe's table; raises `RecipeError` with one line."""
    remember_secrets(table)
    try:
        return Recipe.model_validate(without_unset(table))
    except ValidationError as error:
        raise RecipeError(f"{source}: {first_problems(error)}") from error


def without_unset(table: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """The table without keys of `UNSET_BEFORE` that are unset. One that was set stays, and is refused by its name."""
    kept: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{inside}{key}"
        if name in UNSET_BEFORE and not value:
            continue
        holds = isinstance(value, Mapping) and any(one.startswith(f"{name}.") for one in UNSET_BEFORE)
        kept[key] = without_unset(value, f"{name}.") if holds else value
    return kept


def parse_set(assignments: Iterable[str]) -> dict[str, Any]:
    """`["a.b=1", "c=x"]` as a mapping; values are read as YAML.

    >>> parse_set(["seed=3", "data.root=/data", "eval.limit=null"])
    {'seed': 3, 'data.root': '/data', 'eval.limit': None}
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, found, value = assignment.partition("=")
        if not found or not key.strip():
            raise RecipeError(f"--set takes key=value, got {assignment!r}; for example --set seed=1")
        try:
            result[key.strip()] = _number(parse_yaml(value)) if value else None
        except ValueError as error:
            raise RecipeError(f"--set {key}: {value!r:.200} is not a YAML value; put it in quotes") from error
    remember_secrets(result)
    return result


def refuse_masked(table: Mapping[str, Any], *, where: str) -> None:
    """Raise `RecipeError` for settings that hold `***`, because a run's recipe.yaml does not keep secrets."""
    if gone := masked_paths(table):
        raise RecipeError(
            f"{where}: {gone[0]} is ***, for a run's recipe.yaml keeps no secrets; start from your own "
            "recipe, or give it again with --set"
        )


def _number(value: Any) -> Any:
    """A number for a text such as `1e-3`, which YAML 1.1 reads as a string, because it lacks the point."""
    if isinstance(value, str):
        try:
            return float(value) if any(c.isdigit() for c in value) else value
        except ValueError:
            return value
    return value


def _assign(table: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key inside nested tables and lists."""
    parts = key.split(".")
    here: Any = table
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if isinstance(here, list):
            index = _index(here, part, key)
            if last:
                here[index] = value
            else:
                here = here[index]
        elif isinstance(here, dict):
            if last:
                here[part] = value
            else:
                here = here.setdefault(part, {})
        else:
            raise RecipeError(f"--set {key}: {'.'.join(parts[:position])} is {here!r}, which has no key {part!r}")


def _index(values: list[Any], part: str, key: str) -> int:
    """A list position by number, or by the `name` of the table that stands there."""
    names = [value.get("name") if isinstance(value, dict) else None for value in values]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(values):
        return int(part)
    raise RecipeError(f"--set {key}: {part!r} is no position or name in a list of {len(values)} ({names})")


def first_problems(error: ValidationError) -> str:
    """The first few problems of a validation, each with the key's path."""
    lines = []
    for problem in error.errors()[:3]:
        where = ".".join(str(part) for part in problem["loc"] if part not in TAGS)
        if problem["type"] == "extra_forbidden":
            lines.append(_unknown_key(where, problem["loc"]))
        elif problem["type"] == "value_error":
            lines.append(str(problem["ctx"]["error"]))
        else:
            lines.append(f"{where}: {plain_problem(problem)}")
    more = error.error_count() - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def plain_problem(problem: Mapping[str, Any]) -> str:
    """What is wrong with one value, and the value as far as a line has room for it; `problem` is one of pydantic's."""
    if problem["type"] == "missing":
        return "field required"
    got = repr(problem["input"])
    return f"{PLAIN.get(problem['type'], problem['msg'].lower())}, got {got if len(got) < 80 else got[:77] + '...'}"


PLAIN = {"model_type": "takes a table of keys", "dict_type": "takes a table of keys", "list_type": "takes a list"}
"""Types of pydantic's errors whose own words name Python's classes."""
REMOVED = {
    "eval.zero_shot": "it is eval.base now: full for true, skip for false, or quick for a sample",
    "eval.resamples": "it was removed, for intervals are formulas now; delete the line",
    "encoder.idf": "it was removed, for bertscore's option idf_corpus says the same; delete the line",
    "encoder.rescale": "it was removed, for bertscore's option baseline says the same; delete the line",
    "output": "it was removed, for --output says the same; delete the line",
}
"""Keys of earlier versions, and what to do about them."""


def _unknown_key(where: str, location: Sequence[int | str]) -> str:
    if where in REMOVED:
        return f"unknown key {where!r}; {REMOVED[where]}"
    known = _known_keys(location)
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"unknown key {where!r}; {hint}"


def _known_keys(location: Sequence[int | str]) -> list[str]:
    """Keys of the table in which an unknown key was found."""
    shapes: list[type[Shape]] = [Recipe]
    for part in location[:-1]:
        found = [shape.model_fields[str(part)].annotation for shape in shapes if str(part) in shape.model_fields]
        shapes = [shape for annotation in found for shape in _shapes_in(annotation)] or shapes
    return [name for shape in shapes for name in shape.model_fields]


def _shapes_in(annotation: Any) -> list[type[Shape]]:
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        return [annotation]
    return [shape for inner in get_args(annotation) for shape in _shapes_in(inner)]


def recipe_of(run: Path, *, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The resolved recipe a run folder holds."""

    return load_recipe(run / "recipe.yaml", overrides=overrides)
