"""`medrft init` as a user types it, on files as people have them."""

import fcntl
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from conftest import write_image
from medrft.cli.main import app
from medrft.errors import DataError, RecipeError
from medrft.pipeline.drafting import Draft, parse_draft
from medrft.pipeline.run import run_recipe
from medrft.recipes import load_recipe
from medrft.report.results import verdict_lines
from medrft.rundir import read_jsonl, read_record
from medrft.shipped import FOLDER, shipped_files


def medrft(*words):
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)


def drafted(*words):
    """The recipe that init wrote, and what it said of it."""
    done = medrft("init", *words, "--yes")
    assert done.exit_code == 0, done.exception or done.output
    told = done.stderr.strip().splitlines()[-1].removeprefix("Next: medrft run ")
    path = Path(shlex.split(told, comments=True)[0])
    return load_recipe(path), path.read_text(), " ".join(done.stdout.split())


def lines(*rows):
    return "".join(",".join(row) + "\n" for row in rows)


def test_the_list_has_every_name_and_what_it_needs():
    shown = medrft("init", "--list").stdout
    assert all(name in shown for name in shipped_files())
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert rows["quickstart"].rstrip().endswith("nothing") and "slake at data.root" in rows["slake"]
    assert "deepspeed" in rows["accelerate/deepspeed_zero3"] and "table at data.root" in rows["my_data"]


