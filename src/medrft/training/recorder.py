"""Writes rollouts and the thumbnails of their images while a stage trains; on the main process only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medrft.data.images import BadImageError, sha256_of, thumbnail
from medrft.rundir import RunDir, write_atomic
from medrft.store import RolloutWriter
from medrft.training.scoring import Judged
from medrft.types import Example, Outcome

THUMBNAIL = 192
"""Longer side in pixels."""


class Recorder:
    """Keeps every generation batch of a stage, train and validation apart."""

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
        """Generation batches so far; goes into checkpoints, and comes back from them through `generations`."""
        self._hashes: dict[Path, str] = {}
        self._shown: set[str] = set()

    def add(
        self,
        judged: Sequence[Judged],
        outcomes: Sequence[Outcome],
        advantages: Sequence[float],
        *,
        split: str,
        step: int,
        group_size: int,
    ) -> None:
        """Take a generation batch of whole groups, gathered from all processes."""
        generation_step = self.generations[split]
        self.generations[split] += 1
        rows = []
        for number, (row, outcome, advantage) in enumerate(zip(judged, outcomes, advantages, strict=True)):
            group = f"{self.stage}/{split}/{generation_step}/{number // group_size}"
            place = {"step": step, "generation_step": generation_step, "stage": self.stage, "split": split}
            place |= {"group_id": group, "sample": number % group_size, "advantage": advantage}
            rows.append(place | {"image_sha256": self._hashes_of(row.example)} | rollout(row, outcome))
        self.writers[split].write(rows, group_size=group_size)
        if self.thumbnails:
            for row in judged[::group_size]:
                self._show(row.example)

    def flush(self) -> None:
        """Put everything on disk."""
        for writer in self.writers.values():
            writer.flush()

    def _hashes_of(self, example: Example) -> list[str]:
        """SHA-256 of each image; of one that has vanished what it was, and nothing if it was never seen."""
        for path in example.images:
            with suppress(OSError):
                self._hashes[path] = sha256_of(path)
        return [self._hashes[path] for path in example.images if path in self._hashes]

    def _show(self, example: Example) -> None:
        for path in example.images:
            digest = self._hashes.get(path)
            if digest is None or digest in self._shown:
                continue
            self._shown.add(digest)
            target = self.run.images / f"{digest}.png"
            if not target.is_file() and (small := _thumbnail(path)) is not None:
                write_atomic(target, small)


def _thumbnail(path: Path) -> bytes | None:
    """`None` for an image that has vanished since it was shown to the policy."""
    try:
        return thumbnail(path, THUMBNAIL)
    except (BadImageError, OSError):
        return None


def rollout(row: Judged, outcome: Outcome) -> dict[str, Any]:
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
