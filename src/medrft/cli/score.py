"""`medrft score`: scores and rewards of answers in a file, of one pair, or a preset's weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from medrft.cli.common import Json, err, out, print_json
from medrft.errors import DataError, RecipeError, unknown_name
from medrft.outgoing import is_private, refuse_private, servers_in

if TYPE_CHECKING:
    from medrft.config import EncoderConfig
    from medrft.rewards import Reward
    from medrft.rewards.rows import Row
    from medrft.types import Scorer

CHUNK = 4096
"""Rows scored at a time; changes no number."""

Options = Mapping[str, Mapping[str, Any]]

Input = Annotated[Path | None, typer.Argument(metavar="IN.jsonl", help="Rows with `reference`, `answer`/`completion`.")]
Scorers = Annotated[list[str] | None, typer.Option("--scorer", help="A scorer, or file.py:Name; may be repeated.")]
RewardName = Annotated[str | None, typer.Option("--reward", help="A preset, or a YAML file with a reward or a recipe.")]
Output = Annotated[Path | None, typer.Option(help="Where the scored rows go; standard output by default.")]
Show = Annotated[str | None, typer.Option(help="Print the parts and weights of a preset (or YAML file) and stop.")]
Explain = Annotated[bool, typer.Option("--explain", help="Print why: parts raw and calibrated, and what was compared.")]
State = Annotated[
    Path | None, typer.Option(help="Take calibrations from this run instead of fitting them on the file.")
]
FormName = Annotated[str, typer.Option("--form", help="Answer form of `completion` rows: think, direct or short.")]
EncoderName = Annotated[
    str | None, typer.Option("--encoder", help="Encoder of bertscore and cosine: hub id or folder.")
]
Option = Annotated[list[str] | None, typer.Option("--option", help="A scorer's option, SCORER.KEY=VALUE; repeatable.")]
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
    form: FormName = "think",
    encoder: EncoderName = None,
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
    """
    if show is not None:
        show_reward(show, encoder, json_)
        return
    if not scorer and reward is None:
        raise RecipeError("nothing to score with; pass --scorer NAME or --reward PRESET")
    from medrft.rewards.rows import FORMS, read_row

    known = {name: name for name in FORMS}
    if form not in known:
        raise unknown_name("form", form, FORMS)
    table = _read(rows, reference, answer, question)
    read = [read_row(row, where=where, form=known[form]) for where, row in table]
    options = scorer_options(option or [])
    judges = build_scorers(scorer or [], encoder, options)
    maker, facts = build(reward, encoder, options) if reward is not None else (None, {})
    results = _results(read, judges, maker, state, facts)
    made = [{**row, **result} for (_, row), result in zip(table, results, strict=True)]
    facts |= {"rows": len(made), "columns": summary(made)}
    facts |= {"encoder": _encoder_config(encoder).id} if "encoder" not in facts and judges else {}
    if explain:
        _explain(read, made, judges, maker, quiet=json_)
    _write(made, output, facts, json_=json_, quiet=explain)


def build_scorers(names: Sequence[str], encoder: str | None, options: Options) -> list[Scorer]:
    """The scorers by name."""
    from medrft.scorers import build_scorer

    return [build_scorer(name, encoder=_encoder_config(encoder), **options.get(name, {})) for name in names]


def _encoder_config(name: str | None) -> EncoderConfig:
    from medrft.config import EncoderConfig

    return EncoderConfig(id=name) if name else EncoderConfig()


def build(spec: str, encoder: str | None, options: Options) -> tuple[Reward, dict[str, Any]]:
    """The reward of a preset or YAML file, and what to say about it."""
    from medrft.rewards import build_reward

    table, config, shared = _load(spec, encoder)
    private = shared.pop("private")
    refuse_private(private, [*servers_in(table, "reward"), *servers_in(options, "--option")])
    reward = build_reward(table, encoder=config, options=options, **shared)
    return reward, {"reward": spec, "encoder": config.id}


