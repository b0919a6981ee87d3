"""Reads four sets that people judged, as they are released: RadPref, RadJudge, K-QA and MEDEC.

RadPref and RadJudge (CRIMSON, arXiv 2603.06183, MIT), K-QA (arXiv 2401.14493, MIT) and MEDEC (arXiv 2412.19260,
CC BY 4.0) are read from where a user has them; nothing of them is part of medrft. docs/audit.md says which layouts were
seen in the releases and which only in the scripts that read them.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medrft.audit.human.rows import HumanSet, Order, Rated, Vote, as_sentences
from medrft.audit.human.tables import columns_of, filled, require_columns, table_rows, text_of
from medrft.errors import DataError
from medrft.rundir import read_json

RADPREF = (
    "RadPref is preference_data.json (a list with id, ground_truth_findings, C1_findings, C2_findings) beside a folder "
    "radiologist_annotations of user_1.json … (annotations -> case -> C1, C2 -> rating)"
)
RADJUDGE = (
    "RadJudge is a Python file with RANKING_TESTS (tests of id, ground_truth, candidates, expected_ranking), or JSONL "
    "with id, reference, candidates, right_order"
)
KQA = "K-QA is dataset/NLI_medical_annotator.csv with Question, answer, claim, label_0, label_1, label_2"
MEDEC = "MEDEC is a CSV with Text ID, Error Flag, Error Sentence, Corrected Sentence, and in some files Error Type"
TESTS = "RANKING_TESTS"
NOTHING = ("", "na", "n/a", "nan")


def read_radpref(path: Path) -> HumanSet:
    """RadPref: lists of findings of two candidates a study, rated from 1 to 5 by three radiologists.

    `path` is the released folder or its preference_data.json, or a table with the keys study, candidate,
    reference_findings, candidate_findings and ratings.
    """
    file = path / "preference_data.json" if path.is_dir() else path
    rows = table_rows(file, what=RADPREF)
    if "candidate_findings" in columns_of(rows):
        raters = tuple(f"rater {i + 1}" for i in range(max(len(row.get("ratings") or ()) for _, row in rows)))
        made = [_radpref_row(row, f"{file}, row {number}") for number, row in rows]
        return HumanSet(name=file.name, reader="radpref", kind="ratings", rows=tuple(made), raters=raters)
    require_columns(file, rows, ("id", "ground_truth_findings", "C1_findings", "C2_findings"), what=RADPREF)
    raters, ratings = _radpref_ratings(file)
    found = [
        Rated(
            id=f"study {case}, {name}",
            references=(as_sentences(_list(row, "ground_truth_findings", f"{file}, row {number}")),),
            candidate=as_sentences(_list(row, f"{name}_findings", f"{file}, row {number}")),
            study=case,
            votes=tuple(ratings[rater].get((case, name)) for rater in raters),
        )
        for number, row in rows
        for case in (text_of(row["id"]),)
        for name in ("C1", "C2")
    ]
    return HumanSet(name=file.name, reader="radpref", kind="ratings", rows=tuple(found), raters=raters)


def _radpref_row(row: Mapping[str, Any], where: str) -> Rated:
    ratings = row.get("ratings")
    if not isinstance(ratings, list) or not all(isinstance(value, int | float) for value in ratings):
        raise DataError(f"{where}: `ratings` is a list of numbers, got {ratings!r:.60}")
    return Rated(
        id=f"study {row.get('study')}, {row.get('candidate')}",
        references=(as_sentences(_list(row, "reference_findings", where)),),
        candidate=as_sentences(_list(row, "candidate_findings", where)),
        study=text_of(row.get("study")),
        votes=tuple(map(float, ratings)),
    )


def _radpref_ratings(file: Path) -> tuple[tuple[str, ...], dict[str, dict[tuple[str, str], float]]]:
    """Each rater's rating of each case and candidate; cases that a rater marked for review are left out."""
    places = [file.parent / name for name in ("radiologist_annotations", "annotations")]
    folder = next((place for place in places if place.is_dir()), places[0])
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise DataError(f"no ratings at {folder}; {RADPREF}")
    found: dict[str, dict[tuple[str, str], float]] = {}
    for one in files:
        read = read_json(one)
        cases = read.get("annotations", read) if isinstance(read, dict) else None
        if not isinstance(cases, dict) or not all(isinstance(case, dict) for case in cases.values()):
            raise DataError(f"{one} holds no annotations by case; {RADPREF}")
        given = ((str(key), name, case) for key, case in cases.items() for name in ("C1", "C2"))
        found[one.stem] = {
            (key, name): float(case[name]["rating"])
            for key, name, case in given
            if not case.get("needs_review") and isinstance((case.get(name) or {}).get("rating"), int | float)
        }
    return tuple(found), found


