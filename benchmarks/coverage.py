"""How often a 95 % interval holds the true value, on simulated answers to real numbers of questions per image.

    python benchmarks/coverage.py [--simulations 2000] [--seed 0] [--data DIR] [--json]

The cluster sizes below are those of SLAKE's English test and VQA-RAD's test; `--data DIR` (with DIR/slake and
DIR/vqa_rad) reads them from the releases instead. Answers about one image are drawn beta-binomially, so that p is the
mean and ICC the correlation of two answers about one image. `mean_interval` and `paired_difference` of
`medrft.intervals` are called as they are; beside them stands the percentile bootstrap over images.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrft.intervals import mean_interval, paired_difference

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# questions about an image: number of such images
SIZES: dict[str, dict[int, int]] = {
    "slake": {
        **{5: 2, 6: 2, 7: 7, 8: 16, 9: 15, 10: 10, 11: 5, 12: 6},
        **{13: 1, 14: 5, 15: 22, 16: 2, 17: 1, 18: 1, 20: 1},
    },
    "vqa_rad": {1: 62, 2: 79, 3: 33, 4: 19, 5: 5, 6: 4, 7: 1},
}
ICCS = (0.0, 0.1, 0.3)
RATES = (0.5, 0.8, 0.9, 0.97)
FEW = (20, 40)
RESAMPLES = 1000
BATCH = 100
"""Simulations that share one draw of bootstrap weights."""
SHARED = 0.6
"""Share of questions that are as hard for the one model as for the other."""


def sizes_of(counts: dict[int, int]) -> Ints:
    return np.repeat(list(counts), list(counts.values()))


def sizes_from(folder: Path) -> dict[str, dict[int, int]]:
    from medrft.data import slake, vqa_rad

    found = {}
    for name, loaded in (("slake", slake.load(folder / "slake")), ("vqa_rad", vqa_rad.load(folder / "vqa_rad"))):
        images = Counter(example.images for example in loaded.examples if example.split == "test")
        found[name] = dict(sorted(Counter(images.values()).items()))
    return found


def rates(rng: np.random.Generator, p: float, icc: float, shape: tuple[int, ...]) -> Floats:
    """The share right of each image, beta with mean `p`, such that two answers about an image correlate by `icc`."""
    if icc == 0:
        return np.full(shape, p)
    strength = 1 / icc - 1
    return rng.beta(p * strength, (1 - p) * strength, size=shape)


def bootstrap(rng: np.random.Generator, sums: Floats, sizes: Ints) -> Floats:
    """Percentile intervals over images, `(simulations, 2)`, of sums per image, `(simulations, images)`."""
    ends = []
    for start in range(0, len(sums), BATCH):
        weights = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=RESAMPLES)
        means = weights @ sums[start : start + BATCH].T / (weights @ sizes)[:, None]
        ends.append(np.quantile(means, [0.025, 0.975], axis=0).T)
    return np.concatenate(ends)


def share(low: Floats, high: Floats, true: float) -> float:
    return float(np.mean((low <= true) & (true <= high)))


def report(ends: Floats, other: Floats, true: float, **cell: Any) -> dict[str, Any]:
    """One line of the table; coverages have a standard error of 0.005 at 2,000 simulations."""
    return {
        **cell,
        "coverage": share(ends[:, 0], ends[:, 1], true),
        "missed_below": float(np.mean(ends[:, 1] < true)),
        "missed_above": float(np.mean(ends[:, 0] > true)),
        "width": float(np.mean(ends[:, 1] - ends[:, 0])),
        "bootstrap": share(other[:, 0], other[:, 1], true),
    }


def one_mean(
    rng: np.random.Generator, per_image: Ints, n: int, *, true: float, draw: Callable[[Ints], Floats], **cell: Any
) -> dict[str, Any]:
    """A mean whose values `draw` draws, given each question's image."""
    code = np.repeat(np.arange(len(per_image)), per_image)
    labels = code.tolist()
    values = [draw(code) for _ in range(n)]
    ends = np.array([mean_interval(v.tolist(), clusters=labels)[1:3] for v in values])
    sums = np.array([np.bincount(code, weights=v) for v in values])
    return report(ends, bootstrap(rng, sums, per_image), true, **cell)


def binary(rng: np.random.Generator, per_image: Ints, n: int, p: float, icc: float, **cell: Any) -> dict[str, Any]:
    """Right or wrong."""

    def draw(code: Ints) -> Floats:
        return (rng.random(len(code)) < rates(rng, p, icc, per_image.shape)[code]).astype(float)

    return one_mean(rng, per_image, n, true=p, draw=draw, kind="right or wrong", p=p, icc=icc, **cell)


