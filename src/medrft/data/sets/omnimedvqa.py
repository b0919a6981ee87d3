"""OmniMedVQA: multiple choice over 12 modalities, drawn from 73 classification sets (Hu et al., CVPR 2024).

    {"dataset": "RUS CHN", "question_id": "RUS CHN_0000", "question": "What imaging technique …?",
     "gt_answer": "x_ray.", "image_path": "Images/RUS CHN/0000.png", "option_A": "x_ray.", "option_B": "Thermography",
     "modality_type": "X-Ray", "question_type": "Modality Recognition"}

There is one file for each source set, and all of it is for testing. A question has two to four options. One file spells
`modality_type` as `modality`. Images of the restricted sets are not in the release.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from medrft.data import base
from medrft.data.base import Loaded, Reading
from medrft.data.counts import Form
from medrft.data.fields import Fields, find_column, find_file, is_hub_form, keep_row, metadata_of, read_hub
from medrft.data.layout import Release
from medrft.data.values import show_value
from medrft.errors import unknown_name
from medrft.progress import Advance
from medrft.rundir import read_json

Access = Literal["open", "restricted", "all"]

FOLDERS = {"open": "Open-access", "restricted": "Restricted-access"}
COUNTS = {
    "open": Form(name="the open-access questions", rows={"test": 88_996}),
    "restricted": Form(
        name="the restricted-access questions",
        rows={"test": 38_999},
        images="images of restricted sets are not in the release; ask for them where they come from",
    ),
    "all": Form(
        name="all questions", rows={"test": 127_995}, images="images of restricted sets are not in the release"
    ),
}
RELEASE = Release(
    dataset="omnimedvqa",
    wanted="QA_information/Open-access/*.json beside Images/ (OmniMedVQA.zip unpacked)",
    source="https://huggingface.co/datasets/foreverbeliever/OmniMedVQA (licences of its source sets)",
)
NEEDED = ("question", "gt_answer")


def load_omnimedvqa(
    root: Path | None,
    *,
    access: str = "open",
    image_root: str | Path | None = None,
    revision: str | None = None,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read the questions of `open`, `restricted` or `all` source sets; all of them are test.

    `image_root` is the folder that holds `Images/`, if it is not `root`. Raises `DataError` for another layout.
    """
    if access not in get_args(Access):
        raise unknown_name("access of omnimedvqa", access, get_args(Access))
    forms = (COUNTS[access], *(form for name, form in COUNTS.items() if name != access))
    reading = Reading("omnimedvqa", splits=("test",), forms=forms)
    if root is not None and is_hub_form(root):
        read_hub(reading, root, lambda row: fields_of(row, find_column(row, "image")), revision=revision, cache=cache)
        return reading.done(on_progress)
    root = RELEASE.require(root)
    folder = find_file(root, "QA_information")
    folders = [folder / FOLDERS[name] for name in FOLDERS if access in (name, "all")] if folder is not None else []
    files = [path for place in folders for path in sorted(place.glob("*.json")) if path.is_file()]
    if folder is None or not files:
        raise RELEASE.wrong(root, missing=f"QA_information/{FOLDERS.get(access, 'Open-access')}/*.json")
    images = Path(image_root) if image_root else folder.parent
    for path in files:
        _read_file(reading, path, images=images)
    return reading.done(on_progress)


def fields_of(row: Mapping[str, Any], image: Any, folder: Path = Path("Images")) -> Fields | str:
    """The parts of one row, or the columns that it lacks."""
    options = {letter: base.one_line(find_column(row, f"option_{letter}")) for letter in "ABCD"}
    missing = [name for name in NEEDED if find_column(row, name) is None] + (
        [] if any(options.values()) else ["option_A"]
    )
    if missing:
        return ", ".join(missing)
    modality = base.one_line(find_column(row, "modality_type", "modality"))
    return Fields(
        id=base.one_line(find_column(row, "question_id")) or None,
        question=find_column(row, "question"),
        answers=(find_column(row, "gt_answer"),),
        options={letter: text for letter, text in options.items() if text},
        images=() if image in (None, "") else (image,),
        folder=folder,
        metadata={**metadata_of(row, "question", "image"), **({"modality": modality} if modality else {})},
    )


def _read_file(reading: Reading, path: Path, *, images: Path) -> None:
    rows = read_json(path)
    for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
        name = f"omnimedvqa/test/{path.stem}-row{number}"
        if not isinstance(row, dict):
            reading.leave(name, "test", base.NOT_A_ROW, show_value(row))
            continue
        fields = fields_of(row, base.one_line(row.get("image_path")), images)
        if isinstance(fields, str):
            reading.leave(name, "test", base.MISSING_COLUMN, fields)
        else:
            keep_row(reading, f"omnimedvqa/test/{fields.id}" if fields.id else name, "test", fields)
