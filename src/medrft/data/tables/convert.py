"""From examples to the files of another trainer (`formats.FORMATS`) and back; each format is also a loader.

A conversion reports what it could not keep: every row that is written is decoded again, and differences are counted.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypedDict

from medrft.data.base import Loaded, one_line
from medrft.data.images import sha256_of
from medrft.data.layout import Release
from medrft.data.privacy import stripped_image, without_identifying
from medrft.data.tables.choices import options_of, resolve_answer
from medrft.data.tables.formats import FORMATS, Format, Wording, turns_of
from medrft.data.tables.rows import Row, read_rows, table_files
from medrft.data.tables.table import read_table
from medrft.errors import DataError, naming_extras, unknown_name
from medrft.files import make_folder
from medrft.progress import Advance
from medrft.rundir import write_atomic, write_json, write_jsonl
from medrft.text import infer_kind
from medrft.types import SPLITS, Example

BATCH = 64
"""Rows of a Parquet file that are held in memory."""


class Conversion(TypedDict):
    """What was written: rows per file, and `lost`: in how many rows the format could not keep a field."""

    format: str
    files: dict[str, int]
    images: int
    lost: dict[str, int]
    dropped: dict[str, int]
    """Columns that may say who the patient is, and in how many rows they were left out."""
    left_out: list[dict[str, str]]


@dataclass(slots=True)
class _Pictures:
    """The images of one output without their metadata: copied to `images/` beside it, or inside the rows.

    An image that is below the output folder already and carries no metadata is not copied.
    """

    folder: Path
    embeds: bool
    placed: dict[str, Any]
    """What stands in rows for each image, by its hash."""

    def place(self, path: Path) -> Any:
        sha256 = sha256_of(path)
        if sha256 not in self.placed:
            placed = self._placed(path, sha256)
            if self.embeds:  # only counted: the bytes of all images would not fit in memory
                self.placed[sha256] = None
                return placed
            self.placed[sha256] = placed
        return self.placed[sha256] if not self.embeds else self._placed(path, sha256)

    def _placed(self, path: Path, sha256: str) -> Any:
        content, suffix = stripped_image(path)
        name = f"{sha256[:20]}{suffix}"
        if self.embeds:
            return {"bytes": content, "path": name}
        folder, real = self.folder.resolve(), path.resolve()
        if real.is_relative_to(folder) and content == path.read_bytes():
            return real.relative_to(folder).as_posix()
        copy = folder / "images" / name
        if not copy.is_file():
            write_atomic(copy, content)
        return copy.relative_to(folder).as_posix()


def read_format(
    name: str,
    root: Path | None,
    *,
    dataset: str | None = None,
    split: str = "train",
    image_root: str | Path | None = None,
    encoding: str | None = None,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read rows of the format `name`: one file, or a folder of files named by split.

    The data set is called `dataset`, else what its first row says, else as its file. Raises `UnknownNameError` for a
    split, `DataError` for files that are not there.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    release = Release(
        dataset=name,
        wanted="one file of its rows, or a folder with train, validation and test files",
        source="what its trainer reads, or medrft data convert",
    )
    place = release.require(root)
    files = read_rows(table_files(place), encoding)
    rows = (turn for row in files for turn in turns_of(row, FORMATS[name]))
    first = next(rows, None)
    given = first.values.pop("dataset", None) if first is not None else None
    return read_table(
        (_without_dataset(row) for row in chain([first] if first is not None else [], rows)),
        dataset=_file_name(dataset or given or (place.stem if place.is_file() else place.resolve().name)),
        split=split,
        folder=Path(image_root) if image_root else (place.parent if place.is_file() else place),
        cache=cache,
        on_progress=on_progress,
    )


READERS: dict[str, Callable[..., Loaded]] = {name: partial(read_format, name) for name in FORMATS}
"""Format -> its loader."""


@naming_extras()
def write_format(
    examples: Sequence[Example],
    name: str,
    output: Path,
    *,
    words: Callable[[Example], Wording],
    keep: Collection[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write examples as rows of a format: one file, or a folder with a file per split where `output` has no ending.

    Images lose their metadata and keep their pixels. Columns that may say who the patient is are dropped, except those
    in `keep`. Examples of one conversation become one row if the format reads every turn of a row.
    Raises `DataError` for an ending that is not the format's, and for an output that exists and is not an empty folder.
    """
    form = FORMATS[name]
    files = _files(examples, output, form.suffix)
    pictures = _Pictures(output.parent if output.suffix else output, form.embeds, {})
    result: Conversion = {"format": name, "files": {}, "images": 0, "lost": {}, "dropped": {}, "left_out": []}
    lost: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    done = 0

    def rows_of(chosen: Sequence[Example]) -> Iterator[dict[str, Any]]:
        nonlocal done
        for example, after in zip(chosen, [*chosen[1:], None], strict=True):
            done += 1
            example = replace(example, metadata=without_identifying(example.metadata, keep=keep, dropped=dropped))
            if form.turns and after is not None and _goes_on(example, after):
                # The row of the last turn holds this turn in its history, but without its thought.
                lost.update(["rationale"] if example.rationale else [])
            elif not form.many and len(example.images) > 1:
                reason = f"{name} holds one image per row, this has {len(example.images)}"
                result["left_out"].append({"row": example.id, "split": example.split, "reason": reason})
            else:
                row = form.encode(example, words(example), [pictures.place(path) for path in example.images])
                lost.update(_lost(example, form.decode(row)[-1], split_told=not output.suffix))
                result["files"][path.name] = result["files"].get(path.name, 0) + 1
                yield row
            if on_progress is not None:
                on_progress(done, len(examples))

    for path, chosen in files.items():
        result["files"][path.name] = 0
        _write(path, rows_of(chosen), form)
    if name == "llama_factory":
        write_json(pictures.folder / "dataset_info.json", _dataset_info(files))
    result["images"] = len(pictures.placed)
    result["lost"], result["dropped"] = dict(lost.most_common()), dict(dropped.most_common())
    return result


