"""From items to verdicts of a language model behind an OpenAI-compatible endpoint: 1, 0, or `None` without a verdict.

There are two tasks. `equivalence` (as in MediX-R1, arXiv 2602.23363, and MRPO, 2606.31825) asks whether the answer
means what the reference says, YES or NO. `reasoning` (after Zhu et al., 2505.13973) asks whether the thought is
clinically sound, 1 or 0. The papers' prompts are not published or worded otherwise; ours are in `judge_prompts.py`.
docs/judge.md has the details.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

from medrft.endpoint import Endpoint, Messages, Reply
from medrft.errors import EndpointError, RecipeError, unknown_name
from medrft.outgoing import judge_at
from medrft.scorers.base import FallibleScorer, Pair, Reasons
from medrft.scorers.judge_prompts import VERSION, ask_equivalence, ask_reasoning
from medrft.text import extract, normalize
from medrft.types import Item, Score, Scorer

Task = Literal["equivalence", "reasoning"]

VERDICT = re.compile(r"""[\s"'`*]*(YES|NO|1|0)[\s"'`*.!]*""", re.IGNORECASE)
WORDS = {"equivalence": {"yes": 1.0, "no": 0.0}, "reasoning": {"1": 1.0, "0": 0.0}}


def parse_verdict(text: str, task: Task) -> Score:
    """The verdict of a reply; `None` unless it is only that word, perhaps with quotes, emphasis or a full stop.

    A judge's own thought is skipped, in any marks, also if its template opened it. If it never ends, it is no verdict.

    >>> replies = ("YES", " no.", "**Yes**", "<think>YES?</think>NO", "YES?</think>NO")
    >>> [parse_verdict(text, "equivalence") for text in replies]
    [1.0, 0.0, 1.0, 0.0, 0.0]
    >>> [parse_verdict(text, "equivalence") for text in ("YES, because", "YES NO", "1", "", "not YES", "<think>YES")]
    [None, None, None, None, None, None]
    >>> [parse_verdict(text, "reasoning") for text in ("1", "0", "10", "YES")]
    [1.0, 0.0, None, None]
    """
    found = VERDICT.fullmatch(extract(text, "short").answer or "")
    return WORDS[task].get(found[1].lower()) if found else None


@dataclass(frozen=True)
class Asker:
    """What both judges share: the endpoint, its limits, and counts of the outcomes."""

    endpoint: Endpoint
    max_tokens: int
    max_chars: int
    system: bool
    temperature: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter, compare=False)

    def verdicts(self, conversations: Sequence[Messages], task: Task) -> tuple[list[Score], Reasons]:
        """One verdict per conversation, or `None` with a reason; warns once for all that are missing."""
        ask = partial(self.endpoint.ask, max_tokens=self.max_tokens, temperature=self.temperature)
        replies = ask(conversations) if conversations else []
        found = [self._verdict(reply, task) for reply in replies]
        problems = Counter(problem for _, problem in found if problem)
        self.outcomes.update(problem.partition(":")[0] for problem in problems.elements())
        self.outcomes.update(str(int(score)) for score, _ in found if score is not None)
        if problems:
            told = "; ".join(f"{n} x {problem}" for problem, n in problems.most_common(3))
            more = f"; {len(problems) - 3} other reasons" if len(problems) > 3 else ""
            n = problems.total()
            warnings.warn(f"judge {self.endpoint.model}: {n} of {len(found)} unscored: {told}{more}", stacklevel=2)
        return [score for score, _ in found], {i: why for i, (_, why) in enumerate(found) if why}

    def _verdict(self, reply: Reply | EndpointError, task: Task) -> tuple[Score, str | None]:
        """A reply's score, or why it has none. Outcomes are counted by the part of the reason before its colon."""
        if isinstance(reply, EndpointError):
            return None, f"no reply: {reply}"
        score = parse_verdict(reply.text, task)
        if score is not None:
            return score, None
        if reply.finish == "length":
            return None, f"cut reply: no verdict within max_tokens = {self.max_tokens}"
        return None, f"unparsable reply: {reply.text[:80]!r}"


class _Judge:
    """What both judges tell about themselves."""

    asker: Asker
    task: ClassVar[Task]
    can_fail: ClassVar[bool] = True
    """`None` may mean that the endpoint failed, and not only that the reference cannot be scored."""

    def describe(self) -> dict[str, Any]:
        """Which model judges, where, and with which prompt."""
        endpoint = self.asker.endpoint
        return {"judge": endpoint.model, "base_url": endpoint.base_url, "task": self.task, "prompt_version": VERSION}

    def counts(self) -> dict[str, Any]:
        """Requests, cached, sent, failed, tokens and cost, and the outcomes: `1`, `0` and each reason for `None`."""
        return {**asdict(self.asker.endpoint.counts), "outcomes": dict(self.asker.outcomes)}


