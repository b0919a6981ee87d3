"""What is audited: a reward of ours with its parts, or somebody else's function, behind one protocol (`Subject`).

`load_subject` makes one from a preset, a YAML file or `file.py:name`. Then `raw` scores completions one by one, `fit`
sets the calibration once, and `finish` turns raw scores into calibrated scores and totals for a batch.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medrft.audit.foreign import LIMIT, Foreign, style_of, swallowed_errors
from medrft.errors import RecipeError, unknown_name
from medrft.rewards import RawScores, Reward, resolve_stacks
from medrft.rewards.named import load_reward, read_reward
from medrft.rewards.presets import PRESETS
from medrft.rewards.state import load_state
from medrft.scorers import SCORERS
from medrft.scorers.clinical import Clinical
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.own import own_lexicon
from medrft.types import Item, Kind, Score

TOTAL = "reward"
"""The name given to the only part of a reward whose parts cannot be seen."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Scores of a batch: columns by part, and the totals."""

    raw: Mapping[str, list[Score]]
    calibrated: Mapping[str, list[Score]]
    weights: Mapping[str, list[float]]
    """What each calibrated score is multiplied by."""
    total: list[Score]
    plain: list[Score]
    """The total with every calibration left out: the weighted sum of the raw scores."""
    shut: list[bool]
    """Rows where answer parts count 0 whatever they scored: the gate closed, or no answer could be read."""
    lexicon: Lexicon | None = None
    """What its answers are explained by: that of its clinical scorer, `None` for ours."""


class Subject(Protocol):
    """A reward under audit."""

    name: str
    encoder: str | None
    problems: list[dict[str, Any]]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts whose scores can be seen."""

    @property
    def answer_parts(self) -> tuple[str, ...]:
        """Names of the parts that judge the answer, not its form or length."""

    def raw(self, items: Sequence[Item]) -> list[Any]:
        """Raw scores of each item, before any calibration."""

    def fit(self, raws: Sequence[Any]) -> str:
        """Set the calibration state once and freeze it; returns a sentence that says how."""

    def finish(self, raws: Sequence[Any], groups: Sequence[Hashable]) -> Scored:
        """Calibrated scores and totals."""

    def describe(self) -> dict[str, Any]:
        """Parts, weights and calibrations, or the calling style."""

    def why_not_picklable(self) -> str | None:
        """Why the reward cannot travel to another process; `None` when it can."""

    def close(self) -> None:
        """End child processes."""


@dataclass
class Own:
    """A reward built by `medrft.rewards`."""

    name: str
    reward: Reward
    encoder: str | None = None
    state: Path | None = None
    problems: list[dict[str, Any]] = field(default_factory=list)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of all parts."""
        return self.reward.names

    @property
    def answer_parts(self) -> tuple[str, ...]:
        """Parts that judge the answer."""
        judged = {p.name: p.judges_answer for stack in self.reward.stacks.values() for p in stack.parts}
        return tuple(name for name in self.parts if judged[name])

    def raw(self, items: Sequence[Item]) -> list[RawScores]:
        """Raw scores of each item."""
        return self.reward.score(items)

    def fit(self, raws: Sequence[RawScores]) -> str:
        """Take over the state of a run, or fit once on these scores."""
        if self.state is not None:
            return f"state of {load_state(self.reward, self.state)}"
        self.reward.fit(raws)
        return f"fitted once on {len(raws):,} answers of this audit, then frozen"

    def finish(self, raws: Sequence[RawScores], groups: Sequence[Hashable]) -> Scored:
        """Calibrate with the frozen state and combine."""
        outcomes = self.reward.combine(raws, groups=list(groups))
        weights = [self.reward.weights(raw.kind) for raw in raws]
        answers = set(self.answer_parts)
        shut = [bool(outcome.gate) or not raw.readable for outcome, raw in zip(outcomes, raws, strict=True)]
        plain: list[Score] = []
        for outcome, row, closed in zip(outcomes, weights, shut, strict=True):
            parts = [w * (outcome.raw.get(n) or 0.0) for n, w in row.items() if not (closed and n in answers)]
            plain.append(None if outcome.reward is None else sum(parts))
        return Scored(
            raw={name: [outcome.raw.get(name) for outcome in outcomes] for name in self.parts},
            calibrated={name: [outcome.calibrated.get(name) for outcome in outcomes] for name in self.parts},
            weights={name: [row.get(name, 0.0) for row in weights] for name in self.parts},
            total=[outcome.reward for outcome in outcomes],
            plain=plain,
            shut=shut,
            lexicon=self._lexicon(),
        )

    def _lexicon(self) -> Lexicon | None:
        """The lexicon of the reward's clinical scorer."""
        stacks = self.reward.stacks.values()
        scorers = [part.scorer for stack in stacks for part in stack.parts]
        scorers += [stack.gate.scorer for stack in stacks if stack.gate is not None]
        return next((own_lexicon(one.lexicon) for one in scorers if isinstance(one, Clinical)), None)

    def calibrations(self, kind: Kind) -> dict[str, str]:
        """Kind of calibration of each part."""
        return {part.name: part.calibration.kind for part in self.reward.stack(kind).parts}

    def describe(self) -> dict[str, Any]:
        """Parts, weights, calibrations."""
        return {"style": "medrft", **self.reward.describe()}

    def why_not_picklable(self) -> str | None:
        """What pickle says against the reward."""
        try:
            pickle.loads(pickle.dumps(self.reward))
        except (pickle.PicklingError, AttributeError, TypeError, ImportError) as error:
            return str(error)
        return None

    def close(self) -> None:
        """Nothing to end: a reward of ours has no process of its own."""


