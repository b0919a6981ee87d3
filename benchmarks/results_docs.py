"""Write the tables and pictures of docs/results.md and the power table of docs/studies.md from the result files.

    python benchmarks/results_docs.py [--check]

Between `<!-- study: NAME -->` and `<!-- end -->` stands what `medrft study … --collect --markdown` of NAME.yaml
prints, under its picture (docs/images/study_NAME.svg); after `<!-- summary -->` and `<!-- power -->` a row for each.
Everything else on the pages is written by hand. `--check` changes nothing and fails where they differ.
"""

import argparse
import re
import sys
from functools import cache
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

from medrft.report.forest import forest_plot
from medrft.report.study import collect_results, study_text
from medrft.report.study_markdown import label_of, study_verdict
from medrft.report.study_predict import predict_lines, predict_plot, predict_words
from medrft.report.wording import MINUS, metric_label, plain_percent
from medrft.rundir import write_atomic
from medrft.studies.collect import EFFECTS, seeds_needed
from medrft.studies.plan import load_study
from medrft.studies.result_files import Places

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
DESIGN = ROOT / "docs" / "studies.md"
BLOCK = re.compile(r"(<!-- study: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
SUMMARY = re.compile(r"(<!-- summary -->\n).*?(<!-- end -->)", re.DOTALL)
POWER = re.compile(r"(<!-- power -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def facts_of(name: str) -> dict[str, Any]:
    """All figures of one study."""
    study = load_study(ROOT / "recipes" / "studies" / f"{name}.yaml")
    return collect_results(study, Places.of(study))


def picture(name: str) -> Path:
    """Where a study's picture lies."""
    return PAGE.parent / "images" / f"study_{name}.svg"


def scatter(name: str) -> Path:
    """Where the picture of a study's prediction lies."""
    return PAGE.parent / "images" / f"study_{name}_prediction.svg"


@cache
def drawn(name: str) -> str:
    """The picture of a study; empty where nothing compares."""
    return forest_plot(facts_of(name))


def block(name: str) -> str:
    """The picture and tables of one study, or that it has no result yet."""
    facts = facts_of(name)
    if not facts["seeds"]:
        return "\n".join(["No arm has been run.", "", *predict_lines(facts)]).rstrip()
    shown = f"![Each arm minus {facts['primary']['against']}](images/{picture(name).name})\n\n" if drawn(name) else ""
    if predict_plot(facts):
        shown = f"![{predict_words(facts)}](images/{scatter(name).name})\n\n{shown}"
    return shown + study_text(facts)


def summary(names: list[str]) -> str:
    """One row per study: its primary outcome, what it found, and what it took."""
    lines = [
        "| study | primary outcome | difference, points | pairs, seeds | verdict | hours, without shared stages |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        facts = facts_of(name)
        own, found = facts["primary"], facts["primary"]["outcome"]
        what = f"{own['a']} {MINUS} {own['against']}: {own['dataset']}, {own['kind']}, {metric_label(own['metric'])}"
        ran = f"{found['n']:,}, {len(found['per_seed'])}" if found else "–"
        hours = f"{facts['cost']['hours']:.1f}" if facts["seeds"] else "–"
        says = study_verdict(facts)["claim"]
        lines.append(f"| [{name}](#{name}) | {what} | {label_of(found)} | {ran} | {says} | {hours} |")
    return "\n".join(lines)


def power_table(names: list[str]) -> str:
    """Seeds that an effect needs, by the spread between seeds that each study had: pooled over its pairs of arms."""
    lines = [
        "| study, outcome | questions a seed | pairs of arms, seeds | sd, points | by images | 1 point | 2 | 3 | 5 |",
        "|---" * 9 + "|",
    ]
    for name in names:
        own = facts_of(name)["primary"]
        rows = [row for row in facts_of(name)["power"] if row["dataset"] == own["dataset"]]
        if not rows:
            continue
        sd, within = (sqrt(fmean(row[key] ** 2 for row in rows)) for key in ("sd", "within_sd"))
        needed = " | ".join(str(seeds_needed(sd, effect)) for effect in EFFECTS)
        what = f"{name}: {own['kind']}, {metric_label(own['metric'])}"
        ran = f"{len(rows)}, {max(row['seeds'] for row in rows)}"
        lines.append(
            f"| {what} | {rows[0]['questions']} | {ran} | {plain_percent(sd)} | {plain_percent(within)} | {needed} |"
        )
    return "\n".join(lines)


def written(text: str) -> str:
    """The page with every study's block and the summary made anew."""
    names = [found[2] for found in BLOCK.finditer(text)]
    text = BLOCK.sub(lambda found: f"{found[1]}\n{block(found[2])}\n\n{found[3]}", text)
    return SUMMARY.sub(lambda found: f"{found[1]}\n{summary(names)}\n\n{found[2]}", text)


def files() -> dict[Path, str]:
    """What the page and its pictures should hold."""
    text = written(PAGE.read_text(encoding="utf-8"))
    names = [found[2] for found in BLOCK.finditer(text)]
    design = DESIGN.read_text(encoding="utf-8")
    design = POWER.sub(lambda found: f"{found[1]}\n{power_table(names)}\n\n{found[2]}", design)
    pictures = {picture(name): svg for name in names if (svg := drawn(name))}
    pictures |= {scatter(name): svg for name in names if (svg := predict_plot(facts_of(name)))}
    return {PAGE: text, DESIGN: design, **pictures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a file differs")
    check = parser.parse_args().check
    for path, text in files().items():
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        if check and not same:
            sys.exit(f"{path.name} differs from the result files; run {Path(__file__).name}")
        if not same:
            write_atomic(path, text)


if __name__ == "__main__":
    main()
