"""The one thread that scores. What waits is scored in one call of each scorer, then combined request by request.

A raw score depends on its own row alone, so it does not matter which requests are scored together. What looks at other
rows (ranks, groups, what a calibration learns) is computed for each request by itself, in the order in which they came.
So the numbers are those of one `ForeignReward` that is called with one request after the other.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrft.errors import StorageError, UserError
from medrft.files import append_bytes, tell_user
from medrft.integrations.foreign import Batch, ForeignReward
from medrft.integrations.serve.reading import Limits, Refused, RemoteRequest, ScoreRequest
from medrft.integrations.serve.remember import Answer, Learnt, Remembered
from medrft.rewards.state import load_document, state_document
from medrft.rundir import write_json
from medrft.scorers.guarded import call_guarded
from medrft.types import Item, Outcome

SAVE_S = 60.0
"""Seconds between two writings of the state's file while there is something new in it."""


@dataclass(eq=False)
class Job:
    """A request that waits, and then what became of it."""

    request: ScoreRequest | RemoteRequest
    digest: str = ""
    result: bytes | Refused | None = None
    waiting: Any = None
    """What the event loop waits on."""


@dataclass
class Counts:
    """What happened since the start, for `/health`."""

    requests: int = 0
    rows: int = 0
    calls: int = 0
    """Calls of the reward, each with the rows of one request or more."""
    failed: int = 0
    """Requests on which the reward itself failed; their rows have no score."""
    rows_a_second: float = 0.0
    reward: dict[str, int] = field(default_factory=dict)
    """Rows scored, rows unscored, and the reasons, as the reward counts them."""