def test_a_copy_goes_where_the_commands_in_it_look(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = medrft("init", "armed_4gpu")
    assert done.stdout.split() == ["recipes/armed_4gpu.yaml", "recipes/accelerate/fsdp2.yaml"]
    assert done.stderr.startswith("Next: medrft run recipes/armed_4gpu.yaml --plan")
    assert medrft("init", "quickstart", "mine").stdout == "mine/quickstart.yaml\n"
    assert (tmp_path / "mine" / "quickstart.yaml").is_file()


def questions(folder, number=8, *, ending=".png"):
    """Rows (image, question, answer) about small images, half of them yes/no."""
    rows = []
    for i in range(number):
        write_image(folder / f"scan_{i}{ending}", 20 * i, size=(40, 40))
        rows.append((f"scan_{i}{ending}", f"Is there an effusion in scan {i}?", "Yes" if i % 2 else "No"))
        rows.append((f"scan_{i}{ending}", f"Where is the lesion of scan {i}?", "left upper lobe"))
    return rows


def odd_names(folder):
    rows = questions(folder)
    text = lines((" Question ", "ANSWER", "Image Path", "Age"), *((q, a, i, "41") for i, q, a in rows))
    (folder / "study.csv").write_text(text)
    return folder / "study.csv", {"image": "Image Path", "question": " Question ", "answer": "ANSWER"}


def short_names_in_a_folder_of_their_own(folder):
    rows = questions(folder / "pictures")
    named = [(i.removesuffix(".png"), q, a) for i, q, a in rows]
    (folder / "qa.csv").write_text(lines(("img", "q", "a"), *named))
    return folder / "qa.csv", {"image": "img", "question": "q", "answer": "a"}


def conversations(folder):
    rows = questions(folder / "train_images")
    table = [
        {
            "id": n,
            "image": i,
            "conversations": [{"from": "human", "value": f"<image>\n{q}"}, {"from": "gpt", "value": a}],
        }
        for n, (i, q, a) in enumerate(rows)
    ]
    (folder / "llava.json").write_text(json.dumps(table))
    return folder / "llava.json", None


def captions(folder):
    rows = questions(folder / "radiology" / "images", ending=".jpg")
    named = [(i.removesuffix(".jpg"), f"chest radiograph with finding {n}") for n, (i, _, _) in enumerate(rows[::2])]
    (folder / "radiology" / "captions.csv").write_text(lines(("name", "caption"), *named))
    return folder / "radiology" / "captions.csv", {"image": "name", "answer": "caption"}


def classes_beside_a_folder_of_images(folder):
    rows = questions(folder / "scans")
    named = [(i, "pneumonia" if n % 3 else "normal") for n, (i, _, _) in enumerate(rows[::2])]
    (folder / "scans" / "labels.csv").write_text(lines(("filename", "label"), *named))
    return folder / "scans", {"image": "filename", "answer": "label"}


def thoughts_and_splits(folder):
    splits = ["train"] * 10 + ["val"] * 2 + ["test"] * 4
    rows = [
        {"image_path": i, "query": q, "response": a, "rationale": "It is seen at the base.", "subset": split}
        for (i, q, a), split in zip(questions(folder), splits, strict=True)
    ]
    (folder / "cot.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"image": "image_path", "question": "query", "answer": "response", "rationale": "rationale"}
    return folder / "cot.jsonl", {**columns, "split": "subset"}


def options_in_parquet_with_the_images_inside(folder):
    rows = questions(folder)
    table = [
        {
            "image": {"bytes": (folder / image).read_bytes(), "path": image},
            "question": f"Which plane is scan {n}?",
            **{"A": "axial", "B": "coronal", "C": "sagittal"},
            "answer": "ABC"[n % 3],
        }
        for n, (image, _, _) in enumerate(rows)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), folder / "planes.parquet")
    return folder / "planes.parquet", {
        "image": "image",
        "question": "question",
        "answer": "answer",
        "options": ["A", "B", "C"],
    }


def columns_that_only_their_cells_tell(folder):
    rows = questions(folder)
    (folder / "export.tsv").write_text(
        "".join("\t".join(r) + "\n" for r in [("c1", "c2", "c3", "n"), *((a, q, i, "3") for i, q, a in rows)])
    )
    return folder / "export.tsv", {"image": "c3", "question": "c2", "answer": "c1"}


def dicom(folder):
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("pydicom")
    from written_dicom import write_dicom

    for i in range(8):
        (folder / "series").mkdir(exist_ok=True)
        write_dicom(folder / "series" / f"{i}.dcm", numpy.full((40, 40), 30 * i, numpy.int16))
    rows = [(f"series/{i}.dcm", f"Is it dense in {i}?", "yes" if i % 2 else "no") for i in range(8)]
    (folder / "ct.csv").write_text(lines(("dicom_path", "question", "answer"), *rows))
    return folder / "ct.csv", {"image": "dicom_path", "question": "question", "answer": "answer"}


SHAPES = [
    odd_names,
    short_names_in_a_folder_of_their_own,
    conversations,
    captions,
    classes_beside_a_folder_of_images,
    thoughts_and_splits,
    options_in_parquet_with_the_images_inside,
    columns_that_only_their_cells_tell,
    dicom,
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_files_as_people_have_them(shape, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, columns = shape(tmp_path)
    recipe, text, said = drafted(path.relative_to(tmp_path))
    assert recipe.data.options.get("columns") == columns
    assert recipe.prompt == ("think" if shape is thoughts_and_splits else "direct")
    assert (recipe.data.by_image is None) == (shape is thoughts_and_splits) == ("by_image" not in text)
    asked = {captions: "What does this image show?", classes_beside_a_folder_of_images: "Which of the classes"}
    assert (shape in asked) == ("ask" in recipe.data.options)
    assert asked.get(shape, "") in recipe.data.options.get("ask", "")
    assert set(recipe.reward) == {"choice"} if "parquet" in shape.__name__ else set(recipe.reward) <= {"closed", "open"}
    assert said.count("left out") == 1  # a column's name; no row is
    assert "model: tiny:llava" in said and "sft: 300 steps" in said


def test_its_recipe_takes_its_first_steps_and_its_card_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    odd_names(tmp_path)
    _, _, _ = drafted("study.csv")
    monkeypatch.setattr("medrft.pipeline.evaluating.QUICK", 2)  # fewer than the test set has
    changes = {
        "eval.base": "quick",
        "stages.sft.trl.max_steps": 1,
        "stages.grpo.trl.max_steps": 1,
        "stages.grpo.validation_limit": 2,
    }
    small = load_recipe(
        Path("recipes/study.yaml"), overrides={**changes, "stages.grpo.trl.per_device_train_batch_size": 8}
    )
    run = run_recipe(small, output=tmp_path / "run")
    drawn = read_record(run.evaluation("base", "study") / "metrics.json")
    assert drawn["examples"] == 2 < drawn["drawn_of"]
    said = (run.path / "report.html").read_text(), *verdict_lines(run.path)
    assert any(f"2 of {drawn['drawn_of']} questions, drawn" in text for text in said)
    rows = list(read_jsonl(run.evaluation("grpo", "study") / "predictions.jsonl"))
    assert {row["kind"] for row in rows[1:]} == {"closed", "open"}
    monkeypatch.chdir(run.final("grpo"))
    write_image(Path("scan.png"), 3, size=(40, 40))
    code = Path("README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(compile(code, "README.md", "exec"), {})  # the model card's own lines, as somebody would paste them
    assert capsys.readouterr().out.count("\n") >= 1


def test_missing_images_are_told_and_the_rest_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _ = odd_names(tmp_path)
    for i in range(3):
        (tmp_path / f"scan_{i}.png").unlink()
    _, _, said = drafted(path.name)
    assert "missing image" in said and "scan_0.png" in said


@pytest.mark.parametrize("name", ["vqa_rad", "slake"])
def test_a_release_is_known_by_its_files(name, request, tmp_path, monkeypatch):
    root = request.getfixturevalue(f"{name}_root")
    monkeypatch.chdir(tmp_path)
    file = {"vqa_rad": "VQA_RAD Dataset Public.json", "slake": "train.json"}[name]
    for number, source in enumerate((root, root / file, f"{name}:{root}")):
        recipe, _, _ = drafted(source, tmp_path / str(number))
        assert (recipe.data.name, recipe.data.root) == (name, str(root))


def test_nothing_is_overwritten_and_nothing_is_asked_without_a_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd_names(tmp_path)
    drafted("study.csv")
    assert isinstance(medrft("init", "study.csv").exception, RecipeError)
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    error = medrft("init", "odd.csv").exception
    assert isinstance(error, DataError) and "its columns are a, b" in str(error)


def take_terminal():
    """So that Ctrl-C acts, also where the tests were started in the background, which ignores it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def at_a_terminal(folder, *words, answers):
    """`medrft init` at a real terminal: what it asks is answered in turn; returns its status and all that was seen."""
    ours, theirs = pty.openpty()
    seen, left, patience, last = "", list(answers), 15, ""
    command = [sys.executable, "-m", "medrft", "init", *words]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    own = {"start_new_session": True, "preexec_fn": take_terminal}
    with subprocess.Popen(command, cwd=folder, **streams, **own) as asked:
        os.close(theirs)
        while True:
            if not select.select([ours], [], [], 20)[0]:
                patience -= 1
                if (
                    last == "\x03" and patience
                ):  # a Ctrl-C that comes just before Python begins to read is seen after it has read
                    os.write(ours, last.encode())
                elif not patience:
                    asked.kill()
                    pytest.fail(f"it waits for an answer that no question was expected for:\n{seen}")
                continue
            try:
                seen += os.read(ours, 4096).decode(errors="replace")
            except OSError:  # the program has ended, and its terminal with it
                break
            if left and left[0][0] in seen.rpartition("\0")[2]:
                seen += "\0"  # what follows answers another question
                last = left.pop(0)[1]
                os.write(ours, last.encode())
    os.close(ours)
    return asked.returncode, seen.replace("\0", "").replace("\r", ""), left


ASKED = ("Which column holds the answer?", "Split by image, 20% of the images for testing?")


@pytest.mark.parametrize(
    ("answers", "status", "says", "split"),
    [
        ([(ASKED[0], "befnd\n"), (ASKED[0], " BEFUND\n"), (ASKED[1], "\n")], 0, "did you mean 'Befund'", 0.2),
        ([(ASKED[0], "Befund\n"), (ASKED[1], "n\n")], 0, "--set data.by_image=0.2 # it needs test rows", None),
        ([(ASKED[0], "\x04")], 130, "medrft: stopped", None),  # Ctrl-D
        ([(ASKED[0], "Befund\n"), (ASKED[1], "\x03")], 130, "medrft: stopped", None),  # Ctrl-C
    ],
    ids=["asked again", "no split", "ctrl-d", "ctrl-c"],
)
def test_at_a_terminal_it_asks_what_it_cannot_see(tmp_path, answers, status, says, split):
    table = [("Bild", "Frage", "Befund", "Station"), *((*row, "3B") for row in questions(tmp_path))]
    (tmp_path / "studie.csv").write_text(lines(*table))
    ended, seen, left = at_a_terminal(tmp_path, "studie.csv", answers=answers)
    assert (ended, left) == (status, []), seen
    assert says in " ".join(seen.split()), seen
    recipe = tmp_path / "recipes" / "studie.yaml"
    assert recipe.is_file() == (status == 0), seen
    if status == 0:
        data = load_recipe(recipe).data
        assert data.by_image == split and data.options["columns"]["answer"] == "Befund"


def test_what_the_user_sets_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd_names(tmp_path)
    recipe, _, _ = drafted("study.csv", "--set", "columns.answer=Age", "--set", "by_image=0.4")
    assert recipe.data.options["columns"]["answer"] == "Age" and recipe.data.by_image == 0.4


@pytest.mark.slow  # each model is planned for each size
def test_with_a_gpu_a_model_is_chosen_by_its_plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd_names(tmp_path)
    chosen = {}
    for size in ("16GB", "80GB"):
        recipe, _, said = drafted("study.csv", size, "--gpu", size)
        chosen[size] = recipe.model.id
        assert recipe.model.lora and "fits" in said and recipe.eval.base == "quick"
    assert chosen["80GB"].endswith("8B-Instruct") and chosen["16GB"] != chosen["80GB"]


def test_the_template_is_what_init_writes_for_a_table(tmp_path):
    own = load_recipe(FOLDER / "my_data.yaml")
    kinds = ("closed", "choice", "open")
    draft = Draft(
        name="my_data",
        data=own.data.model_dump(include={"name"}),
        opening="",
        kinds=kinds,
        thinks=False,
        tokens=32,
        tests=0,
    )
    made = parse_draft(draft)
    assert (own.stages, own.reward, own.model, own.eval) == (made.stages, made.reward, made.model, made.eval)
