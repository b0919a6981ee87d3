"""A task for verifiers 0.4 whose reward is ours; a taskset loads its rows as `ChestTask(ChestData(…))`.

`text` learns nothing. For `armed_clinical` fit a state first: medrft score ROWS.jsonl --reward armed_clinical --fit
state.json; then `task_reward("armed_clinical", state="state.json")`.
"""

import verifiers.v1 as vf

from medrft.integrations.verifiers import task_reward


class ChestData(vf.TaskData):
    """A question about a chest film, with its reference answer."""

    question: str
    reference: str


class ChestTask(vf.Task[ChestData]):
    """Paid by how well the answer agrees with the reference."""

    medrft, medrft_parts = task_reward("text")
