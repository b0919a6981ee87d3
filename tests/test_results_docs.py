"""Pages and pictures of results say what the committed result files say, and show every study that ships."""

import importlib.util
import re
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "results_docs.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("results_docs", SCRIPT)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_pages_and_pictures_agree_with_the_result_files(module):
    made = module.files()
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python benchmarks/results_docs.py"
    drawn = {path for path in (module.DOCS / "images").glob("*.svg") if not path.name.startswith("method_")}
    assert drawn | set((module.DOCS / "tables").iterdir()) <= made.keys()  # none is left of an earlier study


def test_every_shipped_study_is_shown(module):
    shipped = {path.stem for path in (module.ROOT / "recipes" / "studies").glob("*.yaml")}
    assert set(module.STUDIES) == shipped
    pages = {name: (module.DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("results", "history")}
    assert {found[2] for found in module.MARKED.finditer(pages["results"])} == {*module.SHOWN, "claims"}
    assert all(f"`{name}`" in pages["results"] for name in (*module.CLAIMS, *module.PLANNED))
    assert set(module.EARLIER) <= set(re.findall(r"^## (\w+)$", pages["history"], re.MULTILINE))
    assert len(pages["results"].splitlines()) <= 150 and len(pages["history"].splitlines()) <= 90


def test_the_picture_of_pairs_has_every_row_of_readme(module):
    shown = module.pictures()["pairs.svg"]
    assert shown.count("<circle") == 12 and "0.97 [0.95, 0.99]" in shown and "armed_clinical (ours)" in shown


def test_a_study_without_results_says_so(module, monkeypatch):
    facts = {**module.facts_of("composed_rewards"), "seeds": [], "tables": []}
    monkeypatch.setattr(module, "facts_of", lambda name: facts)
    monkeypatch.setattr(module, "pictures", dict)
    assert module.shown("composed_rewards") == "**No result yet:** no arm of this study has been run."
