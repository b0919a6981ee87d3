"""Runs a reward of a user's file in a child process: items go in, scores and problems come out.

Each calling style is that of the trainer it was written for:

    trl        f(prompts=…, completions=[[{"role": "assistant", "content": …}]], **columns) -> list[float | None]
    verl       compute_score(data_source, solution_str, ground_truth, extra_info=None, **kw) -> float | {"score": …}
    swift      class(ORM): __call__(completions: list[str], solution=None, **kw) -> list[float | None]
    openrlhf   reward_func(queries, prompts, labels, **kw) -> {"rewards": …}
    medrft     a scorer of ours: a class or function of items

The child gets plain rows and returns plain numbers. If a batch takes longer than the limit, the child is killed.
"""

from __future__ import annotations

import ast
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from medrft.audit.calls import STYLES, load_caller
from medrft.errors import RecipeError, unknown_name
from medrft.types import Item, Score

LIMIT = 60.0
"""Seconds a batch may take; the first may take four times as long, for what it loads."""
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
START_LIMIT = 120.0
"""Seconds that importing a file may take: some import torch."""


@dataclass
class Answered:
    """The answer of a foreign reward to one batch."""

    scores: list[Score]
    problems: list[dict[str, Any]] = field(default_factory=list)
    """`{"name", "says", "row"}`: raised, hung, wrong length, wrong type, NaN."""
    seconds: float = 0.0
    calls: int = 1


@dataclass
class Foreign:
    """One reward function of a user's file, in a child process that can be killed."""

    spec: str
    style: str
    limit: float = LIMIT
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column that the reward expects -> what of an item it holds, such as `{"solution": "reference"}`."""
    _process: Any = field(default=None, repr=False)
    _pipe: Connection | None = field(default=None, repr=False)
    facts: dict[str, Any] = field(default_factory=dict)
    """What the child said when it had loaded the file: `Caller.facts`."""
    hung: bool = False
    """It hung or died once, and is not called again."""
    warm: bool = False
    """It has answered a batch, so the shorter limit holds."""

    def start(self) -> dict[str, Any]:
        """Import the file in the child; raises `RecipeError` in one line when that fails."""
        # Not fork: a child forked from a process with threads may inherit a lock that nobody will ever release.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self.spec, self.style, dict(self.columns))
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # with our copy open, the end of the child would not end the pipe, and we would wait in vain
        self._pipe = ours
        answer = self._receive(max(self.limit, START_LIMIT))
        if answer is None:
            self.close()
            raise RecipeError(f"{self.spec} could not be imported within {START_LIMIT:.0f} s; is there work at import?")
        if "error" in answer:
            self.close()
            raise RecipeError(f"{self.spec} cannot be used as a {self.style} reward: {answer['error']}")
        self.facts = answer
        return answer

    def score(self, items: Sequence[Item]) -> Answered:
        """Scores of a batch. What goes wrong is listed, not raised; once it has hung or died it is not called again."""
        if self.hung:
            return Answered([None] * len(items))
        if self._pipe is None:
            self.start()
        assert self._pipe is not None
        limit = self.limit if self.warm else 4 * self.limit
        try:
            self._pipe.send([asdict(item) for item in items])
            answer = self._receive(limit)
            self.warm = True
        except (BrokenPipeError, EOFError, ConnectionResetError):
            answer = {"died": True}
        if answer is None or "died" in answer:
            self.close()
            self.hung = True
            name = "hangs" if answer is None else "dies"
            says = (
                f"a batch of {len(items)} took longer than {limit:g} s"
                if answer is None
                else f"its process ended while it scored a batch of {len(items)}"
            )
            return Answered([None] * len(items), [{"name": name, "says": says, "row": 0}])
        return Answered(answer["scores"], answer["problems"], answer["seconds"])

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process, self._pipe = None, None

    def _receive(self, limit: float) -> dict[str, Any] | None:
        """The child's answer; `None` after `limit` seconds, and `died` if its process ended."""
        assert self._pipe is not None
        try:
            answer: dict[str, Any] | None = self._pipe.recv() if self._pipe.poll(limit) else None
        except (EOFError, ConnectionResetError):
            return {"died": True, "error": "its process ended without a word (a crash, or exit() at import)"}
        return answer


def _serve(pipe: Connection, spec: str, style: str, columns: dict[str, str]) -> None:
    """What the child does: load the reward once, then answer batches until the pipe closes."""
    caller = load_caller(spec, style, columns)
    if isinstance(caller, str):
        pipe.send({"error": caller})
        return
    pipe.send(caller.facts())
    while True:
        try:
            rows = pipe.recv()
        except EOFError:
            return
        pipe.send(caller.answer([Item(**row) for row in rows]))


