"""What the audit page shows of people: bars, ceiling, worst rows, all escaped."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from medrft.audit import Settings, load_subject, people_summary
from medrft.audit.human import HumanSet, Order, Rated, compare_with_people
from medrft.report.audit import audit_page, run_fragment
from medrft.report.audit_people import people_table

NASTY = "<script>alert(1)</script>"


def page_of(judged, *names):
    said = compare_with_people([load_subject(name) for name in names], [judged])
    return audit_page(people_summary(Settings(), said, out=None))


@pytest.fixture
def ratings():
    rows = [
        Rated(
            id=f"{NASTY} {i}",
            references=(f"left effusion {NASTY}",),
            candidate=text,
            question=NASTY,
            study=f"{NASTY} {i // 2}",
            votes=votes,
        )
        for i, (text, votes) in enumerate(
            [
                (f"left effusion {NASTY}", (1.0, 2.0)),
                ("right effusion", (5.0, 4.0)),
                ("", (2.0, 1.0)),
                ("effusion", (3.0, 3.0)),
            ]
        )
    ]
    return HumanSet(name=NASTY, reader="columns", kind="ratings", rows=tuple(rows), raters=(NASTY, "b"))


def test_the_page_has_bars_a_ceiling_and_the_worst_rows_escaped(ratings):
    page = page_of(ratings, "clinical", "rouge1")
    assert NASTY not in page and "&lt;script&gt;" in page and "<script" not in page
    assert page.count('class="ceiling"') == 1 and page.count('<rect class="bin"') == 2
    assert "what the reward compared" in page and "(nothing)" in page
    assert not re.search(r'(?:src|href)="https?:', page)


def test_orders_are_shown_with_both_texts():
    rows = [
        Rated(id=str(i), references=("left effusion",), candidate=text, study="1a")
        for i, text in enumerate(["right", NASTY])
    ]
    order = Order(id="1a", about=NASTY, candidates={"C1": 0, "C2": 1}, relations=(("C2", ">", "C1"),))
    judged = HumanSet(name="orders", reader="radjudge", kind="orderings", rows=tuple(rows), orders=(order,))
    page = page_of(judged, "exact_match")
    assert "C2 &gt; C1" in page and "orders that it does not keep" in page and NASTY not in page
    assert 'class="ceiling"' not in page.replace(".ceiling", "")


def test_a_reward_that_pays_all_alike_has_no_bar(ratings):
    filled = replace(ratings, rows=tuple(row for row in ratings.rows if row.candidate), notes=[])
    assert "not defined" in page_of(filled, "answer_format")


def test_a_table_names_each_column(ratings):
    (said,) = compare_with_people([load_subject("rouge1")], [ratings], against=[load_subject("bleu1")])
    _, columns, rows, notes = people_table(said)
    assert columns == ["", "Kendall's tau", "minus bleu1", "near 0", "unscored", "encoder"]
    assert all(len(row) == len(columns) for row in rows)
    assert [row[0] for row in rows] == ["rouge1", "bleu1", "people among themselves"]
    assert any("each rater with the mean of the others" in note for note in notes)


def test_a_comparison_with_people_alone_is_no_audit_of_a_run(ratings):
    said = compare_with_people([load_subject("rouge1")], [ratings])
    assert run_fragment(people_summary(Settings(), said, out=None)) is None
