"""verifiers 0.4: `Task.score` of a task with our reward, on traces as a rollout leaves them."""

import asyncio
import runpy

import pytest

vf = pytest.importorskip("verifiers.v1")

from contract import EXACT, HERE, ROWS, or_zero
from medrft.errors import RecipeError
from medrft.integrations.verifiers import task_reward


class Data(vf.TaskData):
    """A question about an image."""

    question: str
    reference: str | list[str]
    kind: str
    options: tuple[str, ...] = ()


def task_class(case, **settings):
    class ChestTask(vf.Task[Data]):
        """A task as a user writes it."""

        medrft, medrft_parts = task_reward(case.reward, **case.settings, **settings)

    return ChestTask


def trace_of(task, text, thought=None):
    message = vf.AssistantMessage(content=text, reasoning_content=thought)
    asked = vf.MessageNode(message=vf.UserMessage(content=task.data.question))
    return vf.Trace(
        task=vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        nodes=[asked, vf.MessageNode(parent=0, message=message, sampled=True)],
    )


def scored(task_type, rows=ROWS):
    """All traces at once, as a run scores them."""
    tasks = [task_type(Data(**{key: row[key] for key in row if key not in ("id", "completion")})) for row in rows]
    traces = [trace_of(task, row["completion"]) for task, row in zip(tasks, rows, strict=True)]

    async def score():
        await asyncio.gather(*(task.score(trace) for task, trace in zip(tasks, traces, strict=True)))

    asyncio.run(score())
    return traces


def test_the_numbers_are_ours(case):
    task_type = task_class(case)
    traces = scored(task_type)
    assert [trace.rewards["medrft"].score for trace in traces] == pytest.approx(or_zero(case.expected), abs=EXACT)
    assert [trace.reward for trace in traces] == pytest.approx(or_zero(case.expected), abs=EXACT)
    assert [trace.metrics["medrft_unscored"] for trace in traces] == [float(v is None) for v in case.expected]
    held = task_type.__dict__["medrft"].held
    assert held.counts["rows"] == 64 and held.counts["unscored"] == case.expected.count(None)
    assert len({tuple(sorted(trace.metrics)) for trace in traces}) == 1 and not traces[0].info


def test_the_weight_is_that_of_verifiers(case):
    traces = scored(task_class(case, weight=0.5), ROWS[:8])
    assert [trace.reward for trace in traces] == pytest.approx([0.5 * v for v in or_zero(case.expected)[:8]])


def test_a_thought_that_the_server_split_off_is_seen(case):
    task = task_class(case)(Data(question="?", reference="left lung", kind="open"))
    whole, split = (
        trace_of(task, "<think>x</think><answer>left lung</answer>"),
        trace_of(task, "<answer>left lung</answer>", "x"),
    )
    for trace in (whole, split):
        asyncio.run(task.score(trace))
    assert whole.reward == split.reward == pytest.approx(1.0, abs=0.01)


def test_a_calibration_without_a_state_is_refused():
    with pytest.raises(RecipeError, match="no state"):
        task_reward(str(HERE / "fitted.yaml"))


def test_the_example_is_such_a_task():
    made = runpy.run_path(str(HERE.parent / "examples" / "verifiers_task.py"))
    task = made["ChestTask"](made["ChestData"](question="Any?", reference="no"))
    trace = trace_of(task, "<think>x</think><answer>no</answer>")
    asyncio.run(task.score(trace))
    assert trace.reward == 1.0
