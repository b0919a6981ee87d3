import io
import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medrft.data import phantom, read_data
from medrft.data.overlap.fingerprints import fingerprint_of, picture_likeness
from medrft.data.overlap.leaks import find_leaks, leak_note
from medrft.data.overlap.neighbours import find_neighbours
from medrft.data.splits import exclude_test_images
from medrft.types import Example

CHANGES = {
    "jpeg 30": lambda image: jpeg(image, 30),
    "scale 0.4": lambda image: scaled(image, 0.4),
    "scale 1.5": lambda image: scaled(image, 1.5),
    "crop 5 %": lambda image: cropped(image, (0.05, 0.05, 0.05, 0.05)),
    "crop two edges": lambda image: cropped(image, (0.05, 0, 0, 0.04)),
    "all at once": lambda image: jpeg(scaled(cropped(image, (0.03, 0, 0.02, 0.05)), 0.6), 40),
}


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image, by):
    return image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.BICUBIC)


def cropped(image, edges):
    left, right, top, bottom = edges
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


def row(name, image, question="Is there a mass?", answer="yes", split="train"):
    return Example(
        id=f"toy/{split}/{name}",
        dataset="toy",
        split=split,
        images=(image,) if isinstance(image, Path) else image,
        question=question,
        references=(answer,),
        kind="open",
    )


