"""From a reference and an answer to the reasons for the score: each finding and facet, as data and as plain text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from medrft.scorers.clinical.compare import Comparison, Mode, Pairing
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.reading import Line, say
from medrft.scorers.clinical.score import compare_answers

SIGNS = {"same": "=", "near": "~", "less": "-", "more": "+", "clash": "x"}
WORDS = {
    "same": "the same",
    "near": "close, not the same",
    "less": "says less than the reference",
    "more": "says more than the reference",
    "clash": "contradicts",
}
ROUTES = {
    "equal": "equal after normalisation",
    "empty": "nothing to read in the answer",
    "lexical": "compared word by word",
}
CONFIDENT = 2 / 3
"""Below it, more than a third of what the reference names is unknown: the score is unsure, and does not gate."""
WIDTH = 60
"""Texts of more characters are cut when printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetLine:
    """One facet of one finding."""

    facet: str
    """A facet's name (DESIGN.md section 1), or `finding` for the finding's own name."""
    reference: str
    candidate: str
    verdict: str
    """`same`, `near`, `less`, `more` or `clash`."""
    factor: float
    """The factor of this facet in the finding's score, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingLine:
    """One finding of the reference, and what the answer says of it."""

    reference: str
    candidate: str | None
    """`None` if the answer does not mention it."""
    score: float
    contradicted: bool
    facets: tuple[FacetLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The score of an answer, and everything that led to it."""

    reference: str
    candidate: str
    question: str | None
    score: float
    contradiction: bool
    confidence: float
    """The share of what the reference names that the lexicon knows, in [0, 1]."""
    route: str
    """How it was judged: `equal`, `empty`, `lexical`, `yes/no` or `findings`."""
    findings: tuple[FindingLine, ...]
    extra: tuple[str, ...]
    """Findings that only the answer names."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Plain text, one line per facet."""
        head = f"clinical {self.score:.2f}" + (" (contradiction)" if self.contradiction else "")
        head += f" (confidence {self.confidence:.2f})" if self.confidence < CONFIDENT else ""
        lines = [f"{head}: {_cut(self.reference)!r} answered by {_cut(self.candidate)!r}"]
        lines += [f"  {ROUTES.get(self.route, self.route)}"] if not self.findings else []
        for finding in self.findings:
            told = f" <- {_cut(finding.candidate)}" if finding.candidate is not None else " <- not mentioned"
            lines.append(f"  {finding.score:.2f}  {_cut(finding.reference)}{told}")
            lines += [f"        {_facet(line)}" for line in finding.facets]
        lines += [f"  also says: {_cut(extra)}" for extra in self.extra]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def explain(
    reference: str,
    candidate: str,
    question: str | None = None,
    lexicon: Lexicon | None = None,
    mode: Mode | None = None,
) -> Explanation:
    """Explain the clinical score of an answer.

    >>> print(explain("left pleural effusion", "fluid in the right pleural space").text())
    clinical 0.03 (contradiction): 'left pleural effusion' answered by 'fluid in the right pleural space'
      0.03  left pleural effusion <- fluid in right pleural space
            = finding: fluid
            = anatomy: pleura
            x side: left / right: contradicts
    """
    found = compare_answers(reference, candidate, question, lexicon, mode)
    return Explanation(
        reference=reference,
        candidate=candidate,
        question=question,
        score=found.score,
        contradiction=found.contradiction,
        confidence=found.confidence,
        route=found.route,
        findings=tuple(_finding(pairing) for pairing in found.pairings),
        extra=tuple(finding.text for finding in found.extra),
        notes=found.notes + _unknown(found),
    )


def explain_best(
    references: Iterable[str],
    candidate: str,
    question: str | None = None,
    lexicon: Lexicon | None = None,
    mode: Mode | None = None,
) -> Explanation:
    """The explanation for the reference on which the answer scores best; the first of several that are equal.

    >>> explain_best(["heart", "the lungs"], "lung").reference
    'the lungs'
    """
    return max(
        (explain(reference, candidate, question, lexicon, mode) for reference in references),
        key=lambda found: found.score,
    )


def _finding(pairing: Pairing) -> FindingLine:
    lines = pairing.match.lines if pairing.match is not None else ()
    return FindingLine(
        reference=_stated(pairing.reference.text, pairing.reference.negative),
        candidate=_stated(pairing.candidate.text, pairing.candidate.negative)
        if pairing.candidate is not None
        else None,
        score=pairing.earned,
        contradicted=pairing.contradicted or (pairing.match is not None and bool(pairing.match.clashes)),
        facets=tuple(_line(line) for line in lines),
    )


def _stated(text: str, negative: bool) -> str:
    return f"no {text}" if negative and text not in ("", "no") else text or "nothing"


def _line(line: Line) -> FacetLine:
    return FacetLine(
        facet=line.facet,
        reference=say(line.reference),
        candidate=say(line.candidate),
        verdict=line.verdict,
        factor=line.factor,
    )


def _unknown(found: Comparison) -> tuple[str, ...]:
    """A note on words that the lexicon does not know."""
    words = [
        word
        for pairing in found.pairings
        for finding in (pairing.reference, pairing.candidate)
        for word in (finding.words if finding is not None else ())
    ]
    return (f"not in the lexicon: {', '.join(dict.fromkeys(words))}",) if words else ()


def _facet(line: FacetLine) -> str:
    if line.verdict == "same":
        return f"= {line.facet}: {line.reference}"
    values = f"{line.reference or 'not said'} / {line.candidate or 'not said'}"
    return f"{SIGNS[line.verdict]} {line.facet}: {values}: {WORDS[line.verdict]}"


def _cut(text: str | None) -> str:
    text = " ".join((text or "").split())
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
