"""`medrft run RECIPE`, and its steps as single commands: `sft`, `grpo`, `eval` and `report`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medrft.cli.common import (
    Csv,
    Json,
    Latex,
    Markdown,
    Set,
    err,
    existing_run,
    out,
    parse_overrides,
    print_json,
    print_plain,
    progress_bar,
    resume_command,
    say_next,
)
from medrft.config import Recipe
from medrft.errors import ModelError, RecipeError, need_packages
from medrft.files import locked_folder
from medrft.outgoing import PICTURES, recipients_of, refuse_private
from medrft.recipes import load_recipe

if TYPE_CHECKING:
    from medrft.evaluation.engines import Remote

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe (medrft init --list).")
]
Output = Annotated[Path | None, typer.Option(help="The run folder; runs/<recipe name> by default.", file_okay=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run that the output folder holds.")]
SHORT = "short"
"""The prompt that a model from outside a run is asked with by default."""
CONCURRENCY = 8
"""Requests that a server is sent at a time by default."""
Stage = Annotated[
    list[str] | None, typer.Option("--stage", help="A stage's name; may be repeated. All that fit by default.")
]


def run(
    recipe: RecipePath,
    output: Output = None,
    resume: Resume = False,
    set_: Set = None,
    json_: Json = False,
    plan: Annotated[bool, typer.Option("--plan", help="Tell what it would do and whether it fits, and stop.")] = False,
    gpu: Annotated[
        str | None, typer.Option(metavar="SIZE", help="With --plan: memory of each GPU.", show_default="80GB")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="With --plan: how many GPUs.", show_default="1")] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(help="With --plan: tokens that all GPUs write together a second.", min=0.001)
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(metavar="RUN", help="With --plan: a run folder whose first steps were timed.")
    ] = None,
) -> None:
    """Train, evaluate and report as RECIPE says.

    Writes a run folder with the resolved recipe, the environment, rollouts, models, predictions and report.html.
    With --plan it writes nothing: it checks every name and says, from the model's shape, what fits.
    """
    if plan:
        from medrft.cli.plan import Machine, plan_run

        machine = Machine(gpu or "80GB", gpus or 1, tokens_per_second, measured)
        plan_run(recipe, set_, machine, json_=json_)
        return
    planned = {"--gpu": gpu, "--gpus": gpus, "--tokens-per-second": tokens_per_second, "--measured": measured}
    if unused := [option for option, given in planned.items() if given is not None]:
        raise RecipeError(f"{unused[0]} is for --plan; add --plan, or leave it out: a run takes the machine it is on")
    _run(recipe, output, resume, set_, json_, kinds=None, names=None)


def _command_for(kind: str, says: str) -> Callable[..., None]:
    """The command that runs only the stages of one kind; typer takes its help from the docstring."""

    def command(
        recipe: RecipePath,
        output: Output = None,
        stage: Stage = None,
        resume: Resume = False,
        set_: Set = None,
        json_: Json = False,
    ) -> None:
        _run(recipe, output, resume, set_, json_, kinds=kind, names=stage)

    command.__doc__ = says
    return command


sft = _command_for("sft", "Run only the SFT stages of RECIPE, in a new run folder or (--resume) in one that is there.")
grpo = _command_for(
    "grpo", "Run only the GRPO stages of RECIPE; with --resume, from the SFT stage that the run folder holds."
)


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="RECIPE_OR_RUN", help="A run folder, or a recipe.")],
    stage: Stage = None,
    model: Annotated[str | None, typer.Option(help="Another model: hub id, ID@REVISION, or a folder.")] = None,
    endpoint: Annotated[str | None, typer.Option(metavar="URL", help="A server: http://localhost:8000/v1.")] = None,
    endpoint_model: Annotated[str | None, typer.Option(metavar="NAME", help="The server's name of the model.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="The environment variable that holds the server's key.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Requests to the server at a time.", show_default=str(CONCURRENCY))
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="What another model is asked with.", show_default="short")] = None,
    output: Output = None,
    set_: Set = None,
    markdown: Markdown = False,
    latex: Latex = False,
    csv: Csv = False,
    json_: Json = False,
) -> None:
    """Evaluate the models of a run folder again, from its files; --set eval.limit=… and the like apply.

    With --model or --endpoint, evaluate that model instead on the recipe's test data, under a name of its own. A
    recipe's results go to runs/<recipe name> or --output. The same command goes on where a killed one was.
    """
    from medrft.evaluation.own_scorers import build_own
    from medrft.pipeline.evaluating import check_outside, evaluate_engine, evaluate_stage, open_model, outside_name
    from medrft.pipeline.job import open_job
    from medrft.pipeline.run import chosen_stages, report_run
    from medrft.report.paper_tables import chosen_format

    form = chosen_format(markdown=markdown, latex=latex, as_csv=csv, json=json_)
    outside = _outside(model, endpoint, endpoint_model, {"--api-key-env": api_key_env, "--concurrency": concurrency})
    _check_fits(outside, stage=stage, prompt=prompt)
    recipe, folder = _subject(source, output, parse_overrides(set_), outside=bool(outside))
    chosen_stages(recipe, stage)
    if model:
        check_outside(recipe, model)
    build_own(recipe)
    server = None
    if endpoint and endpoint_model:
        server = _server(endpoint, endpoint_model, api_key_env, concurrency, recipe.model.chat_template_kwargs)
    refuse_private(
        recipe.data.private,
        [*recipients_of(recipe.model_dump()), *(server.endpoint.recipients("--endpoint") if server else ())],
    )
    begun = (folder / "recipe.yaml").is_file()
    guest = outside_name(recipe, outside) if outside and begun else None  # beside a run that may still be training
    with locked_folder(folder / "eval" / guest if guest else folder):
        job = open_job(recipe, output=folder, resume=begun, bar=progress_bar, record=guest is None)
        if outside:
            engine = server or open_model(job, outside)
            evaluate_engine(job, engine, stage=outside_name(recipe, outside), prompt=prompt or SHORT)
        else:
            done = [s.name for s in recipe.stages if job.run.is_finished(s.name)]
            start = [] if recipe.eval.base == "skip" else ["base"]
            for name in stage or [*start, *done]:
                evaluate_stage(job, name)
        report_run(job)
    show_results(folder, json_, form)


def _outside(
    model: str | None, endpoint: str | None, endpoint_model: str | None, of_server: Mapping[str, object]
) -> str | None:
    """The name of the model from outside a run, if one is named; raises `RecipeError` for options that do not fit."""
    if endpoint and model:
        raise RecipeError("--model and --endpoint name two models; pass one of them")
    if bool(endpoint) != bool(endpoint_model):
        raise RecipeError("a server needs both --endpoint URL and --endpoint-model NAME")
    for option, given in of_server.items():
        if given is not None and not endpoint:
            raise RecipeError(f"{option} is for --endpoint URL")
    return model or endpoint_model


def _check_fits(outside: str | None, *, stage: list[str] | None, prompt: str | None) -> None:
    """Raise for options that would have no effect beside the others, and for an unknown prompt."""
    from medrft.models.prompts import get_prompt

    if outside and stage:
        raise RecipeError("--stage names a model of the run, --model and --endpoint another; pass one of them")
    if prompt and not outside:
        raise RecipeError("--prompt is for --model and --endpoint; a stage is asked with the prompt it was trained on")
    get_prompt(prompt or SHORT)


def _subject(source: Path, output: Path | None, changes: dict[str, Any], *, outside: bool) -> tuple[Recipe, Path]:
    """The recipe to evaluate by, and the run folder for the results."""
    from medrft.pipeline.run import check_same
    from medrft.recipes import recipe_of

    if source.is_dir():
        if output is not None:
            raise RecipeError("--output is for a recipe; the results of a run folder go into it")
        if not outside and {"model.id", "model.revision"} & set(changes):
            raise RecipeError("--set model.id: a run's stages are its own models; another one is --model ID")
        return recipe_of(existing_run(source), overrides=changes), source
    recipe = load_recipe(source, overrides=changes)
    if not outside:
        raise RecipeError(f"{source} is a recipe, which has no models yet: pass a run folder, --model or --endpoint")
    folder = output or Path("runs") / recipe.name
    check_same(recipe, folder)
    return recipe, folder


def _server(url: str, model: str, api_key_env: str | None, concurrency: int | None, template: dict[str, Any]) -> Remote:
    """A server as the model under test. A missing key is found now, not after the data are loaded.

    `template`: the recipe's arguments for the chat template; vLLM and SGLang read them as `chat_template_kwargs`.
    """
    from medrft.endpoint import Endpoint
    from medrft.evaluation.engines import Remote

    body = {"chat_template_kwargs": template} if template else {}
    endpoint = Endpoint(
        model=model,
        base_url=url,
        api_key_env=api_key_env,
        concurrency=CONCURRENCY if concurrency is None else concurrency,
        timeout=600.0,
        body=body,
        who="model under test",
        sends=PICTURES,
    )
    endpoint.key()
    return Remote(endpoint)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    markdown: Markdown = False,
    latex: Latex = False,
    csv: Csv = False,
    json_: Json = False,
) -> None:
    """Write report.html of a run folder again, from its files alone, and print its table: no model is loaded."""
    from medrft.report import render_report
    from medrft.report.paper_tables import chosen_format

    form = chosen_format(markdown=markdown, latex=latex, as_csv=csv, json=json_)
    render_report(existing_run(run))
    show_results(run, json_, form)


def _run(
    path: Path,
    output: Path | None,
    resume: bool,
    set_: list[str] | None,
    json_: bool,
    *,
    kinds: str | None,
    names: list[str] | None,
) -> None:
    need_packages("trl")  # of all that training needs, so that one extra is named and not each package's own
    from medrft.pipeline.run import run_recipe
    from medrft.training.processes import is_main

    recipe = load_recipe(path, overrides=parse_overrides(set_))
    only = _stages(recipe, kinds, names)
    folder = output or Path("runs") / recipe.name
    if is_main() and not json_ and not resume:
        _summary(recipe, path)
    run_recipe(recipe, output=folder, resume=resume, bar=progress_bar, only=only)
    if is_main():
        _show_verdict(folder, json_)
        if not json_:
            _say_next_stage(recipe, path, folder, only)


def _summary(recipe: Recipe, path: Path) -> None:
    """Print the memory that the stages will take. A model that cannot be planned may still be trained."""
    from medrft.cli.plan import show_summary
    from medrft.models.load import check_start
    from medrft.pipeline.planning import summarize_plan

    check_start(recipe.model)  # what stops the run in any case is told alone
    try:
        found = summarize_plan(recipe)
    except ModelError as error:
        err.print(f"no plan: {error}", highlight=False, soft_wrap=True)
        return
    if found is not None:
        show_summary(found, str(path))


def _stages(recipe: Recipe, kind: str | None, names: list[str] | None) -> list[str] | None:
    """The stages a command is to do; `None` for all of them and the start model."""
    if kind is None:
        return None
    fit = [stage.name for stage in recipe.stages if stage.kind == kind]
    for name in names or ():
        if name not in fit:
            raise RecipeError(f"--stage {name!r} is no {kind} stage of recipe {recipe.name!r}; it has {fit}")
    if not fit:
        raise RecipeError(f"recipe {recipe.name!r} has no {kind} stage; it has {[s.name for s in recipe.stages]}")
    return names or fit


def _show_verdict(run: Path, json_: bool) -> None:
    """Print whether the model got better, and the path of the report; the table is `medrft report`'s."""
    from medrft.report.results import verdict_lines

    if json_:
        _print_results(run)
        return
    for line in verdict_lines(run) or ["No trained stage was compared: fewer than two models were evaluated."]:
        out.print(Text(line), soft_wrap=True)
    err.print(f"Report: {run / 'report.html'}", highlight=False, soft_wrap=True)


