"""`medrft init` as a user types it."""

from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.errors import RecipeError
from medrft.shipped import shipped_files


def medrft(*words):
    return CliRunner().invoke(app, words, catch_exceptions=True)


def test_the_list_has_every_name_and_what_it_needs():
    shown = medrft("init", "--list").stdout
    assert all(name in shown for name in shipped_files())
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert rows["quickstart"].rstrip().endswith("nothing") and "slake at data.root" in rows["slake"]
    assert "deepspeed" in rows["accelerate/deepspeed_zero3"]


def test_a_copy_goes_where_the_commands_in_it_look(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert medrft("init", "armed_4gpu").stdout.split() == ["recipes/armed_4gpu.yaml", "recipes/accelerate/fsdp2.yaml"]
    assert medrft("init", "quickstart", "mine").stdout == "mine/quickstart.yaml\n"
    assert (tmp_path / "mine" / "quickstart.yaml").is_file()


def test_without_a_name_it_says_how():
    error = medrft("init").exception
    assert isinstance(error, RecipeError) and "medrft init --list" in str(error)
