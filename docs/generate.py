"""Pages that are made from the code when the site is built: recipe keys, commands, and the API from its docstrings.

`docs/conf.py` calls `write_pages`; nothing that it writes is committed. The tables are functions of their own, so that
the tests read them without Sphinx.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from medrft import config, reward_config
from medrft.cli.main import app
from medrft.data import LOADERS
from medrft.rewards.calibrations import CALIBRATIONS

ROOT = Path(__file__).resolve().parents[1]
AT_ROOT = ("CONTRIBUTING", "SECURITY", "CHANGELOG")
"""Pages of the repository's root that are pages of the site, too."""
TABLES = (
    ("", config.Recipe),
    ("model", config.ModelConfig),
    ("data", config.DataConfig),
    ("encoder", config.EncoderConfig),
    ("clinical", config.ClinicalConfig),
    ("correct", config.CorrectConfig),
    ("reward", reward_config.StackConfig),
    ("reward.parts.N", reward_config.PartConfig),
    ("reward.gate", reward_config.GateConfig),
    ("stages.NAME", config.StageConfig),
    ("stages.NAME.rejection", config.RejectionConfig),
    ("audit", config.AuditConfig),
    ("curate", config.CurateConfig),
    ("eval", config.EvalConfig),
    ("eval.data.N", config.SourceConfig),
    ("eval.sampled", config.SampledConfig),
    ("eval.judge", config.EvalJudgeConfig),
    ("report", config.ReportConfig),
)
"""Each table of a recipe: where it stands, and the class that reads it."""

SET_BY_A_RUN = {"root", "seed", "cache", "on_progress"}
"""Parameters of loaders that are no options of `data:`."""


def write_pages(folder: Path) -> None:
    """Write the generated pages into `folder`; a page that would not change is left alone, so that Sphinx skips it."""
    pages = generated_pages()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def generated_pages() -> dict[str, str]:
    """Every generated page: file name -> text. Those with a `_` are parts of the pages in docs/reference."""
    return {"_recipe.md": recipe_page(), "_commands.md": command_page(), **api_pages(), **root_pages()}


def root_pages() -> dict[str, str]:
    """The pages of the repository's root, their links as seen from the folder of generated pages."""
    found = {}
    for name in AT_ROOT:
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!https?:|#|mailto:)", "](../../../", text)
        found[f"{name.lower()}.md"] = text.replace("](../../../docs/", "](../../")
    return found


def link_to_root_pages(text: str, depth: int) -> str:
    """A page's text with its links to the root's pages turned into links to those of the site.

    `depth` says how many folders below `docs/` the page lies.

    >>> link_to_root_pages("[how](../CONTRIBUTING.md#style)", 0)
    '[how](reference/generated/contributing.md#style)'
    """
    up = "../" * depth
    names = "|".join(AT_ROOT)
    return re.sub(
        rf"\]\((?:\.\./)+({names})\.md", lambda found: f"]({up}reference/generated/{found[1].lower()}.md", text
    )


def recipe_page() -> str:
    """Every key of a recipe with type, default and meaning, from the classes that read it."""
    parts = []
    for place, shape in TABLES:
        parts += ["", f"## {place}" if place else "## Top level", "", summary(shape), ""]
        parts += table(("key", "type", "default", "meaning"), key_rows(shape))
    parts += ["", "## Options of each data set", "", LOADER_HEAD, ""]
    parts += table(("data set", "option", "type", "default"), loader_rows())
    parts += ["", "## Settings of each calibration", "", CALIBRATION_HEAD, ""]
    parts += table(("calibration", "setting", "type", "default"), calibration_rows())
    return "\n".join(parts) + "\n"


LOADER_HEAD = "`data:` and `eval.data:` also take the options of their loader; [data](../data.md) explains them."
CALIBRATION_HEAD = (
    "`calibrate: {kind: NAME, SETTING: VALUE}`. [Calibrations](../rewards.md#calibrations) says what each does."
)


def key_rows(shape: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of each field; raises `ValueError` for a field that no docstring explains."""
    said = field_docs(shape)
    rows = []
    for name, field in shape.model_fields.items():
        if name not in said:
            raise ValueError(
                f"{shape.__name__}.{name} has no docstring, so the page of recipe keys has no meaning for it"
            )
        default = default_of(field)
        rows.append((f"`{name}`", type_of(field), default if default in PLAIN_DEFAULTS else code(default), said[name]))
    return rows


def field_docs(shape: type) -> dict[str, str]:
    """The docstring below each field of a class and of those that it inherits from, by the field's name."""
    found: dict[str, str] = {}
    for one in reversed(shape.__mro__):
        if one.__module__ not in (config.__name__, reward_config.__name__):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0].body
        for field, below in pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def type_of(field: FieldInfo) -> str:
    """A field's type as a user of YAML would say it: `number (> 0)`, `one of: a, b`, `list of …`."""
    limits = [
        f"{sign} {getattr(rule, name):g}" for rule in field.metadata for name, sign in LIMITS if hasattr(rule, name)
    ]
    return words_of(field.annotation) + (f" ({', '.join(limits)})" if limits else "")


PLAIN_DEFAULTS = ("required", "none", "as below")
"""Defaults that are no value one could write."""
LIMITS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "nothing", Any: "any"}


