"""SLAKE 1.0: 642 CT, MR and X-ray images, 14,028 questions in English and Chinese (CC BY 4.0; Liu et al., ISBI 2021).

    {"img_name": "xmlab1/source.jpg", "question": "What modality is used to take this image?", "answer": "MRI",
     "q_lang": "en", "modality": "MRI", "location": "Abdomen", "answer_type": "OPEN", "content_type": "Modality",
     "qid": 0}

Splits are official. The Chinese splits were drawn independently of the English ones, so with both languages the same
image may be in train and in test. A list answer ("Lung, Spinal Cord") has no order. qid 1622 has no answer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

from medrft.data import base
from medrft.data.base import Loaded, Reading
from medrft.data.counts import Form
from medrft.data.fields import Fields, is_hub_form, keep_row, plain_fields, read_hub
from medrft.data.layout import Release, require_file
from medrft.data.values import show_value
from medrft.errors import DataError, unknown_name
from medrft.progress import Advance
from medrft.rundir import read_json
from medrft.text import infer_kind
from medrft.types import Split

Lang = Literal["en", "zh", "all"]

FILES: dict[Split, tuple[str, ...]] = {
    "train": ("train.json",),
    "validation": ("validate.json", "validation.json"),  # the second is the hub copy's
    "test": ("test.json",),
}
RELEASE = Release(
    dataset="slake",
    wanted="train.json, validate.json (or validation.json) and test.json beside the folder imgs/ (imgs.zip unpacked)",
    source="https://www.med-vqa.com/slake or https://huggingface.co/datasets/BoKelvin/SLAKE (CC BY 4.0)",
)
ROWS: dict[str, dict[str, int]] = {
    "en": {"train": 4_919, "validation": 1_053, "test": 1_061},
    "zh": {"train": 4_916, "validation": 1_046, "test": 1_033},
}
COLUMNS = ("img_name", "question", "answer", "q_lang")


def load_slake(
    root: Path | None,
    *,
    lang: str = "en",
    revision: str | None = None,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read a SLAKE folder in English, Chinese or both (`lang`: `en`, `zh`, `all`).

    A folder of Parquet files, or `hf:owner/name` with an optional `revision`, is read as a hub copy in English.
    Raises `DataError` when the folder or its layout is not found.
    """
    if lang not in get_args(Lang):
        raise unknown_name("lang of slake", str(lang), get_args(Lang))
    if root is not None and is_hub_form(root):
        if lang != "en":
            raise DataError(
                f"hub copies of slake with images inside are English, got lang={lang}; read {RELEASE.source}"
            )
        reading = Reading("slake", splits=tuple(FILES), forms=(Form(name="the hub copy", rows=ROWS["en"]),))
        read_hub(reading, root, plain_fields, revision=revision, cache=cache)
        return reading.done(on_progress)
    root = _folder(RELEASE.require(root))
    langs = ("en", "zh") if lang == "all" else (lang,)
    names = tuple(f"{split}_{code}" for code in langs for split in FILES) if len(langs) > 1 else tuple(FILES)
    reading = Reading("slake", splits=names, split_by="q_lang" if len(langs) > 1 else None, forms=_forms(lang))
    for split, candidates in FILES.items():
        path = base.first_existing(root, *candidates)
        rows = read_json(require_file(path)) if path is not None else None
        if path is None or not isinstance(rows, list):
            raise RELEASE.wrong(root, missing=f"{candidates[0]}, a list of rows,")
        for number, row in enumerate(rows):
            _read_row(reading, row, number, split=split, langs=langs, images=root / "imgs")
    return reading.done(on_progress)


def _forms(lang: str) -> tuple[Form, ...]:
    """The published counts under the report's split names, then those of the other language, to recognise a mix-up."""
    if lang == "all":
        rows = {f"{split}_{code}": n for code, splits in ROWS.items() for split, n in splits.items()}
        return (Form(name="SLAKE 1.0", rows=rows),)
    other = "zh" if lang == "en" else "en"
    return tuple(Form(name=f"SLAKE 1.0 ({code})", rows=ROWS[code]) for code in (lang, other))


def _folder(root: Path) -> Path:
    """The release's own folder, also if its parent was given."""
    inner = root / "Slake1.0"
    root = inner if not (root / "train.json").is_file() and inner.is_dir() else root
    if not (root / "imgs").is_dir():
        zipped = "the folder imgs/ (unpack imgs.zip)" if (root / "imgs.zip").is_file() else "the folder imgs/"
        raise RELEASE.wrong(root, missing=zipped)
    return root


def _read_row(reading: Reading, row: Any, number: int, *, split: Split, langs: tuple[str, ...], images: Path) -> None:
    code = row.get("q_lang") if isinstance(row, dict) else None
    if code in ("en", "zh") and code not in langs:
        return
    reported = split if reading.split_by is None else f"{split}_{code if code in langs else langs[0]}"
    qid = base.one_line(row.get("qid")) if isinstance(row, dict) else ""
    name = f"slake/{split}/{qid or f'row{number}'}"
    if not isinstance(row, dict):
        reading.leave(name, reported, base.NOT_A_ROW, show_value(row))
        return
    missing = [column for column in COLUMNS if column not in row]
    if missing:
        reading.leave(name, reported, base.MISSING_COLUMN, ", ".join(missing))
    elif code not in langs:
        reading.leave(name, reported, "unknown language", f"q_lang is {show_value(code)}")
    else:
        answer = base.answer_text(row["answer"]) or ""
        # In Chinese SLAKE must say CLOSED too, because 不存在 also answers "which disease?".
        not_closed = row["q_lang"] == "zh" and row.get("answer_type") != "CLOSED"
        fields = Fields(
            question=row["question"],
            answers=(row["answer"],),
            images=(row["img_name"],),
            folder=images,
            kind="open" if not_closed else infer_kind((answer,), ()),
            metadata=_metadata(row, answer),
        )
        keep_row(reading, name, split, fields, reported=reported)


def _metadata(row: dict[str, Any], answer: str) -> dict[str, Any]:
    """Official fields, with `organ`, `question_type` and the members of a list answer."""
    official = base.without_nulls({k: v for k, v in row.items() if k not in ("question", "answer")})
    members = [part.strip() for part in re.split("[,，、]", answer) if part.strip()]
    return {
        **official,
        "organ": base.one_line(row.get("location")).replace("_", " ").lower() or None,
        "question_type": official.get("content_type"),
        **({"answer_list": members} if len(members) > 1 else {}),
    }
