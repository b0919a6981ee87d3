"""Makes the charts of a stage from its rows of `metrics.jsonl`; each comes with a sentence for someone new.

GRPO's loss is not among them: its advantages sum to zero within each group, so the loss stays near zero whatever is
learned and says nothing about progress.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medrft.errors import naming_extras
from medrft.evaluation.run_files import Row, series_of
from medrft.report.charts import Series, line_chart
from medrft.report.wording import metric_label, percent_share, plain_number
from medrft.training.timing.slowest import measure_speed

with naming_extras():
    from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One quantity of `metrics.jsonl` and how to show it."""

    key: str
    title: str
    says: str
    spread: str | None = None
    """Key of the width of its band."""
    at_least: float = 0.1
    """The vertical scale spans at least this much."""
    floor: float | None = None
    ceiling: float | None = None
    share: bool = False
    """Whether it is a share of completions or groups, to be shown in percent."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart ready for the page."""

    title: str
    says: str
    chart: Markup
    notes: tuple[str, ...]
    """What the numbers did, for instance `0.41 → 0.63`."""
    legend: tuple[tuple[str, int], ...] = ()
    """Names and colours where there are several lines."""


def _share(key: str, title: str, says: str) -> Curve:
    return Curve(key=key, title=title, says=says, at_least=0.2, floor=0.0, ceiling=1.0, share=True)


REWARD = Curve(
    key="reward",
    spread="reward_std",
    title="Reward",
    says="What training pays for. Line: mean over answers. Band: the usual spread between answers to one question; "
    "GRPO learns only from that spread.",
    at_least=0.2,
)
OUTCOMES = (
    _share("correct", "Correct", "Share of training answers that meet the recipe's own yes-or-no test."),
    _share(
        "truth",
        "Oracle accuracy",
        "Share of training answers that the phantom's oracle, not the reward, calls right.",
    ),
)
HEALTH = (
    _share(
        "near_zero_spread",
        "Groups without spread",
        "Share of questions whose answers all earned (nearly) the same: nothing is learned from them.",
    ),
    Curve(
        key="kl",
        title="KL to the start model",
        says="How far the model has moved from where this stage began. A sudden rise is a warning.",
        at_least=0.01,
        floor=0.0,
    ),
    Curve(
        key="entropy",
        title="Entropy",
        says="How undecided the model is per token. Near zero it says the same thing every time and stops exploring.",
        at_least=0.1,
        floor=0.0,
    ),
    Curve(
        key="grad_norm",
        title="Gradient norm",
        says="Size of each update before clipping. Spikes mean unstable steps; zero means nothing is learned.",
        at_least=0.1,
        floor=0.0,
    ),
    Curve(
        key="completion_length",
        title="Length",
        says="Tokens per answer. Growth without better answers suggests the length itself is being paid for.",
        at_least=8,
        floor=0.0,
    ),
    _share("looks", "Looks", "Share of thoughts that first say what lies on each side, where the question takes both."),
    _share("truncated", "Cut off", "Share of answers that hit the token limit before they ended."),
    _share("no_answer", "No readable answer", "Share of answers without exactly one answer in the form asked for."),
    _share(
        "failed", "Failed", "Share of answers on which something failed: a scorer, a judge, a picture that vanished."
    ),
    _share("unscored", "Unscored", "Share of answers that a scorer could not judge; they are left out of training."),
    _share(
        "calibration_saturated",
        "Calibration saturated",
        "Share of calibrations stuck at a bound or with nearly all scores in one tail: they no longer spread scores.",
    ),
    _share("gate", "Gate closed", "Share of answers whose reward the clinical gate took away."),
)
SFT = (
    Curve(
        key="loss",
        title="Loss",
        says="How surprised the model is by the right answer, per token. It should fall and then settle.",
        at_least=0.1,
        floor=0.0,
    ),
    _share("mean_token_accuracy", "Token accuracy", "Share of the taught tokens that the model would have chosen."),
    next(curve for curve in HEALTH if curve.key == "grad_norm"),
    next(curve for curve in HEALTH if curve.key == "entropy"),
)
SPEED = (
    Curve(
        key="tokens_per_second",
        title="Tokens a second",
        says="Tokens that a step writes (GRPO) or reads (SFT), by the seconds that the whole step takes.",
        at_least=1.0,
        floor=0.0,
    ),
    _share("mfu", "Share of the peak", "What the model's own arithmetic takes of the most that the GPU can do."),
    _share("reward_wait", "Waiting for the reward", "Share of a step in which training stands still for the reward."),
    _share("idle_slots", "Idle places", "Share of the rollouts' places, token by token, without a completion."),
)
LINES = 6
"""The most parts of a step that are drawn one by one."""
FEW = 5
"""With fewer logged values than this, no trend can be seen."""
QUIET = ("failed", "unscored", "gate", "no_answer", "calibration_saturated")
"""Shares that get a chart only if they were ever above zero."""


