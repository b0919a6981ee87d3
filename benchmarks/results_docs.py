"""Write what docs/results.md, docs/studies.md and docs/tables/ take from the result files.

    python benchmarks/results_docs.py [--check]

Pages are written by hand; this fills what stands between `<!-- NAME -->` and `<!-- end -->` in them. A study has its
picture and verdict in docs/results.md, a paper's claim a row there, and each with results a page of tables in
docs/tables/. The picture of pairs is drawn from README's table. `--check` changes nothing and fails where a file
differs.
"""

import argparse
import re
import sys
from functools import cache
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

from medrft.report.forest import NAMES, WIDTH, Dot, Panel, dot_plot, forest_plot
from medrft.report.study import collect_results, study_text
from medrft.report.study_markdown import label_of, study_head, study_verdict
from medrft.report.study_predict import predict_plot, predict_words
from medrft.report.wording import MINUS, metric_label, plain_number, plain_percent
from medrft.rundir import write_atomic
from medrft.studies.collect import EFFECTS, seeds_needed
from medrft.studies.plan import load_study
from medrft.studies.result_files import Places

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SHOWN = ("composed_rewards", "free_form", "audit_predicts")
CLAIMS = ("armed_ablation", "zhu_init", "zhu_alignment", "zhu_length", "zhu_bias", "sft_vs_rl")
"""Studies of a paper's claim."""
PLANNED = ("audit_free_form",)
"""Named in docs/results.md, and not run yet."""
EARLIER = ("slake",)
"""In docs/history.md, with studies whose result files are gone."""
STUDIES = (*SHOWN, *CLAIMS, *PLANNED, *EARLIER)
MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PAIRS = re.compile(r"^\| (.+?) \|" + 2 * r" ([\d.]+) \[([\d.]+), ([\d.]+)\] \|" + "$", re.MULTILINE)
"""A row of README's table of pairs: a reward, and its AUROC in and out of vocabulary."""


@cache
def facts_of(name: str) -> dict[str, Any]:
    """All figures of one study."""
    study = load_study(ROOT / "recipes" / "studies" / f"{name}.yaml")
    return collect_results(study, Places.of(study))


@cache
def pictures() -> dict[str, str]:
    """Every picture that there are results for, by its file's name."""
    drawn = {"pairs": pairs_plot((ROOT / "README.md").read_text(encoding="utf-8"))}
    drawn |= {f"study_{name}": forest_plot(facts_of(name)) for name in (*SHOWN, *CLAIMS) if facts_of(name)["seeds"]}
    drawn |= {f"study_{name}_prediction": predict_plot(facts_of(name)) for name in SHOWN}
    return {f"{name}.svg": svg for name, svg in drawn.items() if svg}


def pairs_plot(text: str) -> str:
    """How well each reward of README's table tells paraphrases from contradictions."""
    rows = [(found[1].replace("`", ""), found.groups()[1:]) for found in PAIRS.finditer(text)]
    dots = [[pair_dot(*values[:3]), pair_dot(*values[3:])] for _, values in rows]
    title = "AUROC of paraphrase over contradiction; 0.5 is chance"
    scale = {"left": NAMES + 40, "right": WIDTH - 130, "figures": WIDTH - 4, "low": 0.0, "high": 1.0, "dark": [0.5]}
    panel = Panel(title=title, write=plain_number, dots=dots, **scale)
    return dot_plot([name for name, _ in rows], [panel], legend=["in vocabulary", "out of vocabulary"], says=title)


def pair_dot(mean: str, low: str, high: str) -> Dot:
    """One cell of README's table."""
    return Dot(mean=float(mean), low=float(low), high=float(high), says=f"{mean} [{low}, {high}]")


def shown(name: str) -> str:
    """The pictures and the verdict of one study, or that it has no result yet."""
    facts = facts_of(name)
    says = {f"study_{name}_prediction.svg": "The audit's figure and the gained truth of each reward"}
    if not facts["predicts"]:  # its dozens of arms are on the page of tables
        says |= arms_picture(name, facts)
    lines = [f"![{alt}](images/{file})\n" for file, alt in says.items() if file in pictures()]
    if facts["predicts"]:
        lines.append(f"**{predict_words(facts)}.**\n")
    lines += study_head(facts) if facts["seeds"] else ["**No result yet:** no arm of this study has been run."]
    return "\n".join(lines).rstrip()


def arms_picture(name: str, facts: dict[str, Any]) -> dict[str, str]:
    """The picture of a study's arms, with what it shows."""
    return {f"study_{name}.svg": f"{metric_label(facts['primary']['metric'])} of each arm, and what that is worth"}


def tables_page(name: str) -> str:
    """The page with all tables of one study."""
    facts = facts_of(name)
    text = study_text(facts)
    if facts["predicts"]:
        text += "".join(f"\n\n![{alt}](../images/{file})" for file, alt in arms_picture(name, facts).items())
    return f"""# {name}: the tables

{facts["question"]} The reading and the pictures are in [results](../results.md). From the result files in
`benchmarks/results/studies/` by `python benchmarks/results_docs.py`, as
`medrft study recipes/studies/{name}.yaml --collect` writes them into `table.md`.

{text}
"""


def claims() -> str:
    """One row per study of a paper's claim: what is claimed, the primary outcome, and what it found so far."""
    lines = [
        "| study | claim | primary outcome, truth | difference, points | pairs, seeds | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for name in CLAIMS:
        facts = facts_of(name)
        own, found = facts["primary"], facts["primary"]["outcome"]
        what = f"{own['a']} {MINUS} {own['against']}{', out of domain' if own['dataset'].endswith('_ood') else ''}"
        row = [f"`{name}`", facts["claim"], what]
        if found is None:
            lines.append(f"| {' | '.join(row)} | not run yet | | |")
            continue
        ran = f"{found['n']:,}, {len(found['per_seed'])} of {len(facts['planned_seeds'])}"
        row[0] = f"[{row[0]}](tables/{name}.md)"
        lines.append(f"| {' | '.join(row)} | {label_of(found)} | {ran} | {study_verdict(facts)['claim']} |")
    return "\n".join(lines)


def power_table() -> str:
    """Seeds that an effect needs, by the spread between seeds that each study had: pooled over its pairs of arms."""
    lines = [
        "| study, outcome | questions a seed | pairs of arms, seeds | sd, points | by images | 1 point | 2 | 3 | 5 |",
        "|---" * 9 + "|",
    ]
    for name in STUDIES:
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


def filled(page: Path) -> str:
    """A page with every marked part made anew."""
    parts = {"claims": claims, "power": power_table} | {name: lambda name=name: shown(name) for name in SHOWN}
    text = page.read_text(encoding="utf-8")
    return MARKED.sub(lambda found: f"{found[1]}\n{parts[found[2]]()}\n\n{found[3]}", text)


def files() -> dict[Path, str]:
    """What pages and pictures should hold."""
    pages = {path: filled(path) for path in (DOCS / f"{name}.md" for name in ("results", "studies"))}
    ran = [name for name in (*SHOWN, *CLAIMS) if facts_of(name)["seeds"]]
    tables = {DOCS / "tables" / f"{name}.md": tables_page(name) for name in ran}
    return pages | tables | {DOCS / "images" / name: svg for name, svg in pictures().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a file differs")
    check = parser.parse_args().check
    for path, text in files().items():
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        if check and not same:
            sys.exit(f"{path.name} differs from the result files; run {Path(__file__).name}")
        if not same:
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, text)


if __name__ == "__main__":
    main()
