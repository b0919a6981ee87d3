"""Grades completions while the policy still works on the same generation batch.

Completions of prompts whose whole group has ended are graded while the others are written, and the rest while the old
and the reference model read them. When TRL asks for rewards, `collected` waits for what is not done yet. Nothing of
what is written or trained depends on that: scores depend on one completion alone, the calls come in an order that
follows from the completions, and calibration still sees the whole batch at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from medrft.training.grading import Graded, Grader
from medrft.training.timing.clock import Timed


@dataclass(frozen=True, slots=True)
class Piece:
    """Completions that were given to be graded together."""

    ids: Mapping[int, list[int]]
    """Token ids by row of the generation batch."""
    graded: Future[list[Graded]]


class GradesAhead(Timed):
    """Goes before `SharesPrompts` among the bases; `self.grader` must be set before the trainer is built."""

    grader: Grader
    _asked: Sequence[Mapping[str, Any]] | None = None
    """The rows of the generation batch; `None` while it is not known which completions are kept (resampling)."""
    _pieces: list[Piece]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._asked, self._pieces = inputs, []
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
            return output
        finally:
            self._asked, self._pieces = None, []

    def _generate(self, prompts: list[Any]) -> Any:
        me: Any = self
        found = super()._generate(prompts)  # type: ignore[misc]
        ids = found[1]
        if self.clock is not None and me.model.training:
            lengths = me._metrics["train"]["completions/mean_length"]  # of all processes, put there just now
            self.clock.tokens += lengths[-1] * len(ids) * me.accelerator.num_processes
        self._grade_rest(ids)
        return found

    def _while_writing(self, ids: Mapping[int, list[int]]) -> None:
        """Begin to grade completions that have ended."""
        if self._asked is not None:
            self._begin(ids)

    def _grade_rest(self, ids: Sequence[list[int]]) -> None:
        """Begin to grade all completions that are not being graded; `ids` are those of the batch, row by row."""
        if self._asked is None:
            return
        # A fallback may have written the batch anew: what was graded of another text is of no use.
        self._pieces = [p for p in self._pieces if all(list(ids[row]) == own for row, own in p.ids.items())]
        begun = {row for piece in self._pieces for row in piece.ids}
        left = {row: list(own) for row, own in enumerate(ids) if row not in begun}
        if left:
            self._begin(left)

    def _begin(self, ids: Mapping[int, list[int]]) -> None:
        me: Any = self
        rows = [(self._asked or ())[row] for row in ids]
        graded = self.grader.begin(
            [row["example"] for row in rows],
            me._completions(list(ids.values())),  # on this thread: a tokenizer may not be used by two at a time
            missing=[row["missing"] for row in rows],
        )
        self._pieces.append(Piece(ids, graded))

    def _collected(self) -> list[Graded]:
        """Each completion of this process graded, in order of rows; waits for those that are not."""
        found = {row: one for piece in self._pieces for row, one in zip(piece.ids, piece.graded.result(), strict=True)}
        return [found[row] for row in sorted(found)]
