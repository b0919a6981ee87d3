"""How far rewards agree with people, on the four public sets that `medrft audit --human` reads, as a Markdown table.

    python benchmarks/human.py [--reward NAME …] [--against bleu1] [--encoder ID] [--findings FILE] [READER:PATH …]

Without paths: the halves for development in ../shared/human (RadPref, RadJudge, K-QA, MEDEC). `--findings` adds the
labels of single findings in RadPref's half: each finding of a candidate against all findings of the reference, right,
wrong in an attribute, or false.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medrft.audit import load_subject
from medrft.audit.human import HumanSet, Rated, compare_with_people, read_human
from medrft.report.audit_people import FIGURES, notes_of, say_figure, say_interval

SHARED = Path(__file__).resolve().parents[2] / "shared" / "human"
FILES = {
    "radpref": "radpref_half.jsonl",
    "radjudge": "radjudge.jsonl",
    "kqa": "kqa_half.jsonl",
    "medec": "medec_ms_validation.jsonl",
}
REWARDS = ("clinical", "armed_clinical", "armed", "bleu1", "rouge1", "cosine", "bertscore")
NORMAL = "No abnormal findings."


def single_findings(path: Path) -> HumanSet:
    """Each candidate finding of RadPref's half as a row of labels."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for i, finding in enumerate(row["candidate_findings"]):
            votes = tuple(errors.get(str(i), {}).get("type", "right") for errors in row["finding_errors"])
            rows.append(
                Rated(
                    id=f"study {row['study']}, {row['candidate']}, finding {i}",
                    references=tuple(row["reference_findings"]) or (NORMAL,),
                    candidate=finding,
                    study=str(row["study"]),
                    votes=votes,
                )
            )
    raters = tuple(f"rater {i + 1}" for i in range(len(rows[0].votes)))
    return HumanSet(
        name="single findings",
        reader="radpref",
        kind="labels",
        rows=tuple(rows),
        raters=raters,
        right=frozenset(("right",)),
    )


def markdown(found: Sequence[dict[str, Any]], encoders: Sequence[str]) -> Iterator[str]:
    """A row per reward and a column per set, then what a reader must know of each set."""
    heads = [f"{one['name']}: {FIGURES[one['figure']]}, n {one['n']:,}, {one['studies']:,} studies" for one in found]
    yield f"| | {' | '.join(heads)} |"
    yield "|---|" + "---|" * len(found)
    for name in found[0]["rewards"]:
        yield f"| {name} | {' | '.join(_cell(one, name) for one in found)} |"
    yield f"| people among themselves | {' | '.join(say_interval(one['ceiling']) for one in found)} |"
    yield ""
    yield f"Encoder: {', '.join(encoders) or 'none'}. Brackets: 95 % intervals over whole studies."
    for one in found:
        yield ""
        yield f"{one['name']}:"
        yield from (f"- {note}" for note in notes_of(one))
        for name, row in one["rewards"].items():
            differences = (f"minus {other} {say_interval(d, signed=True)}" for other, d in row["differences"].items())
            counts = (f"{row['near_zero'] or 0:.0%} under 0.02", f"{row['unscored']} unscored")
            yield f"- {name}: {'; '.join([*differences, *counts])}"


def _cell(one: dict[str, Any], name: str) -> str:
    row = one["rewards"][name]
    if row["paid"] is None:
        return say_figure(row["figure"])
    paid = (f"{side} paid {say_interval(row['paid'][side], bounds=False)}" for side in ("right", "wrong"))
    return f"{say_figure(row['figure'])}; {', '.join(paid)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="READER:PATH")
    parser.add_argument("--reward", action="append", default=[])
    parser.add_argument("--against", default="bleu1")
    parser.add_argument("--encoder")
    parser.add_argument("--findings", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sets = [read_human(spec) for spec in options.sets or [f"{name}:{SHARED / file}" for name, file in FILES.items()]]
    sets += [single_findings(options.findings)] if options.findings else []
    subjects = [load_subject(name, encoder=options.encoder) for name in options.reward or REWARDS]
    found = compare_with_people(subjects, sets, against=[load_subject(options.against, encoder=options.encoder)])
    if options.json:
        print(json.dumps(found, indent=2))
        return
    encoders = list(dict.fromkeys(subject.encoder for subject in subjects if subject.encoder))
    print(*markdown(found, encoders), sep="\n")


if __name__ == "__main__":
    main()
