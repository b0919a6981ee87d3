import inspect
import json

import numpy as np
import pytest
from PIL import Image

from medrft.data.phantom import grade_answer, load_phantom
from medrft.data.phantom.load import drawing_fingerprint, scene_of
from medrft.errors import DataError

SMALL = {"images": 60, "validation_images": 15, "test_images": 25, "size": 48, "questions": 4}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_phantom(tmp_path_factory.mktemp("phantom"), seed=3, teacher_errors=0.3, **SMALL)


def test_splits_data_sets_and_report(loaded):
    counts = {(e.dataset, e.split): 0 for e in loaded.examples}
    for row in loaded.examples:
        counts[row.dataset, row.split] += 1
    assert counts == {
        ("phantom", "train"): 240,
        ("phantom", "validation"): 60,
        ("phantom", "test"): 100,
        ("phantom_ood", "test"): 100,
    }
    assert loaded.report.read == loaded.report.kept == {"train": 240, "validation": 60, "test": 200}
    assert len({row.id for row in loaded.examples}) == 500
    assert loaded.examples[0].id == "phantom/train/0"


def test_every_reference_is_correct_and_facts_are_json(loaded):
    for row in loaded.examples:
        assert len(row.references) == 1
        assert grade_answer(row, row.references[0]) == (True, True)
        assert json.loads(json.dumps(dict(row.metadata))) == row.metadata
        assert {"modality", "organ", "plane", "question_type", "facts", "teacher_error"} <= row.metadata.keys()


def test_same_seed_same_data_and_another_seed_another(loaded, tmp_path):
    again = load_phantom(tmp_path, seed=3, teacher_errors=0.3, **SMALL)
    for a, b in zip(loaded.examples, again.examples, strict=True):
        assert (a.id, a.question, a.references, a.rationale, a.metadata) == (
            *(b.id, b.question, b.references),
            *(b.rationale, b.metadata),
        )
        assert a.images[0].read_bytes() == b.images[0].read_bytes()
    other = load_phantom(tmp_path, seed=4, **SMALL)
    assert {row.images[0].read_bytes() for row in other.examples}.isdisjoint(
        row.images[0].read_bytes() for row in again.examples
    )


def test_no_picture_is_in_two_splits(loaded):
    split_of: dict[bytes, str] = {}
    for row in loaded.examples:
        place = f"{row.dataset} {row.split}"
        assert split_of.setdefault(row.images[0].read_bytes(), place) == place
    assert len(split_of) == 60 + 15 + 25 + 25


def test_pictures_do_not_depend_on_how_many_are_drawn(tmp_path):
    few = load_phantom(tmp_path / "a", images=3, validation_images=0, test_images=1, size=32, questions=1)
    many = load_phantom(tmp_path / "b", images=6, validation_images=2, test_images=1, size=32, questions=5)
    first = {row.images[0].name: row.images[0].read_bytes() for row in few.examples if row.split == "train"}
    for row in many.examples:
        if row.split == "train" and row.images[0].name in first:
            assert row.images[0].read_bytes() == first[row.images[0].name]


def test_pictures_are_kept_and_half_a_cache_is_completed(tmp_path):
    options = {"images": 4, "validation_images": 1, "test_images": 1, "size": 32}
    counts: list[tuple[int, int]] = []
    examples = load_phantom(tmp_path, on_progress=lambda done, total: counts.append((done, total)), **options).examples
    assert counts[-1] == (7, 7)
    paths = sorted({row.images[0] for row in examples})
    before = {path: path.stat().st_mtime_ns for path in paths}
    whole = paths[0].read_bytes()
    paths[0].unlink()
    load_phantom(tmp_path, **options)
    assert paths[0].read_bytes() == whole
    assert {path: path.stat().st_mtime_ns for path in paths[1:]} == {path: before[path] for path in paths[1:]}
    assert not list(tmp_path.rglob("*.part"))


def test_the_cache_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (row, *_) = load_phantom(images=1, validation_images=0, test_images=0, size=32).examples
    assert row.images[0].is_relative_to(tmp_path / "medrft" / "phantom" / drawing_fingerprint(seed=0, size=32))
    assert Image.open(row.images[0]).size == (32, 32)


def test_teacher_errors_are_in_train_at_their_rate_and_leave_the_answer_alone(tmp_path, loaded):
    marked = {row.split: [] for row in loaded.examples}
    for row in loaded.examples:
        marked[row.split].append(row.metadata["teacher_error"] is not None)
    assert np.mean(marked["train"]) == pytest.approx(0.3, abs=0.1)
    assert not any(marked["validation"]) and not any(marked["test"])
    right = load_phantom(tmp_path, seed=3, **SMALL)
    for taught, plain in zip(loaded.examples, right.examples, strict=True):
        assert (taught.question, taught.references) == (plain.question, plain.references)
        assert (taught.rationale != plain.rationale) <= (taught.metadata["teacher_error"] is not None)


def test_out_of_domain_is_another_style_with_held_out_pairs(loaded):
    outside = [row for row in loaded.examples if row.dataset == "phantom_ood"]
    inside = [row for row in loaded.examples if row.dataset == "phantom"]
    assert any(row.metadata["held_out_pair"] for row in outside)
    assert not any(row.metadata["held_out_pair"] for row in inside)
    assert all(scene_of(3, "ood", n).shifted and not scene_of(3, "test", n).shifted for n in range(25))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": -1}, "images is -1"),
        ({"questions": 0}, "questions is 0"),
        ({"size": 8}, "size is 8 pixels; give 32 to 1024"),
        ({"teacher_errors": 1.5}, "teacher_errors is 1.5"),
    ],
)
def test_values_out_of_range_are_named(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        load_phantom(tmp_path, **options)


def test_options_are_keyword_only():
    parameters = inspect.signature(load_phantom).parameters
    assert [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY] == ["root"]
