"""`medrft score`: scores answers of a file (or a shard of it), or one pair; also shows a preset's weights."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from medrft.cli.common import Json, err, out, print_json, progress_bar, say_next
from medrft.errors import DataError, RecipeError, unknown_name
from medrft.files import check_writable

if TYPE_CHECKING:
    from medrft.cli.scored_output import MakeSink
    from medrft.config import EncoderConfig
    from medrft.rewards import Reward
    from medrft.rewards.row_files import Rows
    from medrft.rewards.scored_file import Scoring
    from medrft.types import Form, Scorer

Options = Mapping[str, Mapping[str, Any]]

OTHERS = (".csv", ".tsv", ".eval", ".xlsx")
"""Endings of files of answers that `medrft rescore` reads."""

Input = Annotated[
    Path | None, typer.Argument(metavar="IN", help="JSONL or .parquet: `reference`, `answer`/`completion`.")
]
Scorers = Annotated[list[str] | None, typer.Option("--scorer", help="A scorer, or file.py:Name; may be repeated.")]
RewardName = Annotated[str | None, typer.Option("--reward", help="A preset, or a YAML file with a reward or a recipe.")]
Output = Annotated[Path | None, typer.Option(help="JSONL, or .parquet; standard output by default.")]
Show = Annotated[str | None, typer.Option(help="Print the parts and weights of a preset (or YAML file) and stop.")]
Explain = Annotated[bool, typer.Option("--explain", help="Print why: parts raw and calibrated, and what was compared.")]
State = Annotated[
    Path | None,
    typer.Option(help="Take calibrations from this run, or file of --fit, instead of fitting them on the file."),
]
Fit = Annotated[
    Path | None,
    typer.Option(
        metavar="STATE.json", help="Write the calibrations fitted on this file, for --state and other trainers."
    ),
]
ShardName = Annotated[str | None, typer.Option("--shard", metavar="K/N", help="Score shard K of N of the file.")]
Join = Annotated[int | None, typer.Option("--join", metavar="N", min=1, help="Put N shards of --output together.")]
FormName = Annotated[str, typer.Option("--form", help="Answer form of `completion` rows: think, direct or short.")]
EncoderName = Annotated[
    str | None, typer.Option("--encoder", help="Encoder of bertscore and cosine: hub id or folder.")
]
Lexicons = Annotated[
    list[Path] | None, typer.Option("--lexicon", help="Your own words for the clinical scorer; may be repeated.")
]
Option = Annotated[list[str] | None, typer.Option("--option", help="SCORER.OPTION=VALUE; may be repeated.")]
Reference = Annotated[str | None, typer.Option(help="Instead of a file: one pair's reference.")]
Answer = Annotated[str | None, typer.Option(help="Instead of a file: one pair's answer.")]
Question = Annotated[str | None, typer.Option(help="The one pair's question.")]


def score(
    rows: Input = None,
    scorer: Scorers = None,
    reward: RewardName = None,
    output: Output = None,
    show: Show = None,
    explain: Explain = False,
    state: State = None,
    fit: Fit = None,
    shard: ShardName = None,
    join: Join = None,
    form: FormName = "think",
    encoder: EncoderName = None,
    lexicon: Lexicons = None,
    option: Option = None,
    reference: Reference = None,
    answer: Answer = None,
    question: Question = None,
    json_: Json = False,
) -> None:
    """Score answers with scorers or a reward: the same numbers that training and evaluation use.

    Rows: {"reference": text or list, "answer" or "completion": text, "question"?, "kind"?, "options"?, "group"?,
    "n_tokens"?, "max_tokens"?}. They come back in order with "scores" (null: unscored, or not applicable), and with
    --reward also "reward" and "parts". Without --state, adaptive calibrations are fitted once on the whole file.
    A row that cannot be read is left out and listed. With --output, the same command goes on where a killed one was.
    Several processes share a file with --shard 1/4 to 4/4; --join 4 makes one output of theirs, in the file's order.
    """
    if show is not None:
        show_reward(show, encoder, json_)
        return
    if join is not None:
        join_outputs(rows, output, join, alone=not (scorer or reward or state or fit or shard or explain), json_=json_)
        return
    if not scorer and reward is None:
        raise RecipeError("nothing to score with; pass --scorer NAME or --reward PRESET")
    from medrft.rewards.rows import FORMS
    from medrft.rewards.scored_file import Scoring, settings_of
    from medrft.rewards.shards import check_shardable

    known = {name: name for name in FORMS}
    if form not in known:
        raise unknown_name("form", form, FORMS)
    path, pair = _source(rows, reference, answer, question)
    found = _rows(path, known[form], pair, output, shard)
    _check_fit(fit, reward, state, shard)
    _check_output(output, path)
    options = scorer_options(option or [])
    words = [str(path) for path in lexicon or ()]
    judges = build_scorers(scorer or [], encoder, words, options)
    maker, facts, table = build_scored(reward, encoder, words, options) if reward is not None else (None, {}, None)
    _check_used(options, scorer or [], reward)
    if found.shard is not None and maker is not None:
        check_shardable(maker, fitted=state is not None)
    asked = {"scorers": scorer, "reward": table, "options": options, "encoder": encoder, "lexicon": words, "form": form}
    work = Scoring(judges=judges, reward=maker, state=state, settings=settings_of(asked))
    facts["encoder"] = facts.get("encoder", _encoder_config(encoder).id)
    _score_rows(found, work, facts, output=output, fit=fit, json_=json_, explain=explain)
    if not json_:
        say_next(*_next_command(rows, pair, scorer or [], reward, output=output, shard=shard, explained=explain))


def _next_command(
    rows: Path | None,
    pair: Mapping[str, str] | None,
    scorers: Sequence[str],
    reward: str | None,
    *,
    output: Path | None,
    shard: str | None,
    explained: bool,
) -> tuple[str, str]:
    """What to type after scoring, and what it shows: the shards together, else why, else what the reward is worth."""
    if shard is not None and output is not None:
        of = shard.partition("/")[2]
        words = ["medrft", "score", str(rows), "--output", str(output), "--join", of]
        return shlex.join(words), f"one file, when all {of} shards are scored"
    if explained:
        if reward is not None:
            return f"medrft audit --reward {shlex.quote(reward)}", "does it tell right from wrong, can it be hacked"
        return "medrft score --show armed_clinical", "what a reward is made of"
    words = ["medrft", "score", *([str(rows)] if rows is not None else ())]
    for name, value in (pair or {}).items():
        words += [f"--{name}", value]
    for name in scorers:
        words += ["--scorer", name]
    words += ["--reward", reward] if reward is not None else []
    return shlex.join([*words, "--explain"]), "why each row got its scores"


def _check_used(options: Options, scorers: Sequence[str], reward: str | None) -> None:
    """Raise `UnknownNameError` for an option of a scorer that nothing here uses."""
    from medrft.rewards import scorers_of
    from medrft.rewards.named import read_reward

    used = {*scorers, *(scorers_of(read_reward(reward).table) if reward is not None else ())}
    for name in options:
        if name not in used:
            raise unknown_name("scorer of --option among those used here:", name, used)


def _score_rows(
    rows: Rows,
    work: Scoring,
    facts: dict[str, Any],
    *,
    output: Path | None,
    fit: Path | None,
    json_: bool,
    explain: bool,
) -> None:
    """Score the rows, write and print them; `facts` are shown above the summary."""
    from medrft.cli.scored_output import Printed
    from medrft.rewards.scored_file import scored_rows
    from medrft.rewards.state import save_state

    if rows.shard is not None and output is not None:
        output = rows.shard.path(output)
    sink = _sink(rows, work, output, explain)
    with (
        progress_bar("Scoring") as advance,
        scored_rows(rows, work, output=output, on_progress=advance) as (made, fitted),
    ):
        facts |= {"calibration": fitted} if fitted is not None else {}
        printed = Printed(work.judges, work.reward, output=output, json_=json_, explain=explain, make_sink=sink)
        printed.take(made, facts)
    if fit is not None and work.reward is not None:
        save_state(work.reward, fit, rows=printed.summary.rows)
        err.print(f"state in {fit}: pass it as state= in another trainer, or --state here", soft_wrap=True)


def _check_output(output: Path | None, rows: Path | None) -> None:
    """Raise for an output that cannot be written, is the file of rows itself, or is named as what it will not be."""
    if output is None:
        return
    check_writable(output)
    if rows is not None and output.exists() and output.samefile(rows):
        raise RecipeError(f"--output {output} is the file of rows itself; name another file")
    if output.suffix.lower() in (".csv", ".tsv", ".xlsx", ".json"):
        raise RecipeError(f"--output {output}: scored rows are written as .jsonl or .parquet; name such a file")


def _check_fit(fit: Path | None, reward: str | None, state: Path | None, shard: str | None) -> None:
    if fit is None:
        return
    if reward is None or state is not None or shard is not None:
        raise RecipeError(
            "--fit goes with --reward, and not with --state or --shard: it fits that reward's calibrations on the file"
        )
    check_writable(fit)


def _rows(path: Path | None, form: Form, pair: dict[str, Any] | None, output: Path | None, shard: str | None) -> Rows:
    """The rows to score; of a Parquet file that becomes another, only the columns that scorers see are decoded."""
    from medrft.rewards.parquet_rows import check_columns
    from medrft.rewards.row_files import PARQUET, Rows
    from medrft.rewards.rows import FIELDS
    from medrft.rewards.shards import read_shard

    if shard is not None and path is None:
        raise DataError("--shard splits a file of rows; there is one pair alone")
    found = Rows(path, form, pair, shard=None if shard is None else read_shard(shard))
    if path is not None and found.is_parquet:
        to_parquet = output is not None and output.suffix == PARQUET
        check_columns(path, as_json=not to_parquet)
        found = replace(found, columns=FIELDS if to_parquet else None)
    return found


def _sink(rows: Rows, work: Scoring, output: Path | None, explain: bool) -> MakeSink:
    """What makes the writer for the output; raises `DataError` for rows that do not fit into Parquet."""
    from medrft.cli.scored_output import JsonLines
    from medrft.rewards.parquet_rows import ScoredParquet, schema_of, score_fields
    from medrft.rewards.row_files import PARQUET

    if output is None or output.suffix != PARQUET:
        return JsonLines
    made = score_fields([judge.name for judge in work.judges], work.reward, why=explain)
    if rows.is_parquet:
        return partial(ScoredParquet, made=made, source=rows.path)
    # Of all rows, because the shards of one file must have one schema.
    columns = schema_of(line.table for line in rows.whole() if line.row is not None)
    return partial(ScoredParquet, made=made, columns=columns)


def join_outputs(rows: Path | None, output: Path | None, shards: int, *, alone: bool, json_: bool) -> None:
    """Put the outputs of all shards together; `alone` says that no option was given that scores."""
    from medrft.rewards.join_shards import join_shards

    if rows is None or output is None or not alone:
        raise RecipeError("--join scores nothing; it takes the file of rows, --output and the number of shards alone")
    path, _ = _source(rows, None, None, None)
    assert path is not None
    check_writable(output)
    joined = join_shards(path, output, shards)
    if json_:
        print_json({"rows": joined.rows, "left_out": joined.left_out})
        return
    listed = f", {joined.left_out:,} rows left out" if joined.left_out else ""
    err.print(f"{joined.rows:,} rows of {shards} shards in {output}{listed}", highlight=False, soft_wrap=True)
    say_next("medrft score --show armed_clinical", "what a reward is made of")


def build_scorers(names: Sequence[str], encoder: str | None, lexicon: Sequence[str], options: Options) -> list[Scorer]:
    """Build the scorers that are named."""
    from medrft.config import ClinicalConfig
    from medrft.scorers import build_scorer
    from medrft.scorers.clinical.own import own_lexicon

    clinical = ClinicalConfig(lexicon=tuple(lexicon))
    if lexicon:
        own_lexicon(clinical.lexicon)  # a bad file is told even if no scorer is clinical
    return [
        build_scorer(name, encoder=_encoder_config(encoder), clinical=clinical, **options.get(name, {}))
        for name in names
    ]


def _encoder_config(name: str | None) -> EncoderConfig:
    from medrft.config import EncoderConfig

    return EncoderConfig(id=name) if name else EncoderConfig()


def build_scored(
    spec: str, encoder: str | None, lexicon: Sequence[str], options: Options
) -> tuple[Reward, dict[str, Any], dict[str, Any]]:
    """The reward of a preset or YAML file, facts to print about it, and the settings that its scores depend on."""
    from medrft.rewards.named import load_reward

    found = load_reward(spec, encoder=encoder, lexicon=lexicon, options=options)
    return found.reward, {"reward": spec, "encoder": found.encoder}, found.file.settings()


def scorer_options(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`["judge.model=m"]` as options by scorer.

    >>> scorer_options(["judge.model=qwen3", "judge.retries=1"])
    {'judge': {'model': 'qwen3', 'retries': 1}}
    """
    from medrft.recipes import parse_set

    found: dict[str, dict[str, Any]] = {}
    for key, value in parse_set(assignments).items():
        scorer, dot, name = key.rpartition(".")
        if not dot:
            raise RecipeError(f"--option takes SCORER.OPTION=VALUE, got {key!r}; for example --option judge.model=m")
        found.setdefault(scorer, {})[name] = value
    return found


