"""Random strings through everything that reads answers: no exception, and time that grows as the text does.

    python benchmarks/reader_faults.py --strings 1000000 --seed 0 [--json]

Each string is drawn from pieces that answers, thoughts, options and hostile texts are made of, and goes through every
reader. Growth: each reader on one piece repeated to n and to 2n characters; linear work takes 2 times as long,
quadratic 4 times. `fuzz` and `growths` are functions for other scripts and for the tests.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from medrft.evaluation.negation import negate
from medrft.evaluation.rescore.outputs import answer_of
from medrft.pipeline.thoughts import leaks
from medrft.scorers.base import is_readable
from medrft.scorers.clinical.reader import read_fresh
from medrft.scorers.clinical.relations import disagreement
from medrft.scorers.clinical.score import compare
from medrft.scorers.judge import verdict
from medrft.scorers.lexical import members
from medrft.text import chosen, extract, infer_kind, is_placeholder, normalize, part_thought, sentences, yes_no_said

OPTIONS = ("A fracture of the femur", "Figure C", "B", "HER2+", "not CT", "肺", "1,5 cm", "Yes")

READERS: Mapping[str, Callable[[str], object]] = {
    "normalize": normalize,
    "extract think": lambda text: extract(text, "think"),
    "extract direct": lambda text: extract(text, "direct"),
    "extract short": lambda text: extract(text, "short"),
    "part_thought": part_thought,
    "answer_of": answer_of,
    "yes_no": yes_no_said,
    "chosen": lambda text: chosen(text, OPTIONS),
    "is_readable": lambda text: is_readable(text, reference="yes", options=OPTIONS),
    "infer_kind": lambda text: infer_kind([text]),
    "is_placeholder": is_placeholder,
    "sentences": sentences,
    "members": members,
    "negate": negate,
    "leaks": leaks,
    "verdict": lambda text: verdict(text, "equivalence"),
    "disagreement": lambda text: disagreement(text, "left > right, HER2+, p = 0.05"),
    "clinical read": read_fresh,
    "clinical compare": lambda text: compare("1.5 L of fluid on the left > right, HER2+", text, "Is there fluid?"),
}
"""Name -> what reads a text."""
SLOW = ("clinical read", "clinical compare")
"""Readers that take milliseconds a text: one string in `every` goes through them."""

PIECES = (
    *(
        "yes",
        "no",
        "not",
        "A",
        "B.",
        "(C)",
        "a",
        "the",
        "option",
        "answer",
        "is",
        "correct",
        "because",
        "or",
        "and",
        "than",
    ),
    *(
        "left",
        "right",
        "lung",
        "fracture",
        "effusion",
        "larger",
        "CT",
        "C+",
        "HER2+",
        "HER2-",
        "T1",
        "T2*",
        "Hepatitis",
    ),
    *(
        "1",
        "0",
        "15",
        "1½",
        "5,2",
        "1,500",
        "10⁶",
        "⁻",
        "½",
        "µm",
        "cm",
        "mL",
        "L",
        "HU",
        "%",
        "-",
        "−",
        "–",
        "+",
        "±",
        "^",
    ),
    *(
        "<",
        ">",
        "=",
        "≠",
        "≤",
        "≥",
        "!=",
        "+/-",
        "↑",
        "↓",
        "*",
        "**",
        "_",
        "#",
        "`",
        "$",
        "\\",
        "\\boxed{",
        "}",
        "{",
        "\\text{",
    ),
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "[THINK]",
        "[/THINK]",
        "◁think▷",
        "◁/think▷",
        "<unused94>",
        "<unused95>",
    ),
    *(
        "<|channel>thought",
        "<channel|>",
        "<|channel|>final<|message|>",
        "<|begin_of_box|>",
        "<|end_of_box|>",
        "</s>",
        "<b>",
    ),
    *(
        "是",
        "否",
        "有",
        "没有",
        "，",
        "。",
        "；",
        "：",
        "！",
        "？",
        "（",
        "）",
        "答案",
        "选",
        "α",
        "β",
        "Ω",
        "é",
        "е",
        "ß",
        "İ",
    ),
    *(
        ".",
        ",",
        ";",
        ":",
        "?",
        "!",
        "/",
        "'",
        '"',
        "n't",
        "\n",
        "\r",
        "\t",
        " ",
        "\x00",
        "\x1b[2J",
        "\ud800",
        "\ufeff",
        "\u200b",
    ),
    *(
        "\u0301",
        "\u0338",
        "\ue000",
        "🫁",
        "𝐁",
        "Ⓑ",
        "٣",
        "²",
        "ﬁ",
        "Is there",
        "Are the",
        "Does it show",
        "twenty",
        "first",
    ),
)


def random_text(rng: random.Random) -> str:
    """A text of up to 24 pieces, with or without spaces between; one in ten holds any characters."""
    if rng.random() < 0.1:
        return "".join(chr(rng.randrange(1, 0x110000)) for _ in range(rng.randrange(40)))
    return rng.choice(("", " ", " ")).join(rng.choice(PIECES) for _ in range(rng.randrange(25)))


def fuzz(strings: int, *, seed: int = 0, every: int = 50, tell: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Counts of a run over random strings: `{strings, seed, reads, faults: [{reader, text, error}]}`."""
    rng = random.Random(seed)
    faults, reads = [], 0
    for number in range(strings):
        text = random_text(rng)
        for name, reader in READERS.items():
            if name in SLOW and number % every:
                continue
            reads += 1
            try:
                reader(text)
            except Exception as error:  # noqa: BLE001  the point is to find any
                faults.append({"reader": name, "text": text, "error": repr(error)})
        if tell is not None and number % 10_000 == 9_999:
            tell(number + 1)
    return {"strings": strings, "seed": seed, "reads": reads, "faults": faults}