def style_of(spec: str, style: str | None) -> str:
    """The calling style of `file.py:name`: the one given, else the one its parameters fit. The file is not run.

    Raises `RecipeError` when there is no such file or name, or its parameters fit no style.
    """
    if style is not None:
        if style not in STYLES:
            raise unknown_name("style", style, STYLES)
        return style
    node = _definition(spec)
    is_class = isinstance(node, ast.ClassDef)
    function: ast.AST | None = node
    if isinstance(node, ast.ClassDef):
        calls = [inner for inner in node.body if isinstance(inner, FUNCTION) and inner.name == "__call__"]
        function = calls[0] if calls else None
    if not isinstance(function, FUNCTION):
        return "medrft"
    names = {argument.arg for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    if "completions" in names:
        return "swift" if is_class else "trl"
    if names & {"solution_str", "ground_truth"}:
        return "verl"
    if names & {"queries", "labels"}:
        return "openrlhf"
    if is_class or names & {"items", "item", "rows", "batch"}:
        return "medrft"
    raise RecipeError(f"{spec} takes {sorted(names)}, which fits no style; pass --style {' | '.join(STYLES)}")


def _definition(spec: str) -> ast.AST | None:
    """The syntax tree of a name's definition in a file; `None` for a name that is assigned or imported."""
    where, name = split_spec(spec)
    tree = parse_file(where)
    bound = bound_names(tree.body)
    if name in bound:
        return bound[name]
    raise unknown_name(f"name in {where}", name, [known for known in bound if not known.startswith("_")])


def bound_names(body: Sequence[ast.stmt]) -> dict[str, ast.AST | None]:
    """Names that a file binds at its top level, also in `if`, `try` and `with`: functions and classes with their trees,
    other names with `None`."""
    found: dict[str, ast.AST | None] = {}
    for node in body:
        if isinstance(node, FUNCTION | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.ImportFrom | ast.Import):
            found |= {(alias.asname or alias.name).partition(".")[0]: None for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id: None for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.If | ast.Try | ast.With):
            inner = [*node.body, *getattr(node, "orelse", ()), *getattr(node, "finalbody", ())]
            inner += [one for handler in getattr(node, "handlers", ()) for one in handler.body]
            found |= bound_names(inner)
    return found


def parse_file(where: Path) -> ast.Module:
    """A file's syntax tree; raises `RecipeError` if the file is missing or is not valid Python."""
    if not where.is_file():
        raise RecipeError(f"no file at {where}; a reward of your own is file.py:name")
    try:
        return ast.parse(where.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise RecipeError(f"{where} is not Python that runs here: {error}") from error


def split_spec(spec: str) -> tuple[Path, str]:
    """Path and name of `file.py:name`."""
    where, _, name = spec.rpartition(":")
    return Path(where), name


def swallowed_errors(spec: str) -> list[str]:
    """Places where a reward turns every error into a number, such as `except Exception: reward = 0.0`.

    Looks through its definition and those it uses in the same file; nothing is run.
    """
    where, name = split_spec(spec)
    handlers = [node for part in _reached(parse_file(where), name) for node in ast.walk(part)]
    found = []
    for node in handlers:
        if not isinstance(node, ast.ExceptHandler) or not _broad(node):
            continue
        inner = list(ast.walk(node))
        numbers = [n for n in inner if isinstance(n, ast.Constant) and type(n.value) in (int, float)]
        if numbers and not any(isinstance(n, ast.Raise) for n in inner):
            found.append(f"{where.name}, line {node.lineno}: every error becomes {numbers[0].value!r}")
    return found


def _reached(tree: ast.Module, name: str) -> list[ast.AST]:
    """A definition and all those of its file that it refers to, directly or not; the whole file for other names."""
    known = {node.name: node for node in tree.body if isinstance(node, FUNCTION | ast.ClassDef)}
    if name not in known:
        return [tree]
    wanted, reached = [name], dict.fromkeys([name])
    while wanted:
        used = {node.id for node in ast.walk(known[wanted.pop()]) if isinstance(node, ast.Name)}
        fresh = [other for other in known if other in used and other not in reached]
        wanted += fresh
        reached |= dict.fromkeys(fresh)
    return [known[one] for one in reached]


def _broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or getattr(kind, "id", "") in ("Exception", "BaseException") for kind in kinds)
