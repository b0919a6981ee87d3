"""What goes wrong in a GRPO stage: rows of `metrics.jsonl` go in, a reading for each cause comes out.

Each cause is one entry of `CAUSES`, with its number, its threshold and its advice. For example, `truncation` is on
while the mean of `truncated` over the newest rows is at least 0.1. Only logged numbers are read, so that a training run
and `medrft doctor` afterwards say the same. docs/monitor.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

Row = Mapping[str, Any]
Readings = dict[str, float]
"""What was measured, by part of the reward; `""` stands for the whole stage, `reward` for the whole reward."""

FLOOR = 0.01
"""A group whose rewards have a smaller standard deviation teaches noise: TRL scales it up to advantages around 1."""
START = 5
"""How many first rows of a stage later ones are compared with."""
LEAST = 5
"""How many values a cause needs before it is checked, or as many as its window if that is shorter."""
DONE = 0.9
"""If a part pays this share of completions its most, it does not spread because nothing is left to improve."""
FORMAT_SATURATED, FORMAT_LOW = 0.95, 0.9
"""Shares of completions with the best form: from the first on it is learned, below the second it was not yet."""
TOKENS = 8
"""A change of length by fewer tokens does not count."""


@dataclass(frozen=True, slots=True)
class Window:
    """The first rows of a stage and its newest ones, of which `size` are read together.

    A row that lacks a number, as for a step that reused a generation batch, does not count among the `size`.
    """

    start: Sequence[Row]
    recent: Sequence[Row]
    size: int

    def mean(self, key: str) -> float | None:
        """Mean of the newest values; `None` if there are too few."""
        return _mean(_values(self.recent, key)[-self.size :], least=min(LEAST, self.size))

    def since_start(self, key: str) -> tuple[float, float] | None:
        """The mean of the first values, and that of the newest ones after them; `None` if there are too few."""
        later = [row for row in self.recent if row["step"] > self.start[-1]["step"]]
        before = _mean(_values(self.start, key), least=1)
        after = _mean(_values(later, key)[-self.size :], least=LEAST)
        return None if before is None or after is None else (before, after)

    def names(self, prefix: str, suffix: str) -> list[str]:
        """The parts of the reward that have a number `<prefix><part><suffix>`, in order."""
        keys = (key for row in self.recent for key in row if key.startswith(prefix) and key.endswith(suffix))
        return list(dict.fromkeys(key[len(prefix) : len(key) - len(suffix)] for key in keys))

    def by_part(self, prefix: str, suffix: str) -> Readings | None:
        """The mean of a number for each part that has enough values; `None` if no part has."""
        means = {name: self.mean(f"{prefix}{name}{suffix}") for name in self.names(prefix, suffix)}
        return {name: mean for name, mean in means.items() if mean is not None} or None


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One thing that goes wrong, how it is measured and what to do about it."""

    name: str
    measured: str
    """What the number is, in words that a warning can quote."""
    beyond: Literal["above", "below"]
    threshold: float
    window: int = 10
    """How many of the newest values are read together."""
    needs: str
    """What the log must have for this cause to be checked, in words."""
    advice: str
    measure: Callable[[Window], Readings | None]
    """Returns `None` if it cannot be checked yet."""

    def holds(self, value: float, *, already: bool = False) -> bool:
        """Whether `value` is beyond the threshold.

        A cause that is on (`already`) only ends once the value is back by a fifth of the threshold, so that it does not
        go on and off around it.
        """
        slack = 0.2 * abs(self.threshold) if already else 0.0
        if self.beyond == "above":
            return value >= self.threshold - slack
        return value < self.threshold + slack

    def read(self, start: Sequence[Row], rows: Sequence[Row]) -> Readings | None:
        """The readings at the newest of `rows`; `start` are the stage's first rows."""
        return self.measure(Window(start, rows, self.window))


