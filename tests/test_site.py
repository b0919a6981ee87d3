"""The pages of Start, Concepts and Guides and README: every block is run, read, or says why not; and they are plain."""

import importlib.util
import os
import re
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest
import yaml

from doc_blocks import MARKS, blocks_of, follow, is_quick
from medrft import config, reward_config
from medrft.recipes import load_recipe
from medrft.scorers.clinical import explain
from medrft.studies.plan import load_study

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
MARKED = [README, DOCS / "reference" / "api.md"] + [
    path for folder in ("start", "concepts", "guides") for path in sorted((DOCS / folder).glob("*.md"))
]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_at(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", MARKED, ids=named)
def test_every_block_says_what_becomes_of_it(page):
    for block in blocks_of(page):
        assert MARKS.fullmatch(block.mark) or (page == README and block.language == "bibtex"), block.text


@pytest.mark.parametrize("page", MARKED, ids=named)
def test_recipes_and_studies_of_the_pages_are_read(page, tmp_path):
    blocks = blocks_of(page)
    for block in blocks:
        if block.mark == "recipe" or (block.mark.startswith("file: ") and block.mark.endswith(".yaml")):
            (tmp_path / "shown.yaml").write_text(block.text)
            assert load_recipe(tmp_path / "shown.yaml").name
        elif block.mark == "study":
            (tmp_path / "study.yaml").write_text(block.text)
            mine = next(b.text for b in blocks_of(DOCS / "start" / "your_data.md") if b.mark == "file: mine.yaml")
            (tmp_path / "mine.yaml").write_text(mine)
            assert len(load_study(tmp_path / "study.yaml").arms) > 1


@pytest.mark.parametrize("page", [page for page in MARKED if is_quick(page)], ids=named)
def test_quick_pages_run_word_by_word(page, tmp_path):
    scripts = str(Path(sys.executable).parent)
    environment = {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    assert list(follow(page, tmp_path, environment=environment))


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= 900


def test_the_table_of_contents_has_every_page():
    text = (DOCS / "index.md").read_text(encoding="utf-8") + (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    listed = {name for part in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL) for name in part.split()}
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    kept = {name for name in pages if not name.startswith("reference/generated/")}
    assert kept - {"index"} <= listed
    made = {name.removesuffix(".md") for name in module_at(DOCS / "generate.py").generated_pages() if name[0] != "_"}
    assert {name.split("generated/")[1] for name in listed if "generated/" in name} == made


def test_the_page_of_keys_has_every_key_with_a_meaning():
    generate = module_at(DOCS / "generate.py")
    places = {**vars(config), **vars(reward_config)}.values()
    shapes = {one for one in places if isinstance(one, type) and issubclass(one, reward_config.Shape)}
    assert {shape for _, shape in generate.TABLES} == shapes - {reward_config.Shape}
    for _, shape in generate.TABLES:
        rows = generate.key_rows(shape)
        assert len(rows) == len(shape.model_fields)
        assert all(kind and meaning.endswith(".") for _, kind, _, meaning in rows), shape


@pytest.mark.parametrize(
    ("key", "kind", "default"),
    [
        ("validation", "number (> 0, < 1)", "`0.1`"),
        ("exclude_test_images", "true or false or copies", "`false`"),
        ("root", "text", "none"),
        ("name", "text", "required"),
    ],
)
def test_types_and_defaults_are_in_words(key, kind, default):
    rows = {row[0]: row for row in module_at(DOCS / "generate.py").key_rows(config.DataConfig)}
    assert rows[f"`{key}`"][1:3] == (kind, default)


def test_the_page_of_commands_has_every_option():
    generate = module_at(DOCS / "generate.py")
    page = generate.command_page()
    for name, command in generate.commands():
        part = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        assert not {option for option in options - {"--help"} if option not in part}, name


def test_the_picture_of_the_method_does_its_sums():
    draw = module_at(DOCS / "draw_method.py")
    scores = [explain("left pleural effusion", answer).score for answer, *_ in draw.ANSWERS]
    for (_, pays, advantage, _), score in zip(draw.ANSWERS, scores, strict=True):
        assert float(pays) == round(score, 2)
        assert float(advantage.replace("−", "-")) == round((score - mean(scores)) / (stdev(scores) + 1e-4), 2)
    for palette in draw.PALETTES:
        assert (DOCS / "images" / f"method_{palette}.svg").read_text(encoding="utf-8") == draw.picture(palette)


def test_what_readme_cites_is_what_is_installed():
    text = README.read_text(encoding="utf-8")
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f"version = {{{about['version']}}}" in text and about["title"] in text


@pytest.mark.parametrize(
    ("link", "depth", "expected"),
    [
        ("[a](../CONTRIBUTING.md#style)", 0, "[a](reference/generated/contributing.md#style)"),
        ("[a](../../SECURITY.md)", 1, "[a](../reference/generated/security.md)"),
        ("[a](../recipes/zhu.yaml)", 0, "[a](../recipes/zhu.yaml)"),
    ],
)
def test_links_to_the_roots_pages_lead_to_those_of_the_site(link, depth, expected):
    assert module_at(DOCS / "generate.py").link_to_root_pages(link, depth) == expected


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="#here">x</a><h1 id="here">x</h1><a href="https://example.org">x</a>', None),
        ('<a href="gone.html">x</a>', "index.html leads to gone.html, which is not there"),
        ('<a href="#gone">x</a>', "index.html leads to #gone, which has no such heading"),
        ('<script src="https://example.org/x.js"></script>', "index.html loads https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "index.html loads //example.org/x.css"),
        ('<img src="gone.png">', "index.html leads to gone.png, which is not there"),
    ],
)
def test_a_site_with_a_broken_link_or_a_foreign_script_is_refused(tmp_path, html, fault):
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    assert module_at(DOCS / "check_site.py").faults_of(tmp_path) == ([fault] if fault else [])
