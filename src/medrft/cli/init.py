"""`medrft init`: a first recipe for a table or data set of one's own, or a copy of one that medrft brings along."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medrft.cli import common
from medrft.cli.common import err, out, print_json, say_next
from medrft.errors import DataError, RecipeError, unknown_name
from medrft.files import check_writable
from medrft.models.bundled import is_bundled
from medrft.recipes import load_recipe, read_yaml
from medrft.shipped import copy_shipped, first_words, shipped_files

if TYPE_CHECKING:
    from medrft.data.base import Loaded
    from medrft.data.tables.guess import Source
    from medrft.pipeline.drafting import Draft

HEADS = {
    "": "Recipes: medrft run NAME",
    "studies": "Studies: medrft study NAME",
    "controls": "Controls that studies share: controls: FILE in a study",
    "accelerate": "Several GPUs: accelerate launch --config_file FILE -m medrft run RECIPE",
    "templates": "Chat templates that SFT can teach: model.chat_template: FILE",
}
"""Folder of `recipes/` -> what is in it, and how it is used."""
SHARED = ("by_image", "validation", "exclude_test_images", "max_pixels", "private", "blank")
"""Keys of `data:` that every data set takes; the others are options of a loader."""


def init(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="Your table (CSV, JSONL, JSON, Parquet), a folder, hf:owner/name, NAME:PATH of a data set, or a name "
            "that --list shows.",
        ),
    ] = None,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the recipe goes.")] = Path("recipes"),
    list_: Annotated[bool, typer.Option("--list", help="Show what there is, and what each needs.")] = False,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory of the GPU to write for, such as 24GB; by default this one's."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take what seems right.")] = False,
    set_: common.Set = None,
    as_json: common.Json = False,
) -> None:
    """Write a first recipe for your data, with comments: columns, split, prompt and model are found out, not asked.

    Checks the data and plans the run, then says what to type next. Files that are there are not overwritten. With a
    name that --list shows it writes a copy of that recipe, which also runs as it is: medrft run quickstart.

    Examples: medrft init study.csv; medrft init scans/ --yes; medrft init vqa_rad:data/vqa_rad --gpu 24GB;
    medrft init study.csv --set columns.answer=Diagnosis
    """
    if list_:
        if source is not None:
            raise RecipeError(f"--list takes no SOURCE, got {source!r}; leave one of them out")
        if as_json:
            print_json(_listed())
            return
        _show()
        say_next("medrft init study.csv", "a recipe for your own table")
        return
    if source is None:
        raise RecipeError(
            "medrft init takes your table or folder (medrft init study.csv), or a name that medrft init --list shows"
        )
    name, path, _ = (
        common.data_source(source) if ":" in source and not source.startswith("hf:") else (source, None, None)
    )
    if path is None and name in shipped_files() and not Path(source).is_file():
        for option, given in (("--gpu", gpu), ("--set", set_)):
            if given:
                raise RecipeError(
                    f"{option} is for a recipe that is written for your data; edit the copy of {name} instead"
                )
        _copy(name, folder, as_json)
        return
    _draft(
        _recognize(source, name, path, set_),
        source,
        folder,
        gpu=gpu,
        ask=not yes and sys.stdin.isatty(),
        as_json=as_json,
    )


def _copy(name: str, folder: Path, as_json: bool) -> None:
    written = copy_shipped(name, folder)
    if as_json:
        print_json({"recipe": str(written[0]), "files": [str(path) for path in written]})
        return
    for path in written:
        typer.echo(path)
    if name.startswith("studies/"):
        say_next(f"medrft study {shlex.quote(str(written[0]))} --dry-run", "what it would run")
    elif "/" not in name:
        say_next(f"medrft run {shlex.quote(str(written[0]))} --plan", "what it will do, and whether it fits")


def _recognize(source: str, name: str, path: str | None, set_: list[str] | None) -> Source:
    """How the data are read; raises `UserError` for what is neither data nor the name of any."""
    from medrft.cli.sources import nested_options
    from medrft.data import LOADERS, check_options, find_loader
    from medrft.data.tables.guess import Source, recognize_source

    given = nested_options(set_)
    if path is not None and (name in LOADERS or name.endswith(".py") or ".py:" in name):
        found = Source(name=name, root=path, options=given)
        if name == "table":
            found = recognize_source(path, given)
    elif source.startswith("hf:") or Path(source).expanduser().exists():
        found = recognize_source(source, given)
    elif name in LOADERS:
        raise DataError(f"{name} is a data set; say where it lies: medrft init {name}:PATH")
    elif "/" in source or Path(source).suffix:
        raise DataError(f"nothing at {source}; medrft init takes a table, a folder, hf:owner/name, or NAME:PATH")
    elif difflib.get_close_matches(name, (names := {*shipped_files(), *LOADERS}), n=1, cutoff=0.5):
        raise unknown_name("shipped recipe or data set", name, names)
    else:
        raise DataError(
            f"nothing at {source}; medrft init takes a table, a folder, hf:owner/name, or a name that medrft init "
            "--list shows"
        )
    check_options(found.name, {key: value for key, value in found.options.items() if key not in (*SHARED, "seed")})
    find_loader(found.name)
    return found


def _draft(source: Source, typed: str, folder: Path, *, gpu: str | None, ask: bool, as_json: bool) -> None:
    """Write the recipe, after the data were read and nothing is in its way."""
    from medrft.pipeline.drafting import TEST_SHARE, choose_model, draft_of, parse_draft, recipe_name, recipe_text
    from medrft.pipeline.planning import parse_size
    from medrft.rundir import write_atomic

    room = parse_size(gpu) if gpu is not None else _own_gpu()
    place = Path(source.root)
    name = recipe_name(place.stem if place.suffix else place.resolve().name) if source.name == "table" else source.name
    name = recipe_name(Path(name.partition(":")[0]).stem)
    target = folder / f"{name}.yaml"
    if target.exists():
        raise RecipeError(f"{target} is there and is not overwritten; name another folder, or move it away")
    check_writable(target)
    source = _completed(source, ask=ask)
    loaded, data = _read(source, ask=ask, share=TEST_SHARE)
    draft = draft_of(loaded, data, source=typed, name=name)
    if room is not None:
        with common.progress_bar("choosing a model"):
            draft = replace(draft, room=room, model=choose_model(replace(draft, room=room), room))
    parse_draft(draft)
    write_atomic(target, recipe_text(draft, target))
    _tell(source, loaded, draft, target, as_json=as_json)


def _own_gpu() -> float | None:
    """GiB of this machine's GPU; `None` without one."""
    from medrft.models.policy import pick_device
    from medrft.training.processes import memory_here

    device = pick_device("auto")
    return memory_here(device) / 2**30 if device.type == "cuda" else None


