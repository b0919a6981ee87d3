"""The scorers that a recipe names for its evaluation, in addition to those of every evaluation.

In comes the recipe's `eval: {scorers: [my_reward.py:Brevity, nli]}`. Out go the scorers by the names of their metrics,
and what the header of predictions says of each:

    {"brevity": {"scorer": "my_reward.py:Brevity", "range": [0.0, 1.0], "better": "higher", "file": "5f0c…"}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import RecipeError
from medrft.evaluation.metrics import METRICS
from medrft.evaluation.repeated import is_verdict
from medrft.intervals import UNIT
from medrft.rewards import options_of
from medrft.rundir import fingerprint
from medrft.types import Scorer

if TYPE_CHECKING:
    from medrft.config import Recipe

Facts = Mapping[str, Mapping[str, Any]]
"""Metric -> what the header says of its scorer."""


def build_own(recipe: Recipe) -> dict[str, Scorer]:
    """The scorers of `eval.scorers` by the name of their metric, each with the options that it has in the reward.

    Raises `UnknownNameError` for a scorer that does not exist, `RecipeError` for a name that another metric has.
    """
    from medrft.scorers import build_scorer

    found: dict[str, Scorer] = {}
    for spec in recipe.eval.scorers:
        if spec == "judge":
            raise RecipeError("eval.scorers: a judge is asked under eval.judge, with its model and address")
        scorer = build_scorer(
            spec,
            encoder=recipe.encoder,
            clinical=recipe.clinical,
            correct=recipe.correct,
            correct_options=options_of(recipe.reward, recipe.correct.scorer),
            **options_of(recipe.reward, spec),
        )
        name = scorer.name if ":" in spec else spec
        if name in METRICS or name in ("yes_no_match", "choice_match") or is_verdict(name) or "@" in name:
            raise RecipeError(
                f"eval.scorers: {spec!r} would be reported as {name!r}, which every evaluation reports already; leave "
                "it out, or give the scorer another `name`"
            )
        if name in found:
            raise RecipeError(f"eval.scorers: two scorers are called {name!r}; give one another `name`")
        found[name] = scorer
    return found


def own_facts(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """What the header of predictions says of each scorer: name, range, direction, and a hash of a user's own file.

    An infinite end of the range is `None`. Scorers are rewards too, so higher is better, unless a scorer has the
    attribute `lower_is_better = True`.
    """
    return {
        name: {
            "scorer": short_spec(spec),
            "range": [float(end) if math.isfinite(end) else None for end in scorer.range],
            "better": "lower" if getattr(scorer, "lower_is_better", False) else "higher",
            **_file_hash(spec),
            **({"options": options} if (options := options_of(recipe.reward, spec)) else {}),
        }
        for (name, scorer), spec in zip(build_own(recipe).items(), recipe.eval.scorers, strict=True)
    }


def short_spec(spec: str) -> str:
    """A scorer's name without the folder of its file, because folders differ between machines.

    >>> short_spec("/home/me/my_reward.py:Brevity"), short_spec("nli")
    ('my_reward.py:Brevity', 'nli')
    """
    where, colon, name = spec.rpartition(":")
    return f"{Path(where).name}{colon}{name}" if where.endswith(".py") else spec


def _file_hash(spec: str) -> dict[str, str]:
    path = Path(spec.rpartition(":")[0])
    return {"file": fingerprint([path.read_text(encoding="utf-8")])} if path.suffix == ".py" and path.is_file() else {}


def is_share(facts: Mapping[str, Any]) -> bool:
    """Whether values lie in [0, 1] and so are shown in percent; that is assumed of a metric that states no `range`."""
    low, high = facts.get("range", UNIT)
    return low is not None and high is not None and 0 <= low <= high <= 1


def scale_note(facts: Mapping[str, Any]) -> str:
    """`say_scale`, or an empty text for the usual case: values in [0, 1], higher is better."""
    return "" if is_share(facts) and facts.get("better", "higher") == "higher" else say_scale(facts)


def say_scale(facts: Mapping[str, Any]) -> str:
    """A scorer's range and direction in words.

    >>> say_scale({"range": [0.0, None], "better": "lower"})
    '0 and more, lower is better'
    >>> say_scale({"range": [-1.0, 0.0], "better": "higher"})
    '-1 to 0, higher is better'
    """
    low, high = facts["range"]
    if low is None or high is None:
        scale = "any number" if low is high else f"{low:g} and more" if high is None else f"{high:g} and less"
    else:
        scale = f"{low:g} to {high:g}"
    return f"{scale}, {facts['better']} is better"
