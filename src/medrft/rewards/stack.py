"""One stack: parts with their weights and calibrations, and a gate. Items go in, then `RawScores`, outcomes come out.

`score` looks at one completion at a time. `calibrate` sees the whole gathered batch. `RawScores` are what is gathered
between the two, so they are plain, picklable and small.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medrft.errors import RecipeError
from medrft.reward_config import GateConfig, PartConfig, StackConfig
from medrft.rewards.calibration import Calibration
from medrft.rewards.calibrations import build_calibration
from medrft.scorers import build_scorer
from medrft.scorers.base import Reasons, is_readable, score_with_reasons
from medrft.types import Item, Kind, Outcome, Score, Scorer

SHUT = 0.05
"""A gate that multiplies is called closed where less than this is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawScores:
    """The scores of one completion that depend on its own text alone."""

    kind: Kind
    raw: Mapping[str, Score]
    applicable: Mapping[str, bool]
    readable: bool
    """Whether it has an answer that commits to something; if not, every answer part is 0."""
    gate: Score = None
    """The gate's own score, the best over all references."""
    reference: int | None = None
    """The index of the reference that these scores are against."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a scorer failed, by part; under `gate` for the gate's scorer."""
    unscored: str | None = None
    """Why this completion must stay unscored, whatever its parts are."""

    def without(self, reason: str) -> RawScores:
        """The same completion without any score."""
        return replace(self, raw=dict.fromkeys(self.raw), gate=None, reasons={}, unscored=reason)


@dataclass(frozen=True)
class Part:
    """One scorer with its weight and calibration."""

    name: str
    scorer: Scorer
    weight: float
    calibration: Calibration

    @property
    def judges_answer(self) -> bool:
        """Whether a closed gate or an unreadable answer sets this part to 0; format, length and the like stay."""
        return getattr(self.scorer, "about", "answer") == "answer"


@dataclass(frozen=True)
class Gate:
    """Sets the answer parts to 0 where its scorer gives less than `below`, or multiplies them by its score."""

    scorer: Scorer
    below: float
    multiply: bool = False

    def trusts(self, item: Item) -> bool:
        """Whether its scorer is sure of the reference; if not, the gate is open."""
        trusted = getattr(self.scorer, "trusted", None)
        return trusted is None or bool(trusted(item))


