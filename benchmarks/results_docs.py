"""Write the tables of docs/results.md from the committed result files of the studies.

    python benchmarks/results_docs.py [--check]

Between `<!-- study: NAME -->` and `<!-- end -->` stands what `medrft study … --collect --markdown` of NAME.yaml
prints; everything else on the page is written by hand. `--check` changes nothing and fails where they differ.
"""

import argparse
import re
import sys
from pathlib import Path

from medrft.pipeline.study import load_study
from medrft.report.study import collected
from medrft.report.study_markdown import study_markdown
from medrft.rundir import write_atomic

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
BLOCK = re.compile(r"(<!-- study: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(name: str) -> str:
    """The tables of one study, or that it has no result yet."""
    study = load_study(ROOT / "recipes" / "studies" / f"{name}.yaml")
    facts = collected(study, study.results)
    return study_markdown(facts) if facts["seeds"] else "No arm has been run."


def written(text: str) -> str:
    """The page with every study's block made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{table(found[2])}\n\n{found[3]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the page differs")
    before = PAGE.read_text(encoding="utf-8")
    after = written(before)
    if parser.parse_args().check:
        sys.exit(f"{PAGE.name} differs from the result files; run {Path(__file__).name}" if before != after else 0)
    write_atomic(PAGE, after)


if __name__ == "__main__":
    main()
