"""Writes completions with a batch that stays full: questions go in, answers come out as they are finished.

An `Ask` is one question: the stem that it shares with others (a picture and what stands before the question, or a
group's whole prompt), and the rest of its prompt. A stem is read when its first question comes, and forgotten after its
last one. The rest of a prompt is read once for the samples that are begun together. Rows whose answer has ended make
room for questions that wait. So at most `size` rows are held, and the stems that they need.

Evaluation and GRPO's rollouts (`rollout`) both write in this way. Each row draws from random numbers of its own, so
neither the size of the batch nor the order of the questions changes what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError
from medrft.models.cascade import Rows, Stems, continue_rows, read_stems
from medrft.models.encode import widen_inputs
from medrft.models.prefix import TOKEN_TYPES, plain_model
from medrft.models.sampler import build_sampler, uniform_draws, without_defaults

if TYPE_CHECKING:
    import torch

SHARE = 0.25
"""The share of the batch that must have ended before rows are replaced: each time, all keys and values are copied."""
TOLERANCE, LOW_TOLERANCE = 1e-3, 0.05
"""How far logits may be from those of a plain pass, as a share of their range: in float32, and in lower precision."""


@dataclass(frozen=True, eq=False)
class Stem:
    """What several prompts begin with. Stems are compared as objects (`eq=False`), since tensors have no plain `==`."""

    ids: list[int]
    fields: dict[str, Any]
    """Multimodal inputs, on the model's device; those with a value per token are (1, tokens)."""


@dataclass(frozen=True)
class Ask:
    """One prompt, and how often it is to be answered."""

    number: int
    """The caller's number for this question; `Written` carries it back."""
    stem: Stem
    rest: list[int]
    """The prompt's tokens after the stem, at least one."""
    samples: list[tuple[int, int]]
    """For each answer its sample number and the seed of its draws."""


@dataclass(frozen=True)
class Written:
    """One answer."""

    number: int
    sample: int
    ids: list[int]
    """Tokens, the end token included."""
    logps: list[float]
    """Log-probability of each token; empty if no temperature was given."""


@dataclass
class _Row:
    ask: Ask
    sample: int
    draws: Iterator[float]
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    done: bool = False


def write_answers(model: Any, asks: Iterable[Ask], config: Any, *, size: int) -> Iterator[Written]:
    """Yield answers as they are finished; at most `size` are being written at a time.

    `config` is a transformers generation config, greedy or sampling, without settings that look at earlier tokens, such
    as a repetition penalty; the model's own defaults are left out. The first prompt is also read in the plain way.
    Raises `ModelError` if the two differ, or if the model cannot share a prompt.
    """
    with without_defaults(plain_model(model)):
        writer = Writer(model, asks, config, size=size)
    while writer.fill():
        yield from writer.step()