def show_reward(spec: str, encoder: str | None, json_: bool) -> None:
    """Print a reward's parts, weights, calibrations and gate; builds no scorer."""
    from medrft.rewards import resolve_stacks
    from medrft.rewards.named import read_reward

    found = read_reward(spec, encoder=encoder)
    config, stacks = found.encoder, resolve_stacks(found.table)
    if json_:
        print_json({"encoder": config.id, "stacks": {key: stack.model_dump() for key, stack in stacks.items()}})
        return
    for key, stack in stacks.items():
        kinds = "all kinds" if key == "all" else key
        _show_stack(stack, title=f"{spec} ({kinds}; {stack.combine}; encoder {config.id})")
    say_next(f"medrft audit --reward {shlex.quote(spec)}", "can it be learned from, can it be hacked")


def _show_stack(stack: Any, *, title: str) -> None:
    from medrft.rewards.calibrations import build_calibration

    table = Table(title=title, title_justify="left")
    for column in ("part", "weight", "calibration", "options"):
        table.add_column(column)
    calibrations = [build_calibration(part.calibrate, scorer=part.scorer) for part in stack.parts]
    for part, calibration in zip(stack.parts, calibrations, strict=True):
        settings = {k: v for k, v in calibration.describe().items() if k not in ("kind", "threshold")}
        inside = ", ".join(f"{k} {v}" for k, v in settings.items())
        words = calibration.kind + (f" ({inside})" if inside else "")
        table.add_row(part.scorer, f"{part.weight:.4g}", words, str(part.options or ""))
    out.print(table)
    if any(calibration.kind == "adaptive" for calibration in calibrations):
        out.print("adaptive: the settings are unpublished; these are not the authors' values")
    out.print(f"gate: {stack.gate.rule}" if stack.gate else "gate: none")


def _source(
    path: Path | None, reference: str | None, answer: str | None, question: str | None
) -> tuple[Path | None, dict[str, Any] | None]:
    """The file of rows, or the row that `--reference` and `--answer` make; raises `DataError` for both or none."""
    if reference is not None and answer is not None and path is None:
        return None, {"reference": reference, "answer": answer, **({"question": question} if question else {})}
    if path is None or reference is not None or answer is not None:
        raise DataError("give a file of rows, or both --reference and --answer")
    if path.suffix.lower() in OTHERS and path.is_file():
        from medrft.evaluation.rescore.foreign import WRITERS  # needs more than a plain install

        typed = f"medrft rescore {WRITERS.get(path.suffix.lower(), 'jsonl')} {shlex.quote(str(path))}"
        raise DataError(f"medrft score reads JSON lines and .parquet, not {path.suffix}; {typed} reads it")
    if not path.is_file():
        raise DataError(f"no file at {path}; rows are JSON objects, one a line")
    return path, None
