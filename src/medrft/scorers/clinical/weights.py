"""From a finding to what it weighs: whether it is normal, and how much it matters if it is missing or added."""

from __future__ import annotations

from medrft.scorers.clinical.facets import LESIONS
from medrft.scorers.clinical.lexicon import Atom, Lexicon
from medrft.scorers.clinical.reading import Finding

WIDE = frozenset(("chest", "abdomen", "pelvis", "head", "lung", "heart"))
SLIGHTLY = 0.8
"""Factor in the weight of a finding that is called mild, small or the like."""
SLIGHT = frozenset(("mild", "minimal", "tiny", "small", "little"))
NOTHING_SAID: frozenset[str] = frozenset()
SIGNIFICANCE = {"urgent": 1.5, "minor": 0.3}
"""Weight of a finding by the list of significance.yaml that it is on; 1 for all others."""


def is_normal(finding: Finding) -> bool:
    """Whether a finding says that something is normal or absent: "no effusion", "the heart is of normal size"."""
    if finding.negative:
        return True
    if finding.names:
        return False
    said = NOTHING_SAID.union(*finding.values.values())
    if not said.isdisjoint(LESIONS) or "abnormal" in said:
        return False
    return any(value.startswith("normal") for value in said) or bool(finding.turned)


def says_all_normal(finding: Finding) -> bool:
    """Whether a normal statement names no organ of its own: "normal study", "no acute cardiopulmonary abnormality"."""
    return "normal" in finding.values.get("normality", ()) and finding.places <= WIDE


def finding_weight(made: Lexicon, finding: Finding) -> float:
    """The clinical significance of a finding: the highest of what it names."""
    found = [SIGNIFICANCE.get(made.significance.get(name, ""), 1.0) for name in finding.names]
    for head in (*finding.names, *finding.places, *finding.kinds):
        if head in made.significant:
            ranks = [rank for atoms, rank in made.significant[head] if all(_holds(finding, atom) for atom in atoms)]
            found += [SIGNIFICANCE[rank] for rank in ranks]
    if not found and any(made.significance.get(axis) == "minor" for axis in finding.values):
        found = [SIGNIFICANCE["minor"]]
    said = NOTHING_SAID.union(*finding.values.values())
    if found and "displaced" in said and max(found) < 1:
        found = [SIGNIFICANCE["urgent"]]  # a line or tube out of place
    slight = 1.0 if said.isdisjoint(SLIGHT) else SLIGHTLY
    return max(found, default=1.0) * slight * finding.certainty


def _holds(finding: Finding, atom: Atom) -> bool:
    """Whether a finding says what an atom says."""
    if atom.axis in ("name", "place"):
        return atom.value in (finding.names if atom.axis == "name" else finding.places)
    return atom.value in finding.values.get(atom.axis, ())