def read_radjudge(path: Path) -> HumanSet:
    """RadJudge: cases of a reference and two or three candidates, with the order that radiologists agreed on.

    Cases with a patient's age or indication are left out, because a reward sees texts alone.
    """
    cases = list(_radjudge_cases(path))
    kept = [(number, case) for number, case in enumerate(cases, 1) if not _has_context(case)]
    rows: list[Rated] = []
    orders: list[Order] = []
    for number, case in kept:
        where = f"{path}, case {case.get('id', number)}"
        candidates = case.get("candidates")
        if not isinstance(candidates, dict) or len(candidates) < 2:
            raise DataError(f"{where}: `candidates` maps names to texts, two or more; got {candidates!r:.60}")
        texts = {name: one.get("text") if isinstance(one, dict) else one for name, one in candidates.items()}
        reference = text_of(case.get("reference", case.get("ground_truth")))
        if not reference:
            raise DataError(f"{where}: empty reference; {RADJUDGE}")
        relations = _relations(case.get("right_order", case.get("expected_ranking")), texts, where)
        name = text_of(case.get("id")) or str(number)
        places = {one: len(rows) + i for i, one in enumerate(texts)}
        rows += [
            Rated(id=f"{name} {one}", references=(reference,), candidate=text_of(text), study=name)
            for one, text in texts.items()
        ]
        about = text_of(case.get("about", case.get("category")))
        orders.append(Order(id=name, about=about, candidates=places, relations=relations))
    left = len(cases) - len(kept)
    says = f"{left} cases hang on the patient's age or indication, which a reward does not see: left out"
    return HumanSet(
        name=path.name,
        reader="radjudge",
        kind="orderings",
        rows=tuple(rows),
        orders=tuple(orders),
        notes=[says] if left else [],
    )


def _radjudge_cases(path: Path) -> Iterator[dict[str, Any]]:
    """The cases of a release's Python file, or the rows of a table."""
    if path.is_dir():
        found = [file for file in sorted(path.glob("*.py")) if f"{TESTS} =" in file.read_text(encoding="utf-8")]
        if not found:
            raise DataError(f"{path} holds no Python file with {TESTS}; {RADJUDGE}")
        path = found[0]
    if path.suffix != ".py":
        yield from (row for _, row in table_rows(path, what=RADJUDGE))
        return
    if not path.is_file():
        raise DataError(f"no file at {path}; {RADJUDGE}")
    for category in _literal(path, TESTS):
        for case in category.get("tests", ()):
            yield {"about": category.get("category", ""), **case}


