import random

import pytest

from medrft.scorers import build_scorer
from medrft.scorers.lexical import bleu1, precision, recall, rouge1
from score_items import item

WORDS = [
    "no",
    "evidence",
    "of",
    "left",
    "right",
    "pleural",
    "effusion",
    "mass",
    "in",
    "the",
    "lung",
    "lobe",
    "ct",
    "mri",
    "axial",
    "small",
    "large",
    "2",
    "cm",
]


@pytest.mark.parametrize(
    ("answer", "reference", "bleu", "rouge"),
    [
        ("a b c d", "a b c d", 1.0, 1.0),
        ("a a a a", "a b", 0.25, 1 / 3),  # clipped
        ("a", "a b", 0.36787944117144233, 2 / 3),  # brevity
        ("c", "a b", 0.0, 0.0),
        ("", "a", 0.0, 0.0),
    ],
)
def test_bleu_and_rouge(answer, reference, bleu, rouge):
    assert bleu1(answer.split(), reference.split()) == pytest.approx(bleu)
    assert rouge1(answer.split(), reference.split()) == pytest.approx(rouge)


def test_the_negated_answer_wins():
    """ARMed's Figure 3: words alone rank the negated answer above a right one."""
    reference = ["bleeding", "in", "posteroinferior", "cerebellum"]
    negated, right = ["no", *reference], ["active", "bleeding", "seen", "in", "posterior", "cerebellum"]
    assert bleu1(negated, reference) > bleu1(right, reference)
    assert rouge1(negated, reference) > rouge1(right, reference)


def random_pairs(n, seed=0):
    rng = random.Random(seed)
    for _ in range(n):
        yield rng.choices(WORDS, k=rng.randint(1, 12)), rng.choices(WORDS, k=rng.randint(1, 12))


def test_parity_with_sacrebleu_and_rouge_score():
    """5,000 pairs, the same tokens on both sides, 1e-9."""
    sacrebleu = pytest.importorskip("sacrebleu")
    scoring = pytest.importorskip("rouge_score.rouge_scorer")

    class Split:
        def tokenize(self, text):
            return text.split()

    bleu = sacrebleu.BLEU(max_ngram_order=1, smooth_method="none", tokenize="none", effective_order=True)
    rouge = scoring.RougeScorer(["rouge1"], tokenizer=Split())
    for answer, reference in random_pairs(5_000):
        left, right = " ".join(answer), " ".join(reference)
        assert abs(bleu1(answer, reference) - bleu.sentence_score(left, [right]).score / 100) < 1e-9
        theirs = rouge.score(right, left)["rouge1"]
        assert abs(rouge1(answer, reference) - theirs.fmeasure) < 1e-9
        assert abs(precision(answer, reference) - theirs.precision) < 1e-9
        assert abs(recall(answer, reference) - theirs.recall) < 1e-9


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("spinal cord and lung", "Lung, Spinal Cord", 1.0),
        ("Lung; spinal cord.", "Lung, Spinal Cord", 1.0),
        ("lung", "Lung, Spinal Cord", 0.0),
        ("lung, spinal cord, liver", "Lung, Spinal Cord", 0.0),
        ("肺，肝脏", "肝脏、肺", 1.0),
        ("band", "b, d", 0.0),  # "and" is a word, not letters
    ],
)
def test_set_match(answer, reference, score):
    assert build_scorer("set_match")([item(answer, reference)]) == [score]


def test_best_reference_counts():
    assert build_scorer("recall")([item("ct scan", "computed tomography", "CT")]) == [1.0]
