"""`medrft curate RECIPE`: thins frequent answers, and has a policy or teacher write thoughts for the rows left."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medrft.cli import common
from medrft.errors import DataError, RecipeError
from medrft.recipes import load_recipe

if TYPE_CHECKING:
    from medrft.curation.writers import Weights
    from medrft.endpoint import Endpoint

LISTED = 8
"""How many frequent answers are printed."""


def curate(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: its data, prompt, correct and curate.")],
    policy: Annotated[
        str | None, typer.Option(metavar="RUN[:STAGE]|ID|PATH", help="Who writes: a run's stage, a hub id or a folder.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Or a teacher: an OpenAI-compatible server that takes images.")
    ] = None,
    endpoint_model: Annotated[str | None, typer.Option(metavar="NAME", help="The server's name for its model.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="The environment variable that holds the server's key.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The folder to write; curated/<recipe name> by default.", file_okay=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what the output folder holds.")] = False,
    set_: common.Set = None,
    json_: common.Json = False,
) -> None:
    """Thin frequent answers and gather chains of thought for the train rows of RECIPE (ARMed's data stage).

    Writes curated.jsonl (rows for data: {name: table, root: …}), dropped.jsonl, manifest.json and sheet.html. The sheet
    holds images of the data set.

    Examples: medrft curate recipes/armed.yaml --policy runs/armed:armed_i;
    medrft curate recipes/armed.yaml --endpoint http://localhost:8000/v1 --endpoint-model qwen --set curate.tau=20
    """
    from medrft.curation.curate import check_kept
    from medrft.curation.curate import curate as run_curation
    from medrft.curation.writers import make_writer, think_prompt
    from medrft.data import check_options, load_data
    from medrft.evaluation.scoring import check_correct
    from medrft.report.curation import write_sheet
    from medrft.rewards import correct_of

    loaded = load_recipe(recipe, overrides=common.parse_overrides(set_))
    think_prompt(loaded)
    check_options(loaded.data.name, loaded.data.options)
    check_correct(loaded.correct.scorer, correct_of(loaded).scorer)
    who = _named(loaded, policy, endpoint, endpoint_model, api_key_env)
    with common.progress_bar("Loading data") as advance:
        data = load_data(loaded.data, seed=loaded.seed, on_progress=advance)
    if not (train := data.split("train")):
        raise DataError(f"{loaded.data.name} has no train rows to curate")
    writer = make_writer(who, loaded, train)
    folder = output or Path("curated") / loaded.name
    manifest = run_curation(train, loaded, writer=writer, output=folder, resume=resume, bar=common.progress_bar)
    write_sheet(folder, images=loaded.report.images == "thumb", seed=loaded.seed)
    check_kept(manifest, folder)
    if json_:
        common.print_json({"output": str(folder), **manifest})
    else:
        _print(folder, manifest)


def _named(
    recipe: Any, policy: str | None, endpoint: str | None, model: str | None, key: str | None
) -> Weights | Endpoint:
    """The writer of thoughts that the options name; raises `RecipeError` for none, two or a wrong mix of options."""
    from medrft.curation.writers import find_policy, find_teacher

    if (policy is None) == (endpoint is None):
        raise RecipeError("name who writes: --policy RUN[:STAGE]|ID|PATH, or --endpoint URL with --endpoint-model NAME")
    if policy is not None:
        if model is not None or key is not None:
            raise RecipeError("--endpoint-model and --api-key-env go with --endpoint, not with --policy")
        return find_policy(policy, recipe)
    if model is None:
        raise RecipeError("--endpoint needs --endpoint-model NAME: the name the server knows its model by")
    return find_teacher(recipe, url=str(endpoint), model=model, api_key_env=key)


def _print(folder: Path, manifest: dict[str, Any]) -> None:
    """Print how many rows each step and each rule kept or dropped."""
    from medrft.curation.rules import RULES

    thinning, result = manifest["thinning"], manifest["result"]
    say = common.out.print
    frequent = thinning["frequent"]
    answers = f"{len(frequent):,} frequent answer{'s' * (len(frequent) != 1)}"
    say(Text(f"{thinning['rows']:,} train rows; {answers} (more than {manifest['curate']['tau']} rows)"))
    for one in frequent[:LISTED]:
        say(Text(f"  {one['answer'][:60]}: {one['rows']:,} rows, {one['kept']:,} kept"))
    if len(frequent) > LISTED:
        say(Text(f"  … and {len(frequent) - LISTED:,} more in manifest.json"))
    tail = "kept" if manifest["curate"]["long_tail"] == "keep" else "dropped"
    say(Text(f"{thinning['thinned_out']:,} rows thinned out; long tail of {thinning['long_tail']:,} rows {tail}"))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("tries", "rule"):
        table.add_column(column, justify="right" if column == "tries" else "left")
    for rule, count in manifest["rules"].items():
        if count:
            table.add_row(f"{count:,}", RULES[rule])
    table.add_row(f"{result['kept']:,}", "kept")
    say(table)
    kept = f"{result['kept']:,} of {thinning['asked']:,} pairs got a thought: {folder / 'curated.jsonl'}"
    say(Text(kept), soft_wrap=True)
    common.err.print(Text(f"Look at them: {folder / 'sheet.html'}"), soft_wrap=True)
    common.say_next(f"medrft init {shlex.quote(str(folder / 'curated.jsonl'))}", "a recipe that teaches these thoughts")