def growths(size: int = 20_000, *, pieces: tuple[str, ...] = PIECES, floor: float = 0.02) -> list[dict[str, Any]]:
    """How each reader's time grows from `size` to twice as many characters of one piece repeated.

    Only what takes longer than `floor` seconds at the larger size is listed, as `{reader, piece, seconds, growth}`:
    below that it is linear or too quick to matter.
    """
    found = []
    for name, reader in READERS.items():
        for piece in pieces:
            long = _seconds(reader, piece, 2 * size)
            if long > floor:
                short = min(_seconds(reader, piece, size) for _ in range(3))
                long = min(long, *(_seconds(reader, piece, 2 * size) for _ in range(2)))
                found.append({"reader": name, "piece": piece, "seconds": long, "growth": long / max(short, 1e-6)})
    return found


def _seconds(reader: Callable[[str], object], piece: str, size: int) -> float:
    text = piece * (size // len(piece))
    start = time.process_time()
    reader(text)
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=float, default=1e6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--size", type=int, default=20_000, help="characters of the shorter text that growth is measured on"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    start = time.monotonic()
    found = fuzz(int(given.strings), seed=given.seed, tell=lambda n: print(f"  {n:,} strings", file=sys.stderr))
    seconds = round(time.monotonic() - start, 1)
    growth = growths(given.size)
    steep = [row for row in growth if row["growth"] > 3]
    if given.json:
        print(json.dumps({**found, "seconds": seconds, "growth": growth, "steep": steep}))
    else:
        print(
            f"{found['reads']:,} readings of {found['strings']:,} strings in {seconds} s: {len(found['faults'])} faults"
        )
        for fault in found["faults"][:10]:
            print(f"  {fault['reader']}: {fault['error']} on {fault['text']!r}")
        print(f"growth over 3 on twice the text: {len(steep)} of {len(growth)} measured")
        for row in steep:
            print(f"  {row['reader']} on {row['piece']!r}: {row['growth']:.1f} times, {row['seconds']:.2f} s")
    return int(bool(found["faults"] or steep))


if __name__ == "__main__":
    raise SystemExit(main())
