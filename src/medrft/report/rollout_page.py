"""Makes the pages of `medrft rollouts --browse`: groups of rollouts with a form to choose them, and curves beside.

Pages run no script, take their style from the server and nothing from elsewhere; model output is escaped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlencode

from medrft.evaluation.run_files import RunFiles
from medrft.report.curves import Panel, stage_panels
from medrft.report.html import page_templates, render_template
from medrft.report.rollout_groups import CHOICES, ORDERS, PAGE, UNFOLDED, Asked, Found, RolloutGroup, Tally

REFRESH = 10
"""Seconds after which a page that follows the training is loaded again."""


def rollout_page(
    run: Path, asked: Asked, tally: Tally | None, found: Found | None, *, live: bool = False, error: str = ""
) -> str:
    """One page as text; `error` says why there are no groups on it."""
    stage, panels = curves_of(run, asked.stage)
    return render_template(
        "rollouts.html.j2",
        name=run.resolve().name,
        asked=asked,
        tally=tally,
        found=found,
        live=live,
        error=error,
        refresh=REFRESH,
        choices=CHOICES,
        orders=ORDERS,
        condition=CHOICES[asked.show][1] if asked.show in CHOICES else "",
        first=(asked.page - 1) * PAGE + 1,
        pages=-(-found.count // PAGE) if found else 0,
        unfolded=UNFOLDED,
        pictures=lambda group: _pictures(run, group),
        whole=lambda row: urlencode({"group_id": row["group_id"], "sample": row["sample"]}),
        stage=stage,
        panels=panels,
        written=_written(run),
    )


def rollout_style() -> str:
    """The pages' style sheet."""
    parts = (page_templates().get_template(name).render() for name in ("style.css", "rollouts.css"))
    return "\n".join(parts)


def curves_of(run: Path, stage: str) -> tuple[str, Sequence[Panel]]:
    """The name and charts of a GRPO stage: the one asked for, else the last that has logged anything."""
    log = run / "metrics.jsonl"
    if not log.is_file():
        return "", ()
    facts = log.stat()
    return _curves(run, stage, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=4)
def _curves(run: Path, stage: str, changed: int, size: int) -> tuple[str, Sequence[Panel]]:
    """Charts of the log as it was when it had this time and size."""
    files = RunFiles(run)
    begun = [one.name for one in files.recipe.stages if one.kind == "grpo" and one.name in files.metrics]
    if not begun:
        return "", ()
    name = stage if stage in begun else begun[-1]
    return name, tuple(stage_panels(files.metrics[name], kind="grpo"))


def _pictures(run: Path, group: RolloutGroup) -> list[str]:
    """Hashes of a group's images of which the run keeps a thumbnail."""
    hashes = [str(sha256) for sha256 in group.row["image_sha256"]]
    return [sha256 for sha256 in hashes if sha256.isalnum() and (run / "images" / f"{sha256}.png").is_file()]


def _written(run: Path) -> str:
    """When the last rollouts reached the disk; empty where there are none."""
    times = [path.stat().st_mtime for path in (run / "rollouts").glob("*.parquet")]
    return time.strftime("%H:%M:%S", time.localtime(max(times))) if times else ""
