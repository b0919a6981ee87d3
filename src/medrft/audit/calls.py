"""Calls a reward as its trainer would: items go in, scores and a list of problems come out.

One method per calling style passes what that trainer passes, and reads what it returns. This runs in the child process
that `foreign` starts.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import math
import pickle
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrft.errors import in_one_line
from medrft.rewards.contracts import CONTRACTS, USUAL_COLUMNS
from medrft.scorers.custom import load_custom
from medrft.types import Item, Score, Scorer
from medrft.user_code import call_safely

STYLES = (*(name for name, contract in CONTRACTS.items() if contract.audited), "medrft")
OURS = ("reference", "references", "question", "options", "kind", "answer")
"""What of an item a column of a foreign data set may hold."""
LISTS = ("references", "answers")
COMMON = {
    name: "reference" if field == "references" and name not in LISTS else field for name, field in USUAL_COLUMNS.items()
}
"""Column names that are known without `--column`, and the part of an item that each holds."""


@dataclass
class Caller:
    """One loaded reward, with the style it is called in and the columns it asks for."""

    function: Any
    style: str
    columns: Mapping[str, str]
    plain: bool = False
    """TRL style: it reads strings instead of message lists."""
    settled: bool = False
    """Whether a first batch has shown if it reads strings or messages."""

    def facts(self) -> dict[str, Any]:
        """What is known before any call: why it cannot be pickled, and why TRL could not call it (`None` if it can)."""
        try:
            pickle.loads(pickle.dumps(self.function))
            problem = None
        except (pickle.PicklingError, AttributeError, TypeError, ModuleNotFoundError, ImportError) as error:
            problem = str(error)
        return {"ready": True, "not_picklable": problem, "signature": self._signature()}

    def _signature(self) -> str | None:
        """Why TRL could not call it, or `None`. We can call it all the same: we pass only what it takes."""
        if self.style != "trl":
            return None
        kinds = [parameter.kind for parameter in inspect.signature(self.function).parameters.values()]
        if inspect.Parameter.VAR_KEYWORD in kinds:
            return None
        return "takes no **kwargs, but TRL also passes completion_ids, trainer_state, log_extra and every column"

    def answer(self, items: list[Item]) -> dict[str, Any]:
        """Scores of a batch and all that went wrong. A batch that raises is tried again row by row."""
        started = time.perf_counter()
        problems: list[dict[str, Any]] = []
        scores = self._batch(items, problems)
        if scores is None and self.style == "trl" and not self.settled:
            scores = self._as_strings(items, problems)
        self.settled = True
        if scores is None:
            scores = self._row_by_row(items, problems)
        return {"scores": scores, "problems": problems, "seconds": time.perf_counter() - started}

    def _as_strings(self, items: list[Item], problems: list[dict[str, Any]]) -> list[Score] | None:
        """The first batch again with completions as strings: some TRL rewards read only those."""
        found: list[dict[str, Any]] = []
        self.plain = True
        scores = self._batch(items, found)
        self.plain = scores is not None
        if self.plain:
            says = "it reads completions as strings, but with images TRL passes lists of messages"
            problems[:] = [{"name": "plain_text", "says": says, "row": 0}, *found]
        return scores

    def _row_by_row(self, items: list[Item], problems: list[dict[str, Any]]) -> list[Score]:
        """Scores of each row called alone. If no row raises by itself, the problem of the batch stays listed."""
        found: list[dict[str, Any]] = []
        scores: list[Score] = []
        for number, item in enumerate(items):
            own: list[dict[str, Any]] = []
            row = self._batch([item], own)
            scores.append(row[0] if row else None)
            found += [{**problem, "row": number} for problem in own]
        if found:
            problems[:] = found
        return scores

    def _batch(self, items: list[Item], problems: list[dict[str, Any]]) -> list[Score] | None:
        """Scores, or `None` when the call as a whole failed."""
        made, error = call_safely(lambda: self._call(items))
        if error is not None:
            problems.append({"name": "raises", "says": in_one_line(error), "row": 0})
            return None
        return _numbers(made, len(items), problems)

    def _call(self, items: list[Item]) -> Any:
        return {
            "trl": self._trl,
            "verl": self._verl,
            "swift": self._swift,
            "openrlhf": self._openrlhf,
            "medrft": self.function,
        }[self.style](items)

    def _columns(self, items: Sequence[Item]) -> dict[str, list[Any]]:
        """The columns of a data set: metadata, the usual names of a reference and a question, and the user's."""
        table: dict[str, list[Any]] = {
            key: [item.metadata.get(key) for item in items]
            for key in dict.fromkeys(key for item in items for key in item.metadata)
        }
        for name, ours in {**COMMON, **self.columns}.items():
            table[name] = [_ours(item, ours) for item in items]
        return table

    def _trl(self, items: list[Item]) -> Any:
        texts = [item.completion for item in items]
        prompts = [item.question or "" for item in items]
        table = {
            **self._columns(items),
            "prompts": prompts if self.plain else [[{"role": "user", "content": text}] for text in prompts],
            "completions": texts if self.plain else [[{"role": "assistant", "content": text}] for text in texts],
            "completion_ids": [list(range(item.n_tokens or 0)) for item in items],
            "trainer_state": types.SimpleNamespace(global_step=0, max_steps=1, epoch=0.0),
            "log_extra": lambda column, values: None,
            "log_metric": lambda name, value: None,
        }
        return _run(self.function(**_accepted(self.function, table)))

    def _swift(self, items: list[Item]) -> Any:
        table = {**self._columns(items), "trainer_state": types.SimpleNamespace(global_step=0, max_steps=1)}
        accepted = _accepted(self.function.__call__, table)
        return _run(self.function([item.completion for item in items], **accepted))

    def _openrlhf(self, items: list[Item]) -> Any:
        prompts = [item.question or "" for item in items]
        queries = [f"{prompt}\n{item.completion}" for prompt, item in zip(prompts, items, strict=True)]
        made = _run(self.function(queries, prompts, [_ours(item, "reference") for item in items]))
        return made["rewards"] if isinstance(made, Mapping) else made

    def _verl(self, items: list[Item]) -> Any:
        scores, keys = [], None
        for item in items:
            table = {
                "data_source": "medrft_audit",
                "solution_str": item.completion,
                "ground_truth": _ours(item, "reference"),
                "extra_info": {"question": item.question, "options": list(item.options), "split": "train", "index": 0},
            }
            made = _run(self.function(**_accepted(self.function, table)))
            if isinstance(made, Mapping):
                if "score" not in made:
                    raise KeyError(f"verl needs the key 'score' in the returned dict, got {sorted(made)}")
                if keys is not None and set(made) != keys:
                    raise KeyError(f"verl takes its columns from the first row: keys {sorted(keys)} and {sorted(made)}")
                keys = set(made)
                made = made["score"]
            scores.append(made)
        return scores


