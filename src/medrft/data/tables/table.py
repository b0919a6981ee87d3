"""From your own table (JSONL, JSON, CSV, TSV, Parquet, or a data set on the hub) and a map of its columns to examples.

    {"image": "img/001.png", "question": "Is there a fracture?", "answer": "No", "modality": "X-ray"}

A role that is not mapped is looked for under its usual names (`columns.USUAL`). Image paths are relative to the table.
Images inside the table (as the hub stores them) are written to the cache as 8-bit PNG. So are DICOM, NIfTI and 16-bit
PNG or TIFF files, and `metadata.shown` says what was done. Columns without a role stay in `metadata`. Chats, as other
trainers write them, are read turn by turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medrft.data import base
from medrft.data.base import Loaded, Reading, RowError
from medrft.data.deep.read import view_notes
from medrft.data.deep.views import View, make_view
from medrft.data.hub import hub_name, hub_rows
from medrft.data.images import BadImageError, default_cache
from medrft.data.layout import Release
from medrft.data.notes import count_noun
from medrft.data.tables import choices
from medrft.data.tables.answers import Answers
from medrft.data.tables.columns import ABSENT, NEEDED, USUAL, VIEW_ROLES, Columns, Roles, check_columns, metadata_of_row
from medrft.data.tables.formats import recognize_format, turns_of
from medrft.data.tables.pictures import Pictures, cell_images
from medrft.data.tables.rows import SUFFIXES, Row, read_rows, split_name, table_files
from medrft.data.values import native_value, show_value
from medrft.errors import DataError, UserError, unknown_name
from medrft.progress import Advance
from medrft.text import infer_kind
from medrft.types import SPLITS, Example, Turn

NOT_AN_OPTION = base.NOT_AN_OPTION
NO_VIEW = "no such view"
TWO_IMAGES = "image and images name different files"
CT = frozenset({"ct", "computed tomography", "cta", "ct scan"})
RELEASE = Release(
    dataset="table",
    wanted=f"one table ({', '.join(SUFFIXES)}), or a folder with train, validation and test tables",
    source="your own files, or hf:owner/name for a data set on the hub",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """How the rows of one table are read."""

    dataset: str
    split: str
    columns: Columns
    pictures: Pictures
    answers: Answers
    reading: Reading = field(repr=False)
    view: Mapping[str, Any]
    """Arguments of `make_view` for rows that do not give their own."""
    ask: str | None = None
    """The question of rows that have no column for it."""
    turns: list[str] = field(default_factory=list)
    """Numbers of the rows that were conversations of several turns."""


def load_table(
    root: Path | None,
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    dataset: str | None = None,
    split: str = "train",
    image_root: str | Path | None = None,
    ask: str | None = None,
    separator: str | None = None,
    answer_index: int | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    window: str | Sequence[Any] | None = None,
    frame: int | None = None,
    slice: int | None = None,
    slices: int | None = None,
    plane: str = "axial",
    orientation: str = "auto",
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read a table, a folder of them, or `hf:owner/name`.

    `columns` maps roles to columns (several for `image` and `options`). `split` is for rows that name none, `ask` is
    the question of a table without any, such as captions. `separator` stands between several references in one
    text cell. `answer_index` (0 or 1) says that an answer is the place of its option, and from where it counts. The
    six from `window` on are those of `View`. `encoding` and `delimiter` are for text files that do not tell them.
    Raises `DataError` for a missing or unreadable file, `UnknownNameError` for an unknown role, split or view.
    """
    view: dict[str, Any] = {"window": window, "frame": frame, "slice": slice, "slices": slices}
    view |= {"plane": plane, "orientation": orientation}
    make_view(**view)
    _check_options(columns or {}, split, answer_index, ask)
    hub = hub_name(root)
    place = Path() if hub else RELEASE.require(root)
    name = re.sub(r"[^\w.-]+", "_", dataset or _last_part(hub, place)).lstrip(".") or "table"
    files = [] if hub else table_files(place)
    rows = hub_rows(hub, subset=subset, revision=revision) if hub else read_rows(files, encoding, delimiter)
    folder = Path(image_root) if image_root else (place.parent if place.is_file() else place)
    note = f"read the newest revision of {hub}; pin it with revision=… to read the same rows again"
    return read_table(
        rows,
        dataset=name,
        split=split,
        columns=columns or {},
        folder=folder,
        cache=cache,
        ask=ask,
        separator=separator,
        answer_index=answer_index,
        notes=[note] if hub and revision is None else [],
        view=view,
        on_progress=on_progress,
    )


