"""`medrft study STUDY`: runs a grid of arms and seeds, and prints the primary outcome."""

from __future__ import annotations

import shlex
from collections.abc import Callable
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
    out,
    parse_overrides,
    print_json,
    print_plain,
    progress_bar,
    say_next,
)
from medrft.errors import RecipeError, need_packages

if TYPE_CHECKING:
    from medrft.pipeline.run_study import Grid
    from medrft.studies.arms import Arm
    from medrft.studies.plan import Study

StudyPath = Annotated[
    Path, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a shipped study (medrft init --list).")
]


def study(
    study: StudyPath,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print arms, shared stages and hours; run nothing.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="An arm's name; may be repeated.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds by commas, such as 1,2; the study's own by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="Run folders; runs/studies/<name> by default.")] = None,
    results: Annotated[Path | None, typer.Option(help="Small result files; the study's own folder by default.")] = None,
    collect: Annotated[bool, typer.Option("--collect", help="Only read the result files that are there.")] = False,
    power: Annotated[
        bool, typer.Option("--power", help="From results so far, such as a pilot's, the seeds and pictures to plan.")
    ] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Audit the arms' rewards into the file that results are held against.")
    ] = False,
    markdown: Markdown = False,
    latex: Latex = False,
    csv: Csv = False,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Run STUDY arm by arm and write its table and page.

    An arm whose result file is there, for exactly its content, is not run again; a killed one goes on. Start the same
    command on several cores at once to share the work: each takes arms that no other has.
    """
    from medrft.report.paper_tables import chosen_format

    form = chosen_format(markdown=markdown, latex=latex, as_csv=csv, json=json_)
    _check_fits({"--dry-run": dry_run, "--collect": collect, "--power": power, "--audit": audit}, results)
    need_packages("trl")
    from medrft.pipeline.run_study import Grid
    from medrft.studies.arms import arms_of
    from medrft.studies.plan import load_study
    from medrft.studies.result_files import Places

    again = f"medrft study {shlex.quote(str(study))}"
    plan = load_study(study, overrides=parse_overrides(set_))
    arms = arms_of(plan, plan.chosen(only), _seeds(seeds, list(plan.table.seeds)))
    grid = Grid(
        output=output or Path("runs/studies") / plan.name,
        places=Places.of(plan, results),
        bar=progress_bar,
        tell=lambda line: err.print(line, highlight=False, soft_wrap=True),
    )
    if dry_run or power or audit:
        facts, show = _planned(plan, grid, arms, dry_run=dry_run, power=power)
        if json_:
            print_json(facts)
        else:
            show(facts)
            say_next(again)
        return
    if not collect:
        from medrft.studies.audit_file import needed_audit

        grid.audit = needed_audit(plan, grid.places)
        grid.run(arms)
    _collect(plan, grid, again, form=form, json_=json_)


def _check_fits(modes: dict[str, bool], results: Path | None) -> None:
    """Raise `RecipeError` for two options that each do one thing and stop, and for no folder of results to collect."""
    if len(chosen := [mode for mode, given in modes.items() if given]) > 1:
        raise RecipeError(f"{' and '.join(chosen)} each do one thing and stop; pass one of them")
    if results is not None and modes["--collect"] and not results.is_dir():
        raise RecipeError(f"no folder of result files at {results}; leave --results out for the study's own")


def _planned(
    plan: Study, grid: Grid, arms: list[Arm], *, dry_run: bool, power: bool
) -> tuple[dict[str, Any], Callable[[dict[str, Any]], None]]:
    """What is asked of a study before it runs, and the function that prints it: its forecast, its power, its audit."""
    if dry_run:
        from medrft.pipeline.run_study import forecast_study

        return forecast_study(plan, grid, arms), _print_forecast
    if power:
        from medrft.studies.pilot import study_pilot

        return study_pilot(plan, grid.places), _print_pilot
    from medrft.pipeline.study_audit import audit_study

    return audit_study(plan, grid.places, bar=progress_bar), _print_audit


def _collect(plan: Study, grid: Grid, again: str, *, form: str | None, json_: bool) -> None:
    """Read the result files, write the page, and print what is asked for; `again` is the command itself."""
    from medrft.report.study import collect_results, write_study_page

    facts = collect_results(plan, grid.places)
    if not facts["seeds"]:
        err.print(f"No result of this study in {grid.places.own}", highlight=False, soft_wrap=True)
    page = write_study_page(facts, grid.output)
    err.print(f"Page: {page}; all tables as Markdown: {page.with_name('table.md')}", highlight=False, soft_wrap=True)
    if json_:
        print_json(facts)
    else:
        _show_study(facts, form, again)


def _show_study(facts: dict[str, Any], form: str | None, again: str) -> None:
    """Print the study as it was asked for: the primary table as a paper has it, or the verdict above it."""
    from medrft.report.paper_tables import write_table
    from medrft.report.run_tables import study_table

    if form is not None:
        print_plain(write_table(study_table(facts), form))
    else:
        _print(facts)
        say_next(*((f"{again} --collect --latex", "the table for a paper") if facts["seeds"] else (again,)))


def _print(facts: dict[str, Any]) -> None:
    """Print the verdict and the table of the primary outcome; everything else is on the page."""
    from medrft.report.study_controls import SHARE, control_words, has_shares, share_cell, share_sentence
    from medrft.report.study_markdown import label_of, lead_tables, study_status, study_verdict
    from medrft.report.study_predict import predict_words
    from medrft.report.wording import outcome_label, plain_percent

    said, own = study_verdict(facts), facts["primary"]
    control, share = control_words(facts), share_sentence(facts)
    lines = [] if facts["predicts"] is None else [f"{predict_words(facts)}."]
    lines += [f"{control['claim']}: {control['detail']}.", *([f"{share}."] if share else [])]
    lines += [f"{said['claim']}. {said['detail']}.", f"{'; '.join(study_status(facts))}."]
    for line in lines:
        out.print(Text(line), soft_wrap=True)
    for shown in lead_tables(facts):
        title = Text(f"{outcome_label(shown)} in percent, minus {own['against']}")
        # The page has the interval of the mean as well; 80 columns do not.
        table = Table(box=None, padding=(0, 1, 0, 0), title=title, title_justify="left")
        shares = [SHARE] if has_shares(shown) else []
        for name in ("arm", "mean", "minus, points", *shares, "blank", "n"):
            table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
        for row in shown["rows"]:
            blank, n = plain_percent(row["controls"].get("blank")), f"{row['n']:,}"
            own_share = [share_cell(row["share"])] if shares else []
            cells = (row["arm"], plain_percent(row["mean"]), label_of(row["difference"]), *own_share, blank, n)
            table.add_row(*map(Text, cells))
        out.print(table)


def _print_pilot(facts: dict[str, Any]) -> None:
    """Print the spread of each pair's difference, and the seeds that a small standard error needs, by test pictures."""
    from medrft.report.study_controls import pilot_cells
    from medrft.report.wording import outcome_label

    if not facts["pairs"]:
        typer.echo(f"Study {facts['study']}: no result of a pair of arms yet; run a pilot with --seeds 0")
        return
    target = f"{100 * facts['target']:.1f}"
    typer.echo(f"Study {facts['study']}: seeds for a standard error of {target} points, by test pictures")
    typer.echo(f"{outcome_label(facts)}, from seeds {facts['seeds']}; spread in points (sd of one seed's difference)")
    table = Table(box=None, padding=(0, 2, 0, 0))
    pictures = [f"{one['pictures']:,} pictures" for one in facts["pairs"][0]["needed"]]
    for name in ("pair", "points", "within", "between seeds", "share between", *pictures):
        table.add_column(name, justify="left" if name == "pair" else "right", no_wrap=True)
    for row in facts["pairs"]:
        table.add_row(*map(Text, pilot_cells(row)))
    out.print(table)
    if not all(row["measured"] for row in facts["pairs"]):
        typer.echo("One seed shows no other training: the spread between seeds is assumed, from our own studies.")