@dataclass
class Theirs:
    """A reward function of a user's file."""

    name: str
    foreign: Foreign
    encoder: str | None = None
    problems: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    rows: int = 0

    parts: tuple[str, ...] = (TOTAL,)
    answer_parts: tuple[str, ...] = (TOTAL,)

    def raw(self, items: Sequence[Item]) -> list[Score]:
        """Its scores, in batches of a training step's size; what goes wrong is kept in `problems`."""
        scores: list[Score] = []
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            began = time.perf_counter()
            answered = self.foreign.score(batch)
            self.seconds += time.perf_counter() - began
            self.rows += len(batch)
            scores += answered.scores
            for problem in answered.problems:
                self.problems.append({**problem, "item": batch[problem["row"]]})
        return scores

    def fit(self, raws: Sequence[Score]) -> str:
        """A foreign reward has no calibration that we could see."""
        return "none that can be seen"

    def finish(self, raws: Sequence[Score], groups: Sequence[Hashable]) -> Scored:
        """The scores unchanged, as one part of weight 1."""
        values = list(raws)
        column, ones = {TOTAL: values}, {TOTAL: [1.0] * len(values)}
        shut = [False] * len(values)
        return Scored(raw=column, calibrated=column, weights=ones, total=values, plain=values, shut=shut)

    def describe(self) -> dict[str, Any]:
        """How it is called."""
        return {"style": self.foreign.style, "spec": self.foreign.spec, **self.foreign.facts}

    def why_not_picklable(self) -> str | None:
        """What its own process found when it loaded the function."""
        problem: str | None = self.foreign.facts.get("not_picklable")
        return problem

    def close(self) -> None:
        """End its process."""
        self.foreign.close()


BATCH = 64
"""Rows per call of a foreign reward."""


def load_subject(
    spec: str,
    *,
    style: str | None = None,
    encoder: str | None = None,
    bertscore: str | None = None,
    lexicon: Sequence[Path] = (),
    state: Path | None = None,
    limit: float = LIMIT,
    columns: Mapping[str, str] | None = None,
) -> Own | Theirs:
    """The reward of a preset, a scorer of ours alone, a YAML file (a recipe or a reward alone), or `file.py:name`.

    Raises `UserError` in one line when there is no such reward, or it cannot be imported or built.
    """
    if ".py:" in spec:
        foreign = Foreign(spec=spec, style=style_of(spec, style), limit=limit, columns=columns or {})
        foreign.start()
        subject = Theirs(name=spec.rpartition(":")[2], foreign=foreign)
        subject.problems += [
            {"name": "exceptions_as_zero", "says": place, "row": 0, "item": None} for place in swallowed_errors(spec)
        ]
        subject.problems += [
            {"name": name, "says": says, "row": 0, "item": None} for name, says in told_at_start(foreign)
        ]
        return subject
    check_subject(spec, style)
    file = spec.endswith((".yaml", ".yml"))
    table = spec if file else _table_of(spec)
    reward = load_reward(table, encoder=encoder, bertscore=bertscore, lexicon=lexicon).reward
    name = Path(spec).stem if file else spec
    return Own(name=name, reward=reward, encoder=encoder_of(reward), state=state)


def check_subject(spec: str, style: str | None = None) -> None:
    """Raise as `load_subject` for what is wrong with the words alone, without importing or building anything."""
    if ".py:" in spec:
        style_of(spec, style)
    elif spec.endswith((".yaml", ".yml")):
        resolve_stacks(read_reward(spec).table)
    elif spec.endswith(".py"):
        raise RecipeError(f"{spec} is a file; name the function in it, as {spec}:score")
    else:
        _table_of(spec)


def _table_of(name: str) -> Any:
    """A preset's name as it is, a scorer's as a reward of that one part; raises `UnknownNameError` for others."""
    if name not in PRESETS and name not in SCORERS:
        raise unknown_name("reward", name, [*PRESETS, *SCORERS])
    return name if name in PRESETS else {"parts": [{"scorer": name, "weight": 1.0}]}


def told_at_start(foreign: Foreign) -> list[tuple[str, str]]:
    """(name, sentence) of the problems that loading a foreign reward showed."""
    signature = foreign.facts.get("signature")
    return [("signature", signature)] if signature else []


def encoder_of(reward: Reward) -> str | None:
    """The encoders behind a reward, by name; `None` for a reward without one."""
    described = [part for stack in reward.describe()["stacks"].values() for part in stack["parts"]]
    names = dict.fromkeys(str(part["encoder"]) for part in described if part.get("encoder"))
    return ", ".join(names) or None
