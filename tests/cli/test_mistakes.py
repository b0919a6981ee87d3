"""What people type wrong, each as one line before anything slow: the table is mistakes.yaml."""

import copy
import shlex
import socket
import sys
from pathlib import Path

import pytest
import yaml
from made_run import make_run

from conftest import write_image
from medrft.cli.main import main

CASES = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text(encoding="utf-8"))
GOOD = {
    "name": "good",
    "model": {"id": "tiny:llava", "dtype": "float32"},
    "data": {"name": "table", "root": "rows.csv", "image_root": "img", "by_image": 0.3},
    "prompt": "direct",
    "reward": {
        "closed": {"parts": [{"scorer": "yes_no_match", "weight": 1}]},
        "open": {"parts": [{"scorer": "bleu1", "weight": 1}]},
    },
    "stages": [
        {"name": "sft", "kind": "sft", "trl": {"max_steps": 1}},
        {"name": "grpo", "kind": "grpo", "trl": {"max_steps": 1, "per_device_train_batch_size": 8}},
    ],
}
FILES = {
    "rows.csv": "image,question,answer\n"
    + "".join(f"{i}.png,Is it {i}?,{'yes' if i % 2 else 'left'}\n" for i in range(6)),
    "answers.jsonl": '{"question": "Side?", "answer": "left", "prediction": "the left"}\n',
    "odd.jsonl": '{"id": 1, "q": "Side?", "said": "left"}\n',
    "odd.csv": "c1,c2\nx,y\n",
    "empty.csv": "",
    "empty.jsonl": "",
    "null.jsonl": '{"question": "Side?", "answer": "left", "prediction": null}\n',
    "rowless.csv": "image,question,answer\n",
    "log.eval": "PK",
    "broken.json": '[{"image": "a.png", ',
    "sheet.xlsx": "PK",
    "folder/notes.md": "nothing\n",
    "reward.yaml": "combine: sum\n",
    "taken/rows.yaml": "name: mine\n",
    "headless.csv": "0.png,Is it 0?,yes\n1.png,Is it 1?,no\n",
    "study.yaml": "recipe: good.yaml\narms: {one: {}}\n",
    "parts.yaml": "parts:\n- {scorer: bleu1, weight: 1}\n",
    "wrong.py": "import os\n\ndef load(:\n",
    "needs.py": "import os\nimport nosuchmodule\n",
    "fine.py": "def score(items):\n    return [1.0 for _ in items]\n",
}
LATIN = {
    "latin.yaml": "name: méd\n",
    "latin.csv": "image,question,answer\n0.png,Side?,Pleuraerguß\n",
    "latin.jsonl": '{"question": "Side?", "reference": "Ödem", "prediction": "left"}\n',
}
"""Files that another program wrote in Latin-1."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a good recipe, its data, a run, and the files that go wrong."""
    folder = tmp_path_factory.mktemp("mistakes")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name, text in LATIN.items():
        (folder / name).write_bytes(text.encode("latin-1"))
    for number in range(6):
        write_image(folder / "img" / f"{number}.png", 30 * number)
    (folder / "good.yaml").write_text(yaml.safe_dump(GOOD))
    (folder / "half").mkdir()
    (folder / "half" / "recipe.yaml").write_text(yaml.safe_dump(GOOD))
    make_run(folder / "run")
    return folder


def changed(table, changes):
    """The recipe with dotted keys set, on the table itself, so that mistakes of any kind can be made."""
    for key, value in changes.items():
        *above, last = key.split(".")
        here = table
        for part in above:
            here = here[int(part)] if part.isdigit() else here.setdefault(part, {})
        if last.isdigit():
            here[int(last)] = value
        else:
            here[last] = value
    return table


def named(case):
    return case.get("type") or f"{case.get('set', case.get('text'))}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_mistake_is_one_line_before_anything_slow(case, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    typed = case.get("type", "medrft run changed.yaml")
    if "type" not in case:
        text = case["text"] if "text" in case else yaml.safe_dump(changed(copy.deepcopy(GOOD), case["set"]))
        (place / "changed.yaml").write_text(text)
    monkeypatch.setattr("medrft.progress.WORTH", 60)  # a slow machine tells how long reading took
    if not case.get("reads"):
        watch(monkeypatch, "medrft.data", "pixel_limit")  # which `read_data` calls once names and options are known
    watch(monkeypatch, "medrft.models.load", "load_policy")
    before = set(place.rglob("*"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = shlex.split(typed.replace("TAKEN", str(taken.getsockname()[1])))
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # `main` masks both, and they are put back after this test
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        with pytest.raises(SystemExit) as ended:
            main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, ""), err
    assert err.count("\n") == 1 and err.startswith("medrft: ") and len(err) < 900, err
    assert case["says"] in err
    assert {path for path in set(place.rglob("*")) - before if path.name != "changed.yaml" and path.is_file()} == set()


def watch(monkeypatch, module, name):
    """Fail if the real function is begun: the mistake had to be told before."""
    import importlib

    def began(*args, **kwargs):
        raise AssertionError(f"{name} was begun")

    monkeypatch.setattr(importlib.import_module(module), name, began)


def test_there_are_sixty_and_more_and_the_good_ones_are_good(place, monkeypatch):
    from medrft.recipes import load_recipe

    monkeypatch.chdir(place)
    assert len(CASES) >= 60 and load_recipe(Path("good.yaml")).name == "good"