def graded(rng: np.random.Generator, per_image: Ints, n: int, p: float, icc: float, **cell: Any) -> dict[str, Any]:
    """Like BLEU: 1 with probability p, else as often 0 as beta(2, 3)."""

    def draw(code: Ints) -> Floats:
        right = rng.random(len(code)) < rates(rng, p, icc, per_image.shape)[code]
        partial = np.where(rng.random(len(code)) < 0.5, 0.0, rng.beta(2, 3, size=len(code)))
        return np.where(right, 1.0, partial)

    true = p + (1 - p) * 0.5 * 0.4
    return one_mean(rng, per_image, n, true=true, draw=draw, kind="graded", p=p, icc=icc, **cell)


def paired(rng: np.random.Generator, sizes: Ints, n: int, pair: tuple[float, float], icc: float) -> dict[str, Any]:
    """Two models on the same questions."""
    code = np.repeat(np.arange(len(sizes)), sizes)
    ends, sums = [], []
    for _ in range(n):
        hard = rng.random(len(code))
        other = np.where(rng.random(len(code)) < SHARED, hard, rng.random(len(code)))
        a = (hard < rates(rng, pair[0], icc, sizes.shape)[code]).astype(float)
        b = (other < rates(rng, pair[1], icc, sizes.shape)[code]).astype(float)
        ends.append(paired_difference(a.tolist(), b.tolist(), clusters=code.tolist())[1:3])
        sums.append(np.bincount(code, weights=a - b))
    other_ends = bootstrap(rng, np.array(sums), sizes)
    return report(np.array(ends), other_ends, pair[0] - pair[1], kind="paired difference", p=pair, icc=icc)


def over_seeds(
    rng: np.random.Generator, sizes: Ints, n: int, seeds: int, sd: float, pair: tuple[float, float] = (0.8, 0.75)
) -> dict[str, Any]:
    """Two models, each trained with some seeds, on the same questions; a seed shifts the first by N(0, sd)."""
    code = np.repeat(np.arange(len(sizes)), sizes)
    labels, runs = np.tile(code, seeds), np.repeat(np.arange(seeds), len(code))
    ends, sums = [], []
    for _ in range(n):
        hard = rng.random(len(code))
        found = []
        chance = [0.1 + 0.8 * rates(rng, (p - 0.1) / 0.8, 0.1, sizes.shape)[code] for p in pair]
        for shift in rng.normal(0, sd, size=seeds) if sd else np.zeros(seeds):
            own = [np.where(rng.random(len(code)) < SHARED, hard, rng.random(len(code))) for _ in pair]
            found.append((own[0] < chance[0] + shift).astype(float) - (own[1] < chance[1]))
        differences = np.concatenate(found)
        zeros = [0.0] * len(differences)
        ends.append(paired_difference(differences.tolist(), zeros, clusters=labels.tolist(), runs=runs.tolist())[1:3])
        sums.append([np.bincount(code, weights=one) for one in found])
    other = seeds_first(rng, np.array(sums), sizes)
    cell = {"kind": "paired difference over seeds", "p": pair, "icc": 0.1, "seeds": seeds, "seed_sd": sd}
    return report(np.array(ends), other, pair[0] - pair[1], **cell)


def seeds_first(rng: np.random.Generator, sums_NSG: Floats, sizes: Ints) -> Floats:
    """Percentile intervals of a bootstrap that draws seeds and then images within each."""
    seeds, images = sums_NSG.shape[1:]
    ends = []
    for start in range(0, len(sums_NSG), BATCH):
        drawn = rng.integers(seeds, size=(RESAMPLES, seeds))
        weights = [rng.multinomial(images, np.full(images, 1 / images), size=RESAMPLES) for _ in range(seeds)]
        total = sum(weight @ sizes for weight in weights)
        for sums_SG in sums_NSG[start : start + BATCH]:
            parts = [
                (weight @ sums_SG.T)[np.arange(RESAMPLES), drawn[:, place]] for place, weight in enumerate(weights)
            ]
            ends.append(np.quantile(sum(parts) / total, [0.025, 0.975]))
    return np.array(ends)


