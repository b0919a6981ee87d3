"""Random strings through everything that reads answers: no exception, and time that grows as the text does.

    python benchmarks/reader_faults.py [--strings 1e6] [--seed 0] [--processes 2] [--work FOLDER] [--json]

Each string is drawn from pieces that answers, thoughts, options and hostile texts are made of, and goes through every
reader; one in fifty goes through the slow ones. Strings are drawn in chunks, each by its own seed and written down in
FOLDER as it ends, so the same command goes on after a kill, and two processes find what one finds.

Growth: each reader on one piece repeated to n and to 4n characters, the quickest of a few readings. Linear work takes
4 times as long, quadratic 16 times; more than 8 is steep. `fuzz`, `run_chunks` and `growths` are functions for other
scripts and for the tests.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from medrft.curation.thoughts import CONCLUSION, leaked_words
from medrft.evaluation.controls.negation import negate_question
from medrft.rundir import append_jsonl, read_growing, write_json
from medrft.scorers.base import is_readable
from medrft.scorers.clinical.reader import read_fresh
from medrft.scorers.clinical.relations import sign_disagreement
from medrft.scorers.clinical.score import compare_answers
from medrft.scorers.judge import parse_verdict
from medrft.scorers.lexical import list_members
from medrft.text import (
    answer_of,
    chosen,
    extract,
    infer_kind,
    is_placeholder,
    normalize,
    part_thought,
    sentences,
    yes_no_said,
)

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
    "members": list_members,
    "negate": negate_question,
    "leaks": leaked_words,
    "conclusion": CONCLUSION.findall,
    "verdict": lambda text: parse_verdict(text, "equivalence"),
    "disagreement": lambda text: sign_disagreement(text, "left > right, HER2+, p = 0.05"),
    "clinical read": read_fresh,
    "clinical compare": lambda text: compare_answers(
        "1.5 L of fluid on the left > right, HER2+", text, "Is there fluid?"
    ),
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
    *(
        "→",
        "->",
        "<->",
        "↔",
        "↗",
        "▲",
        "°",
        "¬",
        "Gram",
        "ER",
        "PD-L1",
        "抗体",
        "cocci",
        "cancer",
        "contrast",
        "from",
        "to",
        "increased",
        "or more",
        "under",
    ),
)


REPEATED = (
    *(
        "yes ",
        "no ",
        "not ",
        "A",
        "A, ",
        "B. ",
        "(C) ",
        "a ",
        "1",
        "1 ",
        "15,",
        "1½ ",
        "½",
        "5,2 cm ",
        "10⁶",
        "- ",
        "-",
    ),
    *("<", "< ", "5 > ", "≠", "↑", "HER2+ ", "left, right ", "larger than ", "than ", "resolved ", "impossible "),
    *(
        "1 → ",
        "->",
        "<->",
        "1:",
        "increased from ",
        "from to ",
        "Gram - ",
        "ER + a ",
        "CT - a",
        "5° ",
        "5 or ",
        "5 mm or more ",
    ),
    *(
        "answer is ",
        "\\boxed{",
        "\\text{a",
        "}",
        "<think>",
        "</think>",
        "[/THINK]",
        "<answer>",
        "◁think▷",
        "是",
        "不是 ",
    ),
    *(" ", "\n", "\t ", "\u0301a", "'s ", "n't ", "?", "Is there ", "and ", "option A "),
)
"""What growth is measured on."""
SIZES = {**dict.fromkeys(("chosen", "disagreement"), 500), "negate": 250, "yes_no": 1_000} | dict.fromkeys(SLOW, 4_000)
"""Characters that growth is measured from, where a reader looks at the beginning of a text only."""
STEEP = 8
CHUNK = 10_000
RESULT = Path(__file__).parent / "results" / "reader_faults.json"


def random_text(rng: random.Random, pieces: int = 24) -> str:
    """A text of up to so many pieces, with or without spaces between; one in ten holds any characters."""
    if rng.random() < 0.1:
        return "".join(chr(rng.randrange(1, 0x110000)) for _ in range(rng.randrange(40)))
    return rng.choice(("", " ", " ")).join(rng.choice(PIECES) for _ in range(rng.randrange(pieces + 1)))


def fuzz(strings: int, *, seed: int | str = 0, every: int = 50, pieces: int = 24) -> dict[str, Any]:
    """Counts of a run over random strings: `{strings, seed, reads, faults: [{reader, text, error}]}`."""
    rng = random.Random(seed)
    faults, reads = [], 0
    for number in range(strings):
        text = random_text(rng, pieces)
        for name, reader in READERS.items():
            if name in SLOW and number % every:
                continue
            reads += 1
            try:
                reader(text)
            except Exception as error:  # noqa: BLE001  the point is to find any
                faults.append({"reader": name, "text": text, "error": repr(error)})
    return {"strings": strings, "seed": seed, "reads": reads, "faults": faults}


def run_chunks(strings: int, work: Path, *, seed: int = 0, processes: int = 1) -> dict[str, Any]:
    """`fuzz` over many strings in chunks, each written down in `work` as it ends and not run again.

    Returns `{strings, seed, reads, seconds, faults}`; `seconds` are of one process's time, summed over the chunks.
    """
    kept = work / f"chunks_{seed}.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    wanted = {place: min(CHUNK, strings - place) for place in range(0, strings, CHUNK)}
    done = {row["place"]: row for row in read_growing(kept) if wanted.get(row["place"]) == row["strings"]}
    with ProcessPoolExecutor(processes) as pool:
        left = [pool.submit(_chunk, place, size, seed) for place, size in wanted.items() if place not in done]
        for ended in as_completed(left):
            row = ended.result()
            append_jsonl(kept, [row])
            done[row["place"]] = row
            sys.stderr.write(f"\rrandom strings: {sum(row['strings'] for row in done.values()):,} of {strings:,}   ")
    sys.stderr.write("\n")
    rows = [done[place] for place in sorted(done)]
    totals = {name: sum(row[name] for row in rows) for name in ("strings", "reads", "seconds")}
    return {**totals, "seconds": round(totals["seconds"], 1), "seed": seed} | {
        "faults": [fault for row in rows for fault in row["faults"]]
    }


def _chunk(place: int, strings: int, seed: int) -> dict[str, Any]:
    start = time.process_time()
    return {"place": place, **fuzz(strings, seed=f"{seed}/{place}"), "seconds": time.process_time() - start}


def growths(pieces: tuple[str, ...] = REPEATED, *, floor: float = 0.004) -> list[dict[str, Any]]:
    """How each reader's time grows from n to 4n characters of one piece repeated, n by `SIZES`.

    Only what takes longer than `floor` seconds at 4n is listed, as `{reader, piece, seconds, growth}`: below that it
    is too quick to matter. A growth that looks steep is measured again, and the quickest readings count.
    """
    found = []
    for name, reader in READERS.items():
        size = SIZES.get(name, 8_000)
        for piece in pieces:
            long, short = _seconds(reader, piece, 4 * size), 0.0
            if long <= floor:
                continue
            short = _seconds(reader, piece, size)
            for _ in range(4 * (long > STEEP / 2 * short)):
                short, long = min(short, _seconds(reader, piece, size)), min(long, _seconds(reader, piece, 4 * size))
            found.append({"reader": name, "piece": piece, "seconds": long, "growth": long / max(short, 1e-6)})
    return found


def _seconds(reader: Callable[[str], object], piece: str, size: int) -> float:
    """Processor time of a reading; what readers remember of a text is made useless by its first characters."""
    text = f"{random.random()} {piece * (size // len(piece))}"
    start = time.process_time()
    reader(text)
    return time.process_time() - start


def facts_of(strings: int, work: Path, *, seed: int, processes: int) -> dict[str, Any]:
    """What the random strings and the growth measurement have shown, as it is written to the results."""
    found = run_chunks(strings, work, seed=seed, processes=processes)
    growth = growths()
    return {
        **found,
        "readers": len(READERS),
        "growths": len(growth),
        "highest_growth": round(max(row["growth"] for row in growth), 1),
        "steep": [row for row in growth if row["growth"] > STEEP],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=float, default=1e6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/reader_faults"), help="folder of the chunks")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    facts = facts_of(int(given.strings), given.work, seed=given.seed, processes=given.processes)
    write_json(given.output, facts)
    if given.json:
        print(json.dumps(facts, indent=2))
    else:
        print(f"{facts['reads']:,} readings of {facts['strings']:,} strings: {len(facts['faults'])} faults")
        for fault in facts["faults"][:10]:
            print(f"  {fault['reader']}: {fault['error']} on {fault['text']!r}")
        print(f"growth over {STEEP} on 4 times the text: {len(facts['steep'])} of {facts['growths']} measured")
        for row in facts["steep"]:
            print(f"  {row['reader']} on {row['piece']!r}: {row['growth']:.1f} times, {row['seconds']:.2f} s")
    return int(bool(facts["faults"] or facts["steep"]))


if __name__ == "__main__":
    raise SystemExit(main())