class Writer:
    """Writes asks token by token: `fill` makes room and reads prompts, `step` writes a token in each row.

    `width` is the number of tokens that prompts are padded to, which settings that look at earlier tokens need. With a
    `temperature`, each token's log-probability at that temperature is kept. It is taken before any logits processor, as
    training will compute it. `verify` compares the first prompt with a plain pass. `part` is entered with `prefill`
    whenever prompts are read.
    """

    def __init__(
        self,
        model: Any,
        asks: Iterable[Ask],
        config: Any,
        *,
        size: int,
        width: int | None = None,
        temperature: float | None = None,
        verify: bool = True,
        part: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ):
        self.model, self.size, self.device = model, size, plain_model(model).device
        self.asks = _divided(asks, max(1, int(SHARE * size)))
        self.next = next(self.asks, None)
        self.width, self.temperature, self.part = width or 1, temperature, part
        self.choose = build_sampler(model, config, width=self.width)
        if self.choose.looks_back and width is None:
            raise ModelError("generation settings that look at earlier tokens cannot share a picture's stem")
        self.ends = set(self.choose.ends.tolist())
        self.rows: list[_Row] = []
        self.cache: Rows | None = None
        self.logits: Any = None
        """Logits after the newest token of each row, (N, V)."""
        self.seen: Any = None
        """Tokens of each row, (N, width + most), its prompt padded on the left; kept if the sampler looks back."""
        self.held: list[Stem] = []
        self.stems: Stems | None = None
        """Keys and values of the stems in `held`, in that order."""
        self.verified = not verify
        self.steps = 0
        """Tokens written in each place so far."""

    def fill(self) -> bool:
        """Replace finished rows by waiting ones, once enough have finished; returns whether any row is left."""
        import torch

        alive = [i for i, row in enumerate(self.rows) if not row.done]
        if alive and len(alive) > (1 - SHARE) * (self.size if self.next else len(self.rows)):
            return True
        new = self._wanted(self.size - len(alive))
        if not new and len(alive) == len(self.rows):
            return bool(alive)
        with torch.no_grad(), self.part("prefill") if new else nullcontext():
            self._drop(alive)
            self._hold([ask.stem for ask in new])
            if new:
                self._add(new)
            if self.cache is not None and self.stems is not None:
                self.cache.settle(self.stems, [self.held.index(row.ask.stem) for row in self.rows])
        return bool(self.rows)

    def step(self) -> list[Written]:
        """Write one more token in each row; returns the answers that this finished."""
        import torch

        with torch.no_grad():
            chosen = self.choose.choose(self._scores(), [row.draws for row in self.rows])
            found = self._append(chosen)
            self.steps += 1
            if self.cache is not None and not all(row.done for row in self.rows):
                self.logits = continue_rows(self.model, self.cache, chosen[:, None])
        return found

    def _append(self, chosen: torch.Tensor) -> list[Written]:
        """Add a token to each row that has not ended; returns the answers that this finished."""
        if self.seen is not None:
            where = [(i, self.width + len(row.ids)) for i, row in enumerate(self.rows) if not row.done]
            rows, columns = (list(place) for place in zip(*where, strict=True))
            self.seen[rows, columns] = chosen[rows]
        logps = [0.0] * len(self.rows)
        if self.temperature is not None:
            every = (self.logits.float() / self.temperature).log_softmax(-1)
            logps = every.gather(1, chosen[:, None])[:, 0].tolist()
        found = []
        for row, token, logp in zip(self.rows, chosen.tolist(), logps, strict=True):
            if row.done:
                continue
            row.ids.append(token)
            row.logps += [logp] * (self.temperature is not None)
            row.done = token in self.ends or len(row.ids) == self.choose.most
            if row.done:
                found.append(Written(row.ask.number, row.sample, row.ids, row.logps))
        return found

    def _scores(self) -> torch.Tensor:
        """The processed logits of each row, (N, V)."""
        import torch

        if self.seen is None:
            return self.choose.scores(self.logits.new_zeros(len(self.rows), 0, dtype=torch.long), self.logits)
        # Processors tell from the width of what they get how many tokens a row has, so rows of one length go together.
        scores = self.logits.to(torch.float32, copy=True)
        for length in sorted({len(row.ids) for row in self.rows if not row.done}):
            rows = [i for i, row in enumerate(self.rows) if not row.done and len(row.ids) == length]
            scores[rows] = self.choose.scores(self.seen[rows, : self.width + length], self.logits[rows])
        return scores

    def _wanted(self, room: int) -> list[Ask]:
        """The next asks whose samples fit into `room` rows."""
        found = []
        while self.next is not None and len(self.next.samples) <= room:
            found.append(self.next)
            room -= len(self.next.samples)
            self.next = next(self.asks, None)
        return found

    def _drop(self, alive: list[int]) -> None:
        """Go on with these rows only."""
        import torch

        if len(alive) == len(self.rows):
            return
        self.rows = [self.rows[i] for i in alive]
        if self.cache is None or not alive:
            self.cache = self.logits = self.seen = None
            return
        places = torch.tensor(alive, device=self.device)
        self.cache.keep(places)
        self.logits = self.logits[places]
        if self.seen is not None:
            self.seen = self.seen[places]

    def _hold(self, wanted: list[Stem]) -> None:
        """Forget the stems that no row uses any more, and read the new ones."""
        import torch

        wanted = list(dict.fromkeys(wanted))
        used = {row.ask.stem for row in self.rows} | {*wanted} | ({self.next.stem} if self.next else set())
        kept = [i for i, stem in enumerate(self.held) if stem in used]
        if not kept:
            self.stems = None
        elif self.stems is not None and len(kept) < len(self.held):
            self.stems = self.stems.take(torch.tensor(kept, device=self.device))
        self.held = [self.held[i] for i in kept]
        for batch in _alike([stem for stem in wanted if stem not in self.held]):
            found = read_stems(self.model, *_batched(batch, self.device))[0]
            self.stems = found if self.stems is None else self.stems.join(found)
            self.held += batch

    def _add(self, asks: list[Ask]) -> None:
        """Read what follows the stem in new prompts, once for all samples of each."""
        import torch

        assert self.stems is not None
        stems = list(dict.fromkeys(ask.stem for ask in asks))
        held = [self.held.index(stem) for stem in stems]
        ids, mask = _padded([ask.rest for ask in asks], self.device)
        cache = Rows((~mask.bool()).sum(1))
        cache.settle(self.stems.take(torch.tensor(held, device=self.device)), [stems.index(ask.stem) for ask in asks])
        logits = continue_rows(self.model, cache, ids)
        if not self.verified:
            self._verify(asks[0], logits[0])
        copies = [i for i, ask in enumerate(asks) for _ in ask.samples]
        if len(copies) > len(asks):
            places = torch.tensor(copies, device=self.device)
            cache.keep(places)
            logits = logits[places]
        if self.cache is None:
            self.cache, self.logits = cache, logits
        else:
            self.cache.join(cache)
            self.logits = torch.cat([self.logits, logits])
        self.rows += [_Row(ask, sample, uniform_draws(seed)) for ask in asks for sample, seed in ask.samples]
        if self.choose.looks_back:
            seen = self._padded_prompts([asks[i] for i in copies])
            self.seen = seen if self.seen is None else torch.cat([self.seen, seen])

    def _padded_prompts(self, asks: list[Ask]) -> torch.Tensor:
        """The prompt of each ask, padded on the left, with room for what is written, (N, width + most)."""
        import torch

        # Padded with a token that the prompt has anyway: a penalty for repetition shall not count another one.
        prompts = [ask.stem.ids + ask.rest for ask in asks]
        room = self.choose.most
        rows = [[ids[0]] * (self.width - len(ids)) + ids + [ids[0]] * room for ids in prompts]
        return torch.tensor(rows, device=self.device)

    def _verify(self, ask: Ask, logits: torch.Tensor) -> None:
        """Raise `ModelError` unless the logits after a prompt are those of a plain pass over it."""
        import torch

        ids = torch.tensor([ask.stem.ids + ask.rest], device=self.device)
        fields = widen_inputs(ask.stem.fields, after=len(ask.rest))
        plain = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), **fields, use_cache=False)
        expected = plain.logits[0, -1].float()
        apart = float((logits.float() - expected).abs().max() / (expected.max() - expected.min()))
        if not apart <= (TOLERANCE if logits.dtype == torch.float32 else LOW_TOLERANCE):
            raise ModelError(f"sharing a prompt changes this model's logits by {apart:.2g} of their range")
        self.verified = True