@dataclass(frozen=True)
class Stack:
    """Parts that make one reward."""

    parts: tuple[Part, ...]
    combine: str
    gate: Gate | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts, in order."""
        return tuple(part.name for part in self.parts)

    def score(self, items: Sequence[Item]) -> list[RawScores]:
        """Raw scores of each item, against its best reference."""
        spread = [(i, r) for i, item in enumerate(items) for r in range(max(1, len(item.references)))]
        singles = [_with_reference(items[i], r) for i, r in spread]
        found = {part.name: score_with_reasons(part.scorer, singles) for part in self.parts}
        columns = {name: scores for name, (scores, _) in found.items()}
        gates, shut = self._gate_scores(singles, found)
        why = {**{name: reasons for name, (_, reasons) in found.items()}, "gate": shut}
        rows: list[list[RawScores]] = [[] for _ in items]
        for position, ((i, r), single) in enumerate(zip(spread, singles, strict=True)):
            applicable = {part.name: part.scorer.applies(single) for part in self.parts}
            answer = single.answer
            readable = answer is not None and is_readable(
                answer, reference=single.references[0], options=single.options
            )
            raw = {p.name: columns[p.name][position] if applicable[p.name] else None for p in self.parts}
            if not readable:
                raw |= {p.name: 0.0 for p in self.parts if p.judges_answer and raw[p.name] is not None}
            row = RawScores(
                kind=single.kind, raw=raw, applicable=applicable, readable=readable, gate=gates[position], reference=r
            )
            failed = {name: why[name][position] for name in why if applicable.get(name, True) and position in why[name]}
            rows[i].append(replace(row, reasons=failed) if failed else row)
        return [self._best(candidates) for candidates in rows]

    def _gate_scores(
        self, singles: Sequence[Item], found: Mapping[str, tuple[list[Score], Reasons]]
    ) -> tuple[list[Score], Reasons]:
        if self.gate is None:
            return [None] * len(singles), {}
        own = next((found[part.name] for part in self.parts if part.scorer == self.gate.scorer), None)
        scores, reasons = own if own is not None else score_with_reasons(self.gate.scorer, singles)
        open_at = max(1.0, self.gate.below)
        trusted = [self.gate.trusts(single) for single in singles]
        return [score if sure else open_at for score, sure in zip(scores, trusted, strict=True)], reasons

    def _best(self, candidates: Sequence[RawScores]) -> RawScores:
        """The scores of the reference with the best uncalibrated weighted sum.

        A reference that cannot be scored comes last. If a scorer failed, as when a judge is down, its part counts as
        the best that it could have been. Otherwise an answer would be called wrong because the reference that it fits
        was not judged.
        """
        if len(candidates) == 1:
            return candidates[0]

        def merit(row: RawScores) -> tuple[int, float, int]:
            missing = [part for part in self.parts if row.applicable[part.name] and row.raw[part.name] is None]
            failed = [part for part in missing if part.name in row.reasons]
            total = sum(part.weight * (row.raw[part.name] or 0.0) for part in self.parts)
            total += sum(max(part.weight, 0.0) for part in failed)
            # The fewest parts that can never be scored, then the best sum, then the fewest failures.
            return (len(failed) - len(missing), total, -len(failed))

        best = max(candidates, key=merit)
        gate = self._best_gate(candidates)
        reasons = {name: why for name, why in best.reasons.items() if name != "gate"}
        shut = [row.reasons["gate"] for row in candidates if "gate" in row.reasons]
        if gate is None and shut:
            reasons["gate"] = shut[0]
        return replace(best, gate=gate, reasons=reasons, readable=any(row.readable for row in candidates))

    def _best_gate(self, candidates: Sequence[RawScores]) -> Score:
        """The gate's best score over all references; `None` if its scorer failed on one that could have opened it."""
        best = max((row.gate for row in candidates if row.gate is not None), default=None)
        if self.gate is None or best is None or best >= self.gate.below:
            return best
        return None if any("gate" in row.reasons for row in candidates) else best

    def calibrate(
        self, raws: Sequence[RawScores], *, groups: Sequence[Hashable] | None, update: bool
    ) -> list[dict[str, Score]]:
        """The scores that enter the sum: calibrated, and 0 for the answer parts of unreadable and gated completions."""
        columns = {}
        for part in self.parts:
            scores = self.column(raws, part.name)
            if update:
                part.calibration.update(scores)
            columns[part.name] = part.calibration.apply(scores, groups=groups)
        rows = [{name: column[i] for name, column in columns.items()} for i in range(len(raws))]
        answers = [part.name for part in self.parts if part.judges_answer]
        for raw, row in zip(raws, rows, strict=True):
            if not raw.readable or (self.closed(raw) and not (self.gate and self.gate.multiply)):
                row |= {name: 0.0 for name in answers if row[name] is not None}
            elif self.gate is not None and self.gate.multiply and raw.gate is not None:
                row |= self._multiplied(row, raw.gate)
        return rows

    def _multiplied(self, row: Mapping[str, Score], by: float) -> dict[str, Score]:
        """The answer parts multiplied by the gate's score, but for those by the gate's own scorer."""
        judged = [part for part in self.parts if part.judges_answer and self.gate and part.scorer != self.gate.scorer]
        return {part.name: score * by for part in judged if (score := row[part.name]) is not None}

    @staticmethod
    def column(raws: Sequence[RawScores], name: str) -> list[Score]:
        """One part's raw scores."""
        return [raw.raw[name] for raw in raws]

    def closed(self, raw: RawScores) -> bool | None:
        """Whether the gate closes on a completion; `None` without a gate or a gate score."""
        if self.gate is None or raw.gate is None:
            return None
        return raw.gate < self.gate.below

    def outcome(self, raw: RawScores, calibrated: Mapping[str, Score]) -> Outcome:
        """The weighted sum and all that it is made of; unscored if any applicable part is unscored."""
        missing = [name for name in self.names if raw.applicable[name] and raw.raw[name] is None]
        reason = raw.unscored or (_told(missing, raw.reasons) if missing else None)
        total = sum(part.weight * (calibrated[part.name] or 0.0) for part in self.parts)
        return Outcome(
            reward=None if reason else total,
            raw=raw.raw,
            calibrated=calibrated,
            applicable=raw.applicable,
            gate=self.closed(raw),
            unscored_reason=reason,
            reference=raw.reference,
        )

    def describe(self) -> dict[str, Any]:
        """Parts, weights, calibrations with their present state, encoder and gate."""
        parts = [
            {
                "name": part.name,
                "weight": part.weight,
                "calibrate": part.calibration.describe(),
                **_described(part.scorer),
            }
            for part in self.parts
        ]
        gate: dict[str, Any] | None = None
        if self.gate is not None:
            limit = {"multiply": True} if self.gate.multiply else {"below": self.gate.below}
            gate = {"scorer": self.gate.scorer.name, **limit}
        return {"combine": self.combine, "parts": parts, "gate": gate}


