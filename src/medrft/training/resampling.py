"""Replaces groups from which nothing can be learned: those whose completions are all `correct`, or all not.

A generation batch of rows goes in, one with other examples in place of such groups comes out. The groups are told by
the recipe's binary `correct`, not by the reward. A shaped reward differs within nearly every group, even if all answers
are wrong, and training on such groups ruins a policy.

There are at most `rounds` rounds, and every process draws as many rows in each. Groups that still do not differ after
the last round train nothing: their advantages are 0. DAPO (arXiv 2503.14476, section 3.2) draws until a batch is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from trl.data_utils import prepare_multimodal_messages

from medrft.training.sharing import groups

Drawn = tuple[list[int], list[int], Any, list[float] | None]
"""One generated row: prompt ids, completion ids, completion, and log-probabilities if the sampler gives them."""


class Resamples:
    """Goes before `GradesAhead` among the bases; `self.rounds` must be set before the trainer is built."""

    rounds: int
    _ready: list[Drawn] | None = None

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        me: Any = self
        if not (self.rounds and me.model.training):
            return super()._generate_and_score_completions(inputs)  # type: ignore[misc, no-any-return]
        numbers = groups.group_numbers(len(inputs), size=me._group_size, process=me.accelerator.process_index)
        rows, flat, again = self._until_they_differ(list(inputs), numbers)
        me._metrics["train"]["resampled"].append(float(again))
        of_all = len(inputs) * int(me.accelerator.num_processes) // int(me._group_size)
        me._metrics["train"]["no_difference"].append(len(flat) / of_all)
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
        """Draw, and replace groups that do not differ, for up to `rounds` rounds; completions are left in `_ready`.

        Returns the rows, the groups that still do not differ, and how many groups were drawn again.
        """
        me: Any = self
        found = self._draw(rows, numbers)
        flat = self._flat(rows, found, numbers)
        used = set(gather_object([row["example"].id for row in rows]))
        # The same on every process, so that all choose the same examples, and another one for each batch.
        generator = torch.Generator().manual_seed(me.args.seed + 1_000_003 * (me._step + 1))
        again = 0
        for _ in range(self.rounds):
            if not flat:
                break
            again += len(flat)
            others = self._others(flat, used, generator)
            here = [row for row, number in enumerate(numbers) if number in flat]
            most = max(gather_object([len(here)]))
            wanted = here + [0] * (most - len(here))  # every process draws as many rows, or the others would wait
            new = [others.get(numbers[row], rows[row]) for row in wanted]
            drawn = self._draw(new, [numbers[row] for row in wanted])
            for row, example, made in zip(here, new, drawn, strict=False):
                rows[row], found[row] = example, made
            flat = self._flat(rows, found, numbers)
        self._ready = found
        return rows, flat, again

    def _others(self, flat: set[int], used: set[str], generator: torch.Generator) -> dict[int, dict[str, Any]]:
        """A row of another example for each group, the same on every process; a used one only if no other is left."""
        me: Any = self
        order = iter(torch.randperm(len(me.train_dataset), generator=generator).tolist())
        chosen = {}
        for number in sorted(flat):
            row = next((row for index in order if (row := me.train_dataset[index])["example"].id not in used), None)
            chosen[number] = row if row is not None else me.train_dataset[number % len(me.train_dataset)]
            used.add(chosen[number]["example"].id)
        return chosen

    def _draw(self, rows: Sequence[dict[str, Any]], numbers: list[int]) -> list[Drawn]:
        """One completion per row, by whatever generates: shared prompts, transformers or vLLM."""
        me: Any = self
        me._groups, processor = numbers, me.processing_class
        # As TRL prepares prompts in `_generate_and_score_completions`, before it calls `_generate`.
        prompts = [prepare_multimodal_messages(row["prompt"], images=row["images"]) for row in rows]
        try:
            ids, made, _, completions, logps, *_ = super()._generate(prompts)  # type: ignore[misc]
        finally:
            me.processing_class, me._once = processor, None
        return list(zip(ids, made, completions, logps or [None] * len(rows), strict=True))

    def _flat(self, rows: Sequence[dict[str, Any]], drawn: Sequence[Drawn], numbers: Sequence[int]) -> set[int]:
        """The groups, of all processes, in which all completions are correct or none is."""
        me: Any = self
        completions = me._completions([made for _, made, _, _ in drawn])
        rights = me.grader.correctness([row["example"] for row in rows], completions)
        seen: dict[int, set[bool]] = {}
        for number, right in gather_object(list(zip(numbers, rights, strict=True))):
            seen.setdefault(number, set()).update(() if right is None else (right,))
        return {number for number, values in seen.items() if len(values) < 2}

    def _generate(self, prompts: list[Any]) -> Any:
        if self._ready is None:
            return super()._generate(prompts)  # type: ignore[misc]
        me: Any = self
        ids, made, completions, logps = (list(values) for values in zip(*self._ready, strict=True))
        _, images, _ = me._tokenize_prompts(prompts)
        me._hand_over()
        me._grade_rest(made)
        return ids, made, None, completions, None if logps[0] is None else logps, {}, images, []
