"""The data of a published study under one name: several sets, each in a folder named after it, or a draw from one set.

    DATA/vqa_rad/  DATA/slake/  DATA/path_vqa/            armed_in_domain
    DATA/vqa_med_2019/  DATA/pmc_vqa/  DATA/medxpertqa/   armed_out_of_domain: their test splits

The authors of ARMed (arXiv 2508.12957) and Zhu et al. (arXiv 2505.13973) redefined or drew their splits and did not
publish the rows. What is read here is not their split, but the official splits, or a draw of the same size.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medrft.data.base import Loaded
from medrft.data.layout import Release, list_names
from medrft.data.notes import count_noun, split_notes
from medrft.data.sets import medxpertqa, path_vqa, pmc_vqa, slake, vqa_med_2019, vqa_rad
from medrft.errors import DataError
from medrft.progress import Advance
from medrft.types import Example, LoadReport

IN_DOMAIN = {"vqa_rad": vqa_rad.load_vqa_rad, "slake": slake.load_slake, "path_vqa": path_vqa.load_path_vqa}
OUT_OF_DOMAIN = {
    "vqa_med_2019": vqa_med_2019.load_vqa_med_2019,
    "pmc_vqa": pmc_vqa.load_pmc_vqa,
    "medxpertqa": medxpertqa.load_medxpertqa,
}
NOT_THEIRS = "not the authors' split: their rows are unpublished"


def load_armed_in_domain(root: Path | None, *, cache: Path | None = None, on_progress: Advance | None = None) -> Loaded:
    """VQA-RAD, SLAKE in English and PathVQA with their official splits; raises `DataError` when one is not there."""
    folder = _folder(root, "armed_in_domain", tuple(IN_DOMAIN))
    parts = [load(folder / name, cache=cache, on_progress=on_progress) for name, load in IN_DOMAIN.items()]
    note = f"official splits of {', '.join(IN_DOMAIN)}; {NOT_THEIRS} (ARMed trains on a redefinition of them)"
    return merge_sets("armed_in_domain", parts, note=note)


def load_armed_out_of_domain(
    root: Path | None, *, cache: Path | None = None, on_progress: Advance | None = None
) -> Loaded:
    """The test splits of VQA-Med-2019, PMC-VQA (checked by hand) and MedXpertQA-MM; raises as the in-domain loader."""
    folder = _folder(root, "armed_out_of_domain", tuple(OUT_OF_DOMAIN))
    more: dict[str, Any] = {"cache": cache, "on_progress": on_progress}
    parts = [
        vqa_med_2019.load_vqa_med_2019(folder / "vqa_med_2019", **more),
        pmc_vqa.load_pmc_vqa(folder / "pmc_vqa", only="test", **more),
        medxpertqa.load_medxpertqa(folder / "medxpertqa", **more),
    ]
    note = f"official test splits of {', '.join(OUT_OF_DOMAIN)}; {NOT_THEIRS}"
    return merge_sets("armed_out_of_domain", [_test_alone(part) for part in parts], note=note)


def load_zhu(
    root: Path | None,
    *,
    draw_seed: int = 0,
    train: int = 10_000,
    test: int = 7_000,
    version: str = "auto",
    image_root: str | Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """A draw of `train` and `test` rows from PMC-VQA. It has its own seed, so that runs of several seeds share data.

    Rows that cannot be read or whose image is missing are not drawn. Raises as `load_pmc_vqa`, and `DataError` if there
    are fewer rows than are to be drawn.
    """
    reading = pmc_vqa.read_pmc_rows(root, version=version, test="full", image_root=image_root)
    drawn: list[Example] = []
    for split, wanted in (("train", train), ("test", test)):
        rows = [example for example in reading.examples if example.split == split]
        chosen = draw_rows(rows, wanted, seed=draw_seed)
        if len(chosen) < wanted:
            raise DataError(
                f"zhu draws {wanted:,} {split} rows of PMC-VQA, but {root} has {len(chosen):,} with an image; "
                f"download the whole release, or set {split}={len(chosen)}"
            )
        reading.notes.append(
            f"{split}: {wanted:,} of {count_noun(len(rows), 'row', 'rows')} drawn (draw_seed {draw_seed})"
        )
        drawn += chosen
    reading.dataset, reading.examples, reading.forms = "zhu", drawn, ()
    reading.notes.append(f"a seeded draw from PMC-VQA; {NOT_THEIRS}")
    return reading.done(on_progress)


def draw_rows(rows: list[Example], wanted: int, *, seed: int) -> list[Example]:
    """Up to `wanted` rows whose images are there, drawn by seed and kept in their order.

    The draw goes through the rows in an order that depends only on ids and seed. So a missing image changes one row of
    the result, which the next row in that order replaces.
    """
    order = sorted(rows, key=lambda example: example.id)
    random.Random(seed).shuffle(order)
    chosen: set[str] = set()
    for example in order:
        if len(chosen) >= wanted:
            break
        if all(path.is_file() for path in example.images):
            chosen.add(example.id)
    return [example for example in rows if example.id in chosen]


def merge_sets(name: str, parts: list[Loaded], *, note: str) -> Loaded:
    """Several data sets as one; the report counts the splits of each set, such as `train_vqa_rad`.

    Notes on what splits share are made anew, because one set may share images with another.
    """
    sets = [part.report.dataset for part in parts]
    merged = Loaded(
        examples=tuple(example for part in parts for example in part.examples),
        report=LoadReport(
            dataset=name,
            read=_renamed([part.report.read for part in parts], sets),
            kept=_renamed([part.report.kept for part in parts], sets),
            left_out=tuple(
                replace(row, split=f"{row.split}_{part.report.dataset}")
                for part in parts
                for row in part.report.left_out
            ),
        ),
        split_by="dataset",
        counts=tuple(
            replace(count, split=f"{count.split}_{part.report.dataset}") for part in parts for count in part.counts
        ),
    )
    notes = [note, *(f"{part.report.dataset}: {text}" for part in parts for text in _own_notes(part))]
    notes += split_notes(merged.groups())
    return replace(merged, report=replace(merged.report, notes=tuple(notes)))


def _own_notes(part: Loaded) -> list[str]:
    shared = set(split_notes(part.groups()))
    return [note for note in part.report.notes if note not in shared]


def _renamed(tables: list[Mapping[str, int]], sets: list[str]) -> dict[str, int]:
    return {f"{split}_{name}": n for table, name in zip(tables, sets, strict=True) for split, n in table.items()}


def _test_alone(part: Loaded) -> Loaded:
    """A data set with its test split only."""
    report = part.report
    return replace(
        part,
        examples=part.split("test"),
        counts=tuple(count for count in part.counts if count.split == "test"),
        report=replace(
            report,
            read={"test": report.read.get("test", 0)},
            kept={"test": report.kept.get("test", 0)},
            left_out=tuple(row for row in report.left_out if row.split == "test"),
        ),
    )


def _folder(root: Path | None, name: str, sets: tuple[str, ...]) -> Path:
    """The folder that holds one folder for each set."""
    release = Release(
        dataset=name, wanted=f"the folders {', '.join(sets)}", source="each set's own page, see docs/data.md"
    )
    root = release.require(root)
    missing = [each for each in sets if not (root / each).is_dir()]
    if missing:
        found = list_names(root) if root.is_dir() else "a file"
        raise DataError(
            f"{name} needs one folder for each of {', '.join(sets)} in {root}: {', '.join(missing)} not there, "
            f"found {found}; links to the folders will do"
        )
    return root
