"""Rows, images and names that mean harm or were made by accident, and the files of each release that hold them."""

from __future__ import annotations

import copy
import csv
import functools
import io
import json
import os
import pickle
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import Image

import medrft

BIG = "A" * 1_000_000
TEXTS = (
    "",
    " \t\n ",
    "NULL",
    "nan",
    "\x00\x01\x1b[31m\x7f",
    "a\x00b",
    "\u202etxt.exe\u2066",
    "\ufeff\u200b\ufffe",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "%s%n{0.__class__}{{7*7}}${x}",
    "'; DROP TABLE t; --",
    "| a | b # c",
    "(A) x\n(B) y\nAnswer Choices: (A) x",
    "<answer>yes</answer></think><image>",
    '["a", {"b": ',
    "[" * 3_000,
    "1" * 5_000,
    "e\u0301" * 500,
    "..",
    "=cmd|' /C calc'!A0",
)
SURROGATES = ("\ud800", "yes \udfff no", "\udcff.jpg")


def nested(depth: int) -> Any:
    """A list in a list in a list …"""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def laughs(width: int = 10, depth: int = 10) -> Any:
    """A list of a few objects that stands for `width ** depth` elements."""
    value: Any = ["lol"] * width
    for _ in range(depth):
        value = [value] * width
    return value


OTHERS = (
    *(None, True, False, 0, -1, 10**400, 1.5, float("nan"), float("inf"), -float("inf")),
    *(
        [],
        {},
        [None],
        ["yes"],
        {"a": None},
        {"bytes": None, "path": "x"},
        nested(30),
        {"a": {"b": {"c": [1, {"d": 2}]}}},
    ),
    *([["A"]], [{"letter": 1, "content": []}], {"A": {}, "B": [1]}, ["x"] * 300),
)


