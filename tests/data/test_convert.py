import json
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medrft.cli.convert import _words
from medrft.data import LOADERS, read_data
from medrft.data.tables.convert import READERS, write_format
from medrft.data.tables.formats import FORMATS
from medrft.errors import DataError, UnknownNameError
from medrft.text import infer_kind
from medrft.types import Example


def example(images, number=0, split="train", options=(), references=("left lung",), **more):
    return Example(
        id=f"toy/{split}/{number}",
        dataset="toy",
        split=split,
        images=tuple(images),
        question=more.pop("question", "Where is the mass?"),
        references=references,
        kind=infer_kind(references, options),
        options=options,
        **more,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        Image.new("RGB", (8, 6), (number * 80, 10, 10)).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(3)]


def rows_of(path: Path):
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def pixels(example):
    return [Image.open(path).convert("RGB").tobytes() for path in example.images]


CHOICE = {"options": ("CT", "MR"), "references": ("MR",), "question": "Which modality?"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "vlm_r1",
            {
                "image": "images/0.png",
                "conversations": [
                    {"from": "human", "value": "<image>Which modality?\n(A) CT\n(B) MR"},
                    {"from": "gpt", "value": "<think>Bright fluid.</think><answer>MR</answer>"},
                ],
            },
        ),
        (
            "med_r1",
            {
                "image": "images/0.png",
                "problem": "Which modality?\n(A) CT\n(B) MR",
                "solution": "<answer> B </answer>",
            },
        ),
    ],
)
def test_rows_are_as_their_trainers_read_them(pictures, tmp_path, name, expected):
    write_format([example(pictures[:1], rationale="Bright fluid.", **CHOICE)], name, tmp_path / "out", words=_words)
    (row,) = rows_of(next((tmp_path / "out").glob("train.*")))
    copied = row["image"]
    assert (tmp_path / "out" / copied).read_bytes() == pictures[0].read_bytes()
    assert {**row, "image": "images/0.png"} == expected


def test_llama_factory_is_told_of_its_files(pictures, tmp_path):
    write_format([example(pictures[:2])], "llama_factory", tmp_path / "out", words=_words)
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["train"]
    (row,) = rows_of(tmp_path / "out" / info["file_name"])
    assert info["formatting"] == "sharegpt"
    assert [turn[info["tags"]["role_tag"]] for turn in row[info["columns"]["messages"]]] == [
        *("system", "user", "assistant")
    ]
    assert row["messages"][1]["content"].count("<image>") == len(row[info["columns"]["images"]]) == 2


def test_verl_rows(pictures, tmp_path):
    write_format([example(pictures[:1], **CHOICE)], "verl", tmp_path / "rows.parquet", words=_words)
    (row,) = rows_of(tmp_path / "rows.parquet")
    assert row["reward_model"] == {"style": "rule", "ground_truth": "MR"}
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert row["images"][0]["bytes"] == pictures[0].read_bytes()
    assert row["extra_info"]["question"] == "Which modality?"


def test_medvlthinker_rows(pictures, tmp_path):
    write_format([example(pictures[:1], **CHOICE)], "medvlthinker", tmp_path / "rows.parquet", words=_words)
    (row,) = rows_of(tmp_path / "rows.parquet")
    assert json.loads(row["options"]) == {"A": "CT", "B": "MR"}
    assert (row["answer_label"], row["answer"], row["dataset_name"], row["dataset_index"]) == ("B", "MR", "toy", "0")


line = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<>()[]{}"), min_size=1)
phrase = st.lists(line.filter(lambda text: text[0].isalpha()), min_size=1, max_size=3).map(" ".join)
answers = phrase.filter(lambda text: text.lower() not in ("true", "false", "none", "null", "nan", "n/a"))
"""Not the words that a reader of tables takes for a truth value or for nothing."""


