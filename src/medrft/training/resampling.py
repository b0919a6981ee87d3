"""Replaces groups from which nothing can be learned: those whose completions are all `correct`, or all not.

The difference is looked for in the recipe's binary `correct`, not in the reward. A shaped reward differs within nearly
every group, even where all answers are wrong, and training on such groups ruins a policy.

In each of at most `rounds` rounds, other examples take the place of such groups, as many on every process. Groups that
are left without a difference after the last round train nothing: their advantages are 0. DAPO (arXiv 2503.14476,
section 3.2) draws until a batch is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from trl.data_utils import prepare_multimodal_messages

from medrft.training.sharing import groups

Drawn = tuple[list[int], list[int], Any, list[float] | None]
"""One row of a generation: prompt ids, completion ids, completion, log-probabilities where the sampler gives them."""


class Resamples:
    """Goes before `SharesPrompts` among the bases; `self.rounds` must be set before the trainer is built."""

    rounds: int
    _ready: list[Drawn] | None = None

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        me: Any = self
        if not (self.rounds and me.model.training):
            return super()._generate_and_score_completions(inputs)  # type: ignore[misc, no-any-return]
        numbers = groups.group_numbers(len(inputs), size=me._group_size, process=me.accelerator.process_index)
        rows, flat, again = self._until_they_differ(list(inputs), numbers)
        me._metrics["train"]["resampled"].append(float(again))
        me._metrics["train"]["no_difference"].append(len(flat) / self._count(len(inputs)))
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(rows)  # type: ignore[misc]
        finally:
            self._ready = None
        dead = torch.tensor([number in flat for number in numbers], device=output["advantages"].device)
        output["advantages"] = output["advantages"].masked_fill(dead, 0.0)
        return output

    def _until_they_differ(
        self, rows: list[dict[str, Any]], numbers: list[int]
    ) -> tuple[list[dict[str, Any]], set[int], int]:
        """Rows with their completions in `_ready`, the groups left without a difference, and how many were redrawn."""
        me: Any = self
        found = self._draw(rows, numbers)
        flat = self._flat(rows, found, numbers)
        used = set(gather_object([row["example"].id for row in rows]))
        generator = torch.Generator().manual_seed(me.args.seed + 1_000_003 * (me._step + 1))
        again = 0
        for _ in range(self.rounds):
            if not flat:
                break
            again += len(flat)
            others = self._others(flat, used, generator)
            here = [row for row, number in enumerate(numbers) if number in flat]
            most = max(gather_object([len(here)]))
            wanted = here + [0] * (most - len(here))  # every process draws as many rows
            new = [others.get(numbers[row], rows[row]) for row in wanted]
            drawn = self._draw(new, [numbers[row] for row in wanted])
            for row, example, made in zip(here, new, drawn, strict=False):
                rows[row], found[row] = example, made
            flat = self._flat(rows, found, numbers)
        self._ready = found
        return rows, flat, again

    def _others(self, flat: set[int], used: set[str], generator: torch.Generator) -> dict[int, dict[str, Any]]:
        """Another example's row for each group, alike on every process; used ones only where no other is left."""
        me: Any = self
        order = iter(torch.randperm(len(me.train_dataset), generator=generator).tolist())
        chosen = {}
        for number in sorted(flat):
            row = next((row for index in order if (row := me.train_dataset[index])["example"].id not in used), None)
            chosen[number] = row if row is not None else me.train_dataset[number % len(me.train_dataset)]
            used.add(chosen[number]["example"].id)
        return chosen

    def _draw(self, rows: Sequence[dict[str, Any]], numbers: list[int]) -> list[Drawn]:
        """One completion per row, through whatever generates."""
        me: Any = self
        me._groups, processor = numbers, me.processing_class
        prompts = [prepare_multimodal_messages(row["prompt"], images=row["images"]) for row in rows]
        try:
            ids, made, _, completions, logps, *_ = super()._generate(prompts)  # type: ignore[misc]
        finally:
            me.processing_class, me._once = processor, None
        return list(zip(ids, made, completions, logps or [None] * len(rows), strict=True))

    def _flat(self, rows: Sequence[dict[str, Any]], drawn: Sequence[Drawn], numbers: Sequence[int]) -> set[int]:
        """Groups, of all processes, in which no completion is correct or each is."""
        me: Any = self
        completions = me._completions([made for _, made, _, _ in drawn])
        rights = me.grader.correctness([row["example"] for row in rows], completions)
        seen: dict[int, set[bool]] = {}
        for number, right in gather_object(list(zip(numbers, rights, strict=True))):
            seen.setdefault(number, set()).update(() if right is None else (right,))
        return {number for number, values in seen.items() if len(values) < 2}

    def _count(self, rows: int) -> int:
        """Groups of a generation batch."""
        me: Any = self
        return rows * int(me.accelerator.num_processes) // int(me._group_size)

    def _generate(self, prompts: list[Any]) -> Any:
        if self._ready is None:
            return super()._generate(prompts)  # type: ignore[misc]
        me: Any = self
        ids, made, completions, logps = (list(values) for values in zip(*self._ready, strict=True))
        _, images, _ = me._tokenize_prompts(prompts)
        me._hand_over()
        return ids, made, None, completions, None if logps[0] is None else logps, {}, images, []
