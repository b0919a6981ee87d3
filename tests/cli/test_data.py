import json
import re

import pytest
from typer.testing import CliRunner

from medrft.cli.common import UNSAFE
from medrft.cli.data import app
from medrft.cli.main import exit_with
from medrft.errors import DataError, RecipeError, StorageError, UnknownNameError


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_check_json_is_one_object_on_stdout(slake_root):
    done = run("check", "slake", slake_root, "--json")
    summary = json.loads(done.stdout)
    assert summary["splits"]["train"] == {
        "rows": 4,
        "kept": 3,
        "kinds": {"closed": 1, "choice": 0, "open": 2},
        "images": 1,
        "left_out": {"empty answer": 1},
    }
    assert [row["row"] for row in summary["left_out"]] == ["slake/train/1622"]


@pytest.mark.parametrize("key", ["lang", "data.lang"])
def test_check_takes_loader_options_in_both_spellings(slake_root, key):
    summary = json.loads(run("check", "slake", slake_root, "--set", f"{key}=all", "--json").stdout)
    assert list(summary["splits"]) == [f"{s}_{lang}" for lang in ("en", "zh") for s in ("train", "validation", "test")]


def test_check_for_people(vqa_rad_root):
    text = run("check", "vqa_rad", vqa_rad_root).stdout
    for part in ("train", "test", "closed", "left out", "missing image", "vqa_rad/train/6", "share 1 image"):
        assert part in text
    assert "validation" not in text


def words(*arguments):
    return json.loads(run("check", *arguments, "--words", "--json").stdout)["words"]


def test_unknown_words_of_the_answers_by_frequency(tmp_path, image_file):
    image_file(tmp_path / "1.png")
    answers = ["yes", "left lung", "glorpy lung", "glorpy", "Glorpitis in the left upper lobe"]
    lines = [json.dumps({"image": "1.png", "question": "Is it?", "answer": answer}) for answer in answers]
    options = {"image": "1.png", "question": "Which?", "answer": "CT", "options": ["CT", "flump"]}
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, json.dumps(options)]))
    found = words("table", tmp_path / "a.jsonl")
    assert {key: found[key] for key in found if key != "words"} == {
        "references": 5,
        "fully_known": 2,
        "share_fully_known": 0.4,
        "over_a_third_unknown": 2,
    }
    assert [(row["word"], row["count"], row["id"]) for row in found["words"]] == [
        ("glorpy", 2, "a/train/2"),
        ("flump", 1, "a/train/5"),
        ("glorpitis", 1, "a/train/4"),
    ]
    own = tmp_path / "ours.yaml"
    own.write_text(found["words"][2]["add"] + "anatomy: {glorpy: {part_of: chest}}\n")
    assert [row["word"] for row in words("table", tmp_path / "a.jsonl", "--lexicon", own)["words"]] == ["flump"]
    text = run("check", "table", tmp_path / "a.jsonl", "--words").stdout
    for part in ("Of 5 references", "40.0%", "of 2 it does not know", "glorpy", "glorpitis: {is_a: inflammation}"):
        assert part in " ".join(text.split())


def test_own_words_need_the_question(vqa_rad_root):
    done = run("check", "vqa_rad", vqa_rad_root, "--lexicon", "ours.yaml")
    assert isinstance(done.exception, RecipeError) and "goes with --words" in str(done.exception)


def test_check_can_cut_and_exclude(vqa_rad_root):
    options = ("--set", "validation=0.5", "--set", "exclude_test_images=true", "--set", "seed=3")
    summary = json.loads(run("check", "vqa_rad", vqa_rad_root, *options, "--json").stdout)
    assert summary["reasons"]["image is also in test"] == 1
    assert "validation cut from train by image (fraction 0.5, seed 3): 1 of 2 images" in summary["notes"][-1]


