"""How well `medrft data leaks` tells copies of an image from images that only look like it, and how fast.

    python benchmarks/leaks.py --vqa-rad DIR --slake DIR [--every N] [--json]

Recall: every N-th image of both releases, changed in each of the ways below, is looked for among all images; it counts
where the original is named as a copy. False positives: all pairs of different images within a release whose pixels
differ, however alike; the pairs called copies are listed, since a release may hold true ones. Time: VQA-RAD against
SLAKE from files to result, and the processor time of it, which other work does not stretch.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from medrft.data import read_data
from medrft.data.overlap.fingerprints import Fingerprint, fingerprint_of
from medrft.data.overlap.leaks import find_leaks
from medrft.data.overlap.neighbours import find_neighbours
from medrft.types import Example

Change = Callable[[Image.Image, random.Random], Image.Image]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image once through JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, by: float) -> Image.Image:
    """The image resized."""
    return image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, rng: random.Random, most: float) -> Image.Image:
    """The image with up to `most` cut off each edge."""
    left, right, top, bottom = (rng.uniform(0, most) for _ in range(4))
    width, height = image.size
    return image.crop((int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height)))


def centred(image: Image.Image) -> Image.Image:
    """The image with 5 % cut off each edge."""
    width, height = image.size
    return image.crop((round(0.05 * width), round(0.05 * height), round(0.95 * width), round(0.95 * height)))


CHANGES: dict[str, Change] = {
    "JPEG quality 90": lambda image, rng: jpeg(image, 90),
    "JPEG quality 30": lambda image, rng: jpeg(image, 30),
    "scale 0.4": lambda image, rng: scaled(image, 0.4),
    "scale 0.7": lambda image, rng: scaled(image, 0.7),
    "scale 1.5": lambda image, rng: scaled(image, 1.5),
    "crop, up to 5 % of each edge": lambda image, rng: cropped(image, rng, 0.05),
    "crop, 5 % of all edges": lambda image, rng: centred(image),
    "crop, scale 0.4 to 1.5, JPEG 30 to 95": lambda image, rng: jpeg(
        scaled(cropped(image, rng, 0.05), rng.uniform(0.4, 1.5)), rng.randint(30, 95)
    ),
    "crop of 5 %, scale 0.4, JPEG 30": lambda image, rng: jpeg(scaled(centred(image), 0.4), 30),
}


def images_of(name: str, root: Path) -> tuple[list[Path], tuple[Example, ...]]:
    """The images of a release, and its rows."""
    examples = read_data(name, root).examples
    return sorted({path for example in examples for path in example.images}), examples


def fingerprint_after(path: Path, change: Change, rng: random.Random, folder: Path) -> Fingerprint:
    """The fingerprint of a changed image, through a file as a user would have it."""
    with Image.open(path) as image:
        changed = change(image.convert("RGB"), rng)
    changed.save(folder / "changed.png", compress_level=1)
    return fingerprint_of(folder / "changed.png")


def recall(releases: dict[str, list[Path]], prints: list[Fingerprint], every: int) -> dict[str, Any]:
    """Per change and release: how many copies were found, and how many other images were called copies of one."""
    found: dict[str, Any] = {}
    paths = [path for release in releases.values() for path in release]
    names = [name for name, release in releases.items() for _ in release]
    asked = range(0, len(paths), every)
    with tempfile.TemporaryDirectory() as folder:
        for name, change in CHANGES.items():
            rng = random.Random(0)
            changed = [fingerprint_after(paths[i], change, rng, Path(folder)) for i in asked]
            pairs = find_neighbours(prints, changed)
            copies = {(pair.a, pair.b) for pair in pairs if pair.label == "copy"}
            right = {(i, place) for place, i in enumerate(asked)}
            likeness = {pair.a: pair.likeness for pair in pairs if (pair.a, pair.b) in right}
            missed = {str(paths[i]): likeness.get(i) for i, _ in right - copies}
            found[name] = {
                **{
                    release: {
                        "n": sum(names[i] == release for i in asked),
                        "found": sum(names[i] == release for i, _ in copies & right),
                        "others": sum(names[asked[place]] == release for _, place in copies - right),
                    }
                    for release in releases
                },
                "least_likeness": min(likeness.values(), default=None),
                "missed": dict(sorted(missed.items())),
            }
    return found


def false_positives(paths: list[Path], prints: list[Fingerprint]) -> dict[str, Any]:
    """Pairs of different images called copies or similar, each image against all others of its release."""
    found = find_neighbours(prints, prints)
    pairs = [pair for pair in found if pair.a < pair.b and prints[pair.a].pixels != prints[pair.b].pixels]
    copies = [pair for pair in pairs if pair.label == "copy"]
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    return {
        "images": len(prints),
        "pairs": len(prints) * (len(prints) - 1) // 2,
        "copies": len(copies),
        "similar": len(pairs) - len(copies),
        "list": [[names[pair.a], names[pair.b], pair.likeness] for pair in copies],
    }


def measure(vqa_rad: Path, slake: Path, every: int) -> dict[str, Any]:
    """All figures."""
    rad, rad_rows = images_of("vqa_rad", vqa_rad)
    sla, sla_rows = images_of("slake", slake)
    clock, processor = time.perf_counter(), time.process_time()
    leak = find_leaks({"vqa_rad": rad_rows, "slake": sla_rows})["pairs"]["vqa_rad|slake"]
    seconds, processor = time.perf_counter() - clock, time.process_time() - processor
    prints = [fingerprint_of(path) for path in [*rad, *sla]]
    return {
        "vqa_rad_against_slake": {key: value for key, value in leak.items() if isinstance(value, int)},
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "recall": recall({"vqa_rad": rad, "slake": sla}, prints, every),
        "within": {
            "vqa_rad": false_positives(rad, prints[: len(rad)]),
            "slake": false_positives(sla, prints[len(rad) :]),
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vqa-rad", type=Path, required=True)
    parser.add_argument("--slake", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4, help="change every N-th image")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.vqa_rad, arguments.slake, arguments.every)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print(f"VQA-RAD against SLAKE: {found['seconds']} s, {found['processor_seconds']} s of processor time")
    for name, row in found["recall"].items():
        for release in ("vqa_rad", "slake"):
            one = row[release]
            print(f"{name:40} {release:8} {one['found']:4} of {one['n']:4} found, {one['others']} others called copies")
    for name, row in found["within"].items():
        print(f"{name}: {row['copies']} of {row['pairs']:,} pairs called copies, {row['similar']} similar")
        print(*row["list"], sep="\n")


if __name__ == "__main__":
    main()