class Worker(threading.Thread):
    """Takes jobs from a queue that is bounded in rows, and hands over those that are done."""

    def __init__(
        self,
        held: ForeignReward,
        *,
        deliver: Callable[[Sequence[Job]], None],
        remembered: Remembered,
        limits: Limits,
        state: Path | None = None,
        log_rows: Path | None = None,
    ) -> None:
        """`deliver` is called from this thread. `state` is written if the reward learns, every row to `log_rows`."""
        super().__init__(name="scoring", daemon=True)
        self.held, self.remembered, self.limits = held, remembered, limits
        self.counts, self.dead = Counts(), False
        ledger = remembered.ledger
        self.learnt = (ledger.learnt if ledger else None) or Learnt(document=state_document(held.reward))
        self._deliver, self._state, self._log_rows = deliver, state if ledger else None, log_rows
        self._jobs: deque[Job] = deque()
        self._change = threading.Condition()
        self._stopping = False
        self.rows = 0
        """Rows that wait or are scored now."""
        self._saved, self._save_at = self.learnt, time.monotonic() + SAVE_S

    # ---- called from the event loop

    def offer(self, job: Job) -> None:
        """Put a job into the queue; raises `Refused` (429) if it is full."""
        n = len(job.request.rows)
        with self._change:
            if self.dead:
                raise Refused(500, "the thread that scores has ended; the server's log says why: start it again")
            if self._stopping:
                raise Refused(503, "the server stops; ask again once it is back", retry_after=1)
            if self.rows + n > self.limits.queue_rows:
                raise Refused(429, f"{self.rows} rows wait already; ask again later", retry_after=self.wait_s())
            self.rows += n
            self._jobs.append(job)
            self._change.notify()

    def wait_s(self) -> int:
        """In how many seconds the queue will have gone down by half, at the rate of the last calls."""
        rate = self.counts.rows_a_second
        return min(60, max(1, round(self.rows / 2 / rate))) if rate else 1

    def stop(self) -> None:
        """Score what waits, save the state, and end; takes no more jobs."""
        with self._change:
            self._stopping = True
            self._change.notify()
        if self.is_alive():
            self.join()

    # ---- the thread

    def run(self) -> None:
        """Score until stopped."""
        jobs: list[Job] = []
        try:
            while (jobs := self._take()) or not self._stopping:
                if jobs:
                    self._work(jobs)
                    self._hand_over(jobs)
                if time.monotonic() >= self._save_at:
                    self._save()
            self._save()
        except BaseException:
            self._die(jobs)
            raise

    def _take(self) -> list[Job]:
        """The jobs that are scored together next: first come, first served. None when it is time to save or stop."""
        with self._change:
            if not self._jobs and not self._stopping:
                self._change.wait(timeout=max(0.0, self._save_at - time.monotonic()))
            found: list[Job] = []
            rows = 0
            while self._jobs and (not found or rows + len(self._jobs[0].request.rows) <= self.limits.batch_rows):
                found.append(self._jobs.popleft())
                rows += len(found[-1].request.rows)
            return found

    def _hand_over(self, jobs: Sequence[Job]) -> None:
        with self._change:
            self.rows -= sum(len(job.request.rows) for job in jobs)
        self._deliver(jobs)

    def _die(self, jobs: Sequence[Job]) -> None:
        """Refuse what waits: nothing will score it any more."""
        with self._change:
            self.dead = True
            left, self.rows = [*jobs, *self._jobs], 0
            self._jobs.clear()
        for job in left:
            job.result = Refused(500, "the thread that scores has ended; the server's log says why")
        self._deliver(left)

    def _work(self, jobs: Sequence[Job]) -> None:
        """Give each job its result."""
        began = time.monotonic()
        read: list[tuple[Job, Batch]] = []
        for job in jobs:
            try:
                read.append((job, job.request.batch(self.held, self.limits)))
            except Refused as refused:
                job.result = refused
        if read and not self._score(read):
            for one in read:  # one request must not fail the others
                self._score([one], last=True)
        rows = sum(len(batch.items) for _, batch in read)
        if rows:
            rate, before = rows / max(1e-6, time.monotonic() - began), self.counts.rows_a_second
            self.counts.rows_a_second = 0.8 * before + 0.2 * rate if before else rate

    def _score(self, read: Sequence[tuple[Job, Batch]], *, last: bool = False) -> bool:
        """Score these jobs together; `False` if the reward failed and they should be tried one by one."""
        before = self.learnt
        try:
            made, failure = call_guarded(lambda: self.held.score_batches([batch for _, batch in read]))
            if made is not None:
                self._answer(read, made)
                return True
            refused = Refused(500, f"the reward failed: {failure}")
        except StorageError as error:  # the same request may be sent again, once there is space
            refused = Refused(503, str(error), retry_after=5)
        except UserError as error:
            refused = Refused(500, f"the reward failed: {error}")
        load_document(self.held.reward, before.document, Path("the state before"))
        self.learnt = before
        if len(read) > 1 and not last:
            return False
        for job, _ in read:
            job.result = refused
        self.counts.failed += len(read)
        return True

    def _answer(self, read: Sequence[tuple[Job, Batch]], made: Sequence[Sequence[Outcome]]) -> None:
        """Write down what was learnt, then answer. Raises `StorageError`, and then nothing was answered."""
        batches, rows = self.learnt.batches, self.learnt.rows
        answers = []
        for (job, batch), outcomes in zip(read, made, strict=True):
            table = job.request.answer(self.held, outcomes)
            learns = self.held.update and batch.learns
            if learns:
                batches, rows = batches + 1, rows + len(outcomes)
            if isinstance(job.request, ScoreRequest):
                table["learnt"] = batches if learns else None
            job.result = json.dumps(table, allow_nan=False).encode()
            if (name := job.request.id) is not None:
                one = Answer(id=name, digest=job.digest, rows=len(outcomes), body=job.result, learnt=learns)
                answers.append(one)
        if batches > self.learnt.batches:
            document = state_document(self.held.reward, rows=rows)
            learnt = Learnt(document=document, batches=batches, rows=rows)
            self.remembered.add(answers, learnt)
            self.learnt = learnt
        else:
            self.remembered.add(answers, None)
        self._count(read, made)

    def _count(self, read: Sequence[tuple[Job, Batch]], made: Sequence[Sequence[Outcome]]) -> None:
        self.counts.requests += len(read)
        self.counts.rows += sum(map(len, made))
        self.counts.calls += 1
        self.counts.reward = dict(self.held.counts)
        if self._log_rows is not None:
            pairs = [pair for (_, b), outs in zip(read, made, strict=True) for pair in zip(b.items, outs, strict=True)]
            lines = "".join(json.dumps(_logged(item, outcome)) + "\n" for item, outcome in pairs)
            try:
                append_bytes(self._log_rows, lines.encode())
            except StorageError as error:  # what is answered and learnt stays so
                tell_user(f"{error}; rows are no longer logged")
                self._log_rows = None

    def _save(self) -> None:
        """Write the state's file if there is anything new to write. The ledger has it in any case."""
        ledger = self.remembered.ledger
        self._save_at = time.monotonic() + SAVE_S
        if self._state is not None and ledger is not None and self.learnt is not self._saved:
            try:
                write_json(self._state, {**self.learnt.document, "served": ledger.name})
                self._saved = self.learnt
            except StorageError as error:
                tell_user(f"{error}; {ledger.path} has the state")


def _logged(item: Item, outcome: Outcome) -> dict[str, Any]:
    """A row as `log_rows` keeps it, the texts included."""
    return {
        "reference": list(item.references),
        "question": item.question,
        "completion": item.completion if item.completion is not None else item.answer,
        "reward": outcome.reward,
        "parts": dict(outcome.calibrated),
        "unscored": outcome.unscored_reason,
    }
