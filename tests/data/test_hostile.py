"""Mutated rows through every loader: each is kept or listed with its reason, and nothing outside is touched."""

import json
import os
import pickle
import signal
import zipfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import hostile
import pytest
from hostile import SOURCES, strangers, watched

from medrft.data import read_data
from medrft.data.images import BadImageError
from medrft.data.paths import image_in
from medrft.data.sets import path_vqa
from medrft.errors import DataError, UserError

ROWS = 700
"""Rows of each of 21 sources, one in ten of them good; Parquet and CSV cannot hold some, which are not written.

Four fifths are written at least, so that all sources together get over 10,000 mutated rows.
"""


@pytest.fixture(autouse=True)
def no_hang():
    def late(*_):
        raise TimeoutError("a pipe or a bomb was read")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "canary.jpg").write_bytes(hostile.pictures()["good.jpg"])
    return folder


def state(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())


def check(source, tmp_path, outside, *, rows, seed):
    root, cache = tmp_path / "root", tmp_path / "cache"
    written = hostile.write_source(source, root, outside, rows=rows, seed=seed)
    before = state(outside)
    options = {k: str(root / v) if k == "image_root" else v for k, v in (source.options or {}).items()}
    with watched() as touched:
        loaded = read_data(source.name, root / source.root, cache=cache, options=options)
    assert strangers(touched, root, cache) == []
    assert state(outside) == before
    report = loaded.report
    left = Counter(row.split for row in report.left_out)
    assert sum(report.read.values()) == written
    assert all(report.read[split] == report.kept[split] + left[split] for split in report.read)
    assert len(loaded.examples) == sum(report.kept.values())
    assert loaded.examples and report.left_out  # good rows are kept, and bad ones found
    assert all(row.reason and row.row for row in report.left_out)
    places = [os.path.realpath(place) for place in (root, cache)]
    for example in loaded.examples:
        assert all(os.path.realpath(path).startswith(tuple(places)) for path in example.images)
        assert example.references and example.question and example.images
    told = [asdict(row) for row in report.left_out] + [{**asdict(e), "images": 0} for e in loaded.examples]
    assert json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    return written


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: f"{s.name}-{s.label}".strip("-"))
def test_each_row_is_kept_or_listed(source, tmp_path, outside):
    assert check(source, tmp_path, outside, rows=ROWS, seed=0) >= ROWS * 0.8


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("source", SOURCES, ids=lambda s: f"{s.name}-{s.label}".strip("-"))
def test_many_more_rows(source, tmp_path, outside, seed):
    check(source, tmp_path, outside, rows=4 * ROWS, seed=seed)


def test_every_loader_is_in_the_table():
    from medrft.data import LOADERS

    # They read through the others, or nothing.
    groups = {"armed_in_domain", "armed_out_of_domain", "zhu", "phantom", "phantom_composed"}
    assert {source.name for source in SOURCES} == set(LOADERS) - groups


def test_the_watch_sees_what_is_touched(tmp_path, outside):
    with watched() as touched:
        (outside / "canary.jpg").read_bytes()
        (tmp_path / "link").symlink_to(outside / "canary.jpg")
        (tmp_path / "link").read_bytes()
        os.listdir(outside)
    assert {event for event, _ in strangers(touched, tmp_path / "root")} >= {"open", "os.listdir", "os.symlink"}
    assert ("open", str(tmp_path / "link")) in strangers(touched, tmp_path / "root")


# Names


@pytest.mark.parametrize("folder", ["imgs", "linked"])
def test_names_that_lead_out_are_refused(tmp_path, outside, folder):
    hostile.lay_out(tmp_path / "root" / "imgs", outside)
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "root" / "imgs")  # the folder itself may be a link
    place = tmp_path / "root" / folder
    for name in hostile.names(outside):
        try:
            found = image_in(place, name)
        except BadImageError as error:
            assert "\0" not in str(error)
            continue
        assert Path(os.path.realpath(found)).is_relative_to(os.path.realpath(place))
    for name in ("out_link.jpg", "out_folder/canary.jpg", str(outside / "canary.jpg"), "../../outside/canary.jpg"):
        with pytest.raises(BadImageError, match="image outside its folder"):
            image_in(place, name)
    for name in ("good.jpg", "in_link.jpg", "x/../good.jpg", str(place / "good.jpg")):
        assert image_in(place, name).is_file() or name == "x/../good.jpg"


@pytest.mark.parametrize("folder", [".", "imgs", "imgs/../imgs"])
def test_a_name_in_full_is_taken_where_the_folder_is_not_given_in_full(tmp_path, monkeypatch, folder):
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "a.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert image_in(Path(folder), str(tmp_path / "imgs" / "a.jpg")).is_file()
    with pytest.raises(BadImageError, match="image outside its folder"):
        image_in(Path(folder), str(tmp_path.parent / "a.jpg"))


