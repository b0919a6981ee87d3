"""Six kinds of reward that people train medical models with, written here in our own words, to be audited.

    medrft audit --reward examples/rewards_in_the_field.py:exact_match --reward …:contains_reference

None is recommended. Each is called as its trainer calls it: two as TRL, two as verl, one as ms-swift, one as OpenRLHF.
docs/audit.md shows what the audit says of each.
"""

from __future__ import annotations

import os
import re

ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def answer_in(completion: str) -> str:
    """The first answer block; the whole text without one."""
    found = ANSWER.search(completion)
    return (found[1] if found else completion).strip().lower()


def exact_match(completions, solution, **kwargs):
    """TRL: 1 where the answer block is the reference, letter for letter."""
    texts = [messages[-1]["content"] for messages in completions]
    return [float(answer_in(text) == right.strip().lower()) for text, right in zip(texts, solution, strict=True)]


def contains_reference(data_source, solution_str, ground_truth, extra_info=None):
    """verl: 1 where the reference stands anywhere in what the policy wrote."""
    return {"score": float(ground_truth.lower() in solution_str.lower())}


def tags_then_answer(completions, solution, **kwargs):
    """TRL: a quarter for each tag, and one more point for the right answer."""
    scores = []
    for messages, right in zip(completions, solution, strict=True):
        text = messages[-1]["content"]
        tags = sum(0.25 for tag in ("<think>", "</think>", "<answer>", "</answer>") if text.count(tag) == 1)
        scores.append(tags + float(answer_in(text) == right.strip().lower()))
    return scores


def cosine_over_threshold(data_source, solution_str, ground_truth, extra_info=None):
    """verl: 1 where the sentence embedding of the answer is near that of the reference."""
    return float(cosine(answer_in(solution_str), ground_truth) >= 0.8)


class TokenRecall:
    """ms-swift: the share of the reference's words that the answer has."""

    def __init__(self, args=None, **kwargs):
        self.args = args

    def __call__(self, completions, solution=None, **kwargs):
        scores = []
        for text, right in zip(completions, solution, strict=True):
            words, wanted = set(answer_in(text).split()), set(right.lower().split())
            scores.append(len(words & wanted) / len(wanted))
        return scores


def judge_and_embedding(queries, prompts, labels):
    """OpenRLHF: a judge's yes for 0.6, an embedding over its threshold for 0.3, the tags for 0.1.

    The judge is whatever answers at JUDGE_URL (an OpenAI-compatible endpoint, model JUDGE_MODEL). Without one, a rule
    stands in for it that is as lenient as judges were reported to be: it says yes to any answer that mentions a word
    of the reference. That is not a model, and the docs say so beside its figures.
    """
    rewards = []
    for query, prompt, label in zip(queries, prompts, labels, strict=True):
        answer = answer_in(query.removeprefix(prompt))
        near = float(cosine(answer, label) >= 0.8)
        tags = float(len(ANSWER.findall(query)) == 1)
        rewards.append(0.6 * judged(prompt, label, answer) + 0.3 * near + 0.1 * tags)
    return {"rewards": rewards, "scores": rewards, "extra_logs": {}}


def judged(question: str, reference: str, answer: str) -> float:
    """1 for the judge's yes, 0 for its no."""
    if "JUDGE_URL" in os.environ:
        from medrft.scorers import build_scorer
        from medrft.types import Item

        scorer = build_scorer("judge", base_url=os.environ["JUDGE_URL"], model=os.environ.get("JUDGE_MODEL", "judge"))
        item = Item(references=(reference,), kind="open", answer=answer, question=question)
        return scorer([item])[0] or 0.0
    return float(bool(set(answer.split()) & set(reference.lower().split())))


def cosine(answer: str, reference: str) -> float:
    """Cosine of the packaged sentence encoder; `medrft audit` names the encoder only for rewards of its own."""
    from medrft.scorers import build_scorer
    from medrft.types import Item

    return build_scorer("cosine")([Item(references=(reference,), kind="open", answer=answer)])[0] or 0.0
