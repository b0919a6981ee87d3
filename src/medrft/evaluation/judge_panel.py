"""A language model as judge of an evaluation: asked several times, so that its own noise is seen.

Off unless the recipe has `eval.judge`. Repeats differ in the request's `seed`, so that each is a request of its own,
kept apart in the cache and drawn anew by servers that obey it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medrft.config import EvalJudgeConfig
from medrft.masking import mask_secrets
from medrft.types import Item, Score, Scorer

UNCHANGING = ("api_key_env", "concurrency", "timeout", "retries", "backoff", "max_wait", "cache_dir", "price_in")
"""Options that change no verdict, nor `price_out`."""


class Panel:
    """The judge's repeats, each a scorer of its own. Raises `RecipeError` for options that cannot work."""

    def __init__(self, config: EvalJudgeConfig) -> None:
        from medrft.scorers import build_scorer

        self._judges: list[Scorer] = [
            build_scorer("judge", **_options(config, repeat)) for repeat in range(config.repeats)
        ]

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Score]]:
        """`judge` and the verdicts `judge_1`, `judge_2`, … that it is the mean of; `None` where none was given."""
        columns = [judge(items) for judge in self._judges]
        return [_mean(list(verdicts)) for verdicts in zip(*columns, strict=True)]


def judge_facts(config: EvalJudgeConfig | None) -> dict[str, Any]:
    """What verdicts depend on, for the header of predictions; empty without a judge."""
    if config is None:
        return {}
    from medrft.scorers.judge_prompts import VERSION

    options = {key: value for key, value in _given(config).items() if key not in (*UNCHANGING, "price_out")}
    return {"judge": {**mask_secrets(options), "repeats": config.repeats, "prompt_version": VERSION}}


def _given(config: EvalJudgeConfig) -> dict[str, Any]:
    return dict(config.model_extra or {})


def _options(config: EvalJudgeConfig, repeat: int) -> dict[str, Any]:
    """The judge's options, with a seed that is its own for each of several repeats."""
    options = _given(config)
    if config.repeats == 1:
        return options
    body = dict(options.get("body") or {})
    return {**options, "body": {**body, "seed": int(body.get("seed", 0)) + repeat}}


def _mean(verdicts: Sequence[Score]) -> dict[str, Score]:
    given = [verdict for verdict in verdicts if verdict is not None]
    mean = sum(given) / len(given) if given else None
    return {"judge": mean, **{f"judge_{number}": verdict for number, verdict in enumerate(verdicts, 1)}}
