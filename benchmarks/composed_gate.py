"""Is there something for RL to find? A policy on composed questions (`phantom_composed`), greedy and in eight samples.

    python benchmarks/composed_gate.py runs/composed/stages/sft/final [--seed 0] [--images 400] [--json FILE]

Of what it prints RL needs: greedy answers hardly better than a guess; thoughts that look in some samples, and answers
that are mostly right after them; facts seen as well in a thought as when asked for alone; and so answers that are right
in some of eight samples (pass@8), more often than the majority of the eight. Judged by the phantom's oracle; the
pictures are the test sets of the seed, which no training sees. Intervals are over pictures.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from medrft.config import DataConfig, ModelConfig
from medrft.data import read_data
from medrft.data.phantom import grade_answer, looks
from medrft.data.phantom.sides import both_sides
from medrft.data.phantom.world import Finding, Scene
from medrft.evaluation.engines import open_pictures
from medrft.intervals import mean_interval
from medrft.models.generate import Generation, generate
from medrft.models.load import load_policy
from medrft.models.prompts import get_prompt
from medrft.text import extract, normalize

SAMPLES = 8


def seen(example):
    """What a thought that looks has to begin with."""
    facts = example.metadata["facts"]
    findings = tuple(Finding(**finding) for finding in facts["findings"])
    return both_sides(Scene(modality=facts["modality"], findings=findings))


class Said:
    """One completion: its answer and verdict, whether its thought looks, and whether what it saw is so."""

    def __init__(self, example, completion, form):
        self.id = example.id
        found = extract(completion.text, form)
        self.answer = found.answer
        self.right = grade_answer(example, found.answer).correct
        thought = found.thinking or ""
        self.looks = bool(looks(example, thought))
        self.shortcut = "sually" in thought
        self.sees = self.looks and thought.startswith(seen(example))


def ask(policy, examples, prompt, *, samples, images):
    wanted = Generation(max_new_tokens=80, temperature=1.0 if samples > 1 else 0.0, samples=samples, batch_size=256)
    made = generate(policy, get_prompt(prompt), examples, wanted, images=images)
    form = get_prompt(prompt).form
    return [[Said(example, one, form) for one in row] for example, row in zip(examples, made, strict=True)]


def majority(row):
    """The verdict on the answer that most samples give; the first of them on a tie."""
    counts = Counter(normalize(one.answer) for one in row if one.answer)
    if not counts:
        return False
    chosen = counts.most_common(1)[0][0]
    return next(one.right for one in row if one.answer and normalize(one.answer) == chosen)


def figures(policy, examples, images):
    inside = [example for example in examples if example.dataset == "phantom_composed"]
    outside = [example for example in examples if example.dataset == "phantom_composed_ood"]
    single = [example for example in examples if example.dataset == "phantom_sides"]
    greedy = [row[0] for row in ask(policy, inside, "think", samples=1, images=images)]
    rows = ask(policy, inside, "think", samples=SAMPLES, images=images)
    every = [one for row in rows for one in row]
    looking = [one for one in every if one.looks]
    shortcut = [one for one in every if one.shortcut]
    outer = [row[0] for row in ask(policy, outside, "think", samples=1, images=images)]
    short = [row[0] for row in ask(policy, single, "short", samples=1, images=images)]
    think = [row[0] for row in ask(policy, single, "think", samples=1, images=images)]
    found = {
        "greedy": [(one.right, one.id) for one in greedy],
        "greedy looks": [(one.looks, one.id) for one in greedy],
        "sampled": [(one.right, one.id) for one in every],
        "majority of 8": [(majority(row), row[0].id) for row in rows],
        "pass@8": [(any(one.right for one in row), row[0].id) for row in rows],
        "samples that look": [(one.looks, one.id) for one in every],
        "samples with a shortcut": [(one.shortcut, one.id) for one in every],
        "truth given a looking thought": [(one.right, one.id) for one in looking],
        "looking thoughts that see both sides right": [(one.sees, one.id) for one in looking],
        "truth given looking and seeing right": [(one.right, one.id) for one in looking if one.sees],
        "truth given a shortcut": [(one.right, one.id) for one in shortcut],
        "greedy out of domain": [(one.right, one.id) for one in outer],
        "one side, short prompt": [(one.right, one.id) for one in short],
        "one side, think prompt": [(one.right, one.id) for one in think],
    }
    types = {example.id: example.metadata["question_type"] for example in inside}
    for name in sorted(set(types.values())):
        found[f"greedy {name}"] = [(one.right, one.id) for one in greedy if types[one.id] == name]
        found[f"looking {name}"] = [(one.right, one.id) for one in looking if types[one.id] == name]
    return {name: summary(rows) for name, rows in found.items() if rows}


def summary(rows):
    values, pictures = zip(*rows, strict=True)
    return mean_interval([float(value) for value in values], clusters=pictures).as_json()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="the folder of a saved model, or phantom-base")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    policy = load_policy(ModelConfig(id=options.model, dtype="float32", device="cpu"), options.model)
    wanted = {"thoughts": 0, "answers": 0, "validation_images": 0, "test_images": options.images}
    with TemporaryDirectory() as folder:
        rows = read_data("phantom_composed", folder, seed=options.seed, options=wanted).examples
        found = figures(policy, rows, open_pictures(DataConfig(name="phantom_composed")))
    for name, row in found.items():
        print(f"{name:45} {row['mean']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]  n {row['n']:,}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