def stage_panels(rows: Sequence[Row], *, kind: str) -> list[Panel]:
    """The charts of one stage of `kind` (`sft` or `grpo`); quantities that were not logged get none."""
    train = [row for row in rows if row.get("split", "train") == "train"]
    validation = [row for row in rows if row.get("split") == "validation"]
    speed = [_panel(curve, train, []) for curve in SPEED]
    if kind == "sft":
        panels = [*(_panel(curve, train, validation) for curve in SFT), time_panel(train), *speed]
        return [panel for panel in panels if panel is not None]
    found = [_panel(curve, train, validation) for curve in (REWARD, *OUTCOMES)]
    parts = part_names(train)
    found += [_panel(_part(train, name), train, []) for name in parts]
    found += [spread_panel(train, parts), threshold_panel(train, parts)]
    found += [_panel(curve, train, validation if curve.key == "kl" else []) for curve in HEALTH]
    found += [time_panel(train), *speed]
    return [panel for panel in found if panel is not None]


def part_names(rows: Sequence[Row]) -> list[str]:
    """Parts of the reward in the order they were logged."""
    keys = (key for row in rows for key in row if key.startswith("part/"))
    return list(dict.fromkeys(key.split("/")[1] for key in keys))


def _is_calibrated(rows: Sequence[Row], name: str) -> bool:
    """Whether a calibration changed this part's scores."""
    raw, calibrated = f"part/{name}/raw", f"part/{name}/calibrated"
    pairs = [(row.get(raw), row.get(calibrated)) for row in rows]
    return any(a is not None and b is not None and abs(a - b) > 1e-9 for a, b in pairs)


def _part(rows: Sequence[Row], name: str) -> Curve:
    calibrated = _is_calibrated(rows, name)
    stage = "calibrated" if calibrated else "raw"
    how = ", after calibration: what the reward adds up" if calibrated else ""
    penalty = any((row.get(f"part/{name}/{stage}") or 0) < 0 for row in rows)
    return Curve(
        key=f"part/{name}/{stage}",
        spread=f"part/{name}/{stage}_std",
        title=f"Part: {metric_label(name)}",
        says=f"This part of the reward{how}. Line: mean. Band: spread between answers to one question.",
        at_least=0.2,
        floor=-1.0 if penalty else 0.0,
        ceiling=0.0 if penalty else 1.0,
    )


def _panel(curve: Curve, train: Sequence[Row], validation: Sequence[Row]) -> Panel | None:
    """The chart of one quantity on train, with validation if that was measured; `None` without values."""
    if curve.key in QUIET and not any(row.get(curve.key) for row in [*train, *validation]):
        return None
    both = (_series("train", train, curve, color=0), _series("validation", validation, curve, color=1))
    lines = [line for line in both if line is not None]
    if not lines:
        return None
    chart = line_chart(
        lines,
        label=f"{curve.title} by step",
        at_least=curve.at_least,
        floor=curve.floor,
        ceiling=curve.ceiling,
        write=percent_share if curve.share else plain_number,
    )
    legend = tuple((line.name, line.color) for line in lines) if len(lines) > 1 else ()
    return Panel(title=curve.title, says=curve.says, chart=chart, notes=tuple(_notes(curve, lines)), legend=legend)