def _say_next_stage(recipe: Recipe, path: Path, folder: Path, only: list[str] | None) -> None:
    """Name the command that goes on: the kind of stage that is left, else the table."""
    from medrft.rundir import RunDir

    left = [stage.kind for stage in recipe.stages if not RunDir(folder).is_finished(stage.name)]
    if only is not None and left:
        say_next(f"medrft {left[0]} {shlex.quote(str(path))} --resume --output {shlex.quote(str(folder))}")
    else:
        say_next(f"medrft report {shlex.quote(str(folder))}", "every figure; with --latex the table for a paper")


def _print_results(run: Path) -> None:
    from medrft.report.results import result_rows, verdict_lines

    facts = {"run": str(run), "report": str(run / "report.html")}
    print_json({**facts, "verdict": verdict_lines(run), "results": result_rows(run)})


def show_results(run: Path, json_: bool, form: str | None = None) -> None:
    """Print the result table, or the one for a paper, and the path of the report."""
    from medrft.report.paper_tables import write_table
    from medrft.report.results import result_rows
    from medrft.report.run_tables import run_table

    if json_:
        _print_results(run)
        return
    if form is not None:
        print_plain(write_table(run_table(run), form))
        return
    rows: list[dict[str, Any]] = result_rows(run)
    out.print(Text(f"Results of {run}"), soft_wrap=True)
    for name in dict.fromkeys(row["data set"] for row in rows):
        out.print()
        out.print(_table([row for row in rows if row["data set"] == name], title=name))
    err.print(f"Report: {run / 'report.html'}", highlight=False, soft_wrap=True)
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    if not stages:
        out.print("Nothing was evaluated yet.")
        say_next(resume_command(run), "goes on with it")
    elif len(stages) > 1:
        say_next(
            shlex.join(["medrft", "compare", f"{run}:{stages[0]}", f"{run}:{stages[-1]}"]), "which answers changed"
        )
    else:
        say_next(f"medrft report {shlex.quote(str(run))} --latex", "the table for a paper")


def _table(rows: list[dict[str, Any]], *, title: str) -> Table:
    """The results on one data set, narrow enough for 80 columns."""
    words = ("kind", "metric", "stage")
    table = Table(title=title, box=None, padding=(0, 2, 0, 0), title_justify="left")
    for column in (*words, "mean", "95 %", "n", "frequent", "blank"):
        table.add_column(column, justify="left" if column in words else "right", no_wrap=True)
    for row in rows:
        interval = "–" if row["low"] is None else f"{row['low']:.2f}–{row['high']:.2f}"
        numbers = (_number(row["mean"]), interval, str(row["n"]), _number(row["frequent"]), _number(row["blank"]))
        table.add_row(*(str(row[column]) for column in words), *numbers)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
