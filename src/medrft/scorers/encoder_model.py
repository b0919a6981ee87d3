"""From pairs of strings to BERTScore F1 and cosine, by an encoder that reads each distinct string once.

Shapes: N strings, L tokens, D features. Nothing is padded: `encoder_flat` lays strings end to end, and models that it
does not know get batches of one length. On CPU several batches run side by side, with one thread each. So the numbers
of a string do not depend on its neighbours.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from medrft.errors import ModelError, naming_extras
from medrft.scorers.encoder_cache import DiskCache, Remembered
from medrft.scorers.encoder_flat import Run, can_flatten, flat_inputs, runs_of
from medrft.scorers.encoder_load import load_encoder

with naming_extras("encoder"):
    import torch

BUCKET = 8
TOKENS_CPU, TOKENS_GPU = 1024, 1 << 16
"""Tokens per batch."""
FEWEST_TOKENS = 32
"""Batches of fewer tokens are filled up: matrix products of a few rows take another path, which rounds otherwise."""
FLOOR = 0.0
"""A token whose best similarity is negative counts 0; the package bert-score does the same wherever it pads a batch."""
MATCH_CELLS = 1 << 21
"""The most pairs of tokens that are matched at once, to bound the memory of BERTScore."""


class Encoded(NamedTuple):
    """One string's embeddings: unit token vectors (L, D), their weights (L,), and the unit sentence vector (D,)."""

    tokens: torch.Tensor
    weights: torch.Tensor
    sentence: torch.Tensor
    length: int

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return int(4 * (self.tokens.numel() + self.weights.numel() + self.sentence.numel()))


