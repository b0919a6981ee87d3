"""`medrft audit`: rewards and material go in; measurements, findings and a page come out. Needs no policy model."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from medrft.cli.audit_human import (
    below_floor,
    check_floors,
    people_failures,
    read_people,
    say_below,
    show_people,
)
from medrft.cli.common import Json, data_source, err, out, print_json, say_next
from medrft.errors import RecipeError, unknown_name
from medrft.files import check_writable

if TYPE_CHECKING:
    from medrft.audit import Settings
    from medrft.audit.human import HumanSet
    from medrft.audit.sources import Material
    from medrft.audit.subject import Own, Theirs
    from medrft.types import Form

Rewards = Annotated[
    list[str],
    typer.Option("--reward", help="A preset, a recipe or reward in YAML, or file.py:name; several are compared."),
]
Style = Annotated[
    str | None,
    typer.Option(help="How file.py:name is called (trl, verl, swift, openrlhf, medrft); else guessed."),
]
Examples = Annotated[
    list[str] | None, typer.Option("--examples", help="References of a data set: NAME:PATH[:SPLIT]; may be repeated.")
]
Pairs = Annotated[
    list[Path] | None, typer.Option("--pairs", help="Minimal pairs: TSV of kind, attribute, reference, candidate.")
]
Predictions = Annotated[
    list[Path] | None, typer.Option("--predictions", help="Answers of a model: JSONL of reference and prediction.")
]
Run = Annotated[Path | None, typer.Option("--run", help="Rollouts of a run: its own groups of answers.")]
Human = Annotated[
    list[str] | None,
    typer.Option("--human", help="What people said: a table of reference, candidate, rating or label, or READER:PATH."),
]
Against = Annotated[
    list[str] | None, typer.Option("--against", help="With --human: also the paired difference to this reward.")
]
Output = Annotated[Path, typer.Option(help="Folder for summary.json, findings.jsonl and audit.html.")]
Thresholds = Annotated[list[str] | None, typer.Option("--threshold", metavar="NAME=VALUE", help="Set a threshold.")]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-under", metavar="auroc=VALUE", help="Exit with 1 below it; also snr, group_auroc, tau, orderings."
    ),
]
FailOn = Annotated[
    list[str] | None, typer.Option("--fail-on", help="Exit with 1 on a finding of this name, or severity or worse.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", metavar="NAME=reference", help="A data column that the reward expects.")
]
FIGURES = ("auroc", "group_auroc", "snr", "tau", "orderings")
Lexicons = Annotated[
    list[Path] | None, typer.Option("--lexicon", help="Your own words for the clinical scorer; may be repeated.")
]


def audit(
    reward: Rewards,
    style: Style = None,
    examples: Examples = None,
    pairs: Pairs = None,
    predictions: Predictions = None,
    run: Run = None,
    human: Human = None,
    against: Against = None,
    output: Output = Path("audit"),
    form: Annotated[str | None, typer.Option(help="Answer form of the completions: think, direct or short.")] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="Encoder of bertscore and cosine.")] = None,
    bertscore: Annotated[str | None, typer.Option("--bertscore", help="Another encoder for bertscore alone.")] = None,
    lexicon: Lexicons = None,
    state: Annotated[Path | None, typer.Option(help="Take calibration state from this run.")] = None,
    group_size: Annotated[int, typer.Option(help="Answers per group.", min=2)] = 8,
    groups: Annotated[int, typer.Option(help="Groups to draw.", min=10)] = 160,
    limit: Annotated[int, typer.Option(help="Examples per data set, drawn by seed.", min=1)] = 240,
    time_limit: Annotated[float, typer.Option(help="Seconds that a batch of file.py:name may take.", min=0.1)] = 60.0,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
    threshold: Thresholds = None,
    fail_under: FailUnder = None,
    fail_on: FailOn = None,
    column: Columns = None,
    json_: Json = False,
) -> None:
    """Audit rewards: do they tell right from wrong, can GRPO learn from them, can they be hacked, are they sound code?

    Tried on the phantom and on short report phrases unless --examples, --pairs, --predictions or --run say otherwise.
    --human alone only compares with what people said. Needs no policy model. Writes summary.json, findings.jsonl and
    audit.html.
    """
    from medrft.audit import Settings, set_thresholds
    from medrft.audit.verdict import parse_thresholds

    _check_rewards([*reward, *(against or ())], style)
    _keep_private(reward, run)
    limits, floors, stops = set_thresholds(parse_thresholds(threshold or [])), _floors(fail_under), _stops(fail_on)
    settings = Settings(form=_form(form, reward, run), seed=seed, group_size=group_size, groups=groups, limits=limits)
    options: dict[str, Any] = {"encoder": encoder, "bertscore": bertscore, "lexicon": lexicon or ()}
    named = _columns(column)
    _check_places(output, state)
    with err.status("Reading the material"):
        people = read_people(human, against, floors)
        alone = people and not (examples or pairs or predictions or run)
        material = None if alone else _material(examples, pairs, predictions, run, seed=seed, limit=limit)
    if material is None:
        check_floors(floors, people)
    summary = _perform(
        reward,
        material,
        settings,
        output,
        people=people,
        against=against or [],
        limit=time_limit,
        columns=named,
        **{**options, "style": style, "state": state},
    )
    _report(summary, output, floors, stops, json_=json_)


def _report(summary: dict[str, Any], output: Path, floors: dict[str, float], stops: list[str], *, json_: bool) -> None:
    """Print what was found, then a line for each failure; with any, exit with 1."""
    if json_:
        print_json(summary)
    else:
        _show(summary)
        err.print(f"Page: {output / 'audit.html'}", highlight=False, soft_wrap=True)
        if len(summary["rewards"]) == 1:
            words = ["medrft", *sys.argv[1:], "--reward", "armed_clinical"]
            say_next(shlex.join(words), "beside another reward")
        else:
            say_next("medrft init study.csv", "a recipe for your own table; its reward: is one of these")
    failures = _failures(summary, floors, stops)
    for failure in failures:
        err.print(f"failed: {failure}", markup=False, highlight=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def _check_rewards(specs: list[str], style: str | None) -> None:
    """Raise for a reward that is not there, before any material is read."""
    from medrft.audit import check_subject

    if style is not None and not any(".py" in spec for spec in specs):
        raise RecipeError(f"--style {style} says how a file.py:name is called, and no --reward is one; leave it out")
    for spec in specs:
        check_subject(spec, style)


def _check_places(output: Path, state: Path | None) -> None:
    """Raise for an output that cannot be written, and for a place without a calibration state."""
    from medrft.rewards.state import find_state

    check_writable(output / "summary.json")
    if state is not None:
        find_state(state)


def _keep_private(specs: list[str], run: Path | None) -> None:
    """Raise `RecipeError` if a reward would send rollouts of a run with private data to another machine."""
    from medrft.outgoing import refuse_private, servers_in
    from medrft.recipes import load_recipe
    from medrft.rewards.named import read_reward

    if run is None or not (run / "recipe.yaml").is_file() or not load_recipe(run / "recipe.yaml").data.private:
        return
    for spec in specs:
        if spec.endswith((".yaml", ".yml")):
            refuse_private(True, list(servers_in(read_reward(spec).table, "reward")))


def _perform(
    specs: list[str],
    material: Material | None,
    settings: Settings,
    output: Path,
    *,
    people: list[HumanSet],
    against: list[str],
    **options: Any,
) -> dict[str, Any]:
    """Load the rewards, audit them and write the page; their child processes end even if that fails."""
    from medrft.audit import audit_rewards, load_subject, people_summary
    from medrft.audit.human import compare_with_people
    from medrft.report.audit import write_audit_page

    subjects: list[Own | Theirs] = []
    others: list[Own | Theirs] = []
    with err.status("Auditing") as status:

        def step(name: str) -> None:
            status.update(f"Auditing {name}")

        try:
            subjects += [load_subject(spec, **options) for spec in specs]
            others += [load_subject(spec, **options) for spec in against]
            said = compare_with_people(
                subjects, people, against=others, form=settings.form, seed=settings.seed, step=step
            )
            if material is None:
                summary = people_summary(settings, said, out=output)
            else:
                summary = audit_rewards(subjects, material, settings, out=output, step=step, people=said)
        finally:
            for subject in (*subjects, *others):
                subject.close()
    write_audit_page(output)
    return summary


def _material(
    examples: list[str] | None,
    pairs: list[Path] | None,
    predictions: list[Path] | None,
    run: Path | None,
    *,
    seed: int,
    limit: int,
) -> Material:
    from medrft.audit import sources

    if not (examples or pairs or predictions or run):
        return sources.default_material(seed=seed, limit=limit)
    material = sources.Material()
    for source in examples or ():
        name, path, split = data_source(source)
        sources.add_examples(material, name, path, split, seed=seed, limit=limit)
    for file in pairs or ():
        sources.add_pairs(material, file)
    for file in predictions or ():
        sources.add_predictions(material, file)
    if run is not None:
        sources.add_run(material, run)
    return material


def _form(form: str | None, rewards: list[str], run: Path | None) -> Form:
    """The form asked for, else that of the prompt of the run or of the first recipe, else `think`."""
    from medrft.models.prompts import get_prompt
    from medrft.recipes import load_recipe

    forms: tuple[Form, ...] = ("think", "direct", "short")
    if form is not None:
        found = [one for one in forms if one == form]
        if not found:
            raise unknown_name("form", form, forms)
        return found[0]
    recipes = [Path(spec) for spec in rewards if spec.endswith((".yaml", ".yml"))]
    for path in [run / "recipe.yaml"] if run is not None else recipes:
        if path.is_file() and "stages:" in path.read_text(encoding="utf-8"):
            return get_prompt(load_recipe(path).prompt).form
    return "think"


def _columns(assignments: list[str] | None) -> dict[str, str]:
    from medrft.audit.calls import OURS

    found = {}
    for assignment in assignments or ():
        name, equals, ours = assignment.partition("=")
        if not (name and equals):
            raise RecipeError(f"--column takes NAME=CONTENT, got {assignment!r}; for example --column label=reference")
        if ours not in OURS:
            raise unknown_name(f"content for --column {name}", ours, OURS)
        found[name] = ours
    return found


def _floors(assignments: list[str] | None) -> dict[str, float]:
    from medrft.audit.verdict import parse_thresholds

    found = parse_thresholds(assignments or [])
    for name in found:
        if name not in FIGURES:
            raise unknown_name("figure for --fail-under", name, FIGURES)
    return found


def _stops(names: list[str] | None) -> list[str]:
    """Names for --fail-on: a finding (`hackable`, `inverted:side`) or a severity."""
    from medrft.audit.finding import NAMES, SEVERITIES

    for name in names or ():
        if name.partition(":")[0] not in NAMES and name not in SEVERITIES:
            raise unknown_name("finding for --fail-on", name, [*NAMES, *SEVERITIES])
    return names or []


def _failures(summary: dict[str, Any], floors: dict[str, float], stops: list[str]) -> list[str]:
    from medrft.audit.figures import audit_figures
    from medrft.audit.finding import SEVERITIES

    found = people_failures(summary, floors)
    for reward, row in summary["rewards"].items():
        values = audit_figures(row)
        for name, floor in floors.items():
            if name in values and below_floor(values[name], floor):
                found.append(f"{reward}: {name} {say_below(values[name], floor)}")
        for finding in row["findings"]:
            grave = [s for s in stops if s in SEVERITIES]
            worse = any(SEVERITIES.index(finding["severity"]) >= SEVERITIES.index(s) for s in grave)
            if worse or any(finding["name"] == s or finding["name"].partition(":")[0] == s for s in stops):
                found.append(f"{reward}: {finding['name']} ({finding['severity']})")
    return found


def _show(summary: dict[str, Any]) -> None:
    """The short table, one column per reward, and the findings by name; what people said in tables of its own."""
    from medrft.report.audit import comparison_rows

    show_people(summary)
    if not summary["rewards"]:
        return
    rewards = list(summary["rewards"])
    table = Table(title=f"Audit on {', '.join(summary['sources'])}", title_justify="left")
    table.add_column("")
    for name in rewards:
        table.add_column(name, justify="right")
    for label, cells in comparison_rows(summary):
        table.add_row(label, *cells)
    out.print(table)
    for name, row in summary["rewards"].items():
        for finding in row["findings"]:
            color = {"error": "red", "warning": "yellow", "note": "cyan"}[finding["severity"]]
            out.print(f"[{color}]{finding['severity']:7}[/{color}] ", end="")
            out.print(f"{name}: {finding['name']}: {finding['says']}", markup=False, highlight=False, soft_wrap=True)
        if not row["findings"]:
            out.print(f"sound   {name}: no finding", markup=False, highlight=False)