def _load(spec: str, encoder: str | None) -> tuple[Any, EncoderConfig, dict[str, Any]]:
    """A reward's table with its encoder: of a preset's name, of a YAML file with a reward, or of a recipe."""
    from pydantic import ValidationError

    from medrft.config import CorrectConfig, EncoderConfig
    from medrft.recipes import read_yaml

    path = Path(spec)
    table: Any = spec
    whole: Mapping[str, Any] = {}
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"no reward file at {path}; pass a preset's name or a YAML file")
        table = read_yaml(path)
        if isinstance(table, Mapping) and "reward" in table:
            whole, table = table, table["reward"]
    try:
        config = EncoderConfig(**(whole.get("encoder") or {}))
        correct = CorrectConfig(**(whole.get("correct") or {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"{path}: {first['loc'][0]}: {first['msg']}") from error
    config = config.model_copy(update={"id": encoder}) if encoder else config
    return (
        table,
        config,
        {
            "base_dir": path.parent if path.suffix else None,
            "correct": correct,
            "private": is_private(whole),
        },
    )


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
            raise RecipeError(f"--option takes SCORER.KEY=VALUE, got {key!r}; for example --option judge.model=m")
        found.setdefault(scorer, {})[name] = value
    return found


def show_reward(spec: str, encoder: str | None, json_: bool) -> None:
    """Print a reward's parts, weights, calibrations and gate; builds no scorer."""
    from medrft.rewards import resolve

    table, config, _ = _load(spec, encoder)
    stacks = resolve(table)
    if json_:
        print_json({"encoder": config.id, "stacks": {key: stack.model_dump() for key, stack in stacks.items()}})
        return
    for key, stack in stacks.items():
        kinds = "all kinds" if key == "all" else key
        _show_stack(stack, title=f"{spec} ({kinds}; {stack.combine}; encoder {config.id})")


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
    gate = stack.gate
    out.print(f"gate: {gate.scorer} below {gate.below} makes the answer parts 0" if gate else "gate: none")


def _read(
    path: Path | None, reference: str | None, answer: str | None, question: str | None
) -> list[tuple[str, dict[str, Any]]]:
    """Rows with their place in words."""
    if reference is not None and answer is not None and path is None:
        return [
            ("the pair", {"reference": reference, "answer": answer, **({"question": question} if question else {})})
        ]
    if path is None or reference is not None or answer is not None:
        raise DataError("give a file of rows, or both --reference and --answer")
    from medrft.rundir import read_jsonl

    if not path.is_file():
        raise DataError(f"no file at {path}; rows are JSON objects, one a line")
    with path.open(encoding="utf-8") as file:
        lines = [number for number, line in enumerate(file, 1) if line.strip()]
    rows = [(f"{path}, line {number}", row) for number, row in zip(lines, read_jsonl(path), strict=True)]
    if not rows:
        raise DataError(f"{path} holds no row")
    return rows


def _results(
    rows: Sequence[Row], judges: Sequence[Scorer], reward: Reward | None, state: Path | None, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """What is added to each row; raw scores first, the batch's calibration once on all of them."""
    from medrft.rewards.rows import groups_of, written
    from medrft.rewards.state import load_state

    raws, scores = [], []
    for start in range(0, len(rows), CHUNK):
        items = [row.item for row in rows[start : start + CHUNK]]
        columns = {judge.name: judge(items) for judge in judges}
        scores += [{name: column[i] for name, column in columns.items()} for i in range(len(items))]
        raws += reward.score(items) if reward is not None else []
    if reward is None:
        return [{"scores": row} for row in scores]
    if state is not None:
        facts["calibration"] = f"state of {load_state(reward, state)}"
    else:
        reward.fit(raws)
        facts["calibration"] = f"fitted once on these {len(rows)} rows"
    outcomes = reward.combine(raws, groups=groups_of(rows) if reward.needs_groups else None)
    made = [written(outcome, reward.weights(raw.kind)) for outcome, raw in zip(outcomes, raws, strict=True)]
    return [{**row, "scores": {**row["scores"], **own}} for row, own in zip(made, scores, strict=True)]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per column: n, mean over the scored, and how many are null."""
    names = list(dict.fromkeys(name for row in rows for name in row["scores"]))
    columns = {name: [row["scores"].get(name) for row in rows] for name in names}
    if rows and "reward" in rows[0]:
        columns["reward"] = [row["reward"] for row in rows]
    found = {}
    for name, column in columns.items():
        values = [value for value in column if value is not None]
        mean = sum(values) / len(values) if values else None
        found[name] = {"n": len(values), "mean": mean, "null": len(column) - len(values)}
    return found


def _write(
    rows: Sequence[Mapping[str, Any]], output: Path | None, facts: dict[str, Any], *, json_: bool, quiet: bool
) -> None:
    """Rows to the file or standard output, the summary to the other."""
    from medrft.rundir import write_jsonl

    if output is not None:
        write_jsonl(output, list(rows))
    if json_:
        print_json(facts if output is not None else {**facts, "scored": list(rows)})
        return
    if output is None and not quiet:
        sys.stdout.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    table = Table(title=", ".join(f"{k}: {v}" for k, v in facts.items() if k != "columns"), title_justify="left")
    for column in ("score", "n", "mean", "null"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for name, column in facts["columns"].items():
        mean = "" if column["mean"] is None else f"{column['mean']:.4f}"
        table.add_row(name, str(column["n"]), mean, str(column["null"]))
    err.print(table)
    if output is not None:
        err.print(f"{len(rows)} rows in {output}")


def _explain(
    rows: Sequence[Row], made: list[dict[str, Any]], judges: Sequence[Scorer], reward: Reward | None, *, quiet: bool
) -> None:
    """Add to each row why it got what it got, and print it unless `quiet`."""
    from medrft.rewards.explain import explain_row

    for number, (row, result) in enumerate(zip(rows, made, strict=True), 1):
        item = row.item
        result["why"] = explain_row(item, result, scorers=judges, reward=reward)
        if quiet:
            continue
        title = f"{number} reference {list(item.references)!r}, answer {item.answer!r}"
        out.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
        for line in result["why"]:
            out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