def names(outside: Path) -> tuple[str, ...]:
    """Image names that lead elsewhere, or nowhere."""
    canary = outside / "canary.jpg"
    return (
        *(str(canary), f"/{canary}", f"file://{canary}", "../outside/canary.jpg", "../../outside/canary.jpg"),
        *("../../../outside/canary.jpg", "x/../../../outside/canary.jpg", "./.././../outside/canary.jpg"),
        *("..\\..\\outside\\canary.jpg", "C:\\canary.jpg", "%2e%2e%2f%2e%2e%2foutside%2fcanary.jpg", "..%2foutside"),
        *("good.jpg\0.png", "\0", "a" * 300 + ".jpg", "b/" * 3_000, ".", "..", "/", "~", "~/canary.jpg", "//x/y.jpg"),
        *("out_link.jpg", "out_folder/canary.jpg", "circle.jpg", "pipe.jpg", "folder.jpg", "/dev/zero", "/dev/stdin"),
        *("http://127.0.0.1:9/x.jpg", "data:image/png;base64,AAAA", "data:,é", "CON", "-rf", "nothing.jpg"),
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_declaring(width: int, height: int, depth: int = 8) -> bytes:
    """A PNG of a few bytes that says it is of this size."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(b"\0" * 1_000)) + _chunk(b"IEND", b"")


def _saved(image: Image.Image, form: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


@functools.cache
def pictures() -> dict[str, bytes]:
    """Encoded images, whole and broken, by file name."""
    grey = Image.linear_gradient("L").resize((20, 16))
    jpeg = _saved(grey.convert("RGB"), "JPEG")
    png = _saved(grey, "PNG")
    text_bomb = _chunk(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 70_000_000))
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 100, 200)]
    return {
        "good.jpg": jpeg,
        "good.png": png,
        "empty.jpg": b"",
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.png": png[:-20],
        "text.jpg": b"this is no image",
        "html.jpg": b"<svg onload=alert(1)>",
        "bomb.png": png_declaring(60_000, 60_000),
        "bomb.gif": b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
        "bomb.bmp": b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2**30, 2**30, 1, 24, *[0] * 6),
        "text_bomb.png": png[:33] + text_bomb + png[33:],
        "zero.png": png_declaring(0, 0),
        "negative.bmp": b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, -5, -5, 1, 24, *[0] * 6),
        "animated.gif": _saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "cmyk.jpg": _saved(grey.convert("CMYK"), "JPEG"),
        "wrong.png": jpeg,
        "wrong.jpg": png,
        "deep.png": png_declaring(8, 8, depth=16),
        "exif.jpg": _saved(grey, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40),
        "cut.tif": _saved(grey, "TIFF")[:60],
        "webp.jpg": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    }


def lay_out(folder: Path, outside: Path) -> list[str]:
    """Good and bad images in a folder, with links, a pipe and a folder among them; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pictures().items():
        (folder / name).write_bytes(content)
    for name, target in (
        ("out_link.jpg", outside / "canary.jpg"),
        ("out_folder", outside),
        ("circle.jpg", "circle.jpg"),
    ):
        (folder / name).symlink_to(target)
    (folder / "in_link.jpg").symlink_to("good.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    return [*pictures(), "in_link.jpg"]


class Hostile:
    """Mutations of rows, drawn by seed."""

    def __init__(self, seed: int, outside: Path, *, surrogates: bool) -> None:
        self.rng = random.Random(seed)
        self.names = names(outside)
        self.files = list(pictures())
        self.texts = (*TEXTS, *(SURROGATES if surrogates else ()))

    def value(self) -> Any:
        """Something that no one expects there."""
        kind = self.rng.random()
        if kind < 0.01:
            return BIG
        pool: tuple[Any, ...] = self.texts if kind < 0.45 else OTHERS if kind < 0.85 else self.names
        return copy.deepcopy(self.rng.choice(pool))  # a later row may change it

    def image(self) -> str:
        """A name of an image: one that leads elsewhere, or one of a file that is there, good or bad."""
        return self.rng.choice(self.names if self.rng.random() < 0.5 else self.files)

    def row(self, row: Any) -> Any:
        """The row with one or two of its values taken away or replaced, wherever they are nested."""
        row = json.loads(json.dumps(row)) if not _has_bytes(row) else dict(row)
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            where = self.rng.choice(list(_places(row)) or [()])
            if not where:
                return self.value()
            here = row
            for key in where[:-1]:
                here = here[key]
            if self.rng.random() < 0.2:
                del here[where[-1]]
            elif isinstance(here[where[-1]], bytes):
                here[where[-1]] = self.rng.choice([*pictures().values(), None])
            elif _names_image(where) and self.rng.random() < 0.8:
                here[where[-1]] = self.image()
            else:
                here[where[-1]] = self.value()
        return row


def _names_image(where: tuple[Any, ...]) -> bool:
    return any("image" in str(key).lower() or "img" in str(key) or "figure" in str(key).lower() for key in where)


def _has_bytes(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(_has_bytes(inner) for inner in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, bytes)


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The key of every value in nested tables and lists; those of images more often."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        where = (*before, key)
        yield from [where] * (4 if _names_image(where) else 1)
        yield from _places(inner, where)


# How rows are written


def as_json(path: Path, rows: list[Any]) -> int:
    """One JSON list; the number of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return len(rows)


def as_jsonl(path: Path, rows: list[Any]) -> int:
    """A JSON value per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


def as_csv(path: Path, rows: list[Any]) -> int:
    """A table with the columns of all rows; values as Python writes them."""
    rows = [row for row in rows if isinstance(row, dict) and row]
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(str(key) for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(row.get(column, "")) for column in columns] for row in rows)
    return len(rows)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else str(value)[:5_000]


def as_lines(path: Path, rows: list[Any]) -> int:
    """Rows joined by bars, as VQA-Med has them; lines that are not blank are counted as its reader does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["|".join(_cell(v) for v in row.values()) if isinstance(row, dict) else _cell(row) for row in rows]
    text = "\n".join(lines).replace("\r", " ")
    path.write_text(text, encoding="utf-8")
    return sum(bool(line.strip()) for line in path.read_text(encoding="utf-8-sig").split("\n"))


def as_pickle(path: Path, rows: list[Any]) -> int:
    """A pickled list, with a row that stands for ten billion values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bombs = [laughs(), {"image": laughs(), "question": laughs(), "answer": laughs()}, {laughs.__name__: {1: b"x"}}]
    good = {"image": "good", "question": "q?", "answer": "a"}
    rows = [*rows, *bombs, {**good, "x": laughs()}, {**good, "answer": b"yes"}, {**good, "image": 10**6_000}, {1: 2}]
    path.write_bytes(pickle.dumps(rows))
    return len(rows)


def as_parquet(path: Path, rows: list[Any]) -> int:
    """A file for each set of column types, for a Parquet column has one; rows that it cannot hold are not written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[pyarrow.Table]] = {}
    for row in rows:
        if not isinstance(row, dict) or not row:
            continue
        try:
            table = pyarrow.Table.from_pylist([row])
        except (pyarrow.ArrowException, UnicodeEncodeError, OverflowError):
            continue
        groups.setdefault(str(table.schema), []).append(table)
    written = 0
    for number, tables in enumerate(groups.values()):
        try:
            pyarrow.parquet.write_table(
                pyarrow.concat_tables(tables), path.with_name(f"{path.stem}-{number:05}.parquet")
            )
        except pyarrow.ArrowException:  # a struct without fields
            continue
        written += len(tables)
    for empty in (p for p in path.parent.glob("*.parquet") if p.stat().st_size == 0):
        empty.unlink()
    return written


# What each loader reads


@dataclass(frozen=True)
class Source:
    """A loader with its options, a good row, where its files and images lie, and how rows are written."""

    name: str
    row: Callable[[int], dict[str, Any]]
    write: Callable[[Path, list[Any]], int]
    files: tuple[str, ...]
    images: str
    options: dict[str, Any] | None = None
    label: str = ""
    root: str = ""
    """Where `load` is pointed, below the folder; the file itself for a single table."""


def _rad(n: int) -> dict[str, Any]:
    kind = ("freeform", "test_para")[n % 2]
    more = {"question_type": "PRES, POS", "image_organ": "CHEST", "question_rephrase": "NULL"}
    return {"qid": n, "phrase_type": kind, "image_name": "good.jpg", "question": f"Q{n}?", "answer": "yes", **more}


def _slake(n: int) -> dict[str, Any]:
    more = {"location": "Lung", "modality": "CT", "answer_type": "OPEN", "content_type": "Organ", "triple": ["a", "b"]}
    return {"qid": n, "img_name": "good.jpg", "question": f"Q{n}?", "answer": "lung, heart", "q_lang": "en", **more}


def _path(n: int) -> dict[str, Any]:
    return {"image": "good", "question": f"Q{n}?", "answer": "yes"}


def _hub(n: int) -> dict[str, Any]:
    image = {"bytes": pictures()["good.png"], "path": "x.png"}
    return {"image": image, "question": f"Q{n}?", "answer": "yes"}


def _pair(n: int) -> dict[str, Any]:
    return {"image_id": "good", "question": f"which {n}?", "answer": "a, b"}


def _pmc(n: int) -> dict[str, Any]:
    choices = {f"Choice {letter}": f" {letter}:text {letter}" for letter in "ABCD"}
    return {"Figure_path": "good.jpg", "Question": f"Q{n}?", "Answer": "text B", **choices, "Answer_label": "B"}


def _pmc2(n: int) -> dict[str, Any]:
    row = _pmc(n)
    del row["Answer_label"]
    return {"index": n, **row, "Answer": "B", "Caption": "c", "split": "train"}


def _medx(n: int) -> dict[str, Any]:
    options = [{"letter": letter, "content": f"text {letter}"} for letter in "ABC"]
    images = [{"image_path": "good.jpg"}, {"image_path": "good.png"}]
    question = f"Q{n}?\nAnswer Choices: (A) text A (B) text B"
    return {
        "id": f"MM-{n}",
        "question": question,
        "options": options,
        "label": ["A"],
        "images": images,
        "body_system": "x",
    }


def _omni(n: int) -> dict[str, Any]:
    row = {"dataset": "Toy", "question_id": f"T{n}", "question": "Which?", "gt_answer": "MRI", "modality_type": "MR"}
    return {**row, "image_path": "good.jpg", "option_A": "CT", "option_B": "MRI"}


def _table(n: int) -> dict[str, Any]:
    row = {"id": n, "image": "good.jpg", "question": f"Q{n}?", "answer": "B", "options": ["x", "y"], "modality": "CT"}
    return {**row, "rationale": "because", "split": "train", "other": {"a": 1}}


def _flat(n: int) -> dict[str, Any]:
    return {"id": str(n), "image": "good.jpg", "question": f"Q{n}?", "answer": "yes", "split": "test", "note": "x"}


def _messages(n: int) -> dict[str, Any]:
    turns = (("system", "s"), ("user", f"<image>Q{n}?\n(A) x\n(B) y"), ("assistant", "<answer>(A)</answer>"))
    return {"messages": [{"role": role, "content": text} for role, text in turns], "images": ["good.jpg"]}


def _vlm_r1(n: int) -> dict[str, Any]:
    turns = [
        {"from": "human", "value": f"<image>Q{n}?"},
        {"from": "gpt", "value": "<think>t</think><answer>y</answer>"},
    ]
    return {"image": "good.jpg", "conversations": turns}


def _med_r1(n: int) -> dict[str, Any]:
    return {"image": "good.jpg", "problem": f"Q{n}?\n(A) x\n(B) y", "solution": "<answer> A </answer>"}


def _thinker(n: int) -> dict[str, Any]:
    image = {"bytes": pictures()["good.png"], "path": "x.png"}
    row = {
        "images": [image],
        "question": f"Q{n}?",
        "options": '{"A": "x", "B": "y"}',
        "answer_label": "A",
        "answer": "x",
    }
    return {**row, "reasoning": "r", "dataset_name": "d", "dataset_index": str(n)}


def _verl(n: int) -> dict[str, Any]:
    prompt = [{"role": "system", "content": "s"}, {"role": "user", "content": f"<image>Q{n}?"}]
    extra = {
        "split": "train",
        "index": str(n),
        "question": f"Q{n}?",
        "medrft": '{"references": ["y"], "metadata": {"a": 1}}',
    }
    row = {
        "data_source": "d",
        "prompt": prompt,
        "ability": "x",
        "reward_model": {"ground_truth": "y"},
        "extra_info": extra,
    }
    return {**row, "images": [{"bytes": pictures()["good.png"], "path": "x.png"}]}


MED_2019 = ("All_QA_Pairs_train.txt", "All_QA_Pairs_val.txt")
MED_2021 = ("VQAnswering_2020_Train_QA_pairs.txt", "VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt")
SOURCES = (
    Source("vqa_rad", _rad, as_json, ("VQA_RAD Dataset Public.json",), "VQA_RAD Image Folder"),
    Source("vqa_rad", _rad, as_json, ("trainset.json", "testset.json"), "images", label="community"),
    Source("vqa_rad", _hub, as_parquet, ("data/train.parquet",), "images", label="hub"),
    Source("slake", _slake, as_json, ("train.json", "validate.json", "test.json"), "imgs"),
    Source("slake", _hub, as_parquet, ("data/test.parquet",), "images", label="hub"),
    Source("path_vqa", _path, as_pickle, ("qas/train/train_qa.pkl",), "images/train"),
    Source("path_vqa", _hub, as_parquet, ("data/train.parquet",), "images", label="hub"),
    Source("vqa_med_2019", _pair, as_lines, MED_2019, "Images", {"image_root": "Images"}),
    Source("vqa_med_2021", _pair, as_lines, MED_2021, "Images", {"image_root": "Images"}),
    Source("pmc_vqa", _pmc, as_csv, ("train.csv", "test_clean.csv"), "images", {"version": "v1"}, label="v1"),
    Source("pmc_vqa", _pmc2, as_csv, ("train_2.csv", "test_2.csv"), "images_2", {"version": "v2"}, label="v2"),
    Source("medxpertqa", _medx, as_jsonl, ("MM/dev.jsonl", "MM/test.jsonl"), "images"),
    Source("omnimedvqa", _omni, as_json, ("QA_information/Open-access/Toy.json",), "Images", {"image_root": "Images"}),
    Source("table", _table, as_jsonl, ("t.jsonl",), ".", label="jsonl", root="t.jsonl"),
    Source("table", _flat, as_csv, ("t.csv",), ".", label="csv", root="t.csv"),
    Source("table", _flat, as_parquet, ("train.parquet",), ".", label="parquet"),
    Source("llama_factory", _messages, as_json, ("t.json",), ".", root="t.json"),
    Source("vlm_r1", _vlm_r1, as_jsonl, ("t.jsonl",), ".", root="t.jsonl"),
    Source("med_r1", _med_r1, as_json, ("t.json",), ".", root="t.json"),
    Source("medvlthinker", _thinker, as_parquet, ("train.parquet",), "."),
    Source("verl", _verl, as_parquet, ("train.parquet",), "."),
)


def write_source(source: Source, folder: Path, outside: Path, *, rows: int, seed: int) -> int:
    """A release of about so many mutated rows, with a good one in ten; how many there are."""
    lay_out(folder / source.images, outside)
    text_alone = source.write in (as_csv, as_lines, as_parquet)  # these files are UTF-8, so no lone surrogates
    hostile = Hostile(seed, outside, surrogates=not text_alone)
    written = 0
    for number, file in enumerate(source.files):
        count = rows // len(source.files)
        made = [source.row(number * rows + n) for n in range(count)]
        written += source.write(folder / file, [row if n % 10 == 9 else hostile.row(row) for n, row in enumerate(made)])
    return written


# What is touched

EVENTS = ("open", "os.", "shutil.", "subprocess.", "pty.", "socket.connect", "glob.", "pathlib.", "ctypes.dlopen")
_touched: list[tuple[str, str]] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _touched is not None and event.startswith(EVENTS):
        paths = [a for a in arguments[:2] if isinstance(a, str | bytes | os.PathLike)]
        _touched.extend((event, os.fsdecode(path)) for path in paths)
        if not paths and event.startswith(("subprocess", "socket", "os.system", "os.exec", "os.posix_spawn")):
            _touched.append((event, repr(arguments)))


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """Every file and folder that is opened, listed, made or removed within, and every process started."""
    global _touched
    if not getattr(sys, "_medrft_hooked", False):
        sys.addaudithook(_hook)
        sys._medrft_hooked = True  # a hook stays until the interpreter ends
    _touched = found = []
    try:
        yield found
    finally:
        _touched = None


def strangers(touched: list[tuple[str, str]], *allowed: Path) -> list[tuple[str, str]]:
    """What was touched that lies in none of these folders, nor in Python's own; links are followed."""
    own = [Path(sys.prefix), Path(sys.base_prefix), Path(medrft.__file__).parents[2], Path("/proc"), Path("/usr/lib")]
    places = [os.path.realpath(place) for place in (*own, *allowed)]
    found = []
    for event, path in dict.fromkeys(touched):
        real = os.path.realpath(path) if "\0" not in path else path
        if path != os.devnull and not any(real == place or real.startswith(place + os.sep) for place in places):
            found.append((event, path))
    return found
