"""Answers by request id, so that a request that comes again gets the same answer and teaches nothing again.

    state.json            the state, for people and other commands: written now and then, and on the way out
    state.json.served     SQLite: the state after the last batch, and the last answers, written together in one
                          transaction before any of these answers leaves

A server that learns keeps the second file. Whatever ends it, either both the answer and what it taught are in the file,
or neither, and the client that got no answer sends the same request again.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrft.errors import DataError, RunInUseError, StorageError

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, digest TEXT NOT NULL, rows INTEGER NOT NULL, body BLOB NOT NULL);
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was sent back for one request id."""

    id: str
    digest: str
    """A hash of the request's body: another body under the same id is another request."""
    rows: int
    body: bytes
    learnt: bool = False
    """Whether the state learnt from it, so that it must outlive the process."""


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """The state after a number of batches."""

    document: dict[str, Any]
    """What `state_document` made."""
    batches: int = 0
    rows: int = 0


class Ledger:
    """The file that a server which learns keeps; one process holds it at a time."""

    def __init__(self, path: Path) -> None:
        """Open or make it; raises `RunInUseError` if another server has it, `DataError` if it is another file."""
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            # Exclusive: the lock is kept until this process ends. Full: a commit has reached the disk.
            self._db.executescript("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
            self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
            self._facts: dict[str, str] = dict(self._db.execute("SELECT name, value FROM facts"))
        except sqlite3.Error as error:
            raise _cannot_open(path, error) from error

    @property
    def name(self) -> str:
        """What ties a state file to this ledger; made with it."""
        if "name" not in self._facts:
            self._facts["name"] = uuid.uuid4().hex
            with self._transaction():
                self._db.execute("INSERT INTO facts VALUES ('name', ?)", (self._facts["name"],))
        return self._facts["name"]

    @property
    def learnt(self) -> Learnt | None:
        """What the last server left, or `None` if nothing was learnt yet."""
        return Learnt(**json.loads(self._facts["learnt"])) if "learnt" in self._facts else None

    def answers(self) -> Iterator[Answer]:
        """The answers that were kept, oldest first."""
        for name, digest, rows, body in self._db.execute("SELECT id, digest, rows, body FROM answers ORDER BY n"):
            yield Answer(id=name, digest=digest, rows=rows, body=body, learnt=True)

    def commit(self, answers: Sequence[Answer], forgotten: Sequence[str], learnt: Learnt) -> None:
        """Write answers and the state that they led to, all or nothing; raises `StorageError`."""
        text = json.dumps({"document": learnt.document, "batches": learnt.batches, "rows": learnt.rows})
        with self._transaction():
            self._db.executemany(
                "INSERT INTO answers (id, digest, rows, body) VALUES (?, ?, ?, ?)",
                [(one.id, one.digest, one.rows, one.body) for one in answers],
            )
            self._db.executemany("DELETE FROM answers WHERE id = ?", [(name,) for name in forgotten])
            self._db.execute("INSERT OR REPLACE INTO facts VALUES ('learnt', ?)", (text,))

    def close(self) -> None:
        """Let go of the file; another server may then open it."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._db:  # commits, or rolls back after an error
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.Error as error:
            raise StorageError(f"cannot write {self.path}: {error}; free space there") from error


class Remembered:
    """The last answers, in memory and, where there is a ledger, on disk."""

    def __init__(self, *, rows: int, ledger: Ledger | None = None) -> None:
        """`rows`: how many rows the remembered answers may have together; the oldest are forgotten first."""
        self.limit, self.ledger = rows, ledger
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Answer] = OrderedDict()
        for answer in ledger.answers() if ledger else ():
            self._held[answer.id] = answer
        self._rows = sum(answer.rows for answer in self._held.values())
        self._gone: list[str] = []
        """Ids that are forgotten here and still in the ledger, which changes when something was learnt."""

    def find(self, name: str) -> Answer | None:
        """The answer that was given to this id."""
        with self._lock:
            return self._held.get(name)

    def add(self, answers: Sequence[Answer], learnt: Learnt | None) -> None:
        """Remember answers; with `learnt` the ledger first. Raises `StorageError`, and then remembers none of them."""
        forgotten = self._oldest(sum(answer.rows for answer in answers))
        if learnt is not None and self.ledger is not None:
            gone = [*self._gone, *(one.id for one in forgotten if one.learnt)]
            self.ledger.commit([answer for answer in answers if answer.learnt], gone, learnt)
            self._gone = []
        else:
            self._gone += [one.id for one in forgotten if one.learnt]
        with self._lock:
            for answer in forgotten:
                del self._held[answer.id]
            self._held.update((answer.id, answer) for answer in answers)
            self._rows += sum(answer.rows for answer in answers) - sum(answer.rows for answer in forgotten)

    def _oldest(self, coming: int) -> list[Answer]:
        """The answers to forget so that `coming` more rows fit."""
        found, left = [], self._rows + coming - self.limit
        for answer in self._held.values():
            if left <= 0:
                break
            found.append(answer)
            left -= answer.rows
        return found


def _cannot_open(path: Path, error: sqlite3.Error) -> RunInUseError | DataError | StorageError:
    said = str(error)
    if "locked" in said:
        return RunInUseError(f"{path} is in use by another server that learns; stop it, or name another --state")
    if "not a database" in said or "malformed" in said:
        return DataError(f"{path} is no file of medrft serve ({said}); move it away, or name another --state")
    return StorageError(f"cannot open {path}: {said}; make its folder writable, or name another --state")