def _completed(source: Source, *, ask: bool) -> Source:
    """The source with a column for each role that is needed: asked for, or an error that lists the columns."""
    columns = dict(source.options.get("columns") or {})
    for role, left in source.missing.items():
        how = f"--set columns.{role}=NAME"
        if not ask or not left:
            more = "; or --set ask=QUESTION, for one question to all rows" if role == "question" else ""
            raise DataError(
                f"no column for {role} was found in {source.root}; its columns are {', '.join(source.columns)}; name "
                f"it with {how}{more}"
            )
        err.print(f"Columns left: {', '.join(left)}", markup=False, highlight=False, soft_wrap=True)
        columns[role] = typer.prompt(f"Which column holds the {role}?", value_proc=partial(_named, left), err=True)
    return replace(source, options={**source.options, **({"columns": columns} if columns else {})})


def _named(columns: Sequence[str], typed: str) -> str:
    """The column that somebody means, without case and outer space; for another answer the question is asked again."""
    found = {name.strip().casefold(): name for name in columns}.get(typed.strip().casefold())
    if found is None:
        raise typer.BadParameter(str(unknown_name("column", typed, columns)))
    return found


def _read(source: Source, *, ask: bool, share: float) -> tuple[Loaded, dict[str, Any]]:
    """The data as the recipe will read them, and its `data:` table; without test rows some are cut off by image."""
    from medrft.cli.sources import load_options

    data: dict[str, Any] = {"name": source.name, "root": source.root, **source.options}
    data.pop("seed", None)
    loaded = load_options(data, cut=True)
    if loaded.split("test") or "by_image" in data:
        return loaded, data
    if ask and not typer.confirm(
        f"No row is named for testing. Split by image, {share:.0%} of the images for testing?", default=True, err=True
    ):
        return loaded, data
    data["by_image"] = share
    return load_options(data, cut=True), data