def _print_audit(facts: dict[str, Any]) -> None:
    """Print what the audit says of each reward, in one table."""
    from medrft.audit.figures import FIGURES
    from medrft.report.study_predict import figure_label
    from medrft.report.wording import plain_number

    table = Table(box=None, padding=(0, 2, 0, 0), title=Text(f"Audit {facts['hash']}"), title_justify="left")
    for name in ("reward", *map(figure_label, FIGURES)):
        table.add_column(name, justify="left" if name == "reward" else "right", no_wrap=name == "reward")
    for name, row in facts["rewards"].items():
        table.add_row(Text(name), *(plain_number(row["figures"][figure]) for figure in FIGURES))
    out.print(table)


def _print_forecast(facts: dict[str, Any]) -> None:
    """Print what a study would run, and how long it would take."""
    primary = facts["primary"]
    typer.echo(
        f"Study {facts['study']}: primary outcome {primary['a']} - {primary['against']}, {primary['dataset']}, "
        f"{primary['kind']}, {primary['metric']} ({primary['source']})"
    )
    typer.echo(f"Budget: {facts['budget']}")
    for arm in facts["arms"]:
        typer.echo(
            f"  {'done' if arm['done'] else 'to do':6} {arm['arm']:28} {' > '.join(arm['stages']) or 'no stage'}"
        )
    typer.echo(f"Shared stages to train: {len(facts['shared'])}")
    for shared in facts["shared"]:
        took = "" if shared["seconds"] is None else f"  {shared['seconds']:.0f} s (measured)"
        typer.echo(f"  {shared['stage']:12} seed {shared['seed']:<5} {shared['key']}{took}")
    if not facts["left"]:
        typer.echo(f"Arms to run: none of {len(facts['arms'])}")
        return
    each = (
        "unknown" if facts["seconds_per_arm"] is None else f"{facts['seconds_per_arm']:.0f} s ({facts['seconds_from']})"
    )
    hours = "unknown" if facts["hours"] is None else f"{facts['hours']:.2f}"
    unknown = sum(shared["seconds"] is None for shared in facts["shared"])
    without = f", {unknown} shared stages not counted" if unknown else ""
    typer.echo(
        f"Arms to run: {facts['left']} of {len(facts['arms'])}, {each} each; hours on one core: {hours}{without}"
    )


def _seeds(text: str | None, own: list[int]) -> list[int]:
    if text is None:
        return own
    try:
        seeds = [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise RecipeError(f"--seeds takes different whole numbers by commas, got {text!r}; for example --seeds 1,2,3")
    return seeds