def words_of(kind: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if origin is Annotated:
        return words_of(inner[0])
    if origin is Literal:
        return " · ".join(str(value) for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(words_of(one) for one in inner if one is not type(None)))
    if origin is tuple:
        return f"list of {words_of(inner[0]).replace('table', 'tables')}"
    if origin is dict:
        return "table"
    return "table" if inspect.isclass(kind) and issubclass(kind, BaseModel) else getattr(kind, "__name__", str(kind))


def default_of(field: FieldInfo) -> str:
    """A field's default as YAML has it; "required" where there is none."""
    if field.default_factory is not None:
        return "{}"
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return "as below"
    return as_yaml(field.default)


def as_yaml(value: Any) -> str:
    """A default as one would write it in YAML."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case tuple() | list():
            return "[" + ", ".join(map(as_yaml, value)) + "]"
        case float():
            return f"{value:g}"
    return str(value)


def loader_rows() -> list[tuple[str, str, str, str]]:
    """(data set, option, type, default) of each option that a loader takes."""
    rows = []
    for name, loader in LOADERS.items():
        for option in inspect.signature(loader, eval_str=True).parameters.values():
            if option.name not in SET_BY_A_RUN and option.kind is option.KEYWORD_ONLY:
                rows.append(
                    (f"`{name}`", f"`{option.name}`", words_of(option.annotation), code(as_yaml(option.default)))
                )
    return rows


def calibration_rows() -> list[tuple[str, str, str, str]]:
    """(calibration, setting, type, default) of each setting."""
    return [
        (f"`{name}`", f"`{setting.name}`", words_of(setting.annotation), code(as_yaml(setting.default)))
        for name, kind in CALIBRATIONS.items()
        for setting in inspect.signature(kind, eval_str=True).parameters.values()
    ]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table, with a class by which the site's style gives its last column room."""
    yield "{.reference}"
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"


def code(text: str) -> str:
    """A cell of code, or an empty one."""
    return f"`{text}`" if text else ""


def summary(thing: Any) -> str:
    """A docstring's text in one paragraph."""
    return " ".join((inspect.getdoc(thing) or "").split())


def commands() -> Iterator[tuple[str, Any]]:
    """Each command by the words that call it: `medrft data check`, and so on."""
    group = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):
        inner = getattr(command, "commands", None)
        if inner is None:
            yield f"medrft {name}", command
        else:
            yield from ((f"medrft {name} {sub}", below) for sub, below in sorted(inner.items()))


def command_page() -> str:
    """Every command with its arguments and options, from what `--help` says."""
    parts = []
    for name, command in commands():
        about = inspect.cleandoc(command.help or "").partition("\f")[0]
        parts += ["", f"## {name}", "", escape(about), "", "```text", usage_of(name, command), "```", ""]
        parts += table(("argument or option", "meaning"), option_rows(command))
    return "\n".join(parts) + "\n"


def usage_of(name: str, command: Any) -> str:
    """The usage line."""
    return " ".join(command.get_usage(typer.Context(command, info_name=name)).removeprefix("Usage: ").split())


def option_rows(command: Any) -> list[tuple[str, str]]:
    """(names, meaning with default) of each argument and option."""
    context = typer.Context(command, info_name="medrft")
    records = [one.get_help_record(context) for one in command.params if one.name != "help"]
    return [(code(record[0].strip()), escape(" ".join(record[1].split()))) for record in records if record]


def escape(text: str) -> str:
    """Help text as Markdown: options are code, and what looks like an element of HTML is shown as it is."""
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*|<\w+>)", r"`\1`", text)


API = {
    "rewards": (
        "Scorers, weights and calibrations as Python objects; they need no torch until an encoder is asked for.",
        "types rewards rewards.reward rewards.stack rewards.calibration rewards.adaptive rewards.state",
    ),
    "scorers": (
        "From an answer and its references to a number.",
        "scorers scorers.base scorers.choice scorers.lexical scorers.form scorers.length scorers.correct "
        "scorers.clinical scorers.encoder scorers.nli scorers.judge",
    ),
    "text": (
        "How answers are cleaned and read, the same for reward and evaluation; and intervals.",
        "text.normal text.choices text.extraction text.polarity text.thoughts intervals",
    ),
    "audit": (
        "Whether a reward is worth training on.",
        "audit.subject audit.perform audit.finding audit.verdict",
    ),
    "data": (
        "Data sets to examples, with every row left out and its reason.",
        "data data.base data.splits data.tables.table data.phantom",
    ),
    "runs": (
        "Recipes, run folders and what lies in them.",
        "recipes rundir store pipeline.run evaluation.run_files evaluation.compare.paired report errors",
    ),
    "integrations": (
        "The same rewards in other trainers.",
        "integrations integrations.foreign integrations.trl integrations.trl_columns integrations.verl "
        "integrations.swift integrations.openrlhf integrations.easyr1 integrations.verifiers integrations.ray_data "
        "integrations.client",
    ),
}
"""Each page of the API: what is on it, and the modules of ours that scripts import from."""


def api_pages() -> dict[str, str]:
    """A page for each group of modules, filled from their docstrings by Sphinx."""
    pages = {}
    for name, (says, modules) in API.items():
        parts = [f"# {name}", "", says]
        for module in modules.split():
            parts += ["", f"## medrft.{module}", "", "```{eval-rst}", f".. automodule:: medrft.{module}", "```"]
        pages[f"api_{name}.md"] = "\n".join(parts) + "\n"
    return pages
