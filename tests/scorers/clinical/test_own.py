"""A user's own lexicon file: what it changes, and what each careless one is told, on the command line as in Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.config import ClinicalConfig
from medrft.errors import DataError
from medrft.scorers import build_scorer
from medrft.scorers.clinical.own import check_form, clinical_facts, own_lexicon
from medrft.scorers.clinical.tables import FOLDER
from medrft.types import Item

OURS = "findings:\n  flumox: {is_a: lesion, names: [grumbly flumes, fmx]}\n"
PAIR = ("--scorer", "clinical", "--reference", "flumox", "--answer", "fmx")


def scored(lexicon=()):
    item = Item(references=("flumox",), kind="open", answer="grumbly flumes")
    return build_scorer("clinical", clinical=ClinicalConfig(lexicon=lexicon))([item])[0]


def test_own_words_count(tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text(OURS)
    assert scored((str(path),)) == 1.0 > 0.9 > scored()
    assert list(clinical_facts(ClinicalConfig(lexicon=str(path)))["lexicon"]) == ["ours.yaml"]


def test_the_command_line_takes_several_files(tmp_path):
    (tmp_path / "a.yaml").write_text(OURS)
    (tmp_path / "b.yaml").write_text("definitions: {flumox of retina: [glorp]}")
    files = [text for name in ("a.yaml", "b.yaml") for text in ("--lexicon", str(tmp_path / name))]
    done = CliRunner().invoke(
        app, ["score", *PAIR[:2], *files, "--reference", "glorp", "--answer", "fmx of the retina"]
    )
    assert done.exit_code == 0 and '"clinical": 1.0' in done.stdout


CARELESS = [
    ("findings: {foo: {name: [a]}}", "findings.foo: unknown key 'name'; did you mean 'names'?"),
    ("findings: {foo: bar}", "findings.foo must be a table of names, any_of"),
    ("findings: {foo: {names: bar}}", "findings.foo.names must be a list of texts, got 'bar'"),
    ("findings: {foo: {names: [[a]]}}", "findings.foo.names must be a list of texts, got [['a']]"),
    ("findings: {foo: }", "findings.foo must be a table"),
    ("findings: [a, b]", "findings must be a table, got ['a', 'b']"),
    ("finding: {}", "there is no section 'finding'; sections: anatomy"),
    ("[a]", "the file must be a table of terms"),
    ("findings: {foo: {", "while parsing"),
    ("findings: {foo: {is_a: nonsense}}", "foo: its parent 'nonsense' is not defined"),
    ("findings: {foo: {names: [a, a]}}", "finding.foo: 'a' stands twice"),
    ("findings: {foo: {}, foo: {}}", "foo stands twice; join the entries"),
    ("findings: {mass: {names: [effusion]}}", "'effusion' already stands for"),
    ("findings: {mass: {is_a: cyst}}", "'cyst' does not fit what stands there already: 'lesion'"),
    ("definitions: {glorp of heart: [xyz]}", "'glorp of heart' has a word the lexicon does not know"),
    ("definitions: {enlarged heart: mass}", "definitions.enlarged heart must be a list of texts, got 'mass'"),
    ("sites: {lung: [nothing]}", "sites: lung or nothing is not defined"),
    ("ambiguous: {xx: heart}", "ambiguous.xx must be a list of senses, got 'heart'"),
    ("ambiguous: {xx: [{si: heart}]}", "ambiguous.xx: unknown key 'si'; did you mean 'is'?"),
    ("ambiguous: {xx: {word: xx}}", "ambiguous.xx: it has no senses"),
    ("attributes: {sides: {}}", "there is no facet 'sides'; did you mean 'side'?"),
    ("attributes: {side: {new: {order: [a, b]}}}", "attributes.side.new: it has no values"),
    ("attributes: {side: {new: {values: {a: b}}}}", "attributes.side.new.values.a must be a list of texts, got 'b'"),
    ("grammar: {negations: [nope]}", "grammar: unknown key 'negations'"),
    ("morphology: {roots: [a]}", "morphology.roots must be a table, got ['a']"),
]


@pytest.mark.parametrize(("text", "told"), CARELESS)
def test_careless_files(text, told, tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        own_lexicon((path,))
    assert told in str(caught.value) and "ours.yaml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "command", [("score", *PAIR), ("score", "--reward", "text", *PAIR[2:]), ("audit", "--reward", "armed_clinical")]
)
def test_a_missing_file_ends_every_command_in_one_line(command, tmp_path):
    done = CliRunner().invoke(app, [*command, "--lexicon", str(tmp_path / "none.yaml")])
    assert isinstance(done.exception, DataError) and "no lexicon at" in str(done.exception)


def test_ours_have_the_form_that_is_asked_of_a_user(tmp_path):
    sections = "\n".join(
        f"{path.stem}:\n" + "".join(f"  {line}\n" for line in path.read_text(encoding="utf-8").splitlines())
        for path in sorted(FOLDER.glob("*.yaml"))
    )
    whole = tmp_path / "whole.yaml"
    whole.write_text(sections, encoding="utf-8")
    for path in [whole, *sorted((FOLDER / "packs").glob("*.yaml"))]:
        assert check_form(Path(path)) == []


def test_the_example_of_the_docs_is_read(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "clinical.md").read_text(encoding="utf-8")
    example = next(block for block in page.split("```") if block.startswith("yaml\nfindings:"))
    (tmp_path / "ours.yaml").write_text(example.removeprefix("yaml\n"))
    own = ClinicalConfig(lexicon=str(tmp_path / "ours.yaml"))
    pairs = [("grumbly spot in the whiffle", "fmx of the whiffle"), ("big pump", "cardiomegaly"), ("flumox", "fmx")]
    items = [Item(references=(reference,), kind="open", answer=answer) for reference, answer in pairs]
    assert build_scorer("clinical", clinical=own)(items) == [1.0] * 3
    against = Item(references=("grumbly flumox",), kind="open", answer="whiffly flumox")
    assert build_scorer("clinical", clinical=own)([against])[0] < 0.3
