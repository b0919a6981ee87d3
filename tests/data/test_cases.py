"""Files as people have them (`tests/cases`; its README says what is right), and the other members of each kind."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medrft.config import DataConfig
from medrft.data import images, load_data, read_data
from medrft.data.base import RowError
from medrft.data.tables import choices
from medrft.data.tables.rows import Row
from medrft.data.tables.table import read_table
from medrft.errors import DataError
from medrft.models.prompts import get_prompt

CASES = Path(__file__).parents[1] / "cases"


@pytest.fixture
def read(tmp_path):
    """`read(file, **options)`: a case through the `table` loader, or through the one named by `loader`."""

    def load(file, loader="table", **options):
        return read_data(loader, CASES / file, cache=tmp_path / "cache", options=options)

    return load


@pytest.fixture
def row_of(tmp_path, image_file):
    """`row_of(**values)`: what one row becomes, an example or the reason for which it is left out."""
    image_file(tmp_path / "img" / "0.png")

    def one(answer_index=None, **values):
        rows = [Row(number=0, split=None, values={"image": "img/0.png", "question": "Which?", **values})]
        loaded = read_table(rows, dataset="t", folder=tmp_path, cache=tmp_path / "c", answer_index=answer_index)
        return loaded.examples[0] if loaded.examples else loaded.report.left_out[0]

    return one


# The files of tests/cases: what is kept as (kind, references, options), and the rows that are listed

CHOSEN = ("choice", ("MRI",), ("CT", "MRI", "PET"))
PLANE = ("choice", ("coronal",), ("axial", "coronal"))
FILES = {
    "tables/a_windows.csv": ([("closed", ("No",), ()), ("open", ("左肺",), ())], []),
    "tables/c_pandas_options.csv": ([CHOSEN, PLANE], []),
    "tables/d_options_text.csv": ([CHOSEN, PLANE, PLANE], []),
    "tables/e_counts.csv": ([("open", ("2",), ()), ("open", ("12",), ())], ["empty answer"]),
    "tables/e_counts.parquet": ([("open", ("2",), ()), ("open", ("12",), ())], ["empty answer"]),
    "tables/f_vlmevalkit.tsv": ([("choice", ("CT",), ("CT", "MRI"))] * 3, []),
    "tables/h_lines.json": ([("closed", ("yes",), ())] * 3, []),
    "tables/j_data.json": ([("closed", ("yes",), ())] * 3, []),
    "tables/k_semicolon.csv": ([("closed", ("no",), ())], []),
    "tables/l_utf16.csv": ([("open", ("left",), ())], []),
    "tables/m_bool.jsonl": (
        [("closed", ("No",), ()), ("open", ("a", "b"), ())],
        ["answer is not text", "empty answer", "answer is not text"],
    ),
    "tables/n_uri.jsonl": ([("open", ("left",), ())] * 2, []),
    "tables/o3_option_dict.jsonl": ([CHOSEN], []),
    "tables/o_gaps.jsonl": (
        [
            ("choice", ("MRI",), ("CT", "MRI")),
            CHOSEN,
            ("choice", ("2",), ("1", "2", "3", "4")),
            ("choice", ("B",), ("B", "A", "C")),
        ],
        ["answer is not among the options"] * 2,
    ),
    "chats/blocks.jsonl": ([("open", ("left lung",), ())] * 2, []),
    "chats/medr1.json": (
        [("choice", ("X-ray",), ("CT", "MRI", "X-ray", "US")), ("choice", ("X-ray",), ("CT", "MRI", "X-ray"))],
        [],
    ),
    "mmmu/validation.parquet": (
        [
            ("choice", ("CT",), ("Ultrasound", "MRI", "CT", "PET")),
            ("choice", ("Crohn's disease",), ("Crohn's disease", "Normal")),
            ("open", ("0.5", "1/2"), ()),
        ],
        [],
    ),
}


@pytest.mark.parametrize("file", FILES)
def test_files_as_people_have_them(read, file):
    kept, left = FILES[file]
    loaded = read(file)
    assert [(e.kind, e.references, e.options) for e in loaded.examples] == kept
    assert [row.reason for row in loaded.report.left_out] == left


@pytest.mark.parametrize(
    ("file", "encoding", "answer"), [("l_gbk", "gbk", "否"), ("l_cp1252", "cp1252", "Ménière – left")]
)
def test_an_encoding_that_must_be_named(read, file, encoding, answer):
    with pytest.raises(DataError, match=r"not UTF-8 text .*encoding=gbk or cp1252"):
        read(f"tables/{file}.csv")
    assert read(f"tables/{file}.csv", encoding=encoding).examples[0].references == (answer,)
    with pytest.raises(DataError, match="unknown encoding 'gkb'"):
        read(f"tables/{file}.csv", encoding="gkb")


@pytest.mark.parametrize("loader", ["table", "llama_factory", "vlm_r1"])
def test_turns_become_examples_with_those_before_them(read, loader):
    first, second, third, other, last = read("chats/multi.jsonl", loader).examples
    assert [e.references for e in (first, second, third, other, last)] == [
        *(("Yes",), ("Left",), ("No",)),
        *(("The second.",), ("left lung",)),
    ]
    asked = (("Is there an effusion?", "Yes"), ("On which side?", "Left"))
    assert (first.history, second.history, third.history) == ((), asked[:1], asked)
    assert first.images == third.images and len(other.images) == 2
    turns = get_prompt("direct").messages(third)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [sum(block["type"] == "image" for block in turn["content"]) for turn in turns] == [1, 0, 0, 0, 0]
    assert turns[-1]["content"][-1]["text"] == "Is it large?"


def test_a_window_outside_the_values(read):
    (left,) = read("dicom/deeplesion.jsonl", window="40/400").report.left_out
    assert left.reason == "window does not fit"
    assert "31768 to 33768" in left.detail and "32808/400" in left.detail
    (shown,) = read("dicom/deeplesion.jsonl", window="32808/400").examples
    assert np.ptp(np.asarray(Image.open(shown.images[0]))) == 255


def test_three_windows_are_three_colours(read):
    (shown,) = read("dicom/deeplesion.jsonl", window="[32808/400, 32168/1500, 33168/1800]").examples
    picture = np.asarray(Image.open(shown.images[0]))
    assert picture.shape == (64, 64, 3) and (picture[..., 0] != picture[..., 1]).any()
    assert shown.metadata["shown"][0]["window"]["centre"] == [32808, 32168, 33168]


# Options and answers


@pytest.mark.parametrize(
    ("options", "answer", "right"),
    [
        ("['CT' 'MRI'\n 'PET']", "B", "MRI"),  # NumPy prints no commas; Python would glue the texts
        ("array(['CT', 'MRI'], dtype=object)", "B", "MRI"),
        ("['CT', nan, 'MRI']", "C", "MRI"),
        ("['CT', None, 'MRI']", "C", "MRI"),
        ('{"A": "CT", "B": null, "C": "MRI"}', "C", "MRI"),
        ("{'A': 'CT', 'B': nan, 'C': 'MRI'}", "C", None),  # a table that neither JSON nor Python can read
        (np.array(["CT", "MRI"], dtype=object), "B", "MRI"),
        (("CT", "MRI"), "option b", "MRI"),
        ({"0": "CT", "1": "MRI"}, 1, "MRI"),
        ({"1": "CT", "2": "MRI"}, "B", "MRI"),
        ({"option_a": "CT", "option_b": "MRI"}, "B", "MRI"),
        ({"label": ["A", "B"], "text": ["CT", "MRI"]}, "B", "MRI"),
        ([{"key": "A", "value": "CT"}, {"key": "B", "value": "MRI"}], "B", "MRI"),
        (["B: MRI", "A: CT"], "A", "CT"),
        (["E. coli", "S. aureus", "C. difficile"], "C", "C. difficile"),
        ("(A) CT (B) MRI", "B", "MRI"),
        ("A)CT,B)MRI", "B", "MRI"),
        ("A. CT; B. MRI", "MRI", "MRI"),
        ("A、CT B、MRI", "B", "MRI"),
        ("CT||MRI", "C", "MRI"),
        ("CT||MRI", "B", None),
        ("CT, MRI", "MRI", "MRI"),
        ("CT, MRI", "B", None),  # a comma may stand within an option
        ("1,500 ml, 2,000 ml", "B", None),
        ("CT", "CT", None),
        ("['CT', 'MRI'", "A", None),
        ({"A": "B", "B": "A"}, "A", None),  # the text of one and the label of another
        (["CT", "MRI"], "C", None),
        (["CT", "MRI"], "A. MRI", None),
        (["CT", "MRI"], 0, None),
        (["Yes", "No"], True, "Yes"),
        (["1", "2"], 2.0, "2"),
        (["1.5 cm", "2 cm"], "2 cm.", "2 cm"),
        ("N/A", "lung", "lung"),
    ],
)
def test_an_answer_among_options(row_of, options, answer, right):
    found = row_of(options=options, answer=answer)
    if right is None:
        assert found.reason in ("answer is not among the options", "options cannot be told apart")
    else:
        assert found.references == (right,)
        assert found.kind == ("choice" if found.options else "open")


@pytest.mark.parametrize(
    "columns",
    [
        ("A", "B", "C"),
        ("option_a", "option_b", "option_c"),
        ("Choice A", "Choice B", "Choice C"),
        ("choice1", "choice2", "choice3"),
        ("opa", "opb", "opc"),
        ("Option 1", "Option 2", "Option 3"),
    ],
)
def test_options_in_columns_of_their_own(row_of, columns):
    row = dict(zip(columns, ("CT", "", "MRI"), strict=True))
    assert row_of(**row, answer="C").references == ("MRI",)
    assert row_of(**row, answer="B").detail == "'B' names an option that is empty"


@pytest.mark.parametrize(("first", "right"), [(0, "MRI"), (1, "CT")])
def test_places_count_from_where_the_user_says(row_of, first, right):
    assert row_of(answer_index=first, options=["CT", "MRI"], answer=1).references == (right,)


@pytest.mark.parametrize(
    ("question", "answer", "options"),
    [
        ("Which? A)CT, B)MRI", "MRI", ("CT", "MRI")),
        ("Which?\nA. CT\nB. MRI\nAnswer with the option's letter from the given choices directly.", "B", ("CT", "MRI")),
        ("Is it in the A) left or B) right lung?", "B", ("left", "right lung")),
        ("Which of hepatitis A, B, C?", "Hepatitis B", ()),
        ("Vitamin A. Vitamin B. Which is low?", "Vitamin B", ()),
    ],
)
def test_options_in_the_question(row_of, question, answer, options):
    found = row_of(question=question, answer=answer)
    assert found.options == options
    assert found.references == (("MRI",) if options[:1] == ("CT",) else (options[1],) if options else (answer,))


def test_a_letter_that_the_question_does_not_offer_is_listed(row_of):
    assert row_of(question="Which? A)CT, B)MRI", answer="D").reason == "answer is not among the options"


texts = st.lists(
    st.sampled_from(["CT", "MRI", "PET", "x-ray", "it's", 'a "b"', "1,500", "[x]", ""]), min_size=2, max_size=6
)


@given(texts, st.data())
def test_empty_options_never_move_an_answer(options, data):
    place = data.draw(st.integers(0, len(options) - 1))
    letter = "ABCDEF"[place]
    for written in (options, str(options), json.dumps(options), dict(zip("ABCDEF", options, strict=False))):
        found = choices.read_options(written)
        if found is None:
            assert not any(options)
            continue
        try:
            assert choices.right_option(letter, found) == options[place]
        except RowError:
            assert not options[place]


@settings(max_examples=200)
@given(st.text(max_size=80))
def test_any_text_is_options_or_a_reason(text):
    try:
        choices.read_options(text)
    except RowError as left:
        assert left.reason == "options cannot be told apart"


@pytest.mark.parametrize(
    ("answer", "question", "references"),
    [
        ("['0.5', '1/2']", "Ratio?", ("0.5", "1/2")),
        ("[illegible]", "What?", ("[illegible]",)),
        ("True", "Is there?", ("Yes",)),
        ("True", "True or false: it is.", ("True",)),
        ("2.0", "How many?", ("2",)),
        ("2.50", "How many?", ("2.50",)),
        ("None", "Which?", ("None",)),
        ("N/A", "Which?", None),
        (np.float64(2.0), "How many?", ("2",)),
        (np.array(["a", "b"]), "Which?", ("a", "b")),
    ],
)
def test_answers_without_options(row_of, answer, question, references):
    found = row_of(question=question, answer=answer)
    assert found.reason == "empty answer" if references is None else found.references == references


# Files and images


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "sep=;\nimage;question;answer\nimg/0.png;Is there, now?;no\n"),
        ("a.csv", "Image ,QUESTION, answer\nimg/0.png,Is there?,no\n"),
        ("a.tsv", "image,question,answer\nimg/0.png,Is there?,no\n"),
        ("a.CSV", "image|question|answer\nimg/0.png|Is there?|no\n"),
        ("a.jsonl", '[{"image": "img/0.png", "question": "Is there?", "answer": "no"}]'),
        ("a.jsonl", '{"rows": [\n{"image": "img/0.png", "question": "Is there?", "answer": "no"}\n]}'),
        ("a.json", '{"image": "img/0.png", "question": "Is there?", "answer": "no"}'),
        ("a.json", '{"image": {"0": "img/0.png"}, "question": {"0": "Is there?"}, "answer": {"0": "no"}}'),
        ("a.json", '{"x1": {"image": "img/0.png", "question": "Is there?", "answer": "no"}}'),
        ("a.jsonl", '{"image": "img/0.png", "images": ["img/0.png"], "question": "Is there?", "answer": "no"}'),
        ("a.jsonl", '{"image": null, "images": ["img/0.png"], "question": "Is there?", "answer": "no"}'),
        ("a.jsonl", '{"query": "Is there?", "response": "no", "images": ["img/0.png"], "history": [["Hm?", "Yes"]]}'),
    ],
)
def test_tables_by_another_name(tmp_path, image_file, name, content):
    image_file(tmp_path / "img" / "0.png")
    (tmp_path / name).write_text(content, encoding="utf-8")
    (example,) = read_data("table", tmp_path / name).examples
    assert (example.references, example.images[0].name) == (("no",), "0.png")
    assert example.history == ((("Hm?", "Yes"),) if "history" in content else ())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "image,answer,Answer\n", "'answer' twice"),
        ("a.json", '{"questions": [{"a": 1}], "annotations": [{"b": 1}]}', "several lists of rows"),
        ("a.xlsx", "", "save the sheet as CSV"),
        ("a.csv.gz", "", "unpack it first"),
        ("a.csv", "i\0m\0a\0", "encoding=utf-16-le"),
    ],
)
def test_files_that_are_refused_name_the_way(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_data("table", tmp_path / name)


def test_a_quote_that_is_not_closed_swallows_no_row_unseen(tmp_path, image_file):
    image_file(tmp_path / "0.png")
    text = 'image,question,answer\n0.png,"Is there,no\n0.png,Is there?,no\n0.png,Is there?,no\n'
    (tmp_path / "a.csv").write_text(text)
    (left,) = read_data("table", tmp_path / "a.csv").report.left_out
    assert "lines 2 to 4 hang together" in left.detail
    (tmp_path / "b.jsonl").write_text('{"image": "0.png", "question": "?", "answer": "yes", "answer": "no"}')
    (left,) = read_data("table", tmp_path / "b.jsonl").report.left_out
    assert "'answer' stands twice" in left.detail


def test_a_cell_that_holds_a_whole_image(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "n.png")
    encoded = base64.b64encode((tmp_path / "n.png").read_bytes()).decode()
    assert len(encoded) > 131_072
    rows = f"index\timage\tquestion\tA\tB\tanswer\n0\t{encoded}\tWhich?\tCT\tMRI\tB\n1\t0\tWhich?\tCT\tMRI\tA\n"
    (tmp_path / "t.tsv").write_text(rows)
    first, second = read_data("table", tmp_path / "t.tsv", cache=tmp_path / "c").examples
    assert first.images == second.images and second.references == ("CT",)  # VLMEvalKit names the row of an image


@pytest.mark.parametrize(
    ("turns", "kept", "problem"),
    [
        ([("user", "<image>a?"), ("assistant", "b"), ("user", "c?")], 1, "a question without an answer"),
        ([("user", "a?"), ("user", "b?"), ("assistant", "c")], 0, "two turns of the user in a row"),
        ([("assistant", "hello"), ("user", "a?")], 0, "one text of the user"),
        ([("user", "a?"), ("tool", "x"), ("assistant", "c")], 0, "a turn of 'tool'"),
        ([("user", [{"type": "video", "video": "x"}]), ("assistant", "c")], 0, "a block of type 'video'"),
    ],
)
def test_turns_that_have_no_place_are_listed(tmp_path, image_file, turns, kept, problem):
    image_file(tmp_path / "0.png")
    row = {"images": ["0.png"], "messages": [{"role": who, "content": content} for who, content in turns]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    loaded = read_data("llama_factory", tmp_path / "a.jsonl")
    assert len(loaded.examples) == kept
    assert problem in loaded.report.left_out[0].detail


def test_a_limit_on_pixels_is_an_option(tmp_path, image_file):
    image_file(tmp_path / "0.png")
    (tmp_path / "a.jsonl").write_text('{"image": "0.png", "question": "Is it?", "answer": "no"}')
    with pytest.raises(DataError, match=r"image too large: 1.*data\.pixel_limit"):
        load_data(DataConfig(name="table", root=str(tmp_path / "a.jsonl"), pixel_limit=10), seed=0)
    with pytest.raises(DataError, match="from 1 to 67,108,864"):
        read_data("table", tmp_path / "a.jsonl", options={"pixel_limit": "big"})


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "AT_ONCE", 100)
    inside, most = [0], [0]
    decode = images._decode

    def counted(source):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        try:
            return decode(source)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(images, "_decode", counted)
    for number in range(6):
        Image.new("RGBA", (20, 20), (number, 0, 0, 128)).save(tmp_path / f"{number}.png")
    assert images.inspect_images(sorted(tmp_path.glob("*.png"))) == {}
    assert most == [1]


def test_no_test_rows_are_said(tmp_path, image_file):
    image_file(tmp_path / "0.png")
    (tmp_path / "a.jsonl").write_text('{"image": "0.png", "question": "Is it?", "answer": "no"}')
    loaded = load_data(DataConfig(name="table", root=str(tmp_path / "a.jsonl")), seed=0)
    assert "no test rows" in loaded.report.notes[0] and "data.by_image" in loaded.report.notes[0]
    loaded = load_data(DataConfig(name="table", root=str(tmp_path / "a.jsonl"), by_image=0.2), seed=0)
    assert "which no split by image can part" in loaded.report.notes[0]  # not: split by image
