"""From several findings to one that says what they all say, for texts that were cut at different places."""

from __future__ import annotations

from medrft.scorers.clinical.reading import Finding


def unite_findings(findings: tuple[Finding, ...]) -> Finding | None:
    """Several findings united into one; `None` if some are negative and some are not."""
    first = findings[0]
    if any(other.negative != first.negative for other in findings) or _differ_by_side(findings):
        return None
    if len(findings) == 1:
        return first
    values: dict[str, frozenset[str]] = {}
    bound = {key: value for finding in findings for key, value in finding.bound.items()}
    for finding in findings:
        for axis, said in finding.values.items():
            if len(said) == 1 and (axis == "side" or len(findings) > 1):
                bound |= {(axis, head): next(iter(said)) for head in finding.heads}
            values[axis] = values.get(axis, frozenset()) | said
    if values.get("side", frozenset()) >= {"left", "right"}:
        values["side"] = frozenset(("bilateral",))
    return Finding(
        text=" , ".join(finding.text for finding in findings),
        names=frozenset().union(*(finding.names for finding in findings)),
        places=frozenset().union(*(finding.places for finding in findings)),
        levels=frozenset().union(*(finding.levels for finding in findings)),
        kinds=frozenset().union(*(finding.kinds for finding in findings)),
        values=values,
        bound=bound,
        counts=frozenset().union(*(finding.counts for finding in findings)),
        measures=tuple(measure for finding in findings for measure in finding.measures),
        words=tuple(dict.fromkeys(word for finding in findings for word in finding.words)),
        negative=first.negative,
        certainty=min(finding.certainty for finding in findings),
        turned=frozenset().union(*(finding.turned for finding in findings)),
    )


def values_swapped(one: Finding, other: Finding) -> bool:
    """Whether two united findings say the same of different things: which valve is calcified, and which normal."""
    for (axis, head), value in one.bound.items():
        heads = [place for (name, place), said in other.bound.items() if name == axis and said == value]
        if heads and head not in heads and head in other.heads:
            mine = {place for place in one.heads if one.bound.get((axis, place)) == value}
            if any(place in one.heads and place not in mine for place in heads):
                return True
    return False


def _differ_by_side(findings: tuple[Finding, ...]) -> bool:
    """Whether two findings of one name are on two sides and otherwise differ: "a large right and a small left one"."""
    for place, one in enumerate(findings):
        for other in findings[place + 1 :]:
            sides = [finding.values.get("side", frozenset()) for finding in (one, other)]
            if one.names and one.names == other.names and all(sides) and not sides[0] & sides[1]:
                rest = [{axis: said for axis, said in f.values.items() if axis != "side"} for f in (one, other)]
                if rest[0] != rest[1] or one.counts != other.counts:
                    return True
    return False