def stage_number(key: str) -> Callable[[Window], Readings | None]:
    """Measures one number of the whole stage."""

    def measure(window: Window) -> Readings | None:
        mean = window.mean(key)
        return None if mean is None else {"": mean}

    return measure


def reward_and_parts(key: str, suffix: str) -> Callable[[Window], Readings | None]:
    """Measures a number of the reward, and of its parts if it has several.

    Parts that pay nearly all completions their most are left out (`DONE`).
    """

    def measure(window: Window) -> Readings | None:
        mean = window.mean(key)
        parts = window.by_part("part/", suffix) or {}
        if mean is None:
            return None
        found = {"reward": mean}
        if len(parts) > 1:
            found |= {name: value for name, value in parts.items() if (window.mean(f"part/{name}/top") or 0) < DONE}
        return found

    return measure


def each_part(prefix: str, suffix: str) -> Callable[[Window], Readings | None]:
    """Measures a number of each part."""
    return lambda window: window.by_part(prefix, suffix)


def format_without_gain(window: Window) -> Readings | None:
    """The rise of correctness since the start, for each part about form that rose to its top meanwhile."""
    correct = window.since_start("correct")
    formats = {name: window.since_start(f"format/{name}") for name in window.names("format/", "")}
    known = {name: ends for name, ends in formats.items() if ends is not None}
    if correct is None or not known:
        return None
    rise = correct[1] - correct[0]
    return {name: rise for name, (low, high) in known.items() if low < FORMAT_LOW and high >= FORMAT_SATURATED}


def length_factor(window: Window) -> Readings | None:
    """The factor by which the length has changed since the start, up or down; always 1 or more."""
    ends = window.since_start("completion_length")
    if ends is None:
        return None
    low, high = max(min(ends), 1e-9), max(ends)
    return {"": high / low if high - low >= TOKENS else 1.0}


def same_answers(window: Window) -> Readings | None:
    """How much more often two questions get the same answer than they have the same reference."""
    same, expected = window.mean("same_answer"), window.mean("same_reference")
    return None if same is None or expected is None else {"": same - expected}