def _accepted(function: Callable[..., Any], table: dict[str, Any]) -> dict[str, Any]:
    """Those arguments of a table that a function takes; all of them if it has `**kwargs`."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return table
    return {key: value for key, value in table.items() if key in parameters}


def _ours(item: Item, name: str) -> Any:
    if name == "reference":
        return item.references[0] if item.references else None
    value = getattr(item, name)
    return list(value) if isinstance(value, tuple) else value


def _run(made: Any) -> Any:
    """The value of a call, awaited if it is a coroutine: trainers take async rewards too."""
    return asyncio.run(_await(made)) if inspect.isawaitable(made) else made


async def _await(made: Any) -> Any:
    return await made


def _numbers(made: Any, expected: int, problems: list[dict[str, Any]]) -> list[Score]:
    """A returned batch as numbers; what is not a finite number is unscored and listed as a problem."""
    if hasattr(made, "tolist"):  # a numpy array or a tensor, neither of which is a list
        made = made.tolist()
    if not isinstance(made, list | tuple):
        problems.append({"name": "wrong_type", "says": f"returned {type(made).__name__}, not a list", "row": 0})
        return [None] * expected
    if len(made) != expected:
        problems.append({"name": "wrong_length", "says": f"returned {len(made)} scores for {expected} rows", "row": 0})
        return [None] * expected
    return [_number(value, row, problems) for row, value in enumerate(made)]


def _number(value: Any, row: int, problems: list[dict[str, Any]]) -> Score:
    if value is None:
        return None
    # np.float32 and a tensor of one number are no float, though np.float64 is.
    if hasattr(value, "item") and not isinstance(value, int | float):
        value = value.item()
    if not isinstance(value, int | float):
        problems.append({"name": "wrong_type", "says": f"a score is {type(value).__name__} {value!r:.60}", "row": row})
        return None
    if not math.isfinite(value):
        problems.append({"name": "not_finite", "says": f"a score is {value}", "row": row})
        return None
    return float(value)


def load_caller(spec: str, style: str, columns: Mapping[str, str]) -> Caller | str:
    """The reward of a file, ready to be called; or one line that says why it cannot be."""
    where, _, name = spec.rpartition(":")
    if style == "medrft":
        return _ours_or_why(spec, columns)
    path = Path(where)
    if style == "swift" and importlib.util.find_spec("swift") is None:
        _stand_in_for_swift()
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None:
        return f"no Python file at {where}"
    module = importlib.util.module_from_spec(module_spec)
    # Pickle and dataclasses look a module up by its name; the folder is for files that it imports from beside it.
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    loader = module_spec.loader
    _, error = call_safely(lambda: loader.exec_module(module))
    if error is not None:
        return f"importing it failed with {in_one_line(error)}"
    function = getattr(module, name, None)
    if function is None:
        return f"it has no {name!r}"
    if inspect.isclass(function):
        try:
            function = function()
        except TypeError as error:
            return f"{name}() cannot be built without arguments: {error}"
    if not callable(function):
        return f"{name} is a {type(function).__name__}; a reward is a function or a class with __call__"
    return Caller(function, style, columns)


def _ours_or_why(spec: str, columns: Mapping[str, str]) -> Caller | str:
    from medrft.errors import UserError

    try:
        scorer: Scorer = load_custom(spec, base_dir=None, options={})
    except UserError as error:
        return str(error)
    return Caller(scorer, "medrft", columns)


def _stand_in_for_swift() -> None:
    """Put a stand-in for `swift` among the modules, so that `from swift.rewards import ORM, orms` works without it."""
    package, rewards = types.ModuleType("swift"), types.ModuleType("swift.rewards")

    class ORM:
        """Base class of ms-swift's rewards."""

        def __init__(self, args: Any = None, **kwargs: Any) -> None:
            self.args = args

    for module in (rewards, types.ModuleType("swift.plugin")):
        module.__dict__.update(ORM=ORM, AsyncORM=ORM, orms={})
        sys.modules[module.__name__] = module
    package.__dict__["rewards"] = rewards
    sys.modules["swift"] = package