def _literal(path: Path, name: str) -> list[dict[str, Any]]:
    """The value that a Python file gives a name, read without running the file."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not Python ({error}); {RADJUDGE}") from error
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
            try:
                value = ast.literal_eval(node.value)
            except ValueError as error:
                raise DataError(f"{path}: {name} is not a plain list ({error})") from error
            if isinstance(value, list) and all(isinstance(one, dict) for one in value):
                return value
    raise DataError(f"{path} has no list {name}; {RADJUDGE}")


def _has_context(case: Mapping[str, Any]) -> bool:
    candidates = case.get("candidates")
    inside = candidates.values() if isinstance(candidates, dict) else ()
    return bool(case.get("context")) or any(isinstance(one, dict) and one.get("context") for one in inside)


def _relations(order: Any, names: Iterable[str], where: str) -> tuple[tuple[str, str, str], ...]:
    """`"C1 > C2 = C3"`, or a list of such texts, as relations of two names each."""
    found: list[tuple[str, str, str]] = []
    for text in order if isinstance(order, list) else [order]:
        pieces = re.split(r"\s*([<>=])\s*", str(text).strip())
        if len(pieces) < 3 or len(pieces) % 2 == 0 or not set(pieces[::2]) <= set(names):
            raise DataError(f"{where}: an order is like 'C1 > C2' or 'C1 = C2', got {text!r:.60}")
        for i in range(1, len(pieces), 2):
            left, sign, right = pieces[i - 1 : i + 2]
            found.append((right, ">", left) if sign == "<" else (left, sign, right))
    return tuple(found)


def read_kqa(path: Path) -> HumanSet:
    """K-QA: whether a model's answer entails a claim that physicians want in it, by three annotators.

    The claim is the reference, the answer the candidate. Neutral and contradicted claims count as wrong.
    """
    rows = table_rows(path, what=KQA)
    cut = "labels" in columns_of(rows)
    labels = () if cut else sorted(name for name in columns_of(rows) if re.fullmatch(r"label_\d+", name))
    require_columns(path, rows, ("answer", "claim", *(labels or ("labels" if cut else "label_0",))), what=KQA)
    found = []
    for number, row in rows:
        votes = row["labels"] if cut else [row[name] for name in labels]
        question = text_of(row.get("question", row.get("Question")))
        found.append(
            Rated(
                id=f"row {number}",
                references=(filled(row, "claim", f"{path}, row {number}"),),
                candidate=text_of(row["answer"]),
                question=question,
                study=question or f"row {number}",
                votes=_words(votes, f"{path}, row {number}"),
            )
        )
    most = max(len(row.votes) for row in found)
    return HumanSet(
        name=path.name,
        reader="kqa",
        kind="labels",
        rows=tuple(found),
        raters=tuple(f"annotator {i + 1}" for i in range(most)),
        right=frozenset(("entailment",)),
    )


def _words(votes: Any, where: str) -> tuple[Vote, ...]:
    known = ("entailment", "neutral", "contradiction")
    words = [text_of(vote).lower() for vote in votes] if isinstance(votes, list) else [repr(votes)]
    for word in words:
        if word and word not in known:
            raise DataError(f"{where}: unknown label {word!r:.60}; K-QA has {', '.join(known)}")
    return tuple(word or None for word in words)


def read_medec(path: Path) -> HumanSet:
    """MEDEC: clinical sentences with one error each, and their corrections by physicians.

    The corrected sentence is the reference. Wrong is the sentence with the error; right, for want of another, is the
    reference itself.
    """
    rows = table_rows(path, what=MEDEC)
    cut = "candidate" in columns_of(rows)
    names = ("reference", "candidate") if cut else ("Corrected Sentence", "Error Sentence")
    require_columns(path, rows, (*names, *(() if cut else ("Error Flag",))), what=MEDEC)
    found: list[Rated] = []
    for number, row in rows:
        right, wrong = (text_of(row.get(name)) for name in names)
        if right.lower() in NOTHING or wrong.lower() in NOTHING:
            continue  # a text without an error
        study = text_of(row.get("Text ID")) or f"row {number}"
        kind = text_of(row.get("attribute", row.get("Error Type"))) or "wrong"
        for said, text, vote in (("corrected", right, "right"), ("with its error", wrong, kind)):
            row_id = f"{study}, {said}"
            found.append(Rated(id=row_id, references=(right,), candidate=text, study=study, votes=(vote,)))
    counts = Counter(row.votes[0] for row in found)
    notes = [
        f"the right answers are the {counts['right']:,} references themselves: the AUROC says only that a changed word "
        "costs something; look at what the wrong sentences are paid"
    ]
    return HumanSet(
        name=path.name, reader="medec", kind="labels", rows=tuple(found), right=frozenset(("right",)), notes=notes
    )


def _list(row: Mapping[str, Any], name: str, where: str) -> list[str]:
    found = row.get(name)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise DataError(f"{where}: `{name}` is a list of texts, got {found!r:.60}")
    return found
