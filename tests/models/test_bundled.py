"""`phantom-base`, the model that comes with medrft, by the doors that users use."""

import shutil

import pytest

from medrft.config import ModelConfig
from medrft.data import read_data
from medrft.data.phantom import grade_answer
from medrft.errors import ModelError
from medrft.evaluation.engines import open_pictures
from medrft.models import bundled
from medrft.models.bundled import FOLDERS, find_bundled, is_bundled
from medrft.models.generate import Generation, generate
from medrft.models.load import check_start, load_policy, resolve_base
from medrft.models.prompts import get_prompt
from medrft.models.shapes import model_shape
from medrft.recipes import parse_recipe

BASE = "phantom-base"
HELD_OUT = 4001
"""A seed of data that the base was not trained on."""


def test_it_is_small_and_whole():
    folder = FOLDERS[BASE]
    assert find_bundled(BASE) == str(folder)
    assert find_bundled("org/model") == "org/model" and not is_bundled("./phantom-base")
    assert (folder / "model.safetensors").stat().st_size <= 8e6
    assert "Apache-2.0" in (folder / "README.md").read_text(encoding="utf-8")
    assert str(folder.parent.parent) not in "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.json"))


def test_it_sees_pictures_it_was_not_trained_on(tmp_path):
    options = {"images": 0, "validation_images": 0, "test_images": 30, "size": 64}
    rows = read_data("phantom", tmp_path, seed=HELD_OUT, options=options).examples
    examples = [example for example in rows if example.dataset == "phantom"]
    config = ModelConfig(id=BASE, device="cpu")
    check_start(config)
    policy = load_policy(config, resolve_base(config, texts=(), output=tmp_path / "base", seed=0))
    assert policy.id == BASE and not (tmp_path / "base").exists()
    pictures = open_pictures(parse_recipe({"name": "a", "model": {"id": BASE}, "data": {"name": "phantom"}}).data)
    said = generate(policy, get_prompt("short"), examples, Generation(max_new_tokens=24), images=pictures)
    right = [grade_answer(e, completion.text).correct for e, (completion,) in zip(examples, said, strict=True)]
    assert sum(right) / len(right) > 0.8


def test_its_shape_is_known_for_plans():
    shape = model_shape(ModelConfig(id=BASE))
    assert shape.source == "folder" and shape.config.model_type == "llava"


def test_revisions_and_changed_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no revisions"):
        check_start(ModelConfig(id=BASE, revision="main"))
    copy = tmp_path / "copy"
    shutil.copytree(FOLDERS[BASE], copy)
    monkeypatch.setitem(bundled.FOLDERS, BASE, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(ModelError, match="install medrft again"):
        load_policy(ModelConfig(id=BASE), BASE)
    (copy / "config.json").unlink()
    with pytest.raises(ModelError, match="missing from this installation"):
        check_start(ModelConfig(id=BASE))