def leak_of(a, b):
    return find_leaks({"a": a, "b": b})["pairs"]["a|b"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Drawn images, each once."""
    folder = tmp_path_factory.mktemp("phantom")
    loaded = phantom.load_phantom(seed=3, images=24, validation_images=1, test_images=1, questions=1, cache=folder)
    return sorted({path for example in loaded.split("train") for path in example.images})


@pytest.mark.parametrize("change", CHANGES)
def test_copies_of_drawn_images_are_found(drawn, tmp_path, change):
    copies = []
    for number, path in enumerate(drawn):
        copies.append(tmp_path / f"{number}.png")
        CHANGES[change](Image.open(path).convert("RGB")).save(copies[-1])
    leak = leak_of([row(n, path) for n, path in enumerate(drawn)], [row(n, path) for n, path in enumerate(copies)])
    found = {(pair["a"], pair["b"]) for pair in leak["neighbours"] if pair["label"] == "copy"}
    assert found == {(str(a), str(b)) for a, b in zip(drawn, copies, strict=True)}
    assert (leak["shared_images"], leak["copies"], leak["shared_items"]) == (0, len(drawn), len(drawn))


def test_different_drawn_images_are_no_copies(drawn):
    half = len(drawn) // 2
    leak = leak_of(
        [row(n, path) for n, path in enumerate(drawn[:half])], [row(n, p) for n, p in enumerate(drawn[half:])]
    )
    assert leak["copies"] == leak["shared_images"] == 0


@pytest.mark.parametrize("release", ["vqa_rad", "slake"])
def test_copies_of_real_images_are_found(shared_data, tmp_path, release):
    root = shared_data / {"vqa_rad": "vqa_rad", "slake": "slake/Slake1.0"}[release]
    paths = sorted({path for example in read_data(release, root).split("test") for path in example.images})
    drawn = random.Random(0).sample(paths, 12)
    rows, wanted = [], set()
    for (number, path), change in itertools.product(enumerate(drawn), CHANGES):
        copy = tmp_path / f"{number} {change.replace('%', '')}.png"
        CHANGES[change](Image.open(path).convert("RGB")).save(copy)
        rows.append(row(copy.stem, copy))
        wanted.add((str(path), str(copy)))
    leak = leak_of([row(n, path) for n, path in enumerate(drawn)], rows)
    assert {(p["a"], p["b"]) for p in leak["neighbours"] if p["label"] == "copy"} == wanted


def test_vqa_rad_shares_nearly_all_test_images(shared_data):
    loaded = read_data("vqa_rad", shared_data / "vqa_rad")
    leak = leak_of(loaded.split("train"), loaded.split("test"))
    assert (leak["shared_images"], leak["total_images_b"], leak["copies"]) == (202, 203, 0)
    clean = exclude_test_images(loaded)
    assert leak_of(clean.split("train"), clean.split("test"))["shared_images"] == 0


@pytest.fixture
def picture(tmp_path):
    """`picture(name, seed)` writes a picture that no other seed gives; the ending decides the format."""

    def write(name, seed):
        rough = np.random.default_rng(seed).integers(0, 255, (24, 30), dtype=np.uint8)
        Image.fromarray(rough).resize((300, 240), Image.Resampling.BICUBIC).save(tmp_path / name)
        return tmp_path / name

    return write


def test_pixels_count_and_not_files(picture):
    leak = leak_of([row(0, picture("a.png", 1))], [row(0, picture("b.bmp", 1)), row(1, picture("c.png", 2))])
    assert (leak["shared_images"], leak["total_images_b"], leak["copies"], leak["similar"]) == (1, 2, 0, 0)


@pytest.mark.parametrize(
    ("question", "answer", "label"),
    [
        ("Is there a mass?", "yes", "shared"),
        ("is there the mass", "Yes.", "shared"),  # as every comparison sees it
        ("Is there a mass?", "no", "similar"),  # same question, other answer
        ("Is there a visible mass?", "yes", "similar"),
        ("Which organ is this?", "yes", None),
    ],
)
def test_questions_on_the_same_image(picture, question, answer, label):
    image = picture("a.png", 1)
    leak = leak_of([row(0, image)], [row(0, image, question, answer)])
    assert [item["label"] for item in leak["items"]] == ([label] if label else [])
    assert leak["shared_items"] == (label == "shared")
    assert leak["similar_questions"] == (label == "similar")


def test_the_same_question_on_another_image_is_no_leak(picture):
    assert leak_of([row(0, picture("a.png", 1))], [row(0, picture("b.png", 2))])["items"] == []


def test_one_of_several_images_is_enough(picture):
    a, b = picture("a.png", 1), picture("b.png", 2)
    leak = leak_of([row(0, (a, b))], [row(0, (b,))])
    assert (leak["shared_images"], leak["shared_items"]) == (1, 1)


def test_flat_pictures_are_shared_but_never_copies(tmp_path):
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    for path, shade in ((a, 50), (b, 50), (c, 90)):
        Image.new("L", (40, 30), shade).save(path)
    leak = leak_of([row(0, a)], [row(0, b), row(1, c)])
    assert (leak["shared_images"], leak["copies"], leak["similar"]) == (1, 0, 0)


def test_all_pairs_with_progress(picture):
    told = []
    sets = {name: [row(name, picture(f"{name}.png", seed))] for seed, name in enumerate("abc")}
    found = find_leaks(sets, on_progress=lambda *now: told.append(now))
    assert list(found["pairs"]) == ["a|b", "a|c", "b|c"]
    assert found["sets"] == {name: {"items": 1, "images": 1} for name in "abc"}
    assert ("reading images", 3, 3) in told
    assert ("b | c", 1, 1) in told


def test_a_note_says_zero_too(picture):
    leak = leak_of([row(0, picture("a.png", 1))], [row(0, picture("b.png", 2))])
    assert leak_note("train|test", leak) == (
        "0 of 1 image of test are in train with the same pixels, 0 as copies; "
        "0 of its 1 question are there too with the same answer, 0 nearly so"
    )
    more = {**leak, "shared_images": 1}
    assert leak_note("train|test", more).startswith("1 of 1 image of test")


def test_likeness_does_not_mind_brightness_or_batches(picture):
    prints = [fingerprint_of(picture(f"{seed}.png", seed)) for seed in range(3)]
    cells = np.stack([one.cells for one in prints])
    darker = (cells * 0.6 + 20).astype(np.uint8)
    assert picture_likeness(cells, darker).min() > 0.99
    assert np.allclose(
        picture_likeness(cells, darker), [picture_likeness(cells[i : i + 1], darker[i : i + 1])[0] for i in range(3)]
    )
    assert picture_likeness(cells, np.roll(cells, 1, axis=0)).max() < 0.7
    assert find_neighbours([], prints) == find_neighbours(prints, []) == []


def test_negatives_are_no_copies(picture):
    one = fingerprint_of(picture("a.png", 1))
    assert not find_neighbours([one], [replace(one, pixels="other", cells=255 - one.cells)])