def test_columns_by_dotted_keys(tmp_path, image_file):
    image_file(tmp_path / "1.png")
    (tmp_path / "a.csv").write_text("pic,q,a,x,y\n1.png,Which?,B,CT,MRI\n")
    options = ("columns.image=pic", "columns.question=q", "columns.answer=a", "columns.options=[x, y]")
    done = run("check", "table", tmp_path / "a.csv", *(part for key in options for part in ("--set", key)), "--json")
    assert json.loads(done.stdout)["splits"]["train"]["kinds"]["choice"] == 1


def test_only_ten_left_out_rows_are_printed(tmp_path, image_file):
    image_file(tmp_path / "1.png")
    lines = ['{"image": "1.png", "question": "?", "answer": "yes"}'] + ["[]"] * 14
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    text = run("check", "table", tmp_path / "a.jsonl").stdout
    assert "… and 4 more; --json lists them all" in text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("check", "slak", "."), UnknownNameError, "did you mean 'slake'"),
        (("check", "slake", "nowhere"), DataError, "nothing is there"),
        (("check", "slake"), DataError, "PATH on the command line"),
        (("check", "slake:/data/slake"), DataError, "medrft data check slake /data/slake"),
        (("check", "slake", ".", "--set", "validation=2"), RecipeError, "less than 1"),
        (("check", "slake", ".", "--set", "seed=x"), RecipeError, "whole number"),
        (("check", "slake", ".", "--set", "columns=1", "--set", "columns.a=2"), RecipeError, "which has no key"),
        (("show", "slake", ".", "--output", "x.txt"), DataError, "name it x.html"),
        (("show", "slake", ".", "--output", __file__ + "/x.html"), StorageError, "is a file"),
        (("show", "slake", ".", "--split", "tests"), UnknownNameError, "did you mean 'test'"),
    ],
)
def test_mistakes(arguments, error, message):
    done = run(*arguments)
    assert isinstance(done.exception, error)
    assert message in str(done.exception)


def test_show_writes_a_page(slake_root, tmp_path):
    done = run("show", "slake", slake_root, "--output", tmp_path / "new" / "a.html", "--limit", 3)
    assert done.exit_code == 0
    page = (tmp_path / "new" / "a.html").read_text(encoding="utf-8")
    assert page.count("<article") == 3


def test_show_of_a_split_without_rows(vqa_rad_root, tmp_path):
    done = run("show", "vqa_rad", vqa_rad_root, "--split", "validation", "--output", tmp_path / "a.html")
    assert "has no validation rows; it has train, test" in str(done.exception)
    assert run("show", "vqa_rad", vqa_rad_root, "--output", tmp_path).exception is not None


def test_leaks_json(vqa_rad_root):
    done = run("leaks", f"vqa_rad:{vqa_rad_root}:train", f"vqa_rad:{vqa_rad_root}:test", "--json")
    found = json.loads(done.stdout)
    leak = found["pairs"]["vqa_rad:train|vqa_rad:test"]
    numbers = [leak[key] for key in ("shared_images", "total_images_b", "shared_items", "copies")]
    assert numbers == [1, 2, 0, 0]
    assert found["sets"]["vqa_rad:test"] == {"items": 2, "images": 2}


def test_leaks_names_the_files_of_one_loader(vqa_rad_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"image": f"{vqa_rad_root}/VQA_RAD Image Folder/synpic1.jpg", "question": "Clear?", "answer": "yes"}
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(row), encoding="utf-8")
    done = run("leaks", "table:a.jsonl", "table:b.jsonl", "--output", "leaks.html")
    page = (tmp_path / "leaks.html").read_text(encoding="utf-8")
    for name in ("table:a.jsonl:train", "table:b.jsonl:train"):
        assert name in done.stdout
        assert name in page