def _goes_on(example: Example, after: Example) -> bool:
    """Whether the next example is the next turn of this one's conversation."""
    earlier = len(example.history)
    return (
        len(after.history) == earlier + 1
        and after.history[:earlier] == example.history
        and after.images[: len(example.images)] == example.images
        and one_line(after.history[-1][0]).startswith(one_line(example.question))
    )


def _files(examples: Sequence[Example], output: Path, suffix: str) -> dict[Path, Sequence[Example]]:
    """The files to write, each with its rows."""
    if output.suffix and output.suffix != suffix:
        raise DataError(f"its rows are written as {suffix}, got --output {output}; name a {suffix} file or a folder")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output} exists already; choose another --output")
    if output.suffix:
        return {output: examples}
    splits = {split: [example for example in examples if example.split == split] for split in SPLITS}
    return {output / f"{split}{suffix}": rows for split, rows in splits.items() if rows}


def _write(path: Path, rows: Iterator[dict[str, Any]], form: Format) -> None:
    make_folder(path.parent)
    if form.suffix == ".parquet":
        _write_parquet(path, rows)
    elif form.suffix == ".jsonl":
        write_jsonl(path, rows)
    else:
        write_atomic(path, json.dumps(list(rows), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Write in batches, under another name until the file is whole: a reader must not take half of it for all."""
    import pyarrow
    import pyarrow.parquet

    partial = path.with_name(f".{path.name}.{os.getpid()}")
    writer = None
    try:
        while batch := list(islice(rows, BATCH)):
            table = pyarrow.Table.from_pylist(batch, schema=writer.schema if writer else None)
            writer = writer or pyarrow.parquet.ParquetWriter(partial, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise DataError(f"no row is left to write to {path}")
    partial.replace(path)


def _dataset_info(files: Iterable[Path]) -> dict[str, Any]:
    """LLaMA-Factory's `dataset_info.json`: it loads only files that are registered there, with their tags."""
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "images": "images"}
    entry = {"formatting": "sharegpt", "columns": columns, "tags": {**tags, "system_tag": "system"}}
    return {path.stem: {"file_name": path.name, **entry} for path in files}


def _lost(example: Example, back: dict[str, Any], *, split_told: bool) -> Iterator[str]:
    """The fields of an example that its row does not give back."""
    options = options_of(back.get("options"))
    answers = back["answer"] if isinstance(back["answer"], list | tuple) else [back["answer"]]
    found = tuple(resolve_answer(str(text), options) or "" if options else one_line(text) for text in answers)
    if back.get("dataset") != example.dataset:
        yield "dataset and id"
    if not split_told and back.get("split") != example.split:
        yield "split"
    if one_line(back["question"]) != one_line(example.question):
        yield "question"
    if options != example.options:
        yield "options"
    if found[:1] != tuple(one_line(text) for text in example.references[:1]):
        yield "answer"
    if len(found) < len(example.references):
        yield "other references"
    if (back.get("rationale") or None) != (example.rationale or None):
        yield "rationale"
    if any(key not in back for key in example.metadata):
        yield "metadata"
    if infer_kind(example.references[: len(found)], options) != example.kind:
        yield "kind"
    if len(back.get("history") or ()) != len(example.history):
        yield "earlier turns"


def _without_dataset(row: Row) -> Row:
    row.values.pop("dataset", None)
    return row


def _file_name(text: object) -> str:
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in one_line(text)[:80]).lstrip(".") or "table"
