"""VQA-Med-2019: 4,200 radiology images from MedPix with 15,292 questions (CC BY 4.0; Ben Abacha et al., CLEF 2019).

    synpic41148|which organ is captured by this ct scan?|lung, mediastinum, pleura
    synpic40410|organ|what organ system is imaged?|face, sinuses, and neck#skull and contents

A line of train or validation is image, question and answer. A line of test also has the category, and `#` between
accepted answers. Some organ systems have commas in their names, so an answer is never split at a comma.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medrft.data import base
from medrft.data.base import Loaded, Reading
from medrft.data.counts import Form
from medrft.data.fields import (
    Fields,
    find_file,
    is_hub_form,
    keep_row,
    plain_fields,
    read_hub,
    require_any,
    with_ending,
)
from medrft.data.layout import Release, require_file
from medrft.errors import DataError
from medrft.progress import Advance
from medrft.types import SPLITS, Split

OFFICIAL = Form(name="the official release", rows={"train": 12_792, "validation": 2_000, "test": 500})
RELEASE = Release(
    dataset="vqa_med_2019",
    wanted="All_QA_Pairs_train.txt with Train_images/, All_QA_Pairs_val.txt with Val_images/, and "
    "VQAMed2019_Test_Questions_w_Ref_Answers.txt with VQAMed2019_Test_Images/, all unpacked in one folder",
    source="https://github.com/abachaa/VQA-Med-2019 (CC BY 4.0)",
)
TEST = "VQAMed2019_Test_Questions_w_Ref_Answers.txt"
FILES: dict[Split, str] = {"train": "All_QA_Pairs_train.txt", "validation": "All_QA_Pairs_val.txt", "test": TEST}
IMAGES: dict[Split, str] = {"train": "Train_images", "validation": "Val_images", "test": "VQAMed2019_Test_Images"}
SHORT: dict[Split, str] = {"train": "train", "validation": "val"}
CATEGORIES = {"C1_Modality": "modality", "C2_Plane": "plane", "C3_Organ": "organ", "C4_Abnormality": "abnormality"}


def load_vqa_med_2019(
    root: Path | None,
    *,
    image_root: str | Path | None = None,
    revision: str | None = None,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read the three unpacked archives, or a hub copy with image, question and answer.

    `image_root` is one folder with all images, if they are not beside the questions. If `All_QA_Pairs_….txt` is
    missing, the files by category are read, and ids name them. Raises `DataError` if no file of questions is found.
    """
    reading = Reading("vqa_med_2019", splits=SPLITS, forms=(OFFICIAL,))
    if root is not None and is_hub_form(root):
        read_hub(reading, root, plain_fields, revision=revision, cache=cache)
        return reading.done(on_progress)
    root = RELEASE.require(root)
    sources = {split: _sources(root, split) for split in SPLITS}
    require_any(RELEASE, root, {FILES[split]: found for split, found in sources.items()})
    for split, found in sources.items():
        images = Path(image_root) if image_root else find_file(root, IMAGES[split]) or root / IMAGES[split]
        categories = _categories(root, split)
        for prefix, path in found:
            _read_lines(reading, path, split=split, prefix=prefix, images=images, categories=categories)
    return reading.done(on_progress)


def parse_pair(line: str) -> tuple[str, str, str] | None:
    """Image, question and answer of a line; `None` if it has fewer parts. Any further `|` belongs to the answer.

    >>> parse_pair("synpic1|what organ?|lung, mediastinum, pleura")
    ('synpic1', 'what organ?', 'lung, mediastinum, pleura')
    """
    image, *rest = (part.strip() for part in line.split("|", 2))
    return (image, rest[0], rest[1]) if len(rest) == 2 else None


def parse_test(line: str) -> tuple[str, str, str, tuple[str, ...]] | None:
    """Image, category, question and accepted answers of a line of test; `None` for another number of parts.

    >>> parse_test("synpic2|organ|which?|face, sinuses, and neck#skull and contents")
    ('synpic2', 'organ', 'which?', ('face, sinuses, and neck', 'skull and contents'))
    """
    image, *rest = (part.strip() for part in line.split("|", 3))
    return (image, rest[0], rest[1], tuple(part.strip() for part in rest[2].split("#"))) if len(rest) == 3 else None


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 0; raises `DataError` if not UTF-8."""
    try:
        text = require_file(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    # Not splitlines: it also cuts at form feeds and the like, which would move every later number.
    yield from ((number, line) for number, line in enumerate(text.split("\n")) if line.strip())


def _sources(root: Path, split: Split) -> list[tuple[str, Path]]:
    """The files of questions of a split, each with its prefix for ids; the files by category if there is no whole."""
    whole = find_file(root, FILES[split])
    if whole is not None or split == "test":
        return [("", whole)] if whole is not None else []
    return [(f"{path.stem.rpartition('_')[0]}-", path) for path in _by_category(root, split)]


def _by_category(root: Path, split: Split) -> list[Path]:
    names = [f"{name}_{SHORT[split]}.txt" for name in CATEGORIES] if split in SHORT else []
    found = [find_file(root, name, f"QAPairsByCategory/{name}") for name in names]
    return [path for path in found if path is not None]


def _categories(root: Path, split: Split) -> dict[tuple[str, str], str]:
    """The category of each image and question, from the files by category."""
    known: dict[tuple[str, str], str] = {}
    for path in _by_category(root, split):
        for _, line in lines_of(path):
            parts = parse_pair(line)
            if parts is not None:
                known[parts[:2]] = CATEGORIES[path.stem.rpartition("_")[0]]
    return known


def _read_lines(
    reading: Reading, path: Path, *, split: Split, prefix: str, images: Path, categories: dict[tuple[str, str], str]
) -> None:
    for number, line in lines_of(path):
        name = f"vqa_med_2019/{split}/{prefix}{number}"
        answers: tuple[str, ...] = ()
        image = question = category = ""
        if split == "test":
            tested = parse_test(line)
            if tested is not None:
                image, category, question, answers = tested
        else:
            pair = parse_pair(line)
            if pair is not None:
                image, question, answers = pair[0], pair[1], (pair[2],)
                category = categories.get(pair[:2], "")
        if not answers:
            parts = "image|category|question|answers" if split == "test" else "image|question|answer"
            reading.leave(name, split, base.NOT_A_ROW, f"line {number + 1} is not {parts}: {line!r:.60}")
            continue
        fields = Fields(
            question=question,
            answers=answers,
            images=(with_ending(image),) if image else (),
            folder=images,
            metadata={"synpic_id": image, **({"category": category, "question_type": category} if category else {})},
        )
        keep_row(reading, name, split, fields)