def test_leaks_for_people(vqa_rad_root, slake_root, tmp_path, image_file):
    source = tmp_path / "mine.jsonl"
    row = {"image": f"{vqa_rad_root}/VQA_RAD Image Folder/synpic1.jpg", "question": "Are the [b]lungs clear?"}
    source.write_text(json.dumps({**row, "answer": "yes"}), encoding="utf-8")
    done = run("leaks", f"table:{source}", f"table:{source}:train", f"vqa_rad:{vqa_rad_root}:test")
    for part in ("table:train#2", "vqa_rad:test", "same question and answer", "nearly the same", "[b]lungs clear?"):
        assert part in done.stdout
    all_of_slake = run("leaks", f"slake:{slake_root}", "--set", "lang=all")
    assert "slake:train_en" in all_of_slake.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("leaks", "{root}:train"), DataError, "got only vqa_rad:train"),
        (("leaks", "{root}:validation"), DataError, "has no validation rows; it has train, test"),
        (("leaks", "{root}", "--set", "lang=en"), UnknownNameError, "lang"),
        (("leaks", "vqa_rat:x", "{root}"), UnknownNameError, "did you mean 'vqa_rad'"),
    ],
)
def test_mistakes_of_leaks(vqa_rad_root, arguments, error, message):
    done = run(*(argument.format(root=f"vqa_rad:{vqa_rad_root}") for argument in arguments))
    assert isinstance(done.exception, error)
    assert message in str(done.exception)


def test_convert_there_and_back(vqa_rad_root, tmp_path):
    first = run("convert", f"vqa_rad:{vqa_rad_root}", "--to", "llama_factory", "--output", tmp_path / "rows")
    for part in ("train.json: 6 rows", "test.json: 2 rows", "not kept: metadata (8 rows)"):
        assert part in first.stdout
    again = (
        "convert",
        tmp_path / "rows",
        "--from",
        "llama_factory",
        "--to",
        "verl",
        "--output",
        tmp_path / "a.parquet",
    )
    done = json.loads(run(*again, "--json").stdout)
    assert (done["files"], done["lost"]) == ({"a.parquet": 8}, {})
    checked = json.loads(run("check", "verl", tmp_path / "a.parquet", "--json").stdout)
    assert {name: split["kept"] for name, split in checked["splits"].items()} == {"train": 6, "test": 2}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("vqa_rad:{root}", "--to", "verll"), UnknownNameError, "did you mean 'verl'"),
        (("{root}", "--from", "vlm", "--to", "verl"), UnknownNameError, "vlm_r1"),
        (("vqa_rad:{root}", "--to", "verl"), DataError, "written as .parquet"),
    ],
)
def test_mistakes_of_convert(vqa_rad_root, tmp_path, arguments, error, message):
    told = (argument.format(root=vqa_rad_root) for argument in arguments)
    done = run("convert", *told, "--output", tmp_path / "a.json")
    assert isinstance(done.exception, error)
    assert message in str(done.exception)


def test_what_a_table_holds_cannot_act_on_the_terminal(tmp_path, image_file, capsys):
    image_file(tmp_path / "0.png")
    good = {"image": "0.png", "question": "Is it?", "answer": "no"}
    bad = {"id": "a\x1b[31mb\x9b2J\u202e", "image": "\x1b]0;x.png", "question": "\x1b[31m?", "answer": "no"}
    rows = (good, bad, {**bad, "image": 3, "split": "\x1b[2J"})
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for more in ((), ("--json",)):
        done = run("check", "table", tmp_path / "t.jsonl", *more)
        assert done.exit_code == 0 and "31mb" in done.output
        assert not UNSAFE.search(done.output.replace("\n", ""))
    with pytest.raises(SystemExit):
        exit_with("no row \x1b[2J of \x9b", status=2)
    assert capsys.readouterr().err == "medrft: no row \ufffd[2J of \ufffd\n"


def test_the_sheet_of_leaks_counts_what_the_terminal_counts(vqa_rad_root, tmp_path):
    sources = (f"vqa_rad:{vqa_rad_root}:train", f"vqa_rad:{vqa_rad_root}:test")
    found = json.loads(run("leaks", *sources, "--output", tmp_path / "l.html", "--json").stdout)
    (pair,) = found["pairs"].values()
    page = (tmp_path / "l.html").read_text()
    cells = re.findall(r"<td[^>]*>([\d,]+)</td>", page)
    asked = ("total_images_b", "shared_images", "copies", "similar", "total_items_b", "shared_items")
    assert cells[:6] == [f"{pair[key]:,}" for key in asked]