@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_round_trips(name, data, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("round")
    examples = []
    for number in range(data.draw(st.integers(1, 4))):
        options = tuple(
            data.draw(st.sampled_from([(), ("x-ray", "ultrasound", "angiogram"), ("left", "right")]), label="options")
        )
        answer = data.draw(st.sampled_from(options) if options else answers, label="answer")
        images = pictures[: data.draw(st.integers(1, 3 if FORMATS[name].many else 1))]
        thought = data.draw(st.none() | phrase, label="thought")
        question = data.draw(phrase, label="question")
        split = data.draw(st.sampled_from(["train", "validation", "test"]))
        examples.append(example(images, number, split, options, (answer,), question=question, rationale=thought))
    done = write_format(examples, name, folder / "out", words=_words)
    back = read_data(name, folder / "out", cache=folder / "cache").examples
    assert sum(done["files"].values()) == len(back) == len(examples)
    lost = set(done["lost"])
    assert lost <= {"dataset and id", "rationale"} and ("rationale" in lost) <= (name == "med_r1")
    order = {"train": 0, "validation": 1, "test": 2}
    wanted = sorted(examples, key=lambda one: order[one.split])
    for one, found in zip(wanted, sorted(back, key=lambda one: order[one.split]), strict=True):
        assert (found.question, found.references, found.options) == (one.question, one.references, one.options)
        assert (found.split, found.kind, pixels(found)) == (one.split, one.kind, pixels(one))
        if "rationale" not in lost:
            assert found.rationale == one.rationale
        if "dataset and id" not in lost:
            assert found.id == one.id


@pytest.mark.parametrize(
    ("name", "more", "lost"),
    [
        ("vlm_r1", {"references": ("left", "the left")}, {"other references"}),
        ("verl", {"references": ("left", "the left"), "metadata": {"organ": "lung"}, "rationale": "Seen."}, set()),
        ("med_r1", {"rationale": "Seen."}, {"rationale"}),
        ("medvlthinker", {"metadata": {"organ": "lung"}}, {"metadata"}),
        ("llama_factory", {"question": "Which? (A) CT (B) MR", "options": ("CT", "MR"), "references": ("MR",)}, None),
    ],
)
def test_what_is_not_kept_is_told(pictures, tmp_path, name, more, lost):
    done = write_format([example(pictures[:1], **more)], name, tmp_path / "out", words=_words)
    found = set(done["lost"]) - {"dataset and id"}
    assert found == lost if lost is not None else {"options", "kind"} <= found


def test_one_image_formats_leave_the_rest_out(pictures, tmp_path):
    rows = [example(pictures, 0), example(pictures[:1], 1)]
    done = write_format(rows, "med_r1", tmp_path / "out.json", words=_words)
    assert [left["row"] for left in done["left_out"]] == ["toy/train/0"]
    assert done["files"] == {"out.json": 1}


def test_images_below_the_output_are_referred_to(pictures, tmp_path):
    inside = tmp_path / "scans" / "a.png"
    inside.parent.mkdir()
    inside.write_bytes(pictures[0].read_bytes())
    write_format([example([inside])], "vlm_r1", tmp_path / "rows.jsonl", words=_words)
    assert rows_of(tmp_path / "rows.jsonl")[0]["image"] == "scans/a.png"
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("name", READERS)
def test_rows_of_another_format_are_listed(tmp_path, name):
    (tmp_path / "rows.jsonl").write_text('{"text": "hello"}\n[]\n{"prompt": 3, "image": 1, "messages": "x"}\n')
    loaded = LOADERS[name](tmp_path / "rows.jsonl")
    assert not loaded.examples
    assert {left.reason for left in loaded.report.left_out} == {"not a row"}


@pytest.mark.parametrize(
    ("turns", "answer", "thought"),
    [
        ([{"from": "human", "value": "<image>Q?"}, {"from": "gpt", "value": "<think>t</think>yes"}], "yes", "t"),
        ([{"from": "human", "value": "Q?<image>"}, {"from": "gpt", "value": "yes"}], "yes", None),
        ([{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "<answer> yes </answer>"}], "yes", None),
    ],
)
def test_other_wordings_of_a_chat(pictures, tmp_path, turns, answer, thought):
    row = {"images": [str(pictures[0])], "conversations": turns}
    (tmp_path / "mine.json").write_text(json.dumps([row]))
    options = {"image_root": str(pictures[0].parent)}  # an absolute path must lie in the folder of the images
    (found,) = read_data("llama_factory", tmp_path / "mine.json", options=options).examples
    assert (found.question, found.references, found.rationale) == ("Q?", (answer,), thought)


@pytest.mark.parametrize("name", ["Images", " image ", "IMAGE"])
def test_images_beside_a_chat_are_found_whatever_their_case(pictures, tmp_path, name):
    turns = [{"from": "human", "value": "<image>Q?"}, {"from": "gpt", "value": "yes"}]
    (tmp_path / "mine.jsonl").write_text(json.dumps({name: str(pictures[0]), "conversations": turns}))
    options = {"image_root": str(pictures[0].parent)}
    (found,) = read_data("llama_factory", tmp_path / "mine.jsonl", options=options).examples
    assert len(found.images) == 1


@pytest.mark.parametrize(
    ("output", "message"),
    [("rows.txt", "written as .jsonl"), ("full", "exists already"), ("a.jsonl", "exists already")],
)
def test_mistakes(pictures, tmp_path, output, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(DataError, match=message):
        write_format([example(pictures[:1])], "vlm_r1", tmp_path / output, words=_words)
    with pytest.raises(UnknownNameError, match="split"):
        LOADERS["verl"](tmp_path, split="tests")


@pytest.mark.parametrize("name", FORMATS)
def test_datasets_reads_the_files(pictures, tmp_path, name, monkeypatch):
    """The library under the readers of all these trainers; the trainers themselves are not installed."""
    datasets = pytest.importorskip("datasets")
    rows = [example(pictures[:1], 0), example(pictures[:1], 1, rationale="Seen.", **CHOICE)]
    write_format(rows, name, tmp_path / "out", words=_words)
    kind = "parquet" if FORMATS[name].embeds else "json"
    file = str(tmp_path / "out" / f"train{FORMATS[name].suffix}")
    read = datasets.load_dataset(kind, data_files=file, cache_dir=str(tmp_path / "cache"), split="train")
    assert len(read) == 2
    assert set(read.column_names) == set(rows_of(Path(file))[0])
