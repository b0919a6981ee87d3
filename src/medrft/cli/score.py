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
from medrft.errors import DataError, RecipeError

if TYPE_CHECKING:
    from medrft.rewards import Reward
    from medrft.rewards.rows import Row
    from medrft.types import Scorer

CHUNK = 4096
"""Rows scored between two steps of the progress bar; changes no number."""

Input = Annotated[
    Path | None, typer.Argument(metavar="IN.jsonl", help="Rows with `reference` and `answer` or `completion`.")
]
Scorers = Annotated[list[str] | None, typer.Option("--scorer", help="A scorer, or file.py:Name; may be repeated.")]
RewardName = Annotated[str | None, typer.Option("--reward", help="A preset, or a YAML file with a reward or a recipe.")]
Output = Annotated[Path | None, typer.Option(help="Where the scored rows go; standard output by default.")]
Show = Annotated[str | None, typer.Option(help="Print the parts and weights of a preset (or YAML file) and stop.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Print why: each part raw and calibrated, and what was compared.")
]
State = Annotated[
    Path | None, typer.Option(help="Take calibrations from this run instead of fitting them on the file.")
]
Form = Annotated[str, typer.Option(help="Answer form of `completion` rows: think, direct or short.")]
EncoderName = Annotated[
    str | None, typer.Option("--encoder", help="Encoder of bertscore and cosine: a hub id or folder.")
]
Pair = Annotated[str | None, typer.Option(help="Score one pair instead of a file, with the other of the two.")]
Question = Annotated[str | None, typer.Option(help="The question of the one pair.")]


def score(
    rows: Input = None,
    scorer: Scorers = None,
    reward: RewardName = None,
    output: Output = None,
    show: Show = None,
    explain: Explain = False,
    state: State = None,
    form: Form = "think",
    encoder: EncoderName = None,
    reference: Pair = None,
    answer: Pair = None,
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
    table = _read(rows, reference, answer, question)
    from medrft.rewards.rows import read_row

    read = [read_row(row, where=where, form=form) for where, row in table]  # type: ignore[arg-type]
    judges = build_scorers(scorer or [], encoder)
    maker, facts = build(reward, encoder) if reward is not None else (None, {})
    results = _results(read, judges, maker, state, facts)
    made = [{**row, **result} for (_, row), result in zip(table, results, strict=True)]
    facts |= {"rows": len(made), "columns": summary(made)}
    if explain:
        _explain(read, made, judges, maker)
    _write(made, output, facts, json_=json_, quiet=explain)


def build_scorers(names: Sequence[str], encoder: str | None) -> list[Scorer]:
    """The scorers by name."""
    from medrft.config import EncoderConfig
    from medrft.scorers import build_scorer

    config = EncoderConfig(id=encoder) if encoder else EncoderConfig()
    return [build_scorer(name, encoder=config) for name in names]


def build(spec: str, encoder: str | None) -> tuple[Reward, dict[str, Any]]:
    """The reward of a preset or YAML file, and what to say about it."""
    import yaml

    from medrft.config import EncoderConfig
    from medrft.rewards import build_reward

    path = Path(spec)
    table: Any = spec
    config = EncoderConfig()
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"no reward file at {path}; pass a preset's name or a YAML file")
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        whole = isinstance(loaded, Mapping) and "reward" in loaded
        table = loaded["reward"] if whole else loaded
        config = EncoderConfig(**(loaded.get("encoder") or {})) if whole else config
    if encoder:
        config = config.model_copy(update={"id": encoder})
    reward = build_reward(table, encoder=config, base_dir=path.parent if path.suffix else None)
    return reward, {"reward": spec, "encoder": config.id}


def show_reward(spec: str, encoder: str | None, json_: bool) -> None:
    """Print a reward's parts, weights, calibrations and gate."""
    reward, _ = build(spec, encoder)
    described = reward.describe()
    if json_:
        print_json(described)
        return
    for key, stack in described["stacks"].items():
        table = Table(
            title=f"{spec} ({'all kinds' if key == 'all' else key}; {stack['combine']})", title_justify="left"
        )
        for column in ("part", "weight", "calibration", "encoder"):
            table.add_column(column)
        for part in stack["parts"]:
            settings = {k: v for k, v in part["calibrate"].items() if k not in ("kind", "threshold")}
            inside = ", ".join(f"{k} {v}" for k, v in settings.items())
            words = part["calibrate"]["kind"] + (f" ({inside})" if inside else "")
            table.add_row(part["name"], f"{part['weight']:.4g}", words, str(part.get("encoder") or ""))
        out.print(table)
        gate = stack["gate"]
        if any(part["calibrate"]["kind"] == "adaptive" for part in stack["parts"]):
            out.print("adaptive: the settings are unpublished; these are not the authors' values")
        out.print(f"gate: {gate['scorer']} below {gate['below']} makes the answer parts 0" if gate else "gate: none")


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
    lines = [number for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if line.strip()]
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
    rows: Sequence[Row], made: Sequence[Mapping[str, Any]], judges: Sequence[Scorer], reward: Reward | None
) -> None:
    """Print why each row got what it got."""
    from medrft.rewards.explain import explain_outcome, explain_scorer

    for number, (row, result) in enumerate(zip(rows, made, strict=True), 1):
        item = row.item
        out.print(f"[bold]{number}[/bold]", end=" ")
        out.print(f"reference {list(item.references)!r}, answer {item.answer!r}", markup=False, highlight=False)
        lines = [line for judge in judges for line in explain_scorer(judge, item, result["scores"][judge.name])]
        if reward is not None:
            lines += explain_outcome(reward, item, result)
        for line in lines:
            out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
