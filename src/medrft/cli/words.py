"""`medrft data check --words`: the words of a data set's answers that the clinical lexicon does not know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from medrft.cli import common

if TYPE_CHECKING:
    from medrft.data.base import Loaded
    from medrft.scorers.clinical.unknown import Source, Survey

LISTED = 30
"""How many words are printed; `--json` has them all."""


def survey_data(loaded: Loaded, lexicon: Sequence[Path]) -> Survey:
    """The unknown words of all references but plain yes and no, and of the options, by our lexicon and the user's."""
    from medrft.scorers.clinical.own import own_lexicon
    from medrft.scorers.clinical.unknown import survey_words

    made = own_lexicon(tuple(lexicon))
    with common.progress_bar("reading words") as advance:
        return survey_words(_texts(loaded), made, on_progress=advance)


def _texts(loaded: Loaded) -> Iterator[Source]:
    from medrft.scorers.clinical.unknown import Source

    for example in loaded.examples:
        if example.kind != "closed":
            yield from (Source(example.id, text) for text in dict.fromkeys(example.references))
        others = dict.fromkeys(text for text in example.options if text not in example.references)
        yield from (Source(example.id, text, is_reference=False) for text in others)


def print_survey(survey: Survey) -> None:
    """The shares, the most frequent unknown words with an example each, and YAML for those that suggest an entry."""
    from medrft.scorers.clinical.unknown import BY_HAND, FORMS, paste

    n = survey.references
    share = f"{survey.known / n:.1%}" if n else "none"
    common.out.print("\nWords of the answers", style="bold")
    common.out.print(
        f"Of {n:,} references (plain yes and no left out) the clinical lexicon knows {share} in every word; of "
        f"{survey.mostly_unknown:,} it does not know more than a third of the words.",
        highlight=False,
    )
    if not survey.words:
        return
    shown = survey.words[:LISTED]
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("unknown word", no_wrap=True)
    table.add_column("times", justify="right")
    table.add_column("for example")
    table.add_column("what to add")
    for word in shown:
        example = f"{word.example.text[:60]} ({word.example.id})"
        table.add_row(escape(word.word), f"{word.count:,}", Text(example), Text(word.hint.replace(BY_HAND, "by hand")))
    common.out.print(table)
    if len(survey.words) > LISTED:
        common.out.print(f"… and {len(survey.words) - LISTED:,} more; --json lists them all", highlight=False)
    if any(word.hint.endswith(BY_HAND) for word in shown):
        common.out.print("By hand, in a file of your own (docs/clinical.md), WORD being one of the above:")
        common.out.print(Text(FORMS), soft_wrap=True)
    if suggested := [word for word in shown if word.entry]:
        common.out.print("What the form of the others suggests, to paste into that file and read again:")
        common.out.print(Text(paste(suggested)), soft_wrap=True)