def cells(sizes: dict[str, Ints], n: int, seed: int) -> Iterator[dict[str, Any]]:
    """Every cell, each with a generator of its own, so that one more cell changes no other."""

    def own(*key: int) -> np.random.Generator:
        return np.random.default_rng([seed, *key])

    for d, (name, own_sizes) in enumerate(sizes.items()):
        about = {"sizes": name, "images": len(own_sizes)}
        for i, icc in enumerate(ICCS):
            for j, p in enumerate(RATES):
                yield binary(own(0, d, i, j), own_sizes, n, p, icc, **about)
            for j, p in enumerate((0.3, 0.7)):
                yield graded(own(1, d, i, j), own_sizes, n, p, icc, **about)
            for j, pair in enumerate(((0.8, 0.75), (0.9, 0.9))):
                yield paired(own(2, d, i, j), own_sizes, n, pair, icc) | about
        for i, seeds in enumerate((3, 5)):
            for j, sd in enumerate((0.0, 0.02)):
                yield over_seeds(own(3, d, i, j), own_sizes, n, seeds, sd) | about
        for images in FEW:
            few = own(4, d, images).permutation(own_sizes)[:images]
            for i, icc in enumerate(ICCS):
                for j, p in enumerate(RATES):
                    yield binary(own(5, d, images, i, j), few, n, p, icc, sizes=name, images=images)


def required(row: dict[str, Any], sizes: dict[str, Ints]) -> bool:
    """Whether a cell is one of those in which the interval must cover: all images, p up to 0.9."""
    return row["kind"] == "right or wrong" and row["p"] <= 0.9 and row["images"] == len(sizes[row["sizes"]])


def table(result: dict[str, Any]) -> str:
    """Markdown, as docs/evaluation.md has it: in percent, with the percentile bootstrap in brackets."""
    worst = result["required"]
    lines = [
        f"{worst['cells']} required cells (all images, p up to 0.9): {100 * worst['lowest']:.1f} to "
        f"{100 * worst['highest']:.1f} %, bootstrap from {100 * worst['bootstrap_lowest']:.1f} %.",
        "",
    ]
    for kind, title in (
        ("right or wrong", "right or wrong, p ="),
        ("graded", "graded, P(1) ="),
        ("paired difference", "difference of two models, p ="),
    ):
        rows = [row for row in result["cells"] if row["kind"] == kind]
        ps = list(dict.fromkeys(_rate(row) for row in rows))
        lines += [f"| sizes of | images | ICC | {title} {' | '.join(ps)} |", "|---" * (3 + len(ps)) + "|"]
        places = list(dict.fromkeys((row["sizes"], row["images"], row["icc"]) for row in rows))
        for place in sorted(places, key=lambda place: (place[0], -place[1], place[2])):
            own = [row for row in rows if (row["sizes"], row["images"], row["icc"]) == place]
            lines.append(f"| {place[0]} | {place[1]} | {place[2]:g} | {' | '.join(map(_cell, own))} |")
        lines.append("")
    lines += ["| sizes of | training seeds | SD of a seed | difference over seeds and images |", "|---|---|---|---|"]
    for row in result["cells"]:
        if "seeds" in row:
            lines.append(f"| {row['sizes']} | {row['seeds']} | {row['seed_sd']:g} | {_cell(row)} |")
    return "\n".join(lines)


def _rate(row: dict[str, Any]) -> str:
    p = row["p"]
    return f"{p:g}" if isinstance(p, float) else " and ".join(f"{x:g}" for x in p)


def _cell(row: dict[str, Any]) -> str:
    return f"{100 * row['coverage']:.1f} ({100 * row['bootstrap']:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder with slake/ and vqa_rad/, to read the cluster sizes from")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    counts = sizes_from(args.data) if args.data else SIZES
    sizes = {name: sizes_of(own) for name, own in counts.items()}
    rows = list(cells(sizes, args.simulations, args.seed))
    must = [row for row in rows if required(row, sizes)]
    result = {
        "simulations": args.simulations,
        "seed": args.seed,
        "standard_error": round(math.sqrt(0.95 * 0.05 / args.simulations), 4),
        "cluster_sizes": {name: {str(size): images for size, images in own.items()} for name, own in counts.items()},
        "required": {
            "lowest": min(row["coverage"] for row in must),
            "highest": max(row["coverage"] for row in must),
            "bootstrap_lowest": min(row["bootstrap"] for row in must),
            "cells": len(must),
        },
        "cells": rows,
    }
    print(json.dumps(result, indent=1) if args.json else table(json.loads(json.dumps(result))))


if __name__ == "__main__":
    main()