def _series(name: str, rows: Sequence[Row], curve: Curve, *, color: int) -> Series | None:
    """One line, with its band if every step has a width for it; `None` without values."""
    steps, values = series_of(rows, curve.key)
    if not values:
        return None
    widths = dict(zip(*series_of(rows, curve.spread), strict=True)) if curve.spread and name == "train" else {}
    spread = [widths[step] for step in steps] if all(step in widths for step in steps) else None
    return Series(name=name, steps=steps, values=values, spread=spread, color=color)


def spread_panel(rows: Sequence[Row], parts: Sequence[str]) -> Panel | None:
    """One chart of the spread within groups: the reward and all its parts; `None` with fewer than two lines."""
    keys = [("reward", "reward_std")]
    for name in parts:
        stage = "calibrated" if _is_calibrated(rows, name) else "raw"
        keys.append((name, f"part/{name}/{stage}_std"))
    lines = []
    for color, (name, key) in enumerate(keys):
        steps, values = series_of(rows, key)
        if values:
            lines.append(Series(name=metric_label(name), steps=steps, values=values, color=color % 7))
    if len(lines) < 2:
        return None
    return Panel(
        title="Spread within groups",
        says="Standard deviation between answers to one question. A part whose line sinks to zero has collapsed: it "
        "no longer tells answers apart.",
        chart=line_chart(lines, label="spread within groups by step", at_least=0.05, floor=0.0),
        notes=(),
        legend=tuple((line.name, line.color) for line in lines),
    )


def threshold_panel(rows: Sequence[Row], parts: Sequence[str]) -> Panel | None:
    """One chart of the thresholds of adaptive calibrations; `None` without any."""
    lines = []
    for color, name in enumerate(parts):
        steps, values = series_of(rows, f"calibration/{name}/threshold")
        if values:
            lines.append(Series(name=metric_label(name), steps=steps, values=values, color=color % 7))
    if not lines:
        return None
    return Panel(
        title="Calibration thresholds",
        says="Raw score that an adaptive calibration maps to one half. It follows the scores as the model gets better.",
        chart=line_chart(lines, label="calibration thresholds by step", at_least=0.1, floor=0.0, ceiling=1.0),
        notes=(),
        legend=tuple((line.name, line.color) for line in lines),
    )


def time_panel(rows: Sequence[Row]) -> Panel | None:
    """One chart of the seconds of a step by part, the longest parts; `None` for a log without times."""
    speed = measure_speed(rows, stage="")
    if speed is None:
        return None
    lines = []
    for color, name in enumerate(name for name in list(speed.parts)[:LINES] if speed.parts[name]):
        steps, values = series_of(rows, f"time/{name}")
        lines.append(Series(name=name, steps=steps, values=values, color=color))
    share = speed.parts[speed.slowest] / speed.seconds
    return Panel(
        title="Seconds of a step",
        says=f"Where the time of a step goes. Slowest is {speed.slowest}: {speed.advice}.",
        chart=line_chart(lines, label="seconds of a step by part", at_least=0.01, floor=0.0),
        notes=(f"{plain_number(speed.seconds)} s a step", f"{speed.slowest} {percent_share(share)}"),
        legend=tuple((line.name, line.color) for line in lines),
    )


def short_log(rows: Sequence[Row]) -> str:
    """A warning if a stage logged too few values to show a trend; else empty."""
    count = sum(row.get("split", "train") == "train" for row in rows)
    if not 0 < count < FEW:
        return ""
    return f"Only {count} value{'' if count == 1 else 's'} per curve: too few to show a trend."


def _notes(curve: Curve, lines: Sequence[Series]) -> Iterator[str]:
    """The first and last values of each line, and "nearly constant" for one that shows nothing."""
    write = percent_share if curve.share else plain_number
    for line in lines:
        name = f"{line.name} " if len(lines) > 1 else ""
        first, last = _ends(line.values)
        if len(line.values) == 1:
            yield f"{name}{write(first)} (one value)"
        else:
            yield f"{name}{write(first)} → {write(last)}"
        if line.spread and len(line.spread) > 1:
            begin, end = _ends(line.spread)
            yield f"spread {write(begin)} → {write(end)}"
        if len(line.values) >= FEW and max(line.values) - min(line.values) < 0.05 * curve.at_least:
            yield "nearly constant"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last tenth of the values."""
    size = max(1, len(values) // 10)
    return sum(values[:size]) / size, sum(values[-size:]) / size
