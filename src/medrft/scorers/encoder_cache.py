"""From a text to its embeddings without the model: a bounded table in memory and, if asked for, an SQLite file."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from medrft.errors import naming_extras

with naming_extras("encoder"):
    import torch

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Token ids (L,), token vectors (L, D), sentence vector (D,)."""


class Remembered(Generic[K, V]):
    """A table that drops the least recently used entries once its values weigh more than `limit` bytes."""

    def __init__(self, limit: int, weigh: Callable[[V], int]) -> None:
        self.limit = limit
        self.weigh = weigh
        self.held = 0
        self.table: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, or `None`; it becomes the most recently used one."""
        value = self.table.get(key)
        if value is not None:
            self.table.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember a value, and drop the least recently used ones beyond the limit."""
        if key in self.table:
            return
        self.table[key] = value
        self.held += self.weigh(value)
        while self.held > self.limit and len(self.table) > 1:
            _, old = self.table.popitem(last=False)
            self.held -= self.weigh(old)

    def clear(self) -> None:
        """Forget everything."""
        self.table.clear()
        self.held = 0


class DiskCache:
    """Embeddings in one SQLite file, keyed by model, revision, settings and text; safe for several processes."""

    def __init__(self, folder: Path, *, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.key = key
        self.path = folder / "embeddings.sqlite"
        with self._open() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE IF NOT EXISTS e (k BLOB PRIMARY KEY, ids BLOB, tokens BLOB, sentence BLOB)")

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)

    def _digest(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.key}\0{text}".encode()).digest()

    def get_many(self, texts: Sequence[str]) -> dict[str, Tensors]:
        """The embeddings of those texts that are on disk."""
        found = {}
        database = self._open()
        for text in texts:
            row = database.execute("SELECT ids, tokens, sentence FROM e WHERE k = ?", (self._digest(text),)).fetchone()
            if row is not None:
                ids = torch.from_numpy(np.frombuffer(row[0], dtype=np.int64).copy())
                tokens = torch.from_numpy(np.frombuffer(row[1], dtype=np.float32).copy()).reshape(len(ids), -1)
                found[text] = (ids, tokens, torch.from_numpy(np.frombuffer(row[2], dtype=np.float32).copy()))
        database.close()
        return found

    def put_many(self, embeddings: Mapping[str, Tensors]) -> None:
        """Write embeddings; what another process has written already is kept."""
        rows = [
            (self._digest(text), *(tensor.cpu().numpy().tobytes() for tensor in tensors))
            for text, tensors in embeddings.items()
        ]
        database = self._open()
        with database:
            database.executemany("INSERT OR IGNORE INTO e VALUES (?, ?, ?, ?)", rows)
        database.close()