CAUSES: tuple[Cause, ...] = (
    Cause(
        name="spread_floor",
        measured="standard deviation within the groups",
        beyond="below",
        threshold=FLOOR,
        needs="groups with two scored answers",
        advice="GRPO blows so small a spread up to full advantages; use a reward that tells these answers apart, "
        "harder or easier questions, or a higher temperature",
        measure=reward_and_parts("reward_std", "/calibrated_std"),
    ),
    Cause(
        name="ties",
        measured="share of pairs within the groups that earn exactly the same",
        beyond="above",
        threshold=0.9,
        needs="groups with two scored answers",
        advice="most comparisons teach nothing; use a graded part beside a yes-or-no one, larger groups, or questions "
        "that are neither always right nor always wrong",
        measure=reward_and_parts("ties", "/ties"),
    ),
    Cause(
        name="dominance",
        measured="share of the reward's within-group variance beyond the part's share of the weights",
        beyond="above",
        threshold=0.5,
        needs="two parts of the reward that spread",
        advice="the other parts hardly count; calibrate them, lower this part's weight, or set "
        "combine: normalize_then_sum",
        measure=each_part("part/", "/dominance"),
    ),
    Cause(
        name="calibration_saturated",
        measured="share of batches in which the calibration is stuck at a bound or crowds scores into one tail",
        beyond="above",
        threshold=0.8,
        needs="a part with a calibration that can saturate",
        advice="move t_min and t_max so that the raw scores lie between them, or use the quantile calibration",
        measure=each_part("calibration/", "/saturated"),
    ),
    Cause(
        name="truth_uncorrelated",
        measured="correlation of reward and truth within the groups",
        beyond="below",
        threshold=0.1,
        needs="data whose truth is known (the phantom), and groups with right and wrong answers",
        advice="the reward pays for something else than being right; look at wrong answers with a high reward, and "
        "audit the reward on this run's rollouts (medrft audit --run)",
        measure=stage_number("truth_correlation"),
    ),
    Cause(
        name="format_saturated",
        measured="rise of correctness since the start, while the format rose to its top",
        beyond="below",
        threshold=0.02,
        window=20,
        needs=f"a part about form, and correctness over {START + LEAST} logged steps",
        advice="the format is learned and pays no more; lower its weight, and make sure that the parts about the "
        "answer spread",
        measure=format_without_gain,
    ),
    Cause(
        name="truncation",
        measured="share of answers cut off at the token limit",
        beyond="above",
        threshold=0.1,
        needs="the share of answers cut off",
        advice="cut answers are judged as wrong; raise max_completion_length, or let the reward pay for shorter ones",
        measure=stage_number("truncated"),
    ),
    Cause(
        name="length_drift",
        measured="factor by which the length of answers has changed since the start",
        beyond="above",
        threshold=1.5,
        needs=f"lengths over {START + LEAST} logged steps",
        advice="look whether longer or shorter answers are better ones; if not, the reward pays for length: add a "
        "length part, or raise beta",
        measure=length_factor,
    ),
    Cause(
        name="entropy_floor",
        measured="entropy per token in nats",
        beyond="below",
        threshold=0.05,
        needs="the entropy, which TRL logs",
        advice="the policy says one thing only and has stopped exploring; raise the temperature or beta, lower the "
        "learning rate, or go back to an earlier checkpoint",
        measure=stage_number("entropy"),
    ),
    Cause(
        name="kl_runaway",
        measured="KL to the start model per token in nats",
        beyond="above",
        threshold=0.5,
        window=5,
        needs="the KL, which TRL measures only with beta above 0",
        advice="the policy has left its start model behind; lower the learning rate, raise beta, or set max_grad_norm "
        "lower",
        measure=stage_number("kl"),
    ),
    Cause(
        name="unscored",
        measured="share of answers without a reward",
        beyond="above",
        threshold=0.05,
        needs="the share of unscored answers",
        advice="they are left out of training; unscored_reason in the rollouts names the parts: mend the scorer, or "
        "take references out that it cannot score",
        measure=stage_number("unscored"),
    ),
    Cause(
        name="answer_collapse",
        measured="how much oftener two questions get the same answer than they have the same reference",
        beyond="above",
        threshold=0.3,
        needs="batches with two questions of one kind and readable answers",
        advice="one answer is taking over whatever is asked; look at it in the rollouts, balance the answers in the "
        "data, raise beta or the temperature",
        measure=same_answers,
    ),
    Cause(
        name="judge_outage",
        measured="share of answers that the endpoint gave no verdict on",
        beyond="above",
        threshold=0.1,
        window=3,
        needs="a part of the reward that asks an endpoint",
        advice="see that the endpoint is up and answers in time (timeout, retries, concurrency of the judge); answers "
        "without a verdict are left out of training",
        measure=each_part("part/", "/failed"),
    ),
)
"""All causes, in the order in which the user is told of them."""


KEYS = frozenset(
    {
        *("step", "reward_std", "ties", "truth_correlation", "correct", "truncated", "completion_length"),
        *("entropy", "kl", "unscored", "same_answer", "same_reference"),
    }
)
ENDS = ("/calibrated_std", "/ties", "/top", "/dominance", "/failed", "/saturated")


def is_read(key: str) -> bool:
    """Whether some cause may look at this number of a row."""
    return key in KEYS or key.endswith(ENDS) or key.startswith("format/")


def _values(rows: Sequence[Row], key: str) -> list[float]:
    values = [row.get(key) for row in rows]
    return [value for value in values if isinstance(value, int | float) and math.isfinite(value)]


def _mean(values: Sequence[float], *, least: int) -> float | None:
    return fmean(values) if len(values) >= least else None
