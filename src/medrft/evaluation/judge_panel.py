"""A language model as judge: items in, the mean of its repeated verdicts and each verdict out.

It is asked several times to show how much its verdicts vary. Off unless the recipe has `eval.judge`. Repeats differ in
the request's `seed`: the cache keeps them apart, and servers that obey the seed draw a new verdict for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medrft.config import EvalJudgeConfig
from medrft.masking import mask_secrets
from medrft.types import Item, Score, Scorer

UNCHANGING = ("api_key_env", "concurrency", "timeout", "retries", "backoff", "max_wait", "cache_dir", "price_in")
"""Options that change no verdict and so stay out of the header; `price_out` is left out with them."""


class Panel:
    """The repeats of one judge, each built as its own scorer. Raises `RecipeError` for options that cannot work."""

    def __init__(self, config: EvalJudgeConfig) -> None:
        from medrft.scorers import build_scorer

        self._judges: list[Scorer] = [
            build_scorer("judge", **_options(config, repeat)) for repeat in range(config.repeats)
        ]

    def __call__(self, items: Sequence[Item]) -> list[dict[str, Score]]:
        """`judge` and the verdicts `judge_1`, `judge_2`, … that it is the mean of; `None` where none was given."""
        columns = [judge(items) for judge in self._judges]
        rows: list[dict[str, Score]] = []
        for verdicts in zip(*columns, strict=True):
            given = [verdict for verdict in verdicts if verdict is not None]
            mean = sum(given) / len(given) if given else None
            rows.append({"judge": mean, **{f"judge_{number}": verdict for number, verdict in enumerate(verdicts, 1)}})
        return rows


def judge_facts(config: EvalJudgeConfig | None) -> dict[str, Any]:
    """The options that verdicts depend on, for the header of predictions; empty without a judge."""
    if config is None:
        return {}
    from medrft.scorers.judge_prompts import VERSION

    options = {key: value for key, value in _given(config).items() if key not in (*UNCHANGING, "price_out")}
    return {"judge": {**mask_secrets(options), "repeats": config.repeats, "prompt_version": VERSION}}


def _given(config: EvalJudgeConfig) -> dict[str, Any]:
    return dict(config.model_extra or {})


def _options(config: EvalJudgeConfig, repeat: int) -> dict[str, Any]:
    """The judge's options; of several repeats each gets its own seed."""
    options = _given(config)
    if config.repeats == 1:
        return options
    body = dict(options.get("body") or {})
    return {**options, "body": {**body, "seed": int(body.get("seed", 0)) + repeat}}