def _divided(asks: Iterable[Ask], size: int) -> Iterator[Ask]:
    """The same asks, split so that none has more than `size` samples."""
    for ask in asks:
        for start in range(0, len(ask.samples), size):
            yield replace(ask, samples=ask.samples[start : start + size])


def _alike(stems: list[Stem]) -> list[list[Stem]]:
    """The stems in batches whose pictures fit into one tensor."""

    def shape(stem: Stem) -> str:
        # Of inputs such as `image_grid_thw`, with a row per image, the number of rows must agree too.
        rest = {k: v.shape if k.startswith("image_") else v.shape[1:] for k, v in stem.fields.items()}
        return repr(sorted((k, tuple(v)) for k, v in rest.items() if k not in TOKEN_TYPES))

    return [list(batch) for _, batch in groupby(sorted(stems, key=shape), key=shape)]


def _batched(stems: list[Stem], device: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Token ids and mask, (U, P), and multimodal inputs of stems that are read together."""
    import torch

    ids, mask = _padded([stem.ids for stem in stems], device)
    size = ids.shape[1]
    fields = {}
    for key in stems[0].fields:
        values = [stem.fields[key] for stem in stems]
        if key in TOKEN_TYPES:
            values = [torch.nn.functional.pad(value, (size - value.shape[1], 0)) for value in values]
        fields[key] = torch.cat(values)
    return ids, mask, fields


def _padded(rows: list[list[int]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, padded on the left."""
    import torch

    size = max(map(len, rows))
    ids = torch.tensor([[0] * (size - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (size - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
