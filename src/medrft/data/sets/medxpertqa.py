"""MedXpertQA-MM: 2,005 multiple-choice questions of specialty exams with one to six images (MIT; Zuo et al., 2025).

    {"id": "MM-0", "question": "… Which surgical step …?\\nAnswer Choices: (A) Lateral … (B) …", "label": ["A"],
     "options": [{"letter": "A", "content": "Lateral …"}, …], "images": [{"image_path": "MM-0-a.jpeg"}, …],
     "medical_task": "Treatment", "body_system": "Skeletal", "question_type": "Reasoning"}

In the hub form the options are a table by letter, the label is a text and the images are names. Each question ends with
its choices. They are cut off, because the prompt prints the options. `dev` is our validation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrft.data import base
from medrft.data.base import Loaded, Reading
from medrft.data.counts import Form
from medrft.data.fields import Fields, find_column, find_file, is_hub_form, keep_table_row, metadata_of, read_hub
from medrft.data.hub import hub_name
from medrft.data.layout import Release
from medrft.data.tables.choices import texts_by_letter
from medrft.data.tables.rows import read_rows, table_files
from medrft.progress import Advance

OFFICIAL = Form(
    name="the official release",
    rows={"validation": 5, "test": 2_000},
    images="unpack images.zip beside the tables, or name its folder with image_root",
)
TEXT = Form(name="the subset without images (MedXpertQA-Text)", rows={"validation": 5, "test": 2_450})
RELEASE = Release(
    dataset="medxpertqa",
    wanted="MM/dev.jsonl and MM/test.jsonl (or dev.jsonl and test.jsonl) beside images/ (images.zip unpacked)",
    source="hf:TsinghuaC3I/MedXpertQA or https://github.com/TsinghuaC3I/MedXpertQA (MIT)",
)
NEEDED = ("id", "question", "options", "label", "images")
CHOICES = re.compile(r"\s*Answer Choices:\s*\(A\).*$", re.DOTALL)


def load_medxpertqa(
    root: Path | None,
    *,
    image_root: str | Path | None = None,
    subset: str = "MM",
    revision: str | None = None,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read the multimodal subset, in the repository's form or the hub's.

    `image_root` is the unpacked images.zip, if it is not beside the tables. The hub's tables hold only names of images.
    Raises `DataError` for a missing folder or another layout.
    """
    reading = Reading("medxpertqa", splits=("validation", "test"), forms=(OFFICIAL, TEXT))
    if hub_name(root) is not None and root is not None:
        images = Path(image_root) if image_root else Path("images")
        read_hub(reading, root, _reader(images), subset=subset, revision=revision, cache=cache)
        return reading.done(on_progress)
    root = RELEASE.require(root)
    folder = root / subset if (root / subset).is_dir() else root
    images = Path(image_root) if image_root else find_file(root, "images") or root.parent / "images"
    if not is_hub_form(folder) and not any((folder / f"{name}.jsonl").is_file() for name in ("dev", "test")):
        raise RELEASE.wrong(root)
    for row in read_rows(table_files(folder)):
        keep_table_row(reading, row, _reader(images), cache=cache)
    return reading.done(on_progress)


def without_choices(question: str) -> str:
    """A question without the choices at its end.

    >>> without_choices("Which nerve?\\nAnswer Choices: (A) Median nerve (B) Ulnar nerve")
    'Which nerve?'
    """
    start = question.rfind("Answer Choices:")
    return question if start < 0 else (question[:start] + CHOICES.sub("", question[start:])).strip()


def fields_of(row: Mapping[str, Any], *, images: Path) -> Fields | str:
    """The parts of one row, or the columns that it lacks."""
    options = texts_by_letter(find_column(row, "options"))
    missing = [name for name in NEEDED if find_column(row, name) is None or (name == "options" and not options)]
    if missing:
        return ", ".join(missing)
    label, pictures, question = find_column(row, "label"), find_column(row, "images"), find_column(row, "question")
    return Fields(
        id=base.one_line(find_column(row, "id")) or None,
        question=without_choices(question) if isinstance(question, str) else question,
        answers=tuple(label) if isinstance(label, list) else (label,),
        options=options,
        lettered=True,
        images=tuple(map(_picture, pictures if isinstance(pictures, list) else [pictures])),
        folder=images,
        metadata={**metadata_of(row, "id", "question", "images"), "organ": find_column(row, "body_system")},
    )


def _reader(images: Path) -> functools.partial[Fields | str]:
    return functools.partial(fields_of, images=images)


def _picture(value: Any) -> Any:
    """The name of an image, or the image itself if the row holds its bytes."""
    if isinstance(value, Mapping) and value.get("bytes") is None:
        return value.get("image_path") or value.get("path")
    return value
