"""The recipes that medrft brings along: found by name from any folder, shown, and copied with all that they use."""

from pathlib import Path

import pytest

from medrft.errors import RecipeError, UnknownNameError
from medrft.recipes import load_recipe
from medrft.shipped import FOLDER, copy_shipped, first_words, shipped_files
from medrft.studies.plan import load_study

NAMES = shipped_files()
STUDIES = [name for name in NAMES if name.startswith("studies/")]
RECIPES = [name for name in NAMES if "/" not in name]


def test_every_file_of_the_folder_has_a_name_or_goes_along_with_one(tmp_path):
    for name in NAMES:
        copy_shipped(name, tmp_path)
    there, copied = (
        {path.relative_to(top) for path in top.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        for top in (FOLDER, tmp_path)
    )
    assert there == copied and {"quickstart", "studies/zhu_bias", "accelerate/fsdp2"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is_in_a_line(name):
    assert 10 < len(first_words(NAMES[name])) <= 140


@pytest.mark.parametrize("name", RECIPES)
def test_a_copied_recipe_is_the_shipped_one(name, tmp_path):
    copied, *_ = copy_shipped(name, tmp_path / "mine")
    assert copied == tmp_path / "mine" / f"{name}.yaml" and load_recipe(copied) == load_recipe(NAMES[name])


@pytest.mark.parametrize("name", STUDIES)
def test_a_copied_study_finds_what_it_uses(name, tmp_path):
    study = load_study(copy_shipped(name, tmp_path)[0])
    assert study.arms and study.results.parts[:2] == ("runs", "studies")


@pytest.mark.parametrize(
    ("name", "along"),
    [
        ("quickstart", set()),
        ("armed_4gpu", {"accelerate/fsdp2.yaml"}),  # its command's
        ("studies/zhu_alignment", {"composed.yaml", "controls/claims.yaml", "studies/fact_check.py"}),
    ],
)
def test_what_goes_along(name, along, tmp_path):
    written = {path.relative_to(tmp_path).as_posix() for path in copy_shipped(name, tmp_path)}
    assert written == {f"{name}.yaml", *along}


def test_nothing_is_overwritten(tmp_path):
    copy_shipped("studies/zhu_bias", tmp_path)
    copy_shipped("studies/zhu_length", tmp_path)  # the same recipe is there already
    (tmp_path / "composed.yaml").write_text("name: mine\n")
    with pytest.raises(RecipeError, match=r"composed\.yaml is there"):
        copy_shipped("studies/zhu_init", tmp_path)
    assert not (tmp_path / "studies" / "zhu_init.yaml").exists()
    assert (tmp_path / "composed.yaml").read_text() == "name: mine\n"


def test_a_file_goes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe(Path("quickstart")).name == "quickstart"
    (tmp_path / "quickstart").mkdir()  # a folder of that name is no recipe
    assert load_recipe(Path("quickstart")).name == "quickstart"
    (tmp_path / "slake").write_text("name: own\nmodel: {id: tiny:llava}\ndata: {name: phantom}\n")
    assert load_recipe(Path("slake")).name == "own"


def test_names_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'quickstart'"):
        copy_shipped("quikstart", tmp_path)
    with pytest.raises(RecipeError, match="write a copy with: medrft init quickstart"):
        load_recipe(FOLDER.parent / "nowhere" / "quickstart.yaml")
    with pytest.raises(RecipeError, match="brings along studies/zhu_bias"):
        load_study(FOLDER.parent / "nowhere" / "zhu_bias.yaml")
    with pytest.raises(RecipeError, match="medrft init --list"):
        load_recipe(FOLDER / "nowhere" / "other.yaml")
