"""A reward of ours in a `verifiers.v1` task: one line in the task's class.

class ChestTask(vf.Task[ChestData]):
    medrft, medrft_parts = task_reward("armed_clinical", state="state.json")

verifiers scores one trace a call. The task's data must have `reference` (or `answer`, `solution` …), and may have
`question`, `options` and `kind`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from medrft.integrations.foreign import ForeignReward
from medrft.integrations.rows import item_of_fields
from medrft.rewards.contracts import CONTRACTS, USUAL_COLUMNS
from medrft.types import Form, Outcome

Hook = Callable[..., Coroutine[Any, Any, Any]]
NAME = "medrft"


def task_reward(
    reward: str | Path | Mapping[str, Any],
    *,
    form: Form = "think",
    unscored: float = 0.0,
    weight: float = 1.0,
    **settings: Any,
) -> tuple[Hook, Hook]:
    """A `@vf.reward` named `medrft`, and a `@vf.metric` with `unscored` and each calibrated part.

    `settings` go to `ForeignReward`. verifiers has no missing reward, so an unscored trace gets the number `unscored`
    and is counted in the metric `medrft_unscored`.
    """
    from verifiers import v1 as vf

    held = ForeignReward(reward, rows=CONTRACTS["verifiers"].rows, unscored=unscored, **settings)

    async def score(trace: Any) -> dict[str, float]:
        # In a thread, because an encoder or a judge would hold up the event loop with all its other rollouts.
        return held.columns(await asyncio.to_thread(_scored, held, trace, form))

    async def medrft_parts(self: Any, trace: Any) -> dict[str, float]:
        row = trace.info[NAME] = await score(trace)  # metrics come before rewards: the trace is scored once
        return {f"{NAME}_{name}": value for name, value in row.items() if name != "score"}

    async def medrft(self: Any, trace: Any) -> float:
        row = trace.info.pop(NAME, None) or await score(trace)
        return float(row["score"])

    medrft.held = held  # type: ignore[attr-defined]
    return vf.reward(weight=weight)(medrft), vf.metric(medrft_parts)


def _scored(held: ForeignReward, trace: Any, form: Form) -> Outcome:
    data = trace.task.data.model_dump()
    fields = {name: data[name] for name in USUAL_COLUMNS if data.get(name) is not None}
    return held([item_of_fields(completion_of(trace, form), fields, form=form)])[0]


def completion_of(trace: Any, form: Form) -> str:
    """The model's last reply. A thought that the server split off is put before the answer again."""
    text = str(trace.last_reply)
    turns = trace.assistant_messages
    thought = turns[-1].reasoning_content if turns and trace.root_reply is None else None
    return f"<think>{thought}</think>{text}" if thought and form == "think" and "</think>" not in text else text