def test_links_of_a_hub_download_are_followed(tmp_path):
    blob = tmp_path / "models--x" / "blobs" / "abc"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"")
    images = tmp_path / "models--x" / "snapshots" / "1" / "images"
    images.mkdir(parents=True)
    (images / "a.jpg").symlink_to("../../../blobs/abc")
    (images / "b.jpg").symlink_to(tmp_path)
    assert image_in(images, "a.jpg") == images / "a.jpg"
    with pytest.raises(BadImageError):
        image_in(images, "b.jpg")


# Files


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def deep_pickle(depth):
    return b"\x80\x04" + b"]" * depth + b"a" * (depth - 1) + b"."


PICKLES = {
    "system": lambda path: pickle.dumps([Runs(os.system, f"touch {path}")]),
    "eval": lambda path: pickle.dumps([Runs(eval, f"open({str(path)!r}, 'w')")]),
    "open": lambda path: pickle.dumps([Runs(open, str(path), "w")]),
    "nested in a key": lambda path: pickle.dumps({("x", Runs(os.mkdir, str(path))): 1}),
    "global by hand": lambda path: b"cposix\nsystem\n(S'touch " + str(path).encode() + b"'\ntR.",
    "inst": lambda path: b"(S'touch " + str(path).encode() + b"'\niposix\nsystem\n.",
    "stack global": lambda path: b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
    "dotted": lambda path: b"\x80\x04\x8c\x08builtins\x8c\x12set.__init__.__self__\x93.",
    "extension": lambda path: b"\x80\x02\x82\x01.",
    "persistent": lambda path: b"Ppersistent\n.",
    "memo bomb": lambda path: b"\x80\x02]r\xff\xff\xff\x7f.",
    "memo bomb in text": lambda path: b"]p2147483647\n.",
    "string bomb": lambda path: b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"x.",
    "bytearray bomb": lambda path: b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x.",
    "frame bomb": lambda path: b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b".",
    "long bomb": lambda path: b"\x80\x02\x8b\xff\xff\xff\x7fx.",
    "deep": lambda path: deep_pickle(200_000),
    "deep tuples": lambda path: b"\x80\x04)" + b"\x85" * 200_000 + b".",
    "unhashable": lambda path: b"\x80\x04}]]s.",
    "itself": lambda path: b"\x80\x04]\x94h\x00a.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_runs_nothing(name, tmp_path, outside):
    root, sentinel = tmp_path / "root", tmp_path / "ran"
    hostile.lay_out(root / "images" / "train", outside)
    path = root / "qas" / "train" / "train_qa.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(PICKLES[name](sentinel))
    with watched() as touched:
        try:
            loaded = path_vqa.load_path_vqa(root)
        except DataError as error:
            assert "train_qa.pkl" in str(error) and len(str(error)) < 1_500
        else:
            assert not loaded.examples and len(loaded.report.left_out) == sum(loaded.report.read.values())
    assert strangers(touched, root) == []
    assert not sentinel.exists()


CONTENTS = {
    "nothing": b"",
    "not UTF-8": b'[{"question": "\xff"}]',
    "brackets": b"[" * 100_000,
    "digits": b'[{"qid": ' + b"1" * 5_000 + b"}]",
    "a table": b"{}",
    "null": b"null",
    "cut": b'[{"qid": 1, "ques',
    "zeros": b"\0" * 1_000,
    "byte order mark": b"\xef\xbb\xbf[]",
    "cut parquet": b"PAR1" + b"\0" * 50 + b"PAR1",
    "folder": None,
    "pipe": None,
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda s: f"{s.name}-{s.label}".strip("-"))
def test_a_file_that_cannot_be_read_is_one_plain_error(source, content, tmp_path, outside):
    root = tmp_path / "root"
    (root / source.images).mkdir(parents=True)
    for name in source.files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content == "folder":
            path.mkdir()
        elif content == "pipe":
            os.mkfifo(path)
        else:
            path.write_bytes(CONTENTS[content])
    try:
        loaded = read_data(source.name, root / source.root, cache=tmp_path / "cache", options=source.options or {})
    except UserError as error:
        assert str(root) in str(error) and "\n" not in str(error)
    else:
        assert not loaded.examples


@pytest.mark.parametrize("name", sorted({source.name for source in SOURCES}))
def test_archives_are_never_unpacked(name, tmp_path):
    """No loader reads a zip: it is refused in one line, and nothing of it comes out, whatever its names say."""
    root = tmp_path / "root"
    root.mkdir()
    for file in ("imgs.zip", "images.zip", "data.zip"):
        with zipfile.ZipFile(root / file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../escaped.txt", b"x")
            archive.writestr("bomb.txt", b"\0" * 10_000_000)
    before = sorted(tmp_path.rglob("*"))
    for place in (root, root / "imgs.zip"):
        with watched() as touched, pytest.raises(DataError, match=r"looked for|no table"):
            read_data(name, place)
        assert not any(event == "open" and path.endswith(".zip") for event, path in touched)
    assert sorted(tmp_path.rglob("*")) == before
