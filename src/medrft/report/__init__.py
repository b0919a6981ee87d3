"""The report of a run: one self-contained HTML page and the terminal's result table, from run files alone."""

from __future__ import annotations

from pathlib import Path


def render_report(run: Path) -> Path:
    """Write `report.html` into a run folder and return it; loads no model and needs no network.

    Raises `DataError` for a folder that holds no run.
    """
    from medrft.report.page import write_page

    return write_page(run)
