"""Watches a GRPO stage: rows of its log go in, one at a time, and a `Finding` comes out when a cause begins.

    truncation (grpo, step 40): share of answers cut off at the token limit 0.14 (warns at least 0.1); cut answers are …

The trainer feeds it while it trains, and `medrft doctor` feeds it the rows of `metrics.jsonl` afterwards, with the same
result. It needs no torch, so that `doctor` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medrft.training.monitor.causes import CAUSES, LEAST, START, Cause, Row, is_read

KEPT = 2 * max(cause.window for cause in CAUSES)
"""How many of the newest rows are kept: if each batch is used twice, only every second row has all numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One cause that began at a step: of the reward, of one of its parts, or of the whole stage."""

    cause: str
    part: str
    """`reward`, a part's name, or empty for the whole stage."""
    stage: str
    step: int
    last: int
    """The last step at which it was on."""
    ended: bool = False
    measured: float
    """The value when it began."""
    worst: float
    threshold: float
    beyond: str
    """On which side of the threshold the cause is on, `above` or `below`."""
    says: str
    """What was measured, in words."""
    advice: str

    def line(self) -> str:
        """The warning in one line, for people."""
        steps = f"step {self.step}" if self.last == self.step else f"steps {self.step} to {self.last}"
        limit = f"at least {self.threshold:g}" if self.beyond == "above" else f"below {self.threshold:g}"
        worst = "" if self.worst == self.measured else f", at worst {self.worst:.3g}"
        of = f" of {self.part}" if self.part else ""
        return (
            f"{self.cause}{of} ({self.stage}, {steps}): {self.says} {self.measured:.3g}{worst} "
            f"(warns {limit}); {self.advice}"
        )

    def row(self) -> dict[str, Any]:
        """The row of `warnings.jsonl`: what was known when it began."""
        return {key: value for key, value in asdict(self).items() if key not in ("last", "ended", "worst")}


class Watch:
    """Checks each logged step of one stage against the causes; `on` has those that are on, by cause and part."""

    def __init__(self, stage: str, *, state: Mapping[str, Any] | None = None):
        self.stage = stage
        self.start: list[Row] = []
        self.recent: list[Row] = []
        self.on: dict[tuple[str, str], float] = {}
        self.checked: set[str] = set()
        if state is not None:
            self.load_state_dict(state)

    def take(self, step: int, row: Row) -> list[Finding]:
        """Take one training row of the log; returns the causes that begin with it."""
        kept = {key: value for key, value in row.items() if is_read(key)} | {"step": step}
        if len(self.start) < START:
            self.start.append(kept)
        self.recent = [*self.recent, kept][-KEPT:]
        return [finding for cause in CAUSES for finding in self._check(cause, step)]

    def _check(self, cause: Cause, step: int) -> list[Finding]:
        readings = cause.read(self.start, self.recent)
        if readings is None:
            return []
        self.checked.add(cause.name)
        before = {part for name, part in self.on if name == cause.name}
        now = {part: value for part, value in readings.items() if cause.holds(value, already=part in before)}
        for part in before - set(now):
            del self.on[cause.name, part]
        self.on |= {(cause.name, part): value for part, value in now.items()}
        return [self._finding(cause, part, step, value) for part, value in now.items() if part not in before]

    def _finding(self, cause: Cause, part: str, step: int, value: float) -> Finding:
        return Finding(
            cause=cause.name,
            part=part,
            stage=self.stage,
            step=step,
            last=step,
            measured=value,
            worst=value,
            threshold=cause.threshold,
            beyond=cause.beyond,
            says=cause.measured,
            advice=cause.advice,
        )

    def metrics(self) -> dict[str, float]:
        """`warning/<cause>` for each cause: 1 while it is on, else 0; absent until it can be checked."""
        on = {name for name, _ in self.on}
        return {f"warning/{cause.name}": float(cause.name in on) for cause in CAUSES if cause.name in self.checked}

    def state_dict(self) -> dict[str, Any]:
        """The rows that are kept, and the causes that are on and checked, as plain JSON."""
        on = [[cause, part, value] for (cause, part), value in self.on.items()]
        return {"start": list(self.start), "recent": list(self.recent), "on": on, "judged": sorted(self.checked)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        self.start, self.recent = list(state["start"]), list(state["recent"])
        self.on = {(cause, part): value for cause, part, value in state["on"]}
        self.checked = set(state["judged"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What can be said of one stage from its log."""

    stage: str
    rows: int
    """Logged training steps."""
    findings: tuple[Finding, ...]
    not_judged: Mapping[str, str]
    """Causes that could not be checked -> why."""


def diagnose_stage(rows: Iterable[Row], *, stage: str) -> Diagnosis:
    """Feed a stage's rows of `metrics.jsonl` to a watch, in order, and return all that it found."""
    watch, found, open_ = Watch(stage), [], {}  # type: Watch, list[Finding], dict[tuple[str, str], int]
    train = [row for row in rows if row.get("split", "train") == "train"]
    for row in train:
        for finding in watch.take(row["step"], row):
            open_[finding.cause, finding.part] = len(found)
            found.append(finding)
        for key, place in list(open_.items()):
            if key in watch.on:
                worse = max if found[place].beyond == "above" else min
                worst = worse(found[place].worst, watch.on[key])
                found[place] = replace(found[place], last=row["step"], worst=worst)
            else:
                found[place] = replace(found[place], ended=True)
                del open_[key]
    missing = {cause.name: _why(cause, train) for cause in CAUSES if cause.name not in watch.checked}
    return Diagnosis(stage=stage, rows=len(train), findings=tuple(found), not_judged=missing)


def diagnose_run(rows: Iterable[Row]) -> list[Diagnosis]:
    """A diagnosis for each GRPO stage that has logged anything."""
    stages: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("kind") == "grpo":
            stages.setdefault(str(row.get("stage", "")), []).append(row)
    return [diagnose_stage(found, stage=stage) for stage, found in stages.items()]


def _why(cause: Cause, rows: Sequence[Row]) -> str:
    least = min(LEAST, cause.window)
    if len(rows) < least:
        return f"{len(rows)} logged step{'' if len(rows) == 1 else 's'}, and it takes {least}"
    return f"too few of its numbers in the log; it takes {cause.needs}"