def _with_reference(item: Item, position: int) -> Item:
    """The item with one of its references alone."""
    if len(item.references) == 1:
        return item
    return replace(item, references=item.references[position : position + 1] or ("",))


def _told(missing: Sequence[str], reasons: Mapping[str, str]) -> str:
    """The parts that have no score, with the reasons of those that failed.

    >>> _told(["bleu1", "judge"], {"judge": "no reply: HTTP 503"})
    'unscored: bleu1, judge (no reply: HTTP 503)'
    """
    return "unscored: " + ", ".join(f"{name} ({reasons[name]})" if name in reasons else name for name in missing)


def _described(scorer: Scorer) -> dict[str, Any]:
    describe = getattr(scorer, "describe", None)
    return dict(describe()) if describe is not None else {}


def build_stack(config: StackConfig, **shared: Any) -> Stack:
    """A stack from its table; `shared` (encoder, correct, base_dir) goes to each scorer.

    Raises `RecipeError` or `UnknownNameError` for names, options and combinations that cannot work.
    """
    names: list[str] = []
    parts = []
    for part in config.parts:
        scorer = _scorer(part, shared)
        twice = sum(name == scorer.name or name.startswith(f"{scorer.name}#") for name in names)
        names.append(f"{scorer.name}#{twice + 1}" if twice else scorer.name)
        calibration = build_calibration(part.calibrate, scorer=scorer.name)
        _check(part, scorer, calibration, config)
        parts.append(Part(names[-1], scorer, part.weight, calibration))
    gate = None
    if config.gate is not None:
        below = SHUT if config.gate.below is None else config.gate.below
        gate = Gate(_scorer(config.gate, shared), below, config.gate.multiply)
    return Stack(tuple(parts), config.combine, gate)


def _scorer(config: PartConfig | GateConfig, shared: Mapping[str, Any]) -> Scorer:
    return build_scorer(config.scorer, **shared, **config.options)


def _check(part: PartConfig, scorer: Scorer, calibration: Calibration, config: StackConfig) -> None:
    """Raise `RecipeError` for a calibration that does not suit its scorer or the gate."""
    if calibration.kind != "none" and tuple(scorer.range) == (-1.0, 0.0):
        raise RecipeError(f"{part.scorer} is a penalty in [-1, 0]; calibrations are for scores in [0, 1]")
    if config.gate is not None and calibration.range[0] < 0:
        raise RecipeError(f"{part.scorer}: zscore puts 0 at the group's mean, so a gate would reward; use rank")
