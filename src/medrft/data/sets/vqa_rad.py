"""VQA-RAD: 314 radiology images with 2,248 questions by clinicians (CC0 1.0; Lau et al., Scientific Data 2018).

    {"qid": 3, "phrase_type": "freeform", "image_name": "synpic29265.jpg", "image_organ": "CHEST",
     "question": "Are the lungs normal appearing?", "answer": "No", "question_type": "ABN", "answer_type": "CLOSED", …}

Test is phrase_type `test_freeform` and `test_para` (451 rows), train the rest (1,797). That split is by question: most
test images are in train too. Null is the string "NULL", some answers are integers, and commas have become tabs in the
release. Many papers use another form, `trainset.json` and `testset.json`, which has other qids and 1,267 more training
questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from medrft.data import base
from medrft.data.base import Loaded, Reading
from medrft.data.counts import Form as Published
from medrft.data.fields import Fields, is_hub_form, keep_row, plain_fields, read_hub
from medrft.data.layout import Release
from medrft.data.values import show_value
from medrft.errors import unknown_name
from medrft.progress import Advance
from medrft.rundir import read_json
from medrft.types import Split

Form = Literal["auto", "official", "community"]

OFFICIAL = "VQA_RAD Dataset Public.json"
COMMUNITY: dict[str, Split] = {"trainset.json": "train", "testset.json": "test"}
IMAGES = ("VQA_RAD Image Folder", "images")
RELEASE = Release(
    dataset="vqa_rad",
    wanted=f"'{OFFICIAL}' (or trainset.json and testset.json) beside the folder '{IMAGES[0]}'",
    source="https://osf.io/89kps (CC0 1.0)",
)
OFFICIAL_COUNTS = Published(name="the official release", rows={"train": 1_797, "test": 451})
COMMUNITY_COUNTS = Published(name="trainset.json and testset.json", rows={"train": 3_064, "test": 451})
HUB_COUNTS = Published(name="the hub copy flaviagiammarino/vqa-rad", rows={"train": 1_793, "test": 451})
COLUMNS = ("image_name", "question", "answer")
ORGANS = {"HEAD": "head", "CHEST": "chest", "ABD": "abdomen"}
TYPOS = {"PRSE": "PRES", "ATRIB": "ATTRIB"}
NULLS = ("NULL", "")


def load_vqa_rad(
    root: Path | None,
    *,
    form: str = "auto",
    revision: str | None = None,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read a VQA-RAD folder; `form` is `official`, `community` (trainset/testset) or `auto`, the official if there.

    A folder of Parquet files, or `hf:owner/name` with an optional `revision`, is read as the hub copy.
    Raises `DataError` when the folder or its layout is not found.
    """
    if form not in get_args(Form):
        raise unknown_name("form of vqa_rad", form, get_args(Form))
    if root is not None and is_hub_form(root):
        reading = Reading("vqa_rad", splits=("train", "test"), forms=(HUB_COUNTS, OFFICIAL_COUNTS, COMMUNITY_COUNTS))
        read_hub(reading, root, plain_fields, revision=revision, cache=cache)
        return reading.done(on_progress)
    root = RELEASE.require(root)
    files = _files(root, form)
    images = base.first_existing(root, *IMAGES)
    if images is None:
        raise RELEASE.wrong(root, missing=f"the image folder '{IMAGES[0]}'")
    forms = (OFFICIAL_COUNTS, COMMUNITY_COUNTS) if files[0][1] is None else (COMMUNITY_COUNTS, OFFICIAL_COUNTS)
    reading = Reading("vqa_rad", splits=("train", "test"), forms=(*forms, HUB_COUNTS))
    for path, split in files:
        rows = read_json(path)
        if not isinstance(rows, list):
            raise RELEASE.wrong(root, missing=f"a list of rows in {path.name}")
        for number, row in enumerate(rows):
            _read_row(reading, row, number, split=split, images=images)
    if files[0][1] is not None:
        reading.notes.append(
            "read trainset.json and testset.json; their qids are not the official file's, ids have a c"
        )
    elif (root / "trainset.json").is_file():
        reading.notes.append(f"read '{OFFICIAL}'; trainset.json and testset.json are there too (form=community)")
    return reading.done(on_progress)


def _files(root: Path, form: str) -> list[tuple[Path, Split | None]]:
    """The files to read, each with its split if the file decides it."""
    if form != "community" and (root / OFFICIAL).is_file():
        return [(root / OFFICIAL, None)]
    community: list[tuple[Path, Split | None]] = [(root / name, split) for name, split in COMMUNITY.items()]
    missing = [path.name for path, _ in community if not path.is_file()]
    if form == "official" or len(missing) == len(community):
        raise RELEASE.wrong(root, missing=f"'{OFFICIAL}'" if form == "official" else "")
    if missing:
        raise RELEASE.wrong(root, missing=missing[0])
    return community


def _read_row(reading: Reading, row: Any, number: int, *, split: Split | None, images: Path) -> None:
    if not isinstance(row, dict):
        reading.leave(f"vqa_rad/{split or 'train'}/row{number}", split or "train", base.NOT_A_ROW, show_value(row))
        return
    prefix, needed = ("", (*COLUMNS, "phrase_type")) if split is None else ("c", COLUMNS)
    split = split or ("test" if base.one_line(row.get("phrase_type")).startswith("test") else "train")
    qid = base.one_line(row.get("qid"))
    name = f"vqa_rad/{split}/{prefix}{qid}" if qid else f"vqa_rad/{split}/row{number}"
    missing = [column for column in needed if column not in row]
    if missing:
        reading.leave(name, split, base.MISSING_COLUMN, ", ".join(missing))
        return
    question, answer = _text(row["question"]), _text(row["answer"])
    fields = Fields(
        question=question,
        answers=(answer,),
        images=(row["image_name"],),
        folder=images,
        metadata=_metadata(row, base.answer_text(question), base.answer_text(answer)),
    )
    keep_row(reading, name, split, fields)


def _text(value: Any) -> Any:
    """Text with tabs turned back into commas, and `None` for the release's "NULL"."""
    if not isinstance(value, str):
        return value
    text = ", ".join(base.one_line(part) for part in value.strip().split("\t"))
    return "" if text in NULLS else text


def _metadata(row: dict[str, Any], question: str | None, answer: str | None) -> dict[str, Any]:
    """Official fields, `organ`, and question types in one spelling; a text that we changed is kept as `…_official`."""
    types = [kind.strip().upper() for kind in base.one_line(row.get("question_type")).split(",")]
    ours = {
        "question": question,
        "answer": answer,
        "question_type": ", ".join(sorted({TYPOS.get(kind, kind) for kind in types if kind})) or None,
    }
    changed = {f"{key}_official": row[key] for key in ours if key in row and row[key] != ours[key]}
    fields = {key: value for key, value in row.items() if key not in ours}
    organ = ORGANS.get(base.one_line(row.get("image_organ")))
    return {
        **base.without_nulls(fields, NULLS),
        "question_type": ours["question_type"],
        "organ": organ,
        **changed,
    }
