"""PMC-VQA: multiple-choice questions written by a language model from figures of open papers (CC BY-SA; Zhang et al.).

    v1  Figure_path,Question,Answer,Choice A,Choice B,Choice C,Choice D,Answer_label
        PMC1064097_F1.jpg,What is the uptake pattern in the breast?,Focal uptake pattern, A:Diffuse …, B:Focal …,…,B
    v2  index,Figure_path,Caption,Question,Choice A,Choice B,Choice C,Choice D,Answer,split

In v1 `Answer` is the text and `Answer_label` the letter; in v2 `Answer` is the letter. v2 shows crops of compound
figures, which are in images_2.zip and not in v1's images.zip. The test of v1 has 50,000 rows, of which 2,000 were
checked by hand.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from medrft.data import base
from medrft.data.base import Loaded, Reading
from medrft.data.counts import Form
from medrft.data.fields import Fields, find_column, find_file, is_hub_form, keep_table_row, metadata_of, read_hub
from medrft.data.layout import Release
from medrft.data.tables.choices import texts_by_letter
from medrft.data.tables.rows import read_rows
from medrft.errors import unknown_name
from medrft.progress import Advance
from medrft.types import SPLITS, Split

Version = Literal["auto", "v1", "v2"]
Test = Literal["clean", "full"]
NEEDED = ("Figure_path", "Question", "Answer")
FILES: dict[str, dict[Split, str]] = {
    "v1": {"train": "train.csv", "test": "test.csv"},
    "v2": {"train": "train_2.csv", "test": "test_2.csv"},
}
CLEAN = "test_clean.csv"
IMAGES = {"v1": ("images", "figures"), "v2": ("images_2", "images2", "figures_2", "images", "figures")}
V2_IMAGES = "v2 figures are crops of their own: unpack images_2.zip; v1's images.zip does not hold them"
V2 = Form(name="version 2", rows={"train": 152_603, "test": 33_430}, images=V2_IMAGES)
V1 = {
    "clean": Form(name="version 1 with test_clean.csv", rows={"train": 176_948, "test": 2_000}),
    "full": Form(name="version 1 with test.csv", rows={"train": 176_948, "test": 50_000}),
}
RELEASE = Release(
    dataset="pmc_vqa",
    wanted="train.csv and test_clean.csv (or test.csv) with images/, or train_2.csv and test_2.csv with images_2/",
    source="https://huggingface.co/datasets/RadGenome/PMC-VQA (CC BY-SA)",
)


def load_pmc_vqa(
    root: Path | None,
    *,
    version: str = "auto",
    test: str = "clean",
    only: str | None = None,
    image_root: str | Path | None = None,
    revision: str | None = None,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read version 1 or 2 (`auto`: 1 if both are there); `test` of version 1 is `clean` (2,000) or `full` (50,000).

    `only` names the one split to read, `image_root` the folder of the figures. Raises `DataError` for another layout.
    """
    if root is not None and is_hub_form(root):
        reading = Reading("pmc_vqa", splits=("train", "test"), forms=_only((V2, *V1.values()), only))
        read_hub(reading, root, fields_of, revision=revision, cache=cache)
        return reading.done(on_progress)
    reading = read_pmc_rows(root, version=version, test=test, only=only, image_root=image_root)
    return reading.done(on_progress)


def read_pmc_rows(
    root: Path | None, *, version: str, test: str, image_root: str | Path | None, only: str | None = None
) -> Reading:
    """The rows of a release before their images are opened; raises as `load_pmc_vqa`."""
    for what, value, known in (("version", version, Version), ("test", test, Test)):
        if value not in get_args(known):
            raise unknown_name(f"{what} of pmc_vqa", value, get_args(known))
    if only is not None and only not in SPLITS:
        raise unknown_name("split", only, SPLITS)
    root = RELEASE.require(root)
    chosen = _version(root) if version == "auto" else version
    names: dict[Split, str] = {**FILES[chosen], **({"test": CLEAN} if (chosen, test) == ("v1", "clean") else {})}
    found = {split: find_file(root, name) for split, name in names.items() if only in (None, split)}
    if not any(found.values()):
        raise RELEASE.wrong(root, missing=" or ".join(names[split] for split in found) or f"a split {only}")
    forms = (V1[test], *(form for form in (*V1.values(), V2) if form is not V1[test])) if chosen == "v1" else (V2,)
    reading = Reading("pmc_vqa", splits=tuple(found), forms=_only(forms, only))
    for split, path in found.items():
        if path is None:
            reading.notes.append(
                f"{names[split]} is not there" + ("; test=full reads test.csv" if split == "test" else "")
            )
            continue
        prefix = {"v2": "v2-", "v1": "clean-" if path.name == CLEAN else ""}[chosen]
        with_image = functools.partial(_fields_with_image, folder=_folder(root, path, chosen, image_root))
        for row in read_rows([(path, split)]):
            keep_table_row(reading, row, with_image, prefix=prefix)
    return reading


def fields_of(row: Mapping[str, Any]) -> Fields | str:
    """The parts of one row of either version, or the columns that it lacks."""
    image = find_column(row, "image", "Figure_path")
    needed = {
        "Figure_path": image,
        "Question": find_column(row, "Question"),
        "Answer": find_column(row, "Answer_label", "Answer"),
    }
    options = texts_by_letter({letter: find_column(row, f"Choice {letter}") for letter in "ABCD"})
    missing = [name for name, value in needed.items() if value is None] + ([] if options else ["Choice A"])
    if missing:
        return ", ".join(missing)
    answer = needed["Answer"]
    return Fields(
        question=needed["Question"],
        answers=(answer,),
        options=options,
        lettered=base.one_line(answer) in ("A", "B", "C", "D"),
        images=(image,) if image not in ("", None) else (),
        metadata=metadata_of(row, "question", "image"),
    )


def _fields_with_image(row: Mapping[str, Any], *, folder: Path) -> Fields | str:
    fields = fields_of(row)
    if isinstance(fields, str):
        return fields
    return replace(fields, images=tuple(base.one_line(name) for name in fields.images), folder=folder)


def _version(root: Path) -> str:
    """`v1` if its files are there, else `v2`; if neither is there, reading them raises the error."""
    first = [*FILES["v1"].values(), CLEAN]
    return "v1" if find_file(root, *first) or not find_file(root, *FILES["v2"].values()) else "v2"


def _folder(root: Path, table: Path, version: str, image_root: str | Path | None) -> Path:
    """The folder of figures; some unpackers put the archive's folder into one of the same name."""
    if image_root is not None:
        return Path(image_root)
    folder = find_file(table.parent, *IMAGES[version]) or find_file(root, *IMAGES[version])
    if folder is None:
        return table.parent / IMAGES[version][0]
    inner = next((folder / name for name in IMAGES[version] if (folder / name).is_dir()), None)
    return inner or folder


def _only(forms: tuple[Form, ...], only: str | None) -> tuple[Form, ...]:
    """The published counts of one split, or of all."""
    if only is None:
        return forms
    return tuple(replace(form, rows={split: n for split, n in form.rows.items() if split == only}) for form in forms)