def _check_options(columns: Any, split: str, answer_index: Any, ask: Any) -> None:
    check_columns(columns)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if answer_index not in (None, 0, 1) or isinstance(answer_index, bool):
        raise DataError(f"answer_index is 0 or 1, from where places of options count, got {answer_index!r}")
    if ask is not None and not (isinstance(ask, str) and ask.strip()):
        raise DataError(f"ask is the question of rows without any, a text, got {ask!r}")


def read_table(
    rows: Iterable[Row],
    *,
    dataset: str,
    folder: Path,
    split: str = "train",
    columns: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    ask: str | None = None,
    separator: str | None = None,
    answer_index: int | None = None,
    notes: Sequence[str] = (),
    view: Mapping[str, Any] | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read rows that are at hand as `load_table` reads those of a file; image paths are relative to `folder`."""
    reading = Reading(dataset)
    table = _Table(
        dataset=dataset,
        split=split,
        columns=Columns(columns or {}),
        pictures=Pictures(folder, cache or default_cache()),
        answers=Answers(separator=separator, first=answer_index),
        reading=reading,
        view=dict(view or {}),
        ask=ask,
    )
    for row in rows:
        for one in _unfolded(table, row):
            _read_row(table, one)
    for place, example in table.answers.whole_numbers(reading.examples).items():
        reading.examples[place] = example
    reading.converted += table.answers.numbers
    reading.notes += [*notes, *table.answers.notes(), *_turn_notes(table)]
    reading.notes += view_notes(table.pictures.records())
    return reading.done(on_progress)


def _last_part(hub: str | None, place: Path) -> str:
    """The name of a table if none is given: the last part of its hub name or path."""
    if hub:
        return hub.rstrip("/").rpartition("/")[2]
    return place.stem if place.is_file() else place.resolve().name


def _unfolded(table: _Table, row: Row) -> Iterator[Row]:
    """The row itself, or one for each turn of a chat that it holds."""
    values = {str(key): native_value(value) for key, value in row.values.items()}
    own = table.columns.of(values).one
    told = row.problem or row.turn is not None or table.columns.mapped or ("question" in own and "answer" in own)
    form = None if told else recognize_format(values)
    turns = turns_of(replace(row, values=values), form) if form is not None else [replace(row, values=values)]
    if form is not None:
        # `dataset` is for the format's own loader. Keys that `decode` does not read, such as the row's id, are kept.
        rest = {key: value for key, value in values.items() if key not in form.consumes}
        for turn in turns:
            turn.values.pop("dataset", None)
        turns = [replace(turn, values={**rest, **turn.values}) for turn in turns]
    if len(turns) > 1 or row.turn == 1:
        table.turns.append(str(row.number))
    yield from turns


def _turn_notes(table: _Table) -> list[str]:
    many = len(table.turns)
    what = "row holds a conversation", "rows hold conversations"
    return (
        [f"{count_noun(many, *what)} of several turns: an example for each turn, with those before it"] if many else []
    )


def _read_row(table: _Table, row: Row) -> None:
    """Keep the row, or leave it out with its reason."""
    roles = table.columns.of(row.values)
    values = {role: table.columns.value(role, row.values, roles) for role in USUAL}
    if table.ask and values["question"] is ABSENT:
        values["question"] = table.ask
    given = _first(values["split"], row.split, table.split)
    split = split_name(given)
    own = base.one_line(_first(values["id"], row.number)) or str(row.number)
    own += f"-{row.turn}" if row.turn is not None else ""
    name = f"{table.dataset}/{split or base.one_line(given)}/{own}"
    try:
        if row.problem:
            raise RowError(base.NOT_A_ROW, row.problem)
        if split is None:
            raise RowError(
                base.NO_SPLIT, f"{show_value(given)}; known are train, validation, test and their usual forms"
            )
        table.reading.keep(_example(table, row, values, roles, name=name, split=split))
    except RowError as left:
        table.reading.leave(name, split or base.one_line(given), left.reason, left.detail)
    except BadImageError as bad:
        table.reading.leave(name, split or base.one_line(given), bad.reason, bad.detail)


def _example(table: _Table, row: Row, values: Mapping[str, Any], roles: Roles, *, name: str, split: str) -> Example:
    missing = [table.columns.wanted(role) for role in NEEDED if values[role] is ABSENT]
    if missing:
        raise RowError(base.MISSING_COLUMN, f"{', '.join(missing)}; the row has {', '.join(row.values) or 'none'}")
    question = base.answer_text(values["question"])
    if question is None:
        raise RowError(base.QUESTION_NOT_TEXT, f"got {show_value(values['question'])}")
    if not question:
        raise RowError(base.EMPTY_QUESTION)
    options = _options(values, roles)
    if options is None:
        with_breaks = values["question"] if isinstance(values["question"], str) else question
        asked, options = table.answers.spelled_out(with_breaks.strip(), values["answer"], name=name)
        question = base.one_line(asked) if options else question
    references = table.answers.read(values["answer"], options, question, name=name)
    view = _view(table, values)
    found = table.pictures.read(_image_value(values["image"], roles, row.values), view, row=base.one_line(values["id"]))
    if not found:
        raise RowError(base.NO_IMAGE)
    records = [record for _, record in found]
    return Example(
        id=name,
        dataset=table.dataset,
        split=split,
        images=tuple(path for path, _ in found),
        question=question,
        references=references,
        kind=infer_kind(references, options.kept if options else ()),
        options=options.kept if options else (),
        rationale=_rationale(values["rationale"]),
        metadata={
            **_metadata(row.values, values, roles),
            **({"shown": records} if any(record is not None for record in records) else {}),
        },
        history=_history(row.values.get("history")),
    )


def _options(values: Mapping[str, Any], roles: Roles) -> choices.Options | None:
    """The options of a row, with the empty ones: from one column, or from several that hold one each."""
    value = values["options"]
    if value is ABSENT:
        return None
    return choices.by_column(value) if "options" in roles.several else choices.read_options(value)


def _view(table: _Table, values: Mapping[str, Any]) -> View:
    """How a row's images are shown: by the row's own columns, else by the options of the table."""
    own = {role: values[role] for role in VIEW_ROLES if values[role] not in (ABSENT, None, "")}
    try:
        view = make_view(**{**table.view, **own})
    except UserError as error:
        raise RowError(NO_VIEW, str(error)) from error
    return replace(view, ct=base.one_line(_first(values["modality"], "")).lower() in CT)


def _image_value(value: Any, roles: Roles, row: Mapping[str, Any]) -> Any:
    """The cell of a row's images: `image`, or `images` if `image` is empty or one of them. Raises if the two differ."""
    if roles.one.get("image") != "image" or "images" not in row:
        return value
    one, more = cell_images(value), cell_images(row["images"])
    if not more or one == more:
        return value
    names = [image for image in more if isinstance(image, str)]
    if one and not all(image in names for image in one):
        raise RowError(
            TWO_IMAGES, f"{show_value(value, 40)} and {show_value(row['images'], 40)}; columns.image=NAME picks one"
        )
    return more


def _first(*values: Any) -> Any:
    """The first value that is neither absent nor `None`."""
    return next((value for value in values if value is not ABSENT and value is not None), None)


def _metadata(row: Mapping[str, Any], values: Mapping[str, Any], roles: Roles) -> dict[str, Any]:
    """Columns without a role, and as `source` the names of images that the row holds as bytes."""
    cells = cell_images(values["image"])
    sources = [str(i.get("path")) for i in cells if isinstance(i, Mapping) and i.get("bytes")]
    found = metadata_of_row(row, values, roles)
    if _history(row.get("history")):
        del found["history"]
    return {**found, **({"source": sources} if sources else {})}


def _history(value: Any) -> tuple[Turn, ...]:
    """Earlier turns if the column holds pairs of texts, else `()`: any other `history` is a column like others."""
    if not isinstance(value, list) or not value:
        return ()
    pairs = all(isinstance(turn, list) and len(turn) == 2 and all(isinstance(t, str) for t in turn) for turn in value)
    return tuple((base.one_line(asked), base.one_line(said)) for asked, said in value) if pairs else ()


def _rationale(value: Any) -> str | None:
    """A chain of thought with its line breaks."""
    return value.strip() or None if isinstance(value, str) else None
