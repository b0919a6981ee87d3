"""The shipped lexicon is sound, and the validation finds what a careless edit would break."""

import copy

import pytest

from medrft.errors import DataError
from medrft.scorers.clinical.compile import build_lexicon, load_lexicon
from medrft.scorers.clinical.morphology import read_word
from medrft.scorers.clinical.reader import read_fresh
from medrft.scorers.clinical.tables import FOLDER, read_files

FACETS = [
    "polarity",
    "side",
    "position",
    "quantity",
    "size",
    "severity",
    "density",
    "change",
    "modality",
    "plane",
    "anatomy",
    "category",
    "finding",
]


@pytest.fixture(scope="module")
def files():
    return read_files(FOLDER)


def test_no_problem_in_the_load_lexicon():
    assert load_lexicon().problems == []


def test_facets_have_the_names_used_everywhere():
    used = {atom.facet for entry in load_lexicon().terms.values() for atom in entry.atoms}
    assert used <= set(FACETS)


def test_no_name_stands_for_two_values_of_one_axis():
    for entry in load_lexicon().terms.values():
        axes = [atom.axis for atom in entry.atoms if atom.axis not in ("name", "place", "kind", "level")]
        assert len(axes) == len(set(axes)), entry


@pytest.mark.parametrize(
    ("file", "path", "value", "problem"),
    [
        ("attributes", ("side", "side", "values", "left"), ["right"], "already stands for"),
        ("attributes", ("density", "brightness", "values", "hypo"), ["bright"], "already stands for"),
        ("anatomy", ("spleen", "names"), ["liver"], "already stands for"),
        ("anatomy", ("spleen", "names"), ["splenic", "splenic"], "stands twice"),
        ("findings", ("mass", "is_a"), "nowhere", "is not defined"),
        ("findings", ("mass", "related"), ["nowhere"], "is not defined"),
        ("findings", ("mass", "is_a"), "tumor", "its own ancestor"),
        ("definitions", ("qwertish heart",), ["qwertocardia"], "a word the lexicon does not know"),
        ("attributes", ("severity", "severity", "equals"), {"mild": ["nowhere"]}, "one of them is no value"),
    ],
)
def test_what_a_careless_edit_breaks_is_named(files, file, path, value, problem):
    broken = copy.deepcopy(dict(files))
    *parents, last = path
    table = broken[file]
    for key in parents:
        table = table[key]
    table[last] = value
    assert any(problem in line for line in build_lexicon(broken).problems)


def test_a_key_that_stands_twice_is_an_error(tmp_path):
    for path in FOLDER.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    with (tmp_path / "anatomy.yaml").open("a", encoding="utf-8") as file:
        file.write("\nliver: {part_of: chest}\n")
    with pytest.raises(DataError, match=r"anatomy\.yaml: liver stands twice"):
        read_files(tmp_path)


def test_a_clinician_can_add_a_term(files):
    longer = copy.deepcopy(dict(files))
    longer["anatomy"]["kidney"]["names"].append("nephros")
    longer["definitions"]["edema of kidney"] = ["wet kidney"]
    made = build_lexicon(longer)
    assert made.problems == []
    assert made.terms[("nephro",)] is not None or made.terms[("nephros",)] is not None
    assert {atom.value for atom in made.terms[("wet", "kidney")].atoms} >= {"kidney"}


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("splenomegaly", {"spleen", "enlarged"}),
        ("gastroenteritis", {"inflammation", "stomach", "intestine"}),
        ("perisplenic", {"adjacent", "spleen"}),
        ("posteroinferior", {"posterior", "lower"}),
        ("undisplaced", {"undisplaced"}),
        ("perforating", {"perforation"}),
        ("brian", {"brain"}),  # a slip in SLAKE's own answers
        ("hyperthyroidism", {"hyper"}),
        ("qwertyuiop", None),
        ("x" * 10_000, None),
    ],
)
def test_words_are_read_by_their_form(word, values):
    made = load_lexicon()
    entry = made.terms.get((word,)) or read_word(made, word)
    assert (entry and {atom.value for atom in entry.atoms}) == values


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("RLL", {"lung_lobe"}),
        ("IVC", {"inferior_vena_cava"}),
        ("CXR", {"chest"}),
        ("cerebral", {"brain"}),
        ("thyroid gland", {"thyroid"}),
    ],
)
def test_abbreviations_and_adjectives(text, places):
    assert read_fresh(text).findings[0].places == places
