"""Writes rollouts while a stage trains: graded batches go in, Parquet files and thumbnails come out.

It runs on the main process only. Training hands each batch to one thread and goes on; the thread writes batches in
order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from medrft.data.images import BadImageError, sha256_of, thumbnail_png
from medrft.rundir import RunDir, write_atomic
from medrft.store import RolloutWriter
from medrft.training.grading import Graded
from medrft.types import Example, Outcome

THUMBNAIL = 192
"""The longer side of a thumbnail, in pixels."""

WAITING = 4
"""Generation batches that may wait for the thread; when there are this many, training waits too."""


class Recorder:
    """Keeps every generation batch of a stage, train and validation apart.

    What fails on the thread, such as a full disk (`StorageError`), is raised by the next `add`, `flush` or `close`.
    """

    def __init__(
        self,
        run: RunDir,
        *,
        stage: str,
        parts: Sequence[str],
        thumbnails: bool,
        generations: Mapping[str, int] | None = None,
    ):
        self.run, self.stage, self.thumbnails = run, stage, thumbnails
        self.writers = {
            split: RolloutWriter(run.rollouts, stage=stage, split=split, parts=parts)
            for split in ("train", "validation")
        }
        self.generations = dict(generations or dict.fromkeys(self.writers, 0))
        """Generation batches so far by split; it goes into checkpoints, and comes back by the argument of that name."""
        self._hashes: dict[Path, str] = {}
        self._shown: set[str] = set()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollouts")
        self._waiting: deque[Future[None]] = deque()

    def add(
        self,
        graded: Sequence[Graded],
        outcomes: Sequence[Outcome],
        advantages: Sequence[float],
        *,
        split: str,
        step: int,
        group_size: int,
    ) -> None:
        """Take a generation batch of whole groups, gathered from all processes; returns before it is written."""
        while self._waiting and (len(self._waiting) >= WAITING or self._waiting[0].done()):
            self._waiting.popleft().result()
        place = {"step": step, "generation_step": self.generations[split], "stage": self.stage, "split": split}
        self.generations[split] += 1
        self._waiting.append(self._thread.submit(self._keep, graded, outcomes, advantages, place, group_size))

    def flush(self) -> None:
        """Return once everything is on disk."""
        wait(self._waiting)
        done = list(self._waiting)
        self._waiting.clear()
        try:
            for writer in self.writers.values():
                writer.flush()
        finally:
            for batch in done:
                batch.result()

    def close(self) -> None:
        """Put everything on disk and end the thread."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()

    def _keep(
        self,
        graded: Sequence[Graded],
        outcomes: Sequence[Outcome],
        advantages: Sequence[float],
        place: Mapping[str, Any],
        group_size: int,
    ) -> None:
        prefix = f"{self.stage}/{place['split']}/{place['generation_step']}"
        rows = []
        for number, (row, outcome, advantage) in enumerate(zip(graded, outcomes, advantages, strict=True)):
            within = {"group_id": f"{prefix}/{number // group_size}", "sample": number % group_size}
            seen = {"image_sha256": self._hashes_of(row.example), "advantage": advantage}
            rows.append({**place, **within, **seen, **rollout_columns(row, outcome)})
        self.writers[place["split"]].write(rows, group_size=group_size)
        if self.thumbnails:
            for row in graded[::group_size]:
                self._show(row.example)

    def _hashes_of(self, example: Example) -> list[str]:
        """SHA-256 of each image. For one that has vanished it is the last known; one never seen is left out."""
        for path in example.images:
            with suppress(OSError):
                self._hashes[path] = sha256_of(path)
        return [self._hashes[path] for path in example.images if path in self._hashes]

    def _show(self, example: Example) -> None:
        for path in example.images:
            digest = self._hashes.get(path)
            if digest is None or digest in self._shown:
                continue
            target = self.run.images / f"{digest}.png"
            if not target.is_file() and (picture := _thumbnail(path)) is not None:
                write_atomic(target, picture)
            self._shown.add(digest)


def _thumbnail(path: Path) -> bytes | None:
    """PNG bytes of a thumbnail; `None` for an image that has vanished since it was shown to the policy."""
    try:
        return thumbnail_png(path, THUMBNAIL)
    except (BadImageError, OSError):
        return None


def rollout_columns(row: Graded, outcome: Outcome) -> dict[str, Any]:
    """The columns of a rollout that do not depend on its place in the training."""
    example = row.example
    return {
        "example_id": example.id,
        "dataset": example.dataset,
        "kind": example.kind,
        "question": example.question,
        "references": list(example.references),
        "completion": row.completion.text,
        "answer": row.answer,
        "n_tokens": row.completion.n_tokens,
        "truncated": row.completion.truncated,
        "correct": row.correct,
        "truth": row.truth,
        "reward": outcome.reward,
        "unscored_reason": outcome.unscored_reason,
        "gate": outcome.gate,
        "raw": dict(outcome.raw),
        "calibrated": dict(outcome.calibrated),
        "applicable": dict(outcome.applicable),
        "metadata": dict(example.metadata),
    }
