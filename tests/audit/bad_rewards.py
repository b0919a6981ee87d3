"""Rewards with the faults that people found too late; each is audited by name in test_foreign.py."""

import random
import re
import time

ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def said(messages):
    text = messages[-1]["content"]
    found = ANSWER.findall(text)
    return found[0].strip().lower() if len(found) == 1 else ""


def tags_alone(completions, **kwargs):
    texts = [messages[-1]["content"] for messages in completions]
    return [0.5 * ("<think>" in text) + 0.5 * ("<answer>" in text) for text in texts]


def scores_the_reference(completions, solution, **kwargs):
    return [float(right.strip().lower() == right.strip().lower()) for right in solution]


def containment(data_source, solution_str, ground_truth, extra_info=None):
    return float(ground_truth.lower() in solution_str.lower())


def errors_are_zero(completions, solution, **kwargs):
    scores = []
    for messages, right in zip(completions, solution, strict=True):
        try:
            scores.append(float(said(messages) == right.strip().lower()))
        except Exception:  # noqa: BLE001
            scores.append(0.0)
    return scores


def raises_on_empty(completions, solution, **kwargs):
    return [float(said(m).split()[0] == s.split()[0].lower()) for m, s in zip(completions, solution, strict=True)]


def hangs(completions, **kwargs):
    time.sleep(60)
    return [0.0] * len(completions)


def dies(completions, **kwargs):
    import os

    if len(completions) > 1:
        os._exit(3)
    return [0.0]


def too_short(completions, **kwargs):
    return [1.0]


def words_for_numbers(completions, **kwargs):
    return ["good" for _ in completions]


def not_a_number(completions, solution, **kwargs):
    return [float("nan") if said(m) == "" else float(said(m) == s.lower()) for m, s in zip(completions, solution)]  # noqa: B905


def noisy(completions, solution, **kwargs):
    return [float(said(m) == s.lower()) + random.random() for m, s in zip(completions, solution)]  # noqa: B905


def by_batch(completions, solution, **kwargs):
    right = [float(said(m) == s.lower()) for m, s in zip(completions, solution, strict=True)]
    return [score / (1 + sum(right)) for score in right]


def longer_is_better(completions, **kwargs):
    return [min(1.0, len(messages[-1]["content"].split()) / 60) for messages in completions]


def collapsed(completions, solution, **kwargs):
    return [0.95 + 0.01 * float(said(m) == s.lower()) for m, s in zip(completions, solution, strict=True)]


def strings(completions, solution, **kwargs):
    return [float(right.lower() in text.lower()) for text, right in zip(completions, solution, strict=True)]


def no_kwargs(completions, solution):
    return [float(said(m) == s.lower()) for m, s in zip(completions, solution, strict=True)]


async def awaited(completions, solution, **kwargs):
    return [float(said(m) == s.lower()) for m, s in zip(completions, solution, strict=True)]


def verl_dict(data_source, solution_str, ground_truth, extra_info=None):
    found = ANSWER.findall(solution_str)
    right = len(found) == 1 and found[0].strip().lower() == ground_truth.lower()
    return {"score": float(right), "acc": right}


def verl_keys(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": 1.0, **({"long": True} if len(solution_str) > 120 else {})}


class Swift:
    def __init__(self, args=None, **kwargs):
        pass

    def __call__(self, completions, solution=None, **kwargs):
        pairs = zip(completions, solution, strict=True)
        return [float(text.count("<answer>") == 1 and f"<answer>{right}</answer>" in text) for text, right in pairs]


def openrlhf(queries, prompts, labels):
    pairs = zip(queries, labels, strict=True)
    scores = [float(query.count("<answer>") == 1 and f"<answer>{label}</answer>" in query) for query, label in pairs]
    return {"rewards": scores, "scores": scores, "extra_logs": {}}


def ours(items):
    return [float(item.answer == item.references[0]) for item in items]


not_callable = 3
