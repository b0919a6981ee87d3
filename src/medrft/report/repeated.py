"""Whether a run that was repeated came out the same: two run folders go in, what differs comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrft.evaluation.run_files import RunFiles
from medrft.report.results import result_rows


@dataclass(frozen=True)
class Repeated:
    """What a repeated run has in common with the first."""

    versions: dict[str, tuple[str | None, str | None]]
    """Packages, Python, commit and GPUs that differ: the first run's, the repeated one's."""
    data: dict[str, tuple[str | None, str | None]]
    """Splits whose rows differ, by their fingerprints."""
    figures: int
    """Means in both result tables."""
    moved: tuple[tuple[str, float, float], ...]
    """Those that differ: what it is, then, now."""


def compare_repeated(before: Path, after: Path) -> Repeated:
    """Hold a repeated run against the first one; raises `DataError` for a folder that is not a run."""
    old, new = RunFiles(before), RunFiles(after)
    then, now = _means(before), _means(after)
    both = [key for key in then if key in now]
    return Repeated(
        versions=_apart(_software(old), _software(new)),
        data=_apart(old.environment.get("data", {}), new.environment.get("data", {})),
        figures=len(both),
        moved=tuple((key, then[key], now[key]) for key in both if then[key] != now[key]),
    )


def _software(run: RunFiles) -> dict[str, str]:
    facts = run.environment
    told = {key: str(facts[key]) for key in ("python", "commit", "gpus") if facts.get(key)}
    return {**facts.get("versions", {}), **told}


def _apart(old: dict[str, str], new: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


def _means(run: Path) -> dict[str, float]:
    keys = ("stage", "data set", "kind", "metric")
    return {
        ", ".join(str(row[key]) for key in keys): row["mean"] for row in result_rows(run) if row["mean"] is not None
    }