class Encoder:
    """Scores pairs of strings by one sentence-transformers or hub model."""

    def __init__(
        self,
        name: str,
        *,
        revision: str | None = None,
        layer: int | None = None,
        dtype: str = "auto",
        cache_dir: str | None = None,
        idf_corpus: str | None = None,
        device: str | None = None,
    ) -> None:
        """Load the model; raises `ModelError` with a way out if it is not there."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = choose_dtype(dtype, self.device)
        transformer, self.tokenizer, self.max_length, self.pool = load_encoder(name, revision, self.device)
        self.transformer = transformer.to(self.dtype)
        depth = int(self.transformer.config.num_hidden_layers)
        if layer is not None and not 0 <= layer <= depth:
            raise ModelError(f"encoder.layer is {layer}; this encoder has layers 0 to {depth}")
        self.layer = layer
        self.flat = can_flatten(self.transformer)
        self.embeddings: Remembered[str, Encoded] = Remembered(256 << 20, lambda encoded: encoded.nbytes)
        self.pairs: Remembered[tuple[str, str], tuple[float, float]] = Remembered(64 << 20, lambda _: 400)
        key = (name, revision, layer, self.dtype, self.max_length, _fingerprint(name))
        self.disk = DiskCache(Path(cache_dir), key="|".join(map(str, key))) if cache_dir else None
        self.idf = self._count(idf_corpus) if idf_corpus else None

    def pair_scores(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, float]]:
        """(BERTScore F1, cosine) of each (answer, reference); remembered."""
        found = {pair: self.pairs.get(pair) for pair in dict.fromkeys(pairs)}
        missing = [pair for pair, score in found.items() if score is None]
        if missing:
            encoded = self.encode({text for pair in missing for text in pair})
            for pair, score in zip(missing, self._match(missing, encoded), strict=True):
                found[pair] = score
                self.pairs.put(pair, score)
        return [found[pair] or (0.0, 0.0) for pair in pairs]

    def forget(self) -> None:
        """Empty the memory; for benchmarks."""
        self.embeddings.clear()
        self.pairs.clear()

    def encode(self, texts: Iterable[str]) -> dict[str, Encoded]:
        """Embeddings of each distinct text, from memory, disk or the model."""
        found = {text: self.embeddings.get(text) for text in sorted(set(texts))}
        missing = [text for text, encoded in found.items() if encoded is None]
        if self.disk is not None and missing:
            kept = self.disk.get_many(missing)
            found |= {text: self._weighted(*tensors) for text, tensors in kept.items()}
            missing = [text for text in missing if text not in kept]
        if missing:
            fresh = self._forward(missing)
            if self.disk is not None:
                self.disk.put_many({text: (ids, encoded[0], encoded[2]) for text, (ids, encoded) in fresh.items()})
            found |= {text: encoded for text, (_, encoded) in fresh.items()}
        complete = {text: encoded for text, encoded in found.items() if encoded is not None}
        for text, encoded in complete.items():
            self.embeddings.put(text, encoded)
        return complete

    def _forward(self, texts: Sequence[str]) -> dict[str, tuple[torch.Tensor, Encoded]]:
        """Token ids and embeddings of texts that are neither in memory nor on disk."""
        rows = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        order = sorted(range(len(texts)), key=lambda i: (len(rows["input_ids"][i]), texts[i]))
        size = TOKENS_GPU if self.device.type == "cuda" else TOKENS_CPU
        chunks = list(_chunks(order, [len(ids) for ids in rows["input_ids"]], size, mixed=self.flat))
        with _side_by_side(self.device) as run:
            done = list(run(lambda chunk: self._forward_chunk(rows, chunk), chunks))
        return {
            texts[i]: result
            for chunk, results in zip(chunks, done, strict=True)
            for i, result in zip(chunk, results, strict=True)
        }

    def _forward_chunk(self, rows: Any, chunk: Sequence[int]) -> list[tuple[torch.Tensor, Encoded]]:
        """Run one batch through the model; its first string is repeated if there are fewer than `FEWEST_TOKENS`."""
        short = FEWEST_TOKENS - sum(len(rows["input_ids"][i]) for i in chunk)
        extra = max(0, math.ceil(short / len(rows["input_ids"][chunk[0]])))
        filled = [*[chunk[0]] * extra, *chunk]
        runs = runs_of([len(rows["input_ids"][i]) for i in filled])
        with torch.inference_mode():
            last, chosen = self._states(rows, filled, runs)
            chosen = torch.nn.functional.normalize(chosen.float(), dim=-1)
            done = []
            for run in runs:
                shape = (run.rows, run.length)
                vectors = chosen[run.span].unflatten(0, shape)
                sentences = self.pool(last[run.span].float().unflatten(0, shape)).float()
                sentences = torch.nn.functional.normalize(sentences, dim=-1)
                done += [(vectors[row].clone(), sentences[row].clone()) for row in range(run.rows)]
        ids = [torch.tensor(rows["input_ids"][i]) for i in chunk]
        return [(token, self._weighted(token, *pair)) for token, pair in zip(ids, done[extra:], strict=True)]

    def _states(self, rows: Any, filled: Sequence[int], runs: Sequence[Run]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (T, D) of the last layer and of the one for BERTScore."""
        if self.flat:
            inputs = flat_inputs(self.transformer, [rows["input_ids"][i] for i in filled], runs, self.device)
        else:
            inputs = {key: torch.tensor([rows[key][i] for i in filled], device=self.device) for key in rows}
        states = self.transformer(**inputs, output_hidden_states=self.layer is not None, return_dict=True)
        last = states.last_hidden_state.flatten(0, 1)
        return last, last if self.layer is None else states.hidden_states[self.layer].flatten(0, 1)

    def _weighted(self, ids: torch.Tensor, tokens: torch.Tensor, sentence: torch.Tensor) -> Encoded:
        """The string with its tokens' weights: 0 for the marks of begin and end, else 1 or the idf; they sum to 1."""
        special = {self.tokenizer.cls_token_id, self.tokenizer.sep_token_id}
        idf = self.idf
        raw = [0.0 if t in special else idf.get(t, idf[-1]) if idf else 1.0 for t in ids.tolist()]
        total = math.fsum(raw) or 1.0
        weights = torch.tensor([weight / total for weight in raw])
        return Encoded(tokens.to(self.device), weights.to(self.device), sentence.to(self.device), len(ids))

    def _count(self, corpus: str) -> dict[int, float]:
        """Inverse document frequencies log((N + 1) / (n + 1)) of a file's lines; key -1 for unseen tokens."""
        lines = [line.strip() for line in Path(corpus).read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines:
            raise ModelError(f"{corpus} (idf_corpus) holds no line; write one reference a line there")
        rows = self.tokenizer(lines, truncation=True, max_length=self.max_length)["input_ids"]
        counts = Counter(token for ids in rows for token in set(ids))
        return {-1: math.log(len(lines) + 1)} | {t: math.log((len(lines) + 1) / (n + 1)) for t, n in counts.items()}

    def _match(self, pairs: Sequence[tuple[str, str]], encoded: dict[str, Encoded]) -> list[tuple[float, float]]:
        """Scores of pairs whose strings are encoded, in batches of similar lengths."""
        sizes = [(_padded(encoded[a].length), _padded(encoded[r].length)) for a, r in pairs]
        groups: dict[tuple[int, int], list[int]] = {}
        for i, size in enumerate(sizes):
            groups.setdefault(size, []).append(i)
        scores: list[tuple[float, float]] = [(0.0, 0.0)] * len(pairs)
        for size, members in groups.items():
            step = max(1, MATCH_CELLS // (size[0] * size[1]))
            for start in range(0, len(members), step):
                chunk = members[start : start + step]
                both = [(encoded[pairs[i][0]], encoded[pairs[i][1]]) for i in chunk]
                for i, score in zip(chunk, _match_batch(both, size), strict=True):
                    scores[i] = score
        return scores


def _match_batch(both: Sequence[tuple[Encoded, Encoded]], size: tuple[int, int]) -> list[tuple[float, float]]:
    """BERTScore F1 and cosine of pairs padded to `size` = (answer tokens, reference tokens)."""
    with torch.inference_mode():
        answers, references = _stack([a for a, _ in both], size[0]), _stack([r for _, r in both], size[1])
        similar = answers[0] @ references[0].transpose(1, 2)  # (N, La, Lr)
        similar = similar.masked_fill(~answers[2][:, :, None] | ~references[2][:, None, :], -1.0)
        precision = (similar.amax(2).clamp(min=FLOOR) * answers[1]).sum(1)
        recall = (similar.amax(1).clamp(min=FLOOR) * references[1]).sum(1)
        total = precision + recall
        f1 = torch.where(total > 0, 2 * precision * recall / total.clamp(min=1e-9), torch.zeros_like(total))
        empty = (answers[1].sum(1) == 0) | (references[1].sum(1) == 0)
        cosine = (torch.stack([a.sentence for a, _ in both]) * torch.stack([r.sentence for _, r in both])).sum(1)
        return list(zip(f1.masked_fill(empty, 0.0).tolist(), cosine.masked_fill(empty, 0.0).tolist(), strict=True))


def _stack(encoded: Sequence[Encoded], width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token vectors (N, width, D), weights (N, width) and mask (N, width)."""
    tokens = torch.nn.utils.rnn.pad_sequence([one.tokens for one in encoded], batch_first=True)
    weights = torch.nn.utils.rnn.pad_sequence([one.weights for one in encoded], batch_first=True)
    missing = width - tokens.shape[1]  # always padded to `width`, so that no pair's numbers depend on its neighbours
    tokens = torch.nn.functional.pad(tokens, (0, 0, 0, missing))
    weights = torch.nn.functional.pad(weights, (0, missing))
    lengths = torch.tensor([one.length for one in encoded], device=tokens.device)
    return tokens, weights, torch.arange(width, device=tokens.device) < lengths[:, None]


def _padded(length: int) -> int:
    return math.ceil(length / BUCKET) * BUCKET


def _chunks(order: Sequence[int], lengths: Sequence[int], size: int, *, mixed: bool) -> Iterator[list[int]]:
    """Batches of at most `size` tokens from strings sorted by length; of one length each unless `mixed`."""
    chunk: list[int] = []
    held = 0
    for i in order:
        if chunk and (held + lengths[i] > size or not (mixed or lengths[i] == lengths[chunk[0]])):
            yield chunk
            chunk, held = [], 0
        chunk.append(i)
        held += lengths[i]
    if chunk:
        yield chunk


@contextmanager
def _side_by_side(device: torch.device) -> Iterator[Any]:
    """A `map` over batches: on CPU one batch per thread, each with one torch thread; elsewhere one after another."""
    threads = torch.get_num_threads()
    if device.type != "cpu":
        yield map
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max_workers=threads) as pool:
            yield pool.map if threads > 1 else map
    finally:
        torch.set_num_threads(threads)


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype for a setting; `auto` is float32, because bfloat16 moves a cosine by up to 0.01.

    That is more than the differences between completions that a reward has to see. Raises `ModelError`.
    """
    if dtype == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ModelError("encoder.dtype is bfloat16, which this GPU lacks; use float32")
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def _fingerprint(name: str) -> str:
    """Sizes and times of a local model's weight files, for the cache key: a changed folder is another model."""
    files = sorted(Path(name).glob("*.safetensors")) if os.path.isdir(name) else []
    return ",".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


@lru_cache(maxsize=4)
def get_encoder(
    name: str, revision: str | None, layer: int | None, dtype: str, cache_dir: str | None, idf_corpus: str | None
) -> Encoder:
    """The encoder of this process for these settings; loaded once."""
    return Encoder(name, revision=revision, layer=layer, dtype=dtype, cache_dir=cache_dir, idf_corpus=idf_corpus)