def _tell(source: Source, loaded: Loaded, draft: Draft, target: Path, *, as_json: bool) -> None:
    """Say what was found, check the data, plan the run, and name the next command."""
    from medrft.cli.data import print_summary
    from medrft.cli.plan import show_steps
    from medrft.data.summary import summarize_data
    from medrft.pipeline.drafting import TEST_SHARE
    from medrft.pipeline.planning import plan_steps, rows_by_stage

    recipe = load_recipe(target)
    plan = plan_steps(recipe, rows_by_stage(recipe, loaded), room=draft.room)
    if as_json:
        print_json({"recipe": str(target), "data": summarize_data(loaded), "found": list(source.said), "plan": plan})
        return
    print_summary(summarize_data(loaded))
    for line in (*source.said, *_choices(draft, loaded)):
        out.print(Text(f"- {line}"), soft_wrap=True)
    out.print()
    show_steps(plan)
    out.print(Text(f"\nThe recipe is {target}; read it, every choice says why."), soft_wrap=True)
    run = f"medrft run {shlex.quote(str(target))}"
    if draft.tests:
        say_next(run)
    elif "by_image" in draft.data:  # no share of the images can be split off
        say_next(f"{run} --plan", "to run, it needs test rows: more images, a test file, or a data set in eval.data")
    else:
        say_next(f"{run} --set data.by_image={TEST_SHARE}", "it needs test rows: these, or a data set in eval.data")


def _choices(draft: Draft, loaded: Loaded) -> list[str]:
    from medrft.data.notes import images_of

    columns: Mapping[str, Any] = draft.data.get("columns") or {}
    told = ", ".join(f"{role} = {name if isinstance(name, str) else ' '.join(name)}" for role, name in columns.items())
    lines = [f"columns: {told}"] if told else []
    lines.append(
        f"prompt: {'think, for rows have rationales' if draft.thinks else 'direct, for no rationales are there'}"
    )
    if "by_image" in draft.data:
        tests, all_ = (len(images_of(rows)) for rows in (loaded.split("test"), loaded.examples))
        share = draft.data["by_image"]
        near = abs(tests - share * all_) <= max(1, 0.05 * all_)
        why = "for no rows are named for testing" if near else "for copies of one picture are kept on one side"
        lines.append(f"test: {tests:,} of {all_:,} images ({share:.0%} were asked for), {why}")
    fits = "tiny, for there is no GPU" if draft.room is None else f"by its plan for {draft.room:.0f} GiB"
    return [*lines, f"model: {draft.model} ({fits})"]


def _show() -> None:
    for head, title in HEADS.items():
        table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
        for column in ("name", "what it is", "needs"):
            table.add_column(column, no_wrap=column == "name", overflow="fold")
        for row in _listed():
            if row["name"].rpartition("/")[0] == head:
                table.add_row(*map(Text, row.values()))
        out.print(table)
        out.print()


def _listed() -> list[dict[str, str]]:
    """Each shipped file's name, what it is, and what it needs."""
    return [
        {"name": name, "what": first_words(path), "needs": _needs(name.rpartition("/")[0], path)}
        for name, path in shipped_files().items()
    ]


def _needs(head: str, path: Path) -> str:
    """The data, model or hardware that a shipped file needs beyond medrft[train]; nothing where all is made here."""
    if head in ("templates", "controls"):
        return ""
    if head == "accelerate":
        return "GPUs, deepspeed" if "DEEPSPEED" in path.read_text(encoding="utf-8") else "GPUs"
    recipe = load_recipe(path.parent / read_yaml(path)["recipe"] if head else path)
    data = "" if recipe.data.drawn or recipe.data.root else f"{recipe.data.name} at data.root"
    model = recipe.model.id if "/" in recipe.model.id else f"a model in ./{recipe.model.id}"
    ours = recipe.model.id.startswith("tiny:") or is_bundled(recipe.model.id)
    return ", ".join(filter(None, (data, "" if ours else model))) or "nothing"