@dataclass(frozen=True)
class EquivalenceJudge(_Judge, FallibleScorer):
    """1 if the judge says that the answer means what the reference says, else 0.

    The judge is not asked if the answer equals the reference after normalisation (1), or is too long to be one (0).
    """

    name: ClassVar[str] = "judge"
    task: ClassVar[Task] = "equivalence"
    asker: Asker

    def judge_pairs(self, pairs: Sequence[Pair]) -> tuple[dict[Pair, Score], dict[Pair, str]]:
        """One verdict per pair, and the reasons for those that are missing."""
        scores: dict[Pair, Score] = {pair: self._unasked(pair) for pair in pairs}
        asked = [pair for pair in pairs if scores[pair] is None]
        prompts = [
            ask_equivalence(
                question=pair.question,
                options=pair.options,
                reference=pair.reference,
                answer=pair.answer,
                system=self.asker.system,
            )
            for pair in asked
        ]
        verdicts, reasons = self.asker.verdicts(prompts, self.task)
        scores.update(zip(asked, verdicts, strict=True))
        return scores, {asked[i]: why for i, why in reasons.items()}

    def _pairs(self, item: Item) -> list[Pair] | None:
        """The pairs as for any scorer of answers, but none for an answer that is too long: it gets 0 unread."""
        if item.answer is None or len(item.answer) <= self.asker.max_chars:
            return super()._pairs(item)
        self.asker.outcomes["too long"] += 1
        return [] if any(self.can_score(reference, item) for reference in item.references) else None

    def _unasked(self, pair: Pair) -> Score:
        """The score of a pair that needs no judge, else `None`."""
        if normalize(pair.answer) == normalize(pair.reference):
            self.asker.outcomes["equal"] += 1
            return 1.0
        return None


@dataclass(frozen=True)
class ReasoningJudge(_Judge):
    """1 if the judge finds the thought clinically sound, else 0; for completions that are meant to hold a thought.

    If there is no thought, or it is too long, the score is 0 and the judge is not asked.
    """

    asker: Asker
    name: ClassVar[str] = "judge_reasoning"
    task: ClassVar[Task] = "reasoning"
    about: ClassVar[str] = "thinking"
    """A gate or an unreadable answer does not set it to 0: the judge sees the answer together with the thought."""
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("completion",)

    def applies(self, item: Item) -> bool:
        """Completions that hold a thought, or whose prompt asked for one."""
        return item.thinking is not None or item.form == "think"

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One verdict per item to which this applies, `None` for the others."""
        return self.scored(items)[0]

    def scored(self, items: Sequence[Item]) -> tuple[list[Score], Reasons]:
        """One verdict per item to which this applies, and the reasons for those that are missing."""
        wanted = {
            i: item.thinking or ""
            for i, item in enumerate(items)
            if self.applies(item) and any(normalize(reference) for reference in item.references)
        }
        scores: dict[int, Score] = {}
        asked: dict[int, Messages] = {}
        for i, thinking in wanted.items():
            item = items[i]
            if not normalize(thinking[: self.asker.max_chars]):
                scores[i] = 0.0
            elif len(thinking) + len(item.answer or "") > self.asker.max_chars:
                self.asker.outcomes["too long"] += 1
                scores[i] = 0.0
            else:
                asked[i] = ask_reasoning(
                    question=item.question,
                    options=item.options,
                    references=item.references,
                    thinking=thinking,
                    answer=item.answer,
                    system=self.asker.system,
                )
        verdicts, reasons = self.asker.verdicts(list(asked.values()), self.task)
        scores.update(zip(asked, verdicts, strict=True))
        places = list(asked)
        return [scores.get(i) for i in range(len(items))], {places[n]: why for n, why in reasons.items()}


def build_judge(
    *,
    model: str = "",
    base_url: str = "",
    task: Task = "equivalence",
    api_key_env: str | None = None,
    max_tokens: int = 512,
    max_chars: int | None = None,
    system: bool = True,
    temperature: float = 0.0,
    concurrency: int = 8,
    timeout: float = 60.0,
    retries: int = 3,
    backoff: float = 0.5,
    max_wait: float = 60.0,
    cache_dir: str | None = None,
    price_in: float | None = None,
    price_out: float | None = None,
    body: Mapping[str, Any] | None = None,
) -> Scorer:
    """A judge for `task` at an endpoint; all else is in `Endpoint` and docs/judge.md.

    `temperature` is for an evaluation that asks several times; a reward needs 0. `max_tokens` limits a reply and
    `max_chars` what is judged (2,000 for an answer, 16,000 for a thought). `system: false` is for models whose template
    has no system role. Raises `RecipeError` for options that cannot work.
    """
    if task not in WORDS:
        raise unknown_name("judge task", task, WORDS)
    if not model or not base_url:
        raise RecipeError("judge needs options model and base_url, such as qwen3-8b and http://localhost:8000/v1")
    endpoint = Endpoint(
        model=model,
        base_url=base_url,
        api_key_env=api_key_env,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        backoff=backoff,
        max_wait=max_wait,
        cache_dir=cache_dir,
        price_in=price_in,
        price_out=price_out,
        body=body or {},
        who="judge",
        sends=judge_at("", model=model, where=base_url, thoughts=task == "reasoning").what,
    )
    if max_tokens < 1 or (max_chars is not None and max_chars < 1):
        raise RecipeError(f"judge max_tokens and max_chars must be at least 1, got {max_tokens} and {max_chars}")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
        raise RecipeError(f"judge temperature must be a number from 0 to 2, got {temperature!r}")
    endpoint.key()  # raises for a missing key now, and not in the first step of training
    asker = Asker(
        endpoint, max_tokens, max_chars or (2_000 if task == "equivalence" else 16_000), system, float(temperature)
    )
    return EquivalenceJudge(asker) if task == "equivalence" else ReasoningJudge(asker)
